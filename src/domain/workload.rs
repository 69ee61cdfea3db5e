//! The queue: jobs and their requests, as columns.
//!
//! Requests that share job, deadline, release, own floor and requested model form a `Group`; a request holds only its
//! two lengths and its group, so ten million of them stay small and aggregation starts from groups.

use std::collections::BTreeMap;

use super::provenance::Provenance;
use super::request_ids::{IdsUnavailable, Names, RequestIds};
use crate::units::Seconds;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccuracyRule {
    /// The mean over the job's requests reaches the floor.
    Mean,
    /// Every request reaches it.
    Every,
}

/// Least accuracy in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floor {
    pub percent: f64,
    pub rule: AccuracyRule,
}

/// Requests submitted together. Times count from the start of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub name: String,
    /// Key into the accuracy table; needed only where there is a floor.
    pub task: Option<String>,
    pub floor: Option<Floor>,
    pub deadline: Seconds,
    pub release: Seconds,
    /// Only these models or pools, if given.
    pub models: Option<Vec<String>>,
    pub pools: Option<Vec<String>>,
    pub max_ttft: Option<Seconds>,
    pub max_tbt: Option<Seconds>,
}

/// What a set of requests has in common besides lengths.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Index into `Workload::jobs`.
    pub job: usize,
    pub deadline: Seconds,
    pub release: Seconds,
    /// Floor in percent that each request of the group must reach alone (its own, or the job's under `Every`).
    pub own_floor: Option<f64>,
    /// Models that may serve it by `--model-policy pin|map`; `None` under `any`.
    pub pinned_models: Option<Vec<String>>,
}

/// Columns of equal length, one entry a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Requests {
    pub input_tokens: Vec<u32>,
    pub output_tokens: Vec<u32>,
    /// Index into `Workload::groups`.
    pub group: Vec<u32>,
    pub ids: RequestIds,
}

impl Requests {
    pub fn len(&self) -> usize {
        self.input_tokens.len()
    }

    pub fn is_empty(&self) -> bool {
        self.input_tokens.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    pub jobs: Vec<Job>,
    pub groups: Vec<Group>,
    pub requests: Requests,
    /// `Estimated` where token counts come from characters / 4 or from `max_tokens`.
    pub input_provenance: Provenance,
    pub output_provenance: Provenance,
    /// Absent where no output is a prediction.
    pub output_spread: Option<OutputSpread>,
}

impl Workload {
    /// The requests to keep, with times that count from `later` on, and which they are. Jobs and groups without any are gone.
    ///
    /// # Errors
    /// Names that are kept elsewhere and cannot be read.
    pub fn only(&self, keep: impl Fn(usize) -> bool, later: Seconds) -> Result<(Self, Vec<u32>), IdsUnavailable> {
        let rows: Vec<u32> = (0..self.requests.len()).filter(|&r| keep(r)).map(|r| r as u32).collect();
        let mut ids = Names::with_capacity(rows.len());
        let mut kept = rows.iter().copied().peekable();
        self.requests.ids.visit(0..self.requests.len(), &mut |request, name| {
            if kept.next_if_eq(&(request as u32)).is_some() {
                ids.push(name);
            }
        })?;
        let pick = |column: &[u32]| -> Vec<u32> { rows.iter().map(|&row| column[row as usize]).collect() };
        let floats = |column: &[f32]| -> Vec<f32> { rows.iter().map(|&row| column[row as usize]).collect() };
        let old_group = pick(&self.requests.group);
        let mut used_groups = vec![false; self.groups.len()];
        old_group.iter().for_each(|&group| used_groups[group as usize] = true);
        let mut used_jobs = vec![false; self.jobs.len()];
        self.groups
            .iter()
            .zip(&used_groups)
            .filter(|(_, used)| **used)
            .for_each(|(group, _)| used_jobs[group.job] = true);
        let (job_number, group_number) = (numbers(&used_jobs), numbers(&used_groups));
        let shifted = |at: Seconds| at - later;
        let jobs = self.jobs.iter().zip(&used_jobs).filter(|(_, used)| **used).map(|(job, _)| Job {
            deadline: shifted(job.deadline),
            release: shifted(job.release).max(Seconds::ZERO),
            ..job.clone()
        });
        let groups = self.groups.iter().zip(&used_groups).filter(|(_, used)| **used).map(|(group, _)| Group {
            job: job_number[group.job],
            deadline: shifted(group.deadline),
            release: shifted(group.release).max(Seconds::ZERO),
            ..group.clone()
        });
        let spread = self.output_spread.as_ref().map(|spread| OutputSpread {
            confidence: spread.confidence,
            variance: floats(&spread.variance),
            mean_error: floats(&spread.mean_error),
            most: pick(&spread.most),
        });
        let requests = Requests {
            input_tokens: pick(&self.requests.input_tokens),
            output_tokens: pick(&self.requests.output_tokens),
            group: old_group.iter().map(|&group| group_number[group as usize] as u32).collect(),
            ids: RequestIds::Named(ids),
        };
        let workload = Self {
            jobs: jobs.collect(),
            groups: groups.collect(),
            requests,
            input_provenance: self.input_provenance,
            output_provenance: self.output_provenance,
            output_spread: spread,
        };
        Ok((workload, rows))
    }
}

/// The new number of each that is used.
fn numbers(used: &[bool]) -> Vec<usize> {
    let next = |count: &mut usize, used: &bool| {
        let number = *count;
        *count += usize::from(*used);
        Some(number)
    };
    used.iter().scan(0, next).collect()
}

/// Outputs that are predictions: `Requests::output_tokens` holds their means. Columns have an entry for every request.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputSpread {
    /// With which each deadline is to be kept, between 0 and 1.
    pub confidence: f64,
    /// Of the output in tokens squared; 0 where it is known or bounded alone.
    pub variance: Vec<f32>,
    /// Standard error of the mean, in tokens, which requests predicted from one history have in common.
    pub mean_error: Vec<f32>,
    /// Most output tokens.
    pub most: Vec<u32>,
}

/// Accuracy in percent by (model, task).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccuracyTable {
    pub percent: BTreeMap<(String, String), f64>,
}

impl AccuracyTable {
    pub fn get(&self, model: &str, task: &str) -> Option<f64> {
        self.percent.get(&(model.to_owned(), task.to_owned())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_queue_is_a_queue() {
        let job = |name: &str, deadline: f64| Job {
            name: name.into(),
            task: None,
            floor: None,
            deadline: Seconds(deadline),
            release: Seconds(50.0),
            models: None,
            pools: None,
            max_ttft: None,
            max_tbt: None,
        };
        let group = |job, deadline| Group {
            job,
            deadline: Seconds(deadline),
            release: Seconds(150.0),
            own_floor: None,
            pinned_models: None,
        };
        let workload = Workload {
            jobs: vec![job("a", 900.0), job("b", 1000.0)],
            groups: vec![group(0, 900.0), group(1, 500.0), group(1, 1000.0)],
            requests: Requests {
                input_tokens: vec![1, 2, 3, 4],
                output_tokens: vec![10, 20, 30, 40],
                group: vec![0, 2, 1, 2],
                ids: RequestIds::Rows(vec![("x.csv".into(), 0), ("y.csv".into(), 2)]),
            },
            input_provenance: Provenance::Imported,
            output_provenance: Provenance::Estimated,
            output_spread: None,
        };
        let (left, rows) = workload.only(|request| request % 2 == 1, Seconds(100.0)).unwrap();
        assert_eq!((rows, left.jobs.len(), left.jobs[0].name.as_str()), (vec![1, 3], 1, "b"));
        assert_eq!((left.jobs[0].deadline, left.jobs[0].release), (Seconds(900.0), Seconds::ZERO));
        assert_eq!((left.groups.len(), left.groups[0].job, left.groups[0].release), (1, 0, Seconds(50.0)));
        assert_eq!((left.requests.group, left.requests.output_tokens), (vec![0, 0], vec![20, 40]));
        assert_eq!((left.requests.ids.get(0), left.requests.ids.get(1)), ("x.csv:2".into(), "y.csv:2".into()));
    }
}

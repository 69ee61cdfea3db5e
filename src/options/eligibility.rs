//! Which deployments a group of requests is allowed, lengths aside: models and pools named, accuracy known and high
//! enough, latency measured and low enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::OptionsInput;
use crate::domain::{Deployment, Group, Job};
use crate::units::Seconds;

/// Percent by (job, deployment).
pub(super) fn accuracy(input: &OptionsInput, deployments: &[Deployment]) -> Vec<Vec<Option<f64>>> {
    let of_job = |job: &Job| {
        let figure = |deployment: &Deployment| input.accuracy.get(&deployment.family.model, job.task.as_deref()?);
        deployments.iter().map(figure).collect()
    };
    input.workload.jobs.iter().map(of_job).collect()
}

/// Why a deployment may not serve the requests of a group, lengths and deadlines aside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refusal {
    /// The job names other models.
    Model,
    /// The job names other pools.
    Pool,
    /// The request's own model policy names other models.
    Pinned,
    /// There is a floor and no accuracy figure for the job's task.
    AccuracyUnknown,
    /// In percent.
    BelowFloor {
        accuracy: f64,
        floor: f64,
    },
    TtftUnmeasured,
    Ttft {
        measured: Seconds,
        limit: Seconds,
    },
    TbtUnmeasured,
    Tbt {
        measured: Seconds,
        limit: Seconds,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model => f.write_str("its job does not allow the model"),
            Self::Pool => f.write_str("its job does not allow the pool"),
            Self::Pinned => f.write_str("the model it names may not be served by this one"),
            Self::AccuracyUnknown => f.write_str("no accuracy figure for the task of its job"),
            Self::BelowFloor { accuracy, floor } => write!(f, "accuracy {accuracy} % is below its floor of {floor} %"),
            Self::TtftUnmeasured => f.write_str("its TTFT p99 was not measured"),
            Self::Ttft { measured, limit } => write!(f, "TTFT p99 of {measured} is above the limit of {limit}"),
            Self::TbtUnmeasured => f.write_str("its TBT p99 was not measured"),
            Self::Tbt { measured, limit } => write!(f, "TBT p99 of {measured} is above the limit of {limit}"),
        }
    }
}

pub(super) fn allowed(
    input: &OptionsInput,
    deployments: &[Deployment],
    accuracy: &[Vec<Option<f64>>],
    warnings: &mut BTreeSet<String>,
) -> Vec<Vec<bool>> {
    let mut missing = Missing::default();
    let mut allowed = Vec::with_capacity(input.workload.groups.len());
    for group in &input.workload.groups {
        let job = &input.workload.jobs[group.job];
        let mut of_group = Vec::with_capacity(deployments.len());
        for (deployment, percent) in deployments.iter().zip(&accuracy[group.job]) {
            let refusal = refusal(job, group, deployment, &input.cluster.pools[deployment.pool].name, *percent);
            missing.note(refusal, job, deployment);
            of_group.push(refusal.is_none());
        }
        allowed.push(of_group);
    }
    warnings.extend(missing.warnings());
    allowed
}

/// Why `deployment` (in the pool of that name, of accuracy `percent` in the job's task) may not serve `group`, if so.
pub fn refusal(job: &Job, group: &Group, deployment: &Deployment, pool: &str, percent: Option<f64>) -> Option<Refusal> {
    let lists =
        |names: &Option<Vec<String>>, name: &str| names.as_ref().is_none_or(|names| names.iter().any(|n| n == name));
    let model = &deployment.family.model;
    if !lists(&job.models, model) {
        return Some(Refusal::Model);
    }
    if !lists(&group.pinned_models, model) {
        return Some(Refusal::Pinned);
    }
    if !lists(&job.pools, pool) {
        return Some(Refusal::Pool);
    }
    inaccurate(job, group, percent).or_else(|| slow(job, deployment))
}

/// A floor needs a figure: without one the model is not offered to the job.
fn inaccurate(job: &Job, group: &Group, percent: Option<f64>) -> Option<Refusal> {
    if job.floor.is_none() && group.own_floor.is_none() {
        return None;
    }
    let Some(accuracy) = percent else { return Some(Refusal::AccuracyUnknown) };
    group.own_floor.filter(|floor| accuracy < *floor).map(|floor| Refusal::BelowFloor { accuracy, floor })
}

/// Limits compare with the measured 99th percentile; an unmeasured one is no promise.
fn slow(job: &Job, deployment: &Deployment) -> Option<Refusal> {
    let ttft = match (job.max_ttft, deployment.ttft_p99) {
        (Some(_), None) => Some(Refusal::TtftUnmeasured),
        (Some(limit), Some(measured)) if measured > limit => Some(Refusal::Ttft { measured, limit }),
        _ => None,
    };
    ttft.or(match (job.max_tbt, deployment.tbt_p99) {
        (Some(_), None) => Some(Refusal::TbtUnmeasured),
        (Some(limit), Some(measured)) if measured > limit => Some(Refusal::Tbt { measured, limit }),
        _ => None,
    })
}

/// What is missing, as against what is known and not good enough: one warning for each job and reason, however many
/// deployments it concerns.
#[derive(Default)]
struct Missing<'a> {
    /// Models or deployments by (job, what they are, reason).
    refused: BTreeMap<(&'a str, &'static str, String), BTreeSet<&'a str>>,
}

impl<'a> Missing<'a> {
    fn note(&mut self, refusal: Option<Refusal>, job: &'a Job, deployment: &'a Deployment) {
        let (kind, name, reason) = match refusal {
            Some(Refusal::AccuracyUnknown) => {
                let task = job.task.as_deref().unwrap_or("(no task named)");
                ("models", deployment.family.model.as_str(), format!("no accuracy figure for task {task}"))
            }
            Some(refusal @ (Refusal::TtftUnmeasured | Refusal::TbtUnmeasured)) => {
                ("deployments", deployment.id.as_str(), refusal.to_string())
            }
            _ => return,
        };
        self.refused.entry((&job.name, kind, reason)).or_default().insert(name);
    }

    fn warnings(&self) -> impl Iterator<Item = String> {
        self.refused.iter().filter_map(|((job, kind, reason), names)| {
            let example = names.first()?;
            Some(match names.len() {
                1 => format!("{example} is not offered to job {job}: {reason}"),
                count => format!("{count} {kind} are not offered to job {job}, for example {example}: {reason}"),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Box2, FamilyKey, Parallel, Rates};
    use crate::units::{Joules, Watts};

    fn deployment(model: &str, seqs: u32) -> Deployment {
        Deployment {
            id: format!("{model}/seqs{seqs}"),
            family: FamilyKey {
                model: model.into(),
                precision: "bf16".into(),
                device: "H100".into(),
                devices: 1,
                parallel: Parallel::tensor(1),
                kv_cache: true,
                engine: "vllm".into(),
            },
            pool: 0,
            devices: 1,
            max_num_seqs: seqs,
            sm_clock_mhz: None,
            batch_size: 1.0,
            rates: Rates { batch_size: 1.0, net_energy: [1.0; 6], busy_time: [1.0; 6] },
            net_energy_low: [1.0; 6],
            net_energy_high: [1.0; 6],
            net_energy_estimated: [0.0; 6],
            load_time: Seconds(1.0),
            load_energy: Joules(1.0),
            tail_time: Seconds(1.0),
            tail_energy: Joules(1.0),
            max_tokens: f64::INFINITY,
            ttft_p99: None,
            tbt_p99: None,
            support: Box2::default(),
            idle_power: Watts(1.0),
            peak_power: None,
        }
    }

    #[test]
    fn what_is_missing_is_said_once_for_each_job_and_reason() {
        let job = Job {
            name: "j".into(),
            task: Some("t".into()),
            floor: None,
            deadline: Seconds(1.0),
            release: Seconds(0.0),
            models: None,
            pools: None,
            max_ttft: Some(Seconds(1.0)),
            max_tbt: None,
        };
        let group =
            Group { job: 0, deadline: Seconds(1.0), release: Seconds(0.0), own_floor: Some(50.0), pinned_models: None };
        let deployments: Vec<Deployment> =
            ["a", "b"].iter().flat_map(|model| [8, 16, 32].map(|seqs| deployment(model, seqs))).collect();
        let mut missing = Missing::default();
        for deployment in &deployments {
            let known = (deployment.family.model == "a").then_some(60.0);
            missing.note(refusal(&job, &group, deployment, "p", known), &job, deployment);
        }
        let warnings: Vec<String> = missing.warnings().collect();
        assert_eq!(
            warnings,
            [
                "3 deployments are not offered to job j, for example a/seqs16: its TTFT p99 was not measured",
                "b is not offered to job j: no accuracy figure for task t"
            ]
        );
    }
}

//! The queue: jobs and their requests, as columns.
//!
//! Requests that share job, deadline, release, own floor and requested model form a `Group`; a request holds only its
//! two lengths and its group, so ten million of them stay small and aggregation starts from groups.

use std::collections::BTreeMap;

use super::provenance::Provenance;
use super::request_ids::RequestIds;
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

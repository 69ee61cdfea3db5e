//! `replan` of plan.json: what a plan that goes on from another leaves out of the queue, and how that changed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// With the inputs and served.csv it gives the same queue again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplanJson {
    /// The plan directory it goes on from.
    pub of: String,
    /// RFC 3339: second 0 of the first plan, from which relative times in the inputs count.
    pub origin: String,
    /// Seconds from there to second 0 of this plan.
    pub since_origin_s: f64,
    /// Of served.csv, which names the requests that are left out.
    pub served_sha256: String,
    /// Requests that are left out.
    pub served: u64,
    /// Mean accuracy that the requests left must reach, by job, so that all of a job together reach its floor.
    pub floors: BTreeMap<String, f64>,
    /// Instances of the plan before that are done, and that go on running.
    pub finished: u64,
    pub running: u64,
    /// Requests left that go to another deployment, node or device than before.
    pub moved: u64,
    /// What the instances of the plan before would have cost that had not started.
    pub before_j: f64,
}

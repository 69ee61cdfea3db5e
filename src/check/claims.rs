//! What a plan directory claims, as read and before anything of it is believed.
//!
//! Instances and powered intervals keep the names of their files, so that a name nothing answers to is a finding of the
//! checker and not an error of a reader. Only the assignments, one row a request, are numbers: at ten million rows names
//! would cost gigabytes.

use std::collections::BTreeMap;

use crate::domain::{Deployment, Goal};
use crate::units::{Joules, Seconds};

/// Stands in an `AssignmentRow` for a request id or an instance name that does not exist.
pub const UNKNOWN: u32 = u32::MAX;

/// A row of assignments.csv.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssignmentRow {
    /// Index into the workload's requests, or `UNKNOWN`.
    pub request: u32,
    /// Index into `ClaimedPlan::instances`, or `UNKNOWN`.
    pub instance: u32,
}

/// The names a row with `UNKNOWN` in it had in the file; `None` for the half that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnknownNames {
    pub request: Option<String>,
    pub instance: Option<String>,
}

/// A row of instances.csv.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedInstance {
    pub id: String,
    /// Id of a deployment in plan.json.
    pub deployment: String,
    pub pool: String,
    pub node: String,
    pub device_indices: Vec<u32>,
    pub start: Seconds,
    pub end: Seconds,
    pub requests: u64,
    /// `energy_j`: net active energy of its requests.
    pub energy: Joules,
    /// `load_j`: load and tail.
    pub load: Joules,
}

/// A row of nodes.csv.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedPowered {
    pub pool: String,
    pub node: String,
    pub wake: Seconds,
    pub on: Seconds,
    pub off: Seconds,
    pub idle: Joules,
    pub wake_energy: Joules,
}

/// A row of jobs.csv.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedJob {
    pub job: String,
    pub requests: u64,
    /// Of its last request.
    pub finish: Seconds,
    /// Percent; absent where the job names no task or a model used has no figure for it.
    pub mean_accuracy: Option<f64>,
    /// Net active energy of its requests.
    pub energy: Joules,
}

/// The parts of the objective.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClaimedEnergy {
    pub active: Joules,
    pub idle: Joules,
    pub load: Joules,
    pub wake: Joules,
    pub tail: Joules,
}

impl ClaimedEnergy {
    pub fn total(&self) -> Joules {
        self.active + self.idle + self.load + self.wake + self.tail
    }

    /// (name, part), in the order of plan.json.
    pub fn named(&self) -> [(&'static str, Joules); 5] {
        [
            ("active_j", self.active),
            ("idle_j", self.idle),
            ("load_j", self.load),
            ("wake_j", self.wake),
            ("tail_j", self.tail),
        ]
    }
}

/// The parts of the gap, each over the objective.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClaimedGapParts {
    pub merging: f64,
    pub integer: f64,
    pub placement: f64,
}

/// The reference paper's objective, where it is minimised instead of energy.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedZeta {
    pub zeta: f64,
    pub objective: f64,
    pub bound: f64,
    pub max_energy: Joules,
    /// Percent times tokens.
    pub max_accuracy: f64,
    /// Least share of the requests, by model.
    pub shares: BTreeMap<String, f64>,
}

/// Everything a plan directory says that can be computed again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClaimedPlan {
    /// As in plan.json; a pool that does not exist is an index beyond the cluster's pools.
    pub deployments: Vec<Deployment>,
    pub instances: Vec<ClaimedInstance>,
    pub powered: Vec<ClaimedPowered>,
    /// In file order.
    pub assignments: Vec<AssignmentRow>,
    /// By index into `assignments`.
    pub unknown: BTreeMap<usize, UnknownNames>,
    pub jobs: Vec<ClaimedJob>,
    pub objective: Joules,
    pub bound: Joules,
    pub zeta: Option<ClaimedZeta>,
    /// What it minimises, as it was asked to; and `objective`, `bound`, `objective_unit` where that is not energy.
    pub goal: Goal,
    pub goal_objective: Option<f64>,
    pub goal_bound: Option<f64>,
    pub goal_unit: Option<String>,
    /// Fraction of the objective.
    pub gap: f64,
    pub gap_parts: ClaimedGapParts,
    pub energy: ClaimedEnergy,
    pub makespan: Seconds,
    pub nodes_used: u64,
    pub requests: u64,
    /// `instances` of plan.json.
    pub instance_count: u64,
    /// Margin on predicted seconds, contained in every seconds figure of the plan.
    pub safety: f64,
}

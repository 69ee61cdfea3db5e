//! The plan directory: plan.json beside five CSVs. Names are the join keys between the files.
//!
//! `PlanTables` is what a plan hands to `write`; `PlanDirectory` is what `read` hands to `check` and `explain`: the
//! figures as the files claim them, names resolved against plan.json but not yet against a cluster or a workload. Whether
//! the claims are true is the checker's question, not the reader's. Shards and Slurm scripts are written elsewhere.

mod read;
mod write;

use std::path::PathBuf;

use super::plan_json::PlanJson;
use super::problems::{Collector, Problems};
use crate::domain::{
    Cluster, Deployment, FamilyModel, Instance, Names, PoweredInterval, Provenance, RequestIds, Schedule,
};
use crate::units::{Joules, Seconds};

pub use read::read;
pub use write::write;

pub const PLAN_JSON: &str = "plan.json";
pub const INSTANCES_CSV: &str = "instances.csv";
pub const NODES_CSV: &str = "nodes.csv";
pub const ASSIGNMENTS_CSV: &str = "assignments.csv";
pub const JOBS_CSV: &str = "jobs.csv";
pub const SUMMARY_CSV: &str = "summary.csv";

/// Name of the plan's own row in summary.csv; the others are baselines.
pub const OWN_STRATEGY: &str = "jouleplan";

pub const INSTANCES_HEADER: [&str; 17] = [
    "instance",
    "deployment",
    "pool",
    "node",
    "device_indices",
    "model",
    "tensor_parallel",
    "expert_parallel",
    "max_num_seqs",
    "sm_clock_mhz",
    "sm_share",
    "start_s",
    "end_s",
    "requests",
    "energy_j",
    "load_j",
    "provenance",
];
pub const NODES_HEADER: [&str; 7] = ["node", "pool", "wake_s", "on_s", "off_s", "idle_j", "wake_j"];
pub const ASSIGNMENTS_HEADER: [&str; 2] = ["request_id", "instance"];
pub const JOBS_HEADER: [&str; 6] = ["job", "requests", "deadline_s", "finish_s", "mean_accuracy", "energy_j"];
pub const SUMMARY_HEADER: [&str; 6] = ["strategy", "energy_j", "bound_j", "gap", "feasible", "makespan_s"];

/// Name of the instance at `index` of the schedule: `i0001` is the first.
pub fn instance_id(index: usize) -> String {
    format!("i{:04}", index + 1)
}

/// What the planner decided and what it says that costs. jobs.csv and summary.csv follow from plan.json.
#[derive(Clone, Copy, Debug)]
pub struct PlanTables<'a> {
    pub schedule: &'a Schedule,
    pub deployments: &'a [Deployment],
    pub cluster: &'a Cluster,
    pub request_ids: &'a RequestIds,
    /// One entry for each of `schedule.instances`.
    pub instances: &'a [InstanceFigures],
    /// One entry for each of `schedule.powered`.
    pub powered: &'a [PoweredFigures],
}

/// What an instance serves and costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstanceFigures {
    pub requests: u64,
    /// Net active energy of its requests.
    pub energy: Joules,
    /// Load and tail.
    pub load: Joules,
    /// The weakest origin among the coefficients that carry `energy`.
    pub provenance: Provenance,
}

/// The weakest origin among the coefficients that carry a family's energy; a coefficient of 0 carries none.
pub fn energy_provenance(model: &FamilyModel) -> Provenance {
    let carrying = model.energy.iter().filter(|term| term.value != 0.0);
    carrying.map(|term| term.provenance).reduce(Provenance::weaker).unwrap_or(Provenance::Missing)
}

/// What a powered interval costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PoweredFigures {
    /// Base power and idle power of all devices from wake to off.
    pub idle: Joules,
    /// What waking takes beyond that.
    pub wake: Joules,
}

/// A plan directory as read: every figure is a claim of its files.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanDirectory {
    pub path: PathBuf,
    pub plan: PlanJson,
    pub instances: Vec<InstanceRow>,
    pub nodes: Vec<NodeRow>,
    pub assignments: Assignments,
    pub jobs: Vec<JobRow>,
    pub summary: Vec<SummaryRow>,
}

/// A row of instances.csv. What repeats the deployment (its degrees, cap, clock) is verified while reading.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceRow {
    pub id: String,
    /// Index into `PlanJson::deployments`.
    pub deployment: usize,
    pub pool: String,
    pub node: String,
    pub device_indices: Vec<u32>,
    pub model: String,
    pub max_num_seqs: u32,
    /// Absent: its job sets none.
    pub sm_clock_mhz: Option<u32>,
    /// 1 if unshared.
    pub sm_share: Option<f64>,
    pub start: Seconds,
    pub end: Seconds,
    pub requests: u64,
    pub energy: Joules,
    pub load: Joules,
    pub provenance: Provenance,
}

/// A row of nodes.csv: one powered interval.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRow {
    pub node: String,
    pub pool: String,
    pub wake: Seconds,
    pub on: Seconds,
    pub off: Seconds,
    pub idle: Joules,
    pub wake_energy: Joules,
}

/// A row of jobs.csv.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRow {
    pub job: String,
    pub requests: u64,
    pub deadline: Seconds,
    pub finish: Seconds,
    pub mean_accuracy: Option<f64>,
    pub energy: Joules,
}

/// A row of summary.csv.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryRow {
    pub strategy: String,
    pub energy: Option<Joules>,
    pub bound: Option<Joules>,
    pub gap: Option<f64>,
    pub feasible: bool,
    pub makespan: Option<Seconds>,
}

/// assignments.csv in file order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assignments {
    ids: Names,
    /// Index into `PlanDirectory::instances`.
    instances: Vec<u32>,
}

impl Assignments {
    pub fn with_capacity(requests: usize) -> Self {
        Self { ids: Names::with_capacity(requests), instances: Vec::with_capacity(requests) }
    }

    pub fn push(&mut self, request_id: &str, instance: u32) {
        self.ids.push(request_id);
        self.instances.push(instance);
    }

    pub fn len(&self) -> usize {
        self.instances.len()
    }

    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// (request id, index into `PlanDirectory::instances`) of each row.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, u32)> {
        self.ids.iter().zip(self.instances.iter().copied())
    }
}

impl PlanDirectory {
    /// The instances with pools and nodes as indices into `cluster`.
    ///
    /// # Errors
    /// Every row whose pool or node `cluster` does not have.
    pub fn instances_on(&self, cluster: &Cluster) -> Result<Vec<Instance>, Problems> {
        let mut problems = Collector::new(&self.path.join(INSTANCES_CSV));
        let mut instances = Vec::with_capacity(self.instances.len());
        for (index, row) in self.instances.iter().enumerate() {
            if let Some((pool, node)) = locate(cluster, &row.pool, &row.node, index, &mut problems) {
                instances.push(Instance {
                    deployment: row.deployment,
                    pool,
                    node,
                    device_indices: row.device_indices.clone(),
                    start: row.start,
                    end: row.end,
                });
            }
        }
        problems.finish(instances)
    }

    /// The powered intervals with pools and nodes as indices into `cluster`; errors as for `instances_on`.
    pub fn powered_on(&self, cluster: &Cluster) -> Result<Vec<PoweredInterval>, Problems> {
        let mut problems = Collector::new(&self.path.join(NODES_CSV));
        let mut powered = Vec::with_capacity(self.nodes.len());
        for (index, row) in self.nodes.iter().enumerate() {
            if let Some((pool, node)) = locate(cluster, &row.pool, &row.node, index, &mut problems) {
                powered.push(PoweredInterval { pool, node, wake: row.wake, on: row.on, off: row.off });
            }
        }
        problems.finish(powered)
    }
}

fn locate(cluster: &Cluster, pool: &str, node: &str, row: usize, problems: &mut Collector) -> Option<(usize, usize)> {
    let remedy = "check the plan against the cluster file that it was made from";
    let Some(pool_index) = cluster.pools.iter().position(|candidate| candidate.name == pool) else {
        problems.add(format!("row {}", row + 1), format!("the cluster has no pool `{pool}`"), remedy);
        return None;
    };
    let Some(node_index) = cluster.pools[pool_index].nodes.iter().position(|name| name == node) else {
        problems.add(format!("row {}", row + 1), format!("pool `{pool}` has no node `{node}`"), remedy);
        return None;
    };
    Some((pool_index, node_index))
}

#[cfg(test)]
mod tests;

//! slurm/jobs.json: what `submit`, `status`, `collect` and `reconcile` must know of the scripts beside it.
//!
//! A script serves instances that are alike, as an array of Slurm; what differs between them (node, begin, time limit,
//! predecessors) stands here and is told to Slurm when they are submitted.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::problems::{Collector, Problems};
use super::text::read_text;

pub const SCHEMA_VERSION: u32 = 1;

/// Its name in the folder of the scripts.
pub const FILE: &str = "jobs.json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobScripts {
    pub schema_version: u32,
    /// In order of the first start.
    pub scripts: Vec<JobScript>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobScript {
    /// Relative to the plan directory.
    pub file: String,
    pub pool: String,
    /// `gpu` or `cpu`.
    pub kind: String,
    pub partition: Option<String>,
    /// Id in plan.json.
    pub deployment: String,
    /// `NAME=VALUE` of options that no `#SBATCH` line can hold.
    pub options: Vec<String>,
    /// Host list of the pool.
    pub nodes: String,
    /// Host list of other pools' nodes that the partition may have: not for these jobs.
    pub other_nodes: String,
    /// Most minutes of any of its instances, as the script itself says.
    pub time_limit_min: u64,
    /// Seconds after second 0 of the plan at which no answer is of use any more.
    pub deadline_s: Option<f64>,
    /// In order of the array's tasks.
    pub instances: Vec<InstanceScript>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceScript {
    pub instance: String,
    pub node: String,
    pub devices: Vec<u32>,
    /// Seconds after second 0 of the plan.
    pub begin_s: f64,
    pub start_s: f64,
    pub end_s: f64,
    pub time_limit_min: u64,
    /// Instances that use one of its devices before it.
    pub after: Vec<String>,
    /// Relative to the plan directory.
    pub shards: Vec<String>,
    /// Net joules of its requests, and of load and tail.
    pub energy_j: f64,
    pub load_j: f64,
    pub jobs: Vec<ServedJob>,
}

/// What an instance does for a job of the workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServedJob {
    pub job: String,
    pub requests: u64,
    pub energy_j: f64,
    pub deadline_s: f64,
}

impl InstanceScript {
    pub fn requests(&self) -> u64 {
        self.jobs.iter().map(|job| job.requests).sum()
    }
}

impl JobScripts {
    pub fn instances(&self) -> impl Iterator<Item = &InstanceScript> {
        self.scripts.iter().flat_map(|script| &script.instances)
    }
}

/// Reads `slurm/jobs.json` of a plan directory.
///
/// # Errors
/// `Unreadable`; what is no such file.
pub fn read(path: &Path) -> Result<JobScripts, Problems> {
    let text = read_text(path)?;
    let mut problems = Collector::new(path);
    let remedy = "make the plan again with this version of jouleplan";
    match serde_json::from_str::<JobScripts>(&text) {
        Ok(scripts) if scripts.schema_version == SCHEMA_VERSION => problems.finish(scripts),
        Ok(scripts) => {
            let what = format!("version {}; this jouleplan reads {SCHEMA_VERSION}", scripts.schema_version);
            problems.add("schema_version", what, remedy);
            problems.fail()
        }
        Err(error) => {
            problems.add(format!("line {}, column {}", error.line(), error.column()), error.to_string(), remedy);
            problems.fail()
        }
    }
}

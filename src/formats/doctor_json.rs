//! What `doctor` found out about a node, a finding a line.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub const SCHEMA_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorJson {
    pub schema_version: u32,
    pub jouleplan: String,
    pub node: String,
    /// RFC 3339, UTC.
    pub examined_at: String,
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// `driver`, `device`, `meter`, `permission`, `clocks`, `mig`, `processes`, `slurm`, `engine` or `restore`
    pub topic: String,
    pub state: FindingState,
    pub what: String,
    /// Where this was found out: a call, a file, a command.
    pub provenance: String,
    /// Exactly what to do where something is missing; empty where nothing needs doing or nothing can be done.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingState {
    Good,
    /// It works, with a limit worth knowing.
    Limited,
    Missing,
}

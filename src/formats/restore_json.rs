//! How to undo what was set on a device: written before anything is set, removed when it is undone.

use serde::{Deserialize, Serialize};

pub const SCHEMA_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestoreJson {
    pub schema_version: u32,
    /// Who set it; as long as this process lives it undoes it itself.
    pub pid: u32,
    /// When that process started, in ticks since boot: process ids are used again.
    pub pid_started: u64,
    pub uuid: String,
    /// Remove the lock of the SM clock.
    pub unlock_sm_clock: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_limit_w: Option<f64>,
}

//! What `meter` writes: joules per meter with where they come from, and what was going on meanwhile.
//!
//! Written while the command runs and again at its end, so that a killed measurement leaves what it knew (`state`). Absent is
//! unknown. Every device appears once under `devices` and has a line per meter under `meters`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub const SCHEMA_VERSION: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MeterJson {
    pub schema_version: u32,
    pub jouleplan: String,
    pub state: State,
    pub command: Vec<String>,
    pub node: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Of the command, on the monotonic clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    pub interval_s: f64,
    /// Gross, of all devices measured; absent unless all of them are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_energy_j: Option<f64>,
    /// `gpu_energy_j` less the devices' power before the command times `seconds`; absent where others were on a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_net_energy_j: Option<f64>,
    /// Of all devices, before the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_idle_power_w: Option<f64>,
    /// Gross, of all packages (and DRAM where it has a meter): the whole node's, whoever used it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_energy_j: Option<f64>,
    /// `package` or `package+dram`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_energy_scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_energy_j: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_sm_clock_mhz: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_power_limit_w: Option<f64>,
    /// False where a figure above is of a contaminated or disagreeing device, or of a node that others used too.
    pub clean: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_version: Option<String>,
    pub devices: Vec<DeviceJson>,
    pub meters: Vec<MeterLine>,
    /// What the command said it did when, where it was asked to.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub phases: Vec<PhaseJson>,
    pub refused: Vec<RefusalJson>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The command runs, or the measurement was killed while it ran.
    Running,
    Finished,
    /// A signal ended the measurement before the command began.
    Interrupted,
}

/// One meter over the command.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MeterLine {
    pub name: String,
    pub source: String,
    /// `device`, `package`, `dram`, `platform` or `node`
    pub scope: String,
    /// `counter` or `integrated`
    pub method: String,
    pub provenance: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// Smallest difference of two readings, in joules or, where power is integrated, watts.
    pub resolution: f64,
    /// Each power is already a mean over this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub averaged_over_s: Option<f64>,
    /// Observed median time between two updates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_s: Option<f64>,
    pub samples: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_j: Option<f64>,
    /// What one update at either end may hide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncertainty_j: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_power_w: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_before_w: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_after_w: Option<f64>,
    /// `idle_after_w` less `idle_before_w`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_drift_w: Option<f64>,
    /// `energy_j` less `idle_before_w` times the seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net_energy_j: Option<f64>,
    /// `energy_j` times the share of the node's cores that the command may use: an estimate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_share_energy_j: Option<f64>,
    /// Why `energy_j` is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusalJson>,
}

/// A part of the command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseJson {
    pub name: String,
    /// After the command's start.
    pub from_s: f64,
    pub seconds: f64,
    /// Gross, by the name of the meter; absent where a meter does not know.
    pub energy_j: BTreeMap<String, f64>,
}

/// One device over the command.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DeviceJson {
    pub index: u32,
    pub uuid: String,
    pub name: String,
    /// Instances, where MIG is on: the figures are of the whole device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mig_instances: Option<u32>,
    /// By the counter; by integrated power where there is no counter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_j: Option<f64>,
    /// `counter` or `integrated`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Integrated power over the counter, less 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disagreement: Option<f64>,
    pub status: DeviceStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sm_clock_mhz: Option<RangeJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<RangeJson>,
    /// Reasons seen while the command ran, with the share of looks that saw them; absent where the device does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle_reasons: Option<Vec<ThrottleJson>>,
    /// Processes on the device that are none of the command's.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub others: Vec<ProcessJson>,
    /// Processes that came while the command ran and that this process table does not have (another PID namespace).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unidentified_pids: Vec<u32>,
    /// False where the driver does not say who is on the device.
    pub processes_known: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceStatus {
    Measured,
    /// Counter and integrated power differ by more than they should: `energy_j` is the counter's and not to be relied on.
    Disagreement,
    /// Others used the device meanwhile: `energy_j` contains their work.
    Contaminated,
    /// The device fell off the bus.
    Lost,
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RangeJson {
    pub min: f64,
    pub mean: f64,
    pub max: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ThrottleJson {
    pub reason: String,
    pub share: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessJson {
    pub pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Who used the processors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CpuJson {
    /// Core-seconds of the command and its waited-for descendants; absent until it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_s: Option<f64>,
    /// Core-seconds of the whole node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_s: Option<f64>,
    /// Cores the command may use over cores of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocated_share: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusalJson {
    /// Source or meter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meter: Option<String>,
    /// `absent`, `permission`, `unsupported`, `lost`, `reset`, `too_short`, `gap` or `unreadable`
    pub kind: String,
    pub what: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub remedy: String,
}

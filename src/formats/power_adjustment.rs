//! `power_adjustment` of plan.json: how current power changed the cluster that the plan was made for, and on what grounds.
//!
//! It holds its own inputs, so that a plan which telemetry did not change is the same in all other bytes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PowerAdjustment {
    /// Samples from after the start of the plan were not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<HashedFile>,
    /// `bundled`, or the file given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecaster: Option<HashedFile>,
    /// Who forecast each kind of channel.
    pub forecast_by: BTreeMap<String, String>,
    /// A channel whose last sample is older is stale, and not carried forward.
    pub stale_after_s: f64,
    /// Age of the latest sample of all.
    pub age_s: f64,
    /// Seconds after the start at which busy devices count as free.
    pub busy_for_s: f64,
    /// Devices of the cluster of which there is no telemetry: taken as free and idle.
    pub devices_unseen: u64,
    /// Channels that are of no node or device of the cluster.
    pub foreign: Vec<String>,
    pub busy: Vec<BusyDevice>,
    pub silent: Vec<SilentChannel>,
    pub idle_power: Vec<IdlePower>,
    /// Instances of the plan before that go on running.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptInstance>,
    pub background: Background,
    pub warnings: Vec<String>,
}

/// A file, and length and hash of what it held when it was read: a log may have grown since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HashedFile {
    pub path: String,
    pub bytes: u64,
    pub sha256: String,
}

/// A device that others use at the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BusyDevice {
    pub pool: String,
    pub node: String,
    pub device_index: u32,
    /// Mean of the last minute.
    pub mean_w: f64,
    /// Mean of the next 30 s.
    pub forecast_w: f64,
    /// From when on it is offered; absent where the cluster file says that it is in use throughout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_s: Option<f64>,
}

/// A channel that says nothing about the present: no device is called busy by it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SilentChannel {
    pub channel: String,
    /// `stale`, or `gaps` in its last minute.
    pub reason: String,
    /// Of its last sample, where it is stale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_s: Option<f64>,
    /// In the background throughout: the high quantile of its history, beyond idle or base power.
    pub assumed_w: f64,
}

/// What idle devices of a pool draw, each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IdlePower {
    pub pool: String,
    /// By the cluster file or the device table.
    pub stated_w: f64,
    pub measured_w: f64,
    /// Devices it was measured on.
    pub devices: u64,
    /// Whether it differs by more than meters do (5 W or 5 %) and so was taken.
    pub taken: bool,
}

/// An instance of the plan before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeptInstance {
    pub instance: String,
    pub pool: String,
    pub node: String,
    pub device_indices: Vec<u32>,
    pub end_s: f64,
    /// In the background until then, beyond idle power; absent where telemetry measured it, or there is no power cap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_w: Option<f64>,
}

/// What others draw beyond what the plan accounts for by itself: taken off the power cap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Background {
    /// Of residuals and of history.
    pub quantile: f64,
    /// Sum of the forecasts for the first and the second half of the first minute, and what is added to each: the quantile of
    /// how far the sum of all channels exceeded that of their forecasts at the worst second, in their own history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast_w: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin_w: Option<[f64; 2]>,
    /// Past instants that the margin was taken from; with fewer than 20 it reaches to the most that was ever drawn.
    pub trials: u64,
    /// Of silent channels.
    pub assumed_w: f64,
    /// Of nodes that can sleep but are on for others.
    pub standing_w: f64,
    /// Each holds until the next; none where others draw nothing.
    pub steps: Vec<BackgroundStep>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackgroundStep {
    pub from_s: f64,
    pub power_w: f64,
    /// `forecast`, `decay` towards the next, or the `history`'s quantile.
    pub basis: String,
}

//! What `run_shard.py` writes of a run: how long the engine took to load, and what was answered how fast.

use std::fs;
use std::path::Path;

use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RunRecord {
    /// From the engine's start until it was ready.
    pub ready_s: f64,
    pub sent: u64,
    pub answered: u64,
    pub failed: u64,
    /// From ready to the last answer.
    pub seconds: f64,
    /// Requests in flight, on average over `seconds`.
    pub mean_in_flight: f64,
    /// Sums over the answers, where each said what it was charged for.
    #[serde(default)]
    pub input_tokens: Option<f64>,
    #[serde(default)]
    pub output_tokens: Option<f64>,
    #[serde(default)]
    pub input_sq: Option<f64>,
    #[serde(default)]
    pub output_sq: Option<f64>,
    #[serde(default)]
    pub input_output: Option<f64>,
}

/// The record of a run, if it came so far as to write one.
pub fn read(path: &Path) -> Option<RunRecord> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

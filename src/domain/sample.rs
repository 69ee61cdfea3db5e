//! One measured trial or one steady state, as the samples CSV holds it.

use super::family::{FamilyKey, Parallel};
use super::features::Moments;
use super::provenance::Provenance;
use crate::units::{Joules, Seconds, Watts};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measurement {
    /// Runtime and energies are of a whole trial of `requests` requests.
    Trial,
    /// Energies are per request over all devices; runtime is mean output tokens / output throughput.
    SteadyState,
}

/// A row of the samples CSV. Absent means unknown; energies are gross (idle included).
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub model: String,
    pub precision: String,
    pub device: String,
    pub node: Option<String>,
    pub devices: u32,
    pub parallel: Parallel,
    pub max_num_seqs: Option<u32>,
    /// Mean running batch.
    pub batch_size: f64,
    pub sm_clock_mhz: Option<u32>,
    pub power_limit: Option<Watts>,
    pub sm_share: Option<f64>,
    pub kv_cache: bool,
    /// Means and, where known, second moments. Without second moments lengths are constant in a trial and unknown in a
    /// steady state.
    pub tokens: Moments,
    pub requests: f64,
    pub measurement: Measurement,
    pub trial: Option<u32>,
    pub warmup: bool,
    pub runtime: Option<Seconds>,
    pub gpu_energy: Option<Joules>,
    pub cpu_energy: Option<Joules>,
    pub cpu_energy_scope: Option<String>,
    pub node_energy: Option<Joules>,
    /// Of all devices, before load.
    pub idle_power: Option<Watts>,
    pub output_throughput_tok_s: Option<f64>,
    pub ttft: Option<Seconds>,
    pub ttft_p99: Option<Seconds>,
    pub tbt_p50: Option<Seconds>,
    pub tbt_p99: Option<Seconds>,
    pub engine: Option<String>,
    pub engine_version: Option<String>,
    pub driver_version: Option<String>,
    pub data_set: Option<String>,
    pub provenance: Provenance,
    pub source: Option<String>,
    /// RFC 3339.
    pub measured_at: Option<String>,
}

impl Sample {
    /// The family this sample belongs to. The engine generation is its version, or the data set where no version is
    /// given; clocks and SM shares are operating points inside a family.
    pub fn family(&self) -> FamilyKey {
        let engine = self.engine.as_deref().unwrap_or("unknown");
        let generation = match (&self.engine_version, &self.data_set) {
            (Some(version), _) => format!("{engine}-{version}"),
            (None, Some(data_set)) => format!("{engine}@{}", data_set.split('/').next().unwrap_or(data_set)),
            (None, None) => engine.to_owned(),
        };
        FamilyKey {
            model: self.model.clone(),
            precision: self.precision.clone(),
            device: self.device.clone(),
            devices: self.devices,
            parallel: self.parallel,
            kv_cache: self.kv_cache,
            engine: generation,
        }
    }

    /// One request of one output token on one device, of nothing and from nowhere: what a reader or a test fills.
    pub fn empty(measurement: Measurement) -> Self {
        Self {
            model: String::new(),
            precision: String::new(),
            device: String::new(),
            node: None,
            devices: 1,
            parallel: Parallel::tensor(1),
            max_num_seqs: None,
            batch_size: 1.0,
            sm_clock_mhz: None,
            power_limit: None,
            sm_share: None,
            kv_cache: true,
            tokens: Moments { input: None, output: 1.0, input_sq: None, output_sq: None, input_output: None },
            requests: 1.0,
            measurement,
            trial: None,
            warmup: false,
            runtime: None,
            gpu_energy: None,
            cpu_energy: None,
            cpu_energy_scope: None,
            node_energy: None,
            idle_power: None,
            output_throughput_tok_s: None,
            ttft: None,
            ttft_p99: None,
            tbt_p50: None,
            tbt_p99: None,
            engine: None,
            engine_version: None,
            driver_version: None,
            data_set: None,
            provenance: Provenance::Missing,
            source: None,
            measured_at: None,
        }
    }

    /// Gross energy per request on the scope of its devices: GPU energy, or for a CPU socket the energy of its package
    /// and DRAM.
    pub fn energy_per_request(&self) -> Option<Joules> {
        self.gpu_energy.or(self.cpu_energy).map(|energy| energy / self.requests)
    }

    /// Instance-seconds per request.
    pub fn runtime_per_request(&self) -> Option<Seconds> {
        self.runtime.map(|runtime| runtime / self.requests)
    }
}

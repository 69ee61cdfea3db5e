//! What a load generator's file does not say of the deployment that it measured, and the sample that begins from it.
//!
//! A client sees requests and, at best, the host's GPUs: not the precision, the parallel degrees or the engine's release.
//! These come from whoever ran it, or the row is refused with the flag that gives them; nothing is guessed. Engine and
//! release are asked for because measurements of different releases must never share a family.

use super::devices_toml;
use super::problems::Collector;
use super::sample_row::{self, place};
use crate::domain::{Measurement, Moments, Parallel, Provenance, Sample};
use crate::units::{Joules, Seconds, Watts};

/// Below this mean number of requests in flight the engine stood idle at times, and the time of a run is not service.
const BUSY: f64 = 0.9;

/// What the user says; it holds for all files of one import and goes before what a file says.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub model: Option<String>,
    pub precision: Option<String>,
    /// Name or alias of the device type.
    pub device: Option<String>,
    pub tensor_parallel: Option<u32>,
    pub expert_parallel: u32,
    pub data_parallel: u32,
    pub pipeline_parallel: u32,
    /// The engine's cap on the running batch.
    pub max_num_seqs: Option<u32>,
    /// Mean running batch.
    pub batch_size: Option<f64>,
    pub sm_clock_mhz: Option<u32>,
    pub power_limit_w: Option<f64>,
    /// Of all devices together.
    pub idle_power_w: Option<f64>,
    pub engine: Option<String>,
    pub engine_version: Option<String>,
}

/// A run as its file tells it. All requests succeeded: a run with failures spends time and energy that no token shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub model: Option<String>,
    /// As the driver calls it.
    pub device: Option<String>,
    pub node: Option<String>,
    pub requests: f64,
    /// From the first request to the last answer.
    pub duration: Seconds,
    /// Requests in flight, averaged over `duration`.
    pub in_flight: Option<f64>,
    pub tokens: Moments,
    pub gpu_energy: Option<Joules>,
    pub ttft: Option<Seconds>,
    pub ttft_p99: Option<Seconds>,
    pub tbt_p50: Option<Seconds>,
    pub tbt_p99: Option<Seconds>,
    pub source: String,
    /// RFC 3339.
    pub measured_at: Option<String>,
}

impl Run {
    /// What every file tells; `duration` as in the struct.
    pub fn new(requests: f64, duration: Seconds, tokens: Moments, source: &str) -> Self {
        Self {
            model: None,
            device: None,
            node: None,
            requests,
            duration,
            in_flight: None,
            tokens,
            gpu_energy: None,
            ttft: None,
            ttft_p99: None,
            tbt_p50: None,
            tbt_p99: None,
            source: source.to_owned(),
            measured_at: None,
        }
    }
}

impl Facts {
    /// Devices of one instance. Expert parallel ranks share the tensor and data parallel ones.
    pub fn devices(&self) -> Option<u32> {
        let ranks = self.tensor_parallel?.saturating_mul(self.data_parallel).max(self.expert_parallel);
        Some(ranks.saturating_mul(self.pipeline_parallel))
    }

    /// The row of a run, through the same gate as a row of the samples CSV. `at` is the run's place in its file.
    ///
    /// Where second moments are known it is a trial; where they are not it is a steady state, per request, because a trial
    /// without them would claim that all requests had the same lengths.
    pub fn sample(&self, run: Run, at: &str, problems: &mut Collector) -> Option<Sample> {
        let model = self.required("model", self.model.as_ref().or(run.model.as_ref()), at, problems);
        let precision = self.required("precision", self.precision.as_ref(), at, problems);
        let device = self.required("device", self.device.as_ref().or(run.device.as_ref()), at, problems);
        let engine = self.required("engine", self.engine.as_ref(), at, problems);
        let version = self.required("engine_version", self.engine_version.as_ref(), at, problems);
        let tensor = self.required("tensor_parallel", self.tensor_parallel.as_ref(), at, problems);
        let batch = self.running_batch(run.in_flight, at, problems);
        let (table, device) = (devices_toml::builtin(), device?);
        let known = run.tokens.output_sq.is_some();
        // Requests that the row is of, and what its totals are shared by.
        let (measurement, requests, share) =
            if known { (Measurement::Trial, run.requests, 1.0) } else { (Measurement::SteadyState, 1.0, run.requests) };
        let sample = Sample {
            model: model?,
            precision: precision?,
            device: devices_toml::resolve(&table, &device).map_or(device, |known| known.name.clone()),
            node: run.node,
            devices: self.devices()?,
            parallel: Parallel {
                tensor: tensor?,
                expert: self.expert_parallel,
                data: self.data_parallel,
                pipeline: self.pipeline_parallel,
            },
            max_num_seqs: self.max_num_seqs,
            batch_size: batch?,
            sm_clock_mhz: self.sm_clock_mhz,
            power_limit: self.power_limit_w.map(Watts),
            tokens: run.tokens,
            requests,
            runtime: Some(run.duration / share),
            gpu_energy: run.gpu_energy.map(|energy| energy / share),
            idle_power: self.idle_power_w.map(Watts),
            output_throughput_tok_s: Some(run.tokens.output * run.requests / run.duration.0),
            ttft: run.ttft,
            ttft_p99: run.ttft_p99,
            tbt_p50: run.tbt_p50,
            tbt_p99: run.tbt_p99,
            engine: Some(engine?),
            engine_version: Some(version?),
            provenance: Provenance::Imported,
            source: Some(run.source),
            measured_at: run.measured_at,
            ..Sample::empty(measurement)
        };
        sample_row::checked(&sample, at, problems)
    }

    fn required<T: Clone>(&self, field: &str, value: Option<&T>, at: &str, problems: &mut Collector) -> Option<T> {
        if value.is_none() {
            let flag = field.replace('_', "-");
            problems.add(
                place(at, field),
                format!("the file does not say the {field}"),
                format!("give it with --{flag}"),
            );
        }
        value.cloned()
    }

    /// Requests in flight are the running batch as long as none queues inside the engine and some are always there.
    fn running_batch(&self, in_flight: Option<f64>, at: &str, problems: &mut Collector) -> Option<f64> {
        if self.batch_size.is_some() {
            return self.batch_size;
        }
        let Some(mean) = in_flight else {
            return self.required::<f64>("batch_size", None, at, problems);
        };
        if mean < BUSY {
            let what = format!("only {mean:.2} requests were in flight on average: the engine waited for work");
            problems.add(place(at, "batch_size"), what, "measure it under load; the time of this run is not service");
            return None;
        }
        if let Some(cap) = self.max_num_seqs.filter(|cap| mean > f64::from(*cap) * 1.01) {
            let what = format!("{mean:.1} requests were in flight, and --max-num-seqs {cap} let the rest queue");
            problems.add(place(at, "batch_size"), what, "give the mean running batch with --batch-size");
            return None;
        }
        Some(mean.max(1.0))
    }
}

/// Whether gaps between chunks are times between tokens: load generators see chunks, and where the mean gap is more than a
/// tenth longer than the mean time per token, chunks carry several tokens. Percentiles of the gaps are then of something
/// else and are left out.
pub fn token_gaps(mean_gap: f64, mean_per_token: f64) -> bool {
    mean_gap <= mean_per_token * 1.1
}

/// Moments of whole populations of lengths; `None` of nothing.
pub fn moments(lengths: impl Iterator<Item = (f64, f64)> + Clone) -> Option<Moments> {
    let count = lengths.clone().count() as f64;
    let mean = |term: fn((f64, f64)) -> f64| lengths.clone().map(term).sum::<f64>() / count;
    (count > 0.0).then(|| Moments {
        input: Some(mean(|(input, _)| input)),
        output: mean(|(_, output)| output),
        input_sq: Some(mean(|(input, _)| input * input)),
        output_sq: Some(mean(|(_, output)| output * output)),
        input_output: Some(mean(|(input, output)| input * output)),
    })
}

/// Refuses a run in which requests failed: what they cost is in its totals and cannot be taken out.
pub fn refuse_failures(failed: u64, of: u64, place: String, problems: &mut Collector) {
    if failed > 0 {
        problems.add(
            place,
            format!("{failed} of {of} requests failed: their time and energy are in the run, their tokens are not"),
            "measure it again without failures, or leave the file out",
        );
    }
}

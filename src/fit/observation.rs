//! A sample as the regressions see it: per request, with the lengths completed as far as a data set's table allows.

use crate::domain::{DataSetPrompts, Measurement, Moments, Provenance, Sample};

/// Second moment over squared mean where a steady state records none: about that of exponential lengths, which chat
/// prompts and answers are near (0.8..1.2 in the published histograms).
const ASSUMED_SPREAD: f64 = 2.0;

#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Known or assumed moments; see `input_assumed` and `spread_assumed`.
    pub tokens: Moments,
    pub input_assumed: bool,
    pub spread_assumed: bool,
    pub batch: f64,
    /// Gross joules per request.
    pub energy: Option<f64>,
    /// Instance-seconds per request.
    pub runtime: Option<f64>,
    pub requests: f64,
    pub idle_power: Option<f64>,
    pub data_set: String,
    pub provenance: Provenance,
}

impl Observation {
    /// `None` if neither energy nor runtime is a positive number.
    pub fn new(sample: &Sample, data_sets: &[DataSetPrompts]) -> Option<Self> {
        let positive = |value: f64| (value.is_finite() && value > 0.0).then_some(value);
        let energy = sample.energy_per_request().and_then(|energy| positive(energy.0));
        let runtime = sample.runtime_per_request().and_then(|runtime| positive(runtime.0));
        if (energy.is_none() && runtime.is_none()) || positive(sample.batch_size).is_none() {
            return None;
        }
        let data_set = sample.data_set.clone().unwrap_or_default();
        let prompts = DataSetPrompts::find(data_sets, &data_set);
        let (tokens, input_assumed, spread_assumed) = complete(&sample.tokens, sample.measurement, prompts);
        Some(Self {
            tokens,
            input_assumed,
            spread_assumed,
            batch: sample.batch_size,
            energy,
            runtime,
            requests: sample.requests,
            idle_power: sample.idle_power.map(|power| power.0),
            data_set,
            provenance: sample.provenance,
        })
    }

    /// Mean gross power, if both are known.
    pub fn power(&self) -> Option<f64> {
        Some(self.energy? / self.runtime?)
    }
}

/// Fills in what is missing: the mean prompt of the data set, and second moments (constant lengths in a trial).
fn complete(tokens: &Moments, measurement: Measurement, prompts: Option<&DataSetPrompts>) -> (Moments, bool, bool) {
    let spread = if measurement == Measurement::Trial { 1.0 } else { ASSUMED_SPREAD };
    let input = tokens.input.or_else(|| prompts.map(|prompts| prompts.mean_input_tokens));
    let input_assumed = tokens.input.is_none() && input.is_some();
    let input_spread = if input_assumed { ASSUMED_SPREAD } else { spread };
    let completed = Moments {
        input,
        output: tokens.output,
        input_sq: tokens.input_sq.or_else(|| input.map(|mean| mean * mean * input_spread)),
        output_sq: tokens.output_sq.or(Some(tokens.output * tokens.output * spread)),
        input_output: tokens.input_output.or_else(|| input.map(|mean| mean * tokens.output)),
    };
    (completed, input_assumed, tokens.output_sq.is_none() && measurement == Measurement::SteadyState)
}

//! Models against samples they were not fitted on, family by family. Only exactly the same family counts: other devices,
//! precisions or engine generations are other things.

use std::collections::BTreeMap;

use super::observation::Observation;
use super::quality::predict;
use crate::domain::{DataSetPrompts, FamilyKey, FamilyModel, Sample};
use crate::stats::mape;

/// Errors of one family. Fractions.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupError {
    pub family: FamilyKey,
    /// Samples with a prediction.
    pub samples: usize,
    pub energy_mape: Option<f64>,
    pub runtime_mape: Option<f64>,
    /// Share of the samples whose mean lengths lie outside the model's support.
    pub extrapolated_share: f64,
    /// Sum predicted over sum measured, less 1.
    pub energy_bias: Option<f64>,
}

/// A sample, and its joules and seconds per request as predicted; no joules by a model of times alone.
type Predicted = (Observation, Option<f64>, f64);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// In order of their keys.
    pub groups: Vec<GroupError>,
    /// Families without a model, with their samples.
    pub without_model: Vec<(FamilyKey, usize)>,
    pub warmups: usize,
    /// Samples whose lengths are too little known to predict, or at clocks beyond those of the model.
    pub unpredictable: usize,
}

/// Predicts every sample but warm-ups and compares. Unknown input lengths are completed from `data_sets`,
/// as in fitting; where the model knows other clocks, each sample is predicted at its own.
pub fn evaluate(models: &[FamilyModel], samples: &[Sample], data_sets: &[DataSetPrompts]) -> Evaluation {
    let mut result = Evaluation::default();
    let mut families: BTreeMap<FamilyKey, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        if sample.warmup {
            result.warmups += 1;
        } else {
            families.entry(sample.family()).or_default().push(sample);
        }
    }
    for (family, samples) in families {
        let Some(model) = models.iter().find(|model| model.key == family) else {
            result.without_model.push((family, samples.len()));
            continue;
        };
        let predicted: Vec<Predicted> = samples
            .iter()
            .filter_map(|sample| {
                let row = Observation::new(sample, data_sets)?;
                let at_clock = match sample.sm_clock_mhz.filter(|_| model.clocks.is_some()) {
                    Some(clock) => &model.at_clock(clock)?,
                    None => model,
                };
                let energy = if model.has_energy() { Some(predict(&at_clock.energy, &row)?) } else { None };
                let runtime = predict(&at_clock.runtime, &row)?;
                Some((row, energy, runtime))
            })
            .collect();
        result.unpredictable += samples.len() - predicted.len();
        let pairs = |target: fn(&Observation) -> Option<f64>, guess: fn(&Predicted) -> Option<f64>| {
            predicted.iter().filter_map(|row| Some((target(&row.0)?, guess(row)?))).unzip::<f64, f64, Vec<_>, Vec<_>>()
        };
        let (energy, energy_guess) = pairs(|row| row.energy, |row| row.1);
        let (runtime, runtime_guess) = pairs(|row| row.runtime, |row| Some(row.2));
        let outside = predicted
            .iter()
            .filter(|(row, ..)| {
                let support = &model.support;
                // An assumed input says nothing about what the model has seen.
                let input = row.tokens.input.filter(|_| !row.input_assumed);
                match input {
                    Some(input) => support.extrapolates(input, row.tokens.output),
                    None => support
                        .output_tokens
                        .is_some_and(|(low, high)| row.tokens.output < low || row.tokens.output > high),
                }
            })
            .count();
        let total: f64 = energy.iter().sum();
        result.groups.push(GroupError {
            family,
            samples: predicted.len(),
            energy_mape: mape(&energy, &energy_guess),
            runtime_mape: mape(&runtime, &runtime_guess),
            extrapolated_share: outside as f64 / predicted.len().max(1) as f64,
            energy_bias: (total > 0.0).then(|| energy_guess.iter().sum::<f64>() / total - 1.0),
        });
    }
    result
}

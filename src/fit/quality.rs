//! How well a family is fitted, where its samples lie, and which batches were measured.

use std::collections::BTreeMap;

use super::observation::Observation;
use super::select::interior_batches;
use crate::domain::{BatchPoint, Box2, Moments, Provenance, Quality, Sample, Term};
use crate::stats::{mape, mean, r2_centred, r2_uncentred, ratio_interval};
use crate::units::Seconds;

/// Standard deviations around the mean that count as covered where a row averages over many lengths.
const COVERED_DEVIATIONS: f64 = 2.0;

/// Probability that a measurement lies within the error factors of its prediction.
const ERROR_LEVEL: f64 = 0.90;

/// Energy or runtime of a family, fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedTarget {
    pub terms: Vec<Term>,
    pub quality: Quality,
    /// Predictions of rows left out, where there are rows enough.
    pub out_of_fold: Option<OutOfFold>,
}

/// Measurements beside predictions by a model that has not seen them, with the index of their row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutOfFold {
    pub rows: Vec<usize>,
    pub measured: Vec<f64>,
    pub predicted: Vec<f64>,
}

impl OutOfFold {
    pub fn push(&mut self, row: usize, measured: f64, predicted: f64) {
        self.rows.push(row);
        self.measured.push(measured);
        self.predicted.push(predicted);
    }

    /// Mean absolute relative error, a fraction.
    pub fn mape(&self) -> Option<f64> {
        mape(&self.measured, &self.predicted)
    }

    /// Multiples of a prediction between which 90 % of measurements lie; of `asked` rows only, if given.
    pub fn error_factors(&self, asked: Option<&[usize]>) -> Option<(f64, f64)> {
        let kept = |row: &usize| asked.is_none_or(|asked| asked.contains(row));
        let pairs = self.rows.iter().zip(self.measured.iter().zip(&self.predicted));
        let (measured, predicted): (Vec<f64>, Vec<f64>) =
            pairs.filter(|(row, _)| kept(row)).map(|(_, pair)| pair).unzip();
        ratio_interval(&measured, &predicted, ERROR_LEVEL)
    }
}

/// Sum of the terms for the mean request of a row; `None` where a feature is unknown.
pub fn predict(terms: &[Term], row: &Observation) -> Option<f64> {
    terms.iter().map(|term| Some(term.value * term.feature.expected(&row.tokens, row.batch)?)).sum()
}

/// Scores of one target over whole trials (per request times requests), on the rows that `predict` can say anything of.
/// Error factors are of the rows like those a plan asks for, and only of measurements.
pub fn quality(
    rows: &[&Observation],
    target: impl Fn(&Observation) -> Option<f64>,
    predict: impl Fn(&Observation) -> Option<f64>,
    out_of_fold: Option<&OutOfFold>,
) -> Quality {
    let (measured, predicted): (Vec<f64>, Vec<f64>) =
        rows.iter().filter_map(|row| Some((target(row)? * row.requests, predict(row)? * row.requests))).unzip();
    Quality {
        samples: measured.len(),
        r2: r2_centred(&measured, &predicted),
        r2_uncentred: r2_uncentred(&measured, &predicted),
        cv_mape: out_of_fold.and_then(OutOfFold::mape),
        error_factors: out_of_fold
            .filter(|_| !any_estimated(rows))
            .and_then(|left_out| left_out.error_factors(interior_batches(rows).as_deref())),
        negative_predictions: predicted.iter().filter(|value| **value < 0.0).count(),
    }
}

/// Whether some rows are no measurements: how well a fit follows them says nothing of the devices.
pub fn any_estimated(rows: &[&Observation]) -> bool {
    rows.iter().any(|row| row.provenance == Provenance::Estimated)
}

/// What the rows cover. Inputs that were only assumed are not covered.
pub fn support(rows: &[&Observation]) -> Box2 {
    let inputs = rows.iter().filter(|row| !row.input_assumed).filter_map(|row| input_range(&row.tokens));
    let outputs = rows.iter().map(|row| spread(row.tokens.output, row.tokens.output_sq));
    let batches = rows.iter().map(|row| (row.batch, row.batch));
    Box2 { input_tokens: union(inputs), output_tokens: union(outputs), batch_size: union(batches) }
}

/// Means over trials at each batch cap. A row without a cap counts as one at its rounded batch.
pub fn batch_points(samples: &[&Sample]) -> Vec<BatchPoint> {
    let mut by_cap: BTreeMap<u32, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        let cap = sample.max_num_seqs.unwrap_or(sample.batch_size.round().clamp(1.0, 1e9) as u32);
        by_cap.entry(cap).or_default().push(sample);
    }
    by_cap
        .into_iter()
        .map(|(max_num_seqs, rows)| {
            let seconds = |pick: fn(&Sample) -> Option<Seconds>| {
                mean(&rows.iter().filter_map(|row| pick(row).map(|time| time.0)).collect::<Vec<_>>()).map(Seconds)
            };
            let batches: Vec<f64> = rows.iter().map(|row| row.batch_size).collect();
            BatchPoint {
                max_num_seqs,
                batch_size: mean(&batches).unwrap_or(f64::from(max_num_seqs)),
                ttft_p99: seconds(|row| row.ttft_p99),
                tbt_p50: seconds(|row| row.tbt_p50),
                tbt_p99: seconds(|row| row.tbt_p99),
            }
        })
        .collect()
}

fn input_range(tokens: &Moments) -> Option<(f64, f64)> {
    tokens.input.map(|mean| spread(mean, tokens.input_sq))
}

/// Mean +/- two standard deviations, at least 1; the mean alone where no second moment is known.
fn spread(mean: f64, square: Option<f64>) -> (f64, f64) {
    let deviation = square.map_or(0.0, |square| (square - mean * mean).max(0.0).sqrt());
    let reach = COVERED_DEVIATIONS * deviation;
    ((mean - reach).max(mean.min(1.0)), mean + reach)
}

fn union(ranges: impl Iterator<Item = (f64, f64)>) -> Option<(f64, f64)> {
    ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

//! The cost of an output token tabulated over the measured batches, for energy and time together.
//!
//! At a measured batch the table holds what was measured, less the terms that do not depend on the batch. Between two of
//! them it follows the batch terms of the regression times a ratio interpolated in log(batch): on the ML.ENERGY curves
//! this halves the error of either alone. `BatchCurve` interpolates log-linearly, so the points between are written out.

use super::observation::Observation;
use super::phase::{Fitted, PowerLimits, Remainder};
use crate::domain::features::BatchCurve;

/// Batches closer than this share are one.
const SAME_BATCH: f64 = 0.02;
/// Points written between two measured batches.
const BETWEEN: usize = 3;
/// No point takes less than this share of the measured time: other terms must not explain everything.
const LEAST_SHARE: f64 = 0.1;

/// Batch terms of the regression.
#[derive(Clone, Copy, Debug)]
pub struct Backbone<'a> {
    pub energy: &'a [Fitted],
    pub runtime: &'a [Fitted],
}

impl Backbone<'_> {
    /// Joules and seconds per output token; `None` if either is 0.
    fn at(&self, batch: f64) -> Option<(f64, f64)> {
        let per_token =
            |terms: &[Fitted]| terms.iter().map(|(feature, value)| value * feature.value(0.0, 1.0, batch)).sum::<f64>();
        let (joules, seconds) = (per_token(self.energy), per_token(self.runtime));
        (joules > 0.0 && seconds > 0.0).then_some((joules, seconds))
    }
}

/// A row of the table: batch, gross joules and seconds per output token.
type Point = (f64, f64, f64);

/// Energy and time curves; `None` if no row has both energy and runtime.
pub fn tabulate(
    rows: &[&Observation],
    remainders: &[Remainder],
    others: (&[Fitted], &[Fitted]),
    backbone: Backbone<'_>,
    limits: PowerLimits,
) -> Option<(BatchCurve, BatchCurve)> {
    let mut points: Vec<Point> =
        rows.iter().zip(remainders).filter_map(|(row, left)| per_output_token(row, left, others, limits)).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let measured = merge_equal_batches(&points);
    if measured.is_empty() {
        return None;
    }
    let all = fill_between(&measured, backbone, limits);
    let curve =
        |pick: fn(&Point) -> f64| BatchCurve { points: all.iter().map(|point| (point.0, pick(point))).collect() };
    Some((curve(|point| point.1), curve(|point| point.2)))
}

/// Indices of the rows by batch, ascending: the groups a left-out batch is made of.
pub fn batch_groups(rows: &[&Observation]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| rows[a].batch.total_cmp(&rows[b].batch));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for index in order {
        match groups.last_mut() {
            Some(group) if rows[index].batch <= rows[group[0]].batch * (1.0 + SAME_BATCH) => group.push(index),
            _ => groups.push(vec![index]),
        }
    }
    groups
}

fn per_output_token(
    row: &Observation,
    left: &Remainder,
    (energy_terms, runtime_terms): (&[Fitted], &[Fitted]),
    limits: PowerLimits,
) -> Option<Point> {
    let output = row.tokens.output;
    let others = |terms: &[Fitted]| -> Option<f64> {
        terms.iter().map(|(feature, value)| Some(value * feature.expected(&row.tokens, row.batch)?)).sum()
    };
    let joules = (left.energy? - others(energy_terms)?) / output;
    let seconds = ((left.runtime? - others(runtime_terms)?) / output).max(LEAST_SHARE * row.runtime? / output);
    (output > 0.0).then(|| (row.batch, within(joules, seconds, limits), seconds))
}

/// Joules that the devices can draw in `seconds`.
fn within(joules: f64, seconds: f64, limits: PowerLimits) -> f64 {
    joules.min(limits.limit * seconds).max(limits.idle * seconds)
}

/// Means of the logarithms, so that power stays between its limits.
fn merge_equal_batches(points: &[Point]) -> Vec<Point> {
    points
        .chunk_by(|a, b| b.0 <= a.0 * (1.0 + SAME_BATCH))
        .map(|group| {
            let mean = |pick: fn(&Point) -> f64| {
                (group.iter().map(|point| pick(point).ln()).sum::<f64>() / group.len() as f64).exp()
            };
            if let [one] = group { *one } else { (mean(|p| p.0), mean(|p| p.1), mean(|p| p.2)) }
        })
        .collect()
}

fn fill_between(measured: &[Point], backbone: Backbone<'_>, limits: PowerLimits) -> Vec<Point> {
    let mut all = Vec::with_capacity(measured.len() * (1 + BETWEEN));
    for pair in measured.windows(2) {
        let (low, high) = (pair[0], pair[1]);
        all.push(low);
        let (Some(at_low), Some(at_high)) = (backbone.at(low.0), backbone.at(high.0)) else { continue };
        for step in 1..=BETWEEN {
            let share = step as f64 / (BETWEEN + 1) as f64;
            let blend = |low: f64, high: f64| (low.ln() * (1.0 - share) + high.ln() * share).exp();
            let batch = blend(low.0, high.0);
            if let Some((joules, seconds)) = backbone.at(batch) {
                let seconds = seconds * blend(low.2 / at_low.1, high.2 / at_high.1);
                let joules = joules * blend(low.1 / at_low.0, high.1 / at_high.0);
                all.push((batch, within(joules, seconds, limits), seconds));
            }
        }
    }
    all.extend(measured.last());
    all
}

//! Energy and time on the same features, together, under the physical limits of the devices.
//!
//! Each feature's time is split into a part at idle power and a part at a power far above what the devices can draw: with
//! x, y >= 0 per feature, seconds = x + y and gross joules = ceiling * x + idle * y. One non-negative least squares over
//! both targets, every row divided by its measurement (relative errors), then gives energy >= idle * time term by term
//! without a further constraint. Above, energy over time has to stay below the devices' limit for every request up to
//! 8,192 tokens; one term may draw more as long as the sum does not. Requests where it would are added one by one, as
//! equations with a non-negative slack that weigh far more than any measurement (Lawson and Hanson, chapter 22).

use ndarray::{Array1, Array2};

use super::observation::Observation;
use super::phase::{Fitted, PowerLimits, Remainder};
use crate::domain::Feature;
use crate::stats::nnls;

/// Power of the x part as a multiple of the devices' limit: high enough that a term can be energy almost alone.
const CEILING: f64 = 64.0;
/// Weight of a power limit against a measurement.
const LIMIT_WEIGHT: f64 = 1e3;
/// Power may exceed the limit by this share: what the weight leaves over.
const LIMIT_TOLERANCE: f64 = 2e-3;
/// Requests added before the ceiling comes down to the limit, which always holds.
const MOST_CUTS: usize = 12;
/// Token counts at which power is checked: powers of two up to this exponent.
const CHECKED_EXPONENT: i32 = 13;

/// Coefficients of gross energy and of time, one per feature. `weights` (one per row) multiply the relative errors.
/// `None` if a feature is unknown in a row.
pub fn joint(
    rows: &[&Observation],
    remainders: &[Remainder],
    features: &[Feature],
    limits: PowerLimits,
    weights: &[f64],
) -> Option<(Vec<Fitted>, Vec<Fitted>)> {
    let equations = Equations::new(rows, remainders, features, weights)?;
    let requests = checked_requests(rows, features);
    let mut cuts: Vec<Cut> = Vec::new();
    while cuts.len() < MOST_CUTS {
        let solution = equations.solve(limits, CEILING, &cuts)?;
        let Some(cut) = most_violated(&requests, &solution, limits) else { return Some(solution.terms(features)) };
        cuts.push(cut);
    }
    equations.solve(limits, 1.0, &[]).map(|solution| solution.terms(features))
}

/// A request whose power is held below the limit: its features, and the seconds that put it on the scale of a relative
/// error.
struct Cut {
    values: Vec<f64>,
    seconds: f64,
}

struct Solution {
    energy: Vec<f64>,
    runtime: Vec<f64>,
}

impl Solution {
    fn terms(&self, features: &[Feature]) -> (Vec<Fitted>, Vec<Fitted>) {
        let pair = |values: &[f64]| features.iter().cloned().zip(values.iter().copied()).collect();
        (pair(&self.energy), pair(&self.runtime))
    }
}

/// Weighted feature values over their measurement, and what they have to sum to.
#[derive(Default)]
struct Equations {
    energy: Vec<(Vec<f64>, f64)>,
    runtime: Vec<(Vec<f64>, f64)>,
    width: usize,
}

impl Equations {
    fn new(rows: &[&Observation], remainders: &[Remainder], features: &[Feature], weights: &[f64]) -> Option<Self> {
        let mut equations = Self { width: features.len(), ..Self::default() };
        for ((row, left), weight) in rows.iter().zip(remainders).zip(weights) {
            let values: Vec<f64> =
                features.iter().map(|feature| feature.expected(&row.tokens, row.batch)).collect::<Option<_>>()?;
            let over = |total: f64| values.iter().map(|value| weight * value / total).collect();
            if let (Some(total), Some(left)) = (row.energy, left.energy) {
                equations.energy.push((over(total), weight * left / total));
            }
            if let (Some(total), Some(left)) = (row.runtime, left.runtime) {
                equations.runtime.push((over(total), weight * left / total));
            }
        }
        Some(equations)
    }

    fn solve(&self, limits: PowerLimits, factor: f64, cuts: &[Cut]) -> Option<Solution> {
        let (ceiling, idle, width) = (limits.limit * factor, limits.idle, self.width);
        let (mut matrix, mut targets): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
        let no_slack = || std::iter::repeat_n(0.0, cuts.len());
        for (values, target) in &self.energy {
            matrix.extend(values.iter().map(|value| ceiling * value));
            matrix.extend(values.iter().map(|value| idle * value));
            matrix.extend(no_slack());
            targets.push(*target);
        }
        for (values, target) in &self.runtime {
            matrix.extend(values.iter().chain(values).copied());
            matrix.extend(no_slack());
            targets.push(*target);
        }
        for (index, cut) in cuts.iter().enumerate() {
            let scale = LIMIT_WEIGHT / (limits.limit * cut.seconds);
            matrix.extend(cut.values.iter().map(|value| scale * (limits.limit - ceiling) * value));
            matrix.extend(cut.values.iter().map(|value| scale * (limits.limit - idle) * value));
            matrix.extend((0..cuts.len()).map(|slack| if slack == index { -LIMIT_WEIGHT } else { 0.0 }));
            targets.push(0.0);
        }
        let matrix = Array2::from_shape_vec((targets.len(), 2 * width + cuts.len()), matrix).ok()?;
        let solution = nnls(&matrix, &Array1::from(targets));
        let combine =
            |at: f64, below: f64| (0..width).map(|k| at * solution[k] + below * solution[width + k]).collect();
        Some(Solution { energy: combine(ceiling, idle), runtime: combine(1.0, 1.0) })
    }
}

/// Feature values of requests of 1..8,192 tokens in and out, at the smallest and largest batch.
fn checked_requests(rows: &[&Observation], features: &[Feature]) -> Vec<Vec<f64>> {
    let batches = rows.iter().map(|row| row.batch);
    let (smallest, largest) = (batches.clone().fold(f64::INFINITY, f64::min), batches.fold(0.0, f64::max));
    let tokens = || (0..=CHECKED_EXPONENT).map(|exponent| f64::from(exponent).exp2());
    tokens()
        .flat_map(|input| tokens().map(move |output| (input, output)))
        .flat_map(|(input, output)| [smallest, largest].map(|batch| (input, output, batch)))
        .map(|(input, output, batch)| features.iter().map(|feature| feature.value(input, output, batch)).collect())
        .collect()
}

/// The request that exceeds the limit most, if any does.
fn most_violated(requests: &[Vec<f64>], solution: &Solution, limits: PowerLimits) -> Option<Cut> {
    let sum = |values: &[f64], terms: &[f64]| values.iter().zip(terms).map(|(a, b)| a * b).sum::<f64>();
    requests
        .iter()
        .map(|values| (values, sum(values, &solution.energy), sum(values, &solution.runtime)))
        .filter(|(_, joules, seconds)| *seconds > 0.0 && joules / seconds > limits.limit * (1.0 + LIMIT_TOLERANCE))
        .max_by(|a, b| (a.1 / a.2).total_cmp(&(b.1 / b.2)))
        .map(|(values, _, seconds)| Cut { values: values.clone(), seconds })
}

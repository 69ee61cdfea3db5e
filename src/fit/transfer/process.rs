//! A Gaussian process over the logarithm of measured over roofline: what families share is what one tells of another.
//!
//! Five independent parts add up: a linear trend in figures of architecture and hardware, what a model keeps on every
//! device, what a device does to every model, what only this family does, and noise. Conditioning on the measured
//! families weighs all of them by the inverse of their variances, as a best linear unbiased predictor does (Robinson
//! 1991, doi 10.1214/ss/1177011926). The spreads of the parts are those of greatest likelihood. Families left out are
//! predicted without refitting, from blocks of the inverse (Rasmussen and Williams 2006, section 5.4.2).

use linfa_linalg::LinalgError;
use linfa_linalg::cholesky::{CholeskyInplace, InverseC};
use ndarray::{Array1, Array2};

/// Parts of the covariance.
const PARTS: usize = 5;
/// Standard deviations of the logarithm that the search starts from: trend, model, device, family, noise.
const START: [f64; PARTS] = [0.5, 0.2, 0.2, 0.1, 0.03];
/// What they may be: 1 % to sevenfold; data that say less are too few to tell.
const LEAST_SPREAD: f64 = 0.01;
const LARGEST_SPREAD: f64 = 2.0;
/// Steps of the search, as factors on a standard deviation: coarse, then fine.
const STEPS: [f64; 3] = [2.0, 1.4, 1.2];
/// Rounds of a step, if it goes on improving.
const ROUNDS: usize = 8;

/// A family at a batch, as the process sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Of the trend, each of the order of 1.
    pub trend: Vec<f64>,
    /// Which models, devices and families are the same.
    pub model: usize,
    pub device: usize,
    pub family: usize,
    /// Logarithm of the batch, of the order of 1.
    pub log_batch: f64,
}

/// A prediction of one value: the mean and the variance of a measurement there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normal {
    pub mean: f64,
    pub variance: f64,
}

/// Values at points, conditioned on.
#[derive(Clone, Debug)]
pub struct Process {
    points: Vec<Point>,
    variances: [f64; PARTS],
    inverse: Array2<f64>,
    /// Inverse times values.
    weights: Array1<f64>,
}

impl Process {
    /// Spreads of greatest likelihood, then the inverse. `None` if a value is not finite or nothing is given.
    pub fn new(points: Vec<Point>, values: &[f64]) -> Option<Self> {
        if points.is_empty() || points.len() != values.len() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let values = Array1::from(values.to_vec());
        let parts = covariance_parts(&points);
        let variances = most_likely(&parts, &values)?;
        let inverse = covariance(&parts, &variances).invc().ok()?;
        let weights = inverse.dot(&values);
        Some(Self { points, variances, inverse, weights })
    }

    /// What a measurement at a point that is none of the given would show.
    pub fn predict(&self, point: &Point) -> Normal {
        let combine = |parts: [f64; PARTS]| parts.iter().zip(&self.variances).map(|(part, v)| part * v).sum::<f64>();
        let shared: Array1<f64> = self.points.iter().map(|known| combine(parts(known, point, false))).collect();
        let own = combine(parts(point, point, true));
        let variance = own - shared.dot(&self.inverse.dot(&shared));
        Normal { mean: shared.dot(&self.weights), variance: variance.max(self.variances[PARTS - 1]) }
    }

    /// Error (value less prediction) and its variance at the points `of`, predicted without any point of `without`, of
    /// which they are part.
    pub fn left_out(&self, of: &[usize], without: &[usize]) -> Option<Vec<Normal>> {
        let block =
            Array2::from_shape_fn((without.len(), without.len()), |(a, b)| self.inverse[(without[a], without[b])]);
        let spread = block.invc().ok()?;
        let weights: Array1<f64> = without.iter().map(|&index| self.weights[index]).collect();
        let errors = spread.dot(&weights);
        of.iter()
            .map(|index| {
                let place = without.iter().position(|other| other == index)?;
                Some(Normal { mean: errors[place], variance: spread[(place, place)] })
            })
            .collect()
    }
}

/// Covariance of two points by part, for unit spreads; `same` if they are one point.
fn parts(a: &Point, b: &Point, same: bool) -> [f64; PARTS] {
    let near = (-0.5 * (a.log_batch - b.log_batch).powi(2)).exp();
    let sloped = 1.0 + a.log_batch * b.log_batch;
    let when = |condition: bool, value: f64| if condition { value } else { 0.0 };
    [
        a.trend.iter().zip(&b.trend).map(|(a, b)| a * b).sum(),
        when(a.model == b.model, near),
        when(a.device == b.device, sloped),
        when(a.family == b.family, near),
        when(same, 1.0),
    ]
}

fn covariance_parts(points: &[Point]) -> [Array2<f64>; PARTS] {
    let size = points.len();
    let mut matrices: [Array2<f64>; PARTS] = std::array::from_fn(|_| Array2::zeros((size, size)));
    for (row, a) in points.iter().enumerate() {
        for (column, b) in points.iter().enumerate() {
            for (matrix, value) in matrices.iter_mut().zip(parts(a, b, row == column)) {
                matrix[(row, column)] = value;
            }
        }
    }
    matrices
}

fn covariance(parts: &[Array2<f64>; PARTS], variances: &[f64; PARTS]) -> Array2<f64> {
    let mut sum = Array2::zeros(parts[0].dim());
    for (part, variance) in parts.iter().zip(variances) {
        sum.scaled_add(*variance, part);
    }
    sum
}

/// Variances by coordinate search from `START`.
fn most_likely(parts: &[Array2<f64>; PARTS], values: &Array1<f64>) -> Option<[f64; PARTS]> {
    let score = |spreads: &[f64; PARTS]| log_likelihood(covariance(parts, &spreads.map(|s| s * s)), values).ok();
    let mut spreads = START;
    let mut best = score(&spreads)?;
    for step in STEPS {
        for _ in 0..ROUNDS {
            let before = best;
            for part in 0..PARTS {
                for factor in [step, 1.0 / step] {
                    let mut trial = spreads;
                    trial[part] = (trial[part] * factor).clamp(LEAST_SPREAD, LARGEST_SPREAD);
                    if let Some(likelihood) = score(&trial).filter(|likelihood| *likelihood > best) {
                        (best, spreads) = (likelihood, trial);
                        break;
                    }
                }
            }
            if best <= before + 1e-3 {
                break;
            }
        }
    }
    Some(spreads.map(|spread| spread * spread))
}

/// Up to a constant.
fn log_likelihood(covariance: Array2<f64>, values: &Array1<f64>) -> Result<f64, LinalgError> {
    let lower = covariance.cholesky_into()?;
    let mut whitened = values.clone();
    let mut log_determinant = 0.0;
    for row in 0..whitened.len() {
        let known = lower.slice(ndarray::s![row, ..row]).dot(&whitened.slice(ndarray::s![..row]));
        whitened[row] = (whitened[row] - known) / lower[(row, row)];
        log_determinant += lower[(row, row)].ln();
    }
    Ok(-0.5 * whitened.dot(&whitened) - log_determinant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(model: usize, device: usize, log_batch: f64) -> Point {
        Point { trend: vec![1.0, log_batch], model, device, family: 10 * model + device, log_batch }
    }

    /// Models 0..6 on devices 0 and 1; model m costs m/5 more everywhere and device 1 costs 0.4 more than device 0.
    fn ladder() -> (Vec<Point>, Vec<f64>) {
        let points: Vec<Point> = (0..6)
            .flat_map(|model| (0..2).flat_map(move |device| [-1.0, 0.0, 1.0].map(|batch| point(model, device, batch))))
            .collect();
        let values = points.iter().map(|p| p.model as f64 / 5.0 + p.device as f64 * 0.4 - 0.5 * p.log_batch).collect();
        (points, values)
    }

    #[test]
    fn a_model_known_on_one_device_is_predicted_on_the_other() {
        let (points, values) = ladder();
        let kept: Vec<usize> = (0..points.len()).filter(|&k| points[k].model != 5 || points[k].device == 0).collect();
        let process = Process::new(
            kept.iter().map(|&k| points[k].clone()).collect(),
            &kept.iter().map(|&k| values[k]).collect::<Vec<_>>(),
        )
        .unwrap();
        let known = process.predict(&point(5, 1, 0.0));
        let unknown = process.predict(&point(99, 1, 0.0));
        assert!((known.mean - 1.4).abs() < 0.1, "{known:?}");
        assert!(known.variance < 0.2 * unknown.variance, "{known:?} {unknown:?}");
    }

    #[test]
    fn leaving_out_by_blocks_is_leaving_out() {
        let (points, values) = ladder();
        let process = Process::new(points.clone(), &values).unwrap();
        let without: Vec<usize> = (0..points.len()).filter(|&k| points[k].model == 2).collect();
        let of = &without[3..];
        let quick = process.left_out(of, &without).unwrap();
        // The long way: the same spreads, conditioned on the rest.
        let rest: Vec<usize> = (0..points.len()).filter(|k| !without.contains(k)).collect();
        let rest_points: Vec<Point> = rest.iter().map(|&k| points[k].clone()).collect();
        let inverse = covariance(&covariance_parts(&rest_points), &process.variances).invc().unwrap();
        let weights = inverse.dot(&rest.iter().map(|&k| values[k]).collect::<Array1<f64>>());
        let long = Process { points: rest_points, variances: process.variances, inverse, weights };
        for (index, quick) in of.iter().zip(quick) {
            let slow = long.predict(&points[*index]);
            assert!((quick.mean - (values[*index] - slow.mean)).abs() < 1e-6, "{quick:?} {slow:?}");
            assert!((quick.variance / slow.variance - 1.0).abs() < 1e-3, "{quick:?} {slow:?}");
        }
    }
}

//! Ridge autoregression: what the earlier steps add to the last value.
//!
//! The change of power is regressed on the differences of all earlier steps from the latest. Jumps of kilowatts and calm
//! of watts share these windows, so the penalty decides; it is chosen by leaving out groups of traces, by mean absolute
//! error, and the largest leaves the last value as it is. Normal equations are kept by group, so that leaving one out is a
//! subtraction; linfa's ridge would pass over all windows again for each penalty and group.

use linfa_linalg::cholesky::SolveCInplace;
use ndarray::{Array2, s};

use super::average::last_value;
use super::forecaster::{HISTORY, OUTPUTS};
use super::history::Window;
use super::linear::Linear;
use super::split::inner_folds;

/// Penalties to choose from, on the scale of the mean square of a difference.
const PENALTIES: [f64; 7] = [1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0];
const DIFFERENCES: usize = HISTORY - 1;

/// Sums over windows of x x' and x y'.
#[derive(Clone)]
struct Normal {
    gram: Array2<f64>,
    moment: Array2<f64>,
}

impl Normal {
    fn zero() -> Self {
        Self { gram: Array2::zeros((DIFFERENCES, DIFFERENCES)), moment: Array2::zeros((DIFFERENCES, OUTPUTS)) }
    }

    fn of(windows: &[Window<'_>]) -> Self {
        let mut x = Array2::zeros((windows.len(), DIFFERENCES));
        let mut y = Array2::zeros((windows.len(), OUTPUTS));
        for (row, window) in windows.iter().enumerate() {
            let last = window.history.last();
            for (column, power) in window.history.powers().take(DIFFERENCES).enumerate() {
                x[(row, column)] = power - last;
            }
            for output in 0..OUTPUTS {
                y[(row, output)] = window.truth[output] - last;
            }
        }
        Self { gram: x.t().dot(&x), moment: x.t().dot(&y) }
    }

    /// The weights that a penalty leaves; the last value where nothing ever changes.
    fn solve(&self, penalty: f64) -> Linear {
        let scale = self.gram.diag().sum() / DIFFERENCES as f64;
        let mut linear = last_value();
        let solved = || {
            let mut gram = self.gram.clone();
            gram.diag_mut().mapv_inplace(|value| value + penalty * scale);
            gram.solvec_into(self.moment.clone()).ok()
        };
        if scale <= 0.0 {
            return linear;
        }
        let Some(weights) = solved().filter(|weights| weights.iter().all(|weight| weight.is_finite())) else {
            return linear;
        };
        for output in 0..OUTPUTS {
            let column = weights.slice(s![.., output]);
            for (weight, value) in linear.0[output].iter_mut().zip(column) {
                *weight = *value;
            }
            linear.0[output][DIFFERENCES] = 1.0 - column.sum();
        }
        linear
    }
}

/// The ridge regression with the penalty that does best on groups left out. `None` without windows.
pub fn ridge(windows: &[Window<'_>]) -> Option<Linear> {
    let folds = inner_folds(windows);
    let parts: Vec<Normal> = folds.iter().map(|fold| Normal::of(fold)).collect();
    let total = parts
        .iter()
        .fold(Normal::zero(), |sum, part| Normal { gram: sum.gram + &part.gram, moment: sum.moment + &part.moment });
    let mut errors = [[0.0; OUTPUTS]; PENALTIES.len() + 1];
    for (fold, part) in folds.iter().zip(&parts) {
        let rest = Normal { gram: &total.gram - &part.gram, moment: &total.moment - &part.moment };
        let candidates: Vec<Linear> =
            PENALTIES.iter().map(|penalty| rest.solve(*penalty)).chain([last_value()]).collect();
        for window in fold {
            for (candidate, sums) in candidates.iter().zip(&mut errors) {
                let centre = candidate.centre(&window.history);
                for output in 0..OUTPUTS {
                    sums[output] += (window.truth[output] - centre[output]).abs();
                }
            }
        }
    }
    let mut linear = last_value();
    for output in 0..OUTPUTS {
        let least = (0..errors.len()).min_by(|a, b| errors[*a][output].total_cmp(&errors[*b][output]))?;
        if let Some(penalty) = PENALTIES.get(least) {
            linear.0[output] = total.solve(*penalty).0[output];
        }
    }
    (!windows.is_empty()).then_some(linear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Scope, Timestamp};
    use crate::forecast::{Kind, Recording, Step};

    fn recording(group: &str, power: impl Fn(usize) -> f64) -> Recording {
        let step = |at| Step::measured(power(at));
        let kind = Kind { scope: Scope::Device, device: None };
        let runs = vec![(Timestamp::from_micros(0).unwrap(), (0..500).map(step).collect())];
        Recording { name: "r".into(), group: group.into(), kind, runs }
    }

    /// A wave is its own continuation, which no average knows.
    #[test]
    fn a_wave_is_continued() {
        let wave = |phase: f64| move |at: usize| 200.0 + 50.0 * (at as f64 * 0.09 + phase).sin();
        let (a, b) = (recording("a", wave(0.0)), recording("b", wave(2.0)));
        let windows: Vec<Window<'_>> = a.windows().chain(b.windows()).collect();
        let linear = ridge(&windows).unwrap();
        for window in &windows {
            let centre = linear.centre(&window.history);
            assert!((0..OUTPUTS).all(|output| (centre[output] - window.truth[output]).abs() < 1.0), "{centre:?}");
        }
        assert!(linear.0.iter().all(|weights| (weights.iter().sum::<f64>() - 1.0).abs() < 1e-9));
    }

    #[test]
    fn what_never_changes_stays_the_last_value() {
        let steady = recording("a", |_| 70.0);
        assert_eq!(ridge(&steady.windows().collect::<Vec<_>>()).unwrap(), last_value());
        assert_eq!(ridge(&[]), None);
    }
}

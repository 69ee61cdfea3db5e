//! Last value, moving and exponential average: the baselines that anything more must beat.
//!
//! How long an average remembers is chosen on the training windows, by mean absolute error and for each output by itself.
//! An average of a length somebody picked is a straw man: on steady load a long memory is best, after a jump a short one.

use super::forecaster::HISTORY;
use super::history::Window;
use super::linear::{Linear, best};

/// Steps of the moving averages to choose from.
const LENGTHS: [usize; 9] = [2, 3, 5, 10, 15, 20, 30, 45, 60];
/// Weights of the latest step in the exponential averages to choose from.
const SMOOTHING: [f64; 9] = [0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.9];

/// The latest step, as it is.
pub fn last_value() -> Linear {
    moving(1)
}

/// The best moving average.
pub fn moving_average(windows: &[Window<'_>]) -> Option<Linear> {
    best(&LENGTHS.map(moving), windows)
}

/// The best exponential average.
pub fn exponential_average(windows: &[Window<'_>]) -> Option<Linear> {
    best(&SMOOTHING.map(exponential), windows)
}

/// All averages to choose from.
pub(super) fn all_averages() -> Vec<Linear> {
    [last_value()].into_iter().chain(LENGTHS.map(moving)).chain(SMOOTHING.map(exponential)).collect()
}

fn moving(length: usize) -> Linear {
    let mut weights = [0.0; HISTORY];
    weights[HISTORY - length..].fill(1.0 / length as f64);
    Linear::same(weights)
}

/// Weights a (1 - a)^k of the step k steps ago, scaled to the sum 1 since a history ends.
fn exponential(smoothing: f64) -> Linear {
    let mut weights = [0.0; HISTORY];
    for (age, weight) in weights.iter_mut().rev().enumerate() {
        *weight = smoothing * (1.0 - smoothing).powi(age as i32);
    }
    let sum: f64 = weights.iter().sum();
    Linear::same(weights.map(|weight| weight / sum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Scope;
    use crate::forecast::{Kind, Recording, Step};

    fn recording(power: impl Fn(usize) -> f64) -> Recording {
        let step = |at| Step::measured(power(at));
        let start = crate::domain::Timestamp::from_micros(0).unwrap();
        let kind = Kind { scope: Scope::Device, device: None };
        Recording { name: "r".into(), group: "g".into(), kind, runs: vec![(start, (0..400).map(step).collect())] }
    }

    #[test]
    fn weights_sum_to_one_and_forget() {
        for linear in all_averages() {
            assert!((linear.0[0].iter().sum::<f64>() - 1.0).abs() < 1e-12);
            assert!(linear.0[0].windows(2).all(|pair| pair[0] <= pair[1]));
        }
        assert!((exponential(0.5).0[0][HISTORY - 2] - 0.25).abs() < 1e-12);
    }

    /// A wave of 20 s averages out over 20 s, not over 15; on a ramp the youngest average is best.
    #[test]
    fn the_length_follows_the_trace() {
        let wave = recording(|at| 100.0 + (at as f64 * std::f64::consts::TAU / 20.0).sin());
        let windows: Vec<Window<'_>> = wave.windows().collect();
        let centre = moving_average(&windows).unwrap().centre(&windows[7].history);
        assert!((centre[2] - 100.0).abs() < 1e-9, "{centre:?}");
        let ramp = recording(|at| at as f64);
        let windows: Vec<Window<'_>> = ramp.windows().collect();
        assert_eq!(moving_average(&windows).unwrap(), moving(2));
        assert_eq!(exponential_average(&windows).unwrap(), exponential(0.9));
    }
}

//! Weighted sums of the last minute: what every baseline comes to.

use super::forecaster::{HISTORY, OUTPUTS};
use super::history::{History, Window};

/// Weights of the steps of a history, the latest last, for each output. They sum to 1, so that a steady power stays.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear(pub [[f64; HISTORY]; OUTPUTS]);

impl Linear {
    /// The same weights for each output.
    pub fn same(weights: [f64; HISTORY]) -> Self {
        Self([weights; OUTPUTS])
    }

    /// Watts, in the order of `Output::ALL`.
    pub fn centre(&self, history: &History<'_>) -> [f64; OUTPUTS] {
        self.0
            .each_ref()
            .map(|weights| weights.iter().zip(history.powers()).map(|(weight, power)| weight * power).sum())
    }

    /// Takes a share, in 0..1, of the weights of an output from another.
    pub(super) fn move_towards(&mut self, other: &Self, output: usize, share: f64) {
        for (weight, other) in self.0[output].iter_mut().zip(&other.0[output]) {
            *weight += share * (other - *weight);
        }
    }
}

/// Of several weightings the one with the least mean absolute error on `windows`, for each output by itself; of equals the
/// first. `None` without candidates.
pub(super) fn best(candidates: &[Linear], windows: &[Window<'_>]) -> Option<Linear> {
    let mut sums = vec![[0.0; OUTPUTS]; candidates.len()];
    for window in windows {
        for (candidate, sums) in candidates.iter().zip(&mut sums) {
            let centre = candidate.centre(&window.history);
            for output in 0..OUTPUTS {
                sums[output] += (window.truth[output] - centre[output]).abs();
            }
        }
    }
    let mut chosen = candidates.first()?.clone();
    for output in 0..OUTPUTS {
        let least = sums.iter().zip(candidates).min_by(|(a, _), (b, _)| a[output].total_cmp(&b[output]));
        if let Some((_, candidate)) = least {
            chosen.0[output] = candidate.0[output];
        }
    }
    Some(chosen)
}

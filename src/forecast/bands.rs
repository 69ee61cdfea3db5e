//! How far a forecast may be off: quantiles of the residuals it had in training, by how lively the last minute was.
//!
//! Steady load and the minutes around a jump differ a hundredfold in their residuals, and a band that is right on average
//! over both is right in neither. So histories are parted into equally many by their standard deviation, and each part has
//! its own quantiles (Mondrian conformal prediction: Vovk, Gammerman, Shafer 2005, section 4.5).

use super::forecaster::{Forecast, OUTPUTS, Quantiles};
use super::history::{History, Window};
use crate::stats::quantile;

/// Parts, if each has windows enough for its quantiles.
const PARTS: usize = 4;
const LEAST_WINDOWS: usize = 100;
/// On each side of the band.
const TAIL: f64 = 0.05;

/// Where the spreads of histories are parted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parts {
    /// Largest spreads of all parts but the last, in watts, ascending.
    pub limits: Vec<f64>,
}

impl Parts {
    /// Equally many windows in each part, as far as their spreads differ, and at least one.
    pub fn of(windows: &[Window<'_>]) -> Self {
        let mut spreads: Vec<f64> = windows.iter().map(|window| window.history.spread()).collect();
        spreads.sort_by(f64::total_cmp);
        let parts = (spreads.len() / LEAST_WINDOWS).clamp(1, PARTS);
        // Limits are spreads that occur, so that no part is empty.
        let mut limits: Vec<f64> = (1..parts).map(|part| spreads[spreads.len() * part / parts]).collect();
        limits.dedup();
        limits.retain(|limit| spreads.last().is_some_and(|largest| limit < largest));
        Self { limits }
    }

    pub fn count(&self) -> usize {
        self.limits.len() + 1
    }

    pub fn of_history(&self, history: &History<'_>) -> usize {
        let spread = history.spread();
        self.limits.partition_point(|limit| *limit < spread)
    }
}

/// What is said of each output before it is corrected, in watts: 5 %, 50 % and 95 %. Who says no more than a middle says it
/// three times.
pub(super) type Said = [[f64; 3]; OUTPUTS];

/// Residuals to the 5 % and to the 95 %.
type Residuals = (Vec<f64>, Vec<f64>);

/// Residual quantiles of a forecaster for one kind of channel: watts to add to its 5 % and 95 %, a part each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bands(pub Vec<[(f64, f64); OUTPUTS]>);

impl Bands {
    /// From windows and what was said about them. `None` if a part has none.
    pub fn learn(parts: &Parts, windows: &[Window<'_>], said: &[Said]) -> Option<Self> {
        let mut residuals = vec![[const { (Vec::new(), Vec::new()) }; OUTPUTS]; parts.count()];
        for (window, said) in windows.iter().zip(said) {
            let of = &mut residuals[parts.of_history(&window.history)];
            for output in 0..OUTPUTS {
                let [low, _, high] = said[output];
                of[output].0.push(window.truth[output] - low);
                of[output].1.push(window.truth[output] - high);
            }
        }
        let tails = |(low, high): &Residuals| Some((quantile(low, TAIL)?, quantile(high, 1.0 - TAIL)?));
        let of = |[a, b, c, d]: &[Residuals; OUTPUTS]| Some([tails(a)?, tails(b)?, tails(c)?, tails(d)?]);
        Some(Self(residuals.iter().map(of).collect::<Option<_>>()?))
    }

    /// Makes each side as wide as that of another, for the same parts.
    pub fn widen(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().flatten().zip(other.0.iter().flatten()) {
            *own = (own.0.min(other.0), own.1.max(other.1));
        }
    }

    /// What was said for a history of `part`, corrected.
    pub fn around(&self, said: Said, part: usize) -> Forecast {
        let of = |output: usize| {
            let ((below, above), [low, middle, high]) = (self.0[part][output], said[output]);
            Quantiles::new(low + below, middle, high + above)
        };
        Forecast([of(0), of(1), of(2), of(3)])
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::domain::{Scope, Timestamp};
    use crate::forecast::average::last_value;
    use crate::forecast::{Kind, Recording, Step};

    fn recording(power: impl Fn(usize) -> f64) -> Recording {
        let step = |at| Step::measured(power(at));
        let kind = Kind { scope: Scope::Device, device: None };
        let runs = vec![(Timestamp::from_micros(0).unwrap(), (0..1200).map(step).collect())];
        Recording { name: "r".into(), group: "g".into(), kind, runs }
    }

    fn middle(history: &History<'_>) -> Said {
        last_value().centre(history).map(|middle| [middle; 3])
    }

    fn band(recording: &Recording) -> (Parts, Bands, Vec<Window<'_>>) {
        let windows: Vec<Window<'_>> = recording.windows().collect();
        let said: Vec<Said> = windows.iter().map(|window| middle(&window.history)).collect();
        let parts = Parts::of(&windows);
        let bands = Bands::learn(&parts, &windows, &said).unwrap();
        (parts, bands, windows)
    }

    /// Calm first, then ten times as restless.
    #[test]
    fn nine_of_ten_lie_within_in_calm_and_in_unrest() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let noise: Vec<f64> = (0..1200).map(|_| random.random()).collect();
        let recording = recording(|at| 300.0 + if at < 600 { noise[at] } else { 10.0 * noise[at] });
        let (parts, bands, windows) = band(&recording);
        for calm in [true, false] {
            let (mut within, mut all, mut width) = (0, 0, 0.0);
            for window in windows.iter().filter(|window| if calm { window.now < 540 } else { window.now > 660 }) {
                let forecast = bands.around(middle(&window.history), parts.of_history(&window.history));
                let point = forecast.0[1];
                within += usize::from((point.p5.0..=point.p95.0).contains(&window.truth[1]));
                width += point.p95.0 - point.p5.0;
                all += 1;
            }
            let (share, width) = (f64::from(within as u32) / f64::from(all), width / f64::from(all));
            assert!((0.8..=0.97).contains(&share), "{share}");
            assert!(if calm { width < 5.0 } else { width > 10.0 }, "{width}");
        }
    }

    #[test]
    fn equal_spreads_share_one_part() {
        let recording = recording(|_| 40.0);
        let (parts, bands, windows) = band(&recording);
        assert_eq!(
            bands.around([[40.0; 3]; OUTPUTS], parts.of_history(&windows[0].history)).0,
            [Quantiles::certain(40.0); OUTPUTS]
        );
        assert_eq!((parts.count(), Parts::of(&[]).count()), (1, 1));
        assert_eq!(Bands::learn(&parts, &[], &[]), None);
    }
}

//! What a forecaster is to whoever calls one: histories in, quantiles of power out.
//!
//! Horizons and targets are fixed, since planning knows two of each: a mean draws energy, a point meets a power cap. Steps
//! of a second are what power meters and DCGM give; faster telemetry is resampled. Left out: when a forecast is too old to
//! be used, which is for the caller to say.

use super::history::History;
use crate::units::{Seconds, Watts};

/// Telemetry is brought to means over steps of this length.
pub const STEP: Seconds = Seconds(1.0);
/// Steps of history that a forecast is made from.
pub const HISTORY: usize = 60;
/// Steps up to the furthest horizon.
pub const LONGEST: usize = 60;
/// Figures in a forecast: two targets at two horizons.
pub const OUTPUTS: usize = 4;

/// Forecasts power. Implementations are deterministic and hold all that they need.
///
/// ```
/// use jouleplan::forecast::{Forecast, Forecaster, History, OUTPUTS, Quantiles};
///
/// /// Says that nothing changes, and is sure of it.
/// struct Frozen;
///
/// impl Forecaster for Frozen {
///     fn name(&self) -> &str {
///         "frozen"
///     }
///
///     fn forecast(&self, histories: &[History<'_>]) -> Vec<Option<Forecast>> {
///         let same = |history: &History<'_>| Forecast([Quantiles::certain(history.last()); OUTPUTS]);
///         histories.iter().map(|history| Some(same(history))).collect()
///     }
/// }
/// ```
pub trait Forecaster: Send + Sync {
    /// As tables and files call it: `exponential_average`.
    fn name(&self) -> &str;

    /// One forecast for each history, in their order; `None` for a kind of channel the forecaster knows nothing about.
    /// Many at once, because networks are fastest that way.
    fn forecast(&self, histories: &[History<'_>]) -> Vec<Option<Forecast>>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Horizon {
    S30,
    S60,
}

impl Horizon {
    /// Steps ahead.
    pub fn steps(self) -> usize {
        match self {
            Self::S30 => 30,
            Self::S60 => LONGEST,
        }
    }
}

/// What is forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Mean power from now to the horizon.
    Mean,
    /// Power of the step that ends at the horizon.
    Point,
}

impl Target {
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Point => "point",
        }
    }
}

/// A figure of a forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Output {
    pub horizon: Horizon,
    pub target: Target,
}

impl Output {
    /// All, in the order in which forecasts hold them.
    pub const ALL: [Self; OUTPUTS] = [
        Self { horizon: Horizon::S30, target: Target::Mean },
        Self { horizon: Horizon::S30, target: Target::Point },
        Self { horizon: Horizon::S60, target: Target::Mean },
        Self { horizon: Horizon::S60, target: Target::Point },
    ];

    /// The place in `ALL`.
    pub fn index(self) -> usize {
        2 * usize::from(self.horizon == Horizon::S60) + usize::from(self.target == Target::Point)
    }

    /// The true figure, from what was drawn in the steps after now, at least `LONGEST` of them.
    pub(super) fn of(self, future: &[f64]) -> f64 {
        let steps = self.horizon.steps();
        match self.target {
            Target::Mean => future[..steps].iter().sum::<f64>() / steps as f64,
            Target::Point => future[steps - 1],
        }
    }
}

/// What power stays below with a probability of 5, 50 and 95 %. Never negative, never in disorder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantiles {
    pub p5: Watts,
    pub p50: Watts,
    pub p95: Watts,
}

impl Quantiles {
    /// Held to what quantiles of a power can be; the middle one stays where it is unless it is negative.
    pub fn new(p5: f64, p50: f64, p95: f64) -> Self {
        let p50 = p50.max(0.0);
        Self { p5: Watts(p5.clamp(0.0, p50)), p50: Watts(p50), p95: Watts(p95.max(p50)) }
    }

    /// All three the same.
    pub fn certain(watts: f64) -> Self {
        Self::new(watts, watts, watts)
    }
}

/// Of one channel, in the order of `Output::ALL`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast(pub [Quantiles; OUTPUTS]);

impl Forecast {
    pub fn of(&self, output: Output) -> Quantiles {
        self.0[output.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_lie_where_they_say_and_are_what_they_say() {
        let future: Vec<f64> = (1..=60).map(f64::from).collect();
        let figures: Vec<f64> = Output::ALL.iter().map(|output| output.of(&future)).collect();
        assert_eq!(figures, [15.5, 30.0, 30.5, 60.0]);
        assert!(Output::ALL.iter().enumerate().all(|(index, output)| output.index() == index));
    }

    #[test]
    fn quantiles_are_ordered_powers() {
        let crossed = Quantiles::new(9.0, 5.0, -3.0);
        assert_eq!((crossed.p5, crossed.p50, crossed.p95), (Watts(5.0), Watts(5.0), Watts(5.0)));
        assert_eq!(Quantiles::new(-9.0, -5.0, 3.0), Quantiles::new(0.0, 0.0, 3.0));
    }
}

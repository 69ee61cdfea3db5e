//! Forecasters learned from windows, one set of weights and bands for each kind of channel.
//!
//! `selected` is what planning uses and has a file of its own; the others are there to be compared with.

use std::collections::BTreeMap;

use super::average::{exponential_average, last_value, moving_average};
use super::bands::{Bands, Parts};
use super::forecaster::{Forecast, Forecaster};
use super::history::{History, Kind, Window};
use super::linear::Linear;
use super::ridge::ridge;
use super::selected::{Selected, certain, selected};

/// A way to make a forecaster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    LastValue,
    MovingAverage,
    ExponentialAverage,
    Ridge,
    /// The averages, and by kind, output and part as much of others as is safe.
    Selected,
}

pub const METHODS: [Method; 5] =
    [Method::LastValue, Method::MovingAverage, Method::ExponentialAverage, Method::Ridge, Method::Selected];

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Self::LastValue => "last_value",
            Self::MovingAverage => "moving_average",
            Self::ExponentialAverage => "exponential_average",
            Self::Ridge => "ridge",
            Self::Selected => "selected",
        }
    }
}

/// A forecaster that knows the kinds of channels it was shown.
#[derive(Clone, Debug)]
pub struct Learned {
    method: Method,
    kinds: BTreeMap<Kind, Channel>,
}

/// What is known about a kind of channel.
#[derive(Clone, Debug)]
struct Channel {
    parts: Parts,
    /// A part each.
    weights: Vec<Linear>,
    bands: Bands,
}

impl Channel {
    fn learn(method: Method, windows: &[Window<'_>]) -> Option<Self> {
        let weights = match method {
            Method::LastValue => last_value(),
            Method::MovingAverage => moving_average(windows)?,
            Method::ExponentialAverage => exponential_average(windows)?,
            Method::Ridge => ridge(windows)?,
            Method::Selected => {
                let Selected { parts, weights, bands, .. } = selected(windows, None)?;
                return Some(Self { parts, weights, bands });
            }
        };
        let parts = Parts::of(windows);
        let middles: Vec<_> = windows.iter().map(|window| weights.centre(&window.history)).collect();
        let bands = Bands::learn(&parts, windows, &certain(&middles))?;
        Some(Self { weights: vec![weights; parts.count()], parts, bands })
    }

    fn forecast(&self, history: &History<'_>) -> Forecast {
        let part = self.parts.of_history(history);
        self.bands.around(self.weights[part].centre(history).map(|middle| [middle; 3]), part)
    }
}

/// Learns from windows of any kinds.
pub fn learn(method: Method, windows: &[Window<'_>]) -> Learned {
    let mut by_kind: BTreeMap<&Kind, Vec<Window<'_>>> = BTreeMap::new();
    windows.iter().for_each(|window| by_kind.entry(window.history.kind()).or_default().push(*window));
    let one = |(kind, windows): (&Kind, Vec<Window<'_>>)| Some((kind.clone(), Channel::learn(method, &windows)?));
    Learned { method, kinds: by_kind.into_iter().filter_map(one).collect() }
}

impl Forecaster for Learned {
    fn name(&self) -> &str {
        self.method.name()
    }

    fn forecast(&self, histories: &[History<'_>]) -> Vec<Option<Forecast>> {
        let one = |history: &History<'_>| Some(self.kinds.get(history.kind())?.forecast(history));
        histories.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Scope, Timestamp};
    use crate::forecast::{Recording, Step};

    fn recording(group: &str, scope: Scope, power: impl Fn(f64) -> f64) -> Recording {
        let step = |at: u32| Step::measured(power(f64::from(at)));
        let kind = Kind { scope, device: None };
        let runs = vec![(Timestamp::from_micros(0).unwrap(), (0..500).map(step).collect())];
        Recording { name: group.into(), group: group.into(), kind, runs }
    }

    /// On a wave the autoregression wins, on a square wave of the length of an average the average; a single group proves
    /// nothing.
    #[test]
    fn each_kind_gets_what_suits_it() {
        let wave = |at: f64| 200.0 + 50.0 * (0.09 * at).sin();
        let saw = |at: f64| 100.0 + if ((at / 5.0) as u32).is_multiple_of(2) { 30.0 } else { 0.0 } + 0.01 * at;
        let recordings = [
            recording("a", Scope::Node, wave),
            recording("b", Scope::Node, move |at| wave(at + 31.0)),
            recording("d", Scope::Node, move |at| wave(at + 47.0)),
            recording("c", Scope::Device, saw),
        ];
        let windows: Vec<Window<'_>> = recordings.iter().flat_map(Recording::windows).collect();
        let forecasters = METHODS.map(|method| learn(method, &windows));
        let error = |learned: &Learned, scope: Scope| -> f64 {
            let of: Vec<&Window<'_>> = windows.iter().filter(|window| window.history.kind().scope == scope).collect();
            let histories: Vec<History<'_>> = of.iter().map(|window| window.history).collect();
            let forecasts = learned.forecast(&histories);
            of.iter()
                .zip(forecasts)
                .map(|(window, forecast)| (forecast.unwrap().0[0].p50.0 - window.truth[0]).abs())
                .sum()
        };
        for scope in [Scope::Node, Scope::Device] {
            let [last, moving, exponential, ridge, selected] = forecasters.each_ref().map(|one| error(one, scope));
            if scope == Scope::Node {
                let best = last.min(moving).min(exponential).min(ridge);
                assert!(selected <= best + 0.01 * moving.min(exponential), "{selected} {best}");
            }
            assert!(selected <= (moving + exponential) / 2.0, "{scope:?}: {selected} {moving} {exponential}");
        }
        let unknown = Kind { scope: Scope::Package, device: None };
        let steps = vec![Step::measured(1.0); crate::forecast::HISTORY];
        let history = History::new(&unknown, &steps).unwrap();
        assert_eq!(forecasters[0].forecast(&[history]), [None]);
        assert!(learn(Method::Selected, &[]).kinds.is_empty());
        assert!(learn(Method::Selected, &windows[..1]).forecast(&[windows[0].history])[0].is_some());
    }
}

//! Forecasters learned from windows, one set of weights and bands for each kind of channel.
//!
//! `selected` is what planning uses: the averages, moved by what was learned for calm and for lively histories by itself as
//! far as `select` finds that safe. Steady load wants a long memory, the minute of a jump none. Its bands come from what was
//! said about groups of traces that were left out, since those say how far a new trace will be off.

use std::collections::BTreeMap;

use super::average::{all_averages, exponential_average, last_value, moving_average};
use super::bands::{Bands, Parts, Said};
use super::forecaster::{Forecast, Forecaster, OUTPUTS};
use super::history::{History, Kind, Window};
use super::linear::{Linear, best};
use super::ridge::ridge;
use super::select::{Middles, Unseen, choose};
use super::split::{Fold, in_time, inner_folds, leave_out_each, thin};

/// Windows of a kind that `selected` is chosen by; neighbours say the same.
const MOST_WINDOWS: usize = 8000;

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
            Method::Selected => return Self::selected(windows),
        };
        let parts = Parts::of(windows);
        let said = middles(|_| &weights, windows);
        let bands = Bands::learn(&parts, windows, &certain(&said))?;
        Some(Self { weights: vec![weights; parts.count()], parts, bands })
    }

    fn selected(windows: &[Window<'_>]) -> Option<Self> {
        let sparse = thin(windows, MOST_WINDOWS);
        let parts = Parts::of(&sparse);
        let averages = averages(windows)?;
        let mut unseen = Unseen::of(&parts, leave_out_each(inner_folds(&sparse)))?;
        let later = Unseen::of(&parts, std::iter::once(in_time(&sparse)))?;
        if unseen.windows.is_empty() {
            // A window or two: nothing can be left out.
            unseen = Unseen { averages: middles(|_| &averages, &sparse), windows: sparse, challengers: Vec::new() };
        }
        let choices = choose(&parts, &unseen, &later);
        let challengers: Vec<Vec<Linear>> =
            CHALLENGERS.iter().map(|challenger| by_part(*challenger, &parts, windows)).collect::<Option<_>>()?;
        let mut weights = vec![averages; parts.count()];
        for (part, of) in choices.iter().enumerate() {
            for (output, choice) in of.iter().enumerate() {
                let Some(choice) = choice else { continue };
                weights[part].move_towards(&challengers[choice.challenger][part], output, choice.share);
            }
        }
        let bands = Bands::learn(&parts, &unseen.windows, &certain(&unseen.chosen(&parts, &choices)))?;
        Some(Self { parts, weights, bands })
    }

    fn forecast(&self, history: &History<'_>) -> Forecast {
        let part = self.parts.of_history(history);
        self.bands.around(self.weights[part].centre(history).map(|middle| [middle; 3]), part)
    }
}

/// What learns weights for a part of the histories.
type Challenger = fn(&[Window<'_>]) -> Option<Linear>;
const CHALLENGERS: [Challenger; 2] = [|windows| best(&all_averages(), windows), ridge];

impl<'a> Unseen<'a> {
    /// What averages and challengers say about windows they had not learned from; `None` without any to learn from.
    fn of(parts: &Parts, folds: impl Iterator<Item = Fold<'a>>) -> Option<Self> {
        let mut unseen = Self { challengers: vec![Middles::new(); CHALLENGERS.len()], ..Self::default() };
        for Fold { train, test } in folds.filter(|fold| !fold.train.is_empty()) {
            let averages = averages(&train)?;
            unseen.averages.extend(middles(|_| &averages, &test));
            for (challenger, said) in CHALLENGERS.iter().zip(&mut unseen.challengers) {
                let weights = by_part(*challenger, parts, &train)?;
                said.extend(middles(|window| &weights[parts.of_history(&window.history)], &test));
            }
            unseen.windows.extend(test);
        }
        Some(unseen)
    }
}

/// A challenger's weights for each part, learned from its windows alone; from all where it has none.
fn by_part(challenger: Challenger, parts: &Parts, windows: &[Window<'_>]) -> Option<Vec<Linear>> {
    let mut by_part = vec![Vec::new(); parts.count()];
    windows.iter().for_each(|window| by_part[parts.of_history(&window.history)].push(*window));
    by_part.iter().map(|of| challenger(if of.is_empty() { windows } else { of })).collect()
}

/// The mean of the best moving and the best exponential average.
fn averages(windows: &[Window<'_>]) -> Option<Linear> {
    let mut averages = exponential_average(windows)?;
    let moving = moving_average(windows)?;
    (0..OUTPUTS).for_each(|output| averages.move_towards(&moving, output, 0.5));
    Some(averages)
}

fn middles<'w>(weights: impl Fn(&Window<'_>) -> &'w Linear, windows: &[Window<'_>]) -> Middles {
    windows.iter().map(|window| weights(window).centre(&window.history)).collect()
}

fn certain(middles: &Middles) -> Vec<Said> {
    middles.iter().map(|middles| middles.map(|middle| [middle; 3])).collect()
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
        let step = |at: u32| Step { power_w: power(f64::from(at)), is_measured: true };
        let kind = Kind { scope, device: None };
        let runs = vec![(Timestamp::from_micros(0).unwrap(), (0..500).map(step).collect())];
        Recording { name: group.into(), group: group.into(), kind, runs }
    }

    /// On a wave the autoregression wins, on a square wave of the length of an average the average; a single group proves
    /// nothing.
    #[test]
    fn each_kind_gets_what_suits_it() {
        let wave = |at: f64| 200.0 + 50.0 * (0.09 * at).sin();
        let saw = |at: f64| 100.0 + if (at / 5.0) as u32 % 2 == 0 { 30.0 } else { 0.0 } + 0.01 * at;
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
        let steps = vec![Step { power_w: 1.0, is_measured: true }; crate::forecast::HISTORY];
        let history = History::new(&unknown, &steps).unwrap();
        assert_eq!(forecasters[0].forecast(&[history]), [None]);
        assert!(learn(Method::Selected, &[]).kinds.is_empty());
        assert!(learn(Method::Selected, &windows[..1]).forecast(&[windows[0].history])[0].is_some());
    }
}

//! Forecasters learned from windows, one set of weights and bands for each kind of channel.
//!
//! `selected` is what planning uses. It starts from the better of the two averages and replaces it, for each output and part
//! of the histories (calm, .., lively: `bands`), by what was learned on that part alone, where that is no worse on any fold of
//! the training windows, be it groups of traces or the end of all: steady load wants a long memory, the minute of a jump
//! none. A gain on most folds is not enough, since folds are few.

use std::collections::BTreeMap;

use super::average::{exponential_average, last_value, moving_average};
use super::bands::{Bands, Parts, Said};
use super::forecaster::{Forecast, Forecaster, OUTPUTS};
use super::history::{History, Kind, Window};
use super::linear::Linear;
use super::ridge::ridge;
use super::split::{Fold, in_time, inner_folds};

/// A way to make a forecaster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    LastValue,
    MovingAverage,
    ExponentialAverage,
    Ridge,
    /// The best of the others, by kind, output and part, as far as that is safe.
    Selected,
}

pub const METHODS: [Method; 5] =
    [Method::LastValue, Method::MovingAverage, Method::ExponentialAverage, Method::Ridge, Method::Selected];

/// What `Selected` may use in a part. Of equals the first is taken.
const CANDIDATES: [Method; 4] = [Method::ExponentialAverage, Method::MovingAverage, Method::LastValue, Method::Ridge];
/// What it starts from.
const AVERAGES: [Method; 2] = [Method::ExponentialAverage, Method::MovingAverage];

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

    /// For windows of one kind, the weights for each part; `None` without windows.
    fn weights(self, parts: &Parts, windows: &[Window<'_>]) -> Option<Vec<Linear>> {
        let linear = match self {
            Self::LastValue => last_value(),
            Self::MovingAverage => moving_average(windows)?,
            Self::ExponentialAverage => exponential_average(windows)?,
            Self::Ridge => ridge(windows)?,
            Self::Selected => return selected(parts, windows),
        };
        Some(vec![linear; parts.count()])
    }

    /// As `weights`, each learned from the windows of its part alone; from all where it has none.
    fn weights_by_part(self, parts: &Parts, windows: &[Window<'_>]) -> Option<Vec<Linear>> {
        let mut by_part = vec![Vec::new(); parts.count()];
        windows.iter().for_each(|window| by_part[parts.of_history(&window.history)].push(*window));
        let of =
            |of: &Vec<Window<'_>>| Some(self.weights(parts, if of.is_empty() { windows } else { of })?.swap_remove(0));
        by_part.iter().map(of).collect()
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
        let parts = Parts::of(windows);
        let weights = method.weights(&parts, windows)?;
        let middle = |window: &Window<'_>| weights[parts.of_history(&window.history)].centre(&window.history);
        let said: Vec<Said> = windows.iter().map(|window| middle(window).map(|middle| [middle; 3])).collect();
        let bands = Bands::learn(&parts, windows, &said)?;
        Some(Self { parts, weights, bands })
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

/// Absolute errors by fold, part and output, summed.
type Errors = Vec<Vec<[f64; OUTPUTS]>>;

fn selected(parts: &Parts, windows: &[Window<'_>]) -> Option<Vec<Linear>> {
    let groups = inner_folds(windows);
    let without = |at: usize| groups.iter().enumerate().filter(move |(other, _)| *other != at).flat_map(|(_, of)| of);
    let mut folds: Vec<Fold<'_>> = (groups.iter().enumerate())
        .map(|(at, group)| Fold { train: without(at).copied().collect(), test: group.clone() })
        .collect();
    folds.push(in_time(windows));
    let mut averages: [Errors; AVERAGES.len()] = Default::default();
    let mut candidates: [Errors; CANDIDATES.len()] = Default::default();
    for Fold { train, test } in folds.iter().filter(|fold| !fold.train.is_empty()) {
        for (method, errors) in AVERAGES.iter().zip(&mut averages) {
            errors.push(absolute_errors(&method.weights(parts, train)?, parts, test));
        }
        for (method, errors) in CANDIDATES.iter().zip(&mut candidates) {
            errors.push(absolute_errors(&method.weights_by_part(parts, train)?, parts, test));
        }
    }
    let whole = |method: &Method| method.weights(parts, windows);
    let (mut chosen, moving) = (whole(&AVERAGES[0])?, whole(&AVERAGES[1])?);
    let by_part: Vec<Vec<Linear>> =
        CANDIDATES.iter().map(|method| method.weights_by_part(parts, windows)).collect::<Option<_>>()?;
    for output in 0..OUTPUTS {
        let all = |errors: &Errors| errors.iter().flatten().map(|sums| sums[output]).sum::<f64>();
        let uses_moving = all(&averages[1]) < all(&averages[0]);
        let base = &averages[usize::from(uses_moving)];
        for part in 0..parts.count() {
            let sum = |errors: &Errors| errors.iter().map(|parts| parts[part][output]).sum::<f64>();
            let is_safe = |errors: &Errors| {
                errors.iter().zip(base).all(|(errors, base)| errors[part][output] <= base[part][output])
            };
            let safe = (0..CANDIDATES.len()).filter(|at| is_safe(&candidates[*at]));
            let best = safe.min_by(|a, b| sum(&candidates[*a]).total_cmp(&sum(&candidates[*b])));
            let weights = match best {
                Some(best) => &by_part[best],
                None if uses_moving => &moving,
                None => continue,
            };
            chosen[part].0[output] = weights[part].0[output];
        }
    }
    Some(chosen)
}

/// By part and output.
fn absolute_errors(weights: &[Linear], parts: &Parts, windows: &[Window<'_>]) -> Vec<[f64; OUTPUTS]> {
    let mut errors = vec![[0.0; OUTPUTS]; parts.count()];
    for window in windows {
        let part = parts.of_history(&window.history);
        let centre = weights[part].centre(&window.history);
        for output in 0..OUTPUTS {
            errors[part][output] += (window.truth[output] - centre[output]).abs();
        }
    }
    errors
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

    /// On a wave the autoregression wins, on a square wave of the length of an average the average.
    #[test]
    fn each_kind_gets_what_suits_it() {
        let wave = |at: f64| 200.0 + 50.0 * (0.09 * at).sin();
        let saw = |at: f64| 100.0 + if (at / 5.0) as u32 % 2 == 0 { 30.0 } else { 0.0 } + 0.01 * at;
        let recordings = [
            recording("a", Scope::Node, wave),
            recording("b", Scope::Node, move |at| wave(at + 31.0)),
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
            let best = last.min(moving).min(exponential).min(ridge);
            assert!(selected <= best * 1.001, "{scope:?}: {selected} {best}");
        }
        let unknown = Kind { scope: Scope::Package, device: None };
        let steps = vec![Step { power_w: 1.0, is_measured: true }; crate::forecast::HISTORY];
        let history = History::new(&unknown, &steps).unwrap();
        assert_eq!(forecasters[0].forecast(&[history]), [None]);
        assert!(learn(Method::Selected, &[]).kinds.is_empty());
    }
}

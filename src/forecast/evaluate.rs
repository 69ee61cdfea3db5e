//! Every forecaster on every horizon, target and split: how far it is off and how often its band holds.
//!
//! Forecasters learn anew for each fold; what is scored was never seen. Folds of whole groups are pooled by window, so that
//! a long trace counts for more than a short one, as it does in use.

use std::collections::BTreeMap;

use super::forecaster::{Forecaster, Output, Quantiles};
use super::history::{History, Kind, Recording, Window};
use super::learn::{METHODS, learn};
use super::split::{Fold, Split, chronological, held_out};

/// How to evaluate.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Folds of whole groups, at most.
    pub folds: usize,
    /// The recording, by its place, whose forecasts are kept for a chart.
    pub shown: Option<usize>,
}

/// Figures of one output on one split of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub output: Output,
    pub split: Split,
    pub kind: Kind,
    pub windows: usize,
    /// By name of the forecaster.
    pub scores: BTreeMap<String, Score>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Mean absolute error, in watts.
    pub mae_w: f64,
    /// Root of the mean squared error, in watts.
    pub rmse_w: f64,
    /// Share of true figures from the 5 % to the 95 % quantile.
    pub coverage_90: f64,
}

/// A forecast of the mean of the next 30 s by `selected`, and what came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// Steps since the recording began.
    pub now: usize,
    pub truth: f64,
    pub forecast: Quantiles,
}

#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// Of all forecasters, in the order in which they were made.
    pub names: Vec<String>,
    /// By kind, split and output.
    pub rows: Vec<Row>,
    /// In order of time; empty unless asked for and held out.
    pub shown: Vec<Shown>,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    absolute: f64,
    squared: f64,
    within: usize,
    count: usize,
}

impl Sums {
    fn add(&mut self, truth: f64, forecast: Quantiles) {
        let error = truth - forecast.p50.0;
        self.absolute += error.abs();
        self.squared += error * error;
        self.within += usize::from((forecast.p5.0..=forecast.p95.0).contains(&truth));
        self.count += 1;
    }

    fn score(&self) -> Score {
        let count = self.count as f64;
        Score {
            mae_w: self.absolute / count,
            rmse_w: (self.squared / count).sqrt(),
            coverage_90: self.within as f64 / count,
        }
    }
}

/// The forecaster whose forecasts are shown.
const SHOWN: &str = "selected";

/// A forecaster of each of `METHODS`.
pub fn baselines(windows: &[Window<'_>]) -> Vec<Box<dyn Forecaster>> {
    METHODS.iter().map(|method| Box::new(learn(*method, windows)) as Box<dyn Forecaster>).collect()
}

/// Has forecasters made from the windows of each fold, every one with a name of its own, and judges them.
///
/// # Errors
/// What making them fails with.
pub fn evaluate<E>(
    recordings: &[Recording],
    setting: &Setting,
    mut make: impl FnMut(&[Window<'_>]) -> Result<Vec<Box<dyn Forecaster>>, E>,
) -> Result<Evaluation, E> {
    let mut sums: BTreeMap<(&Kind, Split, Output), BTreeMap<String, Sums>> = BTreeMap::new();
    let mut evaluation = Evaluation::default();
    for split in Split::ALL {
        let folds = match split {
            Split::Chronological => vec![chronological(recordings)],
            Split::HeldOut => held_out(recordings, setting.folds),
        };
        for Fold { train, test } in &folds {
            let histories: Vec<History<'_>> = test.iter().map(|window| window.history).collect();
            for forecaster in make(train)? {
                let name = forecaster.name();
                if !evaluation.names.iter().any(|known| known == name) {
                    evaluation.names.push(name.to_owned());
                }
                for (window, forecast) in test.iter().zip(forecaster.forecast(&histories)) {
                    // A kind with too little to learn from is judged nowhere.
                    let Some(forecast) = forecast else { continue };
                    for output in Output::ALL {
                        let of = sums.entry((window.history.kind(), split, output)).or_default();
                        let of = of.entry(name.to_owned()).or_default();
                        of.add(window.truth[output.index()], forecast.of(output));
                    }
                    if split == Split::HeldOut && name == SHOWN && is_shown(recordings, setting, window) {
                        let (truth, forecast) = (window.truth[0], forecast.0[0]);
                        evaluation.shown.push(Shown { now: window.now, truth, forecast });
                    }
                }
            }
        }
    }
    let row = |((kind, split, output), scores): ((&Kind, Split, Output), BTreeMap<String, Sums>)| Row {
        output,
        split,
        kind: kind.clone(),
        windows: scores.values().map(|sums| sums.count).max().unwrap_or(0),
        scores: scores.into_iter().map(|(name, sums)| (name, sums.score())).collect(),
    };
    evaluation.rows = sums.into_iter().map(row).collect();
    Ok(evaluation)
}

fn is_shown(recordings: &[Recording], setting: &Setting, window: &Window<'_>) -> bool {
    let shown = setting.shown.and_then(|at| recordings.get(at));
    shown.is_some_and(|shown| std::ptr::eq(shown, window.recording))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Scope, Timestamp};
    use crate::forecast::{OUTPUTS, Step};

    #[test]
    fn scores_are_of_what_was_never_seen() {
        // A staircase, each step of which lasts 200 s: the last value is wrong by 10 W just after a forecast.
        let recording = |group: &str| {
            let step = |at: usize| Step::measured(100.0 + 10.0 * (at / 200) as f64);
            let kind = Kind { scope: Scope::Node, device: None };
            let runs = vec![(Timestamp::from_micros(0).unwrap(), (0..1000).map(step).collect())];
            Recording { name: group.into(), group: group.into(), kind, runs }
        };
        let recordings = [recording("a"), recording("b")];
        let judge = |recordings: &[Recording], shown| {
            evaluate(recordings, &Setting { folds: 4, shown }, |windows| Ok::<_, ()>(baselines(windows))).unwrap()
        };
        let evaluation = judge(&recordings, Some(1));
        assert_eq!(evaluation.names, METHODS.map(|method| method.name().to_owned()));
        assert_eq!(evaluation.rows.len(), 2 * OUTPUTS);
        let row =
            evaluation.rows.iter().find(|row| row.split == Split::HeldOut && row.output == Output::ALL[3]).unwrap();
        // 881 windows of each; before each of four jumps 60 of them see it come.
        assert_eq!((row.windows, row.scores.len()), (2 * 881, METHODS.len()));
        let score = row.scores["last_value"];
        assert!((score.mae_w - 10.0 * 240.0 / 881.0).abs() < 1e-9, "{score:?}");
        assert!((score.rmse_w - (100.0f64 * 240.0 / 881.0).sqrt()).abs() < 1e-9, "{score:?}");
        assert_eq!((evaluation.shown.len(), evaluation.shown[0].now), (881, 60));
        assert!(judge(&recordings[..1], None).rows.iter().all(|row| row.split == Split::Chronological));
    }
}

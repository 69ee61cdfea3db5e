//! Every forecaster on every horizon, target and split: how far it is off and how often its band holds.
//!
//! Forecasters learn anew for each fold; what is scored was never seen. Folds of whole groups are pooled by window, so that
//! a long trace counts for more than a short one, as it does in use.

use std::collections::BTreeMap;

use super::forecaster::{Forecaster, Output, Quantiles};
use super::history::{History, Kind, Recording, Window};
use super::learn::{METHODS, Method, learn};
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
    pub scores: BTreeMap<&'static str, Score>,
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

/// Learns and judges all of `METHODS`.
pub fn evaluate(recordings: &[Recording], setting: &Setting) -> Evaluation {
    let mut sums: BTreeMap<(&Kind, Split, Output), BTreeMap<&'static str, Sums>> = BTreeMap::new();
    let mut shown = Vec::new();
    for split in Split::ALL {
        let folds = match split {
            Split::Chronological => vec![chronological(recordings)],
            Split::HeldOut => held_out(recordings, setting.folds),
        };
        for Fold { train, test } in &folds {
            let histories: Vec<History<'_>> = test.iter().map(|window| window.history).collect();
            for method in METHODS {
                let forecasts = learn(method, train).forecast(&histories);
                for (window, forecast) in test.iter().zip(&forecasts) {
                    // A kind with too little to learn from is judged nowhere.
                    let Some(forecast) = forecast else { continue };
                    for output in Output::ALL {
                        let of = sums.entry((window.history.kind(), split, output)).or_default();
                        of.entry(method.name()).or_default().add(window.truth[output.index()], forecast.of(output));
                    }
                    if split == Split::HeldOut && method == Method::Selected && is_shown(recordings, setting, window) {
                        shown.push(Shown { now: window.now, truth: window.truth[0], forecast: forecast.0[0] });
                    }
                }
            }
        }
    }
    let row = |((kind, split, output), methods): ((&Kind, Split, Output), BTreeMap<&'static str, Sums>)| Row {
        output,
        split,
        kind: kind.clone(),
        windows: methods.values().map(|sums| sums.count).max().unwrap_or(0),
        scores: methods.iter().map(|(name, sums)| (*name, sums.score())).collect(),
    };
    Evaluation { rows: sums.into_iter().map(row).collect(), shown }
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
            let step = |at: usize| Step { power_w: 100.0 + 10.0 * (at / 200) as f64, is_measured: true };
            let kind = Kind { scope: Scope::Node, device: None };
            let runs = vec![(Timestamp::from_micros(0).unwrap(), (0..1000).map(step).collect())];
            Recording { name: group.into(), group: group.into(), kind, runs }
        };
        let recordings = [recording("a"), recording("b")];
        let evaluation = evaluate(&recordings, &Setting { folds: 4, shown: Some(1) });
        assert_eq!(evaluation.rows.len(), 2 * OUTPUTS);
        let row =
            evaluation.rows.iter().find(|row| row.split == Split::HeldOut && row.output == Output::ALL[3]).unwrap();
        // 881 windows of each; before each of four jumps 60 of them see it come.
        assert_eq!((row.windows, row.scores.len()), (2 * 881, METHODS.len()));
        let score = row.scores["last_value"];
        assert!((score.mae_w - 10.0 * 240.0 / 881.0).abs() < 1e-9, "{score:?}");
        assert!((score.rmse_w - (100.0f64 * 240.0 / 881.0).sqrt()).abs() < 1e-9, "{score:?}");
        assert_eq!((evaluation.shown.len(), evaluation.shown[0].now), (881, 60));
        assert!(
            evaluate(&recordings[..1], &Setting { folds: 4, shown: None })
                .rows
                .iter()
                .all(|row| row.split == Split::Chronological)
        );
    }
}

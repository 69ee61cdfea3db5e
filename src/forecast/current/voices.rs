//! Who forecasts which kind of channel: the forecaster that was given, as far as it knows the kind; else the best moving
//! average over the channels' own history; else, where that is too short to choose by, their last minute's mean.

use std::collections::BTreeMap;

use super::super::forecaster::{Forecast, Forecaster, OUTPUTS, Quantiles};
use super::super::history::{History, Kind, Recording, Window};
use super::super::learn::{Learned, Method, learn};

/// Channels of a kind, and windows of each, that the average is chosen by.
const MOST_CHANNELS: usize = 50;
const MOST_WINDOWS: usize = 400;

pub(super) struct Voices<'a> {
    given: Option<&'a dyn Forecaster>,
    learned: Learned,
}

impl<'a> Voices<'a> {
    pub fn new(given: Option<&'a dyn Forecaster>, recordings: &[&Recording]) -> Self {
        let mut by_kind: BTreeMap<&Kind, Vec<&Recording>> = BTreeMap::new();
        recordings.iter().for_each(|recording| by_kind.entry(&recording.kind).or_default().push(recording));
        let mut windows: Vec<Window<'_>> = Vec::new();
        for recordings in by_kind.values() {
            if given.is_some_and(|given| recordings.iter().any(|recording| knows(given, recording))) {
                continue;
            }
            let step = recordings.len().div_ceil(MOST_CHANNELS);
            for recording in recordings.iter().step_by(step.max(1)) {
                let step = recording.steps().div_ceil(MOST_WINDOWS).max(1);
                windows.extend(recording.windows().step_by(step));
            }
        }
        Self { given, learned: learn(Method::MovingAverage, &windows) }
    }

    pub fn forecast(&self, histories: &[History<'_>]) -> Vec<Forecast> {
        let given = self.given.map(|given| given.forecast(histories)).unwrap_or_else(|| vec![None; histories.len()]);
        let one = |(history, given): (&History<'_>, Option<Forecast>)| {
            given
                .or_else(|| self.learned.forecast(std::slice::from_ref(history)).pop()?)
                .unwrap_or_else(|| mean(history))
        };
        histories.iter().zip(given).map(one).collect()
    }

    /// Name by kind.
    pub fn names(&self, histories: &[History<'_>]) -> BTreeMap<String, String> {
        let mut names = BTreeMap::new();
        for history in histories {
            let kind = history.kind().to_string();
            if names.contains_key(&kind) {
                continue;
            }
            let one = std::slice::from_ref(history);
            let says = |forecaster: &dyn Forecaster| forecaster.forecast(one).pop().flatten().is_some();
            let name = match self.given.filter(|given| says(*given)) {
                Some(given) => given.name(),
                None if says(&self.learned) => self.learned.name(),
                None => "mean_of_the_last_minute",
            };
            names.insert(kind, name.to_owned());
        }
        names
    }
}

fn knows(given: &dyn Forecaster, recording: &Recording) -> bool {
    let says = |history: History<'_>| given.forecast(&[history]).pop().flatten().is_some();
    recording.latest().is_some_and(|(_, history)| says(history))
}

fn mean(history: &History<'_>) -> Forecast {
    let powers: Vec<f64> = history.powers().collect();
    Forecast([Quantiles::certain(powers.iter().sum::<f64>() / powers.len() as f64); OUTPUTS])
}

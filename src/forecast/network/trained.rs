//! A forecaster with networks, one for each kind of channel, and how far each is believed.
//!
//! From one study come two forecasters. `selected` moves from the averages towards the network, and towards what else is
//! learned, as far as groups left out show it safe. The other believes the network in everything: it is there to compare
//! architectures by. Quantiles of both are corrected by what the networks said about windows unseen, by part of the
//! histories (conformalised quantile regression: Romano, Patterson, Candès 2019).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::NetworkError;
use super::model::{Family, Network};
use super::scaler::Scaler;
use super::train::{Progress, Study, Training, Unseen, study};
use crate::forecast::bands::{Bands, Parts, Said};
use crate::forecast::linear::Linear;
use crate::forecast::selected::{MOST_WINDOWS, NetworkSaid, Selected, selected};
use crate::forecast::split::thin;
use crate::forecast::{Forecast, Forecaster, History, Kind, OUTPUTS, Window};

/// A forecaster that knows the kinds of channels it was shown.
#[derive(Clone, Debug)]
pub struct Trained {
    pub(super) name: String,
    pub(super) kinds: BTreeMap<Kind, Channel>,
}

/// What is known about a kind of channel.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub parts: Parts,
    /// A part each.
    pub weights: Vec<Linear>,
    pub voice: Option<Voice>,
    pub bands: Bands,
}

/// A network and how far it is believed.
#[derive(Clone, Debug)]
pub(super) struct Voice {
    pub scaler: Scaler,
    pub network: Arc<Network>,
    /// Share of what it says in each output; the rest is the weights'.
    pub shares: [f64; OUTPUTS],
    pub epochs: usize,
}

/// What training came to, before it is decided how far networks are believed.
#[derive(Clone, Debug)]
pub struct Studied {
    /// Believes the network in everything; knows only kinds that have one.
    pub network: Trained,
    /// Believes it where that is safe.
    pub selected: Trained,
    /// Of each kind with a network.
    pub validation: BTreeMap<Kind, Validation>,
}

/// Mean absolute errors in watts on windows left out of training, in the order of `Output::ALL`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Validation {
    /// Groups left out in turn.
    pub groups: Errors,
    /// The end of all traces left out.
    pub later: Errors,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// Of the averages, which the network is added to.
    pub averages_w: [f64; OUTPUTS],
    pub network_w: [f64; OUTPUTS],
}

impl Errors {
    fn of(averages: &Linear, (windows, said): &Unseen<'_>) -> Self {
        let mut errors = Self { averages_w: [0.0; OUTPUTS], network_w: [0.0; OUTPUTS] };
        let count = windows.len().max(1) as f64;
        for (window, said) in windows.iter().zip(said) {
            let centre = averages.centre(&window.history);
            for output in 0..OUTPUTS {
                errors.averages_w[output] += (window.truth[output] - centre[output]).abs() / count;
                errors.network_w[output] += (window.truth[output] - said[output][1]).abs() / count;
            }
        }
        errors
    }
}

/// Trains a network for each kind among the windows. `tell` may be called from several threads.
///
/// # Errors
/// None are known to occur: candle's operations fail on shapes alone.
pub fn train(
    family: Family,
    windows: &[Window<'_>],
    training: &Training,
    tell: &(dyn Fn(&Kind, Progress) + Sync),
) -> Result<Studied, NetworkError> {
    let mut by_kind: BTreeMap<&Kind, Vec<Window<'_>>> = BTreeMap::new();
    windows.iter().for_each(|window| by_kind.entry(window.history.kind()).or_default().push(*window));
    let name = family.name().to_owned();
    let mut network = Trained { name, kinds: BTreeMap::new() };
    let mut chosen = Trained { name: "selected".to_owned(), kinds: BTreeMap::new() };
    let mut validation = BTreeMap::new();
    for (kind, windows) in by_kind {
        let study = study(family, &thin(&windows, MOST_WINDOWS), training, &|progress| tell(kind, progress))?;
        if let Some(study) = &study {
            validation.insert(kind.clone(), study.validation());
        }
        let (study, voice) = study.map(Study::into_voice).unzip();
        if let (Some(study), Some(voice)) = (&study, &voice)
            && let Some(channel) = believing(study, voice)
        {
            network.kinds.insert(kind.clone(), channel);
        }
        if let Some(channel) = choosing(&windows, study.as_ref(), voice) {
            chosen.kinds.insert(kind.clone(), channel);
        }
    }
    Ok(Studied { network, selected: chosen, validation })
}

impl<'a> Study<'a> {
    fn validation(&self) -> Validation {
        let averages = &self.scaler.averages;
        Validation { groups: Errors::of(averages, &self.groups), later: Errors::of(averages, &self.later) }
    }

    fn into_voice(self) -> (Heard<'a>, Voice) {
        let Self { scaler, network, epochs, groups, later } = self;
        let heard = Heard { windows: groups.0, groups: groups.1, later: later.1 };
        (heard, Voice { scaler, network: Arc::new(network), shares: [1.0; OUTPUTS], epochs })
    }
}

/// What networks said about windows unseen.
struct Heard<'a> {
    windows: Vec<Window<'a>>,
    groups: Vec<Said>,
    later: Vec<Said>,
}

fn believing(heard: &Heard<'_>, voice: &Voice) -> Option<Channel> {
    let parts = Parts::of(&heard.windows);
    let bands = Bands::learn(&parts, &heard.windows, &heard.groups)?;
    let voice = voice.clone();
    Some(Channel { weights: vec![voice.scaler.averages.clone(); parts.count()], parts, voice: Some(voice), bands })
}

fn choosing(windows: &[Window<'_>], heard: Option<&Heard<'_>>, voice: Option<Voice>) -> Option<Channel> {
    let said = heard.map(|heard| NetworkSaid { groups: &heard.groups, later: &heard.later });
    let Selected { parts, weights, network_shares: shares, bands } = selected(windows, said)?;
    let is_used = shares.iter().any(|share| *share > 0.0);
    let voice = voice.filter(|_| is_used).map(|voice| Voice { shares, ..voice });
    Some(Channel { parts, weights, voice, bands })
}

impl Channel {
    fn forecast(&self, histories: &[History<'_>]) -> Vec<Forecast> {
        // Shapes are those the network was made with; were it to fail all the same, the averages remain.
        let voice = self.voice.as_ref();
        let heard = voice.and_then(|voice| voice.scaler.said(&voice.network, histories).ok());
        let one = |(at, history): (usize, &History<'_>)| {
            let part = self.parts.of_history(history);
            let mut said = self.weights[part].centre(history).map(|middle| [middle; 3]);
            if let (Some(voice), Some(heard)) = (voice, &heard) {
                blend(&mut said, &heard[at], &voice.shares);
            }
            self.bands.around(said, part)
        };
        histories.iter().enumerate().map(one).collect()
    }
}

/// Takes a share of each output from what was heard, as far as that is finite.
fn blend(said: &mut Said, heard: &Said, shares: &[f64; OUTPUTS]) {
    for ((said, heard), share) in said.iter_mut().zip(heard).zip(shares) {
        for (watts, heard) in said.iter_mut().zip(heard).filter(|(_, heard)| heard.is_finite()) {
            *watts += share * (heard - *watts);
        }
    }
}

impl Trained {
    /// Kinds with a network in use, and for how many epochs it was trained.
    pub fn networks(&self) -> impl Iterator<Item = (&Kind, usize)> {
        self.kinds.iter().filter_map(|(kind, channel)| Some((kind, channel.voice.as_ref()?.epochs)))
    }

    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.keys()
    }

    /// Share of the network in each output, in 0..1; 0 where it is not used.
    pub fn network_shares(&self, kind: &Kind) -> [f64; OUTPUTS] {
        let voice = self.kinds.get(kind).and_then(|channel| channel.voice.as_ref());
        voice.map_or([0.0; OUTPUTS], |voice| voice.shares)
    }
}

impl Forecaster for Trained {
    fn name(&self) -> &str {
        &self.name
    }

    fn forecast(&self, histories: &[History<'_>]) -> Vec<Option<Forecast>> {
        let mut by_kind: BTreeMap<&Kind, Vec<usize>> = BTreeMap::new();
        histories.iter().enumerate().for_each(|(at, history)| by_kind.entry(history.kind()).or_default().push(at));
        let mut forecasts = vec![None; histories.len()];
        for (kind, places) in by_kind {
            let Some(channel) = self.kinds.get(kind) else { continue };
            let of: Vec<History<'_>> = places.iter().map(|at| histories[*at]).collect();
            for (at, forecast) in places.into_iter().zip(channel.forecast(&of)) {
                forecasts[at] = Some(forecast);
            }
        }
        forecasts
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::{Scope, Timestamp};
    use crate::forecast::{Figure, Recording, Step};

    /// A load of 20 s that comes back every 61 s, which no average knows, and how far the device is utilised meanwhile.
    pub fn pulses(group: usize, steps: usize) -> Recording {
        let step = |at: usize| {
            let power = if (at + 11 * group) % 61 < 20 { 300.0 } else { 100.0 };
            let mut step = Step::measured(power + (at % 7) as f64 * 0.3);
            step.figures[Figure::Utilization as usize] = Some(if power > 200.0 { 97.0 } else { 3.0 });
            step
        };
        let runs = vec![(Timestamp::from_micros(0).unwrap(), (0..steps).map(step).collect())];
        let kind = Kind { scope: Scope::Device, device: Some("L4".into()) };
        Recording { name: group.to_string(), group: group.to_string(), kind, runs }
    }

    pub fn small() -> Training {
        Training { hidden: 8, most_epochs: 12, batch: 32, learning_rate: 1e-2, ..Training::default() }
    }

    #[test]
    fn a_network_is_believed_where_it_helps_and_the_same_twice() {
        let recordings: Vec<Recording> = (0..3).map(|group| pulses(group, 500)).collect();
        let windows: Vec<Window<'_>> = recordings.iter().flat_map(Recording::windows).collect();
        let studied = || train(Family::Gru, &windows, &small(), &|_, _| ()).unwrap();
        let Studied { network, selected, .. } = studied();
        let unseen = pulses(5, 400);
        let (histories, truths): (Vec<History<'_>>, Vec<[f64; OUTPUTS]>) =
            unseen.windows().map(|window| (window.history, window.truth)).unzip();
        let error = |forecaster: &dyn Forecaster| -> f64 {
            let forecasts = forecaster.forecast(&histories);
            forecasts.iter().zip(&truths).map(|(of, truth)| (of.unwrap().0[0].p50.0 - truth[0]).abs()).sum()
        };
        let averages = crate::forecast::learn(crate::forecast::Method::MovingAverage, &windows);
        assert!(error(&network) < 0.7 * error(&averages), "{} {}", error(&network), error(&averages));
        assert!(error(&selected) < 0.7 * error(&averages), "{} {}", error(&selected), error(&averages));
        assert_eq!(studied().network.forecast(&histories), network.forecast(&histories));
        let unknown = Kind { scope: Scope::Node, device: None };
        let steps = vec![Step::measured(1.0); crate::forecast::HISTORY];
        assert_eq!(selected.forecast(&[History::new(&unknown, &steps).unwrap()]), [None]);
    }

    #[test]
    fn too_little_for_a_network_leaves_the_averages() {
        let recording = pulses(0, 121);
        let windows: Vec<Window<'_>> = recording.windows().collect();
        let Studied { network, selected, .. } = train(Family::Gru, &windows, &small(), &|_, _| ()).unwrap();
        assert_eq!((network.kinds().count(), selected.networks().count()), (0, 0));
        assert!(selected.forecast(&[windows[0].history])[0].is_some());
        assert!(train(Family::Gru, &[], &small(), &|_, _| ()).unwrap().selected.kinds().next().is_none());
    }
}

//! The forecaster that planning uses, for one kind of channel: the averages, moved as far as `select` finds safe.
//!
//! Challengers are weights learned for calm and for lively histories by themselves, since steady load wants a long memory
//! and the minute of a jump none, and a network where there is one, alone or halved with the first of those. Bands are as
//! wide as groups of traces left out or the ends of traces left out ask for: a new trace and a new hour both lie within.

use super::average::{all_averages, exponential_average, moving_average};
use super::bands::{Bands, Parts, Said};
use super::forecaster::OUTPUTS;
use super::history::Window;
use super::linear::{Linear, best};
use super::ridge::ridge;
use super::select::{Choice, Choices, Middles, Unseen, choose};
use super::split::{Fold, in_time, inner_folds, leave_out_each, thin};

/// Windows of a kind that is decided by, and that networks are trained on; neighbours say the same.
pub(super) const MOST_WINDOWS: usize = 8000;

/// What learns weights for a part of the histories.
type Challenger = fn(&[Window<'_>]) -> Option<Linear>;
/// The first is what a network is halved with.
const LINEAR: [Challenger; 2] = [|windows| best(&all_averages(), windows), ridge];
/// Places of the challengers behind those.
const NETWORK: usize = LINEAR.len();
const HALVED: usize = NETWORK + 1;

#[derive(Clone, Debug)]
pub(super) struct Selected {
    pub parts: Parts,
    /// A part each.
    pub weights: Vec<Linear>,
    /// Share of the network in each output; the rest is the weights'.
    #[cfg_attr(not(feature = "networks"), allow(dead_code))]
    pub network_shares: [f64; OUTPUTS],
    pub bands: Bands,
}

/// What networks said about windows thinned to `MOST_WINDOWS` that they had not seen, in the order of the folds.
#[derive(Clone, Copy)]
pub(super) struct NetworkSaid<'s> {
    /// Groups left out in turn (`inner_folds`).
    pub groups: &'s [Said],
    /// The end of all traces left out (`in_time`).
    pub later: &'s [Said],
}

/// `None` without windows.
pub(super) fn selected(windows: &[Window<'_>], network: Option<NetworkSaid<'_>>) -> Option<Selected> {
    let sparse = thin(windows, MOST_WINDOWS);
    let parts = Parts::of(&sparse);
    let averages = averages(windows)?;
    let mut groups = Unseen::of(&parts, leave_out_each(inner_folds(&sparse)))?;
    let mut later = Unseen::of(&parts, std::iter::once(in_time(&sparse)))?;
    if groups.windows.is_empty() {
        // A window or two: nothing can be left out.
        groups = Unseen { averages: middles(|_| &averages, &sparse), windows: sparse, challengers: Vec::new() };
    }
    if let Some(network) = network {
        groups.hear(network.groups);
        later.hear(network.later);
    }
    let choices = choose(&groups, &later);
    let mut weights = vec![averages; parts.count()];
    let mut network_shares = [0.0; OUTPUTS];
    for (output, choice) in choices.iter().enumerate() {
        let Some(Choice { challenger, share }) = *choice else { continue };
        let (linear, share_of_linear) = match challenger {
            NETWORK => (None, 0.0),
            // Of what is not the network's.
            HALVED => (Some(LINEAR[0]), 0.5 * share / (1.0 - 0.5 * share)),
            linear => (Some(LINEAR[linear]), share),
        };
        network_shares[output] = match challenger {
            NETWORK => share,
            HALVED => 0.5 * share,
            _ => 0.0,
        };
        if let Some(linear) = linear {
            for (weights, towards) in weights.iter_mut().zip(by_part(linear, &parts, windows)?) {
                weights.move_towards(&towards, output, share_of_linear);
            }
        }
    }
    let said = |unseen, network| said(unseen, &choices, network, &network_shares);
    let of_groups = said(&groups, network.map(|network| network.groups));
    let of_later = said(&later, network.map(|network| network.later));
    let mut bands = Bands::learn(&parts, &groups.windows, &of_groups)?;
    if let Some(later) = Bands::learn(&parts, &later.windows, &of_later) {
        bands.widen(&later);
    }
    Some(Selected { parts, weights, network_shares, bands })
}

/// What was said about windows unseen by what has been chosen; the width comes from the network alone.
fn said(groups: &Unseen<'_>, choices: &Choices, network: Option<&[Said]>, shares: &[f64; OUTPUTS]) -> Vec<Said> {
    let mut said = certain(&groups.chosen(choices));
    for (said, network) in said.iter_mut().zip(network.unwrap_or_default()) {
        for ((said, [low, middle, high]), share) in said.iter_mut().zip(network).zip(shares) {
            said[0] += share * (low - middle);
            said[2] += share * (high - middle);
        }
    }
    said
}

impl<'a> Unseen<'a> {
    /// What averages and challengers say about windows they had not learned from.
    fn of(parts: &Parts, folds: impl Iterator<Item = Fold<'a>>) -> Option<Self> {
        let mut unseen = Self { challengers: vec![Middles::new(); LINEAR.len()], ..Self::default() };
        for Fold { train, test } in folds.filter(|fold| !fold.train.is_empty()) {
            let averages = averages(&train)?;
            unseen.averages.extend(middles(|_| &averages, &test));
            for (challenger, said) in LINEAR.iter().zip(&mut unseen.challengers) {
                let weights = by_part(*challenger, parts, &train)?;
                said.extend(middles(|window| &weights[parts.of_history(&window.history)], &test));
            }
            unseen.windows.extend(test);
        }
        Some(unseen)
    }

    /// Adds what a network said about the windows as challengers.
    fn hear(&mut self, said: &[Said]) {
        let network: Middles = said.iter().map(|said| said.map(|[_, middle, _]| middle)).collect();
        let half = |(a, b): (&[f64; OUTPUTS], &[f64; OUTPUTS])| std::array::from_fn(|at| 0.5 * (a[at] + b[at]));
        let halved = network.iter().zip(&self.challengers[0]).map(half).collect();
        self.challengers.extend([network, halved]);
    }
}

/// A challenger's weights for each part, learned from its windows alone; from all where it has none.
fn by_part(challenger: Challenger, parts: &Parts, windows: &[Window<'_>]) -> Option<Vec<Linear>> {
    let mut by_part = vec![Vec::new(); parts.count()];
    windows.iter().for_each(|window| by_part[parts.of_history(&window.history)].push(*window));
    by_part.iter().map(|of| challenger(if of.is_empty() { windows } else { of })).collect()
}

/// The mean of the best moving and the best exponential average. Never the one that did better where both were judged: which
/// one that is changes from trace to trace, and choosing it was off by more.
pub(super) fn averages(windows: &[Window<'_>]) -> Option<Linear> {
    let mut averages = exponential_average(windows)?;
    let moving = moving_average(windows)?;
    (0..OUTPUTS).for_each(|output| averages.move_towards(&moving, output, 0.5));
    Some(averages)
}

fn middles<'w>(weights: impl Fn(&Window<'_>) -> &'w Linear, windows: &[Window<'_>]) -> Middles {
    windows.iter().map(|window| weights(window).centre(&window.history)).collect()
}

/// Middles without a width.
pub(super) fn certain(middles: &[[f64; OUTPUTS]]) -> Vec<Said> {
    middles.iter().map(|middles| middles.map(|middle| [middle; 3])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Scope, Timestamp};
    use crate::forecast::{Kind, Recording, Step};

    fn recording(group: usize) -> Recording {
        let power = |at: usize| 100.0 + 50.0 * (((at + 17 * group) / 40) % 2) as f64 + ((at * 31) % 11) as f64 * 0.1;
        let step = |at| Step::measured(power(at));
        let runs = vec![(Timestamp::from_micros(0).unwrap(), (0..400).map(step).collect())];
        let kind = Kind { scope: Scope::Device, device: None };
        Recording { name: group.to_string(), group: group.to_string(), kind, runs }
    }

    /// A network that knows the future takes over; one that is never right is not heard.
    #[test]
    fn a_network_gets_the_share_it_has_earned() {
        let recordings: Vec<Recording> = (0..4).map(recording).collect();
        let windows: Vec<Window<'_>> = recordings.iter().flat_map(Recording::windows).collect();
        let groups: Vec<Window<'_>> = leave_out_each(inner_folds(&windows)).flat_map(|fold| fold.test).collect();
        let later = in_time(&windows).test;
        let shares = |off: f64| {
            let say = |windows: &[Window<'_>]| -> Vec<Said> {
                windows.iter().map(|window| window.truth.map(|w| [w + off - 9.0, w + off, w + off + 9.0])).collect()
            };
            let (groups, later) = (say(&groups), say(&later));
            selected(&windows, Some(NetworkSaid { groups: &groups, later: &later })).unwrap()
        };
        let (right, wrong) = (shares(0.0), shares(500.0));
        assert!(right.network_shares.iter().all(|share| *share == 1.0), "{:?}", right.network_shares);
        assert!(wrong.network_shares.iter().all(|share| *share == 0.0), "{:?}", wrong.network_shares);
        // Its width is corrected to what was needed: none.
        let history = &groups[0].history;
        let band = right.bands.around(groups[0].truth.map(|w| [w - 9.0, w, w + 9.0]), right.parts.of_history(history));
        assert!((band.0[1].p95.0 - band.0[1].p5.0).abs() < 1e-9, "{band:?}");
        let without = selected(&windows, None).unwrap();
        assert_eq!(without.weights, wrong.weights);
        assert!(selected(&[], None).is_none());
    }
}

//! What is learned from and what is judged on, never the same: later parts of traces, and traces of other groups.
//!
//! Windows of one trace overlap and traces of one workload repeat each other, so windows are never shuffled. In time a
//! window to learn from ends before the first forecast to judge; that one's history may be older, as it is in use.

use std::collections::BTreeMap;

use super::forecaster::LONGEST;
use super::history::{Kind, Recording, Window};

/// Share of each recording that is learned from when the rest of it is judged.
const EARLIER: f64 = 0.7;
/// Folds of groups when choosing among forecasters or settings inside the training windows.
const INNER_FOLDS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// The last 30 % of each trace, by what was learned on its first 70 %.
    Chronological,
    /// Whole groups of traces, by what was learned on the others.
    HeldOut,
}

impl Split {
    pub const ALL: [Self; 2] = [Self::Chronological, Self::HeldOut];

    pub fn name(self) -> &'static str {
        match self {
            Self::Chronological => "chronological",
            Self::HeldOut => "held_out",
        }
    }
}

/// Windows to learn from and windows to judge.
#[derive(Clone, Debug, Default)]
pub struct Fold<'a> {
    pub train: Vec<Window<'a>>,
    pub test: Vec<Window<'a>>,
}

/// The earlier part of each recording, and the later.
pub fn chronological(recordings: &[Recording]) -> Fold<'_> {
    let mut fold = Fold::default();
    for recording in recordings {
        let cut = (EARLIER * recording.steps() as f64).round() as usize;
        for window in recording.windows() {
            if window.now + LONGEST <= cut {
                fold.train.push(window);
            } else if window.now >= cut {
                fold.test.push(window);
            }
        }
    }
    fold
}

/// Each group is judged once, in at most `folds` folds. Groups of each kind are dealt out in turn, so that no kind is left
/// out of the training as long as it has two groups; a kind with one group is in no fold.
pub fn held_out(recordings: &[Recording], folds: usize) -> Vec<Fold<'_>> {
    let mut groups: BTreeMap<&Kind, BTreeMap<&str, Vec<&Recording>>> = BTreeMap::new();
    for recording in recordings {
        groups.entry(&recording.kind).or_default().entry(&recording.group).or_default().push(recording);
    }
    let count = groups.values().map(BTreeMap::len).max().unwrap_or(0).min(folds);
    let mut result = vec![Fold::default(); count];
    for groups in groups.values().filter(|groups| groups.len() > 1) {
        let folds = count.min(groups.len());
        for (at, group) in groups.values().enumerate() {
            let windows: Vec<Window<'_>> = group.iter().flat_map(|recording| recording.windows()).collect();
            for (index, fold) in result.iter_mut().enumerate() {
                if index == at % folds { &mut fold.test } else { &mut fold.train }.extend_from_slice(&windows);
            }
        }
    }
    result.retain(|fold| !fold.train.is_empty() && !fold.test.is_empty());
    result
}

/// The earlier windows of each recording, and the later, with nothing known between.
pub(super) fn in_time<'a>(windows: &[Window<'a>]) -> Fold<'a> {
    // Windows of a recording lie in order of time, and those of recordings one behind the other.
    let mut fold = Fold::default();
    for of in windows.chunk_by(|a, b| std::ptr::eq(a.recording, b.recording)) {
        let cut = of[((of.len() - 1) as f64 * EARLIER) as usize].now;
        fold.train.extend(of.iter().filter(|window| window.now + LONGEST <= cut));
        fold.test.extend(of.iter().filter(|window| window.now >= cut));
    }
    fold
}

/// Every so manieth window, in time, so that at most about `most` are left.
pub(super) fn thin<'a>(windows: &[Window<'a>], most: usize) -> Vec<Window<'a>> {
    windows.iter().copied().step_by(windows.len().div_ceil(most).max(1)).collect()
}

/// Each part judged once, by what is learned on the others.
pub(super) fn leave_out_each(parts: Vec<Vec<Window<'_>>>) -> impl Iterator<Item = Fold<'_>> {
    let mut left = 0..parts.len();
    std::iter::from_fn(move || {
        let at = left.next()?;
        let others = parts.iter().enumerate().filter(|(other, _)| *other != at);
        Some(Fold { train: others.flat_map(|(_, of)| of).copied().collect(), test: parts[at].clone() })
    })
}

/// Parts of windows by group, to leave out one at a time; one group alone is parted in time.
pub(super) fn inner_folds<'a>(windows: &[Window<'a>]) -> Vec<Vec<Window<'a>>> {
    let mut groups: BTreeMap<&str, Vec<Window<'a>>> = BTreeMap::new();
    windows.iter().for_each(|window| groups.entry(&window.recording.group).or_default().push(*window));
    let mut folds = vec![Vec::new(); groups.len().min(INNER_FOLDS)];
    let count = folds.len();
    for (at, group) in groups.into_values().enumerate() {
        folds[at % count].extend(group);
    }
    if let [only] = folds.as_mut_slice() {
        only.sort_by_key(|window| window.now);
        let later = only.split_off(only.len() / 2);
        folds.push(later);
    }
    folds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Scope, Timestamp};
    use crate::forecast::Step;

    fn recording(group: &str, scope: Scope, steps: usize) -> Recording {
        let run = vec![Step::measured(1.0); steps];
        let kind = Kind { scope, device: None };
        Recording {
            name: group.into(),
            group: group.into(),
            kind,
            runs: vec![(Timestamp::from_micros(0).unwrap(), run)],
        }
    }

    #[test]
    fn no_step_that_is_learned_is_judged() {
        let recordings = [recording("a", Scope::Node, 1000)];
        let fold = chronological(&recordings);
        let last = fold.train.iter().map(|window| window.now + LONGEST).max().unwrap();
        let first = fold.test.iter().map(|window| window.now).min().unwrap();
        assert_eq!((last, first), (700, 700));
        assert_eq!((fold.train.len(), fold.test.len()), (700 - 60 - 60 + 1, 300 - 60 + 1));
    }

    #[test]
    fn every_group_is_judged_once_by_others_of_its_kind() {
        let node = |group| recording(group, Scope::Node, 130);
        let device = |group| recording(group, Scope::Device, 130);
        let recordings =
            [node("a"), node("a"), node("b"), node("c"), device("d"), device("e"), recording("f", Scope::Package, 130)];
        let folds = held_out(&recordings, 2);
        let mut judged: Vec<&str> = Vec::new();
        for fold in &folds {
            let names = |windows: &[Window<'_>]| -> Vec<String> {
                let mut names: Vec<String> = windows.iter().map(|window| window.recording.group.clone()).collect();
                names.dedup();
                names
            };
            let (train, test) = (names(&fold.train), names(&fold.test));
            assert!(train.iter().all(|group| !test.contains(group)), "{train:?} {test:?}");
            for window in &fold.test {
                assert!(fold.train.iter().any(|other| other.recording.kind == window.recording.kind));
                judged.push(&window.recording.group);
            }
        }
        judged.sort_unstable();
        judged.dedup();
        assert_eq!((folds.len(), judged), (2, vec!["a", "b", "c", "d", "e"]));
        assert!(held_out(&recordings[..2], 4).is_empty());
    }

    #[test]
    fn one_group_is_parted_in_time() {
        let recordings = [recording("a", Scope::Node, 130)];
        let windows: Vec<Window<'_>> = recordings[0].windows().collect();
        let fold = in_time(&windows);
        assert_eq!((fold.train.len(), fold.test[0].now), (0, 67));
        let folds = inner_folds(&windows);
        assert_eq!(folds.iter().map(Vec::len).collect::<Vec<_>>(), [5, 6]);
        assert!(inner_folds(&[]).is_empty());
    }
}

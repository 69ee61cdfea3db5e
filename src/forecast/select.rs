//! When something learned replaces the averages: one standard error over whole groups of traces, and little harm to any.
//!
//! `selected` starts from the mean of the best moving and the best exponential average: by convexity it is off by no more than
//! the mean of those two. For each kind and output a challenger moves it from there, by the smallest share that is within one
//! standard error of the best (Breiman, Friedman, Olshen, Stone 1984, section 3.4.3, differences paired by group) of those that
//! cost no group much, both on groups left out and on the end of all traces left out: what is new to a forecaster is another
//! workload or another hour. Windows overlap, so groups are counted; fewer than three prove nothing, and nothing moves.

use std::collections::BTreeMap;

use super::forecaster::OUTPUTS;
use super::history::Window;

/// Shares of a challenger to choose from, ascending; the rest is the averages'.
const SHARES: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];
const LEAST_GROUPS: usize = 3;
/// What groups that become worse may lose together, as a share of all errors of the averages. A limit on each group by itself
/// gave up most of what networks gain elsewhere and was no safer on traces left out.
const LARGEST_HARM: f64 = 0.01;

/// Watts said for each output of a window, by what had not seen it.
pub(super) type Middles = Vec<[f64; OUTPUTS]>;

/// A challenger, by its place, and its share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    pub challenger: usize,
    pub share: f64,
}

/// What was said about windows by what had not learned from them; all in the order of `windows`.
#[derive(Clone, Debug, Default)]
pub(super) struct Unseen<'a> {
    pub windows: Vec<Window<'a>>,
    pub averages: Middles,
    pub challengers: Vec<Middles>,
}

/// Of each output.
pub(super) type Choices = [Option<Choice>; OUTPUTS];

impl Unseen<'_> {
    /// What the choices make of it.
    pub fn chosen(&self, choices: &Choices) -> Middles {
        let mut middles = self.averages.clone();
        for (output, choice) in choices.iter().enumerate() {
            let Some(choice) = choice else { continue };
            for (middles, to) in middles.iter_mut().zip(&self.challengers[choice.challenger]) {
                middles[output] += choice.share * (to[output] - middles[output]);
            }
        }
        middles
    }

    /// Summed absolute errors by challenger, group, output and share.
    fn errors(&self) -> Vec<Vec<Shares>> {
        let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
        for window in &self.windows {
            let next = groups.len();
            groups.entry(&window.recording.group).or_insert(next);
        }
        let mut errors = vec![vec![[[0.0; SHARES.len()]; OUTPUTS]; groups.len()]; self.challengers.len()];
        for (at, window) in self.windows.iter().enumerate() {
            let group = groups[window.recording.group.as_str()];
            for (of, middles) in errors.iter_mut().zip(&self.challengers) {
                for output in 0..OUTPUTS {
                    let (average, challenger) = (self.averages[at][output], middles[at][output]);
                    for (sum, share) in of[group][output].iter_mut().zip(SHARES) {
                        *sum += (window.truth[output] - average - share * (challenger - average)).abs();
                    }
                }
            }
        }
        errors
    }
}

/// A figure for each share of each output.
type Shares = [[f64; SHARES.len()]; OUTPUTS];

/// What replaces a share of the averages, if anything: the challenger that does best on what `groups` left out, by the
/// smaller of the shares that this and `later` windows let it have.
pub(super) fn choose(groups: &Unseen<'_>, later: &Unseen<'_>) -> Choices {
    let (groups, later) = (groups.errors(), later.errors());
    let one = |output: usize| {
        let total = |of: &Vec<Shares>, share: usize| of.iter().map(|group| group[output][share]).sum::<f64>();
        let least = |of: &Vec<Shares>| (0..SHARES.len()).map(|share| total(of, share)).fold(f64::INFINITY, f64::min);
        let all = groups.iter().enumerate();
        let (challenger, of) = all.min_by(|(_, a), (_, b)| least(a).total_cmp(&least(b)))?;
        let share = safe_share(of, output).min(safe_share(later.get(challenger)?, output));
        (share > 0).then_some(Choice { challenger, share: SHARES[share] })
    };
    std::array::from_fn(one)
}

/// The place in `SHARES` of the smallest one within a standard error of the best of the harmless ones.
fn safe_share(groups: &[Shares], output: usize) -> usize {
    if groups.len() < LEAST_GROUPS {
        return 0;
    }
    let errors = |share: usize| -> Vec<f64> { groups.iter().map(|group| group[output][share]).collect() };
    let total = |share: &usize| errors(*share).iter().sum::<f64>();
    let harm =
        |share: usize| groups.iter().map(|group| (group[output][share] - group[output][0]).max(0.0)).sum::<f64>();
    let is_harmless = |share: &usize| harm(*share) <= LARGEST_HARM * total(&0);
    let best = (0..SHARES.len()).filter(is_harmless).min_by(|a, b| total(a).total_cmp(&total(b))).unwrap_or(0);
    (0..best)
        .filter(is_harmless)
        .find(|share| is_within_one_standard_error(&errors(*share), &errors(best)))
        .unwrap_or(best)
}

/// Whether the sum of `errors` exceeds that of `least` by no more than the standard error of the sum of their differences.
fn is_within_one_standard_error(errors: &[f64], least: &[f64]) -> bool {
    let differences: Vec<f64> = errors.iter().zip(least).map(|(error, least)| error - least).collect();
    let (sum, count) = (differences.iter().sum::<f64>(), differences.len() as f64);
    let squares: f64 = differences.iter().map(|difference| (difference - sum / count).powi(2)).sum();
    sum <= (count / (count - 1.0) * squares).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Scope, Timestamp};
    use crate::forecast::{Kind, Recording, Step};

    #[test]
    fn a_gain_must_exceed_its_standard_error() {
        assert!(!is_within_one_standard_error(&[2.0, 3.0, 4.0], &[1.0, 2.0, 3.0]));
        assert!(is_within_one_standard_error(&[9.0, 2.0, 3.0], &[1.0, 2.0, 3.0]));
        assert!(is_within_one_standard_error(&[1.0; 3], &[1.0; 3]));
    }

    /// A recording of each group.
    fn recordings(groups: u32) -> Vec<Recording> {
        let one = |group: u32| {
            let run = vec![Step::measured(50.0); 140];
            let runs = vec![(Timestamp::from_micros(0).unwrap(), run)];
            let kind = Kind { scope: Scope::Node, device: None };
            Recording { name: group.to_string(), group: group.to_string(), kind, runs }
        };
        (0..groups).map(one).collect()
    }

    /// Averages and challengers that are off by so many watts.
    fn unseen<'a>(windows: &[Window<'a>], averages: [f64; OUTPUTS], challengers: &[[f64; OUTPUTS]]) -> Unseen<'a> {
        let off = |watts: &[f64; OUTPUTS]| -> Middles {
            windows.iter().map(|window| std::array::from_fn(|output| window.truth[output] + watts[output])).collect()
        };
        let challengers = challengers.iter().map(off).collect();
        Unseen { windows: windows.to_vec(), averages: off(&averages), challengers }
    }

    #[test]
    fn what_helps_every_group_now_and_later_is_used_as_far_as_it_helps() {
        let recordings = recordings(4);
        let windows: Vec<Window<'_>> = recordings.iter().flat_map(Recording::windows).collect();
        // Of the outputs the first is best halfway, the second all the way, the third nowhere; the fourth in one group.
        let averages = [8.0, 4.0, 4.0, 4.0];
        let mut groups = unseen(&windows, averages, &[[9.0; OUTPUTS], [-8.0, 0.0, 8.0, 4.0]]);
        for (at, window) in windows.iter().enumerate().filter(|(_, window)| window.recording.group == "2") {
            groups.challengers[1][at][3] = window.truth[3];
        }
        let [half, whole] = [0.5, 1.0].map(|share| Some(Choice { challenger: 1, share }));
        let chosen = choose(&groups, &groups);
        assert_eq!(chosen, [half, whole, None, None]);
        assert_eq!(groups.chosen(&chosen)[0].map(|watts| watts - 50.0), [0.0, 0.0, 4.0, 4.0]);
        // Later the second is no help, which the first is all the more.
        let later = unseen(&windows, averages, &[[0.0; OUTPUTS], [0.0, 5.0, 0.0, 0.0]]);
        assert_eq!(choose(&groups, &later), [half, None, None, None]);
    }

    #[test]
    fn two_groups_prove_nothing() {
        let recordings = recordings(2);
        let windows: Vec<Window<'_>> = recordings.iter().flat_map(Recording::windows).collect();
        let helps = unseen(&windows, [4.0; OUTPUTS], &[[0.0; OUTPUTS]]);
        assert_eq!(choose(&helps, &helps), [None; OUTPUTS]);
        let none = unseen(&windows, [4.0; OUTPUTS], &[]);
        assert_eq!(choose(&none, &none), [None; OUTPUTS]);
    }
    #[test]
    fn what_helps_most_groups_is_used_as_far_as_it_costs_another_little() {
        let recordings = recordings(4);
        let windows: Vec<Window<'_>> = recordings.iter().flat_map(Recording::windows).collect();
        let with_one_off = |watts: f64| {
            let mut unseen = unseen(&windows, [4.0; OUTPUTS], &[[0.0; OUTPUTS]]);
            for (at, window) in windows.iter().enumerate().filter(|(_, window)| window.recording.group == "2") {
                unseen.challengers[0][at] = window.truth.map(|truth| truth + watts);
            }
            choose(&unseen, &unseen)
        };
        // A hundredth of the averages' errors is 0.16 W of these four times 4 W.
        for (watts, share) in [(4.1, Some(1.0)), (4.2, Some(0.75)), (5.0, None)] {
            assert_eq!(with_one_off(watts), [share.map(|share| Choice { challenger: 0, share }); OUTPUTS], "{watts}");
        }
    }
}

//! Intervals that say how good a transfer is: errors of measured families that were treated as if nobody had.
//!
//! Each measured family is left out together with what the target lacks: other families of its model if the target is a
//! new model, other families on its device if the device is new. The errors, over the standard deviation that the process
//! states, give the factor that covers 90 % of them (conformal prediction for grouped data by pooled distributions: Dunn
//! et al. 2022, doi 10.1080/01621459.2022.2060112). A family's points err together, so that one standard deviation stands
//! for all of its batches.

use super::neighbours::Neighbour;
use super::process::{Normal, Process};
use crate::stats::mean;

/// What an interval is to cover.
pub const COVERAGE: f64 = 0.90;
/// The same of a normal distribution, in standard deviations: where left-out groups are too few to say.
const NORMAL_FACTOR: f64 = 1.645;
/// Fewer groups hold no nine in ten.
const FEWEST_GROUPS: usize = 10;

/// What the target has in common with nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    pub model: bool,
    pub device: bool,
}

impl Unknown {
    /// Whether `other` is left out together with `family`, itself included.
    pub fn excludes(self, family: &Neighbour<'_>, other: &Neighbour<'_>) -> bool {
        family.model.key == other.model.key
            || (self.model && family.member.is_same_model(&other.member))
            || (self.device && family.member.is_same_device(&other.member))
    }

    /// Whether `family` is a case like the target: once it is left out, its model is still known if the target's is.
    fn is_like(self, family: usize, neighbours: &[Neighbour<'_>]) -> bool {
        let own = &neighbours[family];
        let rest = || neighbours.iter().filter(|other| !self.excludes(own, other));
        (self.model || rest().any(|other| other.member.is_same_model(&own.member)))
            && (self.device || rest().any(|other| other.member.is_same_device(&own.member)))
    }
}

/// How wrong the process is about families it has not seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// Standard deviations on either side that cover `COVERAGE`.
    pub factor: f64,
    /// Mean absolute relative error over the left-out families.
    pub mape: Option<f64>,
    /// Families left out.
    pub families: usize,
    /// Whether they were enough to say; else `factor` is at least that of a normal distribution.
    pub sufficient: bool,
}

/// Errors of `process`, whose points are those of `neighbours` in order.
pub fn calibrate(process: &Process, neighbours: &[Neighbour<'_>], unknown: Unknown) -> Calibration {
    let mut starts = vec![0];
    starts.extend(neighbours.iter().scan(0, |sum, neighbour| {
        *sum += neighbour.decode.len();
        Some(*sum)
    }));
    let rows = |family: usize| starts[family]..starts[family + 1];
    // Of each group of families that are left out together: the families, each with its scores.
    let mut groups: Vec<(usize, Vec<Vec<f64>>)> = Vec::new();
    let mut errors = Vec::new();
    for family in (0..neighbours.len()).filter(|&family| unknown.is_like(family, neighbours)) {
        let excluded: Vec<usize> =
            (0..neighbours.len()).filter(|&other| unknown.excludes(&neighbours[family], &neighbours[other])).collect();
        let without: Vec<usize> = excluded.iter().flat_map(|&other| rows(other)).collect();
        let of: Vec<usize> = rows(family).collect();
        let Some(left_out) = process.left_out(&of, &without) else { continue };
        let deviation = family_deviation(&left_out);
        errors.extend(left_out.iter().map(|error| (-error.mean).exp_m1().abs()));
        let scores = left_out.iter().map(|error| error.mean.abs() / deviation).collect();
        let first = excluded.first().copied().unwrap_or(family);
        match groups.iter_mut().find(|(known, _)| *known == first) {
            Some((_, families)) => families.push(scores),
            None => groups.push((first, vec![scores])),
        }
    }
    let families = groups.iter().map(|(_, families)| families.len()).sum();
    let (factor, sufficient) = covering_factor(&groups.into_iter().map(|(_, families)| families).collect::<Vec<_>>());
    Calibration { factor, mape: mean(&errors), families, sufficient }
}

/// One standard deviation for all batches of a family.
pub fn family_deviation(points: &[Normal]) -> f64 {
    let variances: Vec<f64> = points.iter().map(|point| point.variance).collect();
    mean(&variances).unwrap_or(0.0).sqrt()
}

/// The quantile of the scores' pooled distribution: groups weigh alike, and families within a group.
fn covering_factor(groups: &[Vec<Vec<f64>>]) -> (f64, bool) {
    let mut weighted: Vec<(f64, f64)> = Vec::new();
    for families in groups {
        for scores in families {
            let weight = 1.0 / (groups.len() * families.len() * scores.len()) as f64;
            weighted.extend(scores.iter().map(|score| (*score, weight)));
        }
    }
    weighted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut covered = 0.0;
    let quantile = weighted.iter().find(|(_, weight)| {
        covered += weight;
        covered >= COVERAGE - 1e-12
    });
    let score = quantile.map_or(NORMAL_FACTOR, |(score, _)| *score);
    if groups.len() < FEWEST_GROUPS { (score.max(NORMAL_FACTOR), false) } else { (score, true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_covers_nine_groups_in_ten() {
        let groups: Vec<Vec<Vec<f64>>> = (1..=20).map(|k| vec![vec![f64::from(k)]]).collect();
        assert_eq!(covering_factor(&groups), (18.0, true));
        // A group of many families counts no more than one of few.
        let mut uneven = groups.clone();
        uneven[0] = vec![vec![100.0]; 40];
        assert_eq!(covering_factor(&uneven), (19.0, true));
    }

    #[test]
    fn too_few_groups_fall_back_to_a_normal_distribution_or_worse() {
        assert_eq!(covering_factor(&[vec![vec![0.3]]]), (NORMAL_FACTOR, false));
        assert_eq!(covering_factor(&[vec![vec![7.0]]]), (7.0, false));
        assert_eq!(covering_factor(&[]), (NORMAL_FACTOR, false));
    }
}

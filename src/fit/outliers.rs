//! Trials that do not belong: cold starts, stalls, meters that missed. Listed with what was expected, and not fitted.
//!
//! A trial is held against the median of its repeats where there are three or more, else against a fit that outliers
//! cannot pull: iteratively reweighted with Tukey's biweight (Huber and Ronchetti, Robust Statistics, chapter 7). It is
//! out if it is off by half as much again *and* by five deviations, the deviation being the median's, and its nearest
//! neighbours are not off likewise: noise of short trials and errors of the form stay in. Steady states average such
//! things away and are not judged. Where the form would put more than a fifth out, none is.

use std::collections::BTreeMap;
use std::fmt;

use super::hardware::EstimatedTerm;
use super::observation::Observation;
use super::phase::{BatchForm, PhaseFit, PowerLimits, Spec};
use super::select;
use crate::domain::{Measurement, Sample};
use crate::stats::quantile;

/// Off by this factor at least, up or down.
const GROSS: f64 = 1.5;
/// ... and by this many deviations.
const DEVIATIONS: f64 = 5.0;
/// Standard deviation of a normal distribution over the median of its absolute deviations.
const PER_MEDIAN_DEVIATION: f64 = 1.4826;
/// Repeats closer than this, and fits better, are luck.
const LEAST_DEVIATION: f64 = 0.02;
/// Deviations at which the biweight gives no weight at all.
const NO_WEIGHT: f64 = 7.0;
const REWEIGHTINGS: usize = 10;
/// Fewer repeats have no median worth the name.
const REPEATS: usize = 3;
/// Fewer trials, in all or per feature, cannot outvote one of them.
const LEAST_TRIALS: usize = 10;
const TRIALS_PER_FEATURE: usize = 3;
/// Share of the trials without repeats.
const MOST_OUT: f64 = 0.2;
const NEIGHBOURS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutlierKind {
    /// The first of its repeats, or of its family, and slow.
    ColdStart,
    Other,
}

/// Measured and expected, per request: joules or instance-seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    pub measured: f64,
    pub expected: f64,
}

impl Compared {
    /// ln(measured / expected).
    fn ratio(&self) -> f64 {
        (self.measured / self.expected).ln()
    }
}

/// A trial that was not used.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlier {
    /// Its index, from 0, among the samples given to `fit`.
    pub sample: usize,
    pub kind: OutlierKind,
    pub input_tokens: Option<f64>,
    pub output_tokens: f64,
    pub batch_size: f64,
    pub trial: Option<u32>,
    /// Gross joules.
    pub energy: Option<Compared>,
    /// Instance-seconds.
    pub runtime: Option<Compared>,
}

/// As notes list it; samples count from 1, over all files.
impl fmt::Display for Outlier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = if self.kind == OutlierKind::ColdStart { "cold start, " } else { "" };
        write!(f, "{start}sample {} (", self.sample.saturating_add(1))?;
        if let Some(input) = self.input_tokens {
            write!(f, "{input:.0} in, ")?;
        }
        write!(f, "{:.0} out, batch {:.0})", self.output_tokens, self.batch_size)?;
        for (compared, unit) in [(self.energy, "J"), (self.runtime, "s")] {
            if let Some(Compared { measured, expected }) = compared {
                write!(f, " {measured:.4} {unit} for {expected:.4}")?;
            }
        }
        Ok(())
    }
}

/// Takes the outliers out of `pairs`. `known` gives what hardware says about some rows: estimated terms and power limits;
/// `all` are the samples given to `fit`.
pub fn take(
    pairs: &mut Vec<(&Sample, Observation)>,
    all: &[Sample],
    kv_cache: bool,
    known: impl Fn(&[&Observation]) -> (Vec<EstimatedTerm>, PowerLimits),
) -> Vec<Outlier> {
    let trials: Vec<usize> =
        (0..pairs.len()).filter(|&index| pairs[index].0.measurement == Measurement::Trial).collect();
    let judged = Judged { pairs, trials };
    let repeats = judged.repeats();
    let mut found = judged.against_repeats(&repeats);
    let lone: Vec<usize> =
        judged.trials.iter().copied().filter(|index| !repeats.iter().any(|group| group.contains(index))).collect();
    let rest: Vec<usize> = judged.trials.iter().copied().filter(|index| !found.contains_key(index)).collect();
    let rows: Vec<&Observation> = rest.iter().map(|&index| &pairs[index].1).collect();
    let (estimated, limits) = known(&rows);
    if let Some(expected) = robust(&rows, kv_cache, &estimated, limits) {
        let compared: BTreeMap<usize, Pair> = rest
            .iter()
            .zip(&rows)
            .zip(expected)
            .map(|((&index, row), expected)| (index, compare(row, expected)))
            .collect();
        let spread = Spread::of(compared.values());
        let off = |index: &&usize| compared.get(*index).is_some_and(|pair| spread.is_out(pair));
        let out: Vec<usize> = lone.iter().filter(off).copied().collect();
        if out.len() as f64 <= MOST_OUT * lone.len() as f64 {
            let alone = out.into_iter().map(|index| (index, compared[&index]));
            found.extend(alone.filter(|(index, pair)| !judged.shared(*index, pair, &compared)));
        }
    }
    let first = pairs.first().map(|(sample, _)| *sample);
    let outliers = found.iter().map(|(&index, &(energy, runtime))| {
        let (sample, row) = &pairs[index];
        let slow = runtime.is_some_and(|runtime| runtime.ratio() >= GROSS.ln());
        let leads = repeats.iter().any(|group| group.first() == Some(&index))
            || first.is_some_and(|first| std::ptr::eq(first, *sample));
        Outlier {
            sample: all.iter().position(|other| std::ptr::eq(other, *sample)).unwrap_or(usize::MAX),
            kind: if slow && leads { OutlierKind::ColdStart } else { OutlierKind::Other },
            input_tokens: row.tokens.input.filter(|_| !row.input_assumed),
            output_tokens: row.tokens.output,
            batch_size: row.batch,
            trial: sample.trial,
            energy,
            runtime,
        }
    });
    let outliers = outliers.collect();
    let mut index = 0..;
    pairs.retain(|_| index.next().is_none_or(|index| !found.contains_key(&index)));
    outliers
}

/// Energy and runtime beside what was expected.
type Pair = (Option<Compared>, Option<Compared>);

struct Judged<'a> {
    pairs: &'a [(&'a Sample, Observation)],
    /// Indices of those that are trials.
    trials: Vec<usize>,
}

impl Judged<'_> {
    /// Trials of the same lengths and batch, three or more, the first one first.
    fn repeats(&self) -> Vec<Vec<usize>> {
        let whole = |value: f64| value.round() as i64;
        let mut cells: BTreeMap<(Option<i64>, i64, i64), Vec<usize>> = BTreeMap::new();
        for &index in &self.trials {
            let row = &self.pairs[index].1;
            let cell = (row.tokens.input.map(whole), whole(row.tokens.output), whole(row.batch));
            cells.entry(cell).or_default().push(index);
        }
        let mut groups: Vec<Vec<usize>> = cells.into_values().filter(|group| group.len() >= REPEATS).collect();
        for group in &mut groups {
            group.sort_by_key(|&index| (self.pairs[index].0.trial, index));
        }
        groups
    }

    /// Whether most of the trials nearest in lengths and batch are off likewise, by half as much at least: then the form
    /// is wrong there.
    fn shared(&self, index: usize, pair: &Pair, compared: &BTreeMap<usize, Pair>) -> bool {
        let place = |index: usize| {
            let row = &self.pairs[index].1;
            [row.tokens.input.unwrap_or(1.0), row.tokens.output, row.batch].map(|value| value.max(1.0).ln())
        };
        let here = place(index);
        let distance = |other: usize| here.iter().zip(place(other)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let mut others: Vec<usize> = compared.keys().copied().filter(|other| *other != index).collect();
        others.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
        let off = |(energy, runtime): &Pair| [energy, runtime].map(|c| c.map_or(0.0, |c| c.ratio()));
        let likewise = |other: &Pair| {
            let (own, other) = (off(pair), off(other));
            // In whatever it is out by.
            let target = usize::from(own[1].abs() > own[0].abs());
            other[target] / own[target] >= 0.5
        };
        let nearest = others.iter().take(NEIGHBOURS).filter(|other| likewise(&compared[other])).count();
        2 * nearest > NEIGHBOURS
    }

    fn against_repeats(&self, repeats: &[Vec<usize>]) -> BTreeMap<usize, Pair> {
        let mut compared = BTreeMap::new();
        for group in repeats {
            let median = |target: fn(&Observation) -> Option<f64>| {
                quantile(&group.iter().filter_map(|&index| target(&self.pairs[index].1)).collect::<Vec<_>>(), 0.5)
            };
            let expected = (median(|row| row.energy), median(|row| row.runtime));
            compared.extend(group.iter().map(|&index| (index, compare(&self.pairs[index].1, expected))));
        }
        let spread = Spread::of(compared.values());
        compared.retain(|_, pair| spread.is_out(pair));
        compared
    }
}

fn compare(row: &Observation, (energy, runtime): (Option<f64>, Option<f64>)) -> Pair {
    let pair = |measured: Option<f64>, expected: Option<f64>| {
        let (measured, expected) = (measured?, expected?);
        (measured / expected).ln().is_finite().then_some(Compared { measured, expected })
    };
    (pair(row.energy, energy), pair(row.runtime, runtime))
}

/// Deviations of ln(measured / expected).
struct Spread {
    energy: f64,
    runtime: f64,
}

impl Spread {
    fn of<'a>(compared: impl Iterator<Item = &'a Pair>) -> Self {
        let (energy, runtime): (Vec<_>, Vec<_>) = compared.copied().unzip();
        let deviation = |compared: Vec<Option<Compared>>| {
            let ratios: Vec<f64> = compared.iter().flatten().map(Compared::ratio).collect();
            let middle = quantile(&ratios, 0.5).unwrap_or(0.0);
            let off: Vec<f64> = ratios.iter().map(|ratio| (ratio - middle).abs()).collect();
            (PER_MEDIAN_DEVIATION * quantile(&off, 0.5).unwrap_or(0.0)).max(LEAST_DEVIATION)
        };
        Self { energy: deviation(energy), runtime: deviation(runtime) }
    }

    /// The larger distance of the two from what was expected, in deviations.
    fn distance(&self, (energy, runtime): &Pair) -> f64 {
        let of = |compared: &Option<Compared>, deviation: f64| compared.map_or(0.0, |c| c.ratio().abs() / deviation);
        of(energy, self.energy).max(of(runtime, self.runtime))
    }

    fn is_out(&self, (energy, runtime): &Pair) -> bool {
        let out = |compared: &Option<Compared>, deviation: f64| {
            compared.is_some_and(|c| c.ratio().abs() >= GROSS.ln().max(DEVIATIONS * deviation))
        };
        out(energy, self.energy) || out(runtime, self.runtime)
    }
}

/// Joules and seconds of each row by the largest form its rows afford, fitted robustly. `None` where rows are too few.
fn robust(
    rows: &[&Observation],
    kv_cache: bool,
    estimated: &[EstimatedTerm],
    limits: PowerLimits,
) -> Option<Vec<(Option<f64>, Option<f64>)>> {
    let affordable =
        |spec: &Spec| rows.len() >= TRIALS_PER_FEATURE * spec.size() && !matches!(spec.batch, BatchForm::Curve { .. });
    let spec = select::candidates(rows, kv_cache).into_iter().rfind(affordable)?;
    if rows.len() < LEAST_TRIALS {
        return None;
    }
    let mut weights = vec![1.0; rows.len()];
    let mut expected = Vec::new();
    for _ in 0..REWEIGHTINGS {
        let fit = PhaseFit::weighted(rows, &weights, estimated, limits, &spec)?;
        expected = rows.iter().map(|row| fit.predict(row).unzip()).collect();
        let compared: Vec<Pair> = rows.iter().zip(&expected).map(|(row, &expected)| compare(row, expected)).collect();
        let spread = Spread::of(compared.iter());
        // The square root of the biweight: it multiplies the error, not its square.
        weights = compared.iter().map(|pair| (1.0 - (spread.distance(pair) / NO_WEIGHT).powi(2)).max(0.0)).collect();
    }
    Some(expected)
}

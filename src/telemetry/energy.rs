//! Energy of a trace: trapezoids between neighbouring readings, nothing across a gap.
//!
//! Two readings are neighbours if both say a power, none lies between them and they are no further apart than the limit. A
//! reading without power therefore costs both intervals beside it. A single reading has a power and no energy.

use crate::domain::{Reading, Timestamp};
use crate::units::{Joules, Seconds, Watts};

/// Further apart than so many usual intervals, readings are no neighbours: loggers stall for an interval or two.
const INTERVALS: f64 = 5.0;
/// Pauses up to this are stalls however short the interval; beyond an hour nobody watched however long it is.
const LIMIT_RANGE: (f64, f64) = (1.0, 3600.0);

/// A time without known power between two that have some.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gap {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// What a channel drew.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Readings, with power or without.
    pub rows: usize,
    pub rows_without_power: usize,
    /// Time for which the power is known.
    pub covered: Seconds,
    /// Over the covered time; absent where that is none.
    pub energy: Option<Joules>,
    /// Energy over covered time.
    pub mean_power: Option<Watts>,
    pub max_power: Option<Watts>,
    pub gaps: Vec<Gap>,
}

impl Totals {
    /// Time in gaps.
    pub fn missing(&self) -> Seconds {
        self.gaps.iter().fold(Seconds::ZERO, |sum, gap| sum + gap.to.since(gap.from))
    }
}

/// How far apart neighbours may be at most: five median intervals, at least a second and at most an hour.
pub fn gap_limit(readings: &[Reading]) -> Seconds {
    let mut intervals: Vec<f64> = readings.windows(2).map(|pair| pair[1].at.since(pair[0].at).0).collect();
    intervals.sort_by(f64::total_cmp);
    gap_limit_of(Seconds(intervals.get(intervals.len() / 2).copied().unwrap_or(0.0)))
}

/// As `gap_limit`, for a known interval.
pub fn gap_limit_of(interval: Seconds) -> Seconds {
    Seconds((INTERVALS * interval.0).clamp(LIMIT_RANGE.0, LIMIT_RANGE.1))
}

/// What the readings of one channel, in order of time, add up to.
pub fn totals(readings: &[Reading], gap_limit: Seconds) -> Totals {
    let mut sum = Summing::new(gap_limit);
    readings.iter().for_each(|reading| sum.add(reading));
    sum.totals()
}

/// Totals of readings that are still coming in.
#[derive(Clone, Debug)]
pub struct Summing {
    gap_limit: Seconds,
    last: Option<Reading>,
    energy: Joules,
    sum: Totals,
}

impl Summing {
    pub fn new(gap_limit: Seconds) -> Self {
        Self { gap_limit, last: None, energy: Joules::ZERO, sum: Totals::default() }
    }

    /// Adds a reading, which comes after the one before.
    pub fn add(&mut self, reading: &Reading) {
        let sum = &mut self.sum;
        sum.rows += 1;
        sum.rows_without_power += usize::from(reading.power.is_none());
        if let Some(power) = reading.power {
            sum.max_power = Some(sum.max_power.map_or(power, |most| most.max(power)));
        }
        let Some(last) = self.last.replace(reading.clone()) else { return };
        let (from, to) = (last.at, reading.at);
        let power = |reading: &Reading| reading.power.map(|power| power.0);
        if let Some((start, end)) = neighbours(&last, reading, self.gap_limit, power) {
            let time = to.since(from);
            self.energy += Watts(0.5 * (start + end)) * time;
            sum.covered += time;
        } else if let Some(gap) = sum.gaps.last_mut().filter(|gap| gap.to == from) {
            gap.to = to;
        } else {
            sum.gaps.push(Gap { from, to });
        }
    }

    /// Of all readings so far.
    pub fn totals(&self) -> Totals {
        let mut totals = self.sum.clone();
        if totals.covered > Seconds::ZERO {
            totals.energy = Some(self.energy);
            totals.mean_power = Some(self.energy / totals.covered);
        }
        totals
    }
}

/// A figure of two readings that follow each other, if they are neighbours in it.
pub(super) fn neighbours(
    start: &Reading,
    end: &Reading,
    gap_limit: Seconds,
    figure: impl Fn(&Reading) -> Option<f64>,
) -> Option<(f64, f64)> {
    if end.at.since(start.at) > gap_limit { None } else { Some((figure(start)?, figure(end)?)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(rows: &[(f64, Option<f64>)]) -> Vec<Reading> {
        let reading = |(second, watts): &(f64, Option<f64>)| Reading {
            power: watts.map(Watts),
            ..Reading::at(Timestamp::from_seconds(*second).unwrap())
        };
        rows.iter().map(reading).collect()
    }

    fn of(rows: &[(f64, Option<f64>)]) -> Totals {
        let readings = trace(rows);
        totals(&readings, gap_limit(&readings))
    }

    #[test]
    fn energy_is_the_area_under_the_power() {
        let sum = of(&[(0.0, Some(100.0)), (1.0, Some(200.0)), (3.0, Some(200.0))]);
        assert_eq!((sum.energy, sum.covered), (Some(Joules(550.0)), Seconds(3.0)));
        assert_eq!((sum.mean_power, sum.max_power), (Some(Watts(550.0 / 3.0)), Some(Watts(200.0))));
        assert_eq!((sum.rows, sum.gaps.len()), (3, 0));
    }

    #[test]
    fn gaps_carry_no_energy() {
        let rows =
            [(0.0, Some(100.0)), (1.0, Some(100.0)), (2.0, None), (3.0, None), (4.0, Some(300.0)), (5.0, Some(300.0))];
        let mut rows = rows.to_vec();
        rows.extend([(60.0, Some(300.0)), (61.0, Some(300.0))]);
        let sum = of(&rows);
        assert_eq!((sum.energy, sum.covered), (Some(Joules(700.0)), Seconds(3.0)));
        let gaps: Vec<(f64, f64)> =
            sum.gaps.iter().map(|gap| (gap.from.micros() as f64 / 1e6, gap.to.micros() as f64 / 1e6)).collect();
        assert_eq!((gaps, sum.missing()), (vec![(1.0, 4.0), (5.0, 60.0)], Seconds(58.0)));
        assert_eq!(sum.rows_without_power, 2);
    }

    #[test]
    fn what_is_unknown_is_absent() {
        assert_eq!(of(&[]), Totals::default());
        let one = of(&[(0.0, Some(5.0))]);
        assert_eq!((one.energy, one.mean_power, one.max_power), (None, None, Some(Watts(5.0))));
        assert_eq!(of(&[(0.0, None), (1.0, None)]).energy, None);
    }

    #[test]
    fn the_limit_follows_the_interval() {
        let every =
            |step: f64| gap_limit(&trace(&[(0.0, None), (step, None), (2.0 * step, None), (50.0 * step, None)]));
        assert_eq!([every(0.1), every(1.0), every(15.0), every(7200.0)].map(|limit| limit.0), [1.0, 5.0, 75.0, 3600.0]);
    }
}

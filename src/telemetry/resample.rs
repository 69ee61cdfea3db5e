//! A trace on a fixed step: time-weighted means, with gaps kept as gaps.
//!
//! Steps are counted from 1970, so channels of one or several traces share them; a row stands for the step that begins at
//! its time. A mean needs figures for at least half of its step. The first step of a hole is a row without power, so that
//! its two ends are not taken for neighbours; the rest of a hole has no rows, or a forgotten logger would fill memory.

use std::collections::BTreeMap;

use super::energy::neighbours;
use crate::domain::{Reading, Timestamp};
use crate::units::{Seconds, Watts};

/// The share of a step for which a figure must be known.
const KNOWN_SHARE: f64 = 0.5;

/// Figures of a reading in the order power, utilisation, memory, clock, temperature.
const FIGURES: usize = 5;

fn figure(reading: &Reading, number: usize) -> Option<f64> {
    match number {
        0 => reading.power.map(|power| power.0),
        1 => reading.utilization_pct,
        2 => reading.memory_used_mib,
        3 => reading.sm_clock_mhz,
        _ => reading.temperature_c,
    }
}

/// What is known of a step.
#[derive(Clone, Default)]
struct Cell {
    /// Integral and known time, in seconds, of each figure.
    sums: [(f64, f64); FIGURES],
    phase: Option<String>,
}

/// The readings of one channel, in order of time, as means over steps of `step`, which is held to at least a millisecond.
/// Between neighbouring readings, no further apart than the limit, figures run straight.
pub fn resample(readings: &[Reading], step: Seconds, gap_limit: Seconds) -> Vec<Reading> {
    let step = step.max(Seconds(1e-3));
    // Steps are whole microseconds, as timestamps are; a step of more than the whole range is the whole range.
    let micros = (step.0 * 1e6).round() as i64;
    let mut cells: BTreeMap<i64, Cell> = BTreeMap::new();
    for reading in readings {
        let cell = cells.entry(reading.at.micros() / micros).or_default();
        cell.phase = reading.phase.clone().or(cell.phase.take());
    }
    for pair in readings.windows(2) {
        for number in 0..FIGURES {
            if let Some(ends) = neighbours(&pair[0], &pair[1], gap_limit, |reading| figure(reading, number)) {
                spread(&mut cells, pair, ends, number, micros);
            }
        }
    }
    rows(cells, micros)
}

/// No fewer than the rows `resample` makes of these readings, so that too many can be refused before there are any.
pub fn most_steps(readings: &[Reading], step: Seconds, gap_limit: Seconds) -> f64 {
    // A stretch without a gap has a step more than it is long at each end, and its gap a row.
    let of = |pair: &[Reading]| match pair[1].at.since(pair[0].at) {
        time if time > gap_limit => 3.0,
        time => time / step,
    };
    2.0 + readings.windows(2).map(of).sum::<f64>()
}

/// Adds the straight line between two readings to the steps it crosses.
fn spread(cells: &mut BTreeMap<i64, Cell>, pair: &[Reading], (start, end): (f64, f64), number: usize, micros: i64) {
    let (from, to) = (pair[0].at.micros(), pair[1].at.micros());
    if to <= from {
        return;
    }
    let length = (to - from) as f64;
    let value = |at: i64| start + (end - start) * ((at - from) as f64 / length);
    let mut at = from;
    while at < to {
        let index = at / micros;
        let until = (index + 1).saturating_mul(micros).min(to);
        let seconds = (until - at) as f64 / 1e6;
        let cell = cells.entry(index).or_default();
        cell.phase = cell.phase.take().or_else(|| pair[0].phase.clone());
        cell.sums[number].0 += 0.5 * (value(at) + value(until)) * seconds;
        cell.sums[number].1 += seconds;
        at = until;
    }
}

fn rows(cells: BTreeMap<i64, Cell>, micros: i64) -> Vec<Reading> {
    let step = micros as f64 / 1e6;
    let mut rows: Vec<Reading> = Vec::with_capacity(cells.len());
    let mut previous: Option<i64> = None;
    for (index, cell) in cells {
        let mean = |number: usize| {
            let (integral, known) = cell.sums[number];
            (known >= KNOWN_SHARE * step).then(|| integral / known)
        };
        let at = |index: i64| Timestamp::from_micros(index.saturating_mul(micros));
        let Some(begin) = at(index) else { continue };
        if let Some(hole) = previous.map(|previous| previous + 1).filter(|next| *next < index).and_then(at) {
            rows.push(Reading::at(hole));
        }
        previous = Some(index);
        rows.push(Reading {
            at: begin,
            power: mean(0).map(Watts),
            utilization_pct: mean(1),
            memory_used_mib: mean(2),
            sm_clock_mhz: mean(3),
            temperature_c: mean(4),
            phase: cell.phase,
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{gap_limit, totals};

    fn resample(readings: &[Reading], step: Seconds) -> Vec<Reading> {
        super::resample(readings, step, gap_limit(readings))
    }

    fn reading(second: f64, watts: Option<f64>) -> Reading {
        Reading { power: watts.map(Watts), ..Reading::at(Timestamp::from_seconds(second).unwrap()) }
    }

    fn watts(rows: &[Reading]) -> Vec<(f64, Option<f64>)> {
        rows.iter().map(|row| (row.at.micros() as f64 / 1e6, row.power.map(|power| power.0))).collect()
    }

    #[test]
    fn means_are_weighted_by_time() {
        // A ramp from 100 W to 300 W over two seconds, read unevenly: its means do not depend on where it was read.
        let ramp = |second: f64| reading(second, Some(100.0 + 100.0 * second));
        let rows = resample(&[0.0, 0.1, 0.5, 1.7, 2.0].map(ramp), Seconds(1.0));
        let means: Vec<f64> = rows.iter().filter_map(|row| row.power.map(|power| power.0)).collect();
        assert_eq!(rows.len(), 3, "the last reading opens a step of which nothing is known");
        assert!((means[0] - 150.0).abs() < 1e-9 && (means[1] - 250.0).abs() < 1e-9, "{means:?}");
        assert_eq!(rows[2].power, None);
    }

    #[test]
    fn gaps_stay_and_partly_known_steps_need_half() {
        let known = [0.0, 0.5, 1.0, 1.6, 60.3, 61.0, 61.4].map(|second| reading(second, Some(50.0)));
        let rows = resample(&known, Seconds(1.0));
        let most = most_steps(&known, Seconds(1.0), gap_limit(&known));
        assert!(rows.len() as f64 <= most && most < 8.0, "{most}");
        let some = Some(50.0);
        assert_eq!(watts(&rows), [(0.0, some), (1.0, some), (2.0, None), (60.0, some), (61.0, None)]);
        let silent = [reading(0.0, some), reading(1.0, None), reading(2.0, some), reading(3.0, some)];
        assert_eq!(watts(&resample(&silent, Seconds(1.0))), [(0.0, None), (1.0, None), (2.0, some), (3.0, None)]);
    }

    #[test]
    fn other_figures_and_phases_come_along() {
        let mut rows = [reading(0.0, None), reading(0.5, None), reading(1.0, Some(7.0))];
        rows[0].utilization_pct = Some(0.0);
        rows[1].utilization_pct = Some(100.0);
        rows[0].phase = Some("idle".into());
        rows[1].phase = Some("load".into());
        let resampled = resample(&rows, Seconds(1.0));
        assert_eq!((resampled[0].utilization_pct, resampled[0].power), (Some(50.0), None));
        assert_eq!(resampled[0].phase.as_deref(), Some("load"));
        assert!(resample(&[], Seconds(1.0)).is_empty());
    }

    #[test]
    fn energy_of_whole_steps_is_kept() {
        let power = |k: i32| reading(0.1 * f64::from(k), Some(200.0 + 100.0 * (f64::from(k) / 7.0).sin()));
        let readings: Vec<Reading> = (0..=600).map(power).collect();
        let before = totals(&readings, Seconds(1.0)).energy.unwrap();
        let after: f64 =
            resample(&readings, Seconds(1.0)).iter().filter_map(|row| row.power).map(|power| power.0).sum();
        assert!((before.0 - after).abs() < 1e-6 * before.0, "{} {after}", before.0);
    }
}

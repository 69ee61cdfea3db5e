//! Samples at other SM clocks: apart from those the family is fitted on, then to a table of factors by phase.
//!
//! A clock's factors are two numbers for time and two for net energy: what the prefill and the decode part of the
//! family's own terms must be multiplied by to meet its samples, least squares of relative errors over all its lengths,
//! so that the noise of single cells averages out. Where all samples of a clock mix the phases alike they cannot tell
//! them apart: both get the common factor, and that of the minor phase is marked estimated.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2};

use super::observation::Observation;
use crate::domain::{ClockPoint, ClockTable, FamilyModel, Phase, PhaseFactors, Provenance, Sample, Term};
use crate::stats::nnls;

/// Clocks of a device differ by less than this factor, and so must what they cost.
const PLAUSIBLE_FACTOR: f64 = 10.0;
/// The prefill share of the samples must range over this much to tell the phases apart: noise of the measurements is
/// amplified by its inverse.
const TELLING_RANGE: f64 = 0.1;

/// The table of a family whose own coefficients hold at `default_mhz`, from samples at other clocks; `None` if none of
/// them can be used. Clocks left out are reported in `notes`.
pub fn table(
    model: &FamilyModel,
    default_mhz: Option<u32>,
    others: &[(u32, Observation)],
    notes: &mut Vec<String>,
) -> Option<ClockTable> {
    let mut by_clock: BTreeMap<u32, Vec<&Observation>> = BTreeMap::new();
    for (clock, row) in others {
        by_clock.entry(*clock).or_default().push(row);
    }
    let mut points = Vec::new();
    let mut left_out = 0;
    let mut mixed = Vec::new();
    for (sm_clock_mhz, rows) in by_clock {
        match point(model, sm_clock_mhz, &rows) {
            Some(point) => {
                if [point.prefill, point.decode].iter().any(|factors| factors.provenance == Provenance::Estimated) {
                    mixed.push(sm_clock_mhz.to_string());
                }
                points.push(point);
            }
            None => left_out += rows.len(),
        }
    }
    if left_out > 0 {
        notes.push(format!(
            "{left_out} samples at other SM clocks set aside: energy or runtime missing, below idle power, or beyond any plausible factor"
        ));
    }
    if points.is_empty() {
        return None;
    }
    if !mixed.is_empty() {
        notes.push(format!(
            "the samples do not tell prefill from decode at {} MHz: one factor for both",
            mixed.join(", ")
        ));
    }
    if let Some(sm_clock_mhz) = default_mhz {
        let same = PhaseFactors { net_energy: 1.0, time: 1.0, provenance: Provenance::Measured };
        let batch_size = model.support.batch_size?;
        points.push(ClockPoint { sm_clock_mhz, prefill: same, decode: same, batch_size });
        points.sort_by_key(|point| point.sm_clock_mhz);
    }
    Some(ClockTable { default_mhz, points })
}

/// Rows at the default clock, power limit and SM share (none stated, or the largest), and those at another clock alone.
/// The others are counted.
pub fn default_operating_point<'a>(
    samples: &[&'a Sample],
    notes: &mut Vec<String>,
) -> (Vec<&'a Sample>, Vec<&'a Sample>) {
    type Setting = fn(&Sample) -> Option<f64>;
    let split = |samples: Vec<&'a Sample>, pick: Setting| -> (Vec<&'a Sample>, Vec<&'a Sample>) {
        let unstated = samples.iter().any(|sample| pick(sample).is_none());
        let largest = samples.iter().filter_map(|sample| pick(sample)).fold(0.0, f64::max);
        samples.into_iter().partition(|sample| match pick(sample) {
            None => true,
            Some(value) => !unstated && value >= largest * 0.999,
        })
    };
    let mut kept = samples.to_vec();
    let settings: [(&str, Setting); 2] =
        [("power limits", |sample| sample.power_limit.map(|limit| limit.0)), ("SM shares", |sample| sample.sm_share)];
    for (name, pick) in settings {
        let others;
        (kept, others) = split(kept, pick);
        if !others.is_empty() {
            notes.push(format!("{} samples at other {name} set aside", others.len()));
        }
    }
    split(kept, |sample| sample.sm_clock_mhz.map(f64::from))
}

/// A sample beside what the family's terms say of it at the default clock.
struct Row<'a> {
    measured: &'a Observation,
    /// Seconds of prefill and decode.
    seconds: [f64; 2],
    /// Joules above idle power of prefill and decode.
    net: [f64; 2],
}

impl Row<'_> {
    fn prefill_share(&self) -> f64 {
        self.seconds[0] / (self.seconds[0] + self.seconds[1])
    }
}

fn point(model: &FamilyModel, sm_clock_mhz: u32, rows: &[&Observation]) -> Option<ClockPoint> {
    let idle = model.idle_power.value.0;
    let rows: Vec<Row<'_>> = rows
        .iter()
        .filter(|row| row.energy.is_some() && row.runtime.is_some())
        .filter_map(|row| {
            let part = |terms: &[Term], phase| {
                let of_phase = terms.iter().filter(|term| Phase::of(&term.feature) == phase);
                of_phase
                    .map(|term| Some(term.value * term.feature.expected(&row.tokens, row.batch)?))
                    .sum::<Option<f64>>()
            };
            let parts = |terms| Some([part(terms, Phase::Prefill)?, part(terms, Phase::Decode)?]);
            let (energy, seconds): ([f64; 2], [f64; 2]) = (parts(&model.energy)?, parts(&model.runtime)?);
            Some(Row { measured: row, seconds, net: [0, 1].map(|k| energy[k] - idle * seconds[k]) })
        })
        .collect();
    let shares: Vec<f64> = rows.iter().map(Row::prefill_share).collect();
    let (least, most) = shares.iter().fold((f64::INFINITY, 0.0f64), |(low, high), &s| (low.min(s), high.max(s)));
    let both = most - least >= TELLING_RANGE;
    let (factors, told) = both
        .then(|| factors(&rows, idle, true))
        .flatten()
        .map(|factors| (factors, true))
        .or_else(|| Some((factors(&rows, idle, false)?, false)))?;
    let measured = rows.iter().map(|row| row.measured.provenance).fold(Provenance::Measured, Provenance::weaker);
    let minor = usize::from(least + most >= 1.0);
    let of_phase = |k: usize| {
        let provenance = if told || k != minor { measured } else { measured.weaker(Provenance::Estimated) };
        PhaseFactors { time: factors[k].0, net_energy: factors[k].1, provenance }
    };
    let batches = rows.iter().map(|row| row.measured.batch);
    let batch_size = batches.fold((f64::INFINITY, 0.0f64), |(low, high), batch| (low.min(batch), high.max(batch)));
    Some(ClockPoint { sm_clock_mhz, prefill: of_phase(0), decode: of_phase(1), batch_size })
}

/// (time, net energy) of prefill and decode; one for both unless `apart`. `None` if one is not plausible.
fn factors(rows: &[Row<'_>], idle: f64, apart: bool) -> Option<[(f64, f64); 2]> {
    let time = relative_fit(rows, apart, |row| Some((row.seconds, row.measured.runtime?, 0.0)))?;
    let net_energy = relative_fit(rows, apart, |row| {
        let standing = idle * (time[0] * row.seconds[0] + time[1] * row.seconds[1]);
        Some((row.net, row.measured.energy?, standing))
    })?;
    Some([(time[0], net_energy[0]), (time[1], net_energy[1])])
}

/// f with f0 * parts0 + f1 * parts1 + known = total, every row divided by its total.
fn relative_fit(
    rows: &[Row<'_>],
    apart: bool,
    pick: impl Fn(&Row<'_>) -> Option<([f64; 2], f64, f64)>,
) -> Option<[f64; 2]> {
    let mut equations = Vec::new();
    let mut targets = Vec::new();
    for row in rows {
        let (parts, total, known) = pick(row)?;
        if apart {
            equations.extend(parts.map(|part| part / total));
        } else {
            equations.push((parts[0] + parts[1]) / total);
        }
        targets.push(1.0 - known / total);
    }
    let width = if apart { 2 } else { 1 };
    let matrix = Array2::from_shape_vec((targets.len(), width), equations).ok()?;
    let solution = nnls(&matrix, &Array1::from(targets));
    let found = [solution[0], solution[width - 1]];
    found.iter().all(|factor| is_plausible(*factor)).then_some(found)
}

/// Whether devices may differ by this factor from what is known of them.
pub fn is_plausible(factor: f64) -> bool {
    (1.0 / PLAUSIBLE_FACTOR..=PLAUSIBLE_FACTOR).contains(&factor)
}

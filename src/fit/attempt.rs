//! A fit of our own form to the rows of a family: what is known before (idle power, power limits, hardware estimates), the
//! form chosen, its coefficients, and what a reader should know about them. `fit_family` may need more than one.

use super::hardware::{EstimatedTerm, Machine};
use super::observation::Observation;
use super::phase::{PhaseFit, PowerLimits, Spec};
use super::quality::{self, FittedTarget, OutOfFold};
use super::select::{self, CrossValidated, Identified, Setting};
use super::unmetered::Energies;
use super::{Settings, uncertainty};
use crate::domain::{Figure, Provenance, Sample};
use crate::stats::mean;
use crate::units::Watts;

/// Boards and their meters exceed the TDP by a few percent.
pub const POWER_TOLERANCE: f64 = 1.05;
/// Idle power as a share of the least power seen, where nothing is known.
const IDLE_OF_LEAST_POWER: f64 = 0.5;

/// A sample with what the regressions see of it.
pub type Pair<'a> = (&'a Sample, Observation);

/// A fit of our own form to some rows.
pub struct Attempt {
    pub fit: PhaseFit,
    spec: Spec,
    limits: PowerLimits,
    /// Energy and runtime of rows left out; absent where rows are too few.
    out_of_fold: Option<(OutOfFold, OutOfFold)>,
    pub idle: Figure<Watts>,
    notes: Vec<String>,
}

impl Attempt {
    pub fn new(pairs: &[Pair<'_>], kv_cache: bool, machine: &Machine<'_>, settings: &Settings) -> Result<Self, String> {
        const UNFIT: &str = "its samples are too few, or too little is known of their lengths, to fit any form";
        let rows: Vec<&Observation> = pairs.iter().map(|(_, row)| row).collect();
        let mut notes = Vec::new();
        let idle = idle_power(&rows, machine, &mut notes);
        let limits = power_limits(&rows, idle.value, machine, &mut notes);
        let estimated = estimated_terms(&rows, kv_cache, machine, limits);
        let setting = Setting { estimated: &estimated, limits, folds: settings.folds, seed: settings.seed };
        let spec = select::best(&rows, kv_cache, setting).ok_or(UNFIT)?;
        let fit = PhaseFit::new(&rows, &estimated, limits, &spec).ok_or(UNFIT)?;
        let validated = CrossValidated::new(&rows, &spec, setting, &select::quality_folds(rows.len(), setting));
        Ok(Self { fit, spec, limits, out_of_fold: validated.into_parts(), idle, notes })
    }

    /// Energy and runtime, with what their coefficients and predictions are worth.
    pub fn judged(self, rows: &[&Observation], provenance: Provenance, seed: u64) -> (FittedTarget, FittedTarget) {
        let Self { fit, spec, limits, out_of_fold, .. } = self;
        let (mut energy, mut runtime) = fit.terms(provenance);
        uncertainty::Fit { rows, fit: &fit, spec: &spec, limits }.judge(&mut energy, &mut runtime, seed);
        // As fitted: a row whose prompt is unknown counts, without the estimated prefill that nothing was taken off for.
        let (of_energy, of_runtime) =
            (|row: &Observation| Some(fit.predict(row)?.0), |row: &Observation| Some(fit.predict(row)?.1));
        let (energy_left_out, runtime_left_out) = out_of_fold.unzip();
        let energy_quality = quality::quality(rows, |row| row.energy, of_energy, energy_left_out.as_ref());
        let runtime_quality = quality::quality(rows, |row| row.runtime, of_runtime, runtime_left_out.as_ref());
        (
            FittedTarget { terms: energy, quality: energy_quality, out_of_fold: energy_left_out },
            FittedTarget { terms: runtime, quality: runtime_quality, out_of_fold: runtime_left_out },
        )
    }

    /// Larger of the mean relative errors of energy and runtime on the fitted rows.
    pub fn disagreement(&self, pairs: &[Pair<'_>]) -> f64 {
        let error = |target: fn(&Observation) -> Option<f64>, pick: fn((f64, f64)) -> f64| {
            let errors: Vec<f64> = pairs
                .iter()
                .filter_map(|(_, row)| Some((pick(self.fit.predict(row)?) / target(row)? - 1.0).abs()))
                .collect();
            mean(&errors).unwrap_or(0.0)
        };
        error(|row| row.energy, |(energy, _)| energy).max(error(|row| row.runtime, |(_, runtime)| runtime))
    }

    pub fn remark(
        &self,
        rows: &[&Observation],
        machine: &Machine<'_>,
        kv_cache: bool,
        energies: Energies,
        notes: &mut Vec<String>,
    ) {
        // All of them are of power.
        if !energies.are_missing() {
            notes.extend(self.notes.iter().cloned());
        }
        if self.fit.estimated_scale < 1.0 {
            notes.push(format!(
                "hardware estimates scaled to {:.0} %: they exceeded half of a measurement",
                self.fit.estimated_scale * 100.0
            ));
        }
        let assumed = rows.iter().find(|row| row.input_assumed);
        if let Some(row) = assumed {
            notes.push(format!(
                "input lengths unknown; the mean prompt of {} is assumed and its prefill taken off",
                row.data_set
            ));
        }
        let unknown = rows.iter().filter(|row| row.tokens.input.is_none()).count();
        if unknown > 0 {
            notes.push(format!("{unknown} samples with unknown input lengths: no prefill could be taken off"));
        }
        if rows.iter().any(|row| row.spread_assumed) {
            notes.push("spread of output lengths unknown, taken as exponential".into());
        }
        if kv_cache && !Identified::new(rows).input && self.fit.estimated.is_empty() {
            let missing = if machine.device.is_none() { "device table entry" } else { "architecture in engines.toml" };
            notes.push(format!("the cost of input tokens is unknown: not in the samples, and no {missing}"));
        }
    }
}

/// What the samples cannot identify and hardware figures can. Without a KV cache the context is recomputed at every
/// step and nothing is added.
pub fn estimated_terms(
    rows: &[&Observation],
    kv_cache: bool,
    machine: &Machine<'_>,
    limits: PowerLimits,
) -> Vec<EstimatedTerm> {
    let identified = Identified::new(rows);
    let mut terms = Vec::new();
    if !kv_cache {
        return terms;
    }
    if !identified.context {
        let powers: Vec<f64> = rows.iter().filter_map(|row| row.power()).collect();
        let power = mean(&powers).unwrap_or(limits.limit).clamp(limits.idle, limits.limit);
        terms.extend(machine.context_read(power));
    }
    if !identified.input {
        terms.extend(machine.prefill().into_iter().flatten());
    }
    terms
}

/// Mean of the samples' own figures, else the device table's, else half of the least power seen; the last two estimated.
/// Missing where no power was seen either.
pub fn idle_power(rows: &[&Observation], machine: &Machine<'_>, notes: &mut Vec<String>) -> Figure<Watts> {
    let own: Vec<f64> = rows.iter().filter_map(|row| row.idle_power).collect();
    if let Some(watts) = mean(&own) {
        let provenance = rows.iter().map(|row| row.provenance).fold(Provenance::Measured, Provenance::weaker);
        return Figure::new(Watts(watts), provenance);
    }
    machine.idle_power().unwrap_or_else(|| {
        let Some(least) = rows.iter().filter_map(|row| row.power()).reduce(f64::min) else {
            return Figure::new(Watts::ZERO, Provenance::Missing);
        };
        notes.push("idle power unknown: taken as half of the least power seen".into());
        Figure::estimated(Watts(IDLE_OF_LEAST_POWER * least))
    })
}

/// TDP or the most seen, whichever is larger, with a tolerance. Idle power above a measured mean is reported.
pub fn power_limits(rows: &[&Observation], idle: Watts, machine: &Machine<'_>, notes: &mut Vec<String>) -> PowerLimits {
    let powers: Vec<f64> = rows.iter().filter_map(|row| row.power()).collect();
    let most = powers.iter().copied().fold(0.0, f64::max);
    let below_idle = powers.iter().filter(|power| **power < idle.0).count();
    if below_idle > 0 {
        notes.push(format!("{below_idle} samples draw less than idle power ({:.0} W): check both", idle.0));
    }
    let above = machine.tdp().map_or(0, |tdp| powers.iter().filter(|power| **power > tdp.0 * POWER_TOLERANCE).count());
    if above > 0 {
        notes.push(format!("{above} samples draw more than the devices' TDP"));
    }
    let limit = machine.tdp().map_or(most, |tdp| tdp.0.max(most)) * POWER_TOLERANCE;
    PowerLimits { idle: idle.0, limit: limit.max(idle.0 * POWER_TOLERANCE) }
}

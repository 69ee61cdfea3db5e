//! Samples to models: energy and busy time per request of every family, with what they rest on.
//!
//! `fit` groups samples by family, decides which features they can tell apart, takes from hardware figures what they
//! cannot (`hardware`), fits the rest under physical limits (`phase`, `joint`, `curve`), chooses the form by cross-validation
//! (`select`) and states how good it is (`quality`). Trials that do not belong are listed and not used (`outliers`). `bilinear` is the published form, for comparison; `evaluate` tests
//! models on samples they have not seen. Clocks and SM shares other than the default are set aside here.

pub mod bilinear;
pub mod curve;
pub mod evaluate;
pub mod hardware;
pub mod joint;
pub mod observation;
pub mod outliers;
pub mod phase;
pub mod quality;
pub mod select;

use std::collections::BTreeMap;

use rayon::prelude::*;

use self::hardware::{EstimatedTerm, Machine};
use self::observation::Observation;
use self::outliers::Outlier;
use self::phase::{PhaseFit, PowerLimits};
use self::select::{CrossValidated, Identified, Setting};
use crate::domain::{
    DataSetPrompts, DeviceKind, DeviceType, Engine, FamilyKey, FamilyModel, Figure, Form, Provenance, Quality, Sample,
    Term,
};
use crate::stats::mean;
use crate::units::Watts;

pub use evaluate::{Evaluation, GroupError, evaluate};

/// Boards and their meters exceed the TDP by a few percent.
const POWER_TOLERANCE: f64 = 1.05;
/// Idle power as a share of the least power seen, where nothing is known.
const IDLE_OF_LEAST_POWER: f64 = 0.5;
/// Data sets of one family that disagree by more than this are not fitted together.
const DISAGREEMENT: f64 = 0.10;

/// Published figures that estimates rest on.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub engines: &'a [Engine],
    pub devices: &'a [DeviceType],
    pub data_sets: &'a [DataSetPrompts],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormChoice {
    /// The best of our own forms by cross-validation; the same as `Phase`.
    Auto,
    Phase,
    Bilinear,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub form: FormChoice,
    /// Folds of the cross-validation; families of fewer than ten samples leave out one at a time.
    pub folds: usize,
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { form: FormChoice::Auto, folds: 5, seed: 1 }
    }
}

/// A fitted family with what a reader should know about it.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedFamily {
    pub model: FamilyModel,
    /// Scores of the published bilinear form on the same samples: energy and runtime, where lengths allow it.
    pub bilinear: Option<(Quality, Quality)>,
    /// Trials that were not used.
    pub outliers: Vec<Outlier>,
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct FitReport {
    /// In order of their keys.
    pub families: Vec<FittedFamily>,
    /// Families that could not be fitted, and why.
    pub unfitted: Vec<(FamilyKey, String)>,
    pub samples: usize,
    /// Warm-up rows, which no fit uses.
    pub warmups: usize,
}

impl FitReport {
    pub fn models(&self) -> Vec<FamilyModel> {
        self.families.iter().map(|family| family.model.clone()).collect()
    }
}

/// Fits one model per family.
pub fn fit(samples: &[Sample], context: &Context<'_>, settings: &Settings) -> FitReport {
    let mut families: BTreeMap<FamilyKey, Vec<&Sample>> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| !sample.warmup) {
        families.entry(sample.family()).or_default().push(sample);
    }
    let fitted: Vec<(FamilyKey, Result<FittedFamily, String>)> = families
        .into_par_iter()
        .map(|(key, rows)| {
            let result = fit_family(&key, &rows, samples, context, settings);
            (key, result)
        })
        .collect();
    let mut report = FitReport {
        samples: samples.len(),
        warmups: samples.iter().filter(|sample| sample.warmup).count(),
        ..FitReport::default()
    };
    for (key, result) in fitted {
        match result {
            Ok(family) => report.families.push(family),
            Err(why) => report.unfitted.push((key, why)),
        }
    }
    report
}

fn fit_family(
    key: &FamilyKey,
    samples: &[&Sample],
    all: &[Sample],
    context: &Context<'_>,
    settings: &Settings,
) -> Result<FittedFamily, String> {
    let mut notes = Vec::new();
    let samples = default_operating_point(samples, &mut notes);
    let machine = Machine {
        device: context.devices.iter().find(|device| is_named(device, &key.device)),
        engine: engine_of(context.engines, key),
        precision: &key.precision,
        devices: key.devices,
    };
    // The energy of a GPU family is that of its GPUs; a host's alone is another scope.
    let is_gpu = machine.device.is_some_and(|device| device.kind == DeviceKind::Gpu);
    let mut pairs: Vec<Pair<'_>> = samples
        .iter()
        .filter(|sample| !is_gpu || sample.gpu_energy.is_some() || sample.cpu_energy.is_none())
        .filter_map(|sample| Some((*sample, Observation::new(sample, context.data_sets)?)))
        .collect();
    if pairs.iter().all(|(_, row)| row.energy.is_none()) {
        return Err("no sample has an energy of its devices".into());
    }
    if pairs.iter().all(|(_, row)| row.runtime.is_none()) {
        return Err("no sample has a runtime".into());
    }
    if pairs.len() < samples.len() {
        notes.push(format!("{} samples without energy, runtime or batch left out", samples.len() - pairs.len()));
    }
    let mut outliers = outliers::take(&mut pairs, all, key.kv_cache, |rows| {
        let mut said_later = Vec::new();
        let idle = idle_power(rows, &machine, &mut said_later).value;
        let limits = power_limits(rows, idle, &machine, &mut said_later);
        (estimated_terms(rows, key.kv_cache, &machine, limits), limits)
    });
    let mut attempt = Attempt::new(&pairs, key.kv_cache, &machine, settings)?;
    if let Some(main) = main_data_set(&pairs) {
        let worst = attempt.disagreement(&pairs);
        if worst > DISAGREEMENT {
            let before = pairs.len();
            pairs.retain(|(_, row)| row.data_set == main);
            outliers.retain(|outlier| all.get(outlier.sample).is_some_and(|s| s.data_set.as_deref() == Some(&*main)));
            attempt = Attempt::new(&pairs, key.kv_cache, &machine, settings)?;
            notes.push(format!(
                "its data sets disagree by {:.0} % in one model; only {main} is fitted, {} samples are set aside",
                worst * 100.0,
                before - pairs.len()
            ));
        }
    }
    if !outliers.is_empty() {
        notes.push(format!("{} of its trials far from the others, not used", outliers.len()));
    }
    let rows: Vec<&Observation> = pairs.iter().map(|(_, row)| row).collect();
    attempt.remark(&rows, &machine, key.kv_cache, &mut notes);
    let idle = attempt.idle;

    let provenance = rows.iter().map(|row| row.provenance).fold(Provenance::Measured, Provenance::weaker);
    let bilinear = bilinear_model(&rows, provenance, settings);
    let (form, energy, runtime, energy_quality, runtime_quality) = match (&bilinear, settings.form) {
        (Some(published), FormChoice::Bilinear) => {
            let Published { energy, runtime, energy_quality, runtime_quality } = published.clone();
            (Form::Bilinear, energy, runtime, energy_quality, runtime_quality)
        }
        (None, FormChoice::Bilinear) => {
            return Err("the bilinear form needs three or more recorded, varying lengths".into());
        }
        (_, FormChoice::Auto | FormChoice::Phase) => {
            let (energy, runtime) = attempt.fit.terms(provenance);
            // As fitted: a row whose prompt is unknown counts, without the estimated prefill that nothing was taken off for.
            let predict = |row: &Observation| attempt.fit.predict(row);
            let (of_energy, of_runtime) = (|row: &_| Some(predict(row)?.0), |row: &_| Some(predict(row)?.1));
            let energy_quality = quality::quality(&rows, |row| row.energy, of_energy, attempt.energy_cv);
            let runtime_quality = quality::quality(&rows, |row| row.runtime, of_runtime, attempt.runtime_cv);
            (Form::Phase, energy, runtime, energy_quality, runtime_quality)
        }
    };
    let used: Vec<&Sample> = pairs.iter().map(|(sample, _)| *sample).collect();
    let model = FamilyModel {
        key: key.clone(),
        form,
        energy,
        runtime,
        energy_quality,
        runtime_quality,
        support: quality::support(&rows),
        batch_points: quality::batch_points(&used),
        idle_power: idle,
        load_time: machine.load_time(),
        load_power: machine.load_power(idle.value),
        weights: machine.weights(),
        kv_bytes_per_token: machine.kv_bytes_per_token(),
    };
    Ok(FittedFamily { model, bilinear: bilinear.map(|b| (b.energy_quality, b.runtime_quality)), outliers, notes })
}

/// A sample with what the regressions see of it.
type Pair<'a> = (&'a Sample, Observation);

/// A fit of our own form to some rows.
struct Attempt {
    fit: PhaseFit,
    energy_cv: Option<f64>,
    runtime_cv: Option<f64>,
    idle: Figure<Watts>,
    notes: Vec<String>,
}

impl Attempt {
    fn new(pairs: &[Pair<'_>], kv_cache: bool, machine: &Machine<'_>, settings: &Settings) -> Result<Self, String> {
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
        Ok(Self { fit, energy_cv: validated.energy_mape(), runtime_cv: validated.runtime_mape(), idle, notes })
    }

    /// Larger of the mean relative errors of energy and runtime on the fitted rows.
    fn disagreement(&self, pairs: &[Pair<'_>]) -> f64 {
        let error = |target: fn(&Observation) -> Option<f64>, pick: fn((f64, f64)) -> f64| {
            let errors: Vec<f64> = pairs
                .iter()
                .filter_map(|(_, row)| Some((pick(self.fit.predict(row)?) / target(row)? - 1.0).abs()))
                .collect();
            mean(&errors).unwrap_or(0.0)
        };
        error(|row| row.energy, |(energy, _)| energy).max(error(|row| row.runtime, |(_, runtime)| runtime))
    }

    fn remark(&self, rows: &[&Observation], machine: &Machine<'_>, kv_cache: bool, notes: &mut Vec<String>) {
        notes.extend(self.notes.iter().cloned());
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
fn estimated_terms(
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

/// Rows at the default clock, power limit and SM share: none stated, or the largest. The others are counted.
fn default_operating_point<'a>(samples: &[&'a Sample], notes: &mut Vec<String>) -> Vec<&'a Sample> {
    let mut kept = samples.to_vec();
    type Setting = fn(&Sample) -> Option<f64>;
    let settings: [(&str, Setting); 3] = [
        ("SM clocks", |sample| sample.sm_clock_mhz.map(f64::from)),
        ("power limits", |sample| sample.power_limit.map(|limit| limit.0)),
        ("SM shares", |sample| sample.sm_share),
    ];
    for (name, pick) in settings {
        let before = kept.len();
        if kept.iter().any(|sample| pick(sample).is_none()) {
            kept.retain(|sample| pick(sample).is_none());
        } else {
            let largest = kept.iter().filter_map(|sample| pick(sample)).fold(0.0, f64::max);
            kept.retain(|sample| pick(sample).is_some_and(|value| value >= largest * 0.999));
        }
        if kept.len() < before {
            notes.push(format!("{} samples at other {name} set aside", before - kept.len()));
        }
    }
    kept
}

/// Mean of the samples' own figures, else the device table's, else half of the least power seen; the last two estimated.
fn idle_power(rows: &[&Observation], machine: &Machine<'_>, notes: &mut Vec<String>) -> Figure<Watts> {
    let own: Vec<f64> = rows.iter().filter_map(|row| row.idle_power).collect();
    if let Some(watts) = mean(&own) {
        let provenance = rows.iter().map(|row| row.provenance).fold(Provenance::Measured, Provenance::weaker);
        return Figure::new(Watts(watts), provenance);
    }
    machine.idle_power().unwrap_or_else(|| {
        let least = rows.iter().filter_map(|row| row.power()).fold(f64::INFINITY, f64::min);
        notes.push("idle power unknown: taken as half of the least power seen".into());
        Figure::estimated(Watts(if least.is_finite() { IDLE_OF_LEAST_POWER * least } else { 0.0 }))
    })
}

/// TDP or the most seen, whichever is larger, with a tolerance. Idle power above a measured mean is reported.
fn power_limits(rows: &[&Observation], idle: Watts, machine: &Machine<'_>, notes: &mut Vec<String>) -> PowerLimits {
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

/// The data set with the most rows, if there are several.
fn main_data_set(pairs: &[Pair<'_>]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, row) in pairs {
        *counts.entry(&row.data_set).or_default() += 1;
    }
    if counts.len() < 2 {
        return None;
    }
    // The first name of the most frequent ones.
    counts.iter().rev().max_by_key(|(_, count)| **count).map(|(name, _)| (*name).to_owned())
}

#[derive(Clone)]
struct Published {
    energy: Vec<Term>,
    runtime: Vec<Term>,
    energy_quality: Quality,
    runtime_quality: Quality,
}

fn bilinear_model(rows: &[&Observation], provenance: Provenance, settings: &Settings) -> Option<Published> {
    let energy = bilinear::fit(rows, |row| row.energy, provenance).ok()?;
    let runtime = bilinear::fit(rows, |row| row.runtime, provenance).ok()?;
    let cv = |target: fn(&Observation) -> Option<f64>| bilinear::cv_mape(rows, target, settings.folds, settings.seed);
    let (of_energy, of_runtime) = (|row: &_| quality::predict(&energy, row), |row: &_| quality::predict(&runtime, row));
    Some(Published {
        energy_quality: quality::quality(rows, |row| row.energy, of_energy, cv(|row| row.energy)),
        runtime_quality: quality::quality(rows, |row| row.runtime, of_runtime, cv(|row| row.runtime)),
        energy,
        runtime,
    })
}

fn is_named(device: &DeviceType, name: &str) -> bool {
    std::iter::once(&device.name).chain(&device.aliases).any(|known| known.eq_ignore_ascii_case(name.trim()))
}

/// The entry of this model and precision, else of this model: its architecture is the same.
fn engine_of<'a>(engines: &'a [Engine], key: &FamilyKey) -> Option<&'a Engine> {
    let of_model = || engines.iter().filter(|engine| engine.model == key.model);
    of_model().find(|engine| engine.precision == key.precision).or_else(|| of_model().next())
}

#[cfg(test)]
mod tests;

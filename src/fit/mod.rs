//! Samples to models: energy and busy time per request of every family, with what they rest on.
//!
//! `fit` groups samples by family, decides which features they can tell apart, takes from hardware figures what they
//! cannot (`hardware`), fits the rest under physical limits (`phase`, `joint`, `curve`), chooses the form by
//! cross-validation (`select`) and states how good it is (`quality`). Trials that do not belong are listed and not used
//! (`outliers`), and families without energies are fitted in time (`unmetered`). `bilinear` is the published form, for
//! comparison; `evaluate` tests models on samples they have not seen, and `update` corrects them by runs. `clock` tabulates
//! other SM clocks; other power limits and SM shares are set aside here.

mod attempt;
pub mod bilinear;
pub mod cells;
pub mod clock;
pub mod cross_validate;
pub mod curve;
pub mod evaluate;
pub mod hardware;
pub mod joint;
pub mod observation;
pub mod outliers;
pub mod phase;
pub mod quality;
pub mod select;
pub mod suggest;
pub mod transfer;
pub mod uncertainty;
mod unmetered;
pub mod update;

use std::collections::BTreeMap;

use rayon::prelude::*;

use self::attempt::{Attempt, Pair, estimated_terms, idle_power, power_limits};
use self::bilinear::Published;
use self::cells::Cell;
use self::hardware::Machine;
use self::observation::Observation;
use self::outliers::Outlier;
use self::unmetered::Energies;
use crate::domain::{
    DataSetPrompts, DeviceKind, DeviceType, Engine, FamilyKey, FamilyModel, Feature, Form, Provenance, Sample, Term,
};
use crate::units::Watts;

pub use evaluate::{Evaluation, GroupError, evaluate};

/// Data sets of one family that disagree by more than this are not fitted together.
const DISAGREEMENT: f64 = 0.10;

/// Published figures that estimates rest on.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub engines: &'a [Engine],
    pub devices: &'a [DeviceType],
    pub data_sets: &'a [DataSetPrompts],
    /// Power of one device while it serves, as the user states it for device types that nothing meters.
    pub assumed_power: &'a [(String, Watts)],
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
    /// The published bilinear form on the same samples, where lengths allow it.
    pub bilinear: Option<Published>,
    /// Every sample used beside its prediction, in the order given.
    pub cells: Vec<Cell>,
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
    let (samples, other_clocks) = clock::default_operating_point(samples, &mut notes);
    let machine = Machine {
        device: context.devices.iter().find(|device| device.is_named(&key.device)),
        engine: engine_of(context.engines, key),
        precision: &key.precision,
        devices: key.devices,
    };
    let in_scope = |sample: &Sample| of_its_devices(sample, key, context.devices);
    let mut pairs: Vec<Pair<'_>> = samples
        .iter()
        .filter(|sample| in_scope(sample))
        .filter_map(|sample| Some((*sample, Observation::new(sample, context.data_sets)?)))
        .collect();
    if pairs.iter().all(|(_, row)| row.runtime.is_none()) {
        return Err("no sample has a runtime".into());
    }
    if pairs.len() < samples.len() {
        notes.push(format!("{} samples without energy, runtime or batch left out", samples.len() - pairs.len()));
    }
    let energies = Energies::of(&mut pairs, key, &machine, context.assumed_power, &mut notes);
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
            outliers.retain(|outlier| {
                all.get(outlier.sample).is_some_and(|s| s.data_set.as_deref().unwrap_or_default() == main)
            });
            attempt = Attempt::new(&pairs, key.kv_cache, &machine, settings)?;
            notes.push(format!(
                "its data sets disagree by {:.0} % in one model; only {main} is fitted, {} samples are set aside",
                worst * 100.0,
                before - pairs.len()
            ));
        }
    }
    energies.own_up_outliers(&mut outliers);
    if !outliers.is_empty() {
        let list: Vec<String> = outliers.iter().map(Outlier::to_string).collect();
        notes.push(format!(
            "far from the other trials and not used (samples numbered from 1 through all files, headers not counted): {}",
            list.join("; ")
        ));
    }
    let rows: Vec<&Observation> = pairs.iter().map(|(_, row)| row).collect();
    attempt.remark(&rows, &machine, key.kv_cache, energies, &mut notes);
    let idle = energies.idle_power(attempt.idle);

    let provenance = rows.iter().map(|row| row.provenance).fold(Provenance::Measured, Provenance::weaker);
    let bilinear = Published::new(&rows, provenance, settings.folds, settings.seed);
    let (form, mut energy, mut runtime) = match (&bilinear, settings.form) {
        (Some(published), FormChoice::Bilinear) => {
            (Form::Bilinear, published.energy.fitted.clone(), published.runtime.fitted.clone())
        }
        (None, FormChoice::Bilinear) => {
            return Err("the bilinear form needs three or more recorded, varying lengths".into());
        }
        (_, FormChoice::Auto | FormChoice::Phase) => {
            let (mut energy, mut runtime) = attempt.judged(&rows, provenance, settings.seed);
            if let Some(range) = estimate_range(&rows, context.data_sets) {
                widen(&mut energy.terms, &mut runtime.terms, range, idle.value);
            }
            (Form::Phase, energy, runtime)
        }
    };
    energies.own_up(&mut energy, &mut runtime);
    let used: Vec<&Sample> = pairs.iter().map(|(sample, _)| *sample).collect();
    let mut model = FamilyModel {
        key: key.clone(),
        form,
        energy: energy.terms,
        runtime: runtime.terms,
        energy_quality: energy.quality,
        runtime_quality: runtime.quality,
        support: quality::support(&rows),
        batch_points: quality::batch_points(&used),
        clocks: None,
        idle_power: idle,
        load_time: machine.load_time(),
        load_power: machine.load_power(idle),
        weights: machine.weights(),
        kv_bytes_per_token: machine.kv_bytes_per_token(),
        correction: None,
    };
    let others: Vec<(u32, Observation)> = other_clocks
        .iter()
        .filter(|sample| in_scope(sample))
        .filter_map(|sample| Some((sample.sm_clock_mhz?, Observation::new(sample, context.data_sets)?)))
        .filter(|(_, other)| rows.iter().any(|row| row.data_set == other.data_set))
        .collect();
    if others.len() < other_clocks.len() {
        notes.push(format!(
            "{} samples at other SM clocks set aside: without energy and runtime, or not of the data sets fitted",
            other_clocks.len() - others.len()
        ));
    }
    if model.form == Form::Phase && energies == Energies::Metered {
        let default_mhz = used.iter().filter_map(|sample| sample.sm_clock_mhz).max();
        model.clocks = clock::table(&model, default_mhz, &others, &mut notes);
    } else if !others.is_empty() {
        // The published form may be negative in a phase, so it has no factors.
        notes.push(format!(
            "{} samples at other SM clocks set aside: only the phase form has a clock table, and of measured energies",
            others.len()
        ));
    }
    let cells = cells::cells(&rows, energy.out_of_fold.as_ref(), runtime.out_of_fold.as_ref());
    let bilinear = bilinear.filter(|_| energies == Energies::Metered);
    Ok(FittedFamily { model, bilinear, cells, outliers, notes })
}

/// How far off rows may be that are estimates themselves: the widest that the table states for their data sets.
fn estimate_range(rows: &[&Observation], data_sets: &[DataSetPrompts]) -> Option<(f64, f64)> {
    rows.iter()
        .filter(|row| row.provenance == Provenance::Estimated)
        .filter_map(|row| DataSetPrompts::find(data_sets, &row.data_set)?.estimate_range)
        .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

/// Gives fitted coefficients the range of the rows they come from; those from hardware figures have their own. Plans charge
/// idle power apart, so that not even the low end of an energy may fall below it.
fn widen(energy: &mut [Term], runtime: &mut [Term], (low, high): (f64, f64), idle: Watts) {
    for (energy, runtime) in energy.iter_mut().zip(runtime).filter(|(energy, _)| energy.low == energy.high) {
        let least = idle.0 * most_seconds_a_joule(energy, runtime);
        (energy.low, energy.high) = (energy.value * low.max(least).min(1.0), energy.value * high);
        (runtime.low, runtime.high) = (runtime.value * low, runtime.value * high);
    }
}

/// Of two terms of one feature; the most over its batches where it is a table.
fn most_seconds_a_joule(energy: &Term, runtime: &Term) -> f64 {
    let ratio = |seconds: f64, joules: f64| if joules > 0.0 { seconds / joules } else { 0.0 };
    let own = ratio(runtime.value, energy.value);
    match (&energy.feature, &runtime.feature) {
        (Feature::OutputAtBatch(joules), Feature::OutputAtBatch(seconds)) => {
            let points = seconds.points.iter().map(|&(batch, seconds)| ratio(seconds, joules.at(batch)));
            own * points.fold(0.0, f64::max)
        }
        _ => own,
    }
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

/// The energy of a GPU family is that of its GPUs; a host's alone is another scope.
fn of_its_devices(sample: &Sample, key: &FamilyKey, devices: &[DeviceType]) -> bool {
    let is_gpu = devices.iter().any(|device| device.kind == DeviceKind::Gpu && device.is_named(&key.device));
    !is_gpu || sample.gpu_energy.is_some() || sample.cpu_energy.is_none()
}

/// The entry of this model and precision, else of this model: its architecture is the same.
fn engine_of<'a>(engines: &'a [Engine], key: &FamilyKey) -> Option<&'a Engine> {
    let of_model = || engines.iter().filter(|engine| engine.model == key.model);
    of_model().find(|engine| engine.precision == key.precision).or_else(|| of_model().next())
}

#[cfg(test)]
mod tests;

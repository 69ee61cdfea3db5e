//! Errors on what a fit has not seen: single samples, whole batches, whole families.
//!
//! Folds of samples say how a model interpolates among lengths and batches that were measured (`fit` computes them for
//! every family). A batch left out says how it does between measured batches, a family left out how far estimates of
//! unmeasured families may be trusted.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::transfer::interval::Unknown;
use super::transfer::leave_out::{HeldBack, Prediction, leave_family_out};
use super::{Context, FitReport, Settings, evaluate, fit};
use crate::domain::{FamilyKey, Sample};
use crate::stats::{mean, quantile};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Folds of each family's samples.
    KFold,
    /// Each interior batch cap of each family.
    LeaveBatchOut,
    /// Each family, estimated from the others.
    LeaveFamilyOut,
}

/// What was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    Samples,
    Batch,
    /// A family whose model is measured elsewhere.
    KnownModel,
    /// A family with all others of its model.
    NewModel,
    /// A family with all others on its device.
    NewDevice,
}

impl Case {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Batch => "batch",
            Self::KnownModel => "known model",
            Self::NewModel => "new model",
            Self::NewDevice => "new device",
        }
    }
}

/// Errors of one target, fractions, and the share of 90 % intervals that held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Errors {
    /// Mean absolute relative errors: of samples where a family is left out, of batches, or of all folds together.
    pub errors: Vec<f64>,
    pub coverage: Option<f64>,
}

impl Errors {
    fn of_predictions(predictions: &[Prediction]) -> Self {
        let covered: Vec<f64> = predictions.iter().map(|p| f64::from(u8::from(p.is_covered()))).collect();
        Self { errors: predictions.iter().map(Prediction::error).collect(), coverage: mean(&covered) }
    }

    pub fn mape(&self) -> Option<f64> {
        mean(&self.errors)
    }

    pub fn median(&self) -> Option<f64> {
        quantile(&self.errors, 0.5)
    }

    pub fn p90(&self) -> Option<f64> {
        quantile(&self.errors, 0.9)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct FamilyErrors {
    pub family: FamilyKey,
    pub case: Case,
    pub energy: Errors,
    pub runtime: Errors,
}

/// Cross-validates `report`, the fit of `samples`. Families that cannot be left out do not appear. In order of cases, then
/// keys.
pub fn cross_validate(
    samples: &[Sample],
    report: &FitReport,
    context: &Context<'_>,
    settings: &Settings,
    mode: Mode,
) -> Vec<FamilyErrors> {
    match mode {
        Mode::KFold => folds(report),
        Mode::LeaveBatchOut => leave_batch_out(samples, context, settings),
        Mode::LeaveFamilyOut => {
            let measured = report.models();
            [(Case::KnownModel, false, false), (Case::NewModel, true, false), (Case::NewDevice, false, true)]
                .into_iter()
                .flat_map(|(case, model, device)| {
                    let held_back = leave_family_out(samples, &measured, context, Unknown { model, device });
                    held_back.into_iter().map(move |held_back| family_errors(held_back, case))
                })
                .collect()
        }
    }
}

/// The errors of all families of a case together.
pub fn pooled(families: &[FamilyErrors], case: Case, pick: fn(&FamilyErrors) -> &Errors) -> Errors {
    let of_case: Vec<&Errors> = families.iter().filter(|family| family.case == case).map(pick).collect();
    let errors: Vec<f64> = of_case.iter().flat_map(|target| target.errors.iter().copied()).collect();
    let covered = of_case.iter().filter_map(|target| Some(target.coverage? * target.errors.len() as f64));
    let coverage = of_case.iter().any(|target| target.coverage.is_some() && !errors.is_empty());
    Errors { coverage: coverage.then(|| covered.sum::<f64>() / errors.len() as f64), errors }
}

fn folds(report: &FitReport) -> Vec<FamilyErrors> {
    let errors = |mape: Option<f64>| Errors { errors: mape.into_iter().collect(), coverage: None };
    report
        .families
        .iter()
        .map(|family| FamilyErrors {
            family: family.model.key.clone(),
            case: Case::Samples,
            energy: errors(family.model.energy_quality.cv_mape),
            runtime: errors(family.model.runtime_quality.cv_mape),
        })
        .collect()
}

/// Each cap between the smallest and the largest of a family left out in turn. Data sets of a family are taken apart: a
/// cap that another data set still holds is not left out.
fn leave_batch_out(samples: &[Sample], context: &Context<'_>, settings: &Settings) -> Vec<FamilyErrors> {
    let mut families: BTreeMap<(FamilyKey, Option<&str>), Vec<&Sample>> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| !sample.warmup) {
        families.entry((sample.family(), sample.data_set.as_deref())).or_default().push(sample);
    }
    families
        .into_par_iter()
        .filter_map(|((family, _), rows)| {
            let cap = |sample: &Sample| sample.max_num_seqs.unwrap_or(sample.batch_size.round().clamp(1.0, 1e9) as u32);
            let mut caps: Vec<u32> = rows.iter().map(|row| cap(row)).collect();
            caps.sort_unstable();
            caps.dedup();
            let interior = caps.get(1..caps.len().saturating_sub(1)).unwrap_or_default();
            let mut result =
                FamilyErrors { family, case: Case::Batch, energy: Errors::default(), runtime: Errors::default() };
            for &left_out in interior {
                let (test, train): (Vec<&Sample>, Vec<&Sample>) = rows.iter().partition(|row| cap(row) == left_out);
                let owned = |rows: Vec<&Sample>| rows.into_iter().cloned().collect::<Vec<Sample>>();
                let models = fit(&owned(train), context, settings).models();
                for group in evaluate(&models, &owned(test), context.data_sets).groups {
                    result.energy.errors.extend(group.energy_mape);
                    result.runtime.errors.extend(group.runtime_mape);
                }
            }
            (!result.energy.errors.is_empty() || !result.runtime.errors.is_empty()).then_some(result)
        })
        .collect()
}

fn family_errors(held_back: HeldBack, case: Case) -> FamilyErrors {
    FamilyErrors {
        case,
        energy: Errors::of_predictions(&held_back.energy),
        runtime: Errors::of_predictions(&held_back.runtime),
        family: held_back.family,
    }
}

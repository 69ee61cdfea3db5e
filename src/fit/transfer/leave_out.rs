//! How good a transfer is, honestly: each measured family estimated as if nobody had measured it, spreads and interval
//! included, and compared with its own samples.
//!
//! Three questions: a model known elsewhere (other families of the model stay), a wholly new model (all families of its
//! architecture are left out with it, other precisions and fine-tunings among them), and a new device (all families on it
//! are left out).

use rayon::prelude::*;

use super::interval::Unknown;
use super::neighbours::Neighbour;
use super::{TransferError, comparable, from_neighbours};
use crate::domain::{FamilyKey, FamilyModel, Sample, Term};
use crate::fit::attempt::Pair;
use crate::fit::observation::Observation;
use crate::fit::{Context, clock, main_data_set};

/// A sample's measured value with what the others say of it, per request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    pub measured: f64,
    pub low: f64,
    pub central: f64,
    pub high: f64,
}

impl Prediction {
    /// |predicted / measured - 1|.
    pub fn error(&self) -> f64 {
        (self.central / self.measured - 1.0).abs()
    }

    pub fn is_covered(&self) -> bool {
        self.low <= self.measured && self.measured <= self.high
    }
}

/// A family that was held back.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldBack {
    pub family: FamilyKey,
    pub energy: Vec<Prediction>,
    pub runtime: Vec<Prediction>,
}

/// Estimates every family of `measured` from the others, less those that `unknown` leaves out with it. Families that are
/// no such case (a known model that nobody measured elsewhere) or have too few neighbours do not appear.
pub fn leave_family_out(
    samples: &[Sample],
    measured: &[FamilyModel],
    context: &Context<'_>,
    unknown: Unknown,
) -> Vec<HeldBack> {
    measured
        .par_iter()
        .filter_map(|model| {
            let own = Neighbour::new(model, context)?;
            let mut neighbours = comparable(&own.member, measured, context);
            neighbours.retain(|other| !unknown.excludes(&own, other));
            if !unknown.model && !neighbours.iter().any(|other| other.member.is_same_model(&own.member)) {
                return None;
            }
            let estimate: Result<_, TransferError> =
                from_neighbours(&own.member, &neighbours, model.batch_points.clone());
            let estimate = estimate.ok()?.model;
            let rows = observations(samples, &model.key, context);
            let energy = predictions(&rows, &estimate.energy, |row| row.energy);
            let runtime = predictions(&rows, &estimate.runtime, |row| row.runtime);
            Some(HeldBack { family: model.key.clone(), energy, runtime })
        })
        .collect()
}

/// Samples of a family's main data set at the default operating point; outliers, which no fit uses, stay in.
fn observations(samples: &[Sample], key: &FamilyKey, context: &Context<'_>) -> Vec<Observation> {
    let own: Vec<&Sample> = samples.iter().filter(|sample| !sample.warmup && sample.family() == *key).collect();
    let (at_default, _) = clock::default_operating_point(&own, &mut Vec::new());
    let mut pairs: Vec<Pair<'_>> = at_default
        .into_iter()
        .filter_map(|sample| Some((sample, Observation::new(sample, context.data_sets)?)))
        .collect();
    if let Some(main) = main_data_set(&pairs) {
        pairs.retain(|(_, row)| row.data_set == main);
    }
    pairs.into_iter().map(|(_, row)| row).collect()
}

fn predictions(rows: &[Observation], terms: &[Term], measured: fn(&Observation) -> Option<f64>) -> Vec<Prediction> {
    let sum = |row: &Observation, factor: fn(&Term) -> f64| -> Option<f64> {
        terms.iter().map(|term| Some(factor(term) * term.feature.expected(&row.tokens, row.batch)?)).sum()
    };
    rows.iter()
        .filter_map(|row| {
            Some(Prediction {
                measured: measured(row)?,
                low: sum(row, |term| term.low)?,
                central: sum(row, |term| term.value)?,
                high: sum(row, |term| term.high)?,
            })
        })
        .collect()
}

//! A family brought to the level that its deployments really ran at: one factor on net energy, one on time, and idle power.
//!
//! As with another clock (`clock`) it is energy above idle that scales, term by term, so no request falls below idle power.
//! Here the result is a model like any other, with one term a feature. What lengths and batches cost beside each other
//! stays as it was.

use super::features::{BatchCurve, Feature};
use super::model::{FamilyModel, Term};
use super::provenance::Figure;
use crate::units::Watts;

/// What a family's coefficients were multiplied by since they were fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Correction {
    pub net_energy: f64,
    pub time: f64,
    /// Samples that the last correction rests on.
    pub samples: usize,
}

impl FamilyModel {
    /// The family with its net energy and time multiplied, at another idle power. What coefficients may be off by is no
    /// longer known, but for the ranges of estimates.
    pub fn corrected(&self, by: Correction, idle_power: Figure<Watts>) -> Self {
        // Gross energy = net factor * (E - old idle * T) + time factor * new idle * T.
        let standing = by.time * idle_power.value.0 - by.net_energy * self.idle_power.value.0;
        let mut energy: Vec<Term> = self
            .energy
            .iter()
            .map(|term| {
                let beside = self.runtime.iter().find(|runtime| are_alike(&runtime.feature, &term.feature));
                sum(term, by.net_energy, beside, standing)
            })
            .collect();
        let alone = |runtime: &&Term| !self.energy.iter().any(|term| are_alike(&runtime.feature, &term.feature));
        energy.extend(self.runtime.iter().filter(alone).filter(|_| standing != 0.0).map(|term| scaled(term, standing)));
        let before = self.correction.unwrap_or(Correction { net_energy: 1.0, time: 1.0, samples: 0 });
        Self {
            energy,
            runtime: self.runtime.iter().map(|term| scaled(term, by.time)).collect(),
            idle_power,
            // What loading draws above idle is as before.
            load_power: Figure::new(
                self.load_power.value - self.idle_power.value + idle_power.value,
                self.load_power.provenance,
            ),
            correction: Some(Correction {
                net_energy: before.net_energy * by.net_energy,
                time: before.time * by.time,
                samples: by.samples,
            }),
            ..self.clone()
        }
    }
}

/// Whether two terms are of one feature; tables of energy and of time differ in their values.
fn are_alike(a: &Feature, b: &Feature) -> bool {
    matches!((a, b), (Feature::OutputAtBatch(_), Feature::OutputAtBatch(_))) || a == b
}

fn scaled(term: &Term, factor: f64) -> Term {
    let (value, low, high) = (term.value * factor, term.low * factor, term.high * factor);
    Term { value, low: low.min(high), high: low.max(high), standard_error: None, interval: None, ..term.clone() }
}

/// `factor` times an energy and `standing` watts over the time beside it.
fn sum(energy: &Term, factor: f64, time: Option<&Term>, standing: f64) -> Term {
    let own = scaled(energy, factor);
    let Some(time) = time else { return own };
    let seconds = standing * time.value;
    if let (Feature::OutputAtBatch(joules), Feature::OutputAtBatch(curve)) = (&energy.feature, &time.feature) {
        return tabulated(&own, joules, seconds, curve);
    }
    // Of an estimate, the range is the energy's alone; a form that knows no negative coefficient gets none.
    let least = if energy.low >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
    let moved = |value: f64| (value + seconds).max(least);
    Term { value: moved(own.value), low: moved(own.low), high: moved(own.high), ..own }
}

/// The same for values tabulated over the batch, at the batches of both tables. The range is the narrowest below and the
/// widest above that any batch asks for.
fn tabulated(energy: &Term, joules: &BatchCurve, seconds: f64, time: &BatchCurve) -> Term {
    let mut batches: Vec<f64> = joules.points.iter().chain(&time.points).map(|(batch, _)| *batch).collect();
    batches.sort_by(f64::total_cmp);
    batches.dedup();
    let (mut points, mut low, mut high) = (Vec::new(), 0.0f64, 1.0f64);
    for batch in batches {
        let (own, moved) = (joules.at(batch), seconds * time.at(batch));
        let value = energy.value * own + moved;
        if value > 0.0 {
            points.push((batch, value));
            low = low.max((energy.low * own + moved) / value);
            high = high.max((energy.high * own + moved) / value);
        }
    }
    Term {
        feature: Feature::OutputAtBatch(BatchCurve { points }),
        value: 1.0,
        low: low.min(1.0),
        high,
        ..energy.clone()
    }
}

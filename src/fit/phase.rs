//! The phase form: energy and time of a request as non-negative sums of phase features, fitted together (`joint`), less
//! what hardware estimates account for, with a table over the measured batches where the batch form is one (`curve`).

use super::curve;
use super::hardware::EstimatedTerm;
use super::joint::joint;
use super::observation::Observation;
use crate::domain::features::BatchCurve;
use crate::domain::{Feature, Provenance, Term};

/// At most this share of a measurement is put down to estimated terms; beyond, they are scaled down together.
const ESTIMATED_AT_MOST: f64 = 0.5;

/// How the cost of an output token depends on the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchForm {
    /// One batch only.
    Flat,
    /// o/b and o.
    TwoTerm,
    /// o/b, o/sqrt(b) and o.
    ThreeTerm,
    /// A table over the measured batches, shaped between them by the two or three terms.
    Curve { three_terms: bool },
}

impl BatchForm {
    fn features(self) -> Vec<Feature> {
        match self {
            Self::Flat => vec![Feature::Output],
            Self::TwoTerm | Self::Curve { three_terms: false } => vec![Feature::OutputPerBatch, Feature::Output],
            Self::ThreeTerm | Self::Curve { three_terms: true } => {
                vec![Feature::OutputPerBatch, Feature::OutputPerSqrtBatch, Feature::Output]
            }
        }
    }

    fn is_curve(self) -> bool {
        matches!(self, Self::Curve { .. })
    }
}

/// What is fitted: the batch terms and the other features.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub batch: BatchForm,
    pub features: Vec<Feature>,
}

impl Spec {
    /// Number of features, the measure of size where two are equally good.
    pub fn size(&self) -> usize {
        self.batch.features().len() + self.features.len()
    }

    /// The columns of the regression: batch terms, then the others.
    pub fn all_features(&self) -> Vec<Feature> {
        self.batch.features().into_iter().chain(self.features.iter().cloned()).collect()
    }
}

/// Power of all devices of an instance, in watts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PowerLimits {
    pub idle: f64,
    /// What the devices cannot exceed.
    pub limit: f64,
}

/// A feature with its coefficient.
pub type Fitted = (Feature, f64);

#[derive(Clone, Debug, PartialEq)]
pub struct PhaseFit {
    pub energy: Vec<Fitted>,
    pub runtime: Vec<Fitted>,
    pub estimated: Vec<EstimatedTerm>,
    /// Factor on the estimated terms, below 1 where they would have exceeded half of a measurement.
    pub estimated_scale: f64,
}

impl PhaseFit {
    /// Fits `spec` to the observations, `estimated` terms held fixed. `None` if a feature is unknown in a row or nothing
    /// can be fitted.
    pub fn new(rows: &[&Observation], estimated: &[EstimatedTerm], limits: PowerLimits, spec: &Spec) -> Option<Self> {
        Self::weighted(rows, &vec![1.0; rows.len()], estimated, limits, spec)
    }

    /// The same with a weight on the relative errors of each row.
    pub fn weighted(
        rows: &[&Observation],
        weights: &[f64],
        estimated: &[EstimatedTerm],
        limits: PowerLimits,
        spec: &Spec,
    ) -> Option<Self> {
        let estimated_scale = estimated_scale(rows, estimated);
        let remainders: Vec<Remainder> = rows.iter().map(|row| remainder(row, estimated, estimated_scale)).collect();
        let features = spec.all_features();
        let batch_terms = spec.batch.features().len();

        let (energy, runtime) = joint(rows, &remainders, &features, limits, weights)?;
        let mut fit = Self { energy, runtime, estimated: estimated.to_vec(), estimated_scale };
        if spec.batch.is_curve() {
            let (backbone_energy, other_energy) = fit.energy.split_at(batch_terms);
            let (backbone_runtime, other_runtime) = fit.runtime.split_at(batch_terms);
            let backbone = curve::Backbone { energy: backbone_energy, runtime: backbone_runtime };
            let (energy_curve, runtime_curve) =
                curve::tabulate(rows, &remainders, (other_energy, other_runtime), backbone, limits)?;
            fit.energy = with_curve(energy_curve, other_energy);
            fit.runtime = with_curve(runtime_curve, other_runtime);
        } else if spec.batch == BatchForm::Flat {
            fit.tie_to_batch(rows);
        }
        // A term that costs neither joules nor seconds is no term; both lists stay parallel.
        let kept: Vec<bool> = fit.energy.iter().zip(&fit.runtime).map(|(e, t)| e.1 > 0.0 || t.1 > 0.0).collect();
        let keep = |terms: &mut Vec<Fitted>| {
            let mut flags = kept.iter();
            terms.retain(|_| flags.next().copied().unwrap_or(false));
        };
        keep(&mut fit.energy);
        keep(&mut fit.runtime);
        (!fit.energy.is_empty()).then_some(fit)
    }

    /// Gross joules and instance-seconds per request; `None` where a feature is unknown.
    pub fn predict(&self, row: &Observation) -> Option<(f64, f64)> {
        let (mut energy, mut runtime) = (sum(&self.energy, row)?, sum(&self.runtime, row)?);
        for term in &self.estimated {
            if let Some(value) = term.feature.expected(&row.tokens, row.batch) {
                energy += self.estimated_scale * term.joules.value * value;
                runtime += self.estimated_scale * term.seconds.value * value;
            }
        }
        Some((energy, runtime))
    }

    /// What is left of a row's measurements for the fitted terms.
    pub fn remainder(&self, row: &Observation) -> Remainder {
        remainder(row, &self.estimated, self.estimated_scale)
    }

    /// The terms of a family model: energy and runtime.
    pub fn terms(&self, provenance: Provenance) -> (Vec<Term>, Vec<Term>) {
        let fitted = |terms: &[Fitted]| -> Vec<Term> {
            terms.iter().map(|(feature, value)| Term::fitted(feature.clone(), *value, provenance)).collect()
        };
        let (mut energy, mut runtime) = (fitted(&self.energy), fitted(&self.runtime));
        energy.extend(self.estimated.iter().map(|term| term.energy_term(self.estimated_scale)));
        runtime.extend(self.estimated.iter().map(|term| term.runtime_term(self.estimated_scale)));
        (energy, runtime)
    }

    /// One measured batch above 1: below it a step costs the same, so a token costs more.
    fn tie_to_batch(&mut self, rows: &[&Observation]) {
        let batch = rows.iter().map(|row| row.batch).sum::<f64>() / rows.len().max(1) as f64;
        if batch < 1.5 {
            return;
        }
        for terms in [&mut self.energy, &mut self.runtime] {
            for (feature, value) in
                terms.iter_mut().filter(|(feature, value)| *feature == Feature::Output && *value > 0.0)
            {
                *feature = Feature::OutputAtBatch(BatchCurve { points: vec![(batch, *value)] });
                *value = 1.0;
            }
        }
    }
}

/// What is left of a measurement once the estimated terms are taken off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Remainder {
    pub energy: Option<f64>,
    pub runtime: Option<f64>,
}

fn remainder(row: &Observation, estimated: &[EstimatedTerm], scale: f64) -> Remainder {
    let (joules, seconds) = estimated_part(row, estimated);
    Remainder {
        energy: row.energy.map(|energy| energy - scale * joules),
        runtime: row.runtime.map(|runtime| runtime - scale * seconds),
    }
}

/// Joules and seconds of a row that the estimated terms account for.
fn estimated_part(row: &Observation, estimated: &[EstimatedTerm]) -> (f64, f64) {
    estimated
        .iter()
        .filter_map(|term| Some((term, term.feature.expected(&row.tokens, row.batch)?)))
        .fold((0.0, 0.0), |(joules, seconds), (term, value)| {
            (joules + term.joules.value * value, seconds + term.seconds.value * value)
        })
}

fn estimated_scale(rows: &[&Observation], estimated: &[EstimatedTerm]) -> f64 {
    rows.iter()
        .flat_map(|row| {
            let (joules, seconds) = estimated_part(row, estimated);
            let share = |total: Option<f64>, part: f64| (part > 0.0).then_some(ESTIMATED_AT_MOST * total? / part);
            [share(row.energy, joules), share(row.runtime, seconds)]
        })
        .flatten()
        .fold(1.0, f64::min)
}

fn sum(terms: &[Fitted], row: &Observation) -> Option<f64> {
    terms.iter().map(|(feature, value)| Some(value * feature.expected(&row.tokens, row.batch)?)).sum()
}

fn with_curve(curve: BatchCurve, others: &[Fitted]) -> Vec<Fitted> {
    std::iter::once((Feature::OutputAtBatch(curve), 1.0)).chain(others.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Moments;

    fn row(input: f64, output: f64, batch: f64, energy: f64, runtime: f64) -> Observation {
        Observation {
            tokens: Moments::constant(input, output),
            input_assumed: false,
            spread_assumed: false,
            batch,
            energy: Some(energy),
            runtime: Some(runtime),
            requests: 1.0,
            idle_power: None,
            data_set: String::new(),
            provenance: Provenance::Measured,
        }
    }

    const LIMITS: PowerLimits = PowerLimits { idle: 50.0, limit: 400.0 };

    fn grid(energy: impl Fn(f64, f64) -> f64, runtime: impl Fn(f64, f64) -> f64) -> Vec<Observation> {
        let lengths = [8.0, 64.0, 512.0, 2048.0];
        lengths
            .iter()
            .flat_map(|&i| lengths.iter().map(move |&o| (i, o)))
            .map(|(i, o)| row(i, o, 1.0, energy(i, o), runtime(i, o)))
            .collect()
    }

    #[test]
    fn exact_data_give_back_their_coefficients() {
        let context = |i: f64, o: f64| Feature::ContextRead.value(i, o, 1.0);
        let rows = grid(|i, o| 5.0 + 3.0 * o + 0.002 * context(i, o), |i, o| 0.05 + 0.02 * o + 1e-5 * context(i, o));
        let spec = Spec { batch: BatchForm::Flat, features: vec![Feature::Constant, Feature::ContextRead] };
        let fit = PhaseFit::new(&rows.iter().collect::<Vec<_>>(), &[], LIMITS, &spec).unwrap();
        for (terms, expected) in [(&fit.energy, [3.0, 5.0, 0.002]), (&fit.runtime, [0.02, 0.05, 1e-5])] {
            for ((_, value), expected) in terms.iter().zip(expected) {
                assert!((value / expected - 1.0).abs() < 1e-6, "{terms:?}");
            }
        }
    }

    #[test]
    fn power_stays_between_idle_and_the_limit_even_where_the_data_leave_it() {
        // 500 W drawn at long contexts, 30 W at short ones: neither is possible.
        let context = |i: f64, o: f64| Feature::ContextRead.value(i, o, 1.0);
        let rows = grid(|i, o| 0.6 * o + 5e-3 * context(i, o), |i, o| 0.02 * o + 1e-5 * context(i, o));
        let spec = Spec { batch: BatchForm::Flat, features: vec![Feature::ContextRead] };
        let fit = PhaseFit::new(&rows.iter().collect::<Vec<_>>(), &[], LIMITS, &spec).unwrap();
        for (i, o) in [(1.0, 1.0), (8192.0, 8192.0), (8192.0, 1.0), (1.0, 8192.0)] {
            let (energy, runtime) = fit.predict(&row(i, o, 1.0, 1.0, 1.0)).unwrap();
            assert!(energy <= 400.0 * runtime * (1.0 + 1e-9), "{}", energy / runtime);
        }
        for ((_, energy), (_, runtime)) in fit.energy.iter().zip(&fit.runtime) {
            assert!(*energy >= 50.0 * runtime * (1.0 - 1e-9));
        }
    }

    #[test]
    fn a_curve_meets_every_measured_batch() {
        let batches = [(8.0, 430.0, 1.0), (32.0, 150.0, 0.3), (128.0, 80.0, 0.15), (512.0, 50.0, 0.1)];
        let rows: Vec<Observation> = batches.iter().map(|&(b, e, t)| row(100.0, 600.0, b, e, t)).collect();
        let spec = Spec { batch: BatchForm::Curve { three_terms: true }, features: vec![] };
        let limits = PowerLimits { idle: 50.0, limit: 700.0 };
        let fit = PhaseFit::new(&rows.iter().collect::<Vec<_>>(), &[], limits, &spec).unwrap();
        for row in &rows {
            let (energy, runtime) = fit.predict(row).unwrap();
            assert!((energy / row.energy.unwrap() - 1.0).abs() < 1e-9);
            assert!((runtime / row.runtime.unwrap() - 1.0).abs() < 1e-9);
        }
    }
}

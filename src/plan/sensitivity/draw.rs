//! One draw of what the models are wrong by, and the models and deployments as they would then be.
//!
//! A family's energy and time are off by factors of their own, log-normal with the 90 % interval that cross-validation
//! gave; all estimated coefficients of a family stand at one place between the ends of their ranges, uniform. Draws of
//! different families are independent.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::domain::deployment::rates;
use crate::domain::model::Case;
use crate::domain::{Deployment, FamilyModel, Provenance, Quality, Rates, Term};
use crate::options::Options;
use crate::plan::PlanProblem;
use crate::plan::price::Priced;
use crate::stats::normal_quantile;

/// What one family is off by.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Error {
    energy: f64,
    time: f64,
    /// Where the estimated coefficients stand: -1 at their low end, 0 as given, 1 at their high end.
    estimates: f64,
}

/// An error for each family.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draw {
    errors: Vec<Error>,
}

impl Draw {
    pub(super) fn new(problem: &PlanProblem, generator: &mut ChaCha8Rng) -> Self {
        let error = |model: &FamilyModel| Error {
            energy: factor(&model.energy_quality, generator.random()),
            time: factor(&model.runtime_quality, generator.random()),
            estimates: generator.random_range(-1.0..=1.0),
        };
        Self { errors: problem.models.iter().map(error).collect() }
    }
}

/// The quantile `uniform` of the log-normal distribution whose 5th and 95th percentile are the error factors; 1 where
/// these are not known.
fn factor(quality: &Quality, uniform: f64) -> f64 {
    let Some((low, high)) = quality.error_factors.filter(|(low, high)| *low > 0.0 && high >= low) else { return 1.0 };
    let (mean, half) = (0.5 * (low.ln() + high.ln()), 0.5 * (high.ln() - low.ln()));
    (mean + half * normal_quantile(uniform) / normal_quantile(0.95)).exp()
}

/// Models and deployments as one draw has them.
pub(super) struct Perturbed {
    pub(super) models: Vec<FamilyModel>,
    pub(super) deployments: Vec<Deployment>,
    /// Factor on the seconds of each deployment.
    pub(super) slower: Vec<f64>,
}

impl Perturbed {
    pub(super) fn new(problem: &PlanProblem, draw: &Draw) -> Self {
        let models: Vec<FamilyModel> =
            problem.models.iter().zip(&draw.errors).map(|(model, error)| erred(model, *error)).collect();
        let error = |v: usize| draw.errors[problem.options.model[v]];
        let deployments = problem.deployments().iter().enumerate().map(|(v, deployment)| {
            let model = &models[problem.options.model[v]];
            let at_batch = rates(&deployment.at_its_clock(model), deployment.batch_size, problem.safety);
            let mut deployment = deployment.clone();
            // Joules beside the idle power are not negative, whatever was drawn.
            let net = |rates: Rates| Rates { net_energy: rates.net_energy.map(|joules| joules.max(0.0)), ..rates };
            deployment.rates = at_batch.map_or(deployment.rates, net);
            deployment.tail_energy = deployment.tail_energy * error(v).energy;
            deployment.tail_time = deployment.tail_time * error(v).time;
            deployment
        });
        let deployments: Vec<Deployment> = deployments.collect();
        let slower = (0..deployments.len()).map(|v| error(v).time).collect();
        Self { models, deployments, slower }
    }

    pub(super) fn options(&self, options: &Options) -> Options {
        Options { deployments: self.deployments.clone(), ..options.clone() }
    }
}

fn erred(model: &FamilyModel, error: Error) -> FamilyModel {
    let term = |factor: f64| {
        move |term: &Term| {
            let given =
                if term.provenance == Provenance::Estimated { estimate(term, error.estimates) } else { term.value };
            Term { value: factor * given, ..term.clone() }
        }
    };
    FamilyModel {
        energy: model.energy.iter().map(term(error.energy)).collect(),
        runtime: model.runtime.iter().map(term(error.time)).collect(),
        ..model.clone()
    }
}

fn estimate(term: &Term, at: f64) -> f64 {
    let end = if at < 0.0 { term.low } else { term.high };
    term.value + at.abs() * (end - term.value)
}

/// Families in use of which neither errors nor ranges are known.
pub(super) fn without_error(problem: &PlanProblem, plan: &Priced) -> Vec<String> {
    let mut used: Vec<usize> =
        plan.schedule.instances.iter().map(|instance| problem.options.model[instance.deployment]).collect();
    used.sort_unstable();
    used.dedup();
    let ranged = |model: &FamilyModel| {
        let net = |case| model.net_energy_coefficients(1.0, case);
        net(Case::Low) != net(Case::High)
    };
    used.into_iter()
        .map(|index| &problem.models[index])
        .filter(|model| model.energy_quality.error_factors.is_none() && !ranged(model))
        .map(|model| model.key.to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninety_percent_of_the_factors_lie_in_the_interval() {
        let quality = |error_factors| Quality {
            samples: 5,
            r2: None,
            r2_uncentred: None,
            cv_mape: None,
            error_factors,
            negative_predictions: 0,
        };
        let known = quality(Some((0.8, 1.1)));
        assert!((factor(&known, 0.05) - 0.8).abs() < 1e-9 && (factor(&known, 0.95) - 1.1).abs() < 1e-9);
        assert!((factor(&known, 0.5) - (0.8f64 * 1.1).sqrt()).abs() < 1e-9);
        assert_eq!(factor(&quality(None), 0.9), 1.0);
        assert_eq!(factor(&quality(Some((0.0, 1.0))), 0.9), 1.0);
    }

    #[test]
    fn estimates_stand_between_their_ends() {
        let term = Term::estimated(crate::domain::Feature::Input, 2.0, 1.0, 5.0);
        assert_eq!([-1.0, -0.5, 0.0, 1.0].map(|at| estimate(&term, at)), [1.0, 1.5, 2.0, 5.0]);
    }
}

//! How far a plan can be trusted to be the best, given how far its models can be trusted: seeded draws of what the models
//! may be wrong by, and in each of them the plan against its rivals.
//!
//! Rivals are other plans that keep all limits as the models stand: baselines, and plans made for a few of the draws. For
//! these a bound is known too, so the regret is there against anything at all. Left out: errors of load times, of idle and
//! base power, and of output lengths.

mod draw;
mod profile;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::price::{Priced, price};
use super::{PlanProblem, Settings, Verdict, solve};
use crate::options::Options;
use crate::stats::{mean, quantile};
use draw::{Draw, Perturbed};
use profile::Profile;

#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivity {
    pub draws: usize,
    pub seed: u64,
    /// Share of the draws in which no rival costs less.
    pub stays_best: f64,
    /// Of the draws in which one does: what it saves of the plan's joules, mean and 95th percentile; 0 without any.
    pub regret_mean: f64,
    pub regret_p95: f64,
    /// The plan's joules: 5th, 50th and 95th percentile.
    pub objective: [f64; 3],
    /// Share of the draws in which a request of the plan misses its deadline.
    pub late: f64,
    /// Draws in which each rival costs least.
    pub rivals: BTreeMap<String, usize>,
    /// Draws that were planned anew: what any plan could save of the plan's joules there, at most; by their bounds.
    pub regret_to_bound: Vec<f64>,
    /// Families in use whose error is not known, taken as right.
    pub without_error: Vec<String>,
}

/// Draws planned anew, at most.
const PLANNED_ANEW: usize = 5;

/// Judges `plan` over `draws` draws. `rivals` are other plans by name; `accept` says whether a plan made for a draw keeps
/// all limits as the models stand. Planning anew takes about `budget`.
pub fn sensitivity(
    problem: &PlanProblem,
    plan: &Priced,
    rivals: &BTreeMap<String, Priced>,
    (draws, seed): (usize, u64),
    budget: Duration,
    accept: &mut dyn FnMut(&Priced) -> bool,
) -> Sensitivity {
    let drawn: Vec<Draw> = (0..draws).map(|number| Draw::new(problem, &mut generator(seed, number))).collect();
    let mut candidates: Vec<(String, Profile)> =
        rivals.iter().map(|(name, priced)| (name.clone(), Profile::new(problem, priced))).collect();
    let own = Profile::new(problem, plan);

    let mut regret_to_bound = Vec::new();
    let started = Instant::now();
    for (number, draw) in drawn.iter().enumerate().take(PLANNED_ANEW) {
        let left = budget.saturating_sub(started.elapsed());
        if left < budget / (2 * PLANNED_ANEW) as u32 {
            break;
        }
        let settings = Settings { time_limit: budget / PLANNED_ANEW as u32, baselines: false, ..Settings::default() };
        let perturbed = Perturbed::new(problem, draw);
        let options: Options = perturbed.options(problem.options);
        let changed = PlanProblem::new(problem.workload, problem.cluster, &perturbed.models, &options, problem.safety);
        // Slower models may leave no plan at all: then there is nothing to compare with.
        let Ok(Verdict::Planned(found)) = solve(&changed, &settings, None, &mut |_| {}) else { continue };
        let objective = own.objective(problem, &perturbed).joules;
        regret_to_bound.push(((objective - found.bound) / objective.max(f64::MIN_POSITIVE)).max(0.0));
        let as_models_stand = price(problem, found.priced.schedule);
        if accept(&as_models_stand) {
            candidates.push((format!("planned for draw {}", number + 1), Profile::new(problem, &as_models_stand)));
        }
    }

    let (mut objectives, mut regrets, mut late) = (Vec::new(), Vec::new(), 0);
    let mut wins: BTreeMap<String, usize> = candidates.iter().map(|(name, _)| (name.clone(), 0)).collect();
    for draw in &drawn {
        let perturbed = Perturbed::new(problem, draw);
        let outcome = own.objective(problem, &perturbed);
        let rival = candidates
            .iter()
            .map(|(name, profile)| (profile.objective(problem, &perturbed).joules, name))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((joules, name)) = rival.filter(|(joules, _)| *joules < outcome.joules * (1.0 - 1e-9)) {
            regrets.push((outcome.joules - joules) / outcome.joules);
            *wins.entry(name.clone()).or_default() += 1;
        }
        late += usize::from(outcome.late);
        objectives.push(outcome.joules);
    }
    let of_draws = |count: usize| count as f64 / draws.max(1) as f64;
    Sensitivity {
        draws,
        seed,
        stays_best: 1.0 - of_draws(regrets.len()),
        regret_mean: mean(&regrets).unwrap_or(0.0),
        regret_p95: quantile(&regrets, 0.95).unwrap_or(0.0),
        objective: [0.05, 0.5, 0.95].map(|share| quantile(&objectives, share).unwrap_or(0.0)),
        late: of_draws(late),
        rivals: wins,
        regret_to_bound,
        without_error: draw::without_error(problem, plan),
    }
}

/// A stream for each draw, so that more draws leave the first ones as they are.
fn generator(seed: u64, number: usize) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(number as u64);
    generator
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_draws_leave_the_first_as_they_are() {
        use rand::Rng;
        let first = |seed, number| generator(seed, number).random::<u64>();
        assert_eq!(first(7, 3), first(7, 3));
        assert!(first(7, 3) != first(7, 4) && first(7, 3) != first(8, 3));
    }
}

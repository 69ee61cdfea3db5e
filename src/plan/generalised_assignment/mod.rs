//! Planning from a table of options: classes of requests on options with a capacity each, at the fewest joules. This is
//! the generalised assignment problem; what it costs to have an option at all is not in the table and not in here.
//!
//! Capacity prices from the linear programme give a bound that anybody can recompute (`OptionTable::bound`). Its rounded
//! solution, improved by local search, is the incumbent. Choices whose reduced cost alone lifts the bound to the
//! incumbent are dropped, and branch and bound decides among the rest: near the prices, over all of them, and in
//! neighbourhoods of the incumbent.

mod local_search;
mod neighbourhoods;
mod relaxation;

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::local_search::State;
use self::relaxation::{Limits, Solved, integer, linear};
use super::{Phase, PlanError, Progress, Settings};
use crate::domain::{OptionClass, OptionTable};

/// Rounds of local search; a number, not a time, so that equal inputs give equal plans.
const ROUNDS: usize = 300;
/// Choices of each class in the first integer problem, cheapest at the prices first.
const NEAREST: usize = 4;
/// A gap this small is none.
const ROUNDING: f64 = 1e-9;

#[derive(Clone, Debug)]
pub enum Outcome {
    Planned(Assigned),
    /// Even shares of requests do not fit the capacities.
    Infeasible,
    /// Neither an assignment nor a proof that there is none.
    Unknown,
}

/// Who is served where, and how good that is known to be.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// Requests on each choice, class by class.
    pub counts: Vec<Vec<u64>>,
    /// Joules.
    pub objective: f64,
    pub bound: f64,
    pub bound_by: &'static str,
    pub gap: f64,
    /// Joules per second of each option's capacity.
    pub prices: Vec<f64>,
    /// The bound that these prices alone prove.
    pub price_bound: f64,
    pub within_gap: bool,
}

/// Assigns all requests of the table.
///
/// # Errors
/// Those of the solver.
pub fn solve(
    table: &OptionTable,
    settings: &Settings,
    seed: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome, PlanError> {
    let started = Instant::now();
    let mut show = |phase: Phase, best: &State<'_>, bound: f64| {
        let incumbent = best.is_feasible().then_some(best.energy());
        progress(Progress { phase, incumbent, bound, elapsed: started.elapsed() });
    };
    let left = || settings.time_limit.saturating_sub(started.elapsed());
    let free = vec![0.0; table.options.len()];
    let mut best = State::cheapest(table, &free);
    let mut proof = Proof::new(table, free);
    let gap = settings.gap.max(ROUNDING);
    if proof.is_within(&best, ROUNDING) {
        return Ok(Outcome::Planned(proof.of(&best, gap)));
    }
    show(Phase::Relaxation, &best, proof.bound);
    match linear(table, left())? {
        Some(Solved::Infeasible) => return Ok(Outcome::Infeasible),
        Some(Solved::Optimal { shares, prices }) => {
            proof.take_prices(table, prices);
            best = State::rounded(table, &shares, &proof.prices);
        }
        None => {}
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let until = started + settings.time_limit / 4;
    best = best.improve(ROUNDS, until, proof.bound * (1.0 + gap), &mut random);
    show(Phase::Search, &best, proof.bound);

    // Near the prices for an incumbent, wide for the bound; then neighbourhoods; what time is left, for the bound again.
    let parts = [(Some(NEAREST), 0.05), (None, 0.1), (None, 1.0)];
    for (round, (nearest, share)) in parts.into_iter().enumerate() {
        if round == 2 && best.is_feasible() {
            let until = started + settings.time_limit;
            best = neighbourhoods::search(table, &proof, best, gap, until, &mut random, &mut |best| {
                show(Phase::Search, best, proof.bound);
            })?;
        }
        if proof.is_within(&best, gap) || left() < Duration::from_millis(100) {
            break;
        }
        let kept = kept(table, &proof, &best, nearest);
        let limits = Limits { time: left().mul_f64(share), gap, cutoff: None };
        let found = integer(table, &kept, &limits)?;
        if let Some(counts) = found.counts {
            best = best.better_of(State::new(table, counts).improve(1, until, 0.0, &mut random));
        }
        // Whatever uses a dropped choice costs at least the incumbent it was dropped for.
        if nearest.is_none() {
            proof.take_tree(found.bound.min(best.feasible_energy()));
            if found.infeasible && !best.is_feasible() {
                return Ok(Outcome::Infeasible);
            }
        }
        show(Phase::Search, &best, proof.bound);
    }
    Ok(if best.is_feasible() { Outcome::Planned(proof.of(&best, gap)) } else { Outcome::Unknown })
}

/// Which choices of each class can be in a better plan than `best`, or are near the prices.
fn kept(table: &OptionTable, proof: &Proof, best: &State<'_>, nearest: Option<usize>) -> Vec<Vec<bool>> {
    let room = best.feasible_energy() - proof.price_bound;
    let class = |(index, regrets): (usize, Vec<f64>)| {
        let mut order = regrets.clone();
        order.sort_by(f64::total_cmp);
        let near = nearest.and_then(|nearest| order.get(nearest - 1)).copied().unwrap_or(f64::INFINITY);
        let used = best.counts_of(index);
        regrets.iter().zip(used).map(|(regret, used)| *used > 0 || *regret <= room.min(near)).collect()
    };
    regrets(table, &proof.prices).into_iter().enumerate().map(class).collect()
}

/// What each choice of each class costs beyond its priced cheapest.
fn regrets(table: &OptionTable, prices: &[f64]) -> Vec<Vec<f64>> {
    let of_class = |class: &OptionClass| {
        let priced: Vec<f64> =
            class.choices.iter().map(|choice| choice.energy + prices[choice.option] * choice.seconds).collect();
        let least = priced.iter().copied().fold(f64::INFINITY, f64::min);
        priced.into_iter().map(|cost| cost - least).collect()
    };
    table.classes.iter().map(of_class).collect()
}

/// What is known from below.
struct Proof {
    prices: Vec<f64>,
    price_bound: f64,
    bound: f64,
    by: &'static str,
}

impl Proof {
    fn new(table: &OptionTable, prices: Vec<f64>) -> Self {
        let price_bound = table.bound(&prices);
        Self { prices, price_bound, bound: price_bound, by: "capacity prices" }
    }

    fn take_prices(&mut self, table: &OptionTable, prices: Vec<f64>) {
        let bound = table.bound(&prices);
        if bound > self.price_bound {
            *self = Self { prices, price_bound: bound, bound, by: self.by };
        }
    }

    fn take_tree(&mut self, bound: f64) {
        // The tree's arithmetic is good to about 1e-9 of its figures.
        let bound = bound - 1e-9 * bound.abs();
        if bound > self.bound {
            (self.bound, self.by) = (bound, "branch and bound");
        }
    }

    fn gap(&self, objective: f64) -> f64 {
        if objective > 0.0 { ((objective - self.bound) / objective).max(0.0) } else { 0.0 }
    }

    fn is_within(&self, best: &State<'_>, gap: f64) -> bool {
        best.is_feasible() && self.gap(best.energy()) <= gap
    }

    fn of(self, best: &State<'_>, gap: f64) -> Assigned {
        let objective = best.energy();
        let bound = self.bound.min(objective);
        Assigned {
            counts: best.counts(),
            objective,
            bound,
            bound_by: self.by,
            gap: self.gap(objective),
            within_gap: self.gap(objective) <= gap,
            prices: self.prices,
            price_bound: self.price_bound,
        }
    }
}

#[cfg(test)]
mod tests;

//! Planning from a table of options: classes of requests on options with a capacity each, at the fewest joules. This is
//! the generalised assignment problem; what it costs to have an option at all is not in the table and not in here.
//!
//! Capacity prices from the linear programme give a bound that anybody can recompute (`OptionTable::bound`), and a
//! solution that is rounded. Prices of requests, under which each option packs its capacity with whole requests, bound
//! better and lead to an assignment that is nearly one; branch and bound repairs it, improves it in neighbourhoods of the
//! incumbent, and at last decides among all choices whose reduced cost does not lift the bound to the incumbent.

mod dive;
mod knapsack;
mod local_search;
mod neighbourhoods;
mod part;
mod relaxation;
mod request_prices;

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use self::dive::dive;
use self::local_search::State;
use self::relaxation::{Limits, Solved, Stop, integer, linear};
use self::request_prices::RequestPrices;
use super::{Phase, PlanError, Progress, Settings};
use crate::domain::{OptionClass, OptionTable};

/// Rounds of local search; a number, not a time, so that equal inputs give equal plans.
const ROUNDS: usize = 3;
/// Steps of the request prices, and the share of the bound above it that they aim at.
const STEPS: usize = 150;
const AIM: f64 = 0.005;
/// Times at most that two dives along the request prices are made, within a third of the time.
const DIVES: usize = 4;
/// What a choice that the request prices never used costs more, in mean regrets of a class's second best choice.
const FAR: f64 = 3.0;
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
    let until = started + settings.time_limit;
    best = best.improve(ROUNDS, until, proof.bound * (1.0 + gap), &mut random);
    show(Phase::Search, &best, proof.bound);
    if proof.is_within(&best, gap) {
        return Ok(Outcome::Planned(proof.of(&best, gap)));
    }

    // Prices of requests for the bound, and along them to an incumbent.
    let mut request_prices = RequestPrices::from_capacity(table, &proof.prices);
    request_prices.ascend(AIM, STEPS, started + settings.time_limit / 4);
    proof.take(request_prices.bound(), "request prices");
    show(Phase::Bound, &best, proof.bound);
    let regrets = guided_regrets(table, &proof.prices, request_prices.shares());
    let prices = proof.prices.clone();
    let guide = Guide { table, prices: &prices, regrets: &regrets };
    let (half, late) = (started + settings.time_limit / 2, started + settings.time_limit.mul_f64(0.75));
    for _ in 0..DIVES {
        if proof.is_within(&best, gap) || started.elapsed() > settings.time_limit / 3 {
            break;
        }
        let seeds: [u64; 2] = random.random();
        let dive = |seed: &u64| {
            let mut random = ChaCha8Rng::seed_from_u64(*seed);
            let dived = dive(&guide, &request_prices, half, &mut random);
            neighbourhoods::search(&guide, dived, &|state| state.is_feasible(), late, &mut random, &mut |_| ())
        };
        let found: Vec<State<'_>> = seeds.par_iter().map(dive).collect::<Result<_, _>>()?;
        best = found.into_iter().fold(best, State::better_of);
        show(Phase::Search, &best, proof.bound);
    }

    // Wide, in case it is soon decided; then neighbourhoods; then what time is left, for the bound again.
    for share in [0.05, 1.0] {
        if share == 1.0 && best.is_feasible() {
            let enough = |best: &State<'_>| proof.is_within(best, gap);
            best = neighbourhoods::search(&guide, best, &enough, until, &mut random, &mut |best| {
                show(Phase::Search, best, proof.bound);
            })?;
        }
        if proof.is_within(&best, gap) || left() < Duration::from_millis(100) {
            break;
        }
        let kept = kept(table, &proof, &best);
        let stop = Stop { time: left().mul_f64(share), nodes: None };
        let found = integer(table, &kept, &Limits { stop, gap, cutoff: None })?;
        if let Some(counts) = found.counts {
            best = best.better_of(State::new(table, counts).improve(1, until, 0.0, &mut random));
        }
        // Whatever uses a dropped choice costs at least the incumbent it was dropped for; the tree's arithmetic is good
        // to about 1e-9 of its figures.
        let bound = found.bound.min(best.feasible_energy());
        proof.take(bound - 1e-9 * bound.abs(), "branch and bound");
        if found.infeasible && !best.is_feasible() {
            return Ok(Outcome::Infeasible);
        }
        show(Phase::Search, &best, proof.bound);
    }
    Ok(if best.is_feasible() { Outcome::Planned(proof.of(&best, gap)) } else { Outcome::Unknown })
}

/// What guides the search for a better assignment.
#[derive(Clone, Copy)]
struct Guide<'a, 'b> {
    table: &'a OptionTable,
    /// Joules per second of each option's capacity.
    prices: &'b [f64],
    /// How much dearer each choice of each class is thought to be than the best for it.
    regrets: &'b [Vec<f64>],
}

/// Regrets at the capacity prices; higher where an option never served a class on the way to the request prices.
fn guided_regrets(table: &OptionTable, prices: &[f64], shares: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut regrets = regrets(table, prices);
    let second = |regrets: &Vec<f64>| {
        let mut order = regrets.clone();
        order.sort_by(f64::total_cmp);
        order.get(1).copied().unwrap_or(0.0)
    };
    let far = FAR * regrets.iter().map(second).sum::<f64>() / regrets.len() as f64;
    for (regret, share) in regrets.iter_mut().flatten().zip(shares.iter().flatten()) {
        *regret += if *share > 1e-3 { 0.0 } else { far };
    }
    regrets
}

/// Which choices of each class can be in a better plan than `best`.
fn kept(table: &OptionTable, proof: &Proof, best: &State<'_>) -> Vec<Vec<bool>> {
    let room = best.feasible_energy() - proof.price_bound;
    let class = |(index, regrets): (usize, Vec<f64>)| {
        let used = best.counts_of(index);
        regrets.iter().zip(used).map(|(regret, used)| *used > 0 || *regret <= room).collect()
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

    fn take(&mut self, bound: f64, by: &'static str) {
        if bound > self.bound {
            (self.bound, self.by) = (bound, by);
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

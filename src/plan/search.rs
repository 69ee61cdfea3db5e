//! Local search over the set of deployments in use: drop one, add one, or exchange one for another.
//!
//! In a queue that fills few instances, which deployments start at all decides most of the energy, and a set is
//! evaluated exactly by assigning every request to its cheapest member and placing the result.

use std::time::Instant;

use super::assign;
use super::place::{Lanes, Shape, place};
use super::price::Priced;
use super::prices::{Objective, Prices, request_pass};
use super::problem::PlanProblem;

/// Larger sets are left to the integer problem.
const MOST_OPEN: usize = 16;
/// Requests times deployments up to which a pass per move is cheap enough.
const MOST_WORK: usize = 50_000_000;
/// Deployments tried in the place of each one.
const CANDIDATES: usize = 4;

/// The best schedule found by moves from `best` until no move helps or time is up. Only `worthwhile` deployments are
/// added.
pub fn improve(problem: &PlanProblem, prices: &Prices, worthwhile: &[bool], best: Priced, until: Instant) -> Priced {
    let prices = standing_prices(problem, prices);
    let mut best = best;
    let mut state = State { open: open_set(problem, &best), lanes: lanes_of(problem, &best) };
    let work = problem.workload.requests.len() * problem.deployments().len();
    if state.open.len() > MOST_OPEN || work > MOST_WORK {
        return best;
    }
    loop {
        let mut improved = false;
        let sets = neighbours(problem, &prices, worthwhile, &state.open).into_iter();
        let sets = sets.map(|open| State { open, lanes: state.lanes.clone() });
        for candidate in lane_moves(problem, &state).into_iter().chain(sets) {
            if Instant::now() >= until {
                return best;
            }
            let Some(priced) = evaluate(problem, &prices, &candidate) else { continue };
            if priced.objective() < best.objective() * (1.0 - 1e-9) {
                state = State { open: open_set(problem, &priced), lanes: candidate.lanes };
                best = priced;
                improved = true;
                break;
            }
        }
        if !improved {
            return best;
        }
    }
}

/// Which deployments are in use, and of how many equal instances at least.
#[derive(Clone, Debug)]
struct State {
    open: Vec<usize>,
    lanes: Lanes,
}

/// Accuracy prices steer towards the floors. Device time is not scarce in the queues this is for, but where nodes can
/// sleep it costs its share of the node's standing power.
fn standing_prices(problem: &PlanProblem, prices: &Prices) -> Prices {
    let mut standing = Prices { accuracy: prices.accuracy.clone(), ..Prices::zero(problem) };
    for (deployment, row) in problem.deployments().iter().zip(&mut standing.seconds) {
        let pool = &problem.cluster.pools[deployment.pool];
        let share = f64::from(deployment.devices) / f64::from(pool.devices_per_node);
        for (w, price) in row.iter_mut().enumerate() {
            *price = problem.billed_power(deployment.pool) * share * problem.weight(w);
        }
    }
    standing
}

/// Instance counts of the schedule, for deployments on nodes that can sleep, or for all where joules are weighted.
fn lanes_of(problem: &PlanProblem, priced: &Priced) -> Lanes {
    let mut lanes = Lanes::new();
    for instance in priced.schedule.instances.iter().filter(|instance| counts(problem, instance.pool)) {
        *lanes.entry(instance.deployment).or_insert(0) += 1;
    }
    lanes
}

/// Whether being done sooner may save anything on nodes of a pool.
fn counts(problem: &PlanProblem, pool: usize) -> bool {
    problem.cluster.pools[pool].suspend || problem.is_weighted()
}

/// More or fewer instances of one deployment where that may save something, and twice or half as many of all of them.
fn lane_moves(problem: &PlanProblem, state: &State) -> Vec<State> {
    let sleeping = |v: &&usize| counts(problem, problem.deployments()[**v].pool);
    let sleeping: Vec<usize> = state.open.iter().filter(sleeping).copied().collect();
    let mut moves = Vec::new();
    let mut with = |changes: &[(usize, usize)]| {
        let mut lanes = state.lanes.clone();
        for &(v, count) in changes {
            lanes.insert(v, count.clamp(1, problem.most_instances(v).max(1)));
        }
        if lanes != state.lanes {
            moves.push(State { open: state.open.clone(), lanes });
        }
    };
    let now = |v: usize| state.lanes.get(&v).copied().unwrap_or(1);
    with(&sleeping.iter().map(|&v| (v, 2 * now(v))).collect::<Vec<_>>());
    for &v in &sleeping {
        for count in [2 * now(v), now(v) + 1, now(v).saturating_sub(1), now(v) / 2] {
            with(&[(v, count)]);
        }
    }
    with(&sleeping.iter().map(|&v| (v, now(v) / 2)).collect::<Vec<_>>());
    moves
}

fn open_set(problem: &PlanProblem, priced: &Priced) -> Vec<usize> {
    let mut open: Vec<usize> = priced.schedule.instances.iter().map(|instance| instance.deployment).collect();
    open.sort_unstable();
    open.dedup();
    open.retain(|&v| v < problem.deployments().len());
    open
}

/// Sets one move away, most promising first.
fn neighbours(problem: &PlanProblem, prices: &Prices, worthwhile: &[bool], open: &[usize]) -> Vec<Vec<usize>> {
    let mut moves: Vec<(f64, Vec<usize>)> = Vec::new();
    let bases: Vec<Vec<usize>> = std::iter::once(open.to_vec())
        .chain((0..open.len()).map(|gone| {
            let mut base = open.to_vec();
            base.remove(gone);
            base
        }))
        .collect();
    for base in bases.iter().filter(|base| !base.is_empty()) {
        let flags = flags(problem, base);
        let pass = request_pass(problem, prices, Some(&flags), Objective::Energy);
        let starts: f64 = base.iter().map(|&v| problem.least_start_cost(v)).sum();
        if base.len() < open.len() {
            moves.push((pass.total + starts, base.clone()));
        }
        let mut additions: Vec<(f64, usize)> = (0..flags.len())
            .filter(|&v| worthwhile[v] && !flags[v] && !open.contains(&v) && pass.gains[v] > 0.0)
            .map(|v| (problem.least_start_cost(v) - pass.gains[v], v))
            .collect();
        additions.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for (change, v) in additions.into_iter().take(CANDIDATES) {
            let mut set = base.clone();
            set.push(v);
            set.sort_unstable();
            moves.push((pass.total + starts + change, set));
        }
    }
    moves.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    moves.into_iter().map(|(_, set)| set).collect()
}

/// Places every request on its cheapest open deployment; `None` if a request has none or it cannot be placed.
fn evaluate(problem: &PlanProblem, prices: &Prices, state: &State) -> Option<Priced> {
    let flags = flags(problem, &state.open);
    let mut assignment = request_pass(problem, prices, Some(&flags), Objective::Energy).cheapest;
    if assignment.iter().any(|&v| !flags.get(v as usize).copied().unwrap_or(false)) {
        return None;
    }
    if !assign::repair_floors(problem, prices, &flags, &mut assignment) {
        return None;
    }
    place(problem, &assignment, Shape::Lanes(&state.lanes)).ok()
}

fn flags(problem: &PlanProblem, open: &[usize]) -> Vec<bool> {
    let mut flags = vec![false; problem.deployments().len()];
    for &v in open {
        flags[v] = true;
    }
    flags
}

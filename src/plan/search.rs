//! Local search over the set of deployments in use: drop one, add one, or exchange one for another.
//!
//! In a queue that fills few instances, which deployments start at all decides most of the energy, and a set is
//! evaluated exactly by assigning every request to its cheapest member and placing the result.

use std::time::Instant;

use super::assign;
use super::place::{Lanes, place};
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
    // Accuracy prices steer towards the floors; device time is not scarce in the queues this is for.
    let prices = Prices { accuracy: prices.accuracy.clone(), ..Prices::zero(problem) };
    let mut best = best;
    let mut open = open_set(problem, &best);
    let work = problem.workload.requests.len() * problem.deployments().len();
    if open.len() > MOST_OPEN || work > MOST_WORK {
        return best;
    }
    loop {
        let mut improved = false;
        for candidate in neighbours(problem, &prices, worthwhile, &open) {
            if Instant::now() >= until {
                return best;
            }
            let Some(priced) = evaluate(problem, &prices, &candidate) else { continue };
            if priced.objective() < best.objective() * (1.0 - 1e-9) {
                open = open_set(problem, &priced);
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
        let starts: f64 = base.iter().map(|&v| problem.deployments()[v].start_energy().0).sum();
        if base.len() < open.len() {
            moves.push((pass.total + starts, base.clone()));
        }
        let mut additions: Vec<(f64, usize)> = (0..flags.len())
            .filter(|&v| worthwhile[v] && !flags[v] && !open.contains(&v) && pass.gains[v] > 0.0)
            .map(|v| (problem.deployments()[v].start_energy().0 - pass.gains[v], v))
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

/// Places every request on its cheapest member of `open`; `None` if a request has none or it cannot be placed.
fn evaluate(problem: &PlanProblem, prices: &Prices, open: &[usize]) -> Option<Priced> {
    let flags = flags(problem, open);
    let mut assignment = request_pass(problem, prices, Some(&flags), Objective::Energy).cheapest;
    if assignment.iter().any(|&v| !flags.get(v as usize).copied().unwrap_or(false)) {
        return None;
    }
    if !assign::repair_floors(problem, prices, &flags, &mut assignment) {
        return None;
    }
    place(problem, &assignment, &Lanes::new()).ok()
}

fn flags(problem: &PlanProblem, open: &[usize]) -> Vec<bool> {
    let mut flags = vec![false; problem.deployments().len()];
    for &v in open {
        flags[v] = true;
    }
    flags
}

//! Finish times of the requests of one instance: list scheduling on its batch slots.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::confidence;
use super::problem::PlanProblem;
use crate::domain::Rates;

/// Sorts requests into list order: deadline, then longest, then row.
pub fn sort(problem: &PlanProblem, rates: &Rates, requests: &mut [u32]) {
    let key = |request: u32| {
        let (input, output) = problem.lengths(request as usize);
        (problem.kinds[problem.kind_of(request as usize)].deadline, rates.slot_seconds(input, output))
    };
    requests.sort_by_cached_key(|&request| {
        let (deadline, seconds) = key(request);
        // Non-negative floats order as their bits do.
        (deadline.to_bits(), Reverse(seconds.to_bits()), request)
    });
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finish {
    /// Last finish; the opening time if there are no requests.
    pub end: f64,
    /// Most seconds by which a request misses its deadline, with the confidence asked for; 0 if none does.
    pub lateness: f64,
    /// Last finish with the confidence asked for; `end` where every output is known.
    pub secured: f64,
}

/// Runs `requests`, in list order, on slots that open at `opening`. `on_finish` sees each request's finish.
pub fn run(
    problem: &PlanProblem,
    rates: &Rates,
    requests: &[u32],
    opening: f64,
    mut on_finish: impl FnMut(u32, f64),
) -> Finish {
    let slots = rates.slots().min(requests.len().max(1));
    let mut free: BinaryHeap<Reverse<(u64, u32)>> =
        (0..slots as u32).map(|slot| Reverse((opening.to_bits(), slot))).collect();
    let mut result = Finish { end: opening, lateness: 0.0, secured: opening };
    for &request in requests {
        let Some(Reverse((at, slot))) = free.pop() else { break };
        let kind = &problem.kinds[problem.kind_of(request as usize)];
        let (input, output) = problem.lengths(request as usize);
        let finish = f64::from_bits(at).max(kind.release) + rates.slot_seconds(input, output);
        free.push(Reverse((finish.to_bits(), slot)));
        result.end = result.end.max(finish);
        result.lateness = result.lateness.max(finish - kind.deadline);
        on_finish(request, finish);
    }
    result.secured = result.end;
    if let Some(secured) = confidence::secure(problem, rates, requests, opening) {
        result.lateness = result.lateness.max(secured.lateness);
        result.secured = result.end.max(secured.end);
    }
    result
}

//! When an instance is done with a stated confidence, where the outputs of its requests are predictions.
//!
//! The requests due by a deadline, in list order on b slots, are done by the earlier of two times: that of the list
//! schedule in which every output reaches its bound (list schedules of independent requests never end later when one gets
//! shorter), and, by Graham's argument, when all slots have done all the work but for the last request,
//!
//! ```text
//! max(opening, last release) + sum S_r / b + margin + (1 - 1/b) max S_r(bound)
//! ```
//!
//! The margin is Bernstein's for a sum of independent requests, from variances and largest deviations, its risk divided
//! among all instances there can be, plus the error that the means have in common. Prices and the bound know none of it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::problem::PlanProblem;
use crate::domain::Rates;
use crate::stats::distribution::t_two_sided_quantile;

/// Degrees of freedom of the shortest history that is believed.
const FREEDOM: usize = 29;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Secured {
    /// When all requests are done, with confidence.
    pub end: f64,
    /// Most seconds past a deadline, then.
    pub lateness: f64,
}

/// `requests` in list order, on slots that open at `opening`; `None` where every output is known.
pub fn secure(problem: &PlanProblem, rates: &Rates, requests: &[u32], opening: f64) -> Option<Secured> {
    let spread = problem.workload.output_spread.as_ref()?;
    if requests.iter().all(|&request| spread.variance[request as usize] == 0.0) {
        return None;
    }
    let risk = 1.0 - spread.confidence;
    let devices: usize =
        problem.cluster.pools.iter().map(|pool| pool.nodes.len() * pool.devices_per_node as usize).sum();
    let instances = devices.min(problem.workload.requests.len()).max(1) as f64;
    // Half of the risk for the sums, divided among the instances, half for the means.
    let margin = Margin {
        logarithm: (2.0 * instances / risk).ln(),
        quantile: t_two_sided_quantile(spread.confidence, FREEDOM).unwrap_or(f64::INFINITY),
        ..Margin::default()
    };
    let slots = rates.slots().min(requests.len().max(1));
    let mut sums = Sums { open: opening, work: 0.0, longest: 0.0, margin };
    let mut free: BinaryHeap<Reverse<u64>> = std::iter::repeat_n(Reverse(opening.to_bits()), slots).collect();
    let mut at_bounds = opening;
    let mut secured = Secured { end: opening, lateness: 0.0 };
    for &request in requests {
        let kind = &problem.kinds[problem.kind_of(request as usize)];
        let (input, output) = problem.lengths(request as usize);
        let index = request as usize;
        let most = rates.slot_seconds(input, spread.most[index]);
        let Some(Reverse(at)) = free.pop() else { break };
        let finish = f64::from_bits(at).max(kind.release) + most;
        free.push(Reverse(finish.to_bits()));
        at_bounds = at_bounds.max(finish);

        let [_, _, c2, c3, _, c5] = rates.busy_time;
        let per_slot = rates.slots() as f64 / slots as f64;
        let variance = f64::from(spread.variance[index]);
        let slope = per_slot * (c2 + c3 * f64::from(input) + 2.0 * c5 * f64::from(spread.most[index]));
        let expected = per_slot * (rates.seconds(input, output) + c5 * variance);
        sums.open = sums.open.max(kind.release);
        sums.work += expected;
        sums.longest = sums.longest.max(most);
        sums.margin.add(
            slope * slope * variance,
            (most / slots as f64 - per_slot * rates.seconds(input, output)).max(0.0),
            slope * f64::from(spread.mean_error[index]),
        );
        let done = at_bounds.min(sums.done(slots as f64));
        secured.end = secured.end.max(done);
        secured.lateness = secured.lateness.max(done - kind.deadline);
    }
    Some(secured)
}

/// What the requests so far add up to.
struct Sums {
    open: f64,
    /// Expected seconds of all slots together, over their number.
    work: f64,
    longest: f64,
    margin: Margin,
}

impl Sums {
    fn done(&self, slots: f64) -> f64 {
        self.open + self.work + self.margin.seconds() + (1.0 - 1.0 / slots) * self.longest
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Margin {
    /// ln(1 / risk) of a sum, and the quantile of the means.
    logarithm: f64,
    quantile: f64,
    variance: f64,
    largest: f64,
    all: f64,
    common: f64,
}

impl Margin {
    /// Variance, largest deviation and error of the mean of one request.
    fn add(&mut self, variance: f64, deviation: f64, common: f64) {
        self.variance += variance;
        self.largest = self.largest.max(deviation);
        self.all += deviation;
        self.common += common;
    }

    /// Bernstein: P(sum - mean >= t) <= exp(-t^2 / (2 (V + c t / 3))); never more than all deviations together.
    fn seconds(&self) -> f64 {
        let third = self.largest * self.logarithm / 3.0;
        let bernstein = third + (third * third + 2.0 * self.variance * self.logarithm).sqrt();
        (bernstein + self.quantile * self.common).min(self.all)
    }
}

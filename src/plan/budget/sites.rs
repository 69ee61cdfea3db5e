//! What requests may take of each range within a budget of seconds.

use super::{ROUNDING, Range, Ranges};
use crate::domain::{dot, features};
use crate::plan::problem::PlanProblem;

/// What serving a request takes at least of an instance of a range, on average over the requests of a cell.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    pub range: u32,
    pub energy: f64,
    pub seconds: f64,
}

/// Ranges as places to open, and what each request takes of them.
pub struct Sites<'a> {
    pub problem: &'a PlanProblem<'a>,
    pub ranges: &'a Ranges,
    pub budget: f64,
    /// What a device-second costs at least.
    pub least_second: f64,
    /// By job and range, in percent; 0 where it is missing, for then no floor asks for it.
    pub accuracy: Vec<Vec<f64>>,
    /// By cell, of ranges that can serve some request of it; never empty.
    pub offers: Vec<Vec<Offer>>,
}

impl Sites<'_> {
    /// Job of a request.
    pub fn job_of(&self, request: usize) -> usize {
        self.problem.workload.groups[self.problem.workload.requests.group[request] as usize].job
    }

    /// Job whose floor the requests of a cell count towards, if any.
    pub fn job(&self, cell: usize) -> usize {
        self.job_of(self.ranges.cells.requests[self.ranges.cells.list[cell].first] as usize)
    }

    /// Requests of a cell.
    pub fn members(&self, cell: usize) -> &[u32] {
        self.ranges.members(&self.ranges.cells.list[cell])
    }

    /// How many they are.
    pub fn count(&self, cell: usize) -> f64 {
        self.ranges.cells.list[cell].count as f64
    }

    /// Whether some instance of a range can serve a request in time.
    pub(super) fn serves(&self, range: usize, request: usize) -> bool {
        let Self { problem, ranges: Ranges { list, .. }, budget, .. } = self;
        let Range { v, slot, .. } = &list[range];
        let (deployment, group) = (&problem.deployments()[*v], problem.workload.requests.group[request] as usize);
        let (input, output) = problem.lengths(request);
        let room = budget.min(problem.workload.groups[group].deadline.0 - problem.wake(0)) * (1.0 + ROUNDING);
        problem.options.allowed[group][*v]
            && deployment.fits(input, output)
            && deployment.load_time.0 + dot(slot, &features(f64::from(input), f64::from(output))) <= room
    }

    /// What a single request takes of a range; `None` where that cannot serve it.
    pub fn offer(&self, range: usize, request: usize) -> Option<Offer> {
        let (input, output) = self.problem.lengths(request);
        let phi = || features(f64::from(input), f64::from(output));
        self.serves(range, request).then(|| self.ranges.offer(range, &phi()))
    }

    /// Devices of an instance of a range.
    pub fn devices(&self, range: usize) -> f64 {
        f64::from(self.problem.deployments()[self.ranges.deployment(range)].devices)
    }

    /// What all requests of an instance of a range take of it at most: their number where that is limited, or else the
    /// seconds it serves. (With no more requests than slots the seconds are no limit: each has a slot for itself.)
    pub fn capacity(&self, range: usize) -> f64 {
        let load = self.problem.deployments()[self.ranges.deployment(range)].load_time.0;
        self.ranges.most(range).map_or((self.budget - load).max(1e-9), |most| most as f64)
    }

    /// What a request takes of that.
    pub fn taken(&self, offer: &Offer) -> f64 {
        if self.ranges.most(offer.range as usize).is_some() { 1.0 } else { offer.seconds }
    }
}

//! Plans for large queues: instances that hold their devices for whole windows, all but a few, so that what the class problem
//! decides can be placed as it is, and every request settled on them.
//!
//! What then finds no room says how much of the instances' time cannot be filled, which the next class problem leaves out.
//! With few requests, whole windows would waste what one of these holds; `whole` places those in other ways.

use std::time::Instant;

use super::branch::Leaf;
use super::relax::Relaxed;
use super::{Ground, Solver};
use crate::domain::Pool;
use crate::plan::capacity::{CapacityInput, Purpose};
use crate::plan::classes::Classes;
use crate::plan::columns::Column;
use crate::plan::hints::{tighten, used};
use crate::plan::place::{self, Shape, Unplaced};
use crate::plan::price::Priced;
use crate::plan::prices::Objective;
use crate::plan::problem::PlanProblem;
use crate::plan::relaxation::{Charge, ClassProblem};
use crate::plan::settle::{Counting, Settled};
use crate::plan::{PlanError, assign, dive};

/// Requests from which a queue is large; on many devices that never sleep.
const MANY_REQUESTS: usize = 200_000;
const MANY_ON_MANY_DEVICES: usize = 20_000;
const MANY_DEVICES: usize = 32;
/// Class problems solved, at most.
const MOST_ROUNDS: usize = 24;
/// Shares of the time limit after which no further round begins: to find a plan, to better it before its bound is, and to plan
/// a leaf.
const FIRST: f64 = 0.8;
const BETTERED: f64 = 0.45;
const LEAF: f64 = 0.95;
/// The same for a further try of instances on which not all found room.
const LAST: f64 = 0.95;
/// Gap beyond which a plan known beforehand is poor.
const POOR: f64 = 0.02;
/// Seconds of an instance below which nothing is held back.
const LEAST_RESERVE: f64 = 0.5;
/// Share by which work is planned longer than it is: whole requests do not fill instances exactly.
const SLACK: f64 = 5e-4;

/// What whole instances are found with.
struct Guide<'a> {
    classes: &'a Classes,
    columns: &'a [Column],
    charges: &'a [Charge],
    /// Of the relaxation.
    instances: &'a [Vec<f64>],
    /// Starts of each group of deployments at most.
    most: &'a [(Vec<usize>, f64)],
    /// Whether any plan will do.
    any: bool,
}

impl<'a> Guide<'a> {
    /// The relaxation's.
    fn of(relaxed: &'a Relaxed) -> Self {
        let Relaxed { classes, columns, charges, solution, .. } = relaxed;
        Self { classes, columns, charges, instances: &solution.instances, most: &[], any: false }
    }
}

impl Solver<'_> {
    /// Whether requests are so many that only instances over whole windows are tried. Settling knows neither hours nor cap
    /// beforehand: where there are any, other ways may do better.
    pub(super) fn is_large(&self) -> bool {
        let problem = self.ground.problem;
        let pools = &problem.cluster.pools;
        let devices: usize = pools.iter().map(Pool::free_device_count).sum();
        let many_devices = devices >= MANY_DEVICES && !pools.iter().any(|pool| pool.suspend);
        let many = if many_devices { MANY_ON_MANY_DEVICES } else { MANY_REQUESTS };
        !problem.is_weighted() && problem.power_room().is_none() && problem.workload.requests.len() > many
    }

    /// Any plan of a large queue that has none but poor ones.
    pub(super) fn plan_quickly(&mut self, relaxed: &Relaxed) -> Result<(), PlanError> {
        if self.gap().is_some_and(|gap| gap <= POOR) {
            return Ok(());
        }
        self.plan_along(Guide { any: true, ..Guide::of(relaxed) }, FIRST, FIRST)
    }

    /// Whole instances by diving, and requests settled on them, until a round gains less than the gap asked for.
    /// Begins with the starts of `leaf` where there is one, and starts no more of what is dear as long as that serves all;
    /// else with the relaxation's.
    pub(super) fn plan_whole_windows(&mut self, relaxed: &Relaxed, leaf: Option<&Leaf>) -> Result<(), PlanError> {
        let guide = Guide::of(relaxed);
        match leaf {
            None => self.plan_along(guide, FIRST, BETTERED),
            Some(Leaf { solution, columns, charges, most }) => {
                let guide = Guide { columns, charges, instances: &solution.instances, most, ..guide };
                self.plan_along(guide, LEAF, LEAF)
            }
        }
    }

    /// `begun` and `bettered`: shares of the time limit after which no round begins, the first or as long as there is no plan,
    /// and further ones.
    fn plan_along(&mut self, guide: Guide, begun: f64, bettered: f64) -> Result<(), PlanError> {
        let ground = self.ground;
        let Guide { classes, columns, charges, instances, .. } = guide;
        let mut usable = ground.unlimited.clone();
        let mut slack = SLACK;
        let mut columns = columns.to_vec();
        let mut failed = true;
        let in_use = |v: usize| instances[v].iter().any(|&n| n > 1e-6);
        let mut offered: Vec<bool> = (0..ground.offered.len()).map(|v| ground.offered[v] && in_use(v)).collect();
        // Charged for starts, the relaxation has instances that are worth rounding up; of use where they can be.
        let roomy = can_be_rounded_up(ground.problem, instances);
        let mut most = if roomy { guide.most } else { &[] };
        // Instances of the last round, as long as dealing requests to them anew may do.
        let mut kept: Option<Vec<Vec<f64>>> = None;
        for _ in 0..MOST_ROUNDS {
            // With the same instances, a round is short.
            let share = match (&kept, failed) {
                (Some(_), true) => LAST,
                (None, true) => begun,
                (_, false) => bettered,
            };
            if Instant::now() >= self.started + self.settings.time_limit.mul_f64(share) || self.done() {
                break;
            }
            let purpose = Purpose::WholeWindows { slack, reserve: &self.reserve };
            let capacity = CapacityInput { offered: &offered, purpose, ..ground.capacity(ground.scale, &usable) };
            let mut class_problem = ClassProblem::new(capacity, classes, Objective::Energy, &columns)?;
            if roomy {
                class_problem.charge(charges)?;
            }
            for (group, (members, most)) in most.iter().enumerate() {
                class_problem.count_starts(members)?;
                class_problem.limit_starts(group, (0.0, *most))?;
            }
            let worth = if guide.any { f64::INFINITY } else { 0.02 * self.settings.gap * self.bound };
            let whole = match kept.take() {
                Some(instances) => dive::resume(ground.problem, &mut class_problem, &instances, worth, self.deadline)?,
                None => Some(dive::dive(ground.problem, &mut class_problem, worth, self.deadline)?),
            };
            let Some(whole) = whole else { continue };
            if whole.unserved > 1e-6 && !most.is_empty() {
                most = &[];
                continue;
            }
            if whole.unserved > 1e-6 {
                let asked_for = class_problem.asked_for(&whole);
                columns = class_problem.into_columns();
                if !ground.take_up(&mut offered, &asked_for) && !self.loosen(&mut usable) {
                    break;
                }
                continue;
            }
            self.class_mip = Some(self.class_mip.map_or(whole.objective, |known| known.min(whole.objective)));
            let mut assignment = assign::from_shares(ground.problem, classes, &whole);
            let open = used(ground.problem, &assignment);
            if !assign::repair_floors(ground.problem, &whole.prices, &open, &mut assignment) {
                break;
            }
            let before = self.best.as_ref().map_or(f64::INFINITY, Priced::objective);
            let shape = Shape::Whole(&whole.instances);
            let (Settled { priced, lacking }, shortages) =
                place::place_and_settle(ground.problem, &whole.prices, &assignment, shape, Counting::Rounds)
                    .unwrap_or_default();
            failed = priced.is_none();
            let packed = shortages.is_empty();
            if failed {
                if lacking.is_empty() && packed {
                    slack *= 2.0;
                }
                tighten(ground.problem, &mut usable, &shortages);
                self.why_not = Some(place::lacking(ground.problem, shortages).unwrap_or(Unplaced::Crowded));
            }
            for (v, seconds) in lacking {
                self.reserve[v] += seconds;
            }
            priced.into_iter().for_each(|priced| self.keep_if_better(priced, &whole.prices));
            let after = self.best.as_ref().map_or(f64::INFINITY, Priced::objective);
            let gained = before.is_infinite() || before - after > 0.1 * self.settings.gap * self.bound;
            if !failed && (guide.any || !gained) {
                break;
            }
            // The same instances again, with what they lacked held back.
            kept = (packed || !failed).then_some(whole.instances);
        }
        Ok(())
    }

    /// Where too few requests are served: less held back. `false` if nothing is.
    fn loosen(&mut self, usable: &mut Vec<Vec<f64>>) -> bool {
        if self.reserve.iter().all(|&seconds| seconds < LEAST_RESERVE) && *usable == self.ground.unlimited {
            return false;
        }
        for seconds in &mut self.reserve {
            *seconds = if *seconds < LEAST_RESERVE { 0.0 } else { 0.5 * *seconds };
        }
        usable.clone_from(&self.ground.unlimited);
        true
    }
}

impl Ground<'_> {
    /// Offers those that ask to be: they may do more with the same devices. `false` if none does.
    fn take_up(&self, offered: &mut [bool], asked_for: &[f64]) -> bool {
        let asked = |&v: &usize| self.offered[v] && !offered[v] && asked_for[v] > 0.0;
        let more: Vec<usize> = (0..offered.len()).filter(asked).collect();
        more.iter().for_each(|&v| offered[v] = true);
        !more.is_empty()
    }
}

/// Whether every pool has devices for all its instances, by (deployment, window), rounded up.
fn can_be_rounded_up(problem: &PlanProblem, instances: &[Vec<f64>]) -> bool {
    let mut wanted = vec![vec![0.0; problem.windows.len()]; problem.cluster.pools.len()];
    for (deployment, row) in problem.deployments().iter().zip(instances) {
        for (wanted, n) in wanted[deployment.pool].iter_mut().zip(row) {
            *wanted += f64::from(deployment.devices) * (n - 1e-6).ceil().max(0.0);
        }
    }
    let mut pools = problem.cluster.pools.iter().zip(&wanted);
    pools.all(|(pool, wanted)| wanted.iter().all(|wanted| *wanted <= pool.free_device_count() as f64))
}

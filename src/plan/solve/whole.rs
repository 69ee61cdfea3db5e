//! Whole instances for the relaxation's shares, placed: with more slack, and with less of a pool, each time no placement is
//! found.

use std::time::Instant;

use super::{Solver, gap};
use crate::plan::capacity::{CapacityInput, Purpose};
use crate::plan::hints::{tighten, used};
use crate::plan::place::{self, Lanes, Shape, Unplaced, place};
use crate::plan::price::Priced;
use crate::plan::prices::{Objective, Prices};
use crate::plan::relaxation::{ClassProblem, ClassSolution};
use crate::plan::settle::Counting;
use crate::plan::solve::relax::Relaxed;
use crate::plan::{PlanError, assign, dive};

/// Rounds of "placement lacks room: plan with less of that pool".
const TIGHTENINGS: usize = 48;
/// Of which so many once there is a plan.
const TIGHTENINGS_WITH_PLAN: usize = 6;
/// Requests times instances up to which a plan is dealt anew to see whether that saves more.
const MOST_RESETTLED: usize = 50_000_000;
/// Share by which work is planned longer than it is, at first and at most: whole requests do not fill instances exactly.
const LEAST_SLACK: f64 = 0.008;
const MOST_SLACK: f64 = 0.05;

impl Solver<'_> {
    /// Whole instances by diving, placed; with less of a pool each time placement finds no room there.
    pub(super) fn plan_whole_instances(&mut self, relaxed: &Relaxed) -> Result<(), PlanError> {
        let ground = self.ground;
        let mut usable = ground.unlimited.clone();
        let mut enough = usable.clone();
        let until = self.started + self.settings.time_limit.mul_f64(0.6);
        // What the relaxation does not touch could only replace a deployment that diving closes; the search tries that.
        let in_use = |v: usize| relaxed.solution.instances[v].iter().any(|&n| n > 1e-6);
        let mut offered: Vec<bool> = (0..ground.offered.len()).map(|v| ground.offered[v] && in_use(v)).collect();
        let mut slack = LEAST_SLACK;
        for round in 0..TIGHTENINGS {
            if Instant::now() >= until || (round >= TIGHTENINGS_WITH_PLAN && self.best.is_some()) {
                break;
            }
            let capacity = CapacityInput {
                offered: &offered,
                purpose: Purpose::Placement { slack },
                ..ground.capacity(ground.scale, &usable)
            };
            let mut class_problem = ClassProblem::new(capacity, &relaxed.classes, Objective::Energy, &relaxed.columns)?;
            let whole =
                dive::dive(ground.problem, &mut class_problem, 0.02 * self.settings.gap * self.bound, self.deadline)?;
            if whole.unserved > 1e-6 && offered != ground.offered {
                offered.clone_from(&ground.offered);
                continue;
            }
            if whole.unserved > 1e-6 {
                // Too tight: half way back to what was enough.
                for (share, &enough) in usable.iter_mut().flatten().zip(enough.iter().flatten()) {
                    *share = 0.5 * (*share + enough);
                }
                continue;
            }
            enough.clone_from(&usable);
            self.class_mip.get_or_insert(whole.objective);
            let mut assignment = assign::from_shares(ground.problem, &relaxed.classes, &whole);
            let open = used(ground.problem, &assignment);
            if !assign::repair_floors(ground.problem, &whole.prices, &open, &mut assignment) {
                break;
            }
            let unplaced = self.offer(assignment, &whole, &whole.prices);
            slack = (2.0 * slack).min(MOST_SLACK);
            match unplaced {
                Some(Unplaced::NoRoom { shortages, .. } | Unplaced::NoPower { shortages, .. }) => {
                    tighten(ground.problem, &mut usable, &shortages)
                }
                Some(Unplaced::Late(..) | Unplaced::TooSlow(..) | Unplaced::OverCap) => {
                    usable.iter_mut().flatten().for_each(|share| *share *= 0.98);
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// Places an assignment, shaped as the relaxation loads it or as its own work asks, and keeps the best so far.
    /// Returns why neither could be placed.
    pub(super) fn offer(&mut self, assignment: Vec<u16>, whole: &ClassSolution, prices: &Prices) -> Option<Unplaced> {
        let problem = self.ground.problem;
        let loaded = &whole.loaded;
        let counting = if self.is_large() { Counting::Rounds } else { Counting::Work };
        let settled = place::place_and_settle(problem, prices, &assignment, Shape::Whole(&whole.instances), counting);
        if self.is_large() {
            settled
                .into_iter()
                .filter_map(|(settled, _)| settled.priced)
                .for_each(|priced| self.keep_if_better(priced, prices));
            return None;
        }
        let mut placed: Vec<Priced> = settled.into_iter().filter_map(|(settled, _)| settled.priced).collect();
        let plain = place(problem, &assignment, Shape::Lanes(&Lanes::new()));
        let shaped = if problem.windows.len() > 1 || plain.is_err() {
            Some(place(problem, &assignment, Shape::Staircase(loaded)))
        } else {
            None
        };
        let mut reason = None;
        for attempt in std::iter::once(plain).chain(shaped) {
            match attempt {
                Ok(priced) => placed.push(priced),
                Err(why) => reason = Some(why),
            }
        }
        if placed.is_empty() {
            // What was placed may yet hold everything, dealt differently.
            for shape in [Shape::Staircase(loaded), Shape::Lanes(&Lanes::new())] {
                let settled = place::place_and_settle(problem, prices, &assignment, shape, counting);
                placed.extend(settled.into_iter().filter_map(|(settled, _)| settled.priced));
            }
        } else {
            reason = None;
        }
        for priced in placed {
            self.keep_if_better(priced, prices);
        }
        self.why_not.clone_from(&reason);
        reason
    }

    /// Keeps a schedule that beats the best one, with its requests dealt anew where that saves more.
    pub(super) fn keep_if_better(&mut self, priced: Priced, prices: &Prices) {
        let objective = self.best.as_ref().map_or(f64::INFINITY, Priced::objective);
        if priced.objective() >= 1.02 * objective {
            return;
        }
        // Dealing a large queue anew takes a while: not where there is nothing more to gain.
        let met = gap(priced.objective(), self.bound) <= self.settings.gap;
        let work = self.ground.problem.workload.requests.len() * priced.schedule.instances.len();
        let resettled =
            if met || work > MOST_RESETTLED { None } else { place::resettle(self.ground.problem, prices, &priced) };
        for priced in std::iter::once(priced).chain(resettled) {
            if self.best.as_ref().is_none_or(|best| priced.objective() < best.objective()) {
                self.best = Some(priced);
            }
        }
    }
}

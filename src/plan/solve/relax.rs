//! The relaxation over classes fine enough and deployments enough, and which deployments it shows to be worth a start.
//!
//! Most deployments are never used. Beyond a few rows the relaxation begins with those that are cheapest without prices
//! and takes up others as requests ask for them; those left out have prices at which they would not help, so that the
//! bound holds over all.

use std::time::Instant;

use super::feasibility::{self, Feasibility};
use super::known::Start;
use super::{MOST_CLASSES, Solver};
use crate::plan::capacity::CapacityInput;
use crate::plan::classes::Classes;
use crate::plan::columns::{Column, columns_at};
use crate::plan::hints::used;
use crate::plan::price::Priced;
use crate::plan::prices::{Objective, PassResult, request_pass};
use crate::plan::relaxation::{Charge, ClassProblem, ClassSolution};
use crate::plan::{Phase, PlanError};

/// Rounds of splitting, at most; they end sooner when merging costs less than this share of the gap asked for.
const SPLIT_ROUNDS: usize = 6;
pub(super) const MERGING_OF_GAP: f64 = 0.2;
/// Deployments times windows up to which the relaxation begins with all deployments.
const ALL_AT_ONCE: usize = 1000;

/// The relaxation solved over classes fine enough.
#[derive(Clone)]
pub(super) struct Relaxed {
    pub(super) classes: Classes,
    pub(super) columns: Vec<Column>,
    /// Rows (3b) in it.
    pub(super) charges: Vec<Charge>,
    /// Deployments it was solved over; the prices of the others are such that they would not help.
    pub(super) offered: Vec<bool>,
    pub(super) solution: ClassSolution,
    /// Over single requests, at the solution's prices.
    pub(super) pass: PassResult,
    /// A proof already that there is no plan.
    pub(super) shortage: Option<Feasibility>,
}

impl Solver<'_> {
    /// The relaxation over classes that are split where their members disagree at its prices, and over the deployments that
    /// some request would use at them. `free` is the request pass without prices.
    pub(super) fn relax(&mut self, free: &PassResult) -> Result<Relaxed, PlanError> {
        let ground = self.ground;
        self.report(Phase::Classes);
        let mut classes = Classes::new(ground.problem);
        // All of them where that is cheap: their reduced costs then say best which ones cannot matter.
        let rows = ground.offered.len() * ground.problem.windows.len();
        let mut offered = if rows <= ALL_AT_ONCE { ground.offered.clone() } else { self.restricted(&free.cheapest) };
        let mut seed = Vec::new();
        let mut splits = 0;
        let mut asked = false;
        let (columns, solution, pass, shortage) = loop {
            self.report(Phase::Relaxation);
            let capacity = CapacityInput { offered: &offered, ..ground.capacity(ground.scale, &ground.unlimited) };
            let mut class_problem = ClassProblem::new(capacity, &classes, Objective::Energy, &seed)?;
            let infeasible = PlanError::Solver("the relaxation has no solution");
            let solution = class_problem.solve(self.deadline)?.ok_or(infeasible)?;
            let columns = class_problem.columns().to_vec();
            drop(class_problem);
            let pass = request_pass(ground.problem, &solution.prices, None, Objective::Energy);
            let missed = (solution.requests_dual - pass.total) / solution.objective.abs().max(f64::MIN_POSITIVE);
            // Too few deployments or too coarse classes may also be why something is left unserved.
            let improvable = solution.unserved > 1e-6 || missed > MERGING_OF_GAP * self.settings.gap;
            let mut changed = false;
            if improvable && Instant::now() < self.deadline {
                for (offered, wanted) in offered.iter_mut().zip(self.restricted(&pass.cheapest)) {
                    changed |= wanted && !*offered;
                    *offered |= wanted;
                }
                // Where there clearly is no room, no splitting makes any.
                if !changed && solution.unserved > 1e-6 && self.best.is_none() && !asked {
                    asked = true;
                    let start = Start { classes: classes.clone(), columns: columns.clone(), offered: offered.clone() };
                    let found =
                        feasibility::over_classes(ground, start, |_| false, self.deadline)?.map(|(found, _)| found);
                    if let Some(shortage) = found.filter(|found| found.is_clear(ground.problem)) {
                        break (columns, solution, pass, Some(shortage));
                    }
                }
                if splits < SPLIT_ROUNDS && classes.split_disagreeing(ground.problem, &pass.cheapest, MOST_CLASSES) > 0
                {
                    splits += 1;
                    changed = true;
                }
            }
            if !changed {
                break (columns, solution, pass, None);
            }
            seed = columns_at(ground.problem, &classes, &solution.prices);
        };
        Ok(Relaxed { classes, columns, charges: Vec::new(), offered, solution, pass, shortage })
    }

    /// Deployments in use that some node can hold.
    pub(super) fn restricted(&self, assignment: &[u16]) -> Vec<bool> {
        let used = used(self.ground.problem, assignment);
        self.ground.offered.iter().zip(used).map(|(&offered, used)| offered && used).collect()
    }

    /// Deployments that a plan better than the best one may start: the others raise the root bound above it.
    pub(super) fn worthwhile(&self, relaxed: &Relaxed, root: f64) -> Vec<bool> {
        let limit = self.best.as_ref().map_or(f64::INFINITY, Priced::objective) * (1.0 + 1e-6);
        let solution = &relaxed.solution;
        // Those the relaxation left out pay for their devices by the second, and for their start at once.
        let mut prices = solution.prices.clone();
        for (row, share) in prices.seconds.iter_mut().zip(&solution.start_share) {
            row.iter_mut().for_each(|price| *price = (*price - share).max(0.0));
        }
        let pass = request_pass(self.ground.problem, &prices, Some(&relaxed.offered), Objective::Energy);
        let outside = |v: usize| self.ground.problem.least_start_cost(v) - pass.gains[v];
        let gained: f64 =
            (0..prices.seconds.len()).filter(|&v| !relaxed.offered[v]).map(|v| (-outside(v)).max(0.0)).sum();
        let without = solution.objective - solution.requests_dual + pass.total - gained;
        let least = |v: usize| {
            if relaxed.offered[v] { root + solution.opening_cost[v] } else { without + outside(v).max(0.0) }
        };
        (0..prices.seconds.len()).map(|v| self.ground.offered[v] && least(v) <= limit).collect()
    }
}

//! The relaxation with requests charged for whole starts, which raises its bound where divided instances would serve a few
//! choice requests each.
//!
//! Its rows are added where they are violated. The members of a class disagree at the new prices; over classes split where
//! they do, the bound rises further, which a plan need not wait for.

use std::collections::BTreeMap;
use std::time::Instant;

use super::relax::{MERGING_OF_GAP, Relaxed};
use super::{MOST_CLASSES, Solver};
use crate::plan::PlanError;
use crate::plan::capacity::CapacityInput;
use crate::plan::classes::Classes;
use crate::plan::columns::{Column, columns_at};
use crate::plan::prices::{NONE, Objective, PassResult, Prices, request_pass};
use crate::plan::problem::PlanProblem;
use crate::plan::relaxation::{Charge, ClassProblem, ClassSolution};
use crate::plan::start_prices::StartPrices;

/// Rounds of adding rows; they end sooner when one gains less than this share of the gap asked for.
const ROUNDS: usize = 20;
const GAIN_OF_GAP: f64 = 0.02;
/// Rounds of splitting classes.
const SPLITS: usize = 3;
/// Passes over the requests to price floors.
const FLOOR_PASSES: usize = 12;
/// Share of the time limit for each relaxation.
const SHARE_OF_TIME: f64 = 0.15;

/// The relaxation with its rows.
struct Charged {
    solution: ClassSolution,
    /// Over single requests, at its prices.
    pass: PassResult,
    charges: Vec<Charge>,
    columns: Vec<Column>,
}

impl Solver<'_> {
    /// Adds the rows that the relaxation violates, where that raises its bound.
    pub(super) fn charge_starts(&self, relaxed: &mut Relaxed) -> Result<(), PlanError> {
        let charged = self.charged(relaxed, &relaxed.classes, &relaxed.columns, &[])?;
        let Some(Charged { solution, pass, charges, columns }) = charged else { return Ok(()) };
        if root(&solution, &pass) > root(&relaxed.solution, &relaxed.pass) {
            (relaxed.solution, relaxed.pass) = (solution, pass);
            (relaxed.charges, relaxed.columns) = (charges, columns);
        }
        Ok(())
    }

    /// Splits classes whose members disagree at its prices, for better ones.
    pub(super) fn sharpen(&self, relaxed: &mut Relaxed) -> Result<(), PlanError> {
        let problem = self.ground.problem;
        let mut classes = relaxed.classes.clone();
        let (mut columns, mut charges) = (relaxed.columns.clone(), relaxed.charges.clone());
        let (mut solution, mut pass) = (relaxed.solution.clone(), relaxed.pass.clone());
        for _ in 0..SPLITS {
            let missed = solution.requests_dual - pass.total;
            let before = classes.clone();
            if missed <= MERGING_OF_GAP * self.settings.gap * solution.objective.abs()
                || Instant::now() >= self.deadline
                || classes.split_disagreeing(problem, &pass.cheapest, MOST_CLASSES) == 0
            {
                break;
            }
            (columns, charges) = inherited(&before, &classes, &columns, &charges);
            columns.extend(columns_at(problem, &classes, &solution.prices));
            let Some(charged) = self.charged(relaxed, &classes, &columns, &charges)? else { break };
            columns = charged.solution.shares.iter().map(|(column, _)| *column).collect();
            (solution, pass, charges) = (charged.solution, charged.pass, charged.charges);
            if root(&solution, &pass) > root(&relaxed.solution, &relaxed.pass) {
                (relaxed.solution, relaxed.pass) = (solution.clone(), pass.clone());
            }
        }
        Ok(())
    }

    /// The relaxation over these classes with all rows that it violates, beginning with those of `charges`; `None` where it
    /// leaves requests unserved.
    fn charged(
        &self,
        relaxed: &Relaxed,
        classes: &Classes,
        columns: &[Column],
        charges: &[Charge],
    ) -> Result<Option<Charged>, PlanError> {
        let ground = self.ground;
        let capacity = CapacityInput { offered: &relaxed.offered, ..ground.capacity(ground.scale, &ground.unlimited) };
        let mut class_problem = ClassProblem::new(capacity, classes, Objective::Energy, columns)?;
        class_problem.charge(charges)?;
        let until = (Instant::now() + self.settings.time_limit.mul_f64(SHARE_OF_TIME)).min(self.deadline);
        let solve = |problem: &mut ClassProblem| match problem.solve(until) {
            Err(PlanError::OutOfTime) => Ok(None),
            solved => solved.map(|solution| solution.filter(all_served)),
        };
        let Some(mut solution) = solve(&mut class_problem)? else { return Ok(None) };
        for _ in 0..ROUNDS {
            if Instant::now() >= until || class_problem.charge_violated(&solution)? == 0 {
                break;
            }
            let Some(next) = solve(&mut class_problem)? else { break };
            let gain = next.objective - solution.objective;
            solution = next;
            if gain <= GAIN_OF_GAP * self.settings.gap * solution.objective.abs() {
                break;
            }
        }
        let starts = StartPrices::new(ground.problem, classes, &solution.start_prices);
        solution.prices = Prices { starts, ..solution.prices };
        let pass = self.price_floors(&mut solution.prices, until);
        let (charges, columns) = (class_problem.charges(), class_problem.columns().to_vec());
        Ok(Some(Charged { solution, pass, charges, columns }))
    }

    /// The pass at the best prices of mean floors that a few passes find, the other prices as they are. Single requests reach
    /// a floor with fewer joules than whole classes do, so that a point is worth less to them. Each price only concerns the
    /// requests of its job: all of them are bracketed at once.
    fn price_floors(&self, prices: &mut Prices, until: Instant) -> PassResult {
        let problem = self.ground.problem;
        let mut best = request_pass(problem, prices, None, Objective::Energy);
        let (mut trial, mut points) = (prices.clone(), reached(problem, &best.cheapest));
        let mut brackets = vec![(0.0, f64::INFINITY); points.len()];
        for _ in 0..FLOOR_PASSES {
            let jobs = trial.accuracy.iter_mut().zip(&mut brackets).zip(problem.floor_points.iter().zip(&points));
            for ((price, (low, high)), (floor, points)) in jobs {
                let Some(floor) = floor else { continue };
                *(if points < floor { &mut *low } else { &mut *high }) = *price;
                *price = match (*low, *high) {
                    (low, f64::INFINITY) => 1.2 * low,
                    (0.0, high) => 0.8 * high,
                    (low, high) => 0.5 * (low + high),
                };
            }
            let pass = request_pass(problem, &trial, None, Objective::Energy);
            points = reached(problem, &pass.cheapest);
            if pass.total > best.total {
                best = pass;
                prices.accuracy.clone_from(&trial.accuracy);
            }
            if Instant::now() >= until {
                break;
            }
        }
        best
    }
}

/// Percent points that requests reach at these deployments, by job.
fn reached(problem: &PlanProblem, assignment: &[u16]) -> Vec<f64> {
    let mut points = vec![0.0; problem.workload.jobs.len()];
    for (request, &v) in assignment.iter().enumerate().filter(|(_, v)| **v != NONE) {
        let job = problem.workload.groups[problem.workload.requests.group[request] as usize].job;
        points[job] += problem.options.accuracy[job][usize::from(v)].unwrap_or(0.0);
    }
    points
}

/// Columns and charges of classes for what they were split into.
fn inherited(before: &Classes, after: &Classes, columns: &[Column], charges: &[Charge]) -> (Vec<Column>, Vec<Charge>) {
    let parents: BTreeMap<usize, usize> = before.list.iter().enumerate().map(|(c, class)| (class.first, c)).collect();
    let mut parts = vec![Vec::new(); before.list.len()];
    for (c, class) in after.list.iter().enumerate() {
        let parent = parents.range(..=class.first).next_back();
        parent.into_iter().for_each(|(_, &parent)| parts[parent].push(c));
    }
    let serves = |c: usize, option: u16| after.list[c].options.contains(&option);
    let of_parts = |class: usize, option: u16| parts[class].iter().copied().filter(move |&c| serves(c, option));
    let columns = columns
        .iter()
        .flat_map(|&column| of_parts(column.class, column.option).map(move |class| Column { class, ..column }));
    let charges = charges.iter().flat_map(|&(class, option)| of_parts(class, option).map(move |part| (part, option)));
    (columns.collect(), charges.collect())
}

/// The bound of a relaxation, at request level.
pub(super) fn root(solution: &ClassSolution, pass: &PassResult) -> f64 {
    solution.objective - solution.requests_dual + pass.total
}

fn all_served(solution: &ClassSolution) -> bool {
    solution.unserved <= 1e-6
}

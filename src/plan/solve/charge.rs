//! The relaxation with requests charged for whole starts, which raises its bound where divided instances would serve a few
//! choice requests each.
//!
//! Its rows are added where they are violated. At the new prices requests ask for deployments that the relaxation was not
//! offered, and members of a class disagree: these are taken up and classes split where that costs most, round by round.

use std::collections::BTreeMap;
use std::time::Instant;

use rayon::prelude::*;

use super::relax::{MERGING_OF_GAP, Relaxed};
use super::{Ground, MOST_CLASSES, Solver};
use crate::plan::capacity::CapacityInput;
use crate::plan::classes::{Class, Classes};
use crate::plan::columns::{Column, columns_at};
use crate::plan::prices::{NONE, Objective, PassResult, Prices, request_pass};
use crate::plan::problem::PlanProblem;
use crate::plan::relaxation::{Charge, ClassProblem, ClassSolution};
use crate::plan::start_prices::StartPrices;
use crate::plan::{PlanError, Settings};

/// Rounds of adding rows; they end sooner when one gains less than this share of the gap asked for.
const ROUNDS: usize = 20;
const GAIN_OF_GAP: f64 = 0.02;
/// Deployments that would gain more than this share of the gap are taken up.
const ASKED_OF_GAP: f64 = 0.01;
/// Passes over the requests to price floors.
const FLOOR_PASSES: usize = 8;
/// Factor by which a floor's price is moved until its best is bracketed.
const FLOOR_STEP: f64 = 1.1;
/// Share of the time limit for it.
const SHARE_OF_TIME: f64 = 0.3;

/// The relaxation with its rows.
struct Charged {
    solution: ClassSolution,
    /// Over single requests, at its prices.
    pass: PassResult,
    charges: Vec<Charge>,
    columns: Vec<Column>,
    /// What deployments that were not offered would gain, at most.
    asked_for: Vec<f64>,
}

/// What charging needs of a solver, which may go on meanwhile.
#[derive(Clone, Copy)]
pub(super) struct Charging<'a> {
    ground: &'a Ground<'a>,
    settings: &'a Settings,
    deadline: Instant,
}

impl<'a> Solver<'a> {
    pub(super) fn charging(&self) -> Charging<'a> {
        Charging { ground: self.ground, settings: self.settings, deadline: self.deadline }
    }
}

impl Charging<'_> {
    /// Adds the rows that the relaxation violates, takes up the deployments that requests then ask for, and splits the
    /// classes that lose most by being merged, in so many rounds at most. `None` if that does not raise the bound.
    pub(super) fn charge_starts(self, relaxed: &Relaxed, rounds: usize) -> Result<Option<Relaxed>, PlanError> {
        let problem = self.ground.problem;
        let until = (Instant::now() + self.settings.time_limit.mul_f64(SHARE_OF_TIME)).min(self.deadline);
        let mut best: Option<Relaxed> = None;
        let mut classes = relaxed.classes.clone();
        let (mut offered, mut columns, mut charges) =
            (relaxed.offered.clone(), relaxed.columns.clone(), relaxed.charges.clone());
        for _ in 0..rounds {
            let Some(charged) = self.charged(&offered, &classes, &columns, &charges, until)? else { break };
            let Charged { solution, pass, .. } = &charged;
            let losses = losses(&classes, solution, pass);
            let missed = solution.requests_dual - pass.total;
            let before = classes.clone();
            let mut wanted = offered.clone();
            let worth = ASKED_OF_GAP * self.settings.gap * solution.objective.abs();
            wanted
                .iter_mut()
                .zip(&charged.asked_for)
                .zip(&self.ground.offered)
                .for_each(|((wanted, &asked), &offered)| *wanted |= offered && asked > worth);
            let taken_up = wanted != offered;
            let split = classes.split_losing(problem, &losses, &pass.cheapest, &wanted, MOST_CLASSES);
            let next = inherited(&before, &classes, &charged.columns, &charged.charges);
            let more = columns_at(problem, &classes, &solution.prices);
            let fine = missed <= MERGING_OF_GAP * self.settings.gap * solution.objective.abs();
            let known = best.as_ref().unwrap_or(relaxed);
            if root(solution, pass) > root(&known.solution, &known.pass) {
                let Charged { solution, pass, charges, columns, .. } = charged;
                best = Some(Relaxed { classes: before, columns, charges, offered, solution, pass, shortage: None });
            }
            let worth_another = taken_up || (split > 0 && !fine);
            if !worth_another || Instant::now() >= until {
                break;
            }
            (columns, charges) = next;
            columns.extend(more);
            offered = wanted;
        }
        let known = best.as_ref().unwrap_or(relaxed);
        let mut solution = known.solution.clone();
        solution.prices.starts = StartPrices::default();
        let pass = self.charge_requests(&known.classes, &mut solution, None, FLOOR_PASSES, until);
        if pass.total > known.pass.total {
            best = Some(Relaxed { solution, pass, ..best.unwrap_or_else(|| relaxed.clone()) });
        }
        Ok(best)
    }

    /// The relaxation over these classes with all rows that it violates, beginning with those of `charges`; `None` where it
    /// leaves requests unserved.
    fn charged(
        self,
        offered: &[bool],
        classes: &Classes,
        columns: &[Column],
        charges: &[Charge],
        until: Instant,
    ) -> Result<Option<Charged>, PlanError> {
        let ground = self.ground;
        let capacity = CapacityInput { offered, ..ground.capacity(ground.scale, &ground.unlimited) };
        let mut class_problem = ClassProblem::new(capacity, classes, Objective::Energy, columns)?;
        class_problem.charge(charges)?;
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
        let asked_for = class_problem.asked_for(&solution);
        let pass = self.charge_requests(classes, &mut solution, None, 0, until);
        let (charges, columns) = (class_problem.charges(), class_problem.columns().to_vec());
        Ok(Some(Charged { solution, pass, charges, columns, asked_for }))
    }

    /// Divides the prices of starts among requests and finds the best prices of floors, in turn; both go into the solution's
    /// prices. Returns the pass at these prices. Requests choose among `open` deployments, among all if `None`.
    pub(super) fn charge_requests(
        self,
        classes: &Classes,
        solution: &mut ClassSolution,
        open: Option<&[bool]>,
        floor_passes: usize,
        until: Instant,
    ) -> PassResult {
        let problem = self.ground.problem;
        let started = started(&solution.instances);
        let shared = |prices: &Prices| {
            let starts = StartPrices::new(problem, classes, &solution.start_prices, prices, &started, open);
            Prices { starts, ..prices.clone() }
        };
        let mut prices = shared(&solution.prices);
        let mut pass = self.price_floors(&mut prices, open, floor_passes, until);
        if !solution.start_prices.is_empty() && prices.accuracy != solution.prices.accuracy {
            let again = shared(&prices);
            let at = request_pass(problem, &again, open, Objective::Energy);
            if at.total > pass.total {
                (prices, pass) = (again, at);
            }
        }
        solution.prices = prices;
        pass
    }

    /// The pass at the best prices of mean floors that a few passes find, the other prices as they are. Single requests reach
    /// a floor with fewer joules than whole classes do, so that a point is worth less to them. Each price only concerns the
    /// requests of its job: all of them are bracketed at once.
    fn price_floors(self, prices: &mut Prices, open: Option<&[bool]>, passes: usize, until: Instant) -> PassResult {
        let problem = self.ground.problem;
        let mut best = request_pass(problem, prices, open, Objective::Energy);
        let (mut trial, mut points) = (prices.clone(), reached(problem, &best.cheapest));
        let mut brackets = vec![(0.0, f64::INFINITY); points.len()];
        for _ in 0..passes {
            let jobs = trial.accuracy.iter_mut().zip(&mut brackets).zip(problem.floor_points.iter().zip(&points));
            for ((price, (low, high)), (floor, points)) in jobs {
                let Some(floor) = floor else { continue };
                *(if points < floor { &mut *low } else { &mut *high }) = *price;
                *price = match (*low, *high) {
                    (low, f64::INFINITY) => FLOOR_STEP * low,
                    (0.0, high) => high / FLOOR_STEP,
                    (low, high) => 0.5 * (low + high),
                };
            }
            let pass = request_pass(problem, &trial, open, Objective::Energy);
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

/// What has started of each deployment before the end of each window, at least, by instances alive.
fn started(instances: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let rows = instances.iter().map(|row| {
        let mut before = 0.0;
        let risen = row.iter().map(|&now| (now - std::mem::replace(&mut before, now)).max(0.0));
        risen
            .scan(0.0, |sum, risen| {
                *sum += risen;
                Some(*sum)
            })
            .collect()
    });
    rows.collect()
}

/// By class: what the relaxation's dual pays for it beyond what its requests cost at the same prices.
fn losses(classes: &Classes, solution: &ClassSolution, pass: &PassResult) -> Vec<f64> {
    let own = |class: &Class| classes.members(class).iter().map(|&request| pass.costs[request as usize]).sum::<f64>();
    classes.list.par_iter().zip(&solution.class_duals).map(|(class, dual)| dual - own(class)).collect()
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

pub(super) fn all_served(solution: &ClassSolution) -> bool {
    solution.unserved <= 1e-6
}

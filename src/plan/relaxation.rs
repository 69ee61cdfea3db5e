//! The relaxation R over classes, solved by column generation.
//!
//! Rows: each class served once, accuracy floors, net loaded time by (deployment, window), and the capacity block. A
//! column is a share of one class on one deployment in one window; only those with negative reduced cost enter. Its
//! objective guides the plan and its duals price the request pass; neither bound nor plan takes its value.

use std::collections::BTreeSet;
use std::time::Instant;

use super::PlanError;
use super::capacity::{Capacity, CapacityInput, Scale};
use super::classes::Classes;
use super::lp::{ColId, Lp, Outcome, RowId, Solution};
use super::prices::{Objective, Prices};
use super::problem::{Kind, PlanProblem};
use crate::domain::dot;

/// A share of a class on a deployment in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Column {
    pub class: usize,
    /// Index into `Kind::options`.
    pub option: u16,
    pub window: usize,
}

#[derive(Clone, Debug)]
pub struct ClassSolution {
    /// In units of the goal.
    pub objective: f64,
    pub prices: Prices,
    /// Positive shares, by class.
    pub shares: Vec<(Column, f64)>,
    /// n by (deployment, window).
    pub instances: Vec<Vec<f64>>,
    /// a by (deployment, window), in seconds.
    pub loaded: Vec<Vec<f64>>,
    /// Requests' worth of classes that no column could serve; 0 if the relaxation is feasible.
    pub unserved: f64,
    /// The part of the objective's dual that stands for requests: a request pass at `prices` replaces it, and makes
    /// `objective - requests_dual + pass` a bound at request level.
    pub requests_dual: f64,
    /// By deployment: joules by which that bound rises if the deployment starts at all.
    pub opening_cost: Vec<f64>,
}

pub struct ClassProblem<'a> {
    input: CapacityInput<'a>,
    classes: &'a Classes,
    objective: Objective,
    lp: Lp,
    capacity: Capacity,
    class_rows: Vec<RowId>,
    serve_rows: Vec<Vec<RowId>>,
    accuracy_rows: Vec<Option<RowId>>,
    columns: Vec<Column>,
    column_ids: Vec<ColId>,
    known: BTreeSet<Column>,
    unserved_columns: Vec<ColId>,
    /// What leaving a class unserved costs at first.
    unserved_costs: Vec<f64>,
}

/// Columns added per class and round.
const COLUMNS_PER_CLASS: usize = 3;
/// Windows of least weight in which a class may be served from the start.
const STARTING_WINDOWS: usize = 4;
const UNSERVED_FACTORS: [f64; 4] = [1.0, 10.0, 100.0, 1000.0];
const MOST_ROUNDS: usize = 200;
/// Shares below this are rounding of the solver.
const LEAST_SHARE: f64 = 1e-9;

impl<'a> ClassProblem<'a> {
    /// `seed` are columns known to be useful, from an earlier problem over the same classes.
    pub fn new(
        input: CapacityInput<'a>,
        classes: &'a Classes,
        objective: Objective,
        seed: &[Column],
    ) -> Result<Self, PlanError> {
        let problem = input.problem;
        let mut lp = Lp::new();
        let infinity = f64::INFINITY;
        let class_rows = classes.list.iter().map(|_| lp.add_row(1.0, 1.0, &[])).collect::<Result<Vec<_>, _>>()?;
        let mut accuracy_rows = Vec::new();
        for (points, &count) in problem.floor_points.iter().zip(&problem.requests_of_job) {
            // Per request of the job, so that the row is in percent points.
            let floor = points.map(|points| points / count as f64);
            accuracy_rows.push(floor.map(|floor| lp.add_row(floor, infinity, &[])).transpose()?);
        }
        let mut serve_rows = Vec::new();
        for _ in problem.deployments() {
            let rows = problem.windows.iter().map(|_| lp.add_row(-infinity, 0.0, &[]));
            serve_rows.push(rows.collect::<Result<Vec<_>, _>>()?);
        }
        let capacity = Capacity::add(&mut lp, &input, Some(&serve_rows))?;
        let mut class_problem = Self {
            input,
            classes,
            objective,
            lp,
            capacity,
            class_rows,
            serve_rows,
            accuracy_rows,
            columns: Vec::new(),
            column_ids: Vec::new(),
            known: BTreeSet::new(),
            unserved_columns: Vec::new(),
            unserved_costs: Vec::new(),
        };
        class_problem.add_unserved()?;
        for &column in seed {
            class_problem.add_column(column)?;
        }
        class_problem.add_starting_columns()?;
        Ok(class_problem)
    }

    /// A costly column per class that serves it from nowhere, at the best accuracy: keeps every round feasible.
    fn add_unserved(&mut self) -> Result<(), PlanError> {
        let problem = self.input.problem;
        for (c, class) in self.classes.list.iter().enumerate() {
            let kind = &problem.kinds[class.kind];
            let cost = match self.objective {
                Objective::Feasibility => class.count as f64,
                Objective::Energy => {
                    let worst = class.options.iter().map(|&option| self.energy(c, option)).fold(0.0, f64::max);
                    let start = |&option: &u16| problem.deployments()[kind.options[option as usize]].start_energy().0;
                    let start = class.options.iter().map(start).fold(f64::INFINITY, f64::min);
                    let weights = (kind.first_window..kind.end_window).map(|w| problem.weight(w));
                    weights.fold(0.0, f64::max) * (3.0 * worst + start.min(f64::MAX) / self.input.scale.energy) + 1.0
                }
            };
            let mut entries = vec![(self.class_rows[c], 1.0)];
            if let Some((job, row)) = kind.mean_job.and_then(|job| Some((job, self.accuracy_rows[job]?))) {
                let best = kind.accuracy.iter().copied().fold(0.0, f64::max).max(100.0);
                entries.push((row, best * class.count as f64 / problem.requests_of_job[job] as f64));
            }
            let column = self.lp.add_column(cost, (0.0, f64::INFINITY), false, &entries)?;
            self.unserved_columns.push(column);
            self.unserved_costs.push(cost);
        }
        Ok(())
    }

    /// Makes leaving requests unserved `factor` times as dear as at first.
    fn set_unserved_factor(&mut self, factor: f64) -> Result<(), PlanError> {
        for (&column, &cost) in self.unserved_columns.iter().zip(&self.unserved_costs) {
            self.lp.set_cost(column, factor * cost)?;
        }
        Ok(())
    }

    /// For each class the options of least energy, least device time and best accuracy, in each window; where joules are
    /// weighted, in the windows of least weight.
    fn add_starting_columns(&mut self) -> Result<(), PlanError> {
        for c in 0..self.classes.list.len() {
            let class = &self.classes.list[c];
            let kind = &self.input.problem.kinds[class.kind];
            let options: Vec<u16> = class.options.iter().copied().filter(|&o| self.offers(c, o)).collect();
            let devices = |option: u16| {
                let v = kind.options[option as usize];
                self.seconds(c, option) * f64::from(self.input.problem.deployments()[v].devices)
            };
            let least =
                |value: &dyn Fn(u16) -> f64| options.iter().copied().min_by(|&a, &b| value(a).total_cmp(&value(b)));
            let chosen = [
                least(&|option| self.energy(c, option)),
                least(&devices),
                least(&|option| -kind.accuracy[option as usize]),
            ];
            let mut windows: Vec<usize> = (kind.first_window..kind.end_window).collect();
            if self.input.problem.is_weighted() {
                let weight = |window: &usize| self.input.problem.weight(*window);
                windows.sort_by(|a, b| weight(a).total_cmp(&weight(b)));
                windows.truncate(STARTING_WINDOWS);
            }
            for option in chosen.into_iter().flatten() {
                for &window in &windows {
                    self.add_column(Column { class: c, option, window })?;
                }
            }
        }
        Ok(())
    }

    fn offers(&self, class: usize, option: u16) -> bool {
        let kind = &self.input.problem.kinds[self.classes.list[class].kind];
        self.input.offered[kind.options[option as usize]]
    }

    /// Scaled energy of a whole class; its cost is that times the weight of the window.
    fn energy(&self, class: usize, option: u16) -> f64 {
        if self.objective == Objective::Feasibility {
            return 0.0;
        }
        let class = &self.classes.list[class];
        let v = self.input.problem.kinds[class.kind].options[option as usize];
        dot(&self.input.problem.deployments()[v].rates.net_energy, &class.sums) / self.input.scale.energy
    }

    /// Scaled instance time of a whole class.
    fn seconds(&self, class: usize, option: u16) -> f64 {
        let class = &self.classes.list[class];
        let v = self.input.problem.kinds[class.kind].options[option as usize];
        dot(&self.input.problem.deployments()[v].rates.busy_time, &class.sums) / self.input.scale.time
    }

    fn add_column(&mut self, column: Column) -> Result<(), PlanError> {
        if !self.offers(column.class, column.option) || !self.known.insert(column) {
            return Ok(());
        }
        let problem = self.input.problem;
        let class = &self.classes.list[column.class];
        let kind = &problem.kinds[class.kind];
        let v = kind.options[column.option as usize];
        let mut entries = vec![
            (self.class_rows[column.class], 1.0),
            (self.serve_rows[v][column.window], self.seconds(column.class, column.option)),
        ];
        if let Some((job, row)) = kind.mean_job.and_then(|job| Some((job, self.accuracy_rows[job]?))) {
            let share = class.count as f64 / problem.requests_of_job[job] as f64;
            entries.push((row, kind.accuracy[column.option as usize] * share));
        }
        let cost = self.energy(column.class, column.option) * problem.weight(column.window);
        let id = self.lp.add_column(cost, (0.0, f64::INFINITY), false, &entries)?;
        self.columns.push(column);
        self.column_ids.push(id);
        Ok(())
    }

    /// Fixes the instances by (deployment, window); `None` frees them.
    pub fn fix_instances(&mut self, instances: Option<&[Vec<f64>]>) -> Result<(), PlanError> {
        for v in 0..self.capacity.instances.len() {
            for (w, &column) in self.capacity.instances[v].iter().enumerate() {
                let most = self.input.problem.most_alive(v, w) as f64;
                let (lower, upper) = instances.map_or((0.0, most), |fixed| (fixed[v][w], fixed[v][w]));
                self.lp.set_bounds(column, lower, upper)?;
            }
        }
        Ok(())
    }

    /// Forbids or allows deployment `v` altogether.
    pub fn set_open(&mut self, v: usize, open: bool) -> Result<(), PlanError> {
        for (w, &column) in self.capacity.instances[v].iter().enumerate() {
            let most = if open { self.input.problem.most_alive(v, w) as f64 } else { 0.0 };
            self.lp.set_bounds(column, 0.0, most)?;
        }
        Ok(())
    }

    /// Column generation to optimality or until `deadline`. What it costs to leave requests unserved grows until none is
    /// or it is a thousandfold: at once so dear, it would drown the joules in the solver's arithmetic.
    /// `None` if the instances it was fixed to have not even room for their loads.
    pub fn solve(&mut self, deadline: Instant) -> Result<Option<ClassSolution>, PlanError> {
        let factors: &[f64] = if self.objective == Objective::Energy { &UNSERVED_FACTORS } else { &[1.0] };
        let mut solution = None;
        for &factor in factors {
            self.set_unserved_factor(factor)?;
            let Some(next) = self.generate_columns(deadline)? else { return Ok(None) };
            let served = next.unserved <= 1e-6;
            solution = Some(next);
            if served {
                break;
            }
        }
        Ok(solution)
    }

    fn generate_columns(&mut self, deadline: Instant) -> Result<Option<ClassSolution>, PlanError> {
        let mut last = None;
        for _ in 0..MOST_ROUNDS {
            let left = deadline.saturating_duration_since(Instant::now()).as_secs_f64();
            let solution = self.lp.solve(left.max(1.0), 0.0)?;
            match solution.outcome {
                Outcome::Optimal => {}
                Outcome::Infeasible => return Ok(None),
                _ => break,
            }
            let prices = self.prices(&solution);
            let new = self.improving_columns(&solution, &prices);
            last = Some(self.result(&solution, prices));
            if new.is_empty() || left <= 0.0 {
                break;
            }
            for column in new {
                self.add_column(column)?;
            }
        }
        last.map(Some).ok_or(PlanError::OutOfTime)
    }

    fn prices(&self, solution: &Solution) -> Prices {
        let scale = self.input.scale;
        let joules = self.joules();
        let per_second = joules / scale.time;
        let seconds = self
            .serve_rows
            .iter()
            .map(|rows| rows.iter().map(|row| (-solution.row_duals[row.0]).max(0.0) * per_second).collect())
            .collect();
        let accuracy = self
            .accuracy_rows
            .iter()
            .zip(&self.input.problem.requests_of_job)
            .map(|(row, &count)| row.map_or(0.0, |row| solution.row_duals[row.0].max(0.0) * joules / count as f64))
            .collect();
        Prices { seconds, accuracy }
    }

    fn improving_columns(&self, solution: &Solution, prices: &Prices) -> Vec<Column> {
        let problem = self.input.problem;
        let joules = self.joules();
        let mut new = Vec::new();
        let mut candidates: Vec<(f64, Column)> = Vec::new();
        for (c, class) in self.classes.list.iter().enumerate() {
            let kind = &problem.kinds[class.kind];
            let worth = solution.row_duals[self.class_rows[c].0];
            candidates.clear();
            for &option in class.options.iter().filter(|&&option| self.offers(c, option)) {
                let v = kind.options[option as usize];
                let seconds = self.seconds(c, option) * self.input.scale.time;
                let energy = self.energy(c, option);
                let Some(window) = best_window(problem, kind, energy * joules, seconds, &prices.seconds[v]) else {
                    continue;
                };
                let points = kind.mean_job.map_or(0.0, |job| prices.accuracy[job] * kind.accuracy[option as usize]);
                let priced = (prices.seconds[v][window] * seconds - points * class.count as f64) / joules;
                let reduced = energy * problem.weight(window) + priced - worth;
                if reduced < -1e-7 * (1.0 + worth.abs()) {
                    candidates.push((reduced, Column { class: c, option, window }));
                }
            }
            candidates.sort_by(|a, b| a.0.total_cmp(&b.0));
            let fresh = candidates.iter().map(|(_, column)| *column).filter(|column| !self.known.contains(column));
            new.extend(fresh.take(COLUMNS_PER_CLASS));
        }
        new
    }

    fn result(&self, solution: &Solution, prices: Prices) -> ClassSolution {
        let value = |column: &ColId| solution.columns.get(column.0).copied().unwrap_or(0.0);
        let shares = self
            .columns
            .iter()
            .zip(&self.column_ids)
            .map(|(column, id)| (*column, value(id)))
            .filter(|(_, share)| *share > LEAST_SHARE)
            .collect();
        let unserved = self
            .unserved_columns
            .iter()
            .zip(&self.classes.list)
            .map(|(column, class)| value(column).max(0.0) * class.count as f64)
            .sum();
        let instances = self.capacity.instances.iter().map(|columns| columns.iter().map(value).collect()).collect();
        let seconds = |column: &ColId| value(column) * self.input.scale.time;
        let loaded = self.capacity.loaded.iter().map(|columns| columns.iter().map(seconds).collect()).collect();
        let joules = self.joules();
        let dual = |row: &RowId| solution.row_duals[row.0];
        let classes_dual: f64 = self.class_rows.iter().map(dual).sum();
        let floors_dual: f64 = self
            .accuracy_rows
            .iter()
            .zip(self.input.problem.floor_points.iter().zip(&self.input.problem.requests_of_job))
            .filter_map(|(row, (points, &count))| Some(dual(row.as_ref()?) * (*points)? / count as f64))
            .sum();
        let least = |columns: &[ColId]| {
            let reduced = columns.iter().map(|column| solution.column_duals[column.0]);
            reduced.fold(f64::INFINITY, f64::min).max(0.0)
        };
        let opening_cost = self
            .capacity
            .instances
            .iter()
            .zip(&self.capacity.starts)
            .map(
                |(instances, starts)| if starts.is_empty() { 0.0 } else { (least(instances) + least(starts)) * joules },
            )
            .collect();
        ClassSolution {
            objective: solution.objective * joules,
            prices,
            shares,
            instances,
            loaded,
            unserved,
            requests_dual: (classes_dual + floors_dual) * joules,
            opening_cost,
        }
    }

    /// Joules per unit of the objective; 1 where it counts requests.
    fn joules(&self) -> f64 {
        if self.objective == Objective::Energy { self.input.scale.energy } else { 1.0 }
    }

    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub fn classes(&self) -> &'a Classes {
        self.classes
    }
}

/// The window in which so many joules and seconds are cheapest.
fn best_window(problem: &PlanProblem, kind: &Kind, energy: f64, seconds: f64, prices: &[f64]) -> Option<usize> {
    if problem.is_weighted() {
        return problem.cheapest_window(kind, energy, seconds, prices).map(|(window, _)| window);
    }
    (kind.first_window..kind.end_window).min_by(|&a, &b| prices[a].total_cmp(&prices[b]))
}

/// For each class the few options that are cheapest at `prices`: a start for a problem over new classes.
pub fn columns_at(problem: &PlanProblem, classes: &Classes, prices: &Prices) -> Vec<Column> {
    let mut columns = Vec::new();
    for (c, class) in classes.list.iter().enumerate() {
        let kind = &problem.kinds[class.kind];
        let mut ranked: Vec<(f64, Column)> = Vec::new();
        for &option in &class.options {
            let v = kind.options[option as usize];
            let rates = &problem.deployments()[v].rates;
            let (energy, seconds) = (dot(&rates.net_energy, &class.sums), dot(&rates.busy_time, &class.sums));
            let Some(window) = best_window(problem, kind, energy, seconds, &prices.seconds[v]) else { continue };
            let points = kind.mean_job.map_or(0.0, |job| prices.accuracy[job] * kind.accuracy[option as usize]);
            let cost =
                problem.weight(window) * energy + prices.seconds[v][window] * seconds - points * class.count as f64;
            ranked.push((cost, Column { class: c, option, window }));
        }
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        columns.extend(ranked.into_iter().take(COLUMNS_PER_CLASS).map(|(_, column)| column));
    }
    columns
}

/// Units in which the rows of this problem are well scaled: the horizon is a thousand units of time, and what the queue
/// costs at its cheapest, one start included, a thousand of energy.
pub fn scale(problem: &PlanProblem, cheapest_energy: f64) -> Scale {
    let starts = problem.deployments().iter().map(|deployment| deployment.start_energy().0);
    let weight = (0..problem.windows.len()).map(|w| problem.weight(w)).fold(f64::INFINITY, f64::min);
    let start = starts.fold(f64::INFINITY, f64::min) * weight;
    let energy = cheapest_energy.abs() + if start.is_finite() { start } else { 0.0 };
    let least = if problem.is_weighted() { 1e-12 } else { 1e-6 };
    Scale { time: (problem.horizon() / 1e3).max(1e-3), energy: (energy / 1e3).max(least) }
}

//! The relaxation R over classes, solved by column generation.
//!
//! Rows: each class served once, accuracy floors, net loaded time by (deployment, window), and the capacity block. A
//! column is a share of one class on one deployment in one window; only those with negative reduced cost enter. Its
//! objective guides the plan and its duals price the request pass; neither bound nor plan takes its value.

mod solution;
mod start_rows;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::PlanError;
use super::block::Block;
use super::capacity::{Capacity, CapacityInput, Scale};
use super::classes::Classes;
use super::columns::{COLUMNS_PER_CLASS, Column};
use super::lp::{ColId, Lp, Outcome, RowId, Solution};
use super::prices::{Objective, Prices};
use super::problem::PlanProblem;
use super::record::Optimum;
use crate::domain::dot;
pub use solution::ClassSolution;
pub use start_rows::Charge;

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
    /// Rows (3b), by class and option.
    start_rows: BTreeMap<Charge, RowId>,
    /// Starts of groups of deployments, as columns.
    counted: Vec<ColId>,
    /// Rows of the classes, and columns of the capacity block.
    sizes: (usize, usize),
    unserved_columns: Vec<ColId>,
    /// What leaving a class unserved costs at first.
    unserved_costs: Vec<f64>,
    /// Whether the last solution left requests unserved.
    left_unserved: bool,
}

/// Windows of least weight in which a class may be served from the start.
const STARTING_WINDOWS: usize = 4;
const UNSERVED_FACTORS: [f64; 4] = [1.0, 10.0, 100.0, 1000.0];
const MOST_ROUNDS: usize = 200;
/// Column generation ends when all columns left out could lower the objective by this share of it at most.
const LEFT_OUT: f64 = 1e-6;

impl<'a> ClassProblem<'a> {
    /// `seed` are columns known to be useful, from an earlier problem over the same classes.
    pub fn new(
        input: CapacityInput<'a>,
        classes: &'a Classes,
        objective: Objective,
        seed: &[Column],
    ) -> Result<Self, PlanError> {
        let mut lp = Lp::new();
        let class_rows = classes.list.iter().map(|_| lp.add_row(1.0, 1.0, &[])).collect::<Result<Vec<_>, _>>()?;
        let Block { accuracy_rows, serve_rows, capacity } = Block::add(&mut lp, &input)?;
        let sizes = (class_rows.len(), lp.width());
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
            start_rows: BTreeMap::new(),
            counted: Vec::new(),
            sizes,
            unserved_columns: Vec::new(),
            unserved_costs: Vec::new(),
            left_unserved: false,
        };
        class_problem.add_carries()?;
        class_problem.add_unserved()?;
        for &column in seed {
            class_problem.add_column(column)?;
        }
        class_problem.add_starting_columns()?;
        Ok(class_problem)
    }

    /// Time left over in a window serves what the next one's deadline asks for, unless that is not released yet. So a class
    /// needs a column in its last window only.
    fn add_carries(&mut self) -> Result<(), PlanError> {
        for w in (0..self.input.problem.windows.len()).filter(|&w| self.input.problem.carries(w)) {
            for rows in self.serve_rows.iter().filter(|rows| !rows.is_empty()) {
                self.lp.add_column(0.0, (0.0, f64::INFINITY), false, &[(rows[w], 1.0), (rows[w + 1], -1.0)])?;
            }
        }
        Ok(())
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

    /// For each class without a column the options of least energy, least device time and best accuracy, in each window
    /// (where joules are weighted, those of least weight).
    fn add_starting_columns(&mut self) -> Result<(), PlanError> {
        let mut seeded = vec![false; self.classes.list.len()];
        self.columns.iter().for_each(|column| seeded[column.class] = true);
        for c in (0..self.classes.list.len()).filter(|&c| !seeded[c]) {
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
            let last = kind.end_window - 1;
            let windows = (kind.first_window..=last).filter(|&w| w == last || !self.input.problem.carries(w));
            let mut windows: Vec<usize> = windows.collect();
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
        let seconds = dot(&self.input.problem.deployments()[v].rates.busy_time, &class.sums);
        (1.0 + self.input.purpose.slack()) * seconds / self.input.scale.time
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
        entries.extend(self.start_rows.get(&(column.class, column.option)).map(|&row| (row, 1.0)));
        let cost = self.energy(column.class, column.option) * problem.weight(column.window);
        let id = self.lp.add_column(cost, (0.0, f64::INFINITY), false, &entries)?;
        self.columns.push(column);
        self.column_ids.push(id);
        Ok(())
    }

    /// Fixes the instances of deployment `v` by window.
    pub fn fix(&mut self, v: usize, instances: &[f64]) -> Result<(), PlanError> {
        for (&column, &count) in self.capacity.instances[v].iter().zip(instances) {
            self.lp.set_bounds(column, count, count)?;
        }
        Ok(())
    }

    /// Forgets what the bounds of instances are worth: where they are fixed, no limit moves them.
    pub fn leave_instances_out(&self, optimum: &mut Optimum) {
        for column in self.capacity.instances.iter().flatten() {
            optimum.column_duals.get_mut(column.0).into_iter().for_each(|dual| *dual = 0.0);
        }
    }

    /// Leaves the instances of deployment `v` to the problem again.
    pub fn free(&mut self, v: usize) -> Result<(), PlanError> {
        for (w, &column) in self.capacity.instances[v].iter().enumerate() {
            self.lp.set_bounds(column, 0.0, self.input.problem.most_alive(v, w) as f64)?;
        }
        Ok(())
    }

    /// Counts the starts of these deployments together, for `limit_starts`; groups are numbered as they are counted.
    pub fn count_starts(&mut self, members: &[usize]) -> Result<(), PlanError> {
        let starts = members.iter().flat_map(|&v| &self.capacity.starts[v]);
        let row = self.lp.add_row(0.0, 0.0, &starts.map(|&start| (start, 1.0)).collect::<Vec<_>>())?;
        self.counted.push(self.lp.add_column(0.0, (0.0, f64::INFINITY), false, &[(row, -1.0)])?);
        Ok(())
    }

    /// How often the deployments of a group may start altogether.
    pub fn limit_starts(&mut self, group: usize, (least, most): (f64, f64)) -> Result<(), PlanError> {
        self.lp.set_bounds(self.counted[group], least, most)
    }

    /// Column generation to optimality or until `deadline`. What it costs to leave requests unserved grows until none is
    /// or it is a thousandfold: at once so dear, it would drown the joules in the solver's arithmetic.
    /// `None` if the instances it was fixed to have not even room for their loads.
    pub fn solve(&mut self, deadline: Instant) -> Result<Option<ClassSolution>, PlanError> {
        let factors: &[f64] = if self.objective == Objective::Energy { &UNSERVED_FACTORS } else { &[1.0] };
        let mut solution = None;
        // What was not dear enough a moment ago hardly is now.
        let first = if self.left_unserved { factors.len() - 1 } else { 0 };
        for &factor in &factors[first..] {
            self.set_unserved_factor(factor)?;
            let Some(next) = self.generate_columns(deadline)? else { return Ok(None) };
            let served = next.unserved <= 1e-6;
            solution = Some(next);
            if served {
                break;
            }
        }
        self.left_unserved = solution.as_ref().is_none_or(|solution| solution.unserved > 1e-6);
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
            let (new, left_out) = self.improving_columns(&solution, &prices);
            let result = self.result(&solution, prices);
            let good_enough = result.unserved <= 1e-6 && left_out <= LEFT_OUT * solution.objective.abs();
            last = Some(result);
            if new.is_empty() || left <= 0.0 || good_enough {
                break;
            }
            for column in new {
                self.add_column(column)?;
            }
        }
        last.map(Some).ok_or(PlanError::OutOfTime)
    }

    /// Columns that would lower the objective, and by how much all of them could together.
    fn improving_columns(&self, solution: &Solution, prices: &Prices) -> (Vec<Column>, f64) {
        let problem = self.input.problem;
        let joules = self.joules();
        let mut new = Vec::new();
        let mut left_out = 0.0;
        let mut candidates: Vec<(f64, Column)> = Vec::new();
        for (c, class) in self.classes.list.iter().enumerate() {
            let kind = &problem.kinds[class.kind];
            let worth = solution.row_duals[self.class_rows[c].0];
            candidates.clear();
            for &option in class.options.iter().filter(|&&option| self.offers(c, option)) {
                let v = kind.options[option as usize];
                let seconds = self.seconds(c, option) * self.input.scale.time;
                let energy = self.energy(c, option);
                let Some(window) = prices.cheapest_window(problem, v, kind, energy * joules, seconds) else { continue };
                let points = kind.mean_job.map_or(0.0, |job| prices.accuracy[job] * kind.accuracy[option as usize]);
                let priced = (prices.seconds[v][window] * seconds - points * class.count as f64) / joules;
                let charge = self.start_price(solution, c, option);
                let reduced = energy * problem.weight(window) + priced + charge - worth;
                if reduced < -1e-7 * (1.0 + worth.abs()) {
                    candidates.push((reduced, Column { class: c, option, window }));
                }
            }
            candidates.sort_by(|a, b| a.0.total_cmp(&b.0));
            // A class is served once: its columns cannot lower the objective by more than the best of them.
            left_out -= candidates.first().map_or(0.0, |(reduced, _)| *reduced);
            let fresh = candidates.iter().map(|(_, column)| *column).filter(|column| !self.known.contains(column));
            new.extend(fresh.take(COLUMNS_PER_CLASS));
        }
        (new, left_out)
    }

    /// By deployment that is not offered: by how much the classes that would rather be served there, at its prices in
    /// `solution`, lower the objective together.
    pub fn asked_for(&self, solution: &ClassSolution) -> Vec<f64> {
        let problem = self.input.problem;
        let mut asked = vec![0.0; problem.deployments().len()];
        for (class, dual) in self.classes.list.iter().zip(&solution.class_duals) {
            let kind = &problem.kinds[class.kind];
            for &option in &class.options {
                let v = kind.options[option as usize];
                if self.input.offered[v] {
                    continue;
                }
                let rates = &problem.deployments()[v].rates;
                let (energy, seconds) = (dot(&rates.net_energy, &class.sums), dot(&rates.busy_time, &class.sums));
                let points =
                    kind.mean_job.map_or(0.0, |job| solution.prices.accuracy[job] * kind.accuracy[option as usize]);
                let cost = solution.prices.cheapest(problem, v, kind, energy, seconds) - points * class.count as f64;
                asked[v] += (dual - cost).max(0.0);
            }
        }
        asked
    }

    /// Joules per unit of the objective; 1 where it counts requests.
    fn joules(&self) -> f64 {
        if self.objective == Objective::Energy { self.input.scale.energy } else { 1.0 }
    }

    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub fn into_columns(self) -> Vec<Column> {
        self.columns
    }
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

//! What a solution of the linear programme says in joules and seconds: prices, shares, instances, and what the capacity block
//! proves of a bound.
//!
//! Deployments that were not offered have no rows; their prices are such that they would not help.

use super::{ClassProblem, Column};
use crate::plan::lp::{ColId, RowId, Solution};
use crate::plan::prices::{Objective, Prices};
use crate::plan::record::Optimum;
use crate::plan::start_prices::StartPrices;
use crate::plan::windows::Window;

/// Shares below this are rounding of the solver.
const LEAST_SHARE: f64 = 1e-9;

#[derive(Clone, Debug)]
pub struct ClassSolution {
    /// In units of the goal.
    pub objective: f64,
    /// Those of starts only once `start_prices` are shared among requests.
    pub prices: Prices,
    /// Positive shares, by class.
    pub shares: Vec<(Column, f64)>,
    /// n by (deployment, window).
    pub instances: Vec<Vec<f64>>,
    /// By class: what the dual pays to have it served. Where it is more than the requests' own cheapest costs come to, at
    /// `prices`, merging them loses the difference.
    pub class_duals: Vec<f64>,
    /// s by deployment, of all windows.
    pub starts: Vec<f64>,
    /// a by (deployment, window), in seconds.
    pub loaded: Vec<Vec<f64>>,
    /// Requests' worth of classes that no column could serve; 0 if the relaxation is feasible.
    pub unserved: f64,
    /// The part of the objective's dual that stands for requests: a request pass at `prices` replaces it, and makes
    /// `objective - requests_dual + pass` a bound at request level.
    pub requests_dual: f64,
    /// By deployment: joules by which that bound rises if the deployment starts at all; 0 for one not offered.
    pub opening_cost: Vec<f64>,
    /// By (deployment, window): joules that one more instance would cost, and one less save at most.
    pub instance_costs: Vec<Vec<f64>>,
    /// By deployment not offered: the part of its prices, per second, that pays for a start; else 0.
    pub start_share: Vec<f64>,
    /// Prices of the rows (3b) that bind, by (class, deployment).
    pub start_prices: Vec<(usize, usize, f64)>,
    /// Of the rows and columns that `record_without_classes` writes down, in scaled units.
    pub optimum: Optimum,
}

impl ClassProblem<'_> {
    pub(super) fn prices(&self, solution: &Solution) -> Prices {
        let scale = self.input.scale;
        let joules = self.joules();
        let per_second = joules / scale.time;
        let seconds = (0..self.serve_rows.len())
            .map(|v| match &self.serve_rows[v][..] {
                [] => self.prices_outside(v, solution),
                rows => rows.iter().map(|row| (-solution.row_duals[row.0]).max(0.0) * per_second).collect(),
            })
            .collect();
        let accuracy = self
            .accuracy_rows
            .iter()
            .zip(&self.input.problem.requests_of_job)
            .map(|(row, &count)| row.map_or(0.0, |row| solution.row_duals[row.0].max(0.0) * joules / count as f64))
            .collect();
        Prices { seconds, accuracy, starts: StartPrices::default() }
    }

    /// Prices of a deployment that is not offered, at which its capacity costs no less than it earns: each second served
    /// pays for its devices, and all that one instance can serve pay for its start.
    fn prices_outside(&self, v: usize, solution: &Solution) -> Vec<f64> {
        let problem = self.input.problem;
        let per_second = self.joules() / self.input.scale.time;
        let loaded = |w| self.capacity.loaded_second(problem, v, w, &solution.row_duals);
        (0..problem.windows.len()).map(|w| loaded(w) * per_second + self.start_share(v)).collect()
    }

    /// Joules a second that pay for one start of `v` over all the seconds an instance can serve.
    fn start_share(&self, v: usize) -> f64 {
        let problem = self.input.problem;
        let deployment = &problem.deployments()[v];
        if self.objective == Objective::Feasibility || self.input.offered[v] {
            return 0.0;
        }
        let useful = |window: &Window| window.length().min(self.input.total_work[v]);
        let alive: f64 = problem.windows.iter().map(Window::length).sum();
        let most = problem.windows.iter().map(useful).sum::<f64>().min(alive - deployment.load_time.0);
        // Of the windows the one in which it is cheapest: the price must not exceed what any start costs.
        let start = problem.least_start_cost(v);
        // Without a second to serve in, any price will do.
        if most > 0.0 { start / most } else { start }
    }

    pub(super) fn result(&self, solution: &Solution, prices: Prices) -> ClassSolution {
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
        let classes_dual: f64 = self.class_rows.iter().map(&dual).sum();
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
        let costs =
            |columns: &Vec<ColId>| columns.iter().map(|column| solution.column_duals[column.0] * joules).collect();
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
            class_duals: self.class_rows.iter().map(|row| dual(row) * joules).collect(),
            starts: self.capacity.starts.iter().map(|columns| columns.iter().map(value).sum()).collect(),
            loaded,
            unserved,
            requests_dual: (classes_dual + floors_dual) * joules,
            opening_cost,
            instance_costs: self.capacity.instances.iter().map(costs).collect(),
            start_prices: self
                .start_prices(solution)
                .into_iter()
                .map(|(class, v, price)| (class, v, price * joules))
                .collect(),
            start_share: (0..self.serve_rows.len()).map(|v| self.start_share(v)).collect(),
            optimum: Optimum {
                row_duals: solution.row_duals.get(self.sizes.0..).unwrap_or_default().to_vec(),
                columns: solution.columns.get(..self.sizes.1).unwrap_or_default().to_vec(),
                column_duals: solution.column_duals.get(..self.sizes.1).unwrap_or_default().to_vec(),
            },
        }
    }
}

//! The lower bound at request level that knows whole instances.
//!
//! A master problem over the capacity decisions alone, with a column for what the requests cost and a cut per request
//! pass. For any prices pi, mu, sigma >= 0 and any set of open deployments S,
//!
//! ```text
//! cost >= Q - sum pi_vw c_vw - sum sigma_vw s_vw - sum over v outside S of gain_v o_v
//! ```
//!
//! where Q is the pass over S, sigma_vw what a start earns of the requests at most, and gain_v what they could save at most
//! if v opened too. Each cut is exact at
//! request level, so the dual bound of the master MIP bounds every plan, whole requests and whole instances included.

use super::PlanError;
use super::capacity::{Capacity, CapacityInput, Integers};
use super::lp::{ColId, Lp, Outcome};
use super::prices::{Objective, PassResult, Prices};

pub struct Master<'a> {
    input: CapacityInput<'a>,
    lp: Lp,
    capacity: Capacity,
    /// What the requests cost, scaled.
    requests: ColId,
    /// Best bound so far, in joules.
    bound: f64,
}

/// Instances by (deployment, window), as the master would have them.
pub type Decision = Vec<Vec<f64>>;

/// Relative margin taken off the solver's bound for its feasibility tolerances.
const TOLERANCE: f64 = 1e-6;
/// Smallest coefficient in a cut, in scaled units; smaller ones are raised, which only weakens the cut.
const LEAST_COEFFICIENT: f64 = 1e-4;

impl<'a> Master<'a> {
    pub fn new(input: CapacityInput<'a>, objective: Objective) -> Result<Self, PlanError> {
        let mut lp = Lp::new();
        let input = CapacityInput { integers: Integers::Required, ..input };
        let capacity = Capacity::add(&mut lp, &input, None)?;
        if objective == Objective::Energy {
            // Whatever a request costs at most in the cuts, it runs somewhere: what may serve it starts, and its node wakes.
            for cohort in &input.problem.cohorts {
                let options = &input.problem.kinds[cohort.kind].options;
                let open: Vec<_> = options.iter().filter_map(|&v| capacity.open[v]).map(|open| (open, 1.0)).collect();
                if !open.is_empty() {
                    lp.add_row(1.0, f64::INFINITY, &open)?;
                }
            }
        }
        // Net energies are not negative, but mu * alpha may make a pass so: the column is free below.
        let lower = if objective == Objective::Energy { 0.0 } else { -1e9 };
        let requests = lp.add_column(1.0, (lower, f64::INFINITY), false, &[])?;
        Ok(Self { input, lp, capacity, requests, bound: 0.0 })
    }

    /// Adds the cut of a pass made at `prices` over `open` (all if `None`).
    pub fn add_cut(&mut self, prices: &Prices, pass: &PassResult, open: Option<&[bool]>) -> Result<(), PlanError> {
        let scale = self.input.scale;
        let energy = if scale.energy.is_finite() { scale.energy } else { 1.0 };
        let raise = |coefficient: f64| if coefficient > 0.0 { coefficient.max(LEAST_COEFFICIENT) } else { 0.0 };
        let mut entries = vec![(self.requests, 1.0)];
        for (v, columns) in self.capacity.net.iter().enumerate() {
            for (w, &column) in columns.iter().enumerate() {
                let coefficient = raise(prices.seconds[v][w] * scale.time / energy);
                if coefficient > 0.0 {
                    entries.push((column, coefficient));
                }
            }
            if let (Some(column), Some(open)) = (self.capacity.open[v], open) {
                // Outward: the gains were summed in rounded arithmetic.
                let coefficient = raise(pass.gains[v] * (1.0 + 1e-12) / energy);
                if !open[v] && coefficient > 0.0 {
                    entries.push((column, coefficient));
                }
            }
        }
        for (v, columns) in self.capacity.starts.iter().enumerate() {
            for (w, &column) in columns.iter().enumerate() {
                let coefficient = raise(prices.starts.earned(v, w) / energy);
                if coefficient > 0.0 {
                    entries.push((column, coefficient));
                }
            }
        }
        self.lp.add_row(pass.total / energy, f64::INFINITY, &entries)?;
        Ok(())
    }

    /// Solves the master; the bound only ever rises.
    pub fn solve(&mut self, seconds: f64, mip_gap: f64) -> Result<Option<Decision>, PlanError> {
        let solution = self.lp.solve(seconds, mip_gap)?;
        let energy = if self.input.scale.energy.is_finite() { self.input.scale.energy } else { 1.0 };
        if solution.outcome == Outcome::Infeasible {
            return Ok(None);
        }
        if solution.bound.is_finite() {
            let bound = solution.bound * energy;
            self.bound = self.bound.max(bound - TOLERANCE * bound.abs());
        }
        if solution.columns.is_empty() {
            return Ok(None);
        }
        let instances = self
            .capacity
            .instances
            .iter()
            .map(|columns| columns.iter().map(|column| solution.columns[column.0].round()).collect())
            .collect();
        Ok(Some(instances))
    }

    /// Joules that no plan can go below.
    pub fn bound(&self) -> f64 {
        self.bound
    }
}

//! HiGHS behind a small incremental interface: rows first, then columns, solve, add columns or rows, solve again from
//! the last basis.
//!
//! Errors of the solver come back as values; nothing here panics. A recording problem is only written down, for those who
//! compare two of them.

use std::time::Instant;

use highs::{Col, HighsModelStatus, Model, Row, RowProblem, Sense};

use super::PlanError;
use super::record::Record;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowId(pub usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColId(pub usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Optimal,
    /// Stopped by time, nodes or a limit; the solution, if any, is the incumbent.
    Stopped,
    Infeasible,
    Unbounded,
}

#[derive(Clone, Debug)]
pub struct Solution {
    pub outcome: Outcome,
    pub objective: f64,
    /// Proved bound of a MIP; the objective of an optimal LP.
    pub bound: f64,
    /// Empty if there is no feasible point.
    pub columns: Vec<f64>,
    /// Of a linear programme: change of the objective per unit of right-hand side.
    pub row_duals: Vec<f64>,
    /// Reduced costs of a linear programme.
    pub column_duals: Vec<f64>,
}

impl Solution {
    /// Nothing found and nothing proved.
    fn none() -> Self {
        Self {
            outcome: Outcome::Stopped,
            objective: f64::INFINITY,
            bound: f64::NEG_INFINITY,
            columns: Vec::new(),
            row_duals: Vec::new(),
            column_duals: Vec::new(),
        }
    }
}

/// A minimisation problem.
pub struct Lp {
    model: Option<Model>,
    rows: Vec<Row>,
    columns: Vec<Col>,
    has_integers: bool,
    /// Seconds in the solver so far.
    spent: f64,
    /// Only columns and costs have changed since the last solution, which is therefore still feasible.
    primal: bool,
    /// Of a problem that is written down instead of solved.
    record: Option<Record>,
}

impl Lp {
    pub fn new() -> Self {
        let mut model = RowProblem::default().optimise(Sense::Minimise);
        model.make_quiet();
        Self {
            model: Some(model),
            rows: Vec::new(),
            columns: Vec::new(),
            has_integers: false,
            spent: 0.0,
            primal: false,
            record: None,
        }
    }

    /// A problem that is not solved but compared with another.
    pub fn recording() -> Self {
        Self {
            model: None,
            rows: Vec::new(),
            columns: Vec::new(),
            has_integers: false,
            spent: 0.0,
            primal: false,
            record: Some(Record::default()),
        }
    }

    /// What was written down; `None` unless it is a recording problem.
    pub fn into_record(self) -> Option<Record> {
        self.record
    }

    fn model(&mut self) -> Result<&mut Model, PlanError> {
        self.model.as_mut().ok_or(PlanError::Solver("the model was lost in an earlier error"))
    }

    pub fn add_row(&mut self, lower: f64, upper: f64, entries: &[(ColId, f64)]) -> Result<RowId, PlanError> {
        if let Some(record) = &mut self.record {
            return Ok(record.add_row(lower, upper, entries));
        }
        let entries: Vec<(Col, f64)> = entries.iter().map(|&(col, value)| (self.columns[col.0], value)).collect();
        let row = self.model()?.try_add_row(lower..=upper, entries).map_err(|_| PlanError::Solver("row refused"))?;
        self.rows.push(row);
        self.primal = false;
        Ok(RowId(self.rows.len() - 1))
    }

    pub fn add_column(
        &mut self,
        cost: f64,
        (lower, upper): (f64, f64),
        integer: bool,
        entries: &[(RowId, f64)],
    ) -> Result<ColId, PlanError> {
        if let Some(record) = &mut self.record {
            return Ok(record.add_column(cost, (lower, upper), entries));
        }
        let entries: Vec<(Row, f64)> = entries.iter().map(|&(row, value)| (self.rows[row.0], value)).collect();
        self.has_integers |= integer;
        let column = self
            .model()?
            .try_add_column_with_integrality(cost, lower..=upper, entries, integer)
            .map_err(|_| PlanError::Solver("column refused"))?;
        self.columns.push(column);
        Ok(ColId(self.columns.len() - 1))
    }

    /// Columns so far.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    pub fn set_bounds(&mut self, column: ColId, lower: f64, upper: f64) -> Result<(), PlanError> {
        let column = self.columns[column.0];
        self.model()?.change_column_bounds(column, lower..=upper);
        self.primal = false;
        Ok(())
    }

    pub fn set_cost(&mut self, column: ColId, cost: f64) -> Result<(), PlanError> {
        let column = self.columns[column.0];
        self.model()?.change_column_cost(column, cost);
        Ok(())
    }

    /// Branch and bound gives up after so many nodes.
    pub fn limit_nodes(&mut self, nodes: i32) -> Result<(), PlanError> {
        self.model()?.set_option("mip_max_nodes", nodes);
        Ok(())
    }

    /// Solves within `seconds`, a MIP to the relative gap `mip_gap`. After an error the model is lost.
    pub fn solve(&mut self, seconds: f64, mip_gap: f64) -> Result<Solution, PlanError> {
        let mut model = self.model.take().ok_or(PlanError::Solver("the model was lost in an earlier error"))?;
        // HiGHS counts its time limit over the life of a model.
        model.set_option("time_limit", self.spent + seconds.max(0.01));
        if self.has_integers {
            model.set_option("mip_rel_gap", mip_gap);
        }
        model.set_option("simplex_strategy", if self.primal { 4 } else { 1 });
        self.primal = true;
        let started = Instant::now();
        let Ok(solved) = model.try_solve() else {
            // HiGHS refuses an integer solution that misses its own tolerance by a hair: no answer, but no reason to stop.
            return if self.has_integers {
                Ok(Solution::none())
            } else {
                Err(PlanError::Solver("HiGHS reported an error"))
            };
        };
        self.spent += started.elapsed().as_secs_f64();
        let outcome = match solved.status() {
            HighsModelStatus::Optimal | HighsModelStatus::ModelEmpty => Outcome::Optimal,
            HighsModelStatus::Infeasible => Outcome::Infeasible,
            HighsModelStatus::Unbounded | HighsModelStatus::UnboundedOrInfeasible => Outcome::Unbounded,
            _ => Outcome::Stopped,
        };
        let feasible = matches!(solved.primal_solution_status(), highs::HighsSolutionStatus::Feasible);
        let values = solved.get_solution();
        let objective = if feasible { solved.objective_value() } else { f64::INFINITY };
        let bound = if self.has_integers {
            solved.double_info_value(c"mip_dual_bound").unwrap_or(f64::NEG_INFINITY)
        } else if outcome == Outcome::Optimal {
            objective
        } else {
            f64::NEG_INFINITY
        };
        let columns = if feasible { values.columns().to_vec() } else { Vec::new() };
        let row_duals = values.dual_rows().to_vec();
        let column_duals = values.dual_columns().to_vec();
        self.model = Some(Model::from(solved));
        Ok(Solution { outcome, objective, bound, columns, row_duals, column_duals })
    }
}

impl Default for Lp {
    fn default() -> Self {
        Self::new()
    }
}

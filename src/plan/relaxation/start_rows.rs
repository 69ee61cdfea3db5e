//! Rows (3b), which charge classes for whole starts ([`StartPrices`](crate::plan::start_prices::StartPrices)), added
//! where a solution violates them: there are as many of them as columns, and few ever bind.

use std::collections::BTreeMap;

use super::{ClassProblem, ClassSolution};
use crate::plan::PlanError;
use crate::plan::lp::{ColId, RowId, Solution};

/// Share of a class by which a row has to be violated.
const VIOLATED: f64 = 0.01;

/// A class and one of its options.
pub type Charge = (usize, u16);

impl ClassProblem<'_> {
    /// Adds the rows that `solution` violates, and tells how many.
    ///
    /// # Errors
    /// Those of the solver.
    pub fn charge_violated(&mut self, solution: &ClassSolution) -> Result<usize, PlanError> {
        let mut shares: BTreeMap<Charge, f64> = BTreeMap::new();
        for (column, share) in &solution.shares {
            *shares.entry((column.class, column.option)).or_default() += share;
        }
        let violated = |&(charge, share): &(Charge, f64)| share > self.started(charge, solution) + VIOLATED;
        let violated: Vec<Charge> = shares.into_iter().filter(violated).map(|(charge, _)| charge).collect();
        self.charge(&violated)?;
        Ok(violated.len())
    }

    /// Adds the rows of these.
    ///
    /// # Errors
    /// Those of the solver.
    pub fn charge(&mut self, charges: &[Charge]) -> Result<(), PlanError> {
        for &(class, option) in charges {
            let kind = &self.input.problem.kinds[self.classes.list[class].kind];
            let v = kind.options[option as usize];
            if !self.input.offered[v] || self.start_rows.contains_key(&(class, option)) {
                continue;
            }
            let served = self.columns.iter().zip(&self.column_ids);
            let served = served.filter(|(column, _)| (column.class, column.option) == (class, option));
            let mut entries: Vec<(ColId, f64)> = served.map(|(_, &id)| (id, 1.0)).collect();
            entries.extend(self.capacity.starts[v][..kind.end_window].iter().map(|&start| (start, -1.0)));
            let row = self.lp.add_row(f64::NEG_INFINITY, 0.0, &entries)?;
            self.start_rows.insert((class, option), row);
        }
        Ok(())
    }

    pub fn charges(&self) -> Vec<Charge> {
        self.start_rows.keys().copied().collect()
    }

    /// The price of a row, scaled; 0 where there is none.
    pub(super) fn start_price(&self, solution: &Solution, class: usize, option: u16) -> f64 {
        self.start_rows.get(&(class, option)).map_or(0.0, |row| price(solution, *row))
    }

    /// Price of each row that binds, by (class, deployment), scaled.
    pub(super) fn start_prices(&self, solution: &Solution) -> Vec<(usize, usize, f64)> {
        let priced = self.start_rows.iter().map(|(&(class, option), &row)| {
            let kind = &self.input.problem.kinds[self.classes.list[class].kind];
            (class, kind.options[option as usize], price(solution, row))
        });
        priced.filter(|(_, _, price)| *price > 0.0).collect()
    }

    /// Starts of the option's deployment before the class's last window ends.
    fn started(&self, (class, option): Charge, solution: &ClassSolution) -> f64 {
        let kind = &self.input.problem.kinds[self.classes.list[class].kind];
        let instances = &solution.instances[kind.options[option as usize]];
        let before = std::iter::once(&0.0).chain(instances);
        instances[..kind.end_window].iter().zip(before).map(|(now, before)| (now - before).max(0.0)).sum()
    }
}

fn price(solution: &Solution, row: RowId) -> f64 {
    (-solution.row_duals[row.0]).max(0.0)
}

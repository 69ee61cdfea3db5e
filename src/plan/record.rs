//! A linear programme written down, and how its optimum changes, to first order, when its figures do.
//!
//! Generic on purpose: whatever rows the capacity block has, two records of it, before and after a small change of the
//! inputs, and one optimal pair of solutions give the price of the change.

use super::lp::{ColId, RowId};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    rows: Vec<(f64, f64)>,
    /// Cost and bounds.
    columns: Vec<(f64, f64, f64)>,
    /// (row, column, coefficient); several of the same place add up.
    entries: Vec<(usize, usize, f64)>,
}

/// An optimal primal and dual solution of the rows and columns of a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Optimum {
    pub row_duals: Vec<f64>,
    pub columns: Vec<f64>,
    /// Reduced costs.
    pub column_duals: Vec<f64>,
}

impl Record {
    pub fn add_row(&mut self, lower: f64, upper: f64, entries: &[(ColId, f64)]) -> RowId {
        let row = self.rows.len();
        self.rows.push((lower, upper));
        self.entries.extend(entries.iter().map(|&(column, value)| (row, column.0, value)));
        RowId(row)
    }

    pub fn add_column(&mut self, cost: f64, (lower, upper): (f64, f64), entries: &[(RowId, f64)]) -> ColId {
        let column = self.columns.len();
        self.columns.push((cost, lower, upper));
        self.entries.extend(entries.iter().map(|&(row, value)| (row.0, column, value)));
        ColId(column)
    }

    /// Change of the optimal objective on the way to `changed`, to first order:
    /// `sum dc_j x_j + sum y_i db_i - sum y_i dA_ij x_j`, the bounds of columns like right-hand sides. `None` unless
    /// both have the same rows and columns, and `optimum` a figure for each.
    pub fn first_order_change(&self, changed: &Self, optimum: &Optimum) -> Option<f64> {
        let Optimum { row_duals, columns, column_duals } = optimum;
        let (rows, width) = (self.rows.len(), self.columns.len());
        let same = changed.rows.len() == rows && changed.columns.len() == width;
        if !same || row_duals.len() < rows || columns.len() < width || column_duals.len() < width {
            return None;
        }
        let mut change = 0.0;
        for ((before, after), dual) in self.rows.iter().zip(&changed.rows).zip(row_duals) {
            change += moved_bound(*before, *after, *dual);
        }
        for (j, (before, after)) in self.columns.iter().zip(&changed.columns).enumerate() {
            change += (after.0 - before.0) * columns[j];
            change += moved_bound((before.1, before.2), (after.1, after.2), column_duals[j]);
        }
        for (sign, record) in [(-1.0, self), (1.0, changed)] {
            change -= sign * record.entries.iter().map(|&(i, j, value)| row_duals[i] * value * columns[j]).sum::<f64>();
        }
        Some(change)
    }
}

/// Of a minimisation: a positive dual stands at the lower bound, a negative one at the upper.
fn moved_bound(before: (f64, f64), after: (f64, f64), dual: f64) -> f64 {
    let moved = if dual > 0.0 { after.0 - before.0 } else { after.1 - before.1 };
    // A bound at infinity does not move, and has no dual.
    if moved.is_finite() { dual * moved } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::lp::{Lp, Outcome};

    /// min x + 3 y with a x + y >= b, x <= u.
    fn fill(lp: &mut Lp, a: f64, b: f64, u: f64) {
        let row = lp.add_row(b, f64::INFINITY, &[]).unwrap();
        lp.add_column(1.0, (0.0, u), false, &[(row, a)]).unwrap();
        lp.add_column(3.0, (0.0, f64::INFINITY), false, &[(row, 1.0)]).unwrap();
    }

    fn record(a: f64, b: f64, u: f64) -> Record {
        let mut lp = Lp::recording();
        fill(&mut lp, a, b, u);
        lp.into_record().unwrap()
    }

    #[test]
    fn first_order_change_is_that_of_the_optimum() {
        let solve = |a: f64, b: f64, u: f64| {
            let mut lp = Lp::new();
            fill(&mut lp, a, b, u);
            let solution = lp.solve(1.0, 0.0).unwrap();
            assert_eq!(solution.outcome, Outcome::Optimal);
            solution
        };
        let base = solve(2.0, 10.0, 3.0);
        let optimum = Optimum { row_duals: base.row_duals, columns: base.columns, column_duals: base.column_duals };
        let delta = 1e-6;
        for (a, b, u) in [(2.0 + delta, 10.0, 3.0), (2.0, 10.0 + delta, 3.0), (2.0, 10.0, 3.0 + delta)] {
            let exact = solve(a, b, u).objective - base.objective;
            let first = record(2.0, 10.0, 3.0).first_order_change(&record(a, b, u), &optimum).unwrap();
            assert!((first - exact).abs() < 1e-3 * delta && exact.abs() > 0.5 * delta, "{first} {exact}");
        }
        assert_eq!(record(2.0, 10.0, 3.0).first_order_change(&Record::default(), &optimum), None);
    }
}

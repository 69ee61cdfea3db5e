//! The rows and columns of a class problem that do not depend on its classes: floors, served time and capacity.
//!
//! Apart from the classes so that two of them, before and after a change of a limit, can be compared line by line.

use super::PlanError;
use super::capacity::{Capacity, CapacityInput};
use super::lp::{Lp, RowId};
use super::record::Record;

pub struct Block {
    pub accuracy_rows: Vec<Option<RowId>>,
    pub serve_rows: Vec<Vec<RowId>>,
    pub capacity: Capacity,
}

impl Block {
    pub fn add(lp: &mut Lp, input: &CapacityInput) -> Result<Self, PlanError> {
        let problem = input.problem;
        let infinity = f64::INFINITY;
        let mut accuracy_rows = Vec::new();
        for (points, &count) in problem.floor_points.iter().zip(&problem.requests_of_job) {
            // Per request of the job, so that the row is in percent points.
            let floor = points.map(|points| points / count as f64);
            accuracy_rows.push(floor.map(|floor| lp.add_row(floor, infinity, &[])).transpose()?);
        }
        let mut serve_rows = Vec::new();
        for &offered in input.offered {
            let windows = if offered { &problem.windows[..] } else { &[] };
            let rows = windows.iter().map(|_| lp.add_row(-infinity, 0.0, &[]));
            serve_rows.push(rows.collect::<Result<Vec<_>, _>>()?);
        }
        let capacity = Capacity::add(lp, input, Some(&serve_rows))?;
        Ok(Self { accuracy_rows, serve_rows, capacity })
    }
}

/// The rows and columns of a class problem that do not depend on its classes, written down.
pub fn record_without_classes(input: &CapacityInput) -> Result<Record, PlanError> {
    let mut lp = Lp::recording();
    Block::add(&mut lp, input)?;
    lp.into_record().ok_or(PlanError::Solver("a recording problem has a record"))
}

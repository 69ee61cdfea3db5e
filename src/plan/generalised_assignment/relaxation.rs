//! The problem as HiGHS sees it: a row a class, a row a limited option, a column a choice; joules and capacities scaled
//! to about 1.

use std::time::Duration;

use crate::domain::OptionTable;
use crate::plan::PlanError;
use crate::plan::lp::{ColId, Lp, Outcome, RowId};

pub enum Solved {
    Infeasible,
    /// Requests on each choice, parts of requests included, and joules per second of capacity.
    Optimal {
        shares: Vec<Vec<f64>>,
        prices: Vec<f64>,
    },
}

/// The linear programme; `None` if time ran out.
pub fn linear(table: &OptionTable, time: Duration) -> Result<Option<Solved>, PlanError> {
    let all: Vec<Vec<bool>> = table.classes.iter().map(|class| vec![true; class.choices.len()]).collect();
    let mut model = Model::new(table, &all, None, false)?;
    let solution = model.lp.solve(time.as_secs_f64(), 0.0)?;
    Ok(match solution.outcome {
        Outcome::Optimal => {
            let price = |(row, scale): &(Option<RowId>, f64)| {
                row.map_or(0.0, |row| (-solution.row_duals[row.0] * model.joules / scale).max(0.0))
            };
            let prices = model.limits.iter().map(price).collect();
            Some(Solved::Optimal { shares: model.by_choice(&solution.columns), prices })
        }
        // Costs are not negative, so that nothing is unbounded.
        Outcome::Infeasible | Outcome::Unbounded => Some(Solved::Infeasible),
        Outcome::Stopped => None,
    })
}

pub struct Found {
    pub counts: Option<Vec<Vec<u64>>>,
    /// Joules; below every assignment on the choices kept.
    pub bound: f64,
    pub infeasible: bool,
    /// The search came to its end.
    pub decided: bool,
}

/// When to give up.
#[derive(Clone, Copy)]
pub struct Stop {
    pub time: Duration,
    pub nodes: Option<i32>,
}

/// When to be content.
pub struct Limits {
    pub stop: Stop,
    pub gap: f64,
    /// Joules; only what is cheaper counts.
    pub cutoff: Option<f64>,
}

/// Branch and bound over whole requests on the choices that are `kept`.
pub fn integer(table: &OptionTable, kept: &[Vec<bool>], limits: &Limits) -> Result<Found, PlanError> {
    let mut model = Model::new(table, kept, limits.cutoff, true)?;
    if let Some(nodes) = limits.stop.nodes {
        model.lp.limit_nodes(nodes)?;
    }
    let solution = model.lp.solve(limits.stop.time.as_secs_f64(), limits.gap)?;
    let infeasible = matches!(solution.outcome, Outcome::Infeasible | Outcome::Unbounded);
    let whole = |shares: Vec<Vec<f64>>| -> Vec<Vec<u64>> {
        shares.iter().map(|class| class.iter().map(|share| share.round().max(0.0) as u64).collect()).collect()
    };
    let counts = (!solution.columns.is_empty()).then(|| whole(model.by_choice(&solution.columns)));
    let complete = |counts: &Vec<Vec<u64>>| {
        table.classes.iter().zip(counts).all(|(class, counts)| counts.iter().sum::<u64>() == class.requests)
    };
    let bound = if infeasible { f64::INFINITY } else { solution.bound * model.joules };
    Ok(Found {
        counts: counts.filter(complete),
        bound,
        infeasible,
        decided: infeasible || solution.outcome == Outcome::Optimal,
    })
}

struct Model<'a> {
    table: &'a OptionTable,
    lp: Lp,
    columns: Vec<Vec<Option<ColId>>>,
    /// Row of each option's capacity and what its seconds are divided by.
    limits: Vec<(Option<RowId>, f64)>,
    /// What joules are divided by.
    joules: f64,
}

impl<'a> Model<'a> {
    fn new(table: &'a OptionTable, kept: &[Vec<bool>], cutoff: Option<f64>, integers: bool) -> Result<Self, PlanError> {
        let mut lp = Lp::new();
        let dearest = table.classes.iter().flat_map(|class| &class.choices).map(|choice| choice.energy);
        let joules = dearest.fold(0.0, f64::max);
        let joules = if joules > 0.0 { joules } else { 1.0 };
        let cutoff = cutoff.map(|cutoff| lp.add_row(f64::NEG_INFINITY, cutoff / joules, &[])).transpose()?;
        let mut limits = Vec::with_capacity(table.options.len());
        for option in &table.options {
            limits.push(match option.capacity {
                Some(capacity) if capacity > 0.0 => (Some(lp.add_row(f64::NEG_INFINITY, 1.0, &[])?), capacity),
                Some(_) => (Some(lp.add_row(f64::NEG_INFINITY, 0.0, &[])?), 1.0),
                None => (None, 1.0),
            });
        }
        let mut columns = Vec::with_capacity(table.classes.len());
        for (class, kept) in table.classes.iter().zip(kept) {
            let requests = class.requests as f64;
            let row = lp.add_row(requests, requests, &[])?;
            let mut of_class = Vec::with_capacity(class.choices.len());
            for (choice, kept) in class.choices.iter().zip(kept) {
                of_class.push(if *kept {
                    let (limit, scale) = limits[choice.option];
                    let mut entries = vec![(row, 1.0)];
                    entries.extend(limit.map(|limit| (limit, choice.seconds / scale)));
                    entries.extend(cutoff.map(|cutoff| (cutoff, choice.energy / joules)));
                    Some(lp.add_column(choice.energy / joules, (0.0, requests), integers, &entries)?)
                } else {
                    None
                });
            }
            columns.push(of_class);
        }
        Ok(Self { table, lp, columns, limits, joules })
    }

    fn by_choice(&self, values: &[f64]) -> Vec<Vec<f64>> {
        let value = |column: &Option<ColId>| column.map_or(0.0, |column| values[column.0]);
        debug_assert_eq!(self.columns.len(), self.table.classes.len());
        self.columns.iter().map(|class| class.iter().map(value).collect()).collect()
    }
}

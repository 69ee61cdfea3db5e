//! What single requests pay for a whole start of a deployment.
//!
//! Divided instances serve a few choice requests at a sliver of a start. Whole ones do not: what a class c gives to v is no
//! more than all of it, and nothing before v has started,
//!
//! ```text
//! (3b)  x_cv <= sum of s_vw over the windows w in which c may be served or earlier
//! ```
//!
//! This holds for any set of requests. The price of the row is earned by the starts and paid by the members of c where v
//! serves them. Any division among the members keeps the bound; the one found by `share_out` costs it next to nothing.

mod share_out;

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::classes::{Class, Classes};
use super::prices::{CELLS_AT_ONCE, CohortTable, Objective, Prices};
use super::problem::PlanProblem;
use share_out::{Member, Offer, share_out};

/// Prices of rows (3b), in units of the goal; none by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StartPrices {
    /// Where the charges of each request begin; empty where nothing is charged.
    first: Vec<u32>,
    /// Deployment, and what the request pays to be served there.
    charges: Vec<(u16, f64)>,
    /// By (deployment, window): what a start earns.
    earned: Vec<Vec<f64>>,
}

/// The price of a row, for a class and a deployment.
pub type RowPrice = (usize, usize, f64);

/// Taken off each charge, so that those of a class never sum to more than its row's price, whatever the rounding.
const OUTWARD: f64 = 1e-9;

impl StartPrices {
    /// Divides the prices of rows among the requests of their classes, given the other prices. `started`: by (deployment,
    /// window) what has started before its end. Requests choose among `open` deployments, among all if `None`.
    pub fn new(
        problem: &PlanProblem,
        classes: &Classes,
        rows: &[RowPrice],
        prices: &Prices,
        started: &[Vec<f64>],
        open: Option<&[bool]>,
    ) -> Self {
        let mut rows_of: BTreeMap<usize, Vec<(usize, f64)>> = BTreeMap::new();
        for &(class, v, price) in rows.iter().filter(|(_, v, _)| open.is_none_or(|open| open[*v])) {
            rows_of.entry(class).or_default().push((v, price));
        }
        if rows_of.is_empty() {
            return Self::default();
        }
        let members = members(problem, classes, &rows_of, prices, open);
        let mut earned = vec![vec![0.0; problem.windows.len()]; problem.deployments().len()];
        let end_of = |class: usize| problem.kinds[classes.list[class].kind].end_window;
        for (&class, rows) in &rows_of {
            for &(v, price) in rows {
                earned[v][..end_of(class)].iter_mut().for_each(|earned| *earned += price * (1.0 + 1e-12));
            }
        }
        let mut by_request: Vec<(u32, u16, f64)> = rows_of
            .iter()
            .zip(&members)
            .collect::<Vec<_>>()
            .into_par_iter()
            .flat_map_iter(|((&class, rows), members)| {
                let started: Vec<f64> = rows.iter().map(|&(v, _)| started[v][end_of(class) - 1]).collect();
                let prices: Vec<f64> = rows.iter().map(|(_, price)| *price).collect();
                let shares = share_out(members, &prices, &started).into_iter();
                shares.map(|(request, row, charge)| (request, rows[row].0 as u16, charge))
            })
            .collect();
        by_request.par_sort_unstable_by_key(|&(request, v, _)| (request, v));
        let mut first = vec![0u32; problem.workload.requests.len() + 1];
        by_request.iter().for_each(|&(request, _, _)| first[request as usize + 1] += 1);
        for request in 1..first.len() {
            first[request] += first[request - 1];
        }
        let charges = by_request.into_iter().map(|(_, v, charge)| (v, charge * (1.0 - OUTWARD))).collect();
        Self { first, charges, earned }
    }

    /// What a start of `v` in a window earns.
    pub fn earned(&self, v: usize, window: usize) -> f64 {
        self.earned.get(v).map_or(0.0, |row| row[window])
    }

    /// What a request pays, by deployment.
    pub fn charges(&self, request: u32) -> &[(u16, f64)] {
        let request = request as usize;
        match (self.first.get(request), self.first.get(request + 1)) {
            (Some(&from), Some(&to)) => &self.charges[from as usize..to as usize],
            _ => &[],
        }
    }

    /// Deployments that charge any of these requests.
    pub fn charging(&self, requests: &[u32]) -> Vec<usize> {
        let mut found: Vec<usize> = Vec::new();
        for &(v, _) in requests.iter().flat_map(|&request| self.charges(request)) {
            if !found.contains(&usize::from(v)) {
                found.push(v.into());
            }
        }
        found
    }
}

/// The requests of each class with rows, in that order, with what they would pay at most.
fn members(
    problem: &PlanProblem,
    classes: &Classes,
    rows_of: &BTreeMap<usize, Vec<(usize, f64)>>,
    prices: &Prices,
    open: Option<&[bool]>,
) -> Vec<Vec<Member>> {
    const NO_ROWS: u32 = u32::MAX;
    let mut place = vec![NO_ROWS; problem.workload.requests.len()];
    let rows: Vec<&Vec<(usize, f64)>> = rows_of.values().collect();
    for (index, &class) in rows_of.keys().enumerate() {
        let class: &Class = &classes.list[class];
        classes.members(class).iter().for_each(|&request| place[request as usize] = index as u32);
    }
    let tables: Vec<CohortTable> = problem
        .cohorts
        .iter()
        .map(|cohort| CohortTable::new(problem, cohort, prices, open, Objective::Energy))
        .collect();
    let found: Vec<Vec<(u32, Member)>> = problem
        .cells
        .list
        .par_chunks(CELLS_AT_ONCE)
        .map(|cells| {
            let mut found = Vec::new();
            for cell in cells {
                let range = cell.first..cell.first + cell.count;
                let requests = &problem.cells.requests[range.clone()];
                let mut charging: Vec<usize> = Vec::new();
                for row in requests.iter().filter_map(|&request| rows.get(place[request as usize] as usize)) {
                    charging.extend(row.iter().map(|(v, _)| *v).filter(|v| !charging.contains(v)).collect::<Vec<_>>());
                }
                if charging.is_empty() {
                    continue;
                }
                let table = tables[cell.key.cohort()].for_cell(cell, |v| charging.contains(&v));
                let mut costs = vec![0.0; table.options.len()];
                for (&request, &(input, output)) in requests.iter().zip(&problem.cells.lengths[range]) {
                    let index = place[request as usize];
                    let Some(rows) = rows.get(index as usize) else { continue };
                    table.costs(problem, request as usize, input, output, &mut costs);
                    let mut offers: Vec<Offer> = Vec::new();
                    let mut base = f64::INFINITY;
                    for (option, &cost) in table.options.iter().zip(&costs).filter(|(option, _)| option.open) {
                        match rows.iter().position(|(v, _)| *v == option.deployment) {
                            None => base = base.min(cost),
                            Some(row) => match offers.iter_mut().find(|offer| offer.row == row) {
                                Some(offer) => offer.cost = offer.cost.min(cost),
                                None => offers.push(Offer { row, cost }),
                            },
                        }
                    }
                    found.push((index, Member::new(request, base, offers)));
                }
            }
            found
        })
        .collect();
    let mut members = vec![Vec::new(); rows_of.len()];
    for (index, member) in found.into_iter().flatten() {
        members[index as usize].push(member);
    }
    members
}

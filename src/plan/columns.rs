//! Columns of the relaxation, and which of them are worth having at given prices.

use super::classes::Classes;
use super::prices::Prices;
use super::problem::PlanProblem;
use crate::domain::dot;

/// Columns taken per class at a time.
pub const COLUMNS_PER_CLASS: usize = 3;

/// A share of a class on a deployment in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Column {
    pub class: usize,
    /// Index into `Kind::options`.
    pub option: u16,
    pub window: usize,
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
            let Some(window) = prices.cheapest_window(problem, v, kind, energy, seconds) else { continue };
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

//! One pass over the requests at given prices: the first sum of the bound, each request's cheapest
//! option, and what closed deployments would gain.
//!
//! Exact at request level: classes only say who shares the price of a start, so any prices and classes give a valid bound. Sums are compensated per block and
//! rounded down.

use rayon::prelude::*;

use super::cells::Cell;
use super::problem::{Cohort, Kind, PlanProblem};
use super::start_prices::StartPrices;
use crate::domain::Features;

/// Prices of the relaxation's rows, all non-negative, in units of the goal.
#[derive(Clone, Debug, PartialEq)]
pub struct Prices {
    /// pi: per net loaded instance-second, by (deployment, window).
    pub seconds: Vec<Vec<f64>>,
    /// mu: per percent point of one request, by job.
    pub accuracy: Vec<f64>,
    /// sigma: of whole starts, paid by the requests of a class.
    pub starts: StartPrices,
}

impl Prices {
    pub fn zero(problem: &PlanProblem) -> Self {
        Self {
            seconds: vec![vec![0.0; problem.windows.len()]; problem.deployments().len()],
            accuracy: vec![0.0; problem.workload.jobs.len()],
            starts: StartPrices::default(),
        }
    }

    /// The window of `kind` in which `energy` joules and `seconds` of `v` are cheapest; the last of several.
    pub fn cheapest_window(
        &self,
        problem: &PlanProblem,
        v: usize,
        kind: &Kind,
        energy: f64,
        seconds: f64,
    ) -> Option<usize> {
        if problem.is_weighted() {
            return problem.cheapest_window(kind, energy, seconds, &self.seconds[v]).map(|(window, _)| window);
        }
        let windows = (kind.first_window..kind.end_window).rev();
        windows.min_by(|&a, &b| self.seconds[v][a].total_cmp(&self.seconds[v][b]))
    }

    /// The cheapest second of `v` among the windows of `kind`.
    pub fn cheapest_second(&self, v: usize, kind: &Kind) -> f64 {
        self.seconds[v][kind.first_window..kind.end_window].iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// What `energy` joules and `seconds` of `v` cost in the cheapest window of `kind`.
    pub fn cheapest(&self, problem: &PlanProblem, v: usize, kind: &Kind, energy: f64, seconds: f64) -> f64 {
        if !problem.is_weighted() {
            return energy + self.cheapest_second(v, kind) * seconds;
        }
        problem.cheapest_window(kind, energy, seconds, &self.seconds[v]).map_or(f64::INFINITY, |(_, cost)| cost)
    }

    /// (weight, price of a second) of the windows of `kind` in which some request is served cheapest by `v`. No other
    /// window can be the cheapest of a request, for its joules a second lie between those of the features.
    fn useful_windows(&self, problem: &PlanProblem, v: usize, kind: &Kind, objective: Objective) -> Vec<(f64, f64)> {
        if !problem.is_weighted() || objective == Objective::Feasibility {
            return vec![(1.0, self.cheapest_second(v, kind))];
        }
        let rates = &problem.deployments()[v].rates;
        let (mut low, mut high) = (f64::INFINITY, 0.0f64);
        for (energy, seconds) in rates.net_energy.iter().zip(&rates.busy_time) {
            if *energy != 0.0 || *seconds != 0.0 {
                let ratio = if *seconds > 0.0 { energy / seconds } else { f64::INFINITY };
                (low, high) = (low.min(ratio), high.max(ratio));
            }
        }
        let windows = kind.first_window..kind.end_window;
        let windows: Vec<(f64, f64)> = windows.map(|w| (problem.weight(w), self.seconds[v][w])).collect();
        lower_envelope(&windows, low, high)
    }
}

/// Of the lines `slope * x + constant` those that are lowest somewhere in `[low, high]`.
fn lower_envelope(lines: &[(f64, f64)], low: f64, high: f64) -> Vec<(f64, f64)> {
    if low < 0.0 || low > high {
        return lines.to_vec();
    }
    let least_slope = |a: &&(f64, f64), b: &&(f64, f64)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1));
    let at_low = |line: &(f64, f64)| line.0 * low + line.1;
    let first = if low.is_finite() {
        lines.iter().min_by(|a, b| at_low(a).total_cmp(&at_low(b)).then(least_slope(a, b)))
    } else {
        lines.iter().min_by(least_slope)
    };
    let Some(&first) = first else { return Vec::new() };
    let mut envelope = vec![first];
    let mut now = first;
    loop {
        let crossing = |line: &(f64, f64)| (line.1 - now.1) / (now.0 - line.0);
        let flatter = lines.iter().filter(|line| line.0 < now.0);
        let next = flatter.min_by(|a, b| crossing(a).total_cmp(&crossing(b)).then(least_slope(a, b)));
        match next {
            Some(&line) if crossing(&line) < high => {
                envelope.push(line);
                now = line;
            }
            _ => return envelope,
        }
    }
}

/// What counts as cost: the joules at their weights, or nothing (to prove that no plan exists at all).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    Energy,
    Feasibility,
}

#[derive(Clone, Debug)]
pub struct PassResult {
    /// Sum over requests of the cheapest priced cost among open deployments, plus mu_j f_j N_j; rounded down. A request
    /// without an open option counts at its dearest option, so that `gains` say what opening any of them saves.
    pub total: f64,
    /// Deployment each request prefers among the open ones; any it may use if none is open, `NONE` if there is none.
    pub cheapest: Vec<u16>,
    /// What each request costs there; 0 where there is none.
    pub costs: Vec<f64>,
    /// By deployment: how much the total falls at most if it opens; 0 for open ones.
    pub gains: Vec<f64>,
    /// Requests that no deployment can serve.
    pub unservable: Vec<usize>,
}

/// No deployment.
pub const NONE: u16 = u16::MAX;

/// Cells that one task reads.
pub(super) const CELLS_AT_ONCE: usize = 16;

/// `open`: the deployments requests may choose from; all if `None`.
pub fn request_pass(problem: &PlanProblem, prices: &Prices, open: Option<&[bool]>, objective: Objective) -> PassResult {
    let tables: Vec<CohortTable> =
        problem.cohorts.iter().map(|cohort| CohortTable::new(problem, cohort, prices, open, objective)).collect();
    let deployments = problem.deployments().len();
    let parts: Vec<Part> = problem
        .cells
        .list
        .par_chunks(CELLS_AT_ONCE)
        .map(|cells| {
            let mut part = Part { gains: vec![0.0; if open.is_some() { deployments } else { 0 }], ..Part::default() };
            for cell in cells {
                part.add(problem, &tables[cell.key.cohort()], &prices.starts, cell);
            }
            part
        })
        .collect();

    let mut total = CompensatedSum::default();
    let mut gains = vec![0.0; deployments];
    let mut unservable = Vec::new();
    let mut cheapest = vec![NONE; problem.workload.requests.len()];
    let mut costs = vec![0.0; cheapest.len()];
    for (part, cells) in parts.into_iter().zip(problem.cells.list.chunks(CELLS_AT_ONCE)) {
        total.add(part.total.value());
        total.magnitude += part.total.magnitude;
        for (gain, more) in gains.iter_mut().zip(part.gains) {
            *gain += more;
        }
        unservable.extend(part.unservable);
        let choices = part.cheapest.into_iter().zip(part.costs);
        for (&request, (choice, cost)) in problem.cells.requests[cells[0].first..].iter().zip(choices) {
            (cheapest[request as usize], costs[request as usize]) = (choice, cost);
        }
    }
    unservable.sort_unstable();
    for (job, points) in problem.floor_points.iter().enumerate() {
        total.add(points.unwrap_or(0.0) * prices.accuracy[job]);
    }
    PassResult { total: total.rounded_down(), cheapest, costs, gains, unservable }
}

/// What some cells contribute.
#[derive(Default)]
struct Part {
    total: CompensatedSum,
    /// In the order of the cells' requests, as `costs`.
    cheapest: Vec<u16>,
    costs: Vec<f64>,
    /// Empty where nobody asks.
    gains: Vec<f64>,
    unservable: Vec<usize>,
}

impl Part {
    fn add(&mut self, problem: &PlanProblem, table: &CohortTable, starts: &StartPrices, cell: &Cell) {
        let members = cell.first..cell.first + cell.count;
        let requests = &problem.cells.requests[members.clone()];
        let charging = starts.charging(requests);
        let table = table.for_cell(cell, |v| charging.contains(&v));
        let mut costs = vec![0.0; table.options.len()];
        for (&request, &(input, output)) in requests.iter().zip(&problem.cells.lengths[members]) {
            table.costs(problem, request as usize, input, output, &mut costs);
            for &(v, charge) in starts.charges(request) {
                let charged =
                    table.options.iter().zip(&mut costs).filter(|(option, _)| option.deployment == usize::from(v));
                charged.for_each(|(_, cost)| *cost += charge);
            }
            let Some((best, cost)) = table.cheapest(&costs) else {
                self.unservable.push(request as usize);
                self.cheapest.push(NONE);
                self.costs.push(0.0);
                continue;
            };
            self.cheapest.push(table.options[best].deployment as u16);
            self.costs.push(cost);
            self.total.add(cost);
            if !self.gains.is_empty() {
                // A deployment gains by its best window only.
                let mut known = (usize::MAX, 0.0);
                for (option, &candidate) in table.options.iter().zip(&costs) {
                    if !option.open && candidate < cost {
                        let before = if known.0 == option.deployment { known.1 } else { 0.0 };
                        let gain = (cost - candidate).max(before);
                        self.gains[option.deployment] += gain - before;
                        known = (option.deployment, gain);
                    }
                }
            }
        }
    }
}

/// Where joules are weighted an option is there once for each window that may be its cheapest, side by side.
#[derive(Clone, Copy)]
pub(super) struct PricedOption {
    pub(super) deployment: usize,
    /// Its index in `Kind::options`.
    index: usize,
    pub(super) open: bool,
    max_tokens: f64,
    /// Some request of the cohort may exceed its slot limit.
    tight: bool,
}

/// One cohort's options with their priced coefficients, a column a feature so that the inner loop vectorises.
pub(super) struct CohortTable {
    pub(super) options: Vec<PricedOption>,
    coefficients: [Vec<f64>; 6],
}

impl CohortTable {
    pub(super) fn new(
        problem: &PlanProblem,
        cohort: &Cohort,
        prices: &Prices,
        open: Option<&[bool]>,
        objective: Objective,
    ) -> Self {
        let kind = &problem.kinds[cohort.kind];
        let mut table = Self { options: Vec::with_capacity(kind.options.len()), coefficients: Default::default() };
        for (index, &v) in kind.options.iter().enumerate() {
            let deployment = &problem.deployments()[v];
            let points = kind.mean_job.map_or(0.0, |job| prices.accuracy[job] * kind.accuracy[index]);
            let longest = deployment.rates.slot_seconds(cohort.max_input, cohort.max_output);
            for (weight, second) in prices.useful_windows(problem, v, kind, objective) {
                for (k, column) in table.coefficients.iter_mut().enumerate() {
                    let energy =
                        if objective == Objective::Energy { weight * deployment.rates.net_energy[k] } else { 0.0 };
                    let constant = if k == 0 { points } else { 0.0 };
                    column.push(energy + second * deployment.rates.busy_time[k] - constant);
                }
                table.options.push(PricedOption {
                    deployment: v,
                    index,
                    open: open.is_none_or(|open| open[v]),
                    max_tokens: deployment.max_tokens,
                    tight: longest > cohort.slot_limit[index],
                });
            }
        }
        table
    }

    /// The options that some request of the cell may prefer to `reference`, an open one that serves all of them: those
    /// whose cost less the reference's has a Bernstein coefficient on the cell that is not positive. A polynomial is
    /// nowhere below the least of them. No deployment that `charges` some of them for a start is the reference.
    pub(super) fn for_cell(&self, cell: &Cell, charges: impl Fn(usize) -> bool) -> Self {
        self.kept_at(&cell.control_points(), cell, charges)
    }

    /// Whether an option may win is judged at these points alone; the reference is the cheapest at the middle one.
    fn kept_at(&self, points: &[Features], cell: &Cell, charges: impl Fn(usize) -> bool) -> Self {
        let most_tokens = f64::from(cell.input.1) + f64::from(cell.output.1);
        let least_tokens = f64::from(cell.input.0) + f64::from(cell.output.0);
        let serves_all = |option: &PricedOption| {
            option.open && !option.tight && option.max_tokens >= most_tokens && !charges(option.deployment)
        };
        let value = |k: usize, point: &Features| (0..6).map(|f| self.coefficients[f][k] * point[f]).sum::<f64>();
        let middle = |k: usize| value(k, &points[points.len() / 2]);
        let reference = (0..self.options.len())
            .filter(|&k| serves_all(&self.options[k]))
            .min_by(|&a, &b| middle(a).total_cmp(&middle(b)))
            .map(|k| points.iter().map(|point| value(k, point)).collect::<Vec<f64>>());
        let may_win = |k: usize| {
            let beats = |reference: &Vec<f64>| {
                points.iter().zip(reference).any(|(point, other)| value(k, point) <= other + 1e-12 * other.abs())
            };
            self.options[k].max_tokens >= least_tokens && reference.as_ref().is_none_or(beats)
        };
        let kept: Vec<usize> = (0..self.options.len()).filter(|&k| may_win(k)).collect();
        Self {
            options: kept.iter().map(|&k| self.options[k]).collect(),
            coefficients: std::array::from_fn(|f| kept.iter().map(|&k| self.coefficients[f][k]).collect()),
        }
    }

    /// Cost of the request by option; infinite where it cannot be served.
    pub(super) fn costs(&self, problem: &PlanProblem, request: usize, input: u32, output: u32, costs: &mut [f64]) {
        let (i, o) = (f64::from(input), f64::from(output));
        let (io, ii, oo, tokens) = (i * o, i * i, o * o, i + o);
        let n = costs.len();
        let [c0, c1, c2, c3, c4, c5] = &self.coefficients;
        let (c0, c1, c2, c3, c4, c5) = (&c0[..n], &c1[..n], &c2[..n], &c3[..n], &c4[..n], &c5[..n]);
        for k in 0..n {
            costs[k] = c0[k] + c1[k] * i + c2[k] * o + c3[k] * io + c4[k] * ii + c5[k] * oo;
        }
        for (option, cost) in self.options.iter().zip(costs) {
            let too_long = option.tight && {
                let slot = problem.deployments()[option.deployment].rates.slot_seconds(input, output);
                slot > problem.kinds[problem.kind_of(request)].slot_limit[option.index]
            };
            if tokens > option.max_tokens || too_long {
                *cost = f64::INFINITY;
            }
        }
    }

    /// The cheapest open option, or if none is open to this request, its dearest.
    fn cheapest(&self, costs: &[f64]) -> Option<(usize, f64)> {
        let possible = || costs.iter().copied().enumerate().filter(|(_, cost)| *cost < f64::INFINITY);
        let mut best: Option<(usize, f64)> = None;
        for (option, cost) in possible().filter(|(option, _)| self.options[*option].open) {
            if best.is_none_or(|(_, least)| cost < least) {
                best = Some((option, cost));
            }
        }
        best.or_else(|| possible().max_by(|a, b| a.1.total_cmp(&b.1)))
    }
}

/// Neumaier's sum with the magnitude that bounds its rounding error.
#[derive(Clone, Copy, Debug, Default)]
struct CompensatedSum {
    sum: f64,
    compensation: f64,
    magnitude: f64,
}

impl CompensatedSum {
    fn add(&mut self, value: f64) {
        let next = self.sum + value;
        self.compensation +=
            if self.sum.abs() >= value.abs() { (self.sum - next) + value } else { (value - next) + self.sum };
        self.sum = next;
        self.magnitude += value.abs();
    }

    fn value(&self) -> f64 {
        self.sum + self.compensation
    }

    /// Each term is a sum of about ten products and the total compensated: 32 ulp of the magnitudes cover both.
    fn rounded_down(&self) -> f64 {
        self.value() - 32.0 * f64::EPSILON * self.magnitude
    }
}

#[cfg(test)]
mod tests;

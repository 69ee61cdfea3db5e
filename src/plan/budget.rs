//! The problem of a node that is on for so many seconds at most, without what being on costs.
//!
//! Whatever runs while a node is awake could run, shifted to its start, on one that never sleeps, all of it due when the
//! seconds are over. What may be placed is planned with the deployments as they are. The bound also has to hold for an
//! instance with fewer requests than its cap, whose slots are fewer and sooner done: it is taken over *ranges*, which are
//! deployments that say how many requests an instance of theirs has.
//!
//! Requests of many are taken together in cells of like lengths, as fine as leaves time for what is done with them.
//!
//! Where the next smaller batch of the same family serves as many requests at no more joules, seconds and memory, only
//! instances with more of them are of use: the least of each figure over those is a range's.

mod sites;

use rayon::prelude::*;

pub use self::sites::{Offer, Sites};
use super::cells::{Cell, Cells};
use super::problem::PlanProblem;
use crate::domain::{Cluster, Features, Rates, Workload, dot, features};
use crate::units::Seconds;

/// Least and most slots of a range, as a ratio.
const RATIO: f64 = 1.15;
/// Beyond this ratio ranges no longer get fewer.
const COARSEST: f64 = 1e3;
/// Ranges of all deployments together that are worth their time.
const MOST_RANGES: usize = 400;
/// Cells times ranges at most, where cells need not be wider than `WIDEST`.
const MOST_OFFERS: usize = 400_000;
/// By how much more than 1 the ratio of lengths in a cell is, at least and at most; each next width is twice the last.
const FINEST: f64 = 1e-3;
const WIDEST: f64 = 0.5;
/// Slot times and deadlines agree to this share.
const ROUNDING: f64 = 1e-9;

/// Some requests an instance has, and what serving them takes at least.
#[derive(Clone)]
struct Range {
    v: usize,
    /// Fewest and most requests of an instance; `None` where that may be all.
    fewest: usize,
    most: Option<usize>,
    rates: Rates,
    /// Seconds of a slot on the length features, at least.
    slot: Features,
}

/// The queue on nodes that never sleep, all of it due within a budget of seconds: to be placed.
pub struct Budget {
    workload: Workload,
    cluster: Cluster,
}

impl Budget {
    pub fn new(problem: &PlanProblem, seconds: f64) -> Self {
        let mut cluster = problem.cluster.clone();
        cluster.pools.iter_mut().for_each(|pool| pool.suspend = false);
        let mut workload = problem.workload.clone();
        for group in &mut workload.groups {
            group.deadline = Seconds((group.deadline.0 - problem.wake(0)).min(seconds));
            group.release = Seconds::ZERO;
        }
        Self { workload, cluster }
    }

    /// The problem, which lives no longer than `of`.
    pub fn problem<'a>(&'a self, of: &PlanProblem<'a>) -> PlanProblem<'a> {
        PlanProblem::new(&self.workload, &self.cluster, of.models, of.options, of.safety)
    }
}

/// The ranges of a problem and its requests by length, for budgets of any length.
pub struct Ranges {
    list: Vec<Range>,
    cells: Cells,
    /// Mean features of the requests of each cell.
    means: Vec<Features>,
}

impl Ranges {
    pub fn new(problem: &PlanProblem) -> Self {
        let requests = problem.workload.requests.len();
        let reached = reached(problem);
        let fewest: Vec<usize> = (0..reached.len()).map(|v| fewest_requests(problem, &reached, v)).collect();
        let bounds = |ratio: f64| -> Vec<(usize, Vec<usize>)> {
            let offered = problem.offered();
            let offered = (0..fewest.len()).filter(|&v| offered[v] && fewest[v] <= requests);
            offered.map(|v| (v, cuts(fewest[v], problem.deployments()[v].rates.batch_size, requests, ratio))).collect()
        };
        let mut ratio = RATIO;
        let mut all = bounds(ratio);
        let count = |all: &[(usize, Vec<usize>)]| all.iter().map(|(_, cuts)| cuts.len()).sum::<usize>();
        while count(&all) > MOST_RANGES && ratio < COARSEST {
            ratio *= ratio;
            all = bounds(ratio);
        }
        let range = |(v, cuts): &(usize, Vec<usize>)| -> Vec<Range> {
            let ends = cuts.iter().skip(1).map(|&next| next - 1).chain([requests]);
            cuts.iter().zip(ends).map(|(&first, last)| Range::new(problem, &reached[*v], *v, first, last)).collect()
        };
        let list: Vec<Range> = all.iter().flat_map(range).collect();
        let most_cells = MOST_OFFERS / list.len().max(1);
        Self { list, cells: Cells::default(), means: Vec::new() }.over_cells(problem, most_cells)
    }

    /// The same ranges over so many cells, about.
    pub fn over_cells(&self, problem: &PlanProblem, most: usize) -> Self {
        let cells = cells(problem, most);
        let means = cells.list.iter().map(|cell| mean_features(&cells, cell)).collect();
        Self { list: self.list.clone(), cells, means }
    }

    /// Seconds within which no request can be missed: with fewer, some request fits nowhere.
    pub fn shortest(&self, problem: &PlanProblem) -> f64 {
        let requests = &problem.workload.requests;
        let least = |r: usize| {
            let (input, output) = problem.lengths(r);
            let phi = features(f64::from(input), f64::from(output));
            let serving = |range: &Range| {
                let deployment = &problem.deployments()[range.v];
                let may =
                    problem.options.allowed[requests.group[r] as usize][range.v] && deployment.fits(input, output);
                if may { deployment.load_time.0 + dot(&range.slot, &phi) } else { f64::INFINITY }
            };
            self.list.iter().map(serving).fold(f64::INFINITY, f64::min)
        };
        let longest = (0..requests.len()).into_par_iter().map(least).reduce(|| 0.0, f64::max);
        longest * (1.0 - ROUNDING)
    }

    /// Device-seconds that the requests take at least.
    pub fn least_work(&self, problem: &PlanProblem) -> f64 {
        let requests = &problem.workload.requests;
        let least = |r: usize| {
            let (input, output) = problem.lengths(r);
            let phi = features(f64::from(input), f64::from(output));
            let allowed = &problem.options.allowed[requests.group[r] as usize];
            let may =
                self.list.iter().filter(|range| allowed[range.v] && problem.deployments()[range.v].fits(input, output));
            let seconds =
                may.map(|range| f64::from(problem.deployments()[range.v].devices) * dot(&range.rates.busy_time, &phi));
            seconds.fold(f64::INFINITY, f64::min)
        };
        (0..requests.len()).into_par_iter().map(least).sum()
    }

    /// What each request may take of each range within a budget of seconds; `None` if some request fits nowhere.
    pub fn sites<'b>(&'b self, problem: &'b PlanProblem<'b>, budget: f64) -> Option<Sites<'b>> {
        let accuracy = problem.options.accuracy.iter();
        let accuracy =
            accuracy.map(|row| self.list.iter().map(|range| row[range.v].unwrap_or(0.0)).collect()).collect();
        let mut sites = Sites { problem, ranges: self, budget, least_second: 0.0, accuracy, offers: Vec::new() };
        let offers = |(cell, phi): (&Cell, &Features)| -> Vec<Offer> {
            let members = self.members(cell);
            let serves = |range: usize| members.iter().any(|&request| sites.serves(range, request as usize));
            (0..self.list.len()).filter(|&range| serves(range)).map(|range| self.offer(range, phi)).collect()
        };
        sites.offers = self.cells.list.par_iter().zip(&self.means).map(offers).collect();
        sites.offers.iter().all(|offers| !offers.is_empty()).then_some(sites)
    }

    /// What a request of these features takes of a range.
    fn offer(&self, range: usize, phi: &Features) -> Offer {
        let rates = &self.list[range].rates;
        Offer { range: range as u32, energy: dot(&rates.net_energy, phi), seconds: dot(&rates.busy_time, phi) }
    }

    fn members(&self, cell: &Cell) -> &[u32] {
        &self.cells.requests[cell.first..cell.first + cell.count]
    }

    pub fn rates(&self, range: usize) -> &Rates {
        &self.list[range].rates
    }

    pub fn cells(&self) -> &[Cell] {
        &self.cells.list
    }

    /// Lengths of the requests of a cell.
    pub fn lengths(&self, cell: &Cell) -> &[(u32, u32)] {
        &self.cells.lengths[cell.first..cell.first + cell.count]
    }

    /// Mean features of the requests of each cell.
    pub fn means(&self) -> &[Features] {
        &self.means
    }

    pub fn deployment(&self, range: usize) -> usize {
        self.list[range].v
    }

    pub fn fewest(&self, range: usize) -> usize {
        self.list[range].fewest
    }

    /// Most requests of an instance; `None` where that may be all.
    pub fn most(&self, range: usize) -> Option<usize> {
        self.list[range].most
    }

    pub fn count(&self) -> usize {
        self.list.len()
    }
}

impl Range {
    /// Instances of `v` with `first` to `last` requests.
    fn new(problem: &PlanProblem, reached: &[Rates], v: usize, first: usize, last: usize) -> Self {
        let full = problem.deployments()[v].rates;
        let (mut rates, mut slot) = (Rates { batch_size: 1.0, ..full }, [f64::INFINITY; 6]);
        if first < full.slots() {
            (rates.net_energy, rates.busy_time) = ([f64::INFINITY; 6], [f64::INFINITY; 6]);
        }
        for count in first..=last.min(reached.len().max(first)) {
            let at = reached.get(count - 1).unwrap_or(&full);
            let lower = |least: &mut Features, of: Features| {
                least.iter_mut().zip(of).for_each(|(least, value)| *least = least.min(value));
            };
            lower(&mut rates.net_energy, at.net_energy);
            lower(&mut rates.busy_time, at.busy_time);
            lower(&mut slot, at.busy_time.map(|seconds| at.slots() as f64 * seconds));
        }
        let most = (last < problem.workload.requests.len()).then_some(last);
        Self { v, fewest: first, most, rates, slot }
    }
}

/// Requests of one kind, of almost one length and short enough for the same deployments: as fine as leaves so many cells,
/// about.
fn cells(problem: &PlanProblem, most: usize) -> Cells {
    let requests = problem.workload.requests.len();
    let mut limits: Vec<f64> = problem.deployments().iter().map(|deployment| deployment.max_tokens).collect();
    limits.sort_by(f64::total_cmp);
    limits.dedup();
    let alike = |request: usize| {
        let (input, output) = problem.lengths(request);
        let tokens = f64::from(input) + f64::from(output);
        problem.kind_of(request) * (limits.len() + 1) + limits.partition_point(|&limit| limit < tokens)
    };
    let mut width = FINEST;
    loop {
        let cells = Cells::new(1.0 + width, requests, alike, |request| problem.lengths(request));
        if cells.list.len() <= most || width >= WIDEST {
            return cells;
        }
        width *= 2.0;
    }
}

fn mean_features(cells: &Cells, cell: &Cell) -> Features {
    let mut sum = [0.0; 6];
    for &(input, output) in &cells.lengths[cell.first..cell.first + cell.count] {
        let phi = features(f64::from(input), f64::from(output));
        sum.iter_mut().zip(phi).for_each(|(sum, value)| *sum += value);
    }
    sum.map(|sum| sum / cell.count as f64)
}

/// First counts of ranges from `fewest` on, of which the last is the first with a full batch.
fn cuts(fewest: usize, batch: f64, requests: usize, ratio: f64) -> Vec<usize> {
    let full = batch.ceil() as usize;
    let mut cuts = vec![fewest];
    let mut next = fewest as f64 * ratio;
    while (next.ceil() as usize) < full.min(requests + 1) {
        let cut = next.ceil() as usize;
        if cut > cuts[cuts.len() - 1] {
            cuts.push(cut);
        }
        next = cut as f64 * ratio;
    }
    if full > cuts[cuts.len() - 1] && full <= requests {
        cuts.push(full);
    }
    cuts
}

/// Least requests for which an instance of `v` may be of use: with fewer, one of a smaller batch does the same.
fn fewest_requests(problem: &PlanProblem, reached: &[Vec<Rates>], v: usize) -> usize {
    let others = (0..reached.len()).filter(|&u| u != v && replaces(problem, reached, u, v));
    let most = |u: usize| {
        let deployment = &problem.deployments()[u];
        if deployment.batch_size < problem.deployments()[v].batch_size {
            deployment.batch_size.floor() as usize
        } else {
            usize::MAX - 1
        }
    };
    others.map(most).max().unwrap_or(0) + 1
}

/// Whether an instance of `u` does what one of `v` does, at no more cost, with requests that fit a batch of `u`.
fn replaces(problem: &PlanProblem, reached: &[Vec<Rates>], u: usize, v: usize) -> bool {
    let (a, b) = (&problem.deployments()[u], &problem.deployments()[v]);
    let alike = problem.options.model[u] == problem.options.model[v]
        && (a.pool, a.devices, a.sm_clock_mhz) == (b.pool, b.devices, b.sm_clock_mhz);
    if !alike || (a.batch_size, u) >= (b.batch_size, v) {
        return false;
    }
    let rules = problem.options.allowed.iter().all(|allowed| allowed[u] || !allowed[v]);
    let constants = a.load_time <= b.load_time
        && a.start_energy() <= b.start_energy()
        && a.max_tokens >= b.max_tokens
        && a.net_peak_power() <= b.net_peak_power();
    let no_more = |x: &Features, y: &Features| x.iter().zip(y).all(|(x, y)| x <= y);
    let as_good = |(x, y): (&Rates, &Rates)| {
        x.slots() == y.slots() && no_more(&x.net_energy, &y.net_energy) && no_more(&x.busy_time, &y.busy_time)
    };
    let fitting = a.batch_size.floor() as usize;
    rules && constants && reached[u].iter().zip(&reached[v]).take(fitting).all(as_good)
}

/// Rates of an instance of each deployment with 1, 2, ... requests, up to a full batch.
fn reached(problem: &PlanProblem) -> Vec<Vec<Rates>> {
    let requests = problem.workload.requests.len();
    let most = |v: usize| (problem.deployments()[v].batch_size.ceil() as usize).clamp(1, requests.max(1));
    (0..problem.deployments().len())
        .into_par_iter()
        .map(|v| (1..=most(v)).map(|count| problem.rates_for(v, count)).collect())
        .collect()
}

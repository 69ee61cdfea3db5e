//! Whether there is room for every request at all: the relaxation that pays for nothing but requests left unserved, and
//! what its prices prove about single requests.
//!
//! A certificate holds whatever the classes were. Where instances may be divided and there still is no room, one request
//! pass proves it; else the master's whole instances may.

use std::time::Instant;

use super::known::{Known, Start};
use super::{Ground, MOST_CLASSES};
use crate::domain::Workload;
use crate::plan::bound::Master;
use crate::plan::capacity::CapacityInput;
use crate::plan::classes::Classes;
use crate::plan::columns::{Column, columns_at};
use crate::plan::hints::used;
use crate::plan::limits::{Limit, shadow_prices};
use crate::plan::prices::{Objective, PassResult, Prices, request_pass};
use crate::plan::record::Optimum;
use crate::plan::relaxation::{ClassProblem, ClassSolution};
use crate::plan::{Infeasibility, PlanError, PlanProblem};

/// Share of all requests that a pass must leave without room to be a proof by itself, well above the solver's
/// tolerances.
const CLEAR: f64 = 1e-4;
/// Requests' worth of work below which the relaxation serves everything.
pub const SERVED: f64 = 1e-6;
/// Share of what is unserved that may be due to merging.
const MERGING: f64 = 0.1;
const MOST_SPLITS: usize = 4;

#[derive(Clone, Debug)]
pub struct Feasibility {
    /// Requests' worth of work that the relaxation over classes leaves unserved. At 0 it serves every request, with
    /// divisible instances and requests: members of a class may all be served as the class is.
    pub unserved: f64,
    /// At request level, with divisible instances: requests' worth of work that has no room, where floors have a price with
    /// what is missing to them. At most 0 if nothing is proved; above, a proof, and only about a number of requests.
    pub missing: f64,
    pub prices: Prices,
    /// Of the capacity block, which has the deployments `offered`.
    pub optimum: Optimum,
    pub offered: Vec<bool>,
    /// At the prices; none where everything is served.
    pass: Option<PassResult>,
    /// Columns with a share.
    used: Vec<Column>,
}

impl Feasibility {
    /// Whether its prices are a proof as they are.
    pub(super) fn is_clear(&self, problem: &PlanProblem) -> bool {
        self.missing >= CLEAR * problem.workload.requests.len() as f64
    }

    /// Whether what it leaves unserved is about what is proved to be.
    fn is_settled(&self) -> bool {
        self.unserved <= SERVED || self.unserved - self.missing <= MERGING * self.unserved
    }
}

/// Whether `problem` has room for every request; `known` is what earlier questions taught. Ends with the first proof that it
/// has none: how much is unserved is then known only roughly. `None` where time ran out first.
///
/// # Errors
/// Those of the solver.
pub fn feasibility(problem: &PlanProblem, known: &mut Known, until: Instant) -> Result<Option<Feasibility>, PlanError> {
    let ground = Ground::new(problem, f64::INFINITY);
    let start = known.take(&ground);
    match over_classes(&ground, start, |found| found.missing > 0.0, until) {
        Err(PlanError::OutOfTime) => Ok(None),
        found => Ok(found?.map(|(found, start)| {
            known.keep(problem, start);
            found
        })),
    }
}

/// Solves the relaxation for feasibility: over the classes of `start` and finer ones, and over its deployments and those that
/// requests ask for, as long as it takes to see what is unserved, or until it is `enough`. Returns where the next one may start.
pub(super) fn over_classes(
    ground: &Ground,
    start: Start,
    enough: impl Fn(&Feasibility) -> bool,
    until: Instant,
) -> Result<Option<(Feasibility, Start)>, PlanError> {
    let problem = ground.problem;
    let Start { mut classes, mut columns, mut offered } = start;
    let mut splits = 0;
    loop {
        let Some(found) = once(ground, &offered, &classes, &columns, until)? else { return Ok(None) };
        let mut changed = false;
        let mut split = false;
        if let Some(pass) =
            found.pass.as_ref().filter(|_| !found.is_settled() && !enough(&found) && Instant::now() < until)
        {
            let wanted = used(problem, &pass.cheapest);
            for (v, offered) in offered.iter_mut().enumerate() {
                let wanted = wanted[v] && ground.offered[v];
                changed |= wanted && !*offered;
                *offered |= wanted;
            }
            // At prices that deployments not asked yet may change, who disagrees means little.
            if !changed && splits < MOST_SPLITS {
                splits += 1;
                split = classes.split_disagreeing(problem, &pass.cheapest, MOST_CLASSES) > 0;
                changed |= split;
            }
            // Where requests ask for no other, ties may hide those that would make room.
            if !changed && offered != ground.offered {
                offered.clone_from(&ground.offered);
                changed = true;
            }
        }
        columns = columns_at(problem, &classes, &found.prices);
        if !split {
            columns.extend(&found.used);
        }
        if !changed {
            return Ok(Some((found, Start { classes, columns, offered })));
        }
    }
}

fn once(
    ground: &Ground,
    offered: &[bool],
    classes: &Classes,
    columns: &[Column],
    until: Instant,
) -> Result<Option<Feasibility>, PlanError> {
    let capacity = CapacityInput { offered, ..ground.unpriced() };
    let mut problem = ClassProblem::new(capacity, classes, Objective::Feasibility, columns)?;
    let Some(solution) = problem.solve(until)? else { return Ok(None) };
    let ClassSolution { objective, requests_dual, unserved, prices, optimum, shares, .. } = solution;
    // Where everything is served nothing is missing, and no prices are needed to say so.
    let (missing, pass) = if unserved <= SERVED {
        (0.0, None)
    } else {
        let pass = request_pass(ground.problem, &prices, None, Objective::Feasibility);
        let margin = 1e-6 * (requests_dual.abs() + pass.total.abs());
        (objective - requests_dual + pass.total - margin, Some(pass))
    };
    let used = shares.into_iter().map(|(column, _)| column).collect();
    Ok(Some(Feasibility { unserved, missing, prices, optimum, offered: offered.to_vec(), pass, used }))
}

/// The proof that no plan exists, if these prices are one.
pub(super) fn certificate(
    ground: &Ground,
    found: Feasibility,
    seconds: f64,
) -> Result<Option<Infeasibility>, PlanError> {
    let clear = found.is_clear(ground.problem);
    let Feasibility { mut missing, prices, optimum, offered, pass, .. } = found;
    let Some(pass) = pass else { return Ok(None) };
    let beyond_one = beyond_one(ground.problem, &prices, &pass.costs);
    if !clear {
        let mut master = Master::new(ground.unpriced(), Objective::Feasibility)?;
        master.add_cut(&prices, &pass, None)?;
        master.solve(seconds, 1e-4)?;
        missing = master.bound();
    }
    let left_out = (missing - beyond_one - 1e-6 * missing.abs()).ceil().max(1.0) as u64;
    let (missing_requests, optimum) = (missing, Box::new(optimum));
    Ok((missing > 1e-6).then_some(Infeasibility::Certificate { missing_requests, left_out, prices, optimum, offered }))
}

/// By how much the requests' costs in a pass at `prices` exceed those where each may be left out at a cost of 1.
///
/// A request that is left out takes its share of a mean floor, f_j points, with it. To leave out as few as possible, u_r of
/// request r, is the relaxation with `sum x + u_r = 1`, `sum alpha x + f_j u_r >= f_j N_j` and the objective `sum u_r`. At
/// any prices its bound is that of the pass with `min(c_r, 1 - mu_j f_j)` in place of the cost c_r of a request, mu_j being
/// 0 without a mean floor; and no fewer requests than its bound can be left out so that the others have a plan.
fn beyond_one(problem: &PlanProblem, prices: &Prices, costs: &[f64]) -> f64 {
    let Workload { groups, requests, .. } = problem.workload;
    let most: Vec<f64> = groups
        .iter()
        .map(|group| {
            let points = problem.floor_points[group.job].unwrap_or(0.0) / problem.requests_of_job[group.job] as f64;
            1.0 - prices.accuracy[group.job] * points
        })
        .collect();
    requests.group.iter().zip(costs).map(|(&group, cost)| (cost - most[group as usize]).max(0.0)).sum()
}

/// What a certificate rests on: whatever is not in here could be dropped, and there would still be no room.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Causes {
    /// Jobs with the requests' worth they add to what is missing, most first: without them that much less is missing.
    pub jobs: Vec<(usize, f64)>,
    /// Pools whose device time is short, with the second until which it is; dearest first.
    pub pools: Vec<(usize, f64)>,
    /// Jobs whose mean floor leaves too little choice.
    pub floors: Vec<usize>,
}

/// Requests' worth of what is missing that one more second, point or node would make room for, to first order; a floor
/// or a node needs at least as much as its share of what is missing says. `None` where the limit enters in other ways.
pub fn relief(
    problem: &PlanProblem,
    prices: &Prices,
    optimum: &Optimum,
    offered: &[bool],
    limit: &Limit,
) -> Option<f64> {
    if let Limit::Accuracy(jobs) = limit {
        let mean = jobs.iter().all(|&job| problem.floor_points[job].is_some());
        let relief = jobs.iter().map(|&job| prices.accuracy[job] * problem.requests_of_job[job] as f64).sum();
        return mean.then_some(relief);
    }
    let ground = Ground::new(problem, f64::INFINITY);
    shadow_prices::saved(&CapacityInput { offered, ..ground.unpriced() }, optimum, limit).ok()?
}

pub fn causes(problem: &PlanProblem, prices: &Prices) -> Causes {
    let mut of_job = vec![0.0; problem.workload.jobs.len()];
    let Workload { groups, requests, .. } = problem.workload;
    let costs = request_pass(problem, prices, None, Objective::Feasibility).costs;
    for (&group, cost) in requests.group.iter().zip(costs) {
        of_job[groups[group as usize].job] += cost;
    }
    for ((total, points), mu) in of_job.iter_mut().zip(&problem.floor_points).zip(&prices.accuracy) {
        *total += points.unwrap_or(0.0) * mu;
    }
    let mut jobs: Vec<(usize, f64)> = of_job.into_iter().enumerate().filter(|(_, share)| *share > 1e-6).collect();
    jobs.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));

    // By pool: highest price of a device-second, and the end of the last window with one.
    let mut short = vec![(0.0f64, 0.0f64); problem.cluster.pools.len()];
    for (deployment, row) in problem.deployments().iter().zip(&prices.seconds) {
        let (highest, until) = &mut short[deployment.pool];
        for (price, window) in row.iter().zip(&problem.windows).filter(|(price, _)| **price > 1e-12) {
            *highest = highest.max(price / f64::from(deployment.devices));
            *until = until.max(window.end);
        }
    }
    let mut pools: Vec<(usize, (f64, f64))> =
        short.into_iter().enumerate().filter(|(_, (price, _))| *price > 0.0).collect();
    pools.sort_by(|a, b| b.1.0.total_cmp(&a.1.0).then(a.0.cmp(&b.0)));
    let floors = (0..prices.accuracy.len()).filter(|&job| prices.accuracy[job] > 1e-12).collect();
    Causes { jobs, pools: pools.into_iter().map(|(pool, (_, until))| (pool, until)).collect(), floors }
}

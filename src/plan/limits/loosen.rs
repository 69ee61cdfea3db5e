//! The smallest relaxations of a problem that has no plan, each of one limit alone.
//!
//! The relaxation over classes says how much is needed at least, by secants on the requests it leaves unserved. A plan is
//! then sought at that amount and above, and below it until the last amount that failed is near: what is reported as
//! verified has been planned. One limit of each kind comes first, the others in what time is left. Left out: relaxations
//! of several limits together, which are not unique.

mod search;

use std::time::{Duration, Instant};

use self::search::{Candidate, Search};
use super::Limit;
use super::amounts::least_room;
use super::trial::most;
use crate::plan::price::Priced;
use crate::plan::solve::feasibility::{Causes, causes, relief};
use crate::plan::{Infeasibility, PlanProblem};

/// A change of one limit under which there is a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Relaxation {
    pub limit: Limit,
    /// Seconds, percent points, nodes or watts; rounded up.
    pub amount: f64,
    /// A plan was found with this amount. If not, the relaxation needs at least about as much, and time ran out.
    pub verified: bool,
    /// Solved again with this amount, the relaxation serves every request, with divisible instances; a plan needs about as
    /// much or more. `None` where time ran out first.
    pub relaxed: Option<f64>,
    /// Proved not to be enough.
    pub too_little: Option<f64>,
}

/// Share of the time for what the relaxation says; the rest is for plans.
const ESTIMATING: f64 = 0.3;
/// Jobs that are looked at one by one.
const MOST_JOBS: usize = 16;

/// Smallest relaxations of `problem`, for which `why` says that there is no plan, all jobs' deadlines first, within about
/// `budget`. `accept` may reject a plan, for example after a check.
pub fn smallest(
    problem: &PlanProblem,
    why: &Infeasibility,
    budget: Duration,
    accept: &mut dyn FnMut(&PlanProblem, &Priced) -> bool,
) -> Vec<Relaxation> {
    let started = Instant::now();
    let Short { limits, requests } = short(problem, why);
    let unserved = match why {
        Infeasibility::Unservable(requests) => requests.len() as f64,
        Infeasibility::Certificate { missing_requests, .. } => *missing_requests,
        // Nothing can run at all.
        Infeasibility::StandingPower { .. } => problem.workload.requests.len() as f64,
    };
    let first = |limit: &Limit| match why {
        Infeasibility::Certificate { prices, optimum, offered, .. } => {
            let relief = relief(problem, prices, optimum, offered, limit).filter(|relief| *relief > 0.0)?;
            Some(unserved / relief)
        }
        Infeasibility::StandingPower { .. } => Some(-least_room(problem)),
        Infeasibility::Unservable(_) => None,
    };
    let mut search = Search::new(problem, why, requests, started + budget, accept);
    search.estimate_for(ESTIMATING);
    let candidates: Vec<Candidate> = limits
        .into_iter()
        .filter_map(|limit| {
            let first = first(&limit);
            search.estimate(limit, unserved, first)
        })
        .collect();
    let mut kinds = Vec::new();
    let (mut candidates, mut others): (Vec<Candidate>, Vec<Candidate>) =
        candidates.into_iter().partition(|candidate| {
            let kind = candidate.kind();
            let first = !kinds.contains(&kind);
            kinds.push(kind);
            first
        });
    search.verify_all(&mut candidates);
    search.verify_all(&mut others);
    candidates.append(&mut others);
    search.narrow_all(&mut candidates);
    candidates.into_iter().map(|candidate| candidate.report(problem)).collect()
}

/// What there is too little of.
struct Short {
    /// That could help, all deadlines first.
    limits: Vec<Limit>,
    /// Requests that it is short for, at most.
    requests: usize,
}

/// A job or pool that the certificate does without cannot help alone.
fn short(problem: &PlanProblem, why: &Infeasibility) -> Short {
    let jobs = problem.workload.jobs.len();
    let mut requests = problem.workload.requests.len();
    let mut limits = vec![Limit::Deadline((0..jobs).collect())];
    let mut priced_floors = None;
    let (concerned, pools): (Vec<usize>, Vec<usize>) = match why {
        Infeasibility::Certificate { prices, missing_requests, .. } => {
            let Causes { jobs, pools, floors } = causes(problem, prices);
            requests = jobs.iter().map(|(job, _)| problem.requests_of_job[*job]).sum();
            let needed = jobs.into_iter().filter(|(_, share)| *share >= 0.999 * missing_requests);
            priced_floors = Some(floors);
            (needed.map(|(job, _)| job).collect(), pools.into_iter().map(|(pool, _)| pool).collect())
        }
        Infeasibility::Unservable(requests) => {
            let group = |request: &usize| problem.workload.requests.group[*request] as usize;
            let mut concerned: Vec<usize> =
                requests.iter().map(|request| problem.workload.groups[group(request)].job).collect();
            concerned.sort_unstable();
            concerned.dedup();
            // Requests of several jobs: none of these alone makes the others servable.
            (if concerned.len() == 1 { concerned } else { Vec::new() }, (0..problem.cluster.pools.len()).collect())
        }
        // Only the cap itself is in the way.
        Infeasibility::StandingPower { .. } => return Short { limits: vec![Limit::Power], requests },
    };
    // A cap also decides which deployments find room at all, which no price shows.
    if matches!(why, Infeasibility::Certificate { .. }) && problem.power_room().is_some() {
        limits.push(Limit::Power);
    }
    limits.extend(pools.into_iter().map(Limit::Nodes));
    let concerned = || concerned.iter().copied().take(MOST_JOBS);
    // A mean floor without a price is not in the way, whatever it is.
    let in_the_way = |job: &usize| {
        problem.floor_points[*job].is_none() || priced_floors.as_ref().is_none_or(|priced| priced.contains(job))
    };
    limits.extend(concerned().filter(in_the_way).map(|job| Limit::Accuracy(vec![job])));
    if jobs > 1 {
        limits.extend(concerned().map(|job| Limit::Deadline(vec![job])));
    }
    limits.retain(|limit| most(problem, limit) > 0.0);
    Short { limits, requests }
}

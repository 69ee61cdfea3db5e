//! The smallest relaxations of a problem that has no plan, each of one limit alone.
//!
//! The relaxation over classes says how much is needed at least, by secants on the requests it leaves unserved. A plan is
//! then sought at that amount and above, and below it until the last amount that failed is near: what is reported as
//! verified has been planned. One limit of each kind comes first, the others in what time is left. Left out: relaxations
//! of several limits together, which are not unique.

mod candidate;
mod search;

use std::time::{Duration, Instant};

use self::candidate::Candidate;
use self::search::Search;
use super::Limit;
use super::amounts::{extent, least_room};
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
const ASKING: f64 = 0.35;
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
    let limits = limits(problem, why);
    let unserved = match why {
        Infeasibility::Unservable(requests) => requests.len() as f64,
        Infeasibility::Certificate { missing_requests, .. } => *missing_requests,
        // Nothing can run at all.
        Infeasibility::StandingPower { .. } => problem.workload.requests.len() as f64,
    };
    let relief = |limit: &Limit| match why {
        Infeasibility::Certificate { prices, optimum, offered, .. } => {
            relief(problem, prices, optimum, offered, limit).filter(|relief| *relief > 0.0)
        }
        _ => None,
    };
    let relieved: Vec<(Limit, Option<f64>)> = limits.into_iter().map(|limit| (limit.clone(), relief(&limit))).collect();
    let of_pools = relieved.iter().filter(|(limit, _)| matches!(limit, Limit::Nodes(_)));
    let short: f64 = of_pools.map(|(limit, relief)| relief.unwrap_or(0.0) * extent(problem, limit)).sum();
    let mut search = Search::new(problem, why, started + budget, accept);
    let candidates = relieved.into_iter().map(|(limit, relief)| {
        let first = match why {
            Infeasibility::StandingPower { .. } => Some(-least_room(problem)),
            _ => relief.map(|relief| unserved / relief),
        };
        Candidate::new(problem, limit, unserved, first, short)
    });
    let mut candidates: Vec<Candidate> = candidates.collect();
    search.ask_all(&mut candidates, ASKING);
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
    // What the time was too short for at first.
    search.ask_all(&mut candidates, 1.0);
    search.verify_all(&mut candidates);
    search.narrow_all(&mut candidates);
    candidates.into_iter().filter_map(|candidate| candidate.report(problem)).collect()
}

/// Limits of which there may be too little, all deadlines first. A job or pool that the certificate does without cannot
/// help alone.
fn limits(problem: &PlanProblem, why: &Infeasibility) -> Vec<Limit> {
    let jobs = problem.workload.jobs.len();
    let mut limits = vec![Limit::Deadline((0..jobs).collect())];
    let mut priced_floors = None;
    let (concerned, pools): (Vec<usize>, Vec<usize>) = match why {
        Infeasibility::Certificate { prices, missing_requests, .. } => {
            let Causes { jobs, pools, floors } = causes(problem, prices);
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
        Infeasibility::StandingPower { .. } => return vec![Limit::Power],
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
    limits
}

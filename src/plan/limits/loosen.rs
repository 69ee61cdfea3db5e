//! The smallest relaxations of a problem that has no plan, each of one limit alone.
//!
//! The relaxation over classes says how much is needed at least, by secants on the requests it leaves unserved. A plan is
//! then sought at that amount and above, and below it until the last amount that failed is near: what is reported as
//! verified has been planned. One limit of each kind comes first; where a plan takes long, it is sought with so much more
//! room that it is likely found at once. Left out: relaxations of several limits together, which are not unique.

use std::time::{Duration, Instant};

use super::Limit;
use super::amounts::{NEAR, extent, first_guess, guess, least_room, least_unit, resolution, round_up};
use super::trial::{Trial, has_steps, most, step_at};
use crate::plan::baselines::{self, BaselineResult};
use crate::plan::price::Priced;
use crate::plan::solve::feasibility::{causes, feasibility, relief};
use crate::plan::{Infeasibility, PlanProblem, Settings, Verdict, solve};

/// A change of one limit under which there is a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Relaxation {
    pub limit: Limit,
    /// Seconds, percent points, nodes or watts; rounded up.
    pub amount: f64,
    /// A plan was found with this amount. If not, the relaxation needs at least about as much, and time ran out.
    pub verified: bool,
    /// Proved not to be enough.
    pub too_little: Option<f64>,
}

/// Requests' worth of work below which the relaxation serves everything.
const SERVED: f64 = 1e-6;
const MOST_SECANTS: usize = 24;
/// Share of the time for what the relaxation says; the rest is for plans.
const ESTIMATING: f64 = 0.3;
/// Where a plan takes long: room for so many more requests, as a share of all, tried in turn.
const ROOM: [f64; 4] = [0.06, 0.18, 0.5, 1.5];
/// Time for a plan, in times of a relaxation, and at least: where there is no plan, the search for one would not end.
const PLAN_TO_RELAXATION: u32 = 20;
const LEAST_FOR_PLAN: Duration = Duration::from_millis(100);
/// Requests up to which simple strategies are tried too.
const MOST_BY_RULES: usize = 20_000;
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
    let unserved = match why {
        Infeasibility::Unservable(requests) => requests.len() as f64,
        Infeasibility::Certificate { missing_requests, .. } => *missing_requests,
        // Nothing can run at all.
        Infeasibility::StandingPower { .. } => problem.workload.requests.len() as f64,
    };
    let started = Instant::now();
    let mut search = Search {
        problem,
        trial: Trial::new(problem),
        until: started + budget,
        turn_ends: started + budget,
        estimating: started + budget.mul_f64(ESTIMATING),
        slowest: Duration::ZERO,
        accept,
    };
    let mut candidates = Vec::new();
    for limit in limits(problem, why) {
        let first = match why {
            Infeasibility::Certificate { prices, optimum, .. } => {
                relief(problem, prices, optimum, &limit).filter(|relief| *relief > 0.0).map(|relief| unserved / relief)
            }
            Infeasibility::StandingPower { .. } => Some(-least_room(problem)),
            Infeasibility::Unservable(_) => None,
        };
        let hurried = Instant::now() + MOST_SECANTS as u32 * search.slowest > search.estimating;
        candidates.extend(if hurried {
            search.first_order(limit, unserved, first)
        } else {
            search.estimate(limit, unserved, first)
        });
    }
    let mut kinds = Vec::new();
    let (firsts, others): (Vec<Candidate>, Vec<Candidate>) = candidates.into_iter().partition(|candidate| {
        let kind = std::mem::discriminant(&candidate.limit);
        let first = !kinds.contains(&kind);
        kinds.push(kind);
        first
    });
    let mut turns = firsts.len();
    let mut candidates: Vec<Candidate> = firsts.into_iter().chain(others).collect();
    // What does not help at its most is no relaxation, though the linear programme thought so.
    candidates.retain_mut(|candidate| {
        search.take_turn(turns);
        turns = turns.saturating_sub(1);
        search.verify(candidate)
    });
    search.take_turn(1);
    candidates.iter_mut().for_each(|candidate| search.narrow(candidate));
    candidates.into_iter().map(|candidate| search.report(candidate)).collect()
}

/// Limits that could help, all deadlines first. A job or pool that the certificate does without cannot help alone.
fn limits(problem: &PlanProblem, why: &Infeasibility) -> Vec<Limit> {
    let jobs = problem.workload.jobs.len();
    let mut limits = vec![Limit::Deadline((0..jobs).collect())];
    let mut priced_floors = None;
    let (concerned, pools): (Vec<usize>, Vec<usize>) = match why {
        Infeasibility::Certificate { prices, missing_requests, .. } => {
            let causes = causes(problem, prices);
            let needed = causes.jobs.into_iter().filter(|(_, share)| *share >= 0.999 * missing_requests);
            priced_floors = Some(causes.floors);
            (needed.map(|(job, _)| job).collect(), causes.pools.into_iter().map(|(pool, _)| pool).collect())
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

struct Search<'a> {
    problem: &'a PlanProblem<'a>,
    trial: Trial<'a>,
    until: Instant,
    /// When to leave the rest of the time to other candidates.
    turn_ends: Instant,
    /// When to be content with estimates.
    estimating: Instant,
    /// Longest time of a relaxation so far.
    slowest: Duration,
    accept: &'a mut dyn FnMut(&PlanProblem, &Priced) -> bool,
}

struct Candidate {
    limit: Limit,
    /// Failed, at least in the relaxation.
    failed: f64,
    /// Proved to be too little.
    too_little: Option<f64>,
    /// What makes room for one more request, to first order.
    per_request: Option<f64>,
    /// The relaxation has room at this amount, or about.
    estimate: f64,
    verified: Option<f64>,
}

impl Search<'_> {
    /// What the certificate alone says is needed at least.
    fn first_order(&self, limit: Limit, unserved: f64, first: Option<f64>) -> Option<Candidate> {
        let amount = first.filter(|amount| *amount <= most(self.problem, &limit))?;
        let estimate = least_unit(&limit, amount);
        let per_request = Some(amount / unserved);
        Some(Candidate { limit, failed: 0.0, too_little: None, per_request, estimate, verified: None })
    }

    /// Where the relaxation begins to serve everything; `None` if it never does, or time ran out first.
    fn estimate(&mut self, limit: Limit, unserved: f64, first: Option<f64>) -> Option<Candidate> {
        let most = most(self.problem, &limit);
        let mut below = (0.0, unserved);
        // The slope that the certificate knows.
        let mut before = first.map(|first| (-first, 2.0 * unserved));
        let mut enough: Option<f64> = None;
        let mut too_little = None;
        let mut next = match limit {
            // One question settles whether floors, or the cap, are the trouble.
            Limit::Accuracy(_) | Limit::Power => most,
            _ => least_unit(&limit, first.unwrap_or_else(|| first_guess(self.problem, &limit, unserved)).min(most)),
        };
        for _ in 0..MOST_SECANTS {
            let (left, missing) = self.unserved(&limit, next)?;
            if left <= SERVED {
                enough = Some(next);
            } else {
                if missing > 0.0 {
                    too_little = Some(next);
                }
                if next >= most {
                    return None;
                }
                (before, below) = (Some(below), (next, left));
            }
            let gap = enough.map_or(f64::INFINITY, |enough| enough - below.0);
            // Where each of them takes long, the first that is enough will do.
            let hurried = Instant::now() + MOST_SECANTS as u32 * self.slowest > self.estimating;
            if gap <= resolution(self.problem, &limit, enough.unwrap_or(0.0))
                || (hurried && enough.is_some_and(|e| e < most))
            {
                break;
            }
            next = least_unit(&limit, guess(before, below, enough, most));
            if enough.is_some_and(|enough| next >= enough) || next <= below.0 || Instant::now() > self.estimating {
                break;
            }
        }
        // Where time ran out, only a slope can tell how far it is.
        let estimate = least_unit(&limit, enough.or(first.map(|_| next))?);
        let per_request = first.map(|first| first / unserved);
        Some(Candidate { limit, failed: below.0, too_little, per_request, estimate, verified: None })
    }

    /// Looks for a plan at the estimate and above; `false` if there is none however much is given.
    fn verify(&mut self, candidate: &mut Candidate) -> bool {
        let most = most(self.problem, &candidate.limit);
        let mut step = (0.02 * extent(self.problem, &candidate.limit)).max(NEAR * candidate.estimate);
        // Whole instances need more than the relaxation; where a plan takes long, how much is not tried out.
        let mut rooms = if MOST_SECANTS as u32 * self.slowest > self.left() { &ROOM[..] } else { &[] }.iter();
        let requests = self.problem.workload.requests.len() as f64;
        let mut amount = candidate.estimate;
        while self.left() > Duration::ZERO {
            match (rooms.next(), candidate.per_request) {
                (Some(room), Some(per_request)) => amount = candidate.estimate + room * requests * per_request,
                (Some(_), None) => amount += step,
                _ => {}
            }
            amount = least_unit(&candidate.limit, amount.min(most));
            if self.attempt(candidate, amount) {
                return true;
            }
            if amount >= most {
                return self.left() == Duration::ZERO;
            }
            amount += step;
            step *= 2.0;
        }
        true
    }

    /// Gives what comes next its share of the time: as much as to each of `turns`.
    fn take_turn(&mut self, turns: usize) {
        let now = Instant::now();
        self.turn_ends = now + self.until.saturating_duration_since(now) / turns.max(1) as u32;
    }

    /// Looks for a plan between the last amount that failed and the verified one.
    fn narrow(&mut self, candidate: &mut Candidate) {
        while let Some(verified) = candidate.verified.filter(|_| self.left() > Duration::ZERO) {
            if verified - candidate.failed <= resolution(self.problem, &candidate.limit, verified) {
                return;
            }
            let middle = least_unit(&candidate.limit, 0.5 * (candidate.failed + verified));
            if middle >= verified || middle <= candidate.failed {
                return;
            }
            self.attempt(candidate, middle);
        }
    }

    /// Whether a plan is found with this amount.
    fn attempt(&mut self, candidate: &mut Candidate, amount: f64) -> bool {
        // Any plan will do; half of the time is left for other amounts.
        let time_limit = (PLAN_TO_RELAXATION * self.slowest).max(LEAST_FOR_PLAN).min(self.left() / 2);
        let settings = Settings { gap: 1.0, time_limit, baselines: false };
        let accept = &mut self.accept;
        let (found, proved) =
            self.trial.with(&candidate.limit, amount, |problem| match solve(problem, &settings, None, &mut |_| {}) {
                Ok(Verdict::Planned(plan)) => (accept(problem, &plan.priced), false),
                Ok(Verdict::Infeasible(_)) => (false, true),
                _ => (by_simple_rules(problem, &settings).is_some_and(|priced| accept(problem, &priced)), false),
            });
        if found {
            candidate.verified = Some(amount);
        } else {
            candidate.failed = candidate.failed.max(amount);
        }
        if proved {
            candidate.too_little = Some(candidate.too_little.map_or(amount, |known| known.max(amount)));
        }
        found
    }

    /// Requests' worth that the relaxation leaves unserved, and how much of it is proved; `None` when time ran out.
    fn unserved(&mut self, limit: &Limit, amount: f64) -> Option<(f64, f64)> {
        let (started, until) = (Instant::now(), self.until);
        let found = self.trial.with(limit, amount, |problem| feasibility(problem, until).ok()?)?;
        self.slowest = self.slowest.max(started.elapsed());
        Some((found.unserved, found.missing))
    }

    fn report(&self, candidate: Candidate) -> Relaxation {
        let Candidate { limit, too_little, estimate, verified, .. } = candidate;
        let mut amount = verified.unwrap_or(estimate);
        if let (Limit::Accuracy(jobs), Some(_)) = (&limit, verified)
            && jobs.iter().all(|&job| has_steps(self.problem, job))
        {
            // Between two steps the problem is the same.
            let step = jobs.iter().map(|&job| step_at(self.problem, job, amount)).fold(0.0, f64::max);
            amount = round_up(step, 1e-2).min(amount);
        }
        Relaxation { limit, amount, verified: verified.is_some(), too_little }
    }

    fn left(&self) -> Duration {
        self.turn_ends.saturating_duration_since(Instant::now())
    }
}

/// A plan of a simple strategy: where time is short it may succeed where the cheapest deployments find no room.
fn by_simple_rules(problem: &PlanProblem, settings: &Settings) -> Option<Priced> {
    if problem.workload.requests.len() > MOST_BY_RULES {
        return None;
    }
    let results = baselines::run(problem, settings, 1);
    results.into_values().filter(BaselineResult::feasible).find_map(|result| result.priced)
}

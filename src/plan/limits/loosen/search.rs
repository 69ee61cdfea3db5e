//! The search for one relaxation after another, within a time that they share: where the relaxation over classes begins to
//! serve everything, and from where on a plan is found.
//!
//! Where plans take long, few are tried: the first of them with so much room that it is likely found.

use std::mem::Discriminant;
use std::time::{Duration, Instant};

use super::super::Limit;
use super::super::amounts::{NEAR, extent, first_guess, guess, least_unit, resolution, round_up};
use super::super::trial::{Trial, has_steps, most, step_at};
use super::Relaxation;
use crate::plan::baselines::{self, BaselineResult};
use crate::plan::price::Priced;
use crate::plan::solve::feasibility::{SERVED, feasibility};
use crate::plan::solve::known::Known;
use crate::plan::{Infeasibility, PlanProblem, Settings, Verdict, solve};

const MOST_SECANTS: usize = 24;
/// Secants that an estimate takes as a rule.
const LIKELY_SECANTS: u32 = 4;
/// Where a plan takes long: room for so many more of the requests concerned, in shares, tried in turn.
const ROOM: [f64; 2] = [0.6, 2.0];
/// Time for a plan, in times of a relaxation, and at least: where there is no plan, the search for one would not end.
const PLAN_TO_RELAXATION: u32 = 20;
const MOST_OF_AN_ATTEMPT: f64 = 0.7;
const LEAST_FOR_PLAN: Duration = Duration::from_millis(100);
/// Plans take long where fewer than so many can be tried.
const FEW_PLANS: u32 = 3;
/// Requests up to which simple strategies are tried too.
const MOST_BY_RULES: usize = 20_000;

pub(super) struct Candidate {
    limit: Limit,
    /// Failed, at least in the relaxation.
    failed: f64,
    /// Proved to be too little.
    too_little: Option<f64>,
    /// What makes room for one more request, to first order.
    per_request: Option<f64>,
    /// The relaxation has room at this amount, or about.
    estimate: f64,
    /// It was solved again with this amount and serves everything.
    relaxed: Option<f64>,
    verified: Option<f64>,
}

impl Candidate {
    pub(super) fn kind(&self) -> Discriminant<Limit> {
        std::mem::discriminant(&self.limit)
    }

    pub(super) fn report(self, problem: &PlanProblem) -> Relaxation {
        let Self { limit, too_little, estimate, relaxed, verified, .. } = self;
        let mut amount = verified.or(relaxed).unwrap_or(estimate);
        if let (Limit::Accuracy(jobs), Some(_)) = (&limit, verified)
            && jobs.iter().all(|&job| has_steps(problem, job))
        {
            // Between two steps the problem is the same.
            let step = jobs.iter().map(|&job| step_at(problem, job, amount)).fold(0.0, f64::max);
            amount = round_up(step, 1e-2).min(amount);
        }
        // With simple rules a plan may be found where the relaxation over classes saw none.
        let relaxed = relaxed.map(|relaxed| relaxed.min(amount));
        Relaxation { limit, amount, verified: verified.is_some(), relaxed, too_little }
    }
}

pub(super) struct Search<'a> {
    problem: &'a PlanProblem<'a>,
    trial: Trial<'a>,
    known: Known,
    /// Requests that there is too little room for.
    concerned: usize,
    until: Instant,
    /// When to leave the rest of the time to other candidates.
    turn_ends: Instant,
    /// When to be content with estimates.
    estimating: Instant,
    /// Longest time of a relaxation so far.
    slowest: Duration,
    /// Longest time of an attempt to plan so far: it may outlast its limit, for the step at hand is finished.
    longest_attempt: Duration,
    accept: &'a mut dyn FnMut(&PlanProblem, &Priced) -> bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        problem: &'a PlanProblem<'a>,
        why: &Infeasibility,
        concerned: usize,
        until: Instant,
        accept: &'a mut dyn FnMut(&PlanProblem, &Priced) -> bool,
    ) -> Self {
        let known = match why {
            Infeasibility::Certificate { prices, offered, .. } => Known::of(problem, prices, offered),
            Infeasibility::Unservable(_) | Infeasibility::StandingPower { .. } => Known::default(),
        };
        Self {
            problem,
            trial: Trial::new(problem),
            known,
            concerned,
            until,
            turn_ends: until,
            estimating: until,
            slowest: Duration::ZERO,
            longest_attempt: Duration::ZERO,
            accept,
        }
    }

    /// Lets the estimates that follow take this share of the time left.
    pub(super) fn estimate_for(&mut self, share: f64) {
        let now = Instant::now();
        self.estimating = now + self.until.saturating_duration_since(now).mul_f64(share);
    }

    /// Whether so many more relaxations would take longer than estimates may.
    fn hurried(&self, relaxations: u32) -> bool {
        Instant::now() + relaxations * self.slowest > self.estimating
    }

    /// Where the relaxation begins to serve everything; `None` if it never does, or nothing is known of it. `first`: what the
    /// certificate says is needed at least, for requests `unserved` as it is.
    pub(super) fn estimate(&mut self, limit: Limit, unserved: f64, first: Option<f64>) -> Option<Candidate> {
        let most = most(self.problem, &limit);
        let per_request = first.map(|first| first / unserved);
        if self.hurried(1) {
            let estimate = least_unit(&limit, first.filter(|first| *first <= most)?);
            return Some(Candidate {
                limit,
                failed: 0.0,
                too_little: None,
                per_request,
                estimate,
                relaxed: None,
                verified: None,
            });
        }
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
            let Some((left, missing)) = self.unserved(&limit, next) else {
                // Time ran out.
                first.or(enough)?;
                break;
            };
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
            let hurried = self.hurried(LIKELY_SECANTS);
            if gap <= resolution(self.problem, &limit, enough.unwrap_or(0.0))
                || (hurried && enough.is_some_and(|e| e < most))
            {
                break;
            }
            next = least_unit(&limit, guess(before, below, enough, most));
            if enough.is_some_and(|enough| next >= enough) || next <= below.0 || self.hurried(0) {
                break;
            }
        }
        // Where time ran out, only a slope can tell how far it is.
        let estimate = least_unit(&limit, enough.or(first.map(|_| next))?);
        Some(Candidate { limit, failed: below.0, too_little, per_request, estimate, relaxed: enough, verified: None })
    }

    /// Looks for plans, each candidate in its turn. What does not help at its most is dropped: it is no relaxation, though
    /// the linear programme thought so.
    pub(super) fn verify_all(&mut self, candidates: &mut Vec<Candidate>) {
        let mut turns = candidates.len();
        candidates.retain_mut(|candidate| {
            self.take_turn(turns);
            turns = turns.saturating_sub(1);
            self.verify(candidate)
        });
    }

    pub(super) fn narrow_all(&mut self, candidates: &mut [Candidate]) {
        let mut turns = candidates.iter().filter(|candidate| candidate.verified.is_some()).count();
        for candidate in candidates.iter_mut().filter(|candidate| candidate.verified.is_some()) {
            self.take_turn(turns);
            turns -= 1;
            self.narrow(candidate);
        }
    }

    /// Looks for a plan at the estimate and above; `false` if there is none however much is given.
    fn verify(&mut self, candidate: &mut Candidate) -> bool {
        let most = most(self.problem, &candidate.limit);
        let mut step = (0.02 * extent(self.problem, &candidate.limit)).max(NEAR * candidate.estimate);
        // Whole instances need more than the relaxation; where a plan takes long, how much is not tried out.
        let mut rooms = if self.plans_take_long() { &ROOM[..] } else { &[] }.iter();
        let requests = self.concerned as f64;
        let mut amount = candidate.estimate;
        while self.has_time() {
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
                return !self.has_time();
            }
            amount += step;
            step *= 2.0;
        }
        true
    }

    /// Gives what comes next its share of the time: as much as to each of `turns`, or of so many as attempts may be made.
    fn take_turn(&mut self, turns: usize) {
        let now = Instant::now();
        let left = self.until.saturating_duration_since(now);
        let attempts = left.as_secs_f64() / self.longest_attempt.as_secs_f64().max(1e-9);
        self.turn_ends = now + left / turns.clamp(1, (attempts as usize).max(1)) as u32;
    }

    /// Whether there is time for another attempt: in this turn, and before the end of all for most of one.
    fn has_time(&self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        self.left() > Duration::ZERO && left >= self.longest_attempt.mul_f64(MOST_OF_AN_ATTEMPT)
    }

    /// Looks for a plan between the last amount that failed and the verified one.
    fn narrow(&mut self, candidate: &mut Candidate) {
        while let Some(verified) = candidate.verified.filter(|_| self.has_time()) {
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

    fn plans_take_long(&self) -> bool {
        FEW_PLANS * PLAN_TO_RELAXATION * self.slowest > self.left()
    }

    /// Whether a plan is found with this amount.
    fn attempt(&mut self, candidate: &mut Candidate, amount: f64) -> bool {
        // Any plan will do. Where time allows for several, half of it is left for other amounts.
        let left = if self.plans_take_long() { self.left() } else { self.left() / 2 };
        let time_limit = (PLAN_TO_RELAXATION * self.slowest).max(LEAST_FOR_PLAN).min(left);
        let settings = Settings { gap: 1.0, time_limit, baselines: false };
        let started = Instant::now();
        let accept = &mut self.accept;
        let (found, proved) =
            self.trial.with(&candidate.limit, amount, |problem| match solve(problem, &settings, None, &mut |_| {}) {
                Ok(Verdict::Planned(plan)) => (accept(problem, &plan.priced), false),
                Ok(Verdict::Infeasible(_)) => (false, true),
                _ => (by_simple_rules(problem, &settings).is_some_and(|priced| accept(problem, &priced)), false),
            });
        self.longest_attempt = self.longest_attempt.max(started.elapsed());
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
        let (started, until, known) = (Instant::now(), self.until, &mut self.known);
        let found = self.trial.with(limit, amount, |problem| feasibility(problem, known, until).ok()?)?;
        self.slowest = self.slowest.max(started.elapsed());
        Some((found.unserved, found.missing))
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

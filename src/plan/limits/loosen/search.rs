//! The search for one relaxation after another, within a time that they share: where the relaxation over classes begins to
//! serve everything, and from where on a plan is found.
//!
//! Where plans take long, few are tried, and how much room whole instances need beyond divisible ones is learnt from one limit
//! for the next.

use std::time::{Duration, Instant};

use super::super::Limit;
use super::super::amounts::{NEAR, extent, least_unit, resolution};
use super::super::trial::Trial;
use super::candidate::Candidate;
use crate::plan::baselines::{self, BaselineResult};
use crate::plan::price::Priced;
use crate::plan::solve::feasibility::{SERVED, feasibility};
use crate::plan::solve::known::Known;
use crate::plan::{Infeasibility, PlanProblem, Settings, Verdict, solve};

const MOST_SECANTS: usize = 24;
/// Relaxations are slow where there is time for fewer than so many of one limit.
const FEW_SECANTS: u32 = 8;
/// Time for one relaxation at most, as a part of what is left of all.
const LONGEST_ANSWER: u32 = 8;
/// Where a plan takes long: room beyond what the relaxation needs, in shares of all device time that is short, tried in turn.
/// With the first of them, instances can as a rule be rounded up, which is quick.
const ROOM: [f64; 4] = [0.1, 0.25, 0.6, 1.5];
/// Time for a plan, in times of a relaxation, and at least: where there is no plan, the search for one would not end.
const PLAN_TO_RELAXATION: u32 = 20;
const MOST_OF_AN_ATTEMPT: f64 = 0.7;
const LEAST_FOR_PLAN: Duration = Duration::from_millis(100);
/// Plans take long where fewer than so many can be tried.
const FEW_PLANS: u32 = 3;
/// Requests up to which simple strategies are tried too.
const MOST_BY_RULES: usize = 20_000;

pub(super) struct Search<'a> {
    problem: &'a PlanProblem<'a>,
    trial: Trial<'a>,
    known: Known,
    /// Of `ROOM`: the first share to try.
    room: usize,
    until: Instant,
    /// When to leave the rest of the time to other candidates.
    turn_ends: Instant,
    /// Longest time of a relaxation so far, and the time of all.
    slowest: Duration,
    relaxing: Duration,
    relaxations: u32,
    /// Longest time of an attempt to plan so far: it may outlast its limit, for the step at hand is finished.
    longest_attempt: Duration,
    accept: &'a mut dyn FnMut(&PlanProblem, &Priced) -> bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        problem: &'a PlanProblem<'a>,
        why: &Infeasibility,
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
            room: 0,
            until,
            turn_ends: until,
            slowest: Duration::ZERO,
            relaxing: Duration::ZERO,
            relaxations: 0,
            longest_attempt: Duration::ZERO,
            accept,
        }
    }

    /// Asks the relaxation what each of the candidates needs that is not known to be enough, within this share of the time
    /// left. What does not help at its most is dropped.
    pub(super) fn ask_all(&mut self, candidates: &mut Vec<Candidate>, share: f64) {
        let now = Instant::now();
        let until = now + self.until.saturating_duration_since(now).mul_f64(share);
        let unasked = |candidate: &Candidate| candidate.verified.or(candidate.relaxed).is_none();
        let mut turns = candidates.iter().filter(|candidate| unasked(candidate)).count() as u32;
        candidates.retain_mut(|candidate| {
            if !unasked(candidate) {
                return true;
            }
            let now = Instant::now();
            self.turn_ends = now + until.saturating_duration_since(now) / turns.max(1);
            turns = turns.saturating_sub(1);
            self.ask(candidate)
        });
    }

    /// Where the relaxation begins to serve everything, as well as can be said in this turn; `false` if it never does.
    fn ask(&mut self, candidate: &mut Candidate) -> bool {
        for asked in 0..MOST_SECANTS {
            let Some(amount) = candidate.question(self.problem) else { break };
            let (left, likely) = (self.left(), self.usual());
            // Where each of them takes long, the first that is enough will do.
            let enough = candidate.relaxed.is_some_and(|relaxed| relaxed < candidate.most);
            if left.is_zero() || (asked > 0 && likely > left) || (enough && FEW_SECANTS * likely > left) {
                break;
            }
            let Some((left, missing)) = self.unserved(&candidate.limit, amount) else { break };
            if !candidate.hear(amount, left, missing) {
                return false;
            }
        }
        true
    }

    /// Looks for plans, each candidate in its turn. What does not help at its most is dropped: it is no relaxation, though
    /// the linear programme thought so.
    pub(super) fn verify_all(&mut self, candidates: &mut Vec<Candidate>) {
        let mut turns = candidates.iter().filter(|candidate| candidate.verified.is_none()).count();
        candidates.retain_mut(|candidate| {
            if candidate.verified.is_some() {
                return true;
            }
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
        let long = self.plans_take_long();
        if long && candidate.relaxed.is_none() && !self.ask(candidate) {
            return false;
        }
        let Some(estimate) = candidate.estimate() else { return true };
        let mut step = (0.02 * extent(self.problem, &candidate.limit)).max(NEAR * estimate);
        // Whole instances need more than the relaxation; where a plan takes long, how much is not tried out.
        let mut rooms = candidate.all_short.filter(|_| long).map_or(ROOM.len(), |_| self.room)..ROOM.len();
        let mut amount = estimate;
        while self.has_time() {
            let room = rooms.next();
            amount = match (room, candidate.all_short) {
                // It can hardly be loosened by enough.
                (Some(room), Some(all)) if estimate + 0.5 * ROOM[room] * all > candidate.most => return true,
                (Some(room), Some(all)) => estimate + ROOM[room] * all,
                _ if long && candidate.failed < estimate => amount + step,
                _ => amount,
            };
            amount = least_unit(&candidate.limit, amount.min(candidate.most));
            if amount > candidate.failed || amount >= candidate.most {
                if self.attempt(candidate, amount) {
                    return true;
                }
                // What was too little for one limit is so for the next.
                if let (Some(room), true) = (room, candidate.relaxed.is_some()) {
                    self.room = (room + 1).min(ROOM.len() - 1);
                }
            }
            if amount >= candidate.most {
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
        let likely = match self.longest_attempt {
            Duration::ZERO => PLAN_TO_RELAXATION * self.usual(),
            longest => longest,
        };
        let attempts = left.as_secs_f64() / likely.as_secs_f64().max(1e-9);
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
            let failed = candidate.failed.max(candidate.least());
            if verified - failed <= resolution(self.problem, &candidate.limit, verified) {
                return;
            }
            let middle = least_unit(&candidate.limit, 0.5 * (failed + verified));
            if middle >= verified || middle <= failed {
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
            candidate.proved_too_little(amount);
        }
        found
    }

    /// Requests' worth that the relaxation leaves unserved, and how much of it is proved; `None` when time ran out.
    fn unserved(&mut self, limit: &Limit, amount: f64) -> Option<(f64, f64)> {
        let (started, known) = (Instant::now(), &mut self.known);
        // Cut off too soon, an answer is none.
        let until = self.turn_ends.max(started + self.until.saturating_duration_since(started) / LONGEST_ANSWER);
        let found = self.trial.with(limit, amount, |problem| feasibility(problem, known, until).ok()?)?;
        self.slowest = self.slowest.max(started.elapsed());
        self.relaxing += started.elapsed();
        self.relaxations += 1;
        let answered = found.unserved <= SERVED || found.missing > 0.0 || Instant::now() < until;
        answered.then_some((found.unserved, found.missing))
    }

    /// Time of a relaxation so far.
    fn usual(&self) -> Duration {
        self.relaxing / self.relaxations.max(1)
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

//! One limit to loosen: what is known of how much it takes, and which amount to ask about next.

use std::mem::Discriminant;

use super::super::Limit;
use super::super::amounts::{first_guess, guess, least_unit, resolution, round_up};
use super::super::trial::{has_steps, most, step_at};
use super::Relaxation;
use crate::plan::PlanProblem;
use crate::plan::solve::feasibility::SERVED;

/// How far beyond what is too little to ask next, at least: close to what just suffices answers take longest.
const LEAP: f64 = 0.2;

pub(super) struct Candidate {
    pub(super) limit: Limit,
    /// By how much it can be loosened at all.
    pub(super) most: f64,
    /// What the certificate says is needed at least, to first order.
    first: Option<f64>,
    /// What would make room for all that the device time which is short can serve, at the certificate's prices.
    pub(super) all_short: Option<f64>,
    /// The last two amounts at which the relaxation left requests unserved, and how many.
    before: Option<(f64, f64)>,
    below: (f64, f64),
    /// The largest at which no plan was found.
    pub(super) failed: f64,
    /// The largest that is proved to be too little.
    too_little: Option<f64>,
    /// The relaxation was solved again with this amount and serves everything.
    pub(super) relaxed: Option<f64>,
    pub(super) verified: Option<f64>,
}

impl Candidate {
    /// `first`: what the certificate says is needed at least, for requests `unserved` as it is; `short`: what the device time
    /// that is short serves, in as many.
    pub(super) fn new(problem: &PlanProblem, limit: Limit, unserved: f64, first: Option<f64>, short: f64) -> Self {
        Self {
            most: most(problem, &limit),
            limit,
            first,
            all_short: first.map(|first| first * short / unserved).filter(|all| *all > 0.0),
            before: first.map(|first| (-first, 2.0 * unserved)),
            below: (0.0, unserved),
            failed: 0.0,
            too_little: None,
            relaxed: None,
            verified: None,
        }
    }

    pub(super) fn kind(&self) -> Discriminant<Limit> {
        std::mem::discriminant(&self.limit)
    }

    /// Where the relaxation begins to serve everything, or about; `None` if nothing is known of it.
    pub(super) fn estimate(&self) -> Option<f64> {
        // Where nothing was enough yet, only a slope can tell how far it is.
        let by_slope = || self.first.map(|first| if self.below.0 > 0.0 { self.secant() } else { first });
        let estimate = self.relaxed.or_else(by_slope).filter(|estimate| *estimate <= self.most)?;
        Some(least_unit(&self.limit, estimate))
    }

    fn secant(&self) -> f64 {
        guess(self.before, self.below, self.least(), self.relaxed, self.most)
    }

    /// The relaxation needs at least as much.
    pub(super) fn least(&self) -> f64 {
        self.below.0.max(self.first.unwrap_or(0.0))
    }

    /// The next amount to ask the relaxation about; `None` where what it needs is known well enough.
    pub(super) fn question(&self, problem: &PlanProblem) -> Option<f64> {
        let gap = self.relaxed.map_or(f64::INFINITY, |enough| enough - self.least());
        if gap <= resolution(problem, &self.limit, self.relaxed.unwrap_or(0.0)) {
            return None;
        }
        let unasked = self.below.0 <= 0.0 && self.relaxed.is_none();
        let next = match self.limit {
            // One question settles whether floors, or the cap, are the trouble.
            Limit::Accuracy(_) | Limit::Power if unasked => return Some(self.most),
            _ if unasked => {
                let first = self.first.map(|first| (1.0 + LEAP) * first);
                first.unwrap_or_else(|| first_guess(problem, &self.limit, self.below.1))
            }
            _ if self.relaxed.is_none() => self.secant().max((1.0 + LEAP) * self.below.0),
            _ => self.secant(),
        };
        let next = least_unit(&self.limit, next.min(self.most));
        (next > self.below.0 && self.relaxed.is_none_or(|enough| next < enough)).then_some(next)
    }

    /// Takes in that the relaxation leaves `left` requests unserved at `amount`, of which `missing` are proved; `false` if it
    /// serves everything at no amount.
    pub(super) fn hear(&mut self, amount: f64, left: f64, missing: f64) -> bool {
        if left <= SERVED {
            self.relaxed = Some(amount);
            return true;
        }
        if missing > 0.0 {
            self.proved_too_little(amount);
        }
        (self.before, self.below) = (Some(self.below), (amount, left));
        self.failed = self.failed.max(amount);
        amount < self.most
    }

    pub(super) fn proved_too_little(&mut self, amount: f64) {
        self.too_little = Some(self.too_little.map_or(amount, |known| known.max(amount)));
    }

    /// `None` if nothing is known of it but that it may do.
    pub(super) fn report(self, problem: &PlanProblem) -> Option<Relaxation> {
        let estimate = self.estimate();
        let Self { limit, too_little, relaxed, verified, .. } = self;
        let mut amount = verified.or(relaxed).or(estimate)?;
        if let (Limit::Accuracy(jobs), Some(_)) = (&limit, verified)
            && jobs.iter().all(|&job| has_steps(problem, job))
        {
            // Between two steps the problem is the same.
            let step = jobs.iter().map(|&job| step_at(problem, job, amount)).fold(0.0, f64::max);
            amount = round_up(step, 1e-2).min(amount);
        }
        // With simple rules a plan may be found where the relaxation over classes saw none.
        let relaxed = relaxed.map(|relaxed| relaxed.min(amount));
        Some(Relaxation { limit, amount, verified: verified.is_some(), relaxed, too_little })
    }
}

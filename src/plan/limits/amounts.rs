//! Amounts by which limits are loosened: in which steps, how far at a time, and where to look next.
//!
//! Arithmetic alone; what an amount makes possible is the business of `loosen`.

use super::Limit;
use super::trial::most;
use crate::plan::PlanProblem;

/// Amounts closer than this to one that failed are not told apart.
pub const NEAR: f64 = 0.04;

/// What the whole of a limit is, about.
pub fn extent(problem: &PlanProblem, limit: &Limit) -> f64 {
    match limit {
        Limit::Deadline(jobs) => {
            let deadlines = jobs.iter().map(|&job| problem.workload.jobs[job].deadline.0);
            deadlines.fold(0.0, f64::max)
        }
        Limit::Accuracy(_) => 10.0,
        Limit::Nodes(pool) => problem.cluster.pools[*pool].nodes.len() as f64,
        Limit::Power => most(problem, limit),
    }
}

/// In proportion to what is unserved.
pub fn first_guess(problem: &PlanProblem, limit: &Limit, unserved: f64) -> f64 {
    let share = unserved / problem.workload.requests.len().max(1) as f64;
    (share * extent(problem, limit)).max(1e-3 * extent(problem, limit))
}

/// How far apart an amount that fails and one that does not may be.
pub fn resolution(problem: &PlanProblem, limit: &Limit, amount: f64) -> f64 {
    match limit {
        Limit::Nodes(_) => 1.0,
        Limit::Accuracy(_) => (0.25 * NEAR * amount).max(0.01),
        Limit::Deadline(_) => NEAR * amount,
        // Of what is left beside nodes that never sleep, where that is less.
        Limit::Power => NEAR * amount.min(amount + least_room(problem)).max(1.0),
    }
}

/// Rounded up to what is reported.
pub fn least_unit(limit: &Limit, amount: f64) -> f64 {
    match limit {
        Limit::Nodes(_) => round_up(amount, 1.0),
        Limit::Accuracy(_) => round_up(amount, 1e-2),
        // Three digits, in hours.
        Limit::Deadline(_) => {
            let hours = amount.max(3.6e-3) / 3600.0;
            3600.0 * round_up(hours, 10f64.powf(hours.log10().floor() - 2.0))
        }
        // Three digits, whole watts.
        Limit::Power => round_up(amount, 10f64.powf((amount.max(1.0).log10().floor() - 2.0).max(0.0))),
    }
}

/// Watts beside nodes that never sleep, at the lowest cap; below 0 where these alone exceed it, 0 without a cap.
pub fn least_room(problem: &PlanProblem) -> f64 {
    problem.power_room().map_or(0.0, |room| room.least(0.0, problem.horizon()))
}

pub fn round_up(amount: f64, unit: f64) -> f64 {
    // A multiple stays what it is.
    (amount / unit - 1e-9).ceil() * unit
}

/// Where the requests left unserved would reach zero on the line through the last two amounts that left some. They fall
/// ever more slowly, so the line ends too early: a little is added. Nothing up to `least` is enough.
pub fn guess(before: Option<(f64, f64)>, below: (f64, f64), least: f64, enough: Option<f64>, most: f64) -> f64 {
    let slope = before.map_or(0.0, |before| (before.1 - below.1) / (below.0 - before.0).max(f64::MIN_POSITIVE));
    let secant = if slope > 0.0 { below.0 + (1.0 + NEAR) * below.1 / slope } else { f64::INFINITY };
    match enough {
        Some(enough) if secant > least && secant < enough => secant,
        Some(enough) => 0.5 * (least + enough),
        None => secant.min(8.0 * below.0).min(most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_rounded_up_once() {
        assert_eq!(round_up(2.0, 1.0), 2.0);
        assert_eq!(round_up(2.1, 1.0), 3.0);
        assert!((round_up(0.123_41, 1e-3) - 0.124).abs() < 1e-12);
        assert_eq!(round_up(round_up(0.123_41, 1e-3), 1e-3), round_up(0.123_41, 1e-3));
    }

    #[test]
    fn secants_end_above_the_root_of_a_line_and_below_what_was_enough() {
        let line = |x: f64| 10.0 - 2.0 * x;
        let next = guess(Some((0.0, line(0.0))), (2.0, line(2.0)), 2.0, None, 100.0);
        assert!(next > 5.0 && next < 5.2, "{next}");
        assert!(guess(None, (2.0, 6.0), 2.0, Some(3.0), 100.0) < 3.0);
        assert_eq!(guess(Some((1.0, 6.0)), (2.0, 6.0), 2.0, None, 100.0), 16.0);
    }
}

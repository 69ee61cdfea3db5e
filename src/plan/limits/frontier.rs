//! What a plan costs over the range of one limit: from where it can just be kept to where it no longer binds.
//!
//! Points are planned from the tightest on, each with its tighter neighbour's plan as incumbent, so that loosening never
//! costs more; and a bound of a looser limit also holds for a tighter one. All jobs move together, and so do all steps
//! of a power cap.

use std::time::{Duration, Instant};

use super::{Limit, Trial};
use crate::domain::Schedule;
use crate::plan::baselines::broken_floor;
use crate::plan::power::{most_over, within_cap};
use crate::plan::price::{Priced, price};
use crate::plan::solve::feasibility::{SERVED, feasibility};
use crate::plan::solve::known::Known;
use crate::plan::{Plan, PlanProblem, Settings, Verdict, solve};

/// A plan with the limit moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Seconds, percent points or watts by which the limit is looser than given; negative where it is tighter.
    pub loosened: f64,
    pub objective: f64,
    pub bound: f64,
    pub makespan: f64,
}

impl Point {
    /// (objective - bound) / objective.
    pub fn gap(&self) -> f64 {
        if self.objective > 0.0 { ((self.objective - self.bound) / self.objective).max(0.0) } else { 0.0 }
    }
}

/// Points on either side of the limit as given, which is one more.
const POINTS: usize = 10;
/// Share of the time for the ends of the range.
const ENDS: f64 = 0.3;
const MOST_HALVINGS: usize = 8;
const MOST_REFINEMENTS: usize = 3;
/// Deadlines are followed this many horizons out.
const MOST_HORIZONS: f64 = 8.0;

/// The frontier of `limit` around `plan`, which keeps it as it is given; ascending from the tightest, within about
/// `settings.time_limit`. Points that time leaves no plan for are left out.
pub fn frontier(problem: &PlanProblem, limit: &Limit, plan: &Plan, settings: &Settings) -> Vec<Point> {
    let started = Instant::now();
    let mut trial = Trial::new(problem);
    let (slack, loosest) = slack(problem, limit, &mut trial, settings);
    let until = started + settings.time_limit.mul_f64(ENDS);
    let tightest = tightest(problem, limit, slack.min(0.0), &mut trial, until);
    let mut amounts = amounts(problem, limit, tightest, slack);
    // The limit as given is there once, and exactly.
    amounts.retain(|amount| amount.abs() > 1e-9);
    amounts.push(0.0);
    amounts.sort_by(f64::total_cmp);
    amounts.dedup_by(|a, b| (*a - *b).abs() <= 1e-9 * (1.0 + b.abs()));

    let until = started + settings.time_limit;
    let mut points = Vec::new();
    let mut last: Option<Schedule> = None;
    let count = amounts.len();
    for (index, amount) in amounts.into_iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now()) / (count - index) as u32;
        let settings =
            Settings { time_limit: left.max(Duration::from_millis(100)), baselines: false, ..settings.clone() };
        let found = trial.with(limit, amount, |moved| {
            // The tighter neighbour's plan, and that without the limit, where it keeps it.
            let known = last.take().into_iter().chain(loosest.clone()).map(|schedule| price(moved, schedule));
            let as_given = (amount == 0.0).then(|| plan.priced.clone());
            let kept = known.filter(|priced| keeps(moved, priced)).chain(as_given);
            let incumbent = kept.min_by(|a, b| a.objective().total_cmp(&b.objective()));
            planned(moved, &settings, incumbent, (amount == 0.0).then_some(plan.bound))
        });
        if let Some((priced, bound)) = found {
            let objective = priced.objective();
            points.push(Point { loosened: amount, objective, bound: bound.min(objective), makespan: priced.makespan });
            last = Some(priced.schedule);
        }
    }
    let mut looser = f64::NEG_INFINITY;
    for point in points.iter_mut().rev() {
        looser = looser.max(point.bound);
        point.bound = looser.min(point.objective);
    }
    points
}

/// The plan and its bound; with a bound known, the incumbent as it is.
fn planned(
    problem: &PlanProblem,
    settings: &Settings,
    incumbent: Option<Priced>,
    bound: Option<f64>,
) -> Option<(Priced, f64)> {
    if let (Some(priced), Some(bound)) = (&incumbent, bound) {
        return Some((priced.clone(), bound));
    }
    match solve(problem, settings, incumbent.clone(), &mut |_| {}) {
        Ok(Verdict::Planned(plan)) => Some((plan.priced, plan.bound)),
        _ => Some((incumbent?, 0.0)),
    }
}

/// Whether a plan for another limit keeps this one.
fn keeps(problem: &PlanProblem, priced: &Priced) -> bool {
    priced.instances.iter().all(|instance| instance.lateness <= 1e-6)
        && broken_floor(problem, priced).is_none()
        && within_cap(problem, &priced.schedule)
}

/// The least amount, not above `known`, for which a plan is found: by halving, first on what the relaxation has room for.
fn tightest(problem: &PlanProblem, limit: &Limit, known: f64, trial: &mut Trial, until: Instant) -> f64 {
    let workload = problem.workload;
    let mut impossible = match limit {
        Limit::Deadline(jobs) => {
            let of_jobs = workload.groups.iter().filter(|group| jobs.contains(&group.job));
            -of_jobs.map(|group| group.deadline.0).fold(f64::INFINITY, f64::min)
        }
        Limit::Accuracy(_) => -100.0,
        Limit::Power => match problem.power_room() {
            Some(room) => -room.least(0.0, problem.horizon()),
            None => return known,
        },
        Limit::Nodes(_) => return known,
    };
    let mut possible = known;
    let mut classes = Known::default();
    let mut has_room = |amount: f64| {
        trial.with(limit, amount, |moved| {
            let found = feasibility(moved, &mut classes, until).ok().flatten();
            found.is_some_and(|found| found.unserved <= SERVED)
        })
    };
    for _ in 0..MOST_HALVINGS {
        let middle = 0.5 * (possible + impossible);
        if Instant::now() >= until {
            return known;
        }
        *(if has_room(middle) { &mut possible } else { &mut impossible }) = middle;
    }
    // Whole instances need more room than the relaxation: from its end back to where a plan is found.
    let at = |share: f64| {
        let amount = possible + share * (known - possible);
        if *limit == Limit::Power { amount.ceil().min(known) } else { amount }
    };
    let mut has_plan = |amount: f64| {
        let time_limit = until.saturating_duration_since(Instant::now()) / 3;
        let settings = Settings { gap: 1.0, time_limit, baselines: false };
        let found = trial.with(limit, amount, |moved| solve(moved, &settings, None, &mut |_| {}));
        matches!(found, Ok(Verdict::Planned(_)))
    };
    let mut failed = None;
    for share in [0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7] {
        if Instant::now() < until && has_plan(at(share)) {
            // Half way back, as long as that works.
            let mut found = share;
            for _ in 0..MOST_REFINEMENTS {
                let Some(failed) = failed.filter(|_| Instant::now() < until) else { break };
                let middle = 0.5 * (found + failed);
                if !has_plan(at(middle)) {
                    break;
                }
                found = middle;
            }
            return at(found);
        }
        failed = Some(share);
    }
    known
}

/// The amount beyond which the limit no longer binds, as far as it is followed; and the plan there. Below 0 only for a
/// cap: one that is never reached may be lower.
fn slack(problem: &PlanProblem, limit: &Limit, trial: &mut Trial, settings: &Settings) -> (f64, Option<Schedule>) {
    let most = match limit {
        Limit::Deadline(_) => MOST_HORIZONS * problem.horizon(),
        Limit::Accuracy(_) => 100.0,
        // No cap at all.
        Limit::Power => f64::INFINITY,
        Limit::Nodes(_) => return (0.0, None),
    };
    let settings = Settings {
        gap: settings.gap.max(5e-3),
        time_limit: settings.time_limit.mul_f64(1.0 / POINTS as f64),
        baselines: false,
    };
    match trial.with(limit, most, |moved| solve(moved, &settings, None, &mut |_| {})) {
        Ok(Verdict::Planned(plan)) => (exceeded(problem, limit, &plan.priced).min(most), Some(plan.priced.schedule)),
        _ => (0.0, None),
    }
}

/// By how much a plan exceeds the limit as given.
fn exceeded(problem: &PlanProblem, limit: &Limit, priced: &Priced) -> f64 {
    let jobs = &problem.workload.jobs;
    let over = |job: &usize| match limit {
        Limit::Deadline(_) => Some(priced.jobs[*job].finish - jobs[*job].deadline.0),
        Limit::Accuracy(_) => {
            let mean = priced.jobs[*job].points? / problem.requests_of_job[*job].max(1) as f64;
            Some(jobs[*job].floor?.percent - mean)
        }
        Limit::Nodes(_) | Limit::Power => None,
    };
    match limit {
        Limit::Deadline(concerned) | Limit::Accuracy(concerned) => {
            concerned.iter().filter_map(over).fold(0.0, f64::max)
        }
        Limit::Nodes(_) => 0.0,
        Limit::Power => {
            let cap = problem.cluster.site.power_cap.as_ref();
            cap.map_or(0.0, |cap| most_over(problem, &priced.schedule, cap).ceil())
        }
    }
}

/// Evenly by ratio for deadlines, which span orders of magnitude, and evenly for floors and caps.
fn amounts(problem: &PlanProblem, limit: &Limit, tightest: f64, slack: f64) -> Vec<f64> {
    let share = |k: usize| k as f64 / (POINTS - 1) as f64;
    let horizon = problem.horizon();
    let at = |k: usize| match limit {
        Limit::Deadline(_) => {
            (horizon + tightest) * ((horizon + slack) / (horizon + tightest)).powf(share(k)) - horizon
        }
        // Whole watts.
        Limit::Power => (tightest + share(k) * (slack - tightest)).round(),
        _ => tightest + share(k) * (slack - tightest),
    };
    if slack <= tightest { vec![tightest] } else { (0..POINTS).map(at).collect() }
}

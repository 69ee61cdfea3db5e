//! What one more unit of each limit would save: the shadow prices of deadlines, accuracy floors, devices and power.
//!
//! From the duals of the class relaxation, to first order, with divisible instances and with the plan's whole ones. A
//! floor's price is the dual of its row. The others enter many coefficients (the lengths of two windows; room, widths and
//! most instances), so the capacity block is written down twice, before and after a small change, and the change of the
//! optimum follows from its solution. Left out: deadlines that the windows round, or that fall on a release or on a step
//! of a series, where the next second is worth another amount than the last.

use super::Limit;
use crate::domain::Cluster;
use crate::plan::PlanError;
use crate::plan::block::record_without_classes;
use crate::plan::capacity::CapacityInput;
use crate::plan::cells::Cells;
use crate::plan::power::power_room_as;
use crate::plan::problem::PlanProblem;
use crate::plan::record::Optimum;
use crate::plan::relaxation::ClassSolution;

/// What the plan would save, in units of its goal, per unit: second of the deadline of all these jobs, percent point of a
/// floor, device (of a whole node's), watt of the power cap (of what one more instance draws).
#[derive(Clone, Debug, PartialEq)]
pub struct ShadowPrice {
    pub limit: Limit,
    /// With as many instances as it takes, in fractions.
    pub saved: f64,
    /// With the instances of the plan as they are; `None` where that was not asked, or time ran out first.
    pub saved_by_requests: Option<f64>,
}

/// Share of a window by which an end is moved: the block is linear in it, so it only has to be small.
const MOVED: f64 = 1e-4;
/// A unit that saves less than this share of the objective is taken as nothing.
const LEAST: f64 = 1e-9;

/// Prices of the limits that bind in `solution`, which solves the relaxation over `input`.
///
/// # Errors
/// None are known to occur: nothing is solved here.
pub fn shadow_prices(input: &CapacityInput, solution: &ClassSolution) -> Result<Vec<ShadowPrice>, PlanError> {
    let problem = input.problem;
    let mut limits: Vec<(f64, Limit)> = Vec::new();
    // An hour of a deadline counts, as people state it.
    limits.extend(
        (0..problem.windows.len()).filter_map(|w| Some((3600.0, Limit::Deadline(due_at_the_end(problem, w)?)))),
    );
    limits.extend((0..problem.cluster.pools.len()).map(|pool| (1.0, Limit::Nodes(pool))));
    limits.extend(problem.power_room().map(|_| (1e3, Limit::Power)));
    let mut prices = Vec::new();
    for (unit, limit) in limits {
        let Some(saved) = saved(input, &solution.optimum, &limit)? else { continue };
        let devices = match limit {
            Limit::Nodes(pool) => f64::from(problem.cluster.pools[pool].devices_per_node.max(1)),
            _ => 1.0,
        };
        prices.push((unit, ShadowPrice { limit, saved: saved / devices, saved_by_requests: None }));
    }
    for (job, points) in problem.floor_points.iter().enumerate() {
        if points.is_some() {
            let saved = solution.prices.accuracy[job] * problem.requests_of_job[job] as f64;
            prices.push((1.0, ShadowPrice { limit: Limit::Accuracy(vec![job]), saved, saved_by_requests: None }));
        }
    }
    prices.retain(|(unit, price)| unit * price.saved > LEAST * solution.objective.abs());
    Ok(prices.into_iter().map(|(_, price)| price).collect())
}

/// `free` with the prices at `fixed` instances beside them; limits that bind in one alone cost nothing in the other.
pub fn beside(free: &[ShadowPrice], fixed: &[ShadowPrice]) -> Vec<ShadowPrice> {
    let of = |prices: &[ShadowPrice], limit: &Limit| {
        prices.iter().find(|price| price.limit == *limit).map_or(0.0, |price| price.saved)
    };
    let only_fixed = fixed.iter().filter(|price| !free.iter().any(|known| known.limit == price.limit));
    let both = free.iter().chain(only_fixed).map(|ShadowPrice { limit, .. }| ShadowPrice {
        limit: limit.clone(),
        saved: of(free, limit),
        saved_by_requests: Some(of(fixed, limit)),
    });
    both.collect()
}

/// By how much the objective (in units of the goal, or requests left unserved) falls per second, node or watt, to first
/// order; `None` where the limit does not enter through the capacity block alone.
pub fn saved(input: &CapacityInput, optimum: &Optimum, limit: &Limit) -> Result<Option<f64>, PlanError> {
    let problem = input.problem;
    let cluster;
    let (changed, amount) = match limit {
        Limit::Accuracy(_) => return Ok(None),
        // Where an end is moved over the end of what others hold, the block is not linear in it.
        Limit::Deadline(_) if problem.others_hold() => return Ok(None),
        Limit::Nodes(pool) => {
            cluster = with_nodes(problem.cluster, *pool, 1);
            let power_room = power_room_as(problem, &cluster);
            (PlanProblem { cluster: &cluster, power_room, ..without_requests(problem) }, 1.0)
        }
        Limit::Power => {
            // Of less than an instance, how many may be alive at once does not always rise.
            let watts = power_of_an_instance(input);
            if problem.power_room().is_none() || watts <= 0.0 {
                return Ok(None);
            }
            cluster = with_power(problem.cluster, watts);
            let power_room = power_room_as(problem, &cluster);
            (PlanProblem { cluster: &cluster, power_room, ..without_requests(problem) }, watts)
        }
        Limit::Deadline(jobs) => {
            let Some(moves) = moved_ends(problem, jobs) else { return Ok(None) };
            let mut changed = without_requests(problem);
            let concerned = |w: &usize| moves[*w] || w.checked_sub(1).is_some_and(|before| moves[before]);
            let lengths = (0..moves.len()).filter(concerned).map(|w| problem.windows[w].length());
            let later = MOVED * lengths.fold(f64::INFINITY, f64::min);
            for (w, _) in moves.iter().enumerate().filter(|(_, moves)| **moves) {
                changed.windows[w].end += later;
                changed.windows.get_mut(w + 1).into_iter().for_each(|next| next.start += later);
            }
            (changed, later)
        }
    };
    let before = record_without_classes(input)?;
    let after = record_without_classes(&CapacityInput { problem: &changed, ..*input })?;
    let unit = if input.scale.energy.is_finite() { input.scale.energy } else { 1.0 };
    Ok(before.first_order_change(&after, optimum).map(|change| -change * unit / amount))
}

/// The most watts that an instance of what is offered counts with, its share of a node that can sleep included.
pub fn power_of_an_instance(input: &CapacityInput) -> f64 {
    let problem = input.problem;
    let deployments = problem.deployments().iter().zip(input.offered).filter(|(_, offered)| **offered);
    let watts = deployments.map(|(deployment, _)| {
        let pool = &problem.cluster.pools[deployment.pool];
        let share = f64::from(deployment.devices) / f64::from(pool.devices_per_node.max(1));
        deployment.net_peak_power() + share * problem.billed_power(deployment.pool)
    });
    watts.fold(0.0, f64::max)
}

/// Windows that end later when the deadlines of these jobs do, all else staying where it is; `None` where that is no small
/// change: a window would come to be, or the windows do not show it.
fn moved_ends(problem: &PlanProblem, jobs: &[usize]) -> Option<Vec<bool>> {
    let series = [problem.weights.as_ref(), problem.cluster.site.power_cap.as_ref()];
    let is_step = |end: f64| series.iter().flatten().any(|steps| steps.iter().any(|(second, _)| second == end));
    let windows = 0..problem.windows.len();
    let all = jobs.len() == problem.workload.jobs.len() && problem.kinds.iter().all(|kind| kind.release <= 0.0);
    if all {
        // Every event that is no step is a deadline.
        let stepped = problem.kinds.iter().any(|kind| is_step(kind.deadline));
        return (!stepped).then(|| windows.map(|w| !is_step(problem.windows[w].end)).collect());
    }
    let due = windows.clone().find(|&w| due_at_the_end(problem, w).is_some_and(|due| due == jobs))?;
    (!is_step(problem.windows[due].end)).then(|| windows.map(|w| w == due).collect())
}

/// Jobs with requests due when window `w` ends, if that is when they are exactly and nothing is released then.
fn due_at_the_end(problem: &PlanProblem, w: usize) -> Option<Vec<usize>> {
    let end = problem.windows[w].end;
    let mut due = problem.kinds.iter().filter(|kind| kind.end_window == w + 1).peekable();
    due.peek()?;
    if due.any(|kind| kind.deadline != end) || problem.kinds.iter().any(|kind| kind.release == end) {
        return None;
    }
    let groups = problem.workload.groups.iter().filter(|group| group.deadline.0 == end);
    let mut jobs: Vec<usize> = groups.map(|group| group.job).collect();
    jobs.sort_unstable();
    jobs.dedup();
    Some(jobs)
}

/// `problem` as its capacity sees it: windows and cluster, no requests.
fn without_requests<'a>(problem: &PlanProblem<'a>) -> PlanProblem<'a> {
    PlanProblem {
        workload: problem.workload,
        cluster: problem.cluster,
        options: problem.options,
        models: problem.models,
        safety: problem.safety,
        goal: problem.goal,
        weights: problem.weights.clone(),
        windows: problem.windows.clone(),
        window_weights: problem.window_weights.clone(),
        kinds: Vec::new(),
        kind_of_group: Vec::new(),
        cohorts: Vec::new(),
        cohort_of_kind: Vec::new(),
        power_room: problem.power_room.clone(),
        earliest: problem.earliest.clone(),
        floor_points: problem.floor_points.clone(),
        requests_of_job: problem.requests_of_job.clone(),
        cells: Cells::default(),
        shortest: problem.shortest,
    }
}

/// `cluster` with a power cap higher by so many watts at every instant; without one, if they are infinitely many.
pub fn with_power(cluster: &Cluster, watts: f64) -> Cluster {
    let mut cluster = cluster.clone();
    let cap = cluster.site.power_cap.take().filter(|_| watts.is_finite());
    cluster.site.power_cap = cap.map(|cap| cap.lowered(-watts));
    cluster
}

/// `cluster` with more nodes in a pool, all their devices free.
pub fn with_nodes(cluster: &Cluster, pool: usize, more: usize) -> Cluster {
    let mut cluster = cluster.clone();
    let pool = &mut cluster.pools[pool];
    pool.nodes.extend((1..=more).map(|number| format!("{}+{number}", pool.name)));
    cluster
}

//! What one more unit of each limit would save: the shadow prices of deadlines, accuracy floors and devices.
//!
//! From the duals of the class relaxation with divisible instances, to first order. A floor's price is the dual of its
//! row. A deadline and a node enter many coefficients (the lengths of two windows; room, widths and most instances), so
//! the capacity block is written down twice, before and after a small change, and the change of the optimum follows from
//! its solution. Left out: deadlines that the windows round or that fall on a release, and the duals at whole instances.

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
use crate::plan::windows::Window;

/// Joules that the plan would save per unit: second of the deadline of all these jobs, percent point of a floor, device
/// (of a whole node's).
#[derive(Clone, Debug, PartialEq)]
pub struct ShadowPrice {
    pub limit: Limit,
    pub joules: f64,
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
    let mut prices = Vec::new();
    for (unit, limit) in limits {
        let Some(joules) = saved(input, &solution.optimum, &limit)? else { continue };
        let devices = match limit {
            Limit::Nodes(pool) => f64::from(problem.cluster.pools[pool].devices_per_node.max(1)),
            _ => 1.0,
        };
        prices.push((unit, ShadowPrice { limit, joules: joules / devices }));
    }
    for (job, points) in problem.floor_points.iter().enumerate() {
        if points.is_some() {
            let joules = solution.prices.accuracy[job] * problem.requests_of_job[job] as f64;
            prices.push((1.0, ShadowPrice { limit: Limit::Accuracy(vec![job]), joules }));
        }
    }
    prices.retain(|(unit, price)| unit * price.joules > LEAST * solution.objective.abs());
    Ok(prices.into_iter().map(|(_, price)| price).collect())
}

/// By how much the objective (joules, or requests left unserved) falls per second or node, to first order; `None` where
/// the limit does not enter through the capacity block alone.
pub fn saved(input: &CapacityInput, optimum: &Optimum, limit: &Limit) -> Result<Option<f64>, PlanError> {
    let problem = input.problem;
    let cluster;
    let (changed, amount) = match limit {
        Limit::Accuracy(_) => return Ok(None),
        // Where an end is moved over a step of the cap or the weights, or the end of what others hold, the block is not
        // linear in it.
        Limit::Deadline(_) if problem.is_weighted() || problem.power_room().is_some() || problem.others_hold() => {
            return Ok(None);
        }
        Limit::Nodes(pool) => {
            cluster = with_nodes(problem.cluster, *pool, 1);
            let power_room = power_room_as(problem, &cluster);
            (PlanProblem { cluster: &cluster, power_room, ..without_requests(problem) }, 1.0)
        }
        Limit::Deadline(jobs) => {
            let all = jobs.len() == problem.workload.jobs.len() && problem.kinds.iter().all(|kind| kind.release <= 0.0);
            let due = (0..problem.windows.len()).find(|&w| due_at_the_end(problem, w).as_ref() == Some(jobs));
            let mut changed = without_requests(problem);
            let window = if all {
                0
            } else {
                let Some(w) = due else { return Ok(None) };
                w
            };
            let next = problem.windows.get(window + 1).map_or(f64::INFINITY, Window::length);
            let later = MOVED * problem.windows[window].length().min(next);
            changed.windows[window].end += later;
            // Where all deadlines move, every later window only begins later.
            for (index, following) in changed.windows.iter_mut().enumerate().skip(window + 1) {
                following.start += if all || index == window + 1 { later } else { 0.0 };
                following.end += if all { later } else { 0.0 };
            }
            (changed, later)
        }
    };
    let before = record_without_classes(input)?;
    let after = record_without_classes(&CapacityInput { problem: &changed, ..*input })?;
    let unit = if input.scale.energy.is_finite() { input.scale.energy } else { 1.0 };
    Ok(before.first_order_change(&after, optimum).map(|change| -change * unit / amount))
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

/// `cluster` with more nodes in a pool, all their devices free.
pub fn with_nodes(cluster: &Cluster, pool: usize, more: usize) -> Cluster {
    let mut cluster = cluster.clone();
    let pool = &mut cluster.pools[pool];
    pool.nodes.extend((1..=more).map(|number| format!("{}+{number}", pool.name)));
    cluster
}

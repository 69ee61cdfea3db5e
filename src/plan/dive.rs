//! Whole instances: the relaxation's are rounded up, and then taken away or added one at a time as long as that pays.
//! Where devices do not suffice to round all of them up, one deployment after another is rounded, and the rest takes up
//! what that leaves undone.
//!
//! With the instances fixed, the least cost is a convex function of how many there are: what one more or one less can
//! gain is at most what their reduced costs say, so that most of them need not be tried.

use std::collections::BTreeSet;
use std::time::Instant;

use super::PlanError;
use super::problem::PlanProblem;
use super::relaxation::{ClassProblem, ClassSolution};

/// Rounds of trying every deployment.
const MOST_ROUNDS: usize = 4;
/// Share of the objective that rounding one deployment may cost before other ways to round it are tried.
const WORTH_ANOTHER_TRY: f64 = 1e-4;
/// Deployments that are rounded down for good, at most.
const MOST_RESTARTS: usize = 6;
/// Instances below this are rounding of the solver.
const TOLERANCE: f64 = 1e-6;

/// The class problem at whole instances; a change that gains less than `worth` joules is not looked for. `unserved` is
/// positive only if that of the relaxation is.
pub fn dive(
    problem: &PlanProblem,
    class_problem: &mut ClassProblem,
    worth: f64,
    deadline: Instant,
) -> Result<ClassSolution, PlanError> {
    let infeasible = PlanError::Solver("the relaxation of all deployments has no solution");
    let mut solution = class_problem.solve(deadline)?.ok_or(infeasible)?;
    if solution.unserved > TOLERANCE {
        return Ok(solution);
    }
    let mut whole: Vec<Vec<f64>> = solution.instances.iter().map(|row| up(row)).collect();
    for (v, row) in whole.iter().enumerate() {
        class_problem.fix(v, row)?;
    }
    match class_problem.solve(deadline)?.filter(|rounded| rounded.unserved <= TOLERANCE) {
        Some(rounded) => solution = rounded,
        None => {
            let rounded;
            (whole, rounded) = rounded_in_turn(problem, class_problem, solution, deadline)?;
            solution = rounded;
            if solution.unserved > TOLERANCE {
                return Ok(solution);
            }
        }
    }
    one_at_a_time(problem, class_problem, &mut whole, &mut solution, worth, deadline)?;
    Ok(solution)
}

/// As `dive`, from these whole instances on; `None` if they have not even room for their loads. They may leave requests unserved.
pub fn resume(
    problem: &PlanProblem,
    class_problem: &mut ClassProblem,
    mut whole: Vec<Vec<f64>>,
    worth: f64,
    deadline: Instant,
) -> Result<Option<ClassSolution>, PlanError> {
    for (v, row) in whole.iter().enumerate() {
        class_problem.fix(v, row)?;
    }
    let Some(mut solution) = class_problem.solve(deadline)? else { return Ok(None) };
    one_at_a_time(problem, class_problem, &mut whole, &mut solution, worth, deadline)?;
    Ok(Some(solution))
}

/// Takes instances away and adds some as long as more requests are served or that pays.
fn one_at_a_time(
    problem: &PlanProblem,
    class_problem: &mut ClassProblem,
    whole: &mut [Vec<f64>],
    solution: &mut ClassSolution,
    worth: f64,
    deadline: Instant,
) -> Result<(), PlanError> {
    for _ in 0..MOST_ROUNDS {
        let before = (solution.unserved, solution.objective);
        let mut promising: Vec<usize> = (0..whole.len()).filter(|&v| solution.instance_cost[v].abs() > worth).collect();
        promising.sort_by(|&a, &b| {
            solution.instance_cost[b].abs().total_cmp(&solution.instance_cost[a].abs()).then(a.cmp(&b))
        });
        for v in promising {
            let cost = solution.instance_cost[v];
            if Instant::now() >= deadline {
                return Ok(());
            }
            if cost.abs() <= worth {
                continue;
            }
            let most = |w: usize| problem.most_alive(v, w) as f64;
            let one_more = |(w, n): (usize, &f64)| (n - cost.signum()).clamp(0.0, most(w));
            let changed: Vec<f64> = whole[v].iter().enumerate().map(one_more).collect();
            if changed == whole[v] {
                continue;
            }
            class_problem.fix(v, &changed)?;
            match class_problem.solve(deadline)? {
                Some(next) if is_better(&next, solution) => {
                    *solution = next;
                    whole[v] = changed;
                }
                _ => class_problem.fix(v, &whole[v])?,
            }
        }
        if before.0 - solution.unserved <= TOLERANCE && before.1 - solution.objective <= worth {
            break;
        }
    }
    Ok(())
}

/// Whether `next` leaves fewer requests unserved, or none and costs less.
fn is_better(next: &ClassSolution, than: &ClassSolution) -> bool {
    let served = next.unserved <= TOLERANCE;
    if than.unserved <= TOLERANCE {
        served && next.objective < than.objective
    } else {
        served || next.unserved < than.unserved
    }
}

/// Fixes one deployment after another, the one whose instances are closest to whole first: to the nearest, or else up or
/// down, whichever costs least. Where none can be served any more it stays rounded down and the others are rounded again.
/// Ends with requests unserved where that does not help either.
fn rounded_in_turn(
    problem: &PlanProblem,
    class_problem: &mut ClassProblem,
    relaxed: ClassSolution,
    deadline: Instant,
) -> Result<(Vec<Vec<f64>>, ClassSolution), PlanError> {
    let mut solution = relaxed;
    let mut fixed: Vec<Option<Vec<f64>>> = vec![None; solution.instances.len()];
    let mut kept: BTreeSet<usize> = BTreeSet::new();
    for v in 0..fixed.len() {
        class_problem.free(v)?;
    }
    while let Some(v) = closest_to_whole(&fixed, &solution) {
        let row = &solution.instances[v];
        let mut rows = vec![nearest(row), up(row), down(row)];
        rows.dedup();
        let near = solution.objective + WORTH_ANOTHER_TRY * solution.objective.abs();
        let mut best: Option<(Vec<f64>, ClassSolution)> = None;
        for row in rows {
            class_problem.fix(v, &row)?;
            let Some(next) = class_problem.solve(deadline)?.filter(|next| next.unserved <= TOLERANCE) else { continue };
            if best.as_ref().is_none_or(|(_, best)| next.objective < best.objective) {
                best = Some((row, next));
            }
            if best.as_ref().is_some_and(|(_, best)| best.objective <= near) {
                break;
            }
        }
        if best.is_none() && kept.len() < MOST_RESTARTS && kept.insert(v) {
            let row = down(&solution.instances[v]);
            for other in (0..fixed.len()).filter(|other| !kept.contains(other)) {
                class_problem.free(other)?;
                fixed[other] = None;
            }
            class_problem.fix(v, &row)?;
            best = class_problem.solve(deadline)?.filter(|next| next.unserved <= TOLERANCE).map(|next| (row, next));
        }
        match best {
            Some((row, next)) if Instant::now() < deadline => {
                class_problem.fix(v, &row)?;
                (fixed[v], solution) = (Some(row), next);
            }
            _ => {
                solution.unserved = solution.unserved.max(1.0);
                break;
            }
        }
    }
    let windows = problem.windows.len();
    let whole: Vec<Vec<f64>> = fixed.into_iter().map(|row| row.unwrap_or_else(|| vec![0.0; windows])).collect();
    for (v, row) in whole.iter().enumerate() {
        class_problem.fix(v, row)?;
    }
    Ok((whole, solution))
}

/// Of the deployments in use that are not fixed.
fn closest_to_whole(fixed: &[Option<Vec<f64>>], solution: &ClassSolution) -> Option<usize> {
    let distance = |v: usize| solution.instances[v].iter().map(|n| (n.round() - n).abs()).sum::<f64>();
    let used = |v: usize| solution.instances[v].iter().any(|&n| n > TOLERANCE);
    let open = (0..fixed.len()).filter(|&v| fixed[v].is_none() && used(v));
    open.min_by(|&a, &b| distance(a).total_cmp(&distance(b)))
}

fn up(row: &[f64]) -> Vec<f64> {
    row.iter().map(|n| (n - TOLERANCE).ceil().max(0.0)).collect()
}

fn down(row: &[f64]) -> Vec<f64> {
    row.iter().map(|n| (n + TOLERANCE).floor().max(0.0)).collect()
}

fn nearest(row: &[f64]) -> Vec<f64> {
    row.iter().map(|n| n.round().max(0.0)).collect()
}

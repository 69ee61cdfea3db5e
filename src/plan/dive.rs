//! Whole instances: the relaxation's are rounded up. Where devices do not suffice for that, deployments are rounded in turn
//! and the rest takes up what that leaves undone; the few that cannot be rounded stay divided, to be handed devices within
//! windows. Then single changes are made to the others as long as they pay (`moves`).

mod moves;

use std::collections::BTreeSet;
use std::time::Instant;

use self::moves::improve;
use super::PlanError;
use super::problem::PlanProblem;
use super::relaxation::{ClassProblem, ClassSolution};
use super::windows::Window;

/// Share of the objective that rounding may cost before other ways to round are tried, also where there is little time.
const WORTH_ANOTHER_TRY: f64 = 1e-4;
const WORTH_WHEN_HURRIED: f64 = 2e-3;
/// Instances by which deployments that are rounded at once may be off, together.
const AT_ONCE: f64 = 1.0;
/// Shares of the time left after which rounding is hurried, also where any solution will do, and after which it ends.
const PATIENT: f64 = 0.25;
const HASTY: f64 = 0.1;
const ROUNDING: f64 = 0.5;
/// Deployments for which others are rounded anew, at most.
const MOST_REOPENED: usize = 6;
/// Instances below this are rounding of the solver.
const TOLERANCE: f64 = 1e-6;

/// The class problem at instances that are whole but for a few; a change that gains less than `worth` joules is not looked
/// for. Requests stay unserved only if the class problem cannot serve them at any.
pub fn dive(
    problem: &PlanProblem,
    class_problem: &mut ClassProblem,
    worth: f64,
    deadline: Instant,
) -> Result<ClassSolution, PlanError> {
    let infeasible = PlanError::Solver("the relaxation of all deployments has no solution");
    let relaxed = class_problem.solve(deadline)?.ok_or(infeasible)?;
    if !served(&relaxed) {
        return Ok(relaxed);
    }
    let whole: Vec<Vec<f64>> = relaxed.instances.iter().map(|row| up(row)).collect();
    let solution = match at(class_problem, &whole, deadline)?.filter(served) {
        Some(rounded) => rounded,
        None => {
            let patience = if worth.is_finite() { PATIENT } else { HASTY };
            rounded_in_turn(problem, class_problem, relaxed, patience, deadline)?
        }
    };
    improve(problem, class_problem, solution, worth, deadline)
}

/// As `dive`, from these instances on; `None` if they do not serve all.
pub fn resume(
    problem: &PlanProblem,
    class_problem: &mut ClassProblem,
    whole: &[Vec<f64>],
    worth: f64,
    deadline: Instant,
) -> Result<Option<ClassSolution>, PlanError> {
    let Some(solution) = at(class_problem, whole, deadline)?.filter(served) else { return Ok(None) };
    improve(problem, class_problem, solution, worth, deadline).map(Some)
}

/// The class problem at these instances, which stay fixed.
fn at(
    class_problem: &mut ClassProblem,
    whole: &[Vec<f64>],
    deadline: Instant,
) -> Result<Option<ClassSolution>, PlanError> {
    for (v, row) in whole.iter().enumerate() {
        class_problem.fix(v, row)?;
    }
    class_problem.solve(deadline)
}

/// Fixes deployments in turn, those that almost are whole first: several at once to the nearest as long as that costs little,
/// else one of them to the nearest, up or down, whichever costs least. Where none of these serves all, it stays divided.
fn rounded_in_turn(
    problem: &PlanProblem,
    class_problem: &mut ClassProblem,
    relaxed: ClassSolution,
    patience: f64,
    deadline: Instant,
) -> Result<ClassSolution, PlanError> {
    let mut solution = relaxed;
    let (used, closed): (Vec<usize>, Vec<usize>) =
        (0..solution.instances.len()).partition(|&v| solution.instances[v].iter().any(|&n| n > TOLERANCE));
    let mut open = used.clone();
    open.iter().try_for_each(|&v| class_problem.free(v))?;
    closed.iter().try_for_each(|&v| class_problem.fix(v, &nearest(&solution.instances[v])))?;
    let begun = Instant::now();
    let left = deadline.saturating_duration_since(begun);
    let (patient_until, until) = (begun + left.mul_f64(patience), begun + left.mul_f64(ROUNDING));
    let mut at_once = AT_ONCE;
    let mut reopened = BTreeSet::new();
    while !open.is_empty() && Instant::now() < until {
        let hurried = Instant::now() > patient_until;
        let worth = if hurried { WORTH_WHEN_HURRIED } else { WORTH_ANOTHER_TRY };
        let near = solution.objective + worth * solution.objective.abs();
        let good = |next: &ClassSolution| served(next) && next.objective <= near;
        let distance = |v: usize| solution.instances[v].iter().map(|n| (n.round() - n).abs()).sum::<f64>();
        open.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)).then(a.cmp(&b)));
        let off = open.iter().scan(0.0, |off, &v| {
            *off += distance(v);
            Some(*off)
        });
        let many = off.take_while(|&off| off <= at_once).count();
        if many > 1 {
            for &v in &open[..many] {
                class_problem.fix(v, &nearest(&solution.instances[v]))?;
            }
            if let Some(next) = class_problem.solve(deadline)?.filter(good) {
                solution = next;
                open.drain(..many);
            } else {
                open[..many].iter().try_for_each(|&v| class_problem.free(v))?;
                at_once = 0.5 * open[..many].iter().map(|&v| distance(v)).sum::<f64>();
            }
            continue;
        }
        let v = open.remove(0);
        let mut rounded = best_rounding(problem, class_problem, v, &solution.instances[v], good, deadline)?;
        if rounded.is_none() && !hurried && reopened.len() < MOST_REOPENED && reopened.insert(v) {
            let others = roommates(problem, &used, v);
            open.retain(|other| !others.contains(other));
            others.iter().try_for_each(|&other| class_problem.free(other))?;
            rounded = best_rounding(problem, class_problem, v, &solution.instances[v], good, deadline)?;
            open.extend(others);
        }
        match rounded {
            Some((row, next)) => {
                class_problem.fix(v, &row)?;
                solution = next;
            }
            None => class_problem.free(v)?,
        }
    }
    Ok(solution)
}

/// Those that can make room for `v` and be rounded anew: in its pool, and of fewer devices if there are any, else of as many.
fn roommates(problem: &PlanProblem, used: &[usize], v: usize) -> Vec<usize> {
    let own = &problem.deployments()[v];
    let in_pool = used.iter().copied().filter(|&other| other != v && problem.deployments()[other].pool == own.pool);
    let (lighter, others): (Vec<usize>, Vec<usize>) =
        in_pool.partition(|&other| problem.deployments()[other].devices < own.devices);
    let alike = others.into_iter().filter(|&other| problem.deployments()[other].devices == own.devices);
    if lighter.is_empty() { alike.collect() } else { lighter }
}

/// `row` of deployment `v` to the nearest, up, brief or down: the first that is `good`, else the best; `None` if none serves
/// all.
fn best_rounding(
    problem: &PlanProblem,
    class_problem: &mut ClassProblem,
    v: usize,
    row: &[f64],
    good: impl Fn(&ClassSolution) -> bool,
    deadline: Instant,
) -> Result<Option<(Vec<f64>, ClassSolution)>, PlanError> {
    let mut rows: Vec<Vec<f64>> = Vec::new();
    let brief = brief(&problem.windows, problem.deployments()[v].load_time.0, row);
    for row in [nearest(row), up(row)].into_iter().chain(brief).chain([down(row)]) {
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    let mut best: Option<(Vec<f64>, ClassSolution)> = None;
    for row in rows {
        class_problem.fix(v, &row)?;
        let Some(next) = class_problem.solve(deadline)?.filter(served) else { continue };
        let good = good(&next);
        if best.as_ref().is_none_or(|(_, best)| next.objective < best.objective) {
            best = Some((row, next));
        }
        if good {
            break;
        }
    }
    Ok(best)
}

/// Less than one instance as one that is gone once its load and work are done; `None` where there is more.
fn brief(windows: &[Window], load: f64, row: &[f64]) -> Option<Vec<f64>> {
    let first = row.iter().position(|&n| n > TOLERANCE).filter(|_| row.iter().all(|&n| n < 1.0))?;
    let work: f64 = row.iter().zip(windows).map(|(n, window)| n * window.length()).sum();
    let mut left = load + work;
    let mut brief = vec![0.0; row.len()];
    for (n, window) in brief.iter_mut().zip(windows).skip(first) {
        *n = if left > 0.0 { 1.0 } else { 0.0 };
        left -= window.length();
    }
    Some(brief)
}

/// Whether an instance is alive throughout each window or not at all.
fn is_whole(row: &[f64]) -> bool {
    row.iter().all(|n| (n - n.round()).abs() <= TOLERANCE)
}

fn served(solution: &ClassSolution) -> bool {
    solution.unserved <= TOLERANCE
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_serves_little_is_gone_when_its_work_is_done() {
        let windows = [0.0, 100.0, 200.0].map(|start| Window { start, end: start + 100.0 });
        let brief = |load: f64, row: &[f64]| brief(&windows, load, row);
        assert_eq!(brief(20.0, &[0.1, 0.1, 0.1]), Some(vec![1.0, 0.0, 0.0]));
        assert_eq!(brief(80.0, &[0.0, 0.3, 0.1]), Some(vec![0.0, 1.0, 1.0]));
        assert_eq!(brief(20.0, &[0.1, 1.2, 0.0]), None);
        assert_eq!(brief(20.0, &[0.0, 0.0, 0.0]), None);
    }
}

//! Whole instances by diving: deployments that the relaxation uses for a fraction of an instance are closed, a few at a
//! time, as long as the rest can serve the queue; what remains is rounded up.
//!
//! Placement counts instances from the work itself, so what matters here is which deployments start at all.

use std::time::Instant;

use super::PlanError;
use super::problem::PlanProblem;
use super::relaxation::{ClassProblem, ClassSolution};

/// A deployment used for less of an instance than this is a candidate to close.
const ROUND_DOWN_BELOW: f64 = 0.5;
/// Share of the candidates closed at once.
const CLOSED_AT_ONCE: f64 = 0.34;

/// The class problem at whole instances. Its `unserved` is positive only if that of the relaxation is.
pub fn dive(
    problem: &PlanProblem,
    class_problem: &mut ClassProblem,
    deadline: Instant,
) -> Result<ClassSolution, PlanError> {
    let deployments = problem.deployments().len();
    let infeasible = PlanError::Solver("the relaxation of all deployments has no solution");
    let mut solution = class_problem.solve(deadline)?.ok_or(infeasible)?;
    let mut needed = vec![false; deployments];
    let mut open = vec![true; deployments];
    loop {
        let usage = |v: usize| solution.instances[v].iter().copied().fold(0.0, f64::max);
        let mut candidates: Vec<(f64, usize)> = (0..deployments)
            .filter(|&v| open[v] && !needed[v] && usage(v) < ROUND_DOWN_BELOW)
            .map(|v| (usage(v), v))
            .collect();
        let unused = candidates.iter().filter(|(usage, _)| *usage < 1e-6).count();
        if candidates.len() == unused || Instant::now() >= deadline {
            break;
        }
        candidates.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let used = candidates.len() - unused;
        let count = unused + ((used as f64 * CLOSED_AT_ONCE).ceil() as usize).clamp(1, used);
        let closed: Vec<usize> = candidates[..count].iter().map(|&(_, v)| v).collect();
        for &v in &closed {
            class_problem.set_open(v, false)?;
            open[v] = false;
        }
        if let Some(next) = class_problem.solve(deadline)?.filter(|next| next.unserved <= 1e-6) {
            solution = next;
            continue;
        }
        // Too many: open them again, and keep those in use for good if it was but one of them.
        for &v in &closed {
            class_problem.set_open(v, true)?;
            open[v] = true;
        }
        for &v in closed.iter().filter(|&&v| usage(v) >= 1e-6) {
            needed[v] = true;
        }
    }
    let whole: Vec<Vec<f64>> = solution
        .instances
        .iter()
        .zip(&open)
        .map(|(row, open)| row.iter().map(|n| if *open { (n - 1e-6).ceil().max(0.0) } else { 0.0 }).collect())
        .collect();
    class_problem.fix_instances(Some(&whole))?;
    let fixed = class_problem.solve(deadline)?.filter(|fixed| fixed.unserved <= 1e-6);
    Ok(fixed.unwrap_or(solution))
}

//! Whole instances: the relaxation's are rounded up, and then taken away or added one at a time as long as that pays.
//!
//! With the instances fixed, the least cost is a convex function of how many there are: what one more or one less can
//! gain is at most what their reduced costs say, so that most of them need not be tried.

use std::time::Instant;

use super::PlanError;
use super::problem::PlanProblem;
use super::relaxation::{ClassProblem, ClassSolution};

/// Rounds of trying every deployment.
const MOST_ROUNDS: usize = 4;
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
    let mut whole: Vec<Vec<f64>> =
        solution.instances.iter().map(|row| row.iter().map(|n| (n - TOLERANCE).ceil().max(0.0)).collect()).collect();
    for (v, row) in whole.iter().enumerate() {
        class_problem.fix(v, row)?;
    }
    if let Some(rounded) = class_problem.solve(deadline)?.filter(|rounded| rounded.unserved <= TOLERANCE) {
        solution = rounded;
    }
    for _ in 0..MOST_ROUNDS {
        let before = solution.objective;
        let mut promising: Vec<usize> = (0..whole.len()).filter(|&v| solution.instance_cost[v].abs() > worth).collect();
        promising.sort_by(|&a, &b| {
            solution.instance_cost[b].abs().total_cmp(&solution.instance_cost[a].abs()).then(a.cmp(&b))
        });
        for v in promising {
            let cost = solution.instance_cost[v];
            if Instant::now() >= deadline {
                return Ok(solution);
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
                Some(next) if next.unserved <= TOLERANCE && next.objective < solution.objective => {
                    solution = next;
                    whole[v] = changed;
                }
                _ => class_problem.fix(v, &whole[v])?,
            }
        }
        if before - solution.objective <= worth {
            break;
        }
    }
    Ok(solution)
}

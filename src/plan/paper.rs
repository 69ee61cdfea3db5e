//! The reference paper's assignment (arXiv 2407.04014, section 5), stated with good_lp as the paper states it: each query
//! to one model, minimising
//!
//! ```text
//! zeta * E[r,m] / Emax - (1 - zeta) * A[m] * (i + o) / Amax
//! ```
//!
//! Queries of similar length share an integer variable. The paper knows neither floors nor capacity: zeta is lowered
//! from 1 until the floors hold, and whether the result fits the cluster is seen when it is placed.

use good_lp::solvers::highs::highs;
use good_lp::{Expression, Solution, SolverModel, Variable, constraint, variable, variables};

use super::classes::Classes;
use super::problem::PlanProblem;
use crate::domain::dot;

/// Values of zeta tried, from energy alone to accuracy alone.
const ZETAS: [f64; 11] = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0];

/// Deployment of each request. `points`: by model and pool, the operating points a plain configuration would try.
pub fn assignment(problem: &PlanProblem, points: &[Vec<usize>]) -> Result<Vec<u16>, String> {
    let classes = Classes::new(problem);
    let choices = choices(problem, &classes, points);
    if let Some(class) = choices.iter().position(Vec::is_empty) {
        let request = classes.members(&classes.list[class])[0] as usize;
        return Err(format!("it has no operating point for request {}", problem.workload.requests.ids.get(request)));
    }
    let mut last = Err("the reference assignment could not be solved".to_owned());
    for zeta in ZETAS {
        let assignment = solve(problem, &classes, &choices, zeta)?;
        let holds = floors_hold(problem, &assignment);
        last = Ok(assignment);
        if holds {
            break;
        }
    }
    last
}

/// One candidate of a class: deployment, joules, accuracy-weighted tokens, both over the whole class.
struct Choice {
    v: usize,
    energy: f64,
    accuracy: f64,
}

fn choices(problem: &PlanProblem, classes: &Classes, points: &[Vec<usize>]) -> Vec<Vec<Choice>> {
    let of_class = |class: &super::classes::Class| {
        let kind = &problem.kinds[class.kind];
        let job =
            problem.workload.groups[problem.workload.requests.group[classes.members(class)[0] as usize] as usize].job;
        let usable = |v: &&usize| {
            let option = kind.options.binary_search(v);
            option.is_ok_and(|option| class.options.contains(&(option as u16)))
        };
        points
            .iter()
            .filter_map(|points| points.iter().find(usable))
            .map(|&v| Choice {
                v,
                energy: dot(&problem.deployments()[v].rates.net_energy, &class.sums),
                accuracy: problem.options.accuracy[job][v].unwrap_or(0.0) * (class.sums[1] + class.sums[2]),
            })
            .collect()
    };
    classes.list.iter().map(of_class).collect()
}

fn solve(problem: &PlanProblem, classes: &Classes, choices: &[Vec<Choice>], zeta: f64) -> Result<Vec<u16>, String> {
    let per_request = |value: fn(&Choice) -> f64| {
        let largest = choices
            .iter()
            .zip(&classes.list)
            .flat_map(|(choices, class)| choices.iter().map(move |choice| value(choice) / class.count as f64));
        largest.fold(f64::MIN_POSITIVE, f64::max)
    };
    let (most_energy, most_accuracy) = (per_request(|c| c.energy), per_request(|c| c.accuracy));
    let mut variables = variables!();
    let mut objective = Expression::default();
    let mut columns: Vec<Vec<Variable>> = Vec::new();
    for (class, choices) in classes.list.iter().zip(choices) {
        let mut row = Vec::new();
        for choice in choices {
            let count = variables.add(variable().integer().min(0.0).max(class.count as f64));
            let cost = zeta * choice.energy / most_energy - (1.0 - zeta) * choice.accuracy / most_accuracy;
            objective += cost / class.count as f64 * count;
            row.push(count);
        }
        columns.push(row);
    }
    let mut model = variables.minimise(objective).using(highs);
    model.set_verbose(false);
    for (class, row) in classes.list.iter().zip(&columns) {
        let served: Expression = row.iter().sum();
        model = model.with(constraint!(served == class.count as f64));
    }
    let solution = model.solve().map_err(|error| format!("the reference assignment could not be solved: {error}"))?;
    let mut assignment = vec![super::prices::NONE; problem.workload.requests.len()];
    for ((class, row), choices) in classes.list.iter().zip(&columns).zip(choices) {
        let mut members = classes.members(class).iter();
        for (count, choice) in row.iter().zip(choices) {
            for &request in members.by_ref().take(solution.value(*count).round() as usize) {
                assignment[request as usize] = choice.v as u16;
            }
        }
    }
    Ok(assignment)
}

fn floors_hold(problem: &PlanProblem, assignment: &[u16]) -> bool {
    let mut points = vec![0.0; problem.workload.jobs.len()];
    for (request, &v) in assignment.iter().enumerate() {
        let job = problem.workload.groups[problem.workload.requests.group[request] as usize].job;
        points[job] += problem.options.accuracy[job].get(v as usize).copied().flatten().unwrap_or(0.0);
    }
    problem.floor_points.iter().zip(points).all(|(floor, points)| floor.is_none_or(|floor| points >= floor))
}

//! What the queue would cost under simpler policies, placed and priced by the same rules.
//!
//! Each is a rule for which deployment a request goes to; instances, loads and finish times then follow as for our own
//! plan. A policy that breaks a floor or finds no room is reported as infeasible, with the reason.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::paper;
use super::place::{Lanes, Shape, place};
use super::power::within_cap;
use super::price::Priced;
use super::prices::NONE;
use super::problem::{Kind, PlanProblem};
use super::solve::solve;
use super::{Settings, Verdict};
use crate::options::Options;

#[derive(Clone, Debug)]
pub struct BaselineResult {
    /// The placed schedule, also where it breaks a floor.
    pub priced: Option<Priced>,
    /// Why it is infeasible; `None` if it is not.
    pub reason: Option<String>,
}

impl BaselineResult {
    pub fn feasible(&self) -> bool {
        self.priced.is_some() && self.reason.is_none()
    }

    /// Infeasible after all where it leaves others less of the power cap than they draw.
    pub(super) fn mind_background(&mut self, problem: &PlanProblem) {
        if self.feasible() && self.priced.as_ref().is_some_and(|priced| !within_cap(problem, &priced.schedule)) {
            self.reason = Some("it draws more than others leave of the power cap".to_owned());
        }
    }
}

/// All baselines by name. `seed` drives the random one.
pub fn run(problem: &PlanProblem, settings: &Settings, seed: u64) -> BTreeMap<String, BaselineResult> {
    let mut results = BTreeMap::new();
    let mut add = |name: &str, assignment: Result<Vec<u16>, String>| {
        let result = match assignment {
            Ok(assignment) => placed(problem, &assignment),
            Err(reason) => BaselineResult { priced: None, reason: Some(reason) },
        };
        results.insert(name.to_owned(), result);
    };
    let deployment = |kind: &Kind, option: usize| &problem.deployments()[kind.options[option]];
    add("fastest", choose(problem, |kind, option, i, o| deployment(kind, option).rates.seconds(i, o)));
    if problem.workload.jobs.iter().any(|job| job.task.is_some()) {
        add("most_accurate", most_accurate(problem));
    }
    let defaults = default_points(problem);
    let mut turn = 0usize;
    add(
        "round_robin",
        deal(problem, &defaults, |count| {
            turn += 1;
            turn % count
        }),
    );
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    add("random", deal(problem, &defaults, |count| random.random_range(0..count)));
    for model in models(problem) {
        add(&format!("single_model:{model}"), single_model(problem, &model));
    }
    add("paper", paper::assignment(problem, &defaults));
    results.insert("static_best".to_owned(), static_best(problem, settings));
    results
}

/// Places an assignment and checks the mean floors, which placement does not look at.
fn placed(problem: &PlanProblem, assignment: &[u16]) -> BaselineResult {
    match place(problem, assignment, Shape::Lanes(&Lanes::new())) {
        Ok(priced) => {
            let reason = broken_floor(problem, &priced);
            BaselineResult { priced: Some(priced), reason }
        }
        Err(reason) => BaselineResult { priced: None, reason: Some(reason.to_string()) },
    }
}

/// The first job whose mean accuracy is below its floor.
pub fn broken_floor(problem: &PlanProblem, priced: &Priced) -> Option<String> {
    problem.floor_points.iter().zip(&priced.jobs).enumerate().find_map(|(index, (floor, job))| {
        let (floor, points, count) = ((*floor)?, job.points?, problem.requests_of_job[index] as f64);
        (points < floor * (1.0 - 1e-12)).then(|| {
            let name = &problem.workload.jobs[index].name;
            format!(
                "job {name} reaches a mean accuracy of {:.2} % below its floor of {:.2} %",
                points / count,
                floor / count
            )
        })
    })
}

/// Every request to the option of least `cost` that can serve it.
fn choose(problem: &PlanProblem, cost: impl Fn(&Kind, usize, u32, u32) -> f64) -> Result<Vec<u16>, String> {
    let best = |request: usize| {
        let kind = &problem.kinds[problem.kind_of(request)];
        let (input, output) = problem.lengths(request);
        (0..kind.options.len())
            .filter(|&option| problem.can_serve(kind, option, input, output))
            .min_by(|&a, &b| cost(kind, a, input, output).total_cmp(&cost(kind, b, input, output)))
            .map(|option| kind.options[option] as u16)
            .ok_or_else(|| unservable(problem, request))
    };
    (0..problem.workload.requests.len()).map(best).collect()
}

fn unservable(problem: &PlanProblem, request: usize) -> String {
    format!("it has no operating point for request {}", problem.workload.requests.ids.get(request))
}

/// The most accurate model; among its operating points the one of least energy.
fn most_accurate(problem: &PlanProblem) -> Result<Vec<u16>, String> {
    let job_of = |kind: &Kind, option: usize, job: usize| problem.options.accuracy[job][kind.options[option]];
    let assign = |request: usize| {
        let kind = &problem.kinds[problem.kind_of(request)];
        let job = problem.workload.groups[problem.workload.requests.group[request] as usize].job;
        let (input, output) = problem.lengths(request);
        let key = |option: usize| {
            let accuracy = job_of(kind, option, job).unwrap_or(f64::NEG_INFINITY);
            (-accuracy, problem.deployments()[kind.options[option]].rates.energy(input, output))
        };
        (0..kind.options.len())
            .filter(|&option| problem.can_serve(kind, option, input, output))
            .min_by(|&a, &b| {
                let (a, b) = (key(a), key(b));
                a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
            })
            .map(|option| kind.options[option] as u16)
            .ok_or_else(|| unservable(problem, request))
    };
    (0..problem.workload.requests.len()).map(assign).collect()
}

/// Models in use, by name.
fn models(problem: &PlanProblem) -> BTreeSet<String> {
    let offered = problem.kinds.iter().flat_map(|kind| &kind.options);
    offered.map(|&v| problem.deployments()[v].family.model.clone()).collect()
}

/// By (model, pool): the operating points a plain configuration would try, largest batch first.
fn default_points(problem: &PlanProblem) -> Vec<Vec<usize>> {
    let mut points: BTreeMap<(String, usize), Vec<usize>> = BTreeMap::new();
    for (v, deployment) in problem.deployments().iter().enumerate() {
        points.entry((deployment.family.model.clone(), deployment.pool)).or_default().push(v);
    }
    let mut points: Vec<Vec<usize>> = points.into_values().collect();
    for of_model in &mut points {
        of_model.sort_by(|&a, &b| {
            let (a, b) = (&problem.deployments()[a], &problem.deployments()[b]);
            b.batch_size.total_cmp(&a.batch_size).then(a.devices.cmp(&b.devices)).then(a.id.cmp(&b.id))
        });
    }
    points
}

/// Requests dealt over (model, pool) pairs by `pick`, each to the pair's largest batch that can serve it.
fn deal(
    problem: &PlanProblem,
    points: &[Vec<usize>],
    mut pick: impl FnMut(usize) -> usize,
) -> Result<Vec<u16>, String> {
    let assign = |request: usize| {
        let kind = &problem.kinds[problem.kind_of(request)];
        let (input, output) = problem.lengths(request);
        let usable = |v: &&usize| {
            let option = kind.options.binary_search(v);
            option.is_ok_and(|option| problem.can_serve(kind, option, input, output))
        };
        let candidates: Vec<usize> = points.iter().filter_map(|points| points.iter().find(usable).copied()).collect();
        if candidates.is_empty() {
            return Err(unservable(problem, request));
        }
        Ok(candidates[pick(candidates.len())] as u16)
    };
    (0..problem.workload.requests.len()).map(assign).collect()
}

/// Everything on one model: its cheapest operating point, and for requests too long for that the next cheapest.
fn single_model(problem: &PlanProblem, model: &str) -> Result<Vec<u16>, String> {
    let mut totals: BTreeMap<usize, (usize, f64)> = BTreeMap::new();
    for request in 0..problem.workload.requests.len() {
        let kind = &problem.kinds[problem.kind_of(request)];
        let (input, output) = problem.lengths(request);
        for (option, &v) in kind.options.iter().enumerate() {
            let deployment = &problem.deployments()[v];
            if deployment.family.model == model && problem.can_serve(kind, option, input, output) {
                let entry = totals.entry(v).or_insert((0, deployment.start_energy().0));
                entry.0 += 1;
                entry.1 += deployment.rates.energy(input, output);
            }
        }
    }
    // By energy per request served, so that a point that serves few is not preferred for its low total.
    let mut ranked: Vec<(f64, usize)> =
        totals.iter().map(|(&v, &(count, joules))| (joules / count as f64, v)).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let assign = |request: usize| {
        let kind = &problem.kinds[problem.kind_of(request)];
        let (input, output) = problem.lengths(request);
        let usable = |v: &usize| {
            kind.options.binary_search(v).is_ok_and(|option| problem.can_serve(kind, option, input, output))
        };
        ranked.iter().map(|&(_, v)| v).find(usable).map(|v| v as u16).ok_or_else(|| unservable(problem, request))
    };
    (0..problem.workload.requests.len()).map(assign).collect()
}

/// One operating point a model, planned as ours is: consolidation without the choice of operating points.
fn static_best(problem: &PlanProblem, settings: &Settings) -> BaselineResult {
    let mut kept = vec![false; problem.deployments().len()];
    for model in models(problem) {
        let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
        let assignment = match single_model(problem, &model) {
            Ok(assignment) => assignment,
            Err(_) => continue,
        };
        for v in assignment.into_iter().filter(|&v| v != NONE) {
            *counts.entry(v).or_default() += 1;
        }
        // The point that can serve every request the model may get: the smallest batch of those the model needed.
        let smallest = counts.keys().copied().min_by(|&a, &b| {
            let batch = |v: u16| problem.deployments()[v as usize].batch_size;
            batch(a).total_cmp(&batch(b)).then(a.cmp(&b))
        });
        if let Some(v) = smallest {
            kept[v as usize] = true;
        }
    }
    let options = Options {
        allowed: problem
            .options
            .allowed
            .iter()
            .map(|allowed| allowed.iter().zip(&kept).map(|(&allowed, &kept)| allowed && kept).collect())
            .collect(),
        ..problem.options.clone()
    };
    let PlanProblem { workload, cluster, models, safety, goal, .. } = *problem;
    let restricted = PlanProblem::with_goal(workload, cluster, models, &options, safety, goal);
    let time_limit = settings.time_limit.mul_f64(0.1);
    let settings = Settings { gap: settings.gap.max(5e-3), time_limit, baselines: false };
    match solve(&restricted, &settings, None, &mut |_| {}) {
        Ok(Verdict::Planned(plan)) => BaselineResult { priced: Some(plan.priced), reason: None },
        Ok(_) => {
            let reason = "one operating point a model cannot serve the queue".to_owned();
            BaselineResult { priced: None, reason: Some(reason) }
        }
        Err(error) => BaselineResult { priced: None, reason: Some(error.to_string()) },
    }
}

//! A problem with one of its limits loosened: the same requests, models and deployments, later deadlines, lower floors,
//! more nodes or a higher power cap.

use std::borrow::Cow;

use super::Limit;
use super::amounts::least_room;
use super::shadow_prices::{with_nodes, with_power};
use crate::domain::{RequestIds, Requests, Workload};
use crate::options::{Options, refusal};
use crate::plan::PlanProblem;

pub struct Trial<'a> {
    problem: &'a PlanProblem<'a>,
    workload: Workload,
}

impl<'a> Trial<'a> {
    pub fn new(problem: &'a PlanProblem<'a>) -> Self {
        let Workload { jobs, groups, requests, input_provenance, output_provenance, output_spread } = problem.workload;
        let requests = Requests {
            input_tokens: requests.input_tokens.clone(),
            output_tokens: requests.output_tokens.clone(),
            group: requests.group.clone(),
            // Nobody asks for the names of a trial's requests.
            ids: RequestIds::Rows(Vec::new()),
        };
        let (input_provenance, output_provenance) = (*input_provenance, *output_provenance);
        let workload = Workload {
            jobs: jobs.clone(),
            groups: groups.clone(),
            requests,
            input_provenance,
            output_provenance,
            output_spread: output_spread.clone(),
        };
        Self { problem, workload }
    }

    /// What `then` says of the problem with `limit` loosened by `amount`: seconds, percent points, nodes or watts.
    pub fn with<R>(&mut self, limit: &Limit, amount: f64, then: impl FnOnce(&PlanProblem) -> R) -> R {
        let problem = self.problem;
        self.workload.jobs.clone_from(&problem.workload.jobs);
        self.workload.groups.clone_from(&problem.workload.groups);
        let mut cluster = Cow::Borrowed(problem.cluster);
        let mut options = Cow::Borrowed(problem.options);
        match limit {
            Limit::Deadline(jobs) => self.delay(jobs, amount),
            Limit::Accuracy(jobs) => self.lower_floors(jobs, amount, &mut options),
            Limit::Nodes(pool) => cluster = Cow::Owned(with_nodes(problem.cluster, *pool, amount as usize)),
            Limit::Power => cluster = Cow::Owned(with_power(problem.cluster, amount)),
        }
        let PlanProblem { models, safety, goal, .. } = *problem;
        then(&PlanProblem::with_goal(&self.workload, &cluster, models, &options, safety, goal))
    }

    fn delay(&mut self, jobs: &[usize], seconds: f64) {
        for &job in jobs {
            self.workload.jobs[job].deadline.0 += seconds;
        }
        for group in self.workload.groups.iter_mut().filter(|group| jobs.contains(&group.job)) {
            group.deadline.0 += seconds;
        }
    }

    fn lower_floors(&mut self, concerned: &[usize], points: f64, options: &mut Cow<Options>) {
        for &job in concerned {
            if let Some(floor) = &mut self.workload.jobs[job].floor {
                floor.percent = (floor.percent - points).max(0.0);
            }
        }
        let Workload { jobs, groups, .. } = &mut self.workload;
        for (g, group) in groups.iter_mut().enumerate().filter(|(_, group)| concerned.contains(&group.job)) {
            let Some(floor) = &mut group.own_floor else { continue };
            *floor = (*floor - points).max(0.0);
            // A request's own floor decides which deployments it may use.
            let Options { deployments, accuracy, allowed, .. } = options.to_mut();
            for (v, deployment) in deployments.iter().enumerate() {
                let pool = &self.problem.cluster.pools[deployment.pool].name;
                let refused = refusal(&jobs[group.job], group, deployment, pool, accuracy[group.job][v]);
                allowed[g][v] = refused.is_none();
            }
        }
    }
}

/// The most by which a limit can be loosened at all, and by which it is worth trying.
pub fn most(problem: &PlanProblem, limit: &Limit) -> f64 {
    let workload = problem.workload;
    match limit {
        // A queue that needs a hundred times its time needs another cluster.
        Limit::Deadline(_) => 100.0 * problem.horizon().max(3600.0),
        Limit::Accuracy(jobs) => {
            let concerned = workload.groups.iter().filter(|group| jobs.contains(&group.job));
            let of_jobs = jobs.iter().filter_map(|&job| workload.jobs[job].floor.map(|floor| floor.percent));
            concerned.filter_map(|group| group.own_floor).chain(of_jobs).fold(0.0, f64::max)
        }
        Limit::Nodes(pool) => (100 * problem.cluster.pools[*pool].nodes.len().max(1)) as f64,
        Limit::Power => power_of_all(problem),
    }
}

/// Watts by which the cap would have to rise to leave room for everything at once: every node on, and the strongest
/// instances side by side on all devices. 0 without a cap.
fn power_of_all(problem: &PlanProblem) -> f64 {
    if problem.power_room().is_none() {
        return 0.0;
    }
    let of_pool = |pool: usize| {
        let own = problem.deployments().iter().enumerate().filter(|(_, deployment)| deployment.pool == pool);
        let instances = own.map(|(v, deployment)| problem.most_instances(v) as f64 * deployment.net_peak_power());
        let nodes = problem.cluster.pools[pool].nodes.len() as f64;
        instances.fold(0.0, f64::max) + nodes * (problem.billed_power(pool) + problem.waking_power(pool))
    };
    ((0..problem.cluster.pools.len()).map(of_pool).sum::<f64>() - least_room(problem)).max(0.0)
}

/// Whether requests of the job have floors that single deployments must reach, and no mean floor beside them.
pub fn has_steps(problem: &PlanProblem, job: usize) -> bool {
    problem.floor_points[job].is_none()
}

/// The least amount that allows the same deployments as `amount` does, where a floor binds each request alone.
pub fn step_at(problem: &PlanProblem, job: usize, amount: f64) -> f64 {
    let floors = problem.workload.groups.iter().filter(|group| group.job == job).filter_map(|group| group.own_floor);
    let accuracies = || problem.options.accuracy[job].iter().flatten();
    floors
        .flat_map(|floor| accuracies().map(move |accuracy| floor - accuracy))
        .filter(|step| *step > 0.0 && *step <= amount)
        .fold(0.0, f64::max)
}

//! Ways to break a valid plan, each certain to break it, with the rule that must notice.
//!
//! A mutation returns `None` where the case offers nothing to break in its way. `restate` after a structural change
//! keeps all sums right, so that only the broken rule is left to find. A few change the problem instead of the plan
//! (a limit, a figure of the accuracy table): to the checker that is the same.

mod deployments;
mod devices;
mod joules;
mod power;
mod promises;
mod quality;
mod rows;
mod site;
mod time;

use jouleplan::check::Rule;
use jouleplan::domain::{Deployment, Group, Job, Pool};
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::Case;
use super::restate::deployment_of;

pub struct Mutation {
    pub name: &'static str,
    /// Whether the rule must be the only one broken, in plans of the generator at least (it leaves some room between
    /// things that a planner packs).
    pub alone: bool,
    pub apply: fn(&mut Case, &mut ChaCha8Rng) -> Option<Rule>,
}

const fn alone(name: &'static str, apply: fn(&mut Case, &mut ChaCha8Rng) -> Option<Rule>) -> Mutation {
    Mutation { name, alone: true, apply }
}

const fn among(name: &'static str, apply: fn(&mut Case, &mut ChaCha8Rng) -> Option<Rule>) -> Mutation {
    Mutation { name, alone: false, apply }
}

/// Every mutation there is, always in the same order.
pub fn all() -> impl Iterator<Item = &'static Mutation> {
    let themes = [
        rows::ALL,
        quality::ALL,
        devices::ALL,
        power::ALL,
        time::ALL,
        joules::ALL,
        deployments::ALL,
        promises::ALL,
        site::ALL,
    ];
    themes.into_iter().flatten()
}

type R = ChaCha8Rng;

fn any_instance(case: &Case, rng: &mut R, keep: impl Fn(usize) -> bool) -> Option<usize> {
    (0..case.plan.instances.len()).filter(|&index| keep(index)).choose(rng)
}

fn served_instance(case: &Case, rng: &mut R) -> Option<usize> {
    any_instance(case, rng, |index| case.plan.instances[index].requests > 0)
}

fn group(case: &Case, request: usize) -> &Group {
    &case.workload.groups[case.workload.requests.group[request] as usize]
}

fn group_mut(case: &mut Case, request: usize) -> &mut Group {
    &mut case.workload.groups[case.workload.requests.group[request] as usize]
}

fn job_mut(case: &mut Case, request: usize) -> &mut Job {
    let job = group(case, request).job;
    &mut case.workload.jobs[job]
}

fn percent(case: &Case, request: usize, deployment: &Deployment) -> Option<f64> {
    let task = case.workload.jobs[group(case, request).job].task.as_ref()?;
    case.accuracy.get(&deployment.family.model, task)
}

fn suspends(case: &Case, pool: &str) -> bool {
    case.cluster.pools.iter().any(|p| p.name == pool && p.suspend)
}

fn pool_of(case: &Case, instance: usize) -> Option<&Pool> {
    case.cluster.pools.iter().find(|pool| pool.name == case.plan.instances[instance].pool)
}

/// 1 % up or down.
fn percent_off(rng: &mut R) -> f64 {
    if rng.random_bool(0.5) { 1.01 } else { 0.99 }
}

fn move_request(case: &mut Case, request: usize, instance: usize) {
    for row in case.plan.assignments.iter_mut().filter(|row| row.request as usize == request) {
        row.instance = instance as u32;
    }
}

/// A (request, instance it is not on) that satisfies `keep`.
fn some_move(
    case: &Case,
    rng: &mut R,
    keep: impl Fn(usize, usize, &Deployment, &Deployment) -> bool,
) -> Option<(usize, usize)> {
    let instances = 0..case.plan.instances.len();
    let deployments: Vec<&Deployment> = instances.clone().map(|index| deployment_of(&case.plan, index)).collect();
    let mut rows = case.plan.assignments.clone();
    rows.shuffle(rng);
    rows.into_iter().find_map(|row| {
        let (request, from) = (row.request as usize, row.instance as usize);
        let to = instances.clone().filter(|&to| to != from && keep(request, from, deployments[from], deployments[to]));
        to.choose(rng).map(|to| (request, to))
    })
}

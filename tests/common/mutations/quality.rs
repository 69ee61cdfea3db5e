//! Accuracy, memory, latency and what a job allows.

use jouleplan::check::Rule;
use jouleplan::domain::{AccuracyRule, Job};
use jouleplan::units::Seconds;
use rand::prelude::*;

use super::{
    Mutation, R, alone, among, group, group_mut, job_mut, move_request, percent, percent_off, served_instance,
    some_move,
};
use crate::common::Case;
use crate::common::restate::{deployment_of, requests_of};

pub const ALL: &[Mutation] = &[
    among("moved below its own floor", move_below_own_floor),
    among("mean floor broken by moves", break_mean_floor),
    alone("mean floor raised above the mean", raise_mean_floor),
    among("accuracy figure withdrawn", withdraw_accuracy),
    alone("mean accuracy altered", alter_mean_accuracy),
    among("memory overfilled by a move", overfill_by_move),
    among("memory overfilled by a longer request", overfill_by_length),
    alone("TTFT limit broken", break_ttft),
    alone("TBT limit broken", break_tbt),
    alone("model not allowed to the job", forbid_model),
    alone("pool not allowed to the job", forbid_pool),
    alone("model not the pinned one", pin_other_model),
    among("option that could never be in time", close_window),
];

fn move_below_own_floor(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let (request, to) = some_move(case, rng, |request, _, _, to| {
        let floor = group(case, request).own_floor;
        floor.is_some_and(|floor| percent(case, request, to).is_some_and(|percent| percent < floor))
    })?;
    move_request(case, request, to);
    case.restate();
    Some(Rule::Floor)
}

fn break_mean_floor(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let mean_job = |job: &Job| job.floor.is_some_and(|floor| floor.rule == AccuracyRule::Mean);
    for _ in 0..case.workload.requests.len() {
        let (request, to) = some_move(case, rng, |request, _, from, to| {
            mean_job(&case.workload.jobs[group(case, request).job])
                && percent(case, request, to) < percent(case, request, from)
                && percent(case, request, to).is_some()
        })?;
        move_request(case, request, to);
        case.restate();
        let job = group(case, request).job;
        let floor = case.workload.jobs[job].floor?.percent;
        if case.plan.jobs[job].mean_accuracy? < floor - 1e-6 {
            return Some(Rule::MeanFloor);
        }
    }
    None
}

fn raise_mean_floor(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let rows = case.workload.jobs.iter_mut().zip(&case.plan.jobs);
    let (job, row) = rows.filter(|(job, row)| job.floor.is_some() && row.mean_accuracy.is_some()).choose(rng)?;
    let floor = job.floor.as_mut().filter(|floor| floor.rule == AccuracyRule::Mean)?;
    floor.percent = row.mean_accuracy? + 1e-3;
    Some(Rule::MeanFloor)
}

fn withdraw_accuracy(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let row = case.plan.assignments.choose(rng)?;
    let (request, instance) = (row.request as usize, row.instance as usize);
    let job = &case.workload.jobs[group(case, request).job];
    if job.floor.is_none() && group(case, request).own_floor.is_none() {
        return None;
    }
    let model = deployment_of(&case.plan, instance).family.model.clone();
    case.accuracy.percent.remove(&(model, job.task.clone()?));
    case.restate();
    Some(Rule::AccuracyMissing)
}

fn alter_mean_accuracy(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let row = case.plan.jobs.iter_mut().filter(|row| row.requests > 0).choose(rng)?;
    row.mean_accuracy = match row.mean_accuracy {
        Some(_) if rng.random_bool(0.3) => None,
        Some(percent) => Some(percent * percent_off(rng)),
        None => Some(50.0),
    };
    Some(Rule::JobAccuracy)
}

fn overfill_by_move(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let requests = &case.workload.requests;
    let (request, to) = some_move(case, rng, |request, _, _, to| {
        !to.fits(requests.input_tokens[request], requests.output_tokens[request])
    })?;
    move_request(case, request, to);
    case.restate();
    Some(Rule::Memory)
}

fn overfill_by_length(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let row = case.plan.assignments.iter().copied().choose(rng)?;
    let limit = deployment_of(&case.plan, row.instance as usize).max_tokens;
    if limit > 1e6 {
        return None;
    }
    case.workload.requests.input_tokens[row.request as usize] = limit as u32 + 1;
    case.restate();
    Some(Rule::Memory)
}

fn break_ttft(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let row = case.plan.assignments.iter().copied().choose(rng)?;
    let p99 = deployment_of(&case.plan, row.instance as usize).ttft_p99;
    job_mut(case, row.request as usize).max_ttft = Some(p99.map_or(Seconds(1e6), |p99| p99 * 0.99));
    Some(Rule::Ttft)
}

fn break_tbt(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let row = case.plan.assignments.iter().copied().choose(rng)?;
    let p99 = deployment_of(&case.plan, row.instance as usize).tbt_p99;
    job_mut(case, row.request as usize).max_tbt = Some(p99.map_or(Seconds(1e6), |p99| p99 * 0.99));
    Some(Rule::Tbt)
}

fn forbid_model(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let row = case.plan.assignments.iter().copied().choose(rng)?;
    let model = deployment_of(&case.plan, row.instance as usize).family.model.clone();
    let others = case.models.iter().map(|other| other.key.model.clone()).filter(|other| *other != model).collect();
    job_mut(case, row.request as usize).models = Some(others);
    Some(Rule::Model)
}

fn forbid_pool(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let row = case.plan.assignments.iter().copied().choose(rng)?;
    let pool = case.plan.instances[row.instance as usize].pool.clone();
    let others = case.cluster.pools.iter().map(|other| other.name.clone()).filter(|other| *other != pool).collect();
    job_mut(case, row.request as usize).pools = Some(others);
    Some(Rule::Pool)
}

fn pin_other_model(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let row = case.plan.assignments.iter().copied().choose(rng)?;
    let model = deployment_of(&case.plan, row.instance as usize).family.model.clone();
    group_mut(case, row.request as usize).pinned_models = Some(vec![format!("not {model}")]);
    Some(Rule::Pinned)
}

fn close_window(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let instance = served_instance(case, rng)?;
    let request = requests_of(&case.plan, instance).into_iter().choose(rng)?;
    group_mut(case, request).release = group(case, request).deadline;
    case.restate();
    Some(Rule::Window)
}

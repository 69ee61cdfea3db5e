//! Rows, names and counts.

use jouleplan::check::{Rule, UNKNOWN, UnknownNames};
use rand::prelude::*;

use super::{Mutation, R, alone, among};
use crate::common::Case;

pub const ALL: &[Mutation] = &[
    among("request dropped", drop_request),
    among("request doubled", double_request),
    among("one request in place of another", replace_request),
    among("unknown request", unknown_request),
    among("unknown instance", unknown_instance),
    among("unknown deployment, pool, node or job", unknown_name),
    alone("a count altered", alter_count),
    alone("job without a row", drop_job),
];

fn drop_request(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let row = rng.random_range(0..case.plan.assignments.len());
    case.plan.assignments.remove(row);
    if rng.random_bool(0.5) {
        case.restate();
    }
    Some(Rule::Dropped)
}

fn double_request(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let mut row = *case.plan.assignments.choose(rng)?;
    row.instance = rng.random_range(0..case.plan.instances.len()) as u32;
    let place = rng.random_range(0..=case.plan.assignments.len());
    case.plan.assignments.insert(place, row);
    if rng.random_bool(0.5) {
        case.restate();
    }
    Some(Rule::Doubled)
}

fn replace_request(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let count = case.plan.assignments.len();
    let (from, to) = (rng.random_range(0..count), rng.random_range(1..count));
    case.plan.assignments[(from + to) % count].request = case.plan.assignments[from].request;
    if rng.random_bool(0.5) {
        case.restate();
    }
    Some(if rng.random_bool(0.5) { Rule::Dropped } else { Rule::Doubled })
}

fn unknown_request(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let row = rng.random_range(0..case.plan.assignments.len());
    case.plan.assignments[row].request =
        if rng.random_bool(0.5) { UNKNOWN } else { case.workload.requests.len() as u32 };
    case.plan.unknown.insert(row, UnknownNames { request: Some("nobody".into()), instance: None });
    Some(Rule::Unknown)
}

fn unknown_instance(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let row = rng.random_range(0..case.plan.assignments.len());
    case.plan.assignments[row].instance = if rng.random_bool(0.5) { UNKNOWN } else { case.plan.instances.len() as u32 };
    Some(Rule::Unknown)
}

fn unknown_name(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let name = "nowhere".to_owned();
    let job = case.plan.jobs.choose_mut(rng)?;
    let instances = case.plan.instances.len();
    let instance = case.plan.instances.choose_mut(rng)?;
    match rng.random_range(0..6) {
        0 => instance.deployment = name,
        1 => instance.pool = name,
        2 => instance.node = name,
        3 => job.job = name,
        4 if instances > 1 => case.plan.instances[0].id = case.plan.instances[1].id.clone(),
        _ => case.plan.powered.choose_mut(rng)?.node = name,
    }
    Some(Rule::Unknown)
}

fn alter_count(case: &mut Case, rng: &mut R) -> Option<Rule> {
    match rng.random_range(0..5) {
        0 => case.plan.requests -= 1,
        1 => case.plan.instance_count += 1,
        2 => case.plan.nodes_used += 1,
        3 => case.plan.instances.choose_mut(rng)?.requests += 1,
        _ => case.plan.jobs.choose_mut(rng)?.requests += 1,
    }
    Some(Rule::Count)
}

fn drop_job(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let row = rng.random_range(0..case.plan.jobs.len());
    if rng.random_bool(0.5) {
        case.plan.jobs.remove(row);
    } else {
        case.plan.jobs.push(case.plan.jobs[row].clone());
    }
    Some(Rule::Unknown)
}

//! Starts, ends, deadlines and releases.

use jouleplan::check::Rule;
use jouleplan::units::Seconds;
use rand::prelude::*;

use super::{Mutation, R, alone, among, any_instance, group, group_mut, percent_off, served_instance, suspends};
use crate::common::Case;
use crate::common::restate::{deployment_of, requests_of, schedule};

pub const ALL: &[Mutation] = &[
    among("started too late for a deadline", start_too_late),
    among("deadline too early", deadline_too_early),
    among("ends before its load does", end_before_load),
    alone("end later than the schedule", end_too_late),
    among("requests before their release", ignore_release),
    among("ends before a request is released", end_before_release),
    alone("finish of a job altered", alter_job_finish),
    alone("makespan altered", alter_makespan),
];

fn start_too_late(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let instance = served_instance(case, rng)?;
    let least_slack = schedule(case, instance)
        .into_iter()
        .map(|(request, finish, _)| group(case, request).deadline.0 - finish)
        .fold(f64::INFINITY, f64::min);
    // A wait for a release absorbs part of a delay: then start at the first deadline.
    let released = requests_of(&case.plan, instance).into_iter().map(|r| group(case, r).release.0).fold(0.0, f64::max);
    let deadlines = requests_of(&case.plan, instance).into_iter().map(|r| group(case, r).deadline.0);
    let deadline = deadlines.fold(f64::INFINITY, f64::min);
    let start = case.plan.instances[instance].start.0;
    let later = if released > 0.0 { deadline.max(start) } else { start + least_slack + rng.random_range(1.0..100.0) };
    case.plan.instances[instance].start = Seconds(later);
    case.restate();
    Some(Rule::Deadline)
}

fn deadline_too_early(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let instance = served_instance(case, rng)?;
    let (request, _, _) = schedule(case, instance).into_iter().choose(rng)?;
    let ready = case.plan.instances[instance].start + deployment_of(&case.plan, instance).load_time;
    let earliest = ready.max(group(case, request).release);
    group_mut(case, request).deadline = earliest - Seconds(1.0);
    case.restate();
    Some(Rule::Deadline)
}

fn end_before_load(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let instance = any_instance(case, rng, |_| true)?;
    let load = deployment_of(&case.plan, instance).load_time;
    let claimed = &mut case.plan.instances[instance];
    claimed.end = claimed.start + load * rng.random_range(0.0..0.95);
    case.restate_powered();
    case.restate_totals();
    Some(Rule::End)
}

fn end_too_late(case: &mut Case, rng: &mut R) -> Option<Rule> {
    // By little, so that nothing else is touched that the generator keeps apart by more.
    let instance = any_instance(case, rng, |_| true)?;
    let end = case.plan.instances[instance].end.0;
    let by = 4e-3 + 4e-6 * end;
    let (node, pool) = (&case.plan.instances[instance].node, &case.plan.instances[instance].pool);
    let followed = |start: f64| start >= end && start < end + 2.0 * by;
    if case.plan.instances.iter().any(|other| other.node == *node && followed(other.start.0)) || suspends(case, pool) {
        return None;
    }
    case.plan.instances[instance].end = Seconds(end + by);
    Some(Rule::End)
}

/// The schedule as it would be if releases did not exist.
fn ignore_release(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let mut free = case.clone();
    free.workload.groups.iter_mut().for_each(|group| group.release = Seconds::ZERO);
    free.restate();
    let earlier =
        any_instance(case, rng, |index| case.plan.instances[index].end.0 - free.plan.instances[index].end.0 > 0.1)?;
    case.plan.instances[earlier].end = free.plan.instances[earlier].end;
    case.restate_powered();
    case.restate_totals();
    Some(Rule::End)
}

fn end_before_release(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let instance = served_instance(case, rng)?;
    let request = requests_of(&case.plan, instance).into_iter().choose(rng)?;
    group_mut(case, request).release = case.plan.instances[instance].end + Seconds(rng.random_range(1.0..100.0));
    Some(Rule::Release)
}

fn alter_job_finish(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let factor = percent_off(rng);
    let row = case.plan.jobs.iter_mut().filter(|row| row.requests > 0).choose(rng)?;
    row.finish = row.finish * factor;
    Some(Rule::JobFinish)
}

fn alter_makespan(case: &mut Case, rng: &mut R) -> Option<Rule> {
    case.plan.makespan = case.plan.makespan * percent_off(rng);
    Some(Rule::Makespan)
}

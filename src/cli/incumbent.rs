//! `--incumbent DIR`: an earlier plan as the plan to beat. Deployments are matched by id, pools and nodes by name,
//! requests by id; whatever it claimed is priced and checked again, under the present inputs.

use std::collections::BTreeMap;
use std::path::Path;

use crate::check::{CheckInput, check};
use crate::domain::{AccuracyTable, Instance, Schedule};
use crate::formats::plan_dir::{self, InstanceRow, PlanDirectory};
use crate::plan::PlanProblem;
use crate::plan::price::{Priced, price};
use crate::report::RequestIndex;
use crate::report::claims::{Proof, of_schedule};
use crate::units::Seconds;

/// The plan of `dir` priced for `problem`, or why it is none for it.
pub fn read(dir: &Path, problem: &PlanProblem, accuracy: &AccuracyTable) -> Result<Priced, String> {
    let directory = plan_dir::read(dir).map_err(|problems| problems.to_string())?;
    let all = schedule(&directory, problem, |instance| Some(instance.start))?;
    valid(problem, accuracy, all)
}

/// A schedule priced, if it is valid for `problem`.
pub fn valid(problem: &PlanProblem, accuracy: &AccuracyTable, schedule: Schedule) -> Result<Priced, String> {
    let priced = price(problem, schedule);
    let claims = of_schedule(problem, &priced, Proof::none(&priced));
    let PlanProblem { workload, cluster, models, .. } = *problem;
    let report = check(&CheckInput { workload, cluster, models, accuracy, plan: &claims });
    match report.violations.first() {
        None => Ok(priced),
        Some(first) => Err(format!("{first} ({} violations)", report.violation_count())),
    }
}

/// What a plan decided, of those of its instances that `start` gives a second to start at.
pub fn schedule(
    directory: &PlanDirectory,
    problem: &PlanProblem,
    start: impl Fn(&InstanceRow) -> Option<Seconds>,
) -> Result<Schedule, String> {
    let by_id: BTreeMap<&str, usize> =
        problem.deployments().iter().enumerate().map(|(v, deployment)| (deployment.id.as_str(), v)).collect();
    let mut instances: Vec<Instance> =
        directory.instances_on(problem.cluster).map_err(|problems| problems.to_string())?;
    for instance in &mut instances {
        let id = &directory.plan.deployments[instance.deployment].id;
        instance.deployment = *by_id.get(id.as_str()).ok_or_else(|| format!("{id} is not offered any more"))?;
    }
    let requests = &problem.workload.requests;
    let mut index = RequestIndex::new(requests);
    let mut assignment = vec![u32::MAX; requests.len()];
    for (instance, row) in instances.iter_mut().zip(&directory.instances) {
        instance.start = start(row).unwrap_or(instance.start);
    }
    for (row, (name, instance)) in directory.assignments.iter().enumerate() {
        if start(&directory.instances[instance as usize]).is_none() {
            continue;
        }
        let request = index.find(name, row).ok_or_else(|| format!("request {name} is not in the workload"))?;
        assignment[request] = instance;
    }
    if let Some(missing) = assignment.iter().position(|&instance| instance == u32::MAX) {
        return Err(format!("it does not serve request {}", requests.ids.get(missing)));
    }
    // An instance without requests is not worth its start.
    let mut served = vec![false; instances.len()];
    assignment.iter().for_each(|&instance| served[instance as usize] = true);
    let mut renumbered = 0;
    let new: Vec<u32> = served
        .iter()
        .map(|&served| {
            renumbered += u32::from(served);
            renumbered.saturating_sub(1)
        })
        .collect();
    assignment.iter_mut().for_each(|instance| *instance = new[*instance as usize]);
    let mut keep = served.into_iter();
    instances.retain(|_| keep.next().unwrap_or(false));
    Ok(Schedule { instances, powered: Vec::new(), assignment })
}

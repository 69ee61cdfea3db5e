//! Which deployments a group of requests is allowed, lengths aside: models and pools named, accuracy known and high
//! enough, latency measured and low enough.

use std::collections::BTreeSet;

use super::OptionsInput;
use crate::domain::{Deployment, Group, Job};
use crate::units::Seconds;

/// Percent by (job, deployment).
pub(super) fn accuracy(input: &OptionsInput, deployments: &[Deployment]) -> Vec<Vec<Option<f64>>> {
    let of_job = |job: &Job| {
        let figure = |deployment: &Deployment| input.accuracy.get(&deployment.family.model, job.task.as_deref()?);
        deployments.iter().map(figure).collect()
    };
    input.workload.jobs.iter().map(of_job).collect()
}

pub(super) fn allowed(
    input: &OptionsInput,
    deployments: &[Deployment],
    accuracy: &[Vec<Option<f64>>],
    warnings: &mut BTreeSet<String>,
) -> Vec<Vec<bool>> {
    let mut of_group = |group: &Group| {
        let job = &input.workload.jobs[group.job];
        let test = |(deployment, percent): (&Deployment, &Option<f64>)| {
            named(input, job, group, deployment)
                && accurate(job, group, deployment, *percent, warnings)
                && quick(job, deployment, warnings)
        };
        deployments.iter().zip(&accuracy[group.job]).map(test).collect()
    };
    input.workload.groups.iter().map(&mut of_group).collect()
}

fn named(input: &OptionsInput, job: &Job, group: &Group, deployment: &Deployment) -> bool {
    let lists =
        |names: &Option<Vec<String>>, name: &str| names.as_ref().is_none_or(|names| names.iter().any(|n| n == name));
    lists(&job.models, &deployment.family.model)
        && lists(&group.pinned_models, &deployment.family.model)
        && lists(&job.pools, &input.cluster.pools[deployment.pool].name)
}

/// A floor needs a figure: without one the model is not offered to the job.
fn accurate(
    job: &Job,
    group: &Group,
    deployment: &Deployment,
    percent: Option<f64>,
    warnings: &mut BTreeSet<String>,
) -> bool {
    if job.floor.is_none() && group.own_floor.is_none() {
        return true;
    }
    let Some(percent) = percent else {
        let task = job.task.as_deref().unwrap_or("(no task named)");
        let model = &deployment.family.model;
        warnings.insert(format!("{model} is not offered to job {}: no accuracy figure for task {task}", job.name));
        return false;
    };
    group.own_floor.is_none_or(|floor| percent >= floor)
}

/// Limits compare with the measured 99th percentile; an unmeasured one is no promise.
fn quick(job: &Job, deployment: &Deployment, warnings: &mut BTreeSet<String>) -> bool {
    let mut holds = |limit: Option<Seconds>, measured: Option<Seconds>, name: &str| match (limit, measured) {
        (None, _) => true,
        (Some(limit), Some(measured)) => measured <= limit,
        (Some(_), None) => {
            let id = &deployment.id;
            warnings.insert(format!("{id} is not offered to job {}: its {name} was not measured", job.name));
            false
        }
    };
    holds(job.max_ttft, deployment.ttft_p99, "TTFT p99") && holds(job.max_tbt, deployment.tbt_p99, "TBT p99")
}

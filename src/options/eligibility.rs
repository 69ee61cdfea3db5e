//! Which deployments a group of requests is allowed, lengths aside: models and pools named, accuracy known and high
//! enough, latency measured and low enough.

use std::collections::BTreeSet;
use std::fmt;

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

/// Why a deployment may not serve the requests of a group, lengths and deadlines aside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refusal {
    /// The job names other models.
    Model,
    /// The job names other pools.
    Pool,
    /// The request's own model policy names other models.
    Pinned,
    /// There is a floor and no accuracy figure for the job's task.
    AccuracyUnknown,
    /// In percent.
    BelowFloor {
        accuracy: f64,
        floor: f64,
    },
    TtftUnmeasured,
    Ttft {
        measured: Seconds,
        limit: Seconds,
    },
    TbtUnmeasured,
    Tbt {
        measured: Seconds,
        limit: Seconds,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model => f.write_str("its job does not allow the model"),
            Self::Pool => f.write_str("its job does not allow the pool"),
            Self::Pinned => f.write_str("the model it names may not be served by this one"),
            Self::AccuracyUnknown => f.write_str("no accuracy figure for the task of its job"),
            Self::BelowFloor { accuracy, floor } => write!(f, "accuracy {accuracy} % is below its floor of {floor} %"),
            Self::TtftUnmeasured => f.write_str("its TTFT p99 was not measured"),
            Self::Ttft { measured, limit } => write!(f, "TTFT p99 of {measured} is above the limit of {limit}"),
            Self::TbtUnmeasured => f.write_str("its TBT p99 was not measured"),
            Self::Tbt { measured, limit } => write!(f, "TBT p99 of {measured} is above the limit of {limit}"),
        }
    }
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
            let refusal = refusal(job, group, deployment, &input.cluster.pools[deployment.pool].name, *percent);
            warnings.extend(refusal.and_then(|refusal| warning(refusal, job, deployment)));
            refusal.is_none()
        };
        deployments.iter().zip(&accuracy[group.job]).map(test).collect()
    };
    input.workload.groups.iter().map(&mut of_group).collect()
}

/// Why `deployment` (in the pool of that name, of accuracy `percent` in the job's task) may not serve `group`, if so.
pub fn refusal(job: &Job, group: &Group, deployment: &Deployment, pool: &str, percent: Option<f64>) -> Option<Refusal> {
    let lists =
        |names: &Option<Vec<String>>, name: &str| names.as_ref().is_none_or(|names| names.iter().any(|n| n == name));
    let model = &deployment.family.model;
    if !lists(&job.models, model) {
        return Some(Refusal::Model);
    }
    if !lists(&group.pinned_models, model) {
        return Some(Refusal::Pinned);
    }
    if !lists(&job.pools, pool) {
        return Some(Refusal::Pool);
    }
    inaccurate(job, group, percent).or_else(|| slow(job, deployment))
}

/// A floor needs a figure: without one the model is not offered to the job.
fn inaccurate(job: &Job, group: &Group, percent: Option<f64>) -> Option<Refusal> {
    if job.floor.is_none() && group.own_floor.is_none() {
        return None;
    }
    let Some(accuracy) = percent else { return Some(Refusal::AccuracyUnknown) };
    group.own_floor.filter(|floor| accuracy < *floor).map(|floor| Refusal::BelowFloor { accuracy, floor })
}

/// Limits compare with the measured 99th percentile; an unmeasured one is no promise.
fn slow(job: &Job, deployment: &Deployment) -> Option<Refusal> {
    let ttft = match (job.max_ttft, deployment.ttft_p99) {
        (Some(_), None) => Some(Refusal::TtftUnmeasured),
        (Some(limit), Some(measured)) if measured > limit => Some(Refusal::Ttft { measured, limit }),
        _ => None,
    };
    ttft.or(match (job.max_tbt, deployment.tbt_p99) {
        (Some(_), None) => Some(Refusal::TbtUnmeasured),
        (Some(limit), Some(measured)) if measured > limit => Some(Refusal::Tbt { measured, limit }),
        _ => None,
    })
}

/// What is missing, as against what is known and not good enough.
fn warning(refusal: Refusal, job: &Job, deployment: &Deployment) -> Option<String> {
    match refusal {
        Refusal::AccuracyUnknown => {
            let task = job.task.as_deref().unwrap_or("(no task named)");
            let model = &deployment.family.model;
            Some(format!("{model} is not offered to job {}: no accuracy figure for task {task}", job.name))
        }
        Refusal::TtftUnmeasured | Refusal::TbtUnmeasured => {
            let name = if refusal == Refusal::TtftUnmeasured { "TTFT p99" } else { "TBT p99" };
            Some(format!("{} is not offered to job {}: its {name} was not measured", deployment.id, job.name))
        }
        _ => None,
    }
}

//! Whether answers are as good as was asked for.

use super::facts::Facts;
use super::report::{Log, Rule};
use super::tolerance::{self, at_most, close};
use crate::domain::AccuracyRule;

/// Percent points by which a stated mean may be rounded.
const STATED: f64 = 1e-6;

/// Accuracy points of a job's requests, added up.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    requests: usize,
    percent: f64,
    missing: bool,
}

/// Rules `C-FLOOR` (the model that serves a request reaches the request's own floor), `C-MEAN-FLOOR` (the mean over all
/// requests of a job reaches its floor), `C-ACCURACY-MISSING` (where the job or the request has a floor, the model has a
/// figure for the job's task) and `C-JOB-ACCURACY` (the stated mean of a job, absent where a figure is).
///
/// Returns the mean accuracy of each job in percent, where it is known.
pub(super) fn check_accuracy(facts: &Facts, log: &mut Log) -> Vec<Option<f64>> {
    let workload = facts.input.workload;
    let mut sums = vec![Sum::default(); workload.jobs.len()];
    for (index, instance) in facts.instances.iter().enumerate() {
        let Some(deployment) = facts.deployment(index) else { continue };
        let model = deployment.family.model.as_str();
        for served in &instance.groups {
            let group = &workload.groups[served.group];
            let job = &workload.jobs[group.job];
            let percent = job.task.as_ref().and_then(|task| facts.input.accuracy.get(model, task));
            let sum = &mut sums[group.job];
            sum.requests += served.count;
            let count = served.count;
            let Some(percent) = percent else {
                sum.missing = true;
                if job.floor.is_some() || group.own_floor.is_some() {
                    let task = job.task.as_deref().unwrap_or("(none)");
                    let detail = format!("{model} has no accuracy for task {task}; {count} such on the instance");
                    log.add(Rule::AccuracyMissing, || (facts.name(served.example), detail));
                }
                continue;
            };
            sum.percent += percent * count as f64;
            if let Some(floor) = group.own_floor
                && !at_most(floor, percent, tolerance::ACCURACY)
            {
                let detail = format!(
                    "needs {floor} %, {model} reaches {percent} %; {count} such on {}",
                    facts.instance_name(index)
                );
                log.add(Rule::Floor, || (facts.name(served.example), detail));
            }
        }
    }

    let means: Vec<Option<f64>> =
        sums.iter().map(|sum| (sum.requests > 0 && !sum.missing).then(|| sum.percent / sum.requests as f64)).collect();
    for ((job, mean), row) in workload.jobs.iter().zip(&means).zip(&facts.claimed_jobs) {
        let mut broken = |rule, detail: String| log.add(rule, || (format!("job {}", job.name), detail));
        if let (Some(floor), Some(mean)) = (job.floor, mean)
            && floor.rule == AccuracyRule::Mean
            && !at_most(floor.percent, *mean, tolerance::ACCURACY)
        {
            broken(Rule::MeanFloor, format!("needs a mean of {} %, gets {mean} %", floor.percent));
        }
        let Some(row) = row else { continue };
        match (row.mean_accuracy, mean) {
            (Some(claimed), Some(mean)) if !close(claimed, *mean, STATED) => {
                broken(Rule::JobAccuracy, format!("mean_accuracy is {claimed} %, recomputed {mean} %"));
            }
            (Some(claimed), None) => {
                broken(Rule::JobAccuracy, format!("mean_accuracy is {claimed} %, but a figure it needs is unknown"));
            }
            (None, Some(mean)) => broken(Rule::JobAccuracy, format!("mean_accuracy is absent, recomputed {mean} %")),
            _ => {}
        }
    }
    means
}

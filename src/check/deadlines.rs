//! Whether everything is done in time, by the replayed list schedule of each instance.

use super::facts::Facts;
use super::report::{Log, Rule};
use super::tolerance::{at_most, close, seconds};
use crate::units::Seconds;

/// Recomputed finishes. `None`: no request of that job is served.
#[derive(Clone, Debug)]
pub(super) struct Finishes {
    pub(super) jobs: Vec<Option<Seconds>>,
    pub(super) makespan: Seconds,
}

/// Rules `C-DEADLINE` (every request finishes by its group's deadline), `C-END` (an instance ends with its last request,
/// or with its load if it has none), `C-RELEASE` (between a request's release and the claimed end its slot time fits:
/// the replay itself never starts one early), `C-JOB-FINISH` (a job finishes with its last request; not judged for a job
/// without any) and `C-MAKESPAN` (the plan ends with its last request).
pub(super) fn check_deadlines(facts: &Facts, log: &mut Log) -> Finishes {
    let plan = facts.input.plan;
    let mut jobs: Vec<Option<f64>> = vec![None; facts.input.workload.jobs.len()];
    let mut makespan = 0.0_f64;
    for (index, (claimed, instance)) in plan.instances.iter().zip(&facts.instances).enumerate() {
        let Some(rates) = instance.rates else { continue };
        let end = claimed.end.0;
        if !close(end, instance.end, seconds(instance.end)) {
            let detail = format!("end_s is {end} s, its list schedule ends at {} s", instance.end);
            log.add(Rule::End, || (facts.instance_name(index), detail));
        }
        for (request, finish) in facts.served(index) {
            let group = facts.group(request);
            let (deadline, release) = (group.deadline.0, group.release.0);
            makespan = makespan.max(finish);
            let job = &mut jobs[group.job];
            *job = Some(job.map_or(finish, |last| last.max(finish)));
            if !at_most(finish, deadline, seconds(deadline)) {
                log.add(Rule::Deadline, || {
                    let instance = facts.instance_name(index);
                    (facts.name(request), format!("finishes on {instance} at {finish} s, its deadline is {deadline} s"))
                });
            }
            if release > 0.0 {
                let (input, output) = facts.lengths(request);
                let earliest = release + rates.slot_seconds(input, output);
                if !at_most(earliest, end, seconds(end)) {
                    log.add(Rule::Release, || {
                        let instance = facts.instance_name(index);
                        let detail = format!(
                            "is released at {release} s and done at {earliest} s at the earliest, {instance} ends at {end} s"
                        );
                        (facts.name(request), detail)
                    });
                }
            }
        }
    }
    for ((job, last), row) in facts.input.workload.jobs.iter().zip(&jobs).zip(&facts.claimed_jobs) {
        if let (Some(row), Some(last)) = (row, *last)
            && !close(row.finish.0, last, seconds(last))
        {
            let detail = format!("finish_s is {}, its last request finishes at {last} s", row.finish);
            log.add(Rule::JobFinish, || (format!("job {}", job.name), detail));
        }
    }
    if !close(plan.makespan.0, makespan, seconds(makespan)) {
        let detail = format!("makespan_s is {}, the last request finishes at {makespan} s", plan.makespan);
        log.add(Rule::Makespan, || ("plan".to_owned(), detail));
    }
    Finishes { jobs: jobs.into_iter().map(|last| last.map(Seconds)).collect(), makespan: Seconds(makespan) }
}

//! Why there is no plan, in words: the jobs and requests concerned and the resource that is short, as far as known.

use std::collections::BTreeMap;

use super::explain::{alternatives, refusals};
use super::text::{count, plain, time};
use crate::plan::{Infeasibility, PlanProblem};

/// Jobs and requests named in full; the rest are counted.
const SHOWN: usize = 5;

pub fn words(problem: &PlanProblem, why: &Infeasibility) -> String {
    match why {
        Infeasibility::Unservable(requests) => unservable(problem, requests),
        Infeasibility::StandingPower { watts, cap, second } => format!(
            "nodes that never sleep draw {watts:.0} W, more than the power cap of {cap:.0} W that holds from second \
             {second:.0} on; raise the cap, or let nodes sleep (suspend = true)"
        ),
        Infeasibility::Certificate { missing_requests } => certificate(problem, *missing_requests),
    }
}

fn unservable(problem: &PlanProblem, requests: &[usize]) -> String {
    let workload = problem.workload;
    let mut by_job: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &request in requests {
        by_job.entry(workload.groups[workload.requests.group[request] as usize].job).or_default().push(request);
    }
    let mut lines =
        vec![format!("no deployment can serve {}, whatever the others do", count(requests.len() as u64, "request"))];
    if problem.deployments().is_empty() {
        lines.push("no model fits any pool of the cluster: do its devices occur in the models file?".to_owned());
    }
    for (job, requests) in by_job.iter().take(SHOWN) {
        let request = requests[0]; // a job is in the map for at least one request
        let (input, output) = problem.lengths(request);
        let reasons: Vec<String> = refusals(&alternatives(problem, request))
            .into_iter()
            .map(|(reason, number)| format!("{reason} ({})", count(number as u64, "deployment")))
            .collect();
        lines.push(format!(
            "job {}: {}, for example {} ({input} tokens in, {output} out): {}",
            plain(&workload.jobs[*job].name),
            count(requests.len() as u64, "request"),
            plain(&workload.requests.ids.get(request)),
            if reasons.is_empty() { "no deployment exists".to_owned() } else { reasons.join(", ") }
        ));
    }
    if by_job.len() > SHOWN {
        lines.push(format!("... and {} more jobs", by_job.len() - SHOWN));
    }
    lines.join("\n")
}

fn certificate(problem: &PlanProblem, missing: f64) -> String {
    let jobs = &problem.workload.jobs;
    let mut lines = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        let Some(floor) = job.floor.filter(|_| problem.floor_points[index].is_some()) else { continue };
        let best = best_accuracy(problem, index);
        if best.is_some_and(|best| best < floor.percent) {
            let best = best.unwrap_or(0.0);
            let name = plain(&job.name);
            lines.push(format!(
                "job {name} needs a mean accuracy of {} %, the best model it may use reaches {best} %",
                floor.percent
            ));
        }
    }
    if lines.is_empty() {
        let pools: Vec<String> = problem
            .cluster
            .pools
            .iter()
            .map(|pool| {
                let devices: usize = (0..pool.nodes.len()).map(|node| pool.free_devices(node).len()).sum();
                format!("{} ({devices} devices)", plain(&pool.name))
            })
            .collect();
        lines.push(format!(
            "it is proved that about {missing:.1} requests' worth of work or more has no room: device time is short in {}",
            pools.join(", ")
        ));
        let listed = jobs.iter().zip(&problem.requests_of_job).take(SHOWN).map(|(job, requests)| {
            let floor = job.floor.map_or(String::new(), |floor| format!(" at {} %", floor.percent));
            format!("{} ({requests} requests{floor}, due after {})", plain(&job.name), time(job.deadline.0))
        });
        let more = jobs.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        lines.push(format!("jobs: {}{more}", listed.collect::<Vec<_>>().join(", ")));
    }
    lines.push("give later deadlines, lower floors or more devices".to_owned());
    lines.join("\n")
}

/// Best accuracy among the deployments that any group of the job may use.
fn best_accuracy(problem: &PlanProblem, job: usize) -> Option<f64> {
    let groups = problem.workload.groups.iter().enumerate().filter(|(_, group)| group.job == job);
    let allowed = groups.flat_map(|(g, _)| {
        let figures = problem.options.allowed[g].iter().zip(&problem.options.accuracy[job]);
        figures.filter_map(|(allowed, percent)| percent.filter(|_| *allowed))
    });
    allowed.max_by(f64::total_cmp)
}

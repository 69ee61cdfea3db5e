//! Why there is no plan, in words: the jobs and requests concerned and the resource that is short, as far as known.

use std::collections::BTreeMap;

use super::explain::{alternatives, refusals};
use super::text::{count, plain, time};
use crate::plan::prices::Prices;
use crate::plan::solve::feasibility::{Causes, causes};
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
        Infeasibility::Certificate { left_out, prices, .. } => certificate(problem, *left_out, prices),
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

fn certificate(problem: &PlanProblem, left_out: u64, prices: &Prices) -> String {
    let jobs = &problem.workload.jobs;
    let unreachable: Vec<String> = jobs
        .iter()
        .enumerate()
        .filter_map(|(index, job)| {
            let floor = job.floor.filter(|_| problem.floor_points[index].is_some())?;
            let best = best_accuracy(problem, index).filter(|best| *best < floor.percent)?;
            Some(format!(
                "job {} needs a mean accuracy of {} %, the best model it may use reaches {best} %",
                plain(&job.name),
                floor.percent
            ))
        })
        .collect();
    if !unreachable.is_empty() {
        return unreachable.join("\n");
    }
    let Causes { jobs: concerned, pools, floors } = causes(problem, prices);
    let mut lines =
        vec![format!("it is proved that {} or more cannot be served with the others", count(left_out, "request"))];
    let short = pools.iter().map(|&(index, until)| {
        let pool = &problem.cluster.pools[index];
        let devices = pool.free_device_count();
        format!("{} ({}) until {}", plain(&pool.name), count(devices as u64, "device"), time(until))
    });
    if !pools.is_empty() {
        lines.push(format!("device time is short in {}", listed(short)));
    }
    let named = concerned.iter().map(|&(job, _)| {
        let floor = jobs[job].floor.filter(|_| floors.contains(&job));
        let floor = floor.map_or(String::new(), |floor| format!(" at {} %", floor.percent));
        let requests = problem.requests_of_job[job] as u64;
        let name = plain(&jobs[job].name);
        format!("{name} ({}{floor}, due after {})", count(requests, "request"), time(jobs[job].deadline.0))
    });
    lines.push(format!("for the jobs {}", listed(named)));
    lines.join("\n")
}

/// The first few, and how many more.
fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.take(SHOWN).collect::<Vec<_>>().join(", ") + &more
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

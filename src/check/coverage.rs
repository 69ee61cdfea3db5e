//! Whether the rows of the plan directory name each thing there is, once.

use std::collections::BTreeSet;

use super::claims::{AssignmentRow, UNKNOWN};
use super::facts::{Facts, nodes_by_name};
use super::report::{Log, Rule};

/// Rules `C-DROPPED` and `C-DOUBLED` (every request in exactly one row), `C-UNKNOWN` (no row names a request, instance,
/// deployment, pool, node or job that does not exist, no instance or job has two rows, every job has one) and `C-COUNT`
/// (requests per instance, job and plan, instances, nodes used).
pub(super) fn check_coverage(facts: &Facts, log: &mut Log) {
    check_rows(facts, log);
    check_names(facts, log);
    check_counts(facts, log);
}

fn check_rows(facts: &Facts, log: &mut Log) {
    let plan = facts.input.plan;
    let requests = &facts.input.workload.requests;
    let mut rows_of = vec![0u8; requests.len()];
    for (index, row) in plan.assignments.iter().enumerate() {
        match rows_of.get_mut(row.request as usize) {
            Some(rows) => *rows = rows.saturating_add(1),
            None => log.add(Rule::Unknown, || unknown_request(facts, index, row)),
        }
        if row.instance as usize >= plan.instances.len() {
            log.add(Rule::Unknown, || unknown_instance(facts, index, row));
        }
    }
    for (request, rows) in rows_of.into_iter().enumerate() {
        match rows {
            0 => log.add(Rule::Dropped, || (facts.name(request), "in no row of the assignments".to_owned())),
            1 => {}
            _ => log.add(Rule::Doubled, || {
                let more = if rows == u8::MAX { " or more" } else { "" };
                (facts.name(request), format!("in {rows}{more} rows of the assignments"))
            }),
        }
    }
}

fn unknown_request(facts: &Facts, index: usize, row: &AssignmentRow) -> (String, String) {
    let name = facts.input.plan.unknown.get(&index).and_then(|names| names.request.clone());
    (format!("assignment {}", index + 1), format!("request {} is not in the workload", named(name, row.request)))
}

fn unknown_instance(facts: &Facts, index: usize, row: &AssignmentRow) -> (String, String) {
    let name = facts.input.plan.unknown.get(&index).and_then(|names| names.instance.clone());
    (format!("assignment {}", index + 1), format!("instance {} is not in the plan", named(name, row.instance)))
}

fn named(name: Option<String>, index: u32) -> String {
    name.unwrap_or_else(|| if index == UNKNOWN { "without a name".to_owned() } else { format!("at index {index}") })
}

fn check_names(facts: &Facts, log: &mut Log) {
    let plan = facts.input.plan;
    let mut ids = BTreeSet::new();
    for (index, (claimed, instance)) in plan.instances.iter().zip(&facts.instances).enumerate() {
        let mut unknown = |what: String| log.add(Rule::Unknown, || (facts.instance_name(index), what));
        if !ids.insert(claimed.id.as_str()) {
            unknown("instance name occurs twice".to_owned());
        }
        if instance.deployment.is_none() {
            unknown(format!("deployment {} is not in the plan", claimed.deployment));
        }
        if instance.pool.is_none() {
            unknown(format!("pool {} is not in the cluster", claimed.pool));
        } else if instance.node.is_none() {
            unknown(format!("node {} is not in pool {}", claimed.node, claimed.pool));
        }
    }
    let nodes = nodes_by_name(&facts.input);
    for row in &plan.powered {
        if !nodes.contains_key(&(row.pool.as_str(), row.node.as_str())) {
            let detail = format!("no such node in pool {} of the cluster", row.pool);
            log.add(Rule::Unknown, || (format!("node {}", row.node), detail));
        }
    }
    let jobs: BTreeSet<&str> = facts.input.workload.jobs.iter().map(|job| job.name.as_str()).collect();
    let mut claimed = BTreeSet::new();
    for row in &plan.jobs {
        let mut unknown = |what: &str| log.add(Rule::Unknown, || (format!("job {}", row.job), what.to_owned()));
        if !jobs.contains(row.job.as_str()) {
            unknown("is not in the workload");
        }
        if !claimed.insert(row.job.as_str()) {
            unknown("has two rows");
        }
    }
    for job in jobs.difference(&claimed) {
        log.add(Rule::Unknown, || (format!("job {job}"), "has no row".to_owned()));
    }
}

fn check_counts(facts: &Facts, log: &mut Log) {
    let plan = facts.input.plan;
    let mut count = |subject: &dyn Fn() -> String, what: &str, claimed: u64, counted: usize| {
        if claimed != counted as u64 {
            log.add(Rule::Count, || (subject(), format!("claims {claimed} {what}, there are {counted}")));
        }
    };
    for (index, (claimed, instance)) in plan.instances.iter().zip(&facts.instances).enumerate() {
        count(&|| facts.instance_name(index), "requests", claimed.requests, instance.served.len());
    }
    for (index, job) in facts.input.workload.jobs.iter().enumerate() {
        if let Some(row) = facts.claimed_jobs[index] {
            count(&|| format!("job {}", job.name), "requests", row.requests, facts.job_requests[index]);
        }
    }
    let plan_name = || "plan".to_owned();
    count(&plan_name, "requests", plan.requests, facts.input.workload.requests.len());
    count(&plan_name, "instances", plan.instance_count, plan.instances.len());
    count(&plan_name, "nodes in use", plan.nodes_used, facts.nodes_used());
}

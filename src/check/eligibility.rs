//! Whether each request may run where it runs: models and pools allowed, and an option that the bound knew of.

use super::facts::Facts;
use super::report::{Log, Rule};
use super::tolerance::{at_most, seconds};
use crate::domain::Pool;

/// Rules `C-MODEL` and `C-POOL` (the job's lists), `C-PINNED` (the models that the request's own model policy allows)
/// and `C-WINDOW` (max(release, wake or held devices, then load) and a slot at the full batch fit before the deadline: the bound prices only
/// such options, so a plan that used another would not be covered by it).
///
/// Floors, latencies and memory, which also decide who may serve whom, have files of their own.
pub(super) fn check_eligibility(facts: &Facts, log: &mut Log) {
    for index in 0..facts.instances.len() {
        check_lists(facts, index, log);
        check_window(facts, index, log);
    }
}

fn check_lists(facts: &Facts, index: usize, log: &mut Log) {
    let Some(deployment) = facts.deployment(index) else { return };
    let model = &deployment.family.model;
    let pool = &facts.input.plan.instances[index].pool;
    for served in &facts.instances[index].groups {
        let (job, group) = (facts.job(served.example), facts.group(served.example));
        let lists = [
            (Rule::Model, "its job", &job.models, model),
            (Rule::Pool, "its job", &job.pools, pool),
            (Rule::Pinned, "its own model", &group.pinned_models, model),
        ];
        for (rule, who, allowed, name) in lists {
            let Some(allowed) = allowed else { continue };
            if !allowed.contains(name) {
                let (count, instance) = (served.count, facts.instance_name(index));
                let allowed = allowed.join(", ");
                let detail = format!("runs on {name}, {who} allows {allowed}; {count} such on {instance}");
                log.add(rule, || (facts.name(served.example), detail));
            }
        }
    }
}

fn check_window(facts: &Facts, index: usize, log: &mut Log) {
    let (Some(deployment), Some(pool)) = (facts.deployment(index), facts.pool(index)) else { return };
    let wake = if pool.suspend { pool.wake_time.0 } else { 0.0 };
    let ready = wake.max(first_free(pool, deployment.devices)) + deployment.load_time.0;
    for (request, _) in facts.served(index) {
        let group = facts.group(request);
        let (input, output) = facts.lengths(request);
        let earliest = group.release.0.max(ready) + deployment.rates.slot_seconds(input, output);
        let deadline = group.deadline.0;
        if !at_most(earliest, deadline, seconds(deadline)) {
            log.add(Rule::Window, || {
                let detail = format!(
                    "could finish on {} at {earliest} s at the earliest (full batch), its deadline is {deadline} s",
                    deployment.id
                );
                (facts.name(request), detail)
            });
        }
    }
}

/// When a node of the pool first has so many devices that nobody else holds; 0 where none ever has.
fn first_free(pool: &Pool, devices: u32) -> f64 {
    let mut first = f64::INFINITY;
    for node in (0..pool.nodes.len()).filter(|_| !pool.devices_held.is_empty()) {
        let in_use = pool.devices_busy.get(&node);
        let until = |device: u32| pool.devices_held.get(&(node, device)).map_or(0.0, |until| until.0);
        let others = (0..pool.devices_per_node).filter(|device| in_use.is_none_or(|in_use| !in_use.contains(device)));
        let mut free: Vec<f64> = others.map(until).collect();
        free.sort_by(f64::total_cmp);
        // The last of as many as are needed.
        first = first.min(free.get((devices as usize).saturating_sub(1)).copied().unwrap_or(f64::INFINITY));
    }
    if first.is_finite() { first } else { 0.0 }
}

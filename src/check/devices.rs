//! Whether every instance has devices of its own, on one node of the right pool, for as long as it runs.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;
use super::report::{Log, Rule};
use super::tolerance::{at_most, seconds};

/// Rules `C-DEVICE-POOL` (the deployment's pool), `C-DEVICE-COUNT` (as many devices as the family needs),
/// `C-DEVICE-INDEX` (they exist on the node, each once), `C-DEVICE-BUSY` (none in use by others), `C-DEVICE-HELD` (none
/// before others who hold it at the start are done), `C-DEVICE-OVERLAP` (none used by two instances at once, until the later of
/// claimed and replayed end) and `C-TIMES` (start and end finite, in order, start not before the plan).
///
/// That an instance stays on one node needs no rule: it names one node and indices on it.
pub(super) fn check_devices(facts: &Facts, log: &mut Log) {
    for index in 0..facts.instances.len() {
        check_place(facts, index, log);
        check_times(facts, index, log);
    }
    check_overlaps(facts, log);
}

fn check_place(facts: &Facts, index: usize, log: &mut Log) {
    let (claimed, instance) = (&facts.input.plan.instances[index], &facts.instances[index]);
    let mut broken = |rule, detail: String| log.add(rule, || (facts.instance_name(index), detail));
    if let Some(deployment) = facts.deployment(index) {
        if instance.pool.is_some_and(|pool| pool != deployment.pool) {
            let name = facts.input.cluster.pools.get(deployment.pool).map_or("none", |pool| pool.name.as_str());
            broken(Rule::DevicePool, format!("runs in pool {}, its deployment is for pool {name}", claimed.pool));
        }
        if claimed.device_indices.len() != deployment.devices as usize {
            let (has, needs) = (claimed.device_indices.len(), deployment.devices);
            broken(Rule::DeviceCount, format!("has {has} devices, its deployment needs {needs}"));
        }
    }
    let mut named = BTreeSet::new();
    for &device in &claimed.device_indices {
        if !named.insert(device) {
            broken(Rule::DeviceIndex, format!("device {device} is named twice"));
        }
        let Some(pool) = facts.pool(index) else { continue };
        if device >= pool.devices_per_node {
            let last = pool.devices_per_node;
            broken(Rule::DeviceIndex, format!("device {device} does not exist, {} has {last}", claimed.node));
        }
        let busy = instance.node.and_then(|node| pool.devices_busy.get(&node));
        if busy.is_some_and(|busy| busy.contains(&device)) {
            broken(Rule::DeviceBusy, format!("device {device} of {} is in use by others", claimed.node));
        }
        let held = instance.node.and_then(|node| pool.devices_held.get(&(node, device)));
        if let Some(until) = held
            && !at_most(until.0, claimed.start.0, seconds(until.0))
        {
            let (start, node) = (claimed.start, &claimed.node);
            broken(
                Rule::DeviceHeld,
                format!("starts at {start} on device {device} of {node}, which others hold until {until}"),
            );
        }
    }
}

fn check_times(facts: &Facts, index: usize, log: &mut Log) {
    let claimed = &facts.input.plan.instances[index];
    let (start, end) = (claimed.start.0, claimed.end.0);
    if !(start.is_finite() && end.is_finite() && start >= -seconds(0.0) && end >= start) {
        let detail = format!("runs from {start} s to {end} s; times are finite, from 0 s on and in order");
        log.add(Rule::Times, || (facts.instance_name(index), detail));
    }
}

/// Pool, node and device by index.
type Device = (usize, usize, u32);
/// Start and end in seconds, and the instance.
type Use = (f64, f64, usize);

fn check_overlaps(facts: &Facts, log: &mut Log) {
    let mut users: BTreeMap<Device, Vec<Use>> = BTreeMap::new();
    for (index, (claimed, instance)) in facts.input.plan.instances.iter().zip(&facts.instances).enumerate() {
        let Some((pool, node)) = instance.pool.zip(instance.node) else { continue };
        for device in BTreeSet::from_iter(claimed.device_indices.iter().copied()) {
            let interval = (claimed.start.0, facts.occupied_until(index), index);
            users.entry((pool, node, device)).or_default().push(interval);
        }
    }
    // A pair that shares several devices is one finding.
    let mut pairs: BTreeMap<(usize, usize), (u32, f64, f64)> = BTreeMap::new();
    for ((_, _, device), mut intervals) in users {
        intervals.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
        let mut latest: Option<(f64, usize)> = None;
        for (start, end, index) in intervals {
            if let Some((until, earlier)) = latest
                && start < until - seconds(until)
            {
                pairs.entry((earlier, index)).or_insert((device, start, until));
            }
            if latest.is_none_or(|(until, _)| end > until) {
                latest = Some((end, index));
            }
        }
    }
    for ((earlier, later), (device, start, until)) in pairs {
        log.add(Rule::DeviceOverlap, || {
            let node = &facts.input.plan.instances[later].node;
            let detail = format!(
                "starts at {start} s on device {device} of {node}, which {} holds until {until} s",
                facts.instance_name(earlier)
            );
            (facts.instance_name(later), detail)
        });
    }
}

//! Devices of an instance.

use jouleplan::check::Rule;
use jouleplan::units::Seconds;
use rand::prelude::*;

use super::{Mutation, R, alone, among, any_instance, pool_of};
use crate::common::Case;

pub const ALL: &[Mutation] = &[
    among("moved onto devices in use", move_onto_devices_in_use),
    among("started before its devices are free", start_too_early),
    among("moved onto a busy device", move_onto_busy_device),
    among("started on a device that others hold", start_on_held_device),
    alone("device index beyond the node", device_beyond_node),
    alone("device named twice", device_twice),
    among("wrong number of devices", wrong_device_count),
    among("moved into another pool", move_into_other_pool),
];

/// Two instances that run at once in a pool but on different devices come to share one.
fn move_onto_devices_in_use(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let instances = &case.plan.instances;
    let pairs = (0..instances.len()).flat_map(|a| (0..instances.len()).map(move |b| (a, b)));
    let (a, b) = pairs
        .filter(|&(a, b)| {
            let (a, b) = (&instances[a], &instances[b]);
            let at_once = a.end.0.min(b.end.0) - a.start.0.max(b.start.0) > 1.0;
            at_once
                && a.pool == b.pool
                && (a.node != b.node || a.device_indices.iter().all(|device| !b.device_indices.contains(device)))
        })
        .choose(rng)?;
    let (node, device) = (instances[a].node.clone(), instances[a].device_indices[0]);
    let moved = &mut case.plan.instances[b];
    moved.node = node;
    moved.device_indices[0] = device;
    case.restate();
    Some(Rule::DeviceOverlap)
}

fn start_too_early(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let instances = &case.plan.instances;
    let pairs = (0..instances.len()).flat_map(|a| (0..instances.len()).map(move |b| (a, b)));
    let (a, b) = pairs
        .filter(|&(a, b)| {
            let (a, b) = (&instances[a], &instances[b]);
            a.pool == b.pool
                && a.node == b.node
                && a.end <= b.start
                && a.end.0 - a.start.0 > 10.0
                && a.device_indices.iter().any(|device| b.device_indices.contains(device))
        })
        .choose(rng)?;
    let overlap = rng.random_range(1.0..9.0);
    case.plan.instances[b].start = case.plan.instances[a].end - Seconds(overlap);
    case.restate();
    Some(Rule::DeviceOverlap)
}

fn move_onto_busy_device(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let instance = any_instance(case, rng, |index| pool_of(case, index).is_some_and(|p| !p.devices_busy.is_empty()))?;
    let pool = pool_of(case, instance)?;
    let (node, busy) = pool.devices_busy.iter().choose(rng)?;
    let (node, device) = (pool.nodes.get(*node)?.clone(), *busy.choose(rng)?);
    let moved = &mut case.plan.instances[instance];
    moved.node = node;
    moved.device_indices[0] = device;
    case.restate();
    Some(Rule::DeviceBusy)
}

/// The start moves before the device is free, or the device is free later than was thought.
fn start_on_held_device(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let later = rng.random_bool(0.5);
    let held = |case: &Case, index: usize| -> Option<(usize, u32, f64)> {
        let (pool, instance) = (pool_of(case, index)?, &case.plan.instances[index]);
        let node = pool.nodes.iter().position(|node| *node == instance.node)?;
        let until = |device: &u32| pool.devices_held.get(&(node, *device)).map(|free| (node, *device, free.0));
        instance.device_indices.iter().find_map(until)
    };
    let instance = any_instance(case, rng, |index| held(case, index).is_some())?;
    let (node, device, until) = held(case, instance)?;
    if later {
        let name = case.plan.instances[instance].pool.clone();
        let pool = case.cluster.pools.iter_mut().find(|pool| pool.name == name)?;
        let start = case.plan.instances[instance].start;
        pool.devices_held.insert((node, device), start + Seconds(rng.random_range(0.1..50.0)));
    } else {
        case.plan.instances[instance].start = Seconds(until * rng.random_range(0.1..0.9));
        case.restate();
    }
    Some(Rule::DeviceHeld)
}

fn device_beyond_node(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let instance = any_instance(case, rng, |_| true)?;
    let beyond = pool_of(case, instance)?.devices_per_node + rng.random_range(0..3);
    case.plan.instances[instance].device_indices[0] = if rng.random_bool(0.1) { u32::MAX } else { beyond };
    Some(Rule::DeviceIndex)
}

fn device_twice(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let instance = any_instance(case, rng, |index| case.plan.instances[index].device_indices.len() > 1)?;
    let devices = &mut case.plan.instances[instance].device_indices;
    devices[1] = devices[0];
    Some(Rule::DeviceIndex)
}

fn wrong_device_count(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let instance = any_instance(case, rng, |_| true)?;
    let last = pool_of(case, instance)?.devices_per_node - 1;
    let devices = &mut case.plan.instances[instance].device_indices;
    if rng.random_bool(0.5) {
        devices.pop();
    } else {
        let next = (0..=last).find(|device| !devices.contains(device))?;
        devices.push(next);
    }
    Some(Rule::DeviceCount)
}

fn move_into_other_pool(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let instance = case.plan.instances.choose_mut(rng)?;
    let pool = case.cluster.pools.iter().filter(|pool| pool.name != instance.pool).choose(rng)?;
    instance.pool = pool.name.clone();
    instance.node = pool.nodes.choose(rng)?.clone();
    case.restate();
    Some(Rule::DevicePool)
}

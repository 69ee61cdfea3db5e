//! Nodes that sleep.

use jouleplan::check::{ClaimedPowered, Rule};
use jouleplan::units::{Joules, Seconds};
use rand::prelude::*;

use super::{Mutation, R, alone, among, any_instance, percent_off, pool_of, suspends};
use crate::common::Case;
use crate::common::restate::price;

pub const ALL: &[Mutation] = &[
    among("node never powered", never_powered),
    among("node still waking", start_while_waking),
    among("node off before the end", off_too_early),
    alone("node on after the end", off_too_late),
    among("moved onto a sleeping node", move_onto_sleeping_node),
    among("wake shortened", shorten_wake),
    among("powered for nothing", powered_for_nothing),
    among("intervals overlap", overlap_intervals),
    among("interval of a node that cannot sleep", interval_without_sleep),
    alone("idle joules of an interval altered", alter_interval_idle),
    alone("wake joules of an interval altered", alter_interval_wake),
    among("impossible times", impossible_times),
];

/// A powered interval with an instance that starts in it.
fn interval_and_first_guest(case: &Case, rng: &mut R) -> Option<(usize, usize)> {
    let row = (0..case.plan.powered.len()).choose(rng)?;
    let interval = &case.plan.powered[row];
    let guests = (0..case.plan.instances.len()).filter(|&index| {
        let instance = &case.plan.instances[index];
        instance.node == interval.node && instance.start >= interval.on && instance.start < interval.off
    });
    guests
        .min_by(|&a, &b| case.plan.instances[a].start.0.total_cmp(&case.plan.instances[b].start.0))
        .map(|guest| (row, guest))
}

fn never_powered(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let row = (0..case.plan.powered.len()).choose(rng)?;
    case.plan.powered.remove(row);
    case.restate_totals();
    Some(Rule::Asleep)
}

fn start_while_waking(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let (row, guest) = interval_and_first_guest(case, rng)?;
    let row = &case.plan.powered[row];
    case.plan.instances[guest].start = row.wake + (row.on - row.wake) * rng.random_range(0.1..0.9);
    case.restate();
    Some(Rule::Asleep)
}

fn off_too_early(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let row = case.plan.powered.choose_mut(rng)?;
    row.off = row.off - (row.off - row.on) * rng.random_range(0.05..0.5);
    price(row, &case.cluster);
    case.restate_totals();
    Some(if rng.random_bool(0.5) { Rule::Asleep } else { Rule::Off })
}

fn off_too_late(case: &mut Case, rng: &mut R) -> Option<Rule> {
    // The idle joules stay those of the real end: the time alone is wrong. A later interval might overlap, too.
    let row = case.plan.powered.choose_mut(rng)?;
    row.off += Seconds(0.3);
    let (node, off, wake) = (row.node.clone(), row.off, row.wake);
    let later = |row: &ClaimedPowered| row.node == node && row.wake > wake && row.wake < off;
    (!case.plan.powered.iter().any(later)).then_some(Rule::Off)
}

fn move_onto_sleeping_node(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let instance = any_instance(case, rng, |index| suspends(case, &case.plan.instances[index].pool))?;
    let asleep = |node: &&String| case.plan.powered.iter().all(|row| row.node != **node);
    let node = pool_of(case, instance)?.nodes.iter().filter(asleep).choose(rng)?.clone();
    case.plan.instances[instance].node = node;
    case.restate();
    Some(Rule::Asleep)
}

fn shorten_wake(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let row = case.plan.powered.choose_mut(rng)?;
    let by = (row.on - row.wake) * rng.random_range(0.1..0.9);
    if rng.random_bool(0.5) {
        row.on -= by
    } else {
        row.wake += by
    }
    case.restate();
    Some(Rule::Wake)
}

fn powered_for_nothing(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let pool = case.cluster.pools.iter().filter(|pool| pool.suspend).choose(rng)?;
    let node = pool.nodes.choose(rng)?.clone();
    let rows = case.plan.powered.iter().filter(|row| row.node == node);
    let wake = rows.map(|row| row.off.0).fold(0.0, f64::max) + 10.0;
    let on = Seconds(wake) + pool.wake_time;
    let (pool, wake, off) = (pool.name.clone(), Seconds(wake), on + Seconds(60.0));
    let mut row = ClaimedPowered { pool, node, wake, on, off, idle: Joules::ZERO, wake_energy: Joules::ZERO };
    price(&mut row, &case.cluster);
    case.plan.powered.push(row);
    case.restate_totals();
    Some(Rule::Off)
}

fn overlap_intervals(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let mut row = case.plan.powered.choose(rng)?.clone();
    let later = (row.off - row.on) * 0.5;
    row.wake += later;
    row.on += later;
    row.off += later;
    case.plan.powered.push(row);
    case.restate_totals();
    Some(Rule::PowerOverlap)
}

fn interval_without_sleep(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let instance = any_instance(case, rng, |index| !suspends(case, &case.plan.instances[index].pool))?;
    let guest = case.plan.instances[instance].clone();
    case.plan.powered.push(ClaimedPowered {
        pool: guest.pool,
        node: guest.node,
        wake: guest.start,
        on: guest.start,
        off: guest.end,
        idle: Joules::ZERO,
        wake_energy: Joules::ZERO,
    });
    Some(Rule::NoSleep)
}

fn alter_interval_idle(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let factor = percent_off(rng);
    let row = case.plan.powered.choose_mut(rng)?;
    row.idle = row.idle * factor;
    Some(Rule::IdleEnergy)
}

fn alter_interval_wake(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let factor = percent_off(rng);
    let row = case.plan.powered.choose_mut(rng)?;
    row.wake_energy = if row.wake_energy.0 > 1.0 { row.wake_energy * factor } else { Joules(50.0) };
    Some(Rule::WakeEnergy)
}

fn impossible_times(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let instance = case.plan.instances.choose_mut(rng)?;
    match rng.random_range(0..5) {
        0 => instance.start = Seconds(-5.0),
        1 => instance.start = Seconds(f64::NAN),
        2 => instance.end = Seconds(f64::NAN),
        3 => instance.end = Seconds(f64::INFINITY),
        _ => instance.end = instance.start - Seconds(1.0),
    }
    Some(Rule::Times)
}

//! Whether nodes that can sleep are on when they are needed, and billed for it.

use std::collections::BTreeMap;

use super::claims::ClaimedPowered;
use super::facts::{Facts, nodes_by_name};
use super::report::{Log, Rule};
use super::tolerance::{at_most, close, joules, joules_over, seconds};
use crate::domain::Pool;
use crate::units::Joules;

/// Recomputed joules of all powered intervals, and how far rounded times may move the idle part.
#[derive(Clone, Debug, Default)]
pub(super) struct PoweredTotals<'a> {
    pub(super) idle: Joules,
    pub(super) wake: Joules,
    pub(super) idle_slack: f64,
    /// Of nodes that can sleep, until the end of their last instance.
    pub(super) intervals: Vec<PoweredInterval<'a>>,
}

/// When a node of a pool that can sleep is powered.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoweredInterval<'a> {
    pub(super) pool: &'a Pool,
    pub(super) wake: f64,
    pub(super) on: f64,
    pub(super) off: f64,
}

/// Rules `C-ASLEEP` (instances lie within [on, off) of an interval), `C-WAKE` (on = wake + wake time, wake >= 0),
/// `C-OFF` (off = end of the interval's last instance, and there is one), `C-POWER-OVERLAP` (intervals of a node follow
/// each other), `C-NO-SLEEP` (no interval for a node that is always on), `C-IDLE-ENERGY` (standing power over wake to
/// off) and `C-WAKE-ENERGY` (wake energy less what standing power bills meanwhile, at least 0).
pub(super) fn check_power<'a>(facts: &Facts<'a>, log: &mut Log) -> PoweredTotals<'a> {
    let nodes = nodes_by_name(&facts.input);
    let mut by_node: BTreeMap<(usize, usize), Vec<&ClaimedPowered>> = BTreeMap::new();
    for row in &facts.input.plan.powered {
        // A node that does not exist is reported by `coverage`.
        if let Some(&node) = nodes.get(&(row.pool.as_str(), row.node.as_str())) {
            by_node.entry(node).or_default().push(row);
        }
    }
    let mut instances: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (index, instance) in facts.instances.iter().enumerate() {
        if let Some((pool, node)) = instance.pool.zip(instance.node)
            && facts.input.cluster.pools[pool].suspend
        {
            instances.entry((pool, node)).or_default().push(index);
            by_node.entry((pool, node)).or_default();
        }
    }
    let mut totals = PoweredTotals::default();
    for ((pool_index, node), mut rows) in by_node {
        let pool = &facts.input.cluster.pools[pool_index];
        rows.sort_by(|a, b| a.wake.0.total_cmp(&b.wake.0));
        if !pool.suspend {
            for row in rows {
                let detail = format!("pool {} cannot sleep, yet the node has a powered interval", pool.name);
                log.add(Rule::NoSleep, || (node_name(row), detail));
            }
            continue;
        }
        let guests = instances.get(&(pool_index, node)).map_or(&[][..], Vec::as_slice);
        let last_ends = check_guests(facts, &rows, guests, log);
        check_order(&rows, log);
        for (row, last_end) in rows.iter().zip(last_ends) {
            check_interval(pool, row, last_end, &mut totals, log);
        }
    }
    totals
}

fn node_name(row: &ClaimedPowered) -> String {
    format!("node {} of pool {}", row.node, row.pool)
}

/// Every instance against the last interval that begins before it; returns the last end in each interval.
fn check_guests(facts: &Facts, rows: &[&ClaimedPowered], guests: &[usize], log: &mut Log) -> Vec<Option<f64>> {
    let mut last_ends: Vec<Option<f64>> = vec![None; rows.len()];
    for &index in guests {
        let (start, end) = (facts.input.plan.instances[index].start.0, facts.occupied_until(index));
        let mut asleep = |detail: String| log.add(Rule::Asleep, || (facts.instance_name(index), detail));
        let Some(place) = rows.iter().rposition(|row| row.wake.0 <= start + seconds(start)) else {
            asleep(format!("starts at {start} s, when its node has not begun to wake"));
            continue;
        };
        let (on, off) = (rows[place].on.0, rows[place].off.0);
        if !at_most(on, start, seconds(on)) {
            asleep(format!("starts at {start} s, its node is on from {on} s"));
        }
        if !at_most(end, off, seconds(off)) {
            asleep(format!("runs until {end} s, its node is off from {off} s"));
        }
        last_ends[place] = Some(last_ends[place].map_or(end, |last: f64| last.max(end)));
    }
    last_ends
}

fn check_order(rows: &[&ClaimedPowered], log: &mut Log) {
    for pair in rows.windows(2) {
        let (off, wake) = (pair[0].off.0, pair[1].wake.0);
        if !at_most(off, wake, seconds(off)) {
            let detail = format!("wakes again at {wake} s, though powered until {off} s");
            log.add(Rule::PowerOverlap, || (node_name(pair[1]), detail));
        }
    }
}

fn check_interval<'a>(
    pool: &'a Pool,
    row: &ClaimedPowered,
    last_end: Option<f64>,
    totals: &mut PoweredTotals<'a>,
    log: &mut Log,
) {
    let mut broken = |rule, detail: String| log.add(rule, || (node_name(row), detail));
    let (wake, on, off) = (row.wake.0, row.on.0, row.off.0);
    totals.intervals.push(PoweredInterval { pool, wake, on, off: last_end.unwrap_or(off) });
    let woken = wake + pool.wake_time.0;
    if !(wake.is_finite() && wake >= -seconds(0.0) && close(on, woken, seconds(woken))) {
        broken(Rule::Wake, format!("wakes at {wake} s and is on at {on} s, waking takes {}", pool.wake_time));
    }
    match last_end {
        Some(end) if close(off, end, seconds(end)) => {}
        Some(end) => broken(Rule::Off, format!("is off at {off} s, its last instance ends at {end} s")),
        None => broken(Rule::Off, format!("is powered from {wake} s to {off} s without an instance")),
    }
    let Some(standing) = pool.standing_power() else {
        broken(Rule::IdleEnergy, "has no base_power_w, so its idle energy cannot be known".to_owned());
        return;
    };
    let idle = standing.0 * (last_end.unwrap_or(off) - wake);
    let slack = joules_over(idle, standing.0);
    if !close(row.idle.0, idle, slack) {
        let detail = format!("idle_j is {}, {standing} from wake to off make {idle} J", row.idle);
        broken(Rule::IdleEnergy, detail);
    }
    let wake_energy = (pool.wake_energy - standing * pool.wake_time).max(Joules::ZERO);
    if !close(row.wake_energy.0, wake_energy.0, joules(wake_energy.0)) {
        broken(Rule::WakeEnergy, format!("wake_j is {}, recomputed {wake_energy}", row.wake_energy));
    }
    totals.idle += Joules(idle);
    totals.wake += wake_energy;
    totals.idle_slack += slack;
}

//! Channels of a trace as devices and nodes of a cluster, and how fresh each is.

use std::collections::BTreeMap;

use super::{CurrentError, Place, Question, STALE_AFTER, Silence};
use crate::domain::{Channel, Cluster, DeviceKind, Reading, Scope, Timestamp};
use crate::forecast::{Kind, Recording};
use crate::units::Seconds;

/// Seconds of history that are looked at: as many as fit, within these.
const MOST_STEPS: usize = 10_000_000;
const HISTORY: (usize, usize) = (900, 21_600);

/// A channel of the cluster.
pub(super) struct Seen {
    /// For a node, its device 0.
    pub place: Place,
    pub recording: Recording,
    /// Of its last sample.
    pub age: Seconds,
    pub silence: Option<Silence>,
}

pub(super) struct Channels {
    pub devices: BTreeMap<Place, Seen>,
    /// By pool and node.
    pub nodes: BTreeMap<(usize, usize), Seen>,
    pub foreign: Vec<String>,
    /// Age of the last sample of all.
    pub youngest: Seconds,
}

impl Channels {
    pub fn new(question: &Question<'_>) -> Result<Self, CurrentError> {
        let Question { cluster, trace, now, .. } = *question;
        let by_name: BTreeMap<&str, (usize, usize)> = cluster
            .pools
            .iter()
            .enumerate()
            .flat_map(|(p, pool)| pool.nodes.iter().enumerate().map(move |(n, node)| (node.as_str(), (p, n))))
            .collect();
        let seconds = (MOST_STEPS / trace.channels.len().max(1)).clamp(HISTORY.0, HISTORY.1);
        let mut channels =
            Self { devices: BTreeMap::new(), nodes: BTreeMap::new(), foreign: Vec::new(), youngest: STALE_AFTER };
        let mut matched = 0;
        for (channel, readings) in &trace.channels {
            let Some((place, is_node)) = place(cluster, &by_name, channel) else {
                if !is_host_part(cluster, &by_name, channel) {
                    channels.foreign.push(channel.to_string());
                }
                continue;
            };
            matched += 1;
            let device = &cluster.pools[place.pool].device;
            let count = cluster.pools[place.pool].devices_per_node;
            let device = if is_node { format!("{count}x{device}") } else { device.clone() };
            let kind = Kind { scope: channel.scope, device: Some(device) };
            let Some(seen) = seen(channel, kind, place, readings, now, seconds) else { continue };
            if is_node {
                channels.nodes.insert((place.pool, place.node), seen);
            } else {
                channels.devices.insert(place, seen);
            }
        }
        let ages = channels.devices.values().chain(channels.nodes.values()).map(|seen| seen.age);
        match ages.min_by(|a, b| a.0.total_cmp(&b.0)) {
            Some(youngest) => Ok(Self { youngest, ..channels }),
            None if matched == 0 => Err(CurrentError::Foreign(some_of(&channels.foreign))),
            None => Err(CurrentError::Future),
        }
    }

    /// Devices of the cluster without a channel.
    pub fn unseen(&self, cluster: &Cluster) -> usize {
        let devices: usize = cluster.pools.iter().map(|pool| pool.nodes.len() * pool.devices_per_node as usize).sum();
        devices - self.devices.len()
    }
}

/// A few names, and that there are more.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = if names.len() > SHOWN { ", .." } else { "" };
    names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ") + more
}

/// What a channel is of, and whether that is a whole node.
fn place(cluster: &Cluster, by_name: &BTreeMap<&str, (usize, usize)>, channel: &Channel) -> Option<(Place, bool)> {
    let &(pool, node) = by_name.get(channel.node.as_deref()?)?;
    let of = &cluster.pools[pool];
    let device = match (channel.scope, of.kind) {
        (Scope::Node, _) => return Some((Place { pool, node, device: 0 }, true)),
        // A socket is a device there.
        (Scope::Package, DeviceKind::Cpu) | (Scope::Device, DeviceKind::Gpu) => channel.index?,
        _ => return None,
    };
    (device < of.devices_per_node).then_some((Place { pool, node, device }, false))
}

/// Sockets of a node whose devices are others: what they draw is the host's.
fn is_host_part(cluster: &Cluster, by_name: &BTreeMap<&str, (usize, usize)>, channel: &Channel) -> bool {
    let of = channel.node.as_deref().and_then(|node| by_name.get(node));
    channel.scope == Scope::Package && of.is_some_and(|(pool, _)| cluster.pools[*pool].kind == DeviceKind::Gpu)
}

/// `None` if it has no sample until now.
fn seen(
    channel: &Channel,
    kind: Kind,
    place: Place,
    readings: &[Reading],
    now: Timestamp,
    seconds: usize,
) -> Option<Seen> {
    let until = readings.partition_point(|reading| reading.at <= now);
    let from = readings.partition_point(|reading| now.since(reading.at).0 > seconds as f64);
    let known = readings.get(from.min(until)..until)?;
    let last = known.iter().rev().find(|reading| reading.power.is_some()).map(|reading| reading.at);
    // A channel that has been silent for longer than that still has its history.
    let (known, last) = match last {
        Some(last) => (known, last),
        None => {
            let last = readings[..until].iter().rposition(|reading| reading.power.is_some())?;
            let at = readings[last].at;
            let from = readings.partition_point(|reading| at.since(reading.at).0 > seconds as f64);
            (&readings[from..=last], at)
        }
    };
    let recording = Recording::new(channel.to_string(), String::new(), kind, known);
    let age = now.since(last);
    let silence = if age > STALE_AFTER {
        Some(Silence::Stale(age))
    } else {
        let latest = recording.latest();
        let is_whole = latest.is_some_and(|(end, _)| now.since(end) <= STALE_AFTER);
        (!is_whole).then_some(Silence::Gaps)
    };
    Some(Seen { place, recording, age, silence })
}

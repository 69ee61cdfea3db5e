//! Equal nodes as pools, and how a job asks Slurm for them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ordered_float::OrderedFloat;

use super::{Choice, LeftOut};
use crate::domain::{DeviceKind, DeviceType, Gres, SlurmNode};
use crate::formats::cluster_edit::PoolFacts;
use crate::formats::devices_toml;

/// Nodes whose memories differ by less are equal: what Slurm sees of it varies with the kernel.
const MEMORY_MARGIN: f64 = 1.1;

/// No node has more devices; a larger number is damage.
const MAX_DEVICES: u32 = 1_024;

/// What makes nodes equal, but for their memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    is_cpu: bool,
    device: String,
    gres_type: Option<String>,
    devices: u32,
    cpus: Option<u32>,
    partition: Option<String>,
    mps: bool,
}

/// The pools that `usable` nodes form; `all` are those of the cluster.
pub fn pools(
    usable: &[&SlurmNode],
    all: &[SlurmNode],
    table: &[DeviceType],
    choice: &Choice,
    left_out: &mut Vec<LeftOut>,
) -> Vec<PoolFacts> {
    let sizes = partition_sizes(all);
    let mut groups: BTreeMap<Alike, Vec<&SlurmNode>> = BTreeMap::new();
    for node in usable {
        let device = device(node, table, choice, left_out);
        let wanted = |name: &str| node.gres.iter().any(|gres| gres.name == name && gres.count > 0);
        let alike = Alike {
            is_cpu: device.is_cpu,
            device: device.name,
            gres_type: device.gres_type,
            devices: device.count,
            cpus: node.cpus,
            partition: partition(node, &sizes, choice),
            mps: wanted("mps") || wanted("shard"),
        };
        groups.entry(alike).or_default().push(node);
    }
    let mut pools = Vec::new();
    for (alike, nodes) in groups {
        for nodes in by_memory(nodes) {
            pools.push(pool(&alike, &nodes, usable, table));
        }
    }
    pools
}

struct Device {
    is_cpu: bool,
    name: String,
    gres_type: Option<String>,
    count: u32,
}

/// What a node computes with. Without a GPU, its sockets.
fn device(node: &SlurmNode, table: &[DeviceType], choice: &Choice, left_out: &mut Vec<LeftOut>) -> Device {
    let mut gpus: Vec<&Gres> = node.gres.iter().filter(|gres| gres.name == "gpu" && gres.count > 0).collect();
    if gpus.is_empty() {
        let known = named(&node.features, choice, table, DeviceKind::Cpu);
        let name = known.unwrap_or_else(|| node.features.first().cloned().unwrap_or_else(|| "cpu".to_owned()));
        return Device { is_cpu: true, name, gres_type: None, count: node.sockets.unwrap_or(1).clamp(1, MAX_DEVICES) };
    }
    let name_of = |gres: &Gres| -> String {
        let words: Vec<String> = match &gres.kind {
            Some(kind) => vec![kind.clone()],
            None => [&["gpu".to_owned()][..], &node.features].concat(),
        };
        named(&words, choice, table, DeviceKind::Gpu).unwrap_or_else(|| words[0].clone())
    };
    // The mightiest: known ones by what they compute together, then slices by their memory together and each, then by number.
    let might = |gres: &Gres| {
        let known = devices_toml::resolve(table, &name_of(gres));
        let (count, slice) = (gres.count as f64, slice_gib(gres).unwrap_or(0.0));
        [known.map_or(0.0, |device| device.peak_flops_16bit * count), slice * count, slice, count].map(OrderedFloat)
    };
    gpus.sort_by_key(|gres| Reverse(might(gres)));
    for other in &gpus[1..] {
        let part = format!("{} of gpu:{}", other.count, other.kind.as_deref().unwrap_or("(no type)"));
        let reason = format!("a host belongs to one pool, here that of its {}", name_of(gpus[0]));
        left_out.push(LeftOut { node: node.name.clone(), part: Some(part), reason });
    }
    let count = u32::try_from(gpus[0].count).unwrap_or(MAX_DEVICES).min(MAX_DEVICES);
    Device { is_cpu: false, name: name_of(gpus[0]), gres_type: gpus[0].kind.clone(), count }
}

/// The device that the user or the device table knows by one of the words.
fn named(words: &[String], choice: &Choice, table: &[DeviceType], kind: DeviceKind) -> Option<String> {
    let chosen = words.iter().find_map(|word| choice.devices.get(word).cloned());
    let known = |word: &String| devices_toml::resolve(table, word).filter(|device| device.kind == kind);
    chosen.or_else(|| words.iter().find_map(known).map(|device| device.name.clone()))
}

/// GiB of a slice of a GPU, whose type says it: `a100_3g.20gb`.
fn slice_gib(gres: &Gres) -> Option<f64> {
    let kind = gres.kind.as_deref()?.to_ascii_lowercase();
    let (slices, memory) = kind.rsplit_once('.')?;
    let is_slice = slices.ends_with('g') && slices.trim_end_matches('g').ends_with(|c: char| c.is_ascii_digit());
    memory.strip_suffix("gb")?.parse().ok().filter(|_| is_slice)
}

fn partition_sizes(nodes: &[SlurmNode]) -> BTreeMap<&str, usize> {
    let mut sizes = BTreeMap::new();
    for partition in nodes.iter().flat_map(|node| &node.partitions) {
        *sizes.entry(partition.as_str()).or_insert(0) += 1;
    }
    sizes
}

/// The partition asked for, else the one with the fewest nodes: that which is meant for nodes like this.
fn partition(node: &SlurmNode, sizes: &BTreeMap<&str, usize>, choice: &Choice) -> Option<String> {
    let smallest = node.partitions.iter().min_by_key(|name| (sizes.get(name.as_str()), (*name).clone()));
    choice.partition.clone().or_else(|| smallest.cloned())
}

fn by_memory(mut nodes: Vec<&SlurmNode>) -> Vec<Vec<&SlurmNode>> {
    nodes.sort_by_key(|node| node.memory_mib);
    let mut groups: Vec<Vec<&SlurmNode>> = Vec::new();
    for node in nodes {
        let fits = |group: &Vec<&SlurmNode>| match (group[0].memory_mib, node.memory_mib) {
            (Some(least), Some(memory)) => memory as f64 <= least as f64 * MEMORY_MARGIN,
            (least, memory) => least == memory,
        };
        match groups.last_mut().filter(|group| fits(group)) {
            Some(group) => group.push(node),
            None => groups.push(vec![node]),
        }
    }
    groups
}

fn pool(alike: &Alike, nodes: &[&SlurmNode], usable: &[&SlurmNode], table: &[DeviceType]) -> PoolFacts {
    let mut names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    names.sort_by_cached_key(|name| (name.len(), name.clone()));
    let known = devices_toml::resolve(table, &alike.device);
    let gres_type = alike.gres_type.as_ref();
    let slice = gres_type.map(|kind| Gres { name: "gpu".into(), kind: Some(kind.clone()), count: 1, indices: None });
    // What a job may use; sockets share it, and a hundredth of a GiB is nobody's concern.
    let memory = nodes[0].memory_mib.map(|mib| (mib as f64 / 1024.0 * 10.0).floor() / 10.0);
    PoolFacts {
        name: pool_name(&alike.device),
        device: alike.device.clone(),
        kind: if alike.is_cpu { DeviceKind::Cpu } else { DeviceKind::Gpu },
        devices_per_node: alike.devices,
        devices_busy: BTreeMap::new(),
        device_memory_gib: slice.as_ref().and_then(slice_gib),
        host_memory_gib: memory.filter(|memory| *memory > 0.0),
        cpus_per_device: alike.cpus.map(|cpus| cpus / alike.devices.max(1)).filter(|cpus| *cpus > 0),
        partition: alike.partition.clone(),
        gres: (!alike.is_cpu).then(|| gres_type.map_or_else(|| "gpu".to_owned(), |kind| format!("gpu:{kind}"))),
        constraint: constraint(alike, &names, nodes, usable),
        mps: alike.mps,
        known: known.is_some(),
        nodes: names,
    }
}

fn pool_name(device: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c.to_ascii_lowercase() } else { '-' };
    device.chars().map(plain).collect()
}

/// A feature that tells these nodes from others which a job for them could get instead; `None` where there is no need or
/// no such feature.
fn constraint(alike: &Alike, names: &[String], nodes: &[&SlurmNode], usable: &[&SlurmNode]) -> Option<String> {
    let has_type = |node: &SlurmNode| {
        node.gres.iter().any(|gres| gres.name == "gpu" && (alike.gres_type.is_none() || gres.kind == alike.gres_type))
    };
    let rivals: Vec<&&SlurmNode> = usable
        .iter()
        .filter(|node| alike.partition.as_ref().is_none_or(|partition| node.partitions.contains(partition)))
        .filter(|node| !names.contains(&node.name) && (alike.is_cpu || has_type(node)))
        .collect();
    if rivals.is_empty() {
        return None;
    }
    let theirs: BTreeSet<&String> = rivals.iter().flat_map(|node| &node.features).collect();
    let ours = nodes[0].features.iter();
    ours.filter(|feature| nodes.iter().all(|node| node.features.contains(feature)))
        .find(|feature| !theirs.contains(feature))
        .cloned()
}

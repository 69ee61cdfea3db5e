//! A cluster from Slurm: which nodes there are, which of them a plan may use, and what is free of those until when.
//!
//! Nodes that are drained, down or reserved are left out with the reason. Equal nodes become a pool. A host belongs to one
//! pool, so of a node with several types of GPU the mightiest counts and the others are named as left out. What devices
//! draw is nothing Slurm knows: the device table or the cluster file's owner says it.

mod pools;
mod usage;

use std::collections::{BTreeMap, BTreeSet};

use super::tools::{self, ToolError};
use crate::domain::{DeviceType, SlurmJob, SlurmNode};
use crate::formats::cluster_edit::PoolFacts;

pub use usage::{Busy, NodeUse};

/// What the user says about how to see a cluster.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Only nodes of this partition.
    pub partition: Option<String>,
    /// The device's name in the device table, by GRES type or feature of the node.
    pub devices: BTreeMap<String, String>,
}

/// A cluster as found.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    pub pools: Vec<PoolFacts>,
    pub left_out: Vec<LeftOut>,
    /// Of each usable node.
    pub usage: Vec<NodeUse>,
    pub totals: Totals,
}

/// A node, or a part of one, that no pool has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub node: String,
    /// Absent: the whole node.
    pub part: Option<String>,
    pub reason: String,
}

/// Everything that Slurm named, usable or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub nodes: usize,
    pub usable_nodes: usize,
    pub cpus: u64,
    pub memory_mib: u64,
    /// Of generic resources, by `name` or `name:type`.
    pub gres: BTreeMap<String, u64>,
    /// Nodes in each state.
    pub states: BTreeMap<String, usize>,
}

/// What a plan may use of `nodes`. `jobs` tell what is in use.
pub fn inventory(nodes: &[SlurmNode], jobs: &[SlurmJob], table: &[DeviceType], choice: &Choice) -> Inventory {
    let mut left_out = Vec::new();
    let mut usable = Vec::new();
    for node in nodes {
        match why_not(node, choice) {
            Some(reason) => left_out.push(LeftOut { node: node.name.clone(), part: None, reason }),
            None => usable.push(node),
        }
    }
    let usable_nodes = usable.len();
    let mut pools = pools::pools(&usable, nodes, table, choice, &mut left_out);
    let usage = usage::usage(&mut pools, &usable, jobs);
    Inventory { pools, left_out, usage, totals: Totals { usable_nodes, ..totals(nodes) } }
}

/// States in which Slurm gives no node to a new job, and what to call them.
const UNUSABLE: [(&str, &str); 16] = [
    ("DOWN", "down"),
    ("DRAIN", "drained"),
    ("DRAINED", "drained"),
    ("DRAINING", "draining"),
    ("FAIL", "failing"),
    ("FAILING", "failing"),
    ("ERROR", "in error"),
    ("NOT_RESPONDING", "not responding"),
    ("MAINT", "in maintenance"),
    ("MAINTENANCE", "in maintenance"),
    ("RESERVED", "reserved"),
    ("REBOOT_ISSUED", "rebooting"),
    ("REBOOT_REQUESTED", "about to reboot"),
    ("FUTURE", "not there yet"),
    ("UNKNOWN", "in an unknown state"),
    ("INVALID_REG", "registered with less than its configuration says"),
];

/// Whether a node in these states takes no new job.
pub fn is_unusable(states: &BTreeSet<String>) -> bool {
    UNUSABLE.iter().any(|(state, _)| states.contains(*state))
}

fn why_not(node: &SlurmNode, choice: &Choice) -> Option<String> {
    let found: Vec<&str> = UNUSABLE.iter().filter(|(state, _)| node.is(state)).map(|(_, words)| *words).collect();
    let reason = node.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    if !found.is_empty() {
        let reserved = node.reservation.as_ref().map(|name| format!(" (reservation {name})")).unwrap_or_default();
        return Some(format!("{}{reserved}{reason}", found.join(", ")));
    }
    if node.states.is_empty() {
        return Some(format!("its state is not said{reason}"));
    }
    if let Some(reservation) = &node.reservation {
        return Some(format!("reserved (reservation {reservation})"));
    }
    let partition = choice.partition.as_ref()?;
    (!node.partitions.contains(partition)).then(|| format!("not in partition {partition}"))
}

fn totals(nodes: &[SlurmNode]) -> Totals {
    let mut totals = Totals { nodes: nodes.len(), ..Totals::default() };
    for node in nodes {
        totals.cpus += u64::from(node.cpus.unwrap_or(0));
        totals.memory_mib = totals.memory_mib.saturating_add(node.memory_mib.unwrap_or(0));
        for gres in &node.gres {
            let name = gres.kind.as_ref().map_or_else(|| gres.name.clone(), |kind| format!("{}:{kind}", gres.name));
            let count = totals.gres.entry(name).or_insert(0_u64);
            *count = count.saturating_add(gres.count);
        }
        for state in &node.states {
            *totals.states.entry(state.clone()).or_insert(0) += 1;
        }
    }
    totals
}

/// The text of all nodes, by whichever of Slurm's tools can tell; and of all jobs, where squeue can.
///
/// # Errors
/// The last tool's, if none can.
pub fn ask() -> Result<(String, Option<String>), ToolError> {
    let json = tools::run("squeue", &["--json"]).ok().map(|said| said.stdout);
    let seconds = [("SLURM_TIME_FORMAT", "%s")];
    let text = || tools::run_with("scontrol", &["-d", "-o", "show", "job"], &seconds, "").ok().map(|said| said.stdout);
    let jobs = json.filter(|text| text.trim_start().starts_with('{')).or_else(text);
    // From 23.02 on the first tells single nodes and the second groups of them; before, the first does not exist.
    for (program, arguments) in [("scontrol", &["show", "nodes", "--json"][..]), ("sinfo", &["--json"])] {
        if let Ok(said) = tools::run(program, arguments)
            && said.stdout.trim_start().starts_with('{')
        {
            return Ok((said.stdout, jobs));
        }
    }
    // Without a JSON plugin.
    Ok((tools::run("scontrol", &["-d", "-o", "show", "node"])?.stdout, jobs))
}

#[cfg(test)]
mod tests;

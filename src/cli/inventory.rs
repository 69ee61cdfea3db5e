//! `inventory`: a cluster file from what Slurm says, beside what its owner wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::output::Output;
use crate::formats::text::{read_text, whole_text};
use crate::formats::{Problems, cluster_edit, devices_toml, slurm_jobs, slurm_nodes};
use crate::report::text::{Table, plain};
use crate::slurm::inventory::{self, Choice, Inventory, NodeUse};

/// Describe a cluster by what its scheduler knows
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Slurm(Slurm),
}

/// Write or update a cluster file from Slurm
///
/// Figures that people wrote into the file stay: power, clocks, wakes, names. Nodes that are drained, down or reserved are
/// left out, and devices that jobs hold are noted as busy.
#[derive(Debug, clap::Args)]
struct Slurm {
    /// Cluster file; an existing one is updated
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// What sinfo --json, scontrol show node or slurmrestd printed, instead of asking; `-` is stdin
    #[arg(long, value_name = "FILE")]
    nodes: Option<PathBuf>,
    /// What squeue --json or scontrol -d show job printed, instead of asking
    #[arg(long, value_name = "FILE")]
    jobs: Option<PathBuf>,
    /// Only nodes of this partition
    #[arg(long)]
    partition: Option<String>,
    /// What a GRES type or a node's feature is called in the device table
    #[arg(long = "device", value_name = "TYPE=NAME", value_parser = pair)]
    devices: Vec<(String, String)>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(kind, name)| !kind.is_empty() && !name.is_empty());
    pair.map(|(kind, name)| (kind.to_owned(), name.to_owned())).ok_or_else(|| "not TYPE=NAME".to_owned())
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let Action::Slurm(arguments) = &arguments.action;
    let (nodes, jobs) = texts(arguments)?;
    let named = |path: &Option<PathBuf>, program: &str| path.clone().unwrap_or_else(|| PathBuf::from(program));
    let nodes = slurm_nodes::parse(&nodes, &named(&arguments.nodes, "sinfo"))?;
    let jobs = match &jobs {
        Some(text) => slurm_jobs::parse(text, &named(&arguments.jobs, "squeue"))?,
        None => Vec::new(),
    };
    let table = devices_toml::builtin();
    let choice =
        Choice { partition: arguments.partition.clone(), devices: arguments.devices.iter().cloned().collect() };
    let found = inventory::inventory(&nodes, &jobs, &table, &choice);
    if let Some(path) = &arguments.out {
        let existing = match path.exists() && path != Path::new("-") {
            true => Some(read_text(path)?),
            false => None,
        };
        let out_of_service: BTreeSet<String> =
            found.left_out.iter().filter(|out| out.part.is_none()).map(|out| out.node.clone()).collect();
        let text = cluster_edit::merge(existing.as_deref(), path, &found.pools, &out_of_service)?;
        output.file(path, text.as_bytes())?;
        if path == Path::new("-") {
            output.note(&table_of(&found));
            return Ok(());
        }
        output.note(&format!("{} written: {} pools", path.display(), found.pools.len()));
    }
    if arguments.json {
        return Ok(output.json(&to_json(&found))?);
    }
    Ok(output.data(table_of(&found).as_bytes())?)
}

/// What Slurm says of its nodes and jobs, from files or from its tools.
fn texts(arguments: &Slurm) -> anyhow::Result<(String, Option<String>)> {
    let read = |path: &Path| -> Result<String, Problems> {
        if path == Path::new("-") { whole_text(path, std::io::stdin()) } else { read_text(path) }
    };
    let jobs = arguments.jobs.as_deref().map(read).transpose()?;
    match &arguments.nodes {
        Some(path) => Ok((read(path)?, jobs)),
        None => {
            let (nodes, asked) = inventory::ask()?;
            Ok((nodes, jobs.or(asked)))
        }
    }
}

fn table_of(found: &Inventory) -> String {
    let mut table =
        Table::new(&["pool", "device", ">nodes", ">devices", ">free now", "first is free until", "last is busy until"]);
    for pool in &found.pools {
        let here: Vec<&NodeUse> = found.usage.iter().filter(|usage| pool.nodes.contains(&usage.node)).collect();
        let devices = pool.nodes.len() as u64 * u64::from(pool.devices_per_node);
        let busy: u64 = here.iter().map(|usage| usage.busy.len() as u64).sum();
        let claimed = here.iter().filter_map(|usage| usage.free_until).min();
        let ends = here.iter().flat_map(|usage| &usage.busy).filter_map(|busy| busy.until).max();
        table.row([
            plain(&pool.name),
            plain(&pool.device),
            pool.nodes.len().to_string(),
            devices.to_string(),
            devices.saturating_sub(busy).to_string(),
            claimed.map(instant).unwrap_or_default(),
            ends.map(instant).unwrap_or_default(),
        ]);
    }
    let mut text = table.render(0);
    for out in &found.left_out {
        let part = out.part.as_ref().map(|part| format!(", {part}")).unwrap_or_default();
        text.push_str(&format!("left out: {}: {}\n", plain(&format!("{}{part}", out.node)), plain(&out.reason)));
    }
    text
}

fn instant(seconds: u64) -> String {
    // The last second that can be written: a limit beyond it is none.
    const YEAR_9999: u64 = 253_402_300_799;
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.min(YEAR_9999));
    humantime::format_rfc3339_seconds(time).to_string()
}

fn to_json(found: &Inventory) -> Value {
    let pools: Vec<Value> = found
        .pools
        .iter()
        .map(|pool| {
            without_absent(json!({
                "name": pool.name, "device": pool.device, "nodes": pool.nodes,
                "devices_per_node": pool.devices_per_node, "in_device_table": pool.known,
                "host_memory_gib": pool.host_memory_gib, "cpus_per_device": pool.cpus_per_device,
                "partition": pool.partition, "gres": pool.gres, "constraint": pool.constraint, "mps": pool.mps,
            }))
        })
        .collect();
    let usage: Vec<Value> = found
        .usage
        .iter()
        .map(|usage| {
            let busy = usage.busy.iter().map(|busy| {
                without_absent(json!({"device": busy.index, "job": busy.job, "until": busy.until.map(instant)}))
            });
            let busy: Vec<Value> = busy.collect();
            without_absent(json!({
                "node": usage.node, "pool": usage.pool, "devices": usage.devices,
                "free_devices": usage.devices as usize - busy.len(), "busy": busy,
                "free_until": usage.free_until.map(instant),
            }))
        })
        .collect();
    let left_out: Vec<Value> = found
        .left_out
        .iter()
        .map(|out| without_absent(json!({"node": out.node, "part": out.part, "reason": out.reason})))
        .collect();
    let totals = &found.totals;
    let gres: BTreeMap<&String, &u64> = totals.gres.iter().collect();
    json!({
        "schema_version": 1,
        "pools": pools,
        "nodes": usage,
        "left_out": left_out,
        "totals": {
            "nodes": totals.nodes, "usable_nodes": totals.usable_nodes, "cpus": totals.cpus,
            "memory_mib": totals.memory_mib, "gres": gres, "states": totals.states,
        },
    })
}

fn without_absent(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
    value
}

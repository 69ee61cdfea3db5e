//! A cluster file brought up to date with what an inventory found, without losing what was written by hand.
//!
//! Slurm knows nodes, device counts, memory and what is in use; those keys are set anew. Power figures, clocks, wakes and
//! whatever else stands in the file stay as they are, comments included; what Slurm can only suggest (partition, gres,
//! constraint, the device's name) is written where nothing stands yet. A pool whose device has no known figures would make
//! the file unreadable, so it is appended as a comment with what to add.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value, value};

use super::hostlist;
use super::problems::{Collector, Problems};
use crate::domain::DeviceKind;

/// Identical nodes, as found.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolFacts {
    pub name: String,
    pub nodes: Vec<String>,
    pub device: String,
    pub kind: DeviceKind,
    pub devices_per_node: u32,
    /// Device indices that jobs hold, by node.
    pub devices_busy: BTreeMap<String, Vec<u32>>,
    /// Where the name of the device says it (slices of a GPU).
    pub device_memory_gib: Option<f64>,
    pub host_memory_gib: Option<f64>,
    pub cpus_per_device: Option<u32>,
    pub partition: Option<String>,
    pub gres: Option<String>,
    pub constraint: Option<String>,
    pub mps: bool,
    /// Whether the device table has its figures.
    pub known: bool,
}

/// Keys that only people know, copied where nodes of one pool are found to be two.
const BY_HAND: [&str; 11] = [
    "device_kind",
    "device_memory_gib",
    "idle_power_w",
    "base_power_w",
    "suspend",
    "wake_s",
    "wake_j",
    "clock_control",
    "storage_gbps",
    "account",
    "qos",
];

const HEAD: &str = "# From Slurm. Figures of power are not Slurm's to know: where idle_power_w is absent the device table's is taken and\n\
                    # marked estimated; base_power_w (the node without its devices) is yours to add. Both survive the next inventory.\n\n";

/// The text of a cluster file with `pools`, based on `existing`. `out_of_service`: nodes that Slurm knows and will not give.
///
/// # Errors
/// An existing file that is no TOML, or whose pools are not tables with `nodes`.
pub fn merge(
    existing: Option<&str>,
    path: &Path,
    pools: &[PoolFacts],
    out_of_service: &BTreeSet<String>,
) -> Result<String, Problems> {
    let mut problems = Collector::new(path);
    let mut document = match existing.unwrap_or_default().parse::<DocumentMut>() {
        Ok(document) => document,
        Err(error) => {
            problems.add("", error.message(), "correct the TOML syntax, or name a new file");
            return problems.fail();
        }
    };
    let old = match document.remove("pool") {
        None => ArrayOfTables::new(),
        Some(Item::ArrayOfTables(tables)) => tables,
        Some(_) => {
            problems.add("pool", "pools are not `[[pool]]` tables", "write each as a `[[pool]]` table");
            return problems.fail();
        }
    };
    let mut old: Vec<Known> = old.into_iter().map(Known::new).collect();
    let (mut tables, mut remarks) = (Vec::new(), String::new());
    for facts in pools {
        let found: BTreeSet<&str> = facts.nodes.iter().map(String::as_str).collect();
        let overlap = |known: &Known| known.nodes.iter().filter(|node| found.contains(node.as_str())).count();
        let best = (0..old.len()).max_by_key(|&at| (overlap(&old[at]), std::cmp::Reverse(at)));
        let best = best.filter(|&at| overlap(&old[at]) > 0).or_else(|| {
            old.iter().position(|known| known.table.get("name").and_then(Item::as_str) == Some(&facts.name))
        });
        let mut table = match best {
            Some(at) if !old[at].used => {
                old[at].used = true;
                old[at].table.clone()
            }
            Some(at) => old[at].figures(),
            None => Table::new(),
        };
        let figures = facts.known || table.contains_key("idle_power_w");
        update(&mut table, facts);
        if figures && (facts.known || facts.device_memory_gib.is_some() || has_memory(&table, facts)) {
            tables.push(table);
        } else {
            remarks.push_str(&remark(&table, facts));
        }
    }
    let placed: BTreeSet<&str> = pools.iter().flat_map(|facts| &facts.nodes).map(String::as_str).collect();
    for mut known in old.into_iter().filter(|known| !known.used) {
        known.nodes.retain(|node| !placed.contains(node.as_str()));
        if known.nodes.is_empty() {
            continue;
        }
        known.table["nodes"] = value(hostlist::compress(&known.nodes));
        let all = known.table.get("devices_per_node").and_then(Item::as_integer).unwrap_or(0);
        let busy: Vec<u32> = (0..u32::try_from(all).unwrap_or(0)).collect();
        let idle = known.nodes.iter().filter(|node| out_of_service.contains(*node));
        let busy: BTreeMap<String, Vec<u32>> = idle.map(|node| (node.clone(), busy.clone())).collect();
        set_busy(&mut known.table, &busy);
        tables.push(known.table);
    }
    name_apart(&mut tables);
    for (position, table) in tables.iter_mut().enumerate() {
        table.set_position(Some(isize::try_from(position).unwrap_or(isize::MAX)));
        if position > 0 && table.decor().prefix().is_none() {
            table.decor_mut().set_prefix("\n");
        }
    }
    if !tables.is_empty() {
        let mut array = ArrayOfTables::new();
        array.extend(tables);
        document.insert("pool", Item::ArrayOfTables(array));
    }
    let head = if existing.is_none() { HEAD } else { "" };
    problems.finish(format!("{head}{document}{remarks}"))
}

/// A pool of the existing file.
struct Known {
    table: Table,
    nodes: Vec<String>,
    used: bool,
}

impl Known {
    fn new(table: Table) -> Self {
        let list = table.get("nodes").and_then(Item::as_str).unwrap_or_default();
        let nodes = hostlist::expand(list).unwrap_or_default();
        Self { table, nodes, used: false }
    }

    /// A new table with what was written by hand.
    fn figures(&self) -> Table {
        let mut table = Table::new();
        for key in BY_HAND {
            if let Some(item) = self.table.get(key) {
                table.insert(key, item.clone());
            }
        }
        table
    }
}

fn update(table: &mut Table, facts: &PoolFacts) {
    let suggested = [
        ("name", Some(value(&facts.name))),
        ("device", Some(value(&facts.device))),
        ("device_memory_gib", facts.device_memory_gib.map(value)),
        ("partition", facts.partition.as_ref().map(value)),
        ("gres", facts.gres.as_ref().map(value)),
        ("constraint", facts.constraint.as_ref().map(value)),
        ("mps", facts.mps.then(|| value(true))),
    ];
    let known = [
        ("nodes", Some(value(hostlist::compress(&facts.nodes)))),
        ("devices_per_node", Some(value(i64::from(facts.devices_per_node)))),
        ("host_memory_gib", facts.host_memory_gib.map(value)),
        ("cpus_per_device", facts.cpus_per_device.map(|cpus| value(i64::from(cpus)))),
    ];
    // A kind is said where the device table does not say it.
    let kind = (!facts.known && facts.kind == DeviceKind::Cpu).then(|| value("cpu"));
    let order = |(key, item): (&str, Option<Item>), replace: bool, table: &mut Table| {
        let Some(item) = item else { return };
        match table.get_mut(key) {
            // The value alone, so that a comment behind it stays.
            Some(old) if replace => {
                if let (Some(old), Some(new)) = (old.as_value_mut(), item.as_value()) {
                    let decor = old.decor().clone();
                    *old = new.clone();
                    *old.decor_mut() = decor;
                }
            }
            Some(_) => {}
            None => drop(table.insert(key, item)),
        }
    };
    let [name, device, memory, partition, gres, constraint, mps] = suggested;
    let [nodes, per_node, host_memory, cpus] = known;
    for (entry, replace) in [
        (name, false),
        (nodes, true),
        (device, false),
        (("device_kind", kind), false),
        (per_node, true),
        (memory, false),
        (host_memory, true),
        (cpus, true),
        (partition, false),
        (gres, false),
        (constraint, false),
        (mps, false),
    ] {
        order(entry, replace, table);
    }
    set_busy(table, &facts.devices_busy);
}

fn set_busy(table: &mut Table, busy: &BTreeMap<String, Vec<u32>>) {
    if busy.is_empty() {
        table.remove("devices_busy");
        return;
    }
    let mut inline = InlineTable::new();
    for (node, indices) in busy {
        let indices: Array = indices.iter().map(|index| i64::from(*index)).collect();
        inline.insert(node, Value::Array(indices));
    }
    table.insert("devices_busy", value(inline));
}

/// Of CPU sockets, the host's memory is memory enough.
fn has_memory(table: &Table, facts: &PoolFacts) -> bool {
    let host = facts.kind == DeviceKind::Cpu && facts.host_memory_gib.is_some();
    host || table.contains_key("device_memory_gib")
}

fn remark(table: &Table, facts: &PoolFacts) -> String {
    let memory = match facts.kind {
        DeviceKind::Gpu if facts.device_memory_gib.is_none() => " and device_memory_gib",
        _ => "",
    };
    let mut text = format!(
        "\n# The device table does not know `{}`: add idle_power_w (of one device){memory} and remove the leading `# `,\n\
         # or say which device it is: `inventory slurm --device {}=NAME`.\n# [[pool]]\n",
        facts.device, facts.device
    );
    for line in table.to_string().lines().filter(|line| !line.trim().is_empty()) {
        text.push_str(&format!("# {line}\n"));
    }
    text
}

/// A pool's name is its own.
fn name_apart(tables: &mut [Table]) {
    let mut taken = BTreeSet::new();
    for table in tables {
        let name = table.get("name").and_then(Item::as_str).unwrap_or("pool").to_owned();
        let mut own = name.clone();
        let mut number = 2;
        while !taken.insert(own.clone()) {
            own = format!("{name}-{number}");
            number += 1;
        }
        if own != name {
            table["name"] = value(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(name: &str, nodes: &[&str]) -> PoolFacts {
        PoolFacts {
            name: name.into(),
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            device: "H100".into(),
            kind: DeviceKind::Gpu,
            devices_per_node: 4,
            devices_busy: BTreeMap::new(),
            device_memory_gib: None,
            host_memory_gib: Some(500.0),
            cpus_per_device: Some(16),
            partition: Some("gpu".into()),
            gres: Some("gpu:h100".into()),
            constraint: None,
            mps: false,
            known: true,
        }
    }

    fn merged(existing: Option<&str>, pools: &[PoolFacts], out: &[&str]) -> String {
        let out = out.iter().map(|node| (*node).to_owned()).collect();
        merge(existing, Path::new("c.toml"), pools, &out).unwrap()
    }

    #[test]
    fn a_new_file_reads_as_a_cluster() {
        let mut second = facts("h100", &["m1"]);
        second.devices_busy = BTreeMap::from([("m1".to_owned(), vec![0, 3])]);
        let text = merged(None, &[facts("h100", &["n1", "n2"]), second], &[]);
        let devices = crate::formats::devices_toml::builtin();
        let cluster = crate::formats::cluster_toml::parse(&text, Path::new("c.toml"), &devices).unwrap().cluster;
        let names: Vec<&str> = cluster.pools.iter().map(|pool| pool.name.as_str()).collect();
        assert_eq!(names, ["h100", "h100-2"], "{text}");
        assert_eq!(cluster.pools[1].free_devices(0), [1, 2]);
        assert_eq!(
            merged(Some(&text), &[facts("h100", &["n1", "n2"]), facts("h100", &["m1"])], &[]).lines().count() + 1,
            text.lines().count(),
            "only the busy devices are gone: {text}"
        );
    }

    #[test]
    fn what_was_written_by_hand_stays() {
        let by_hand = "# ours\n[[pool]]\nname = \"big\"\nnodes = \"n[1-3]\" # rack 4\ndevice = \"H100-PCIe\"\ndevices_per_node = 8\n\
            idle_power_w = 61.5 # measured\nbase_power_w = 900\nsuspend = true\npartition = \"special\"\n\n[site]\npue = 1.2\n";
        let text = merged(Some(by_hand), &[facts("h100", &["n1", "n2", "n4"])], &["n3"]);
        for kept in [
            "# ours",
            "idle_power_w = 61.5 # measured",
            "base_power_w = 900",
            "H100-PCIe",
            "special",
            "pue = 1.2",
            "name = \"big\"",
            "# rack 4",
        ] {
            assert!(text.contains(kept), "{kept} in\n{text}");
        }
        assert!(text.contains("nodes = \"n[1-2,4]\"") && text.contains("devices_per_node = 4"), "{text}");
        assert_eq!(text.matches("[[pool]]").count(), 1);
        assert_eq!(merged(Some(&text), &[facts("h100", &["n1", "n2", "n4"])], &[]), text, "twice is once");
    }

    #[test]
    fn a_pool_that_is_down_keeps_its_figures() {
        let by_hand = "[[pool]]\nname = \"a\"\nnodes = \"n[1-2],x1\"\ndevice = \"H100\"\ndevices_per_node = 2\nidle_power_w = 61.5\n";
        let text = merged(Some(by_hand), &[], &["n1", "n2"]);
        assert!(
            text.contains("idle_power_w = 61.5") && text.contains("devices_busy = { n1 = [0, 1], n2 = [0, 1] }"),
            "{text}"
        );
        // Nodes of one pool that turn out to be two: both have the figures.
        let mut apart = facts("b", &["n2"]);
        apart.devices_per_node = 8;
        let text = merged(Some(by_hand), &[facts("a", &["n1"]), apart], &[]);
        assert_eq!((text.matches("[[pool]]").count(), text.matches("61.5").count()), (2, 2), "{text}");
    }

    #[test]
    fn an_unknown_device_is_a_remark() {
        let mut unknown = facts("x9", &["n1"]);
        (unknown.device, unknown.known) = ("x9".into(), false);
        let text = merged(None, &[unknown.clone()], &[]);
        assert!(
            text.contains("# [[pool]]") && text.contains("add idle_power_w") && !text.contains("\n[[pool]]"),
            "{text}"
        );
        let by_hand = "[[pool]]\nname = \"x9\"\nnodes = \"n1\"\ndevice = \"x9\"\ndevices_per_node = 1\nidle_power_w = 9\ndevice_memory_gib = 16\n";
        assert!(!merged(Some(by_hand), &[unknown], &[]).contains("# [[pool]]"));
        for bad in ["[[pool]\n", "pool = 3\n"] {
            assert!(merge(Some(bad), Path::new("c.toml"), &[], &BTreeSet::new()).is_err(), "{bad}");
        }
    }
}

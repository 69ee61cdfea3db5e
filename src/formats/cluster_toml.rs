//! The cluster file: pools of identical nodes, their devices, what they draw when idle and how Slurm is asked for them.
//!
//! What the file leaves out comes from the device table and is then marked estimated; what neither knows is an error, not
//! a guess. Series of the site lie in files of their own (`site_csv`), which are only named here.
//! `mps` is read and has no effect yet: SM shares are not offered.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::problems::Problems;
use super::site_csv::SiteSeries;
use super::text::read_text;
use super::toml_document::{Section, read_document};
use super::{devices_toml, hostlist};
use crate::domain::{Cluster, DeviceKind, DeviceType, Figure, Pool, Provenance, Site, SlurmTarget, Steps};
use crate::units::{Bytes, Joules, Seconds, Watts};

const MAX_DEVICES_PER_NODE: u32 = 1024;
const MAX_WATTS: f64 = 1e6;
const MAX_GIB: f64 = 1e6;
const MAX_WAKE_SECONDS: f64 = 86_400.0;

/// A cluster and the files its series are in.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterFile {
    /// Without series: its power cap is the constant one, if there is one.
    pub cluster: Cluster,
    /// Relative paths are relative to the cluster file.
    pub series: Vec<(SiteSeries, PathBuf)>,
}

/// Reads a cluster file. `devices` is the device table.
pub fn read(path: &Path, devices: &[DeviceType]) -> Result<ClusterFile, Problems> {
    parse(&read_text(path)?, path, devices)
}

/// As `read`, from text; `path` names it in messages and is where relative paths are looked for.
pub fn parse(text: &str, path: &Path, devices: &[DeviceType]) -> Result<ClusterFile, Problems> {
    read_document(path, text, |root| {
        let sections = root.sections("pool");
        if sections.is_empty() {
            root.problem("pool", "there is no pool", "describe at least one in a `[[pool]]` table");
        }
        let mut pools: Vec<Pool> = Vec::new();
        let mut hosts: BTreeMap<String, String> = BTreeMap::new();
        for mut section in sections {
            let pool = read_pool(&mut section, devices);
            section.note_unknown_keys();
            if !pool.name.is_empty() && pools.iter().any(|other| other.name == pool.name) {
                section.problem(
                    "name",
                    format!("a pool `{}` exists already", pool.name),
                    "give each pool its own name",
                );
            }
            for node in &pool.nodes {
                if let Some(other) = hosts.insert(node.clone(), pool.name.clone()) {
                    let what = format!("host `{node}` is in pool `{other}` already");
                    section.problem("nodes", what, "a host belongs to one pool");
                    break; // overlapping ranges would repeat this for every host
                }
            }
            pools.push(pool);
        }
        let (site, series) = read_site(root, path);
        ClusterFile { cluster: Cluster { pools, site }, series }
    })
}

/// A pool; where something is wrong it is noted and the value here means nothing.
fn read_pool(section: &mut Section, devices: &[DeviceType]) -> Pool {
    for (key, remedy) in [
        ("name", "name the pool"),
        ("nodes", "list its hosts: nodes = \"gpu[01-04]\""),
        ("device", "name the device type: device = \"H100\""),
        ("devices_per_node", "say how many devices (CPU: sockets) a node has"),
    ] {
        section.require(key, remedy);
    }
    let name = section.text("name").unwrap_or_default();
    let nodes = section.parsed("nodes", hostlist::expand).unwrap_or_default();
    let written = section.text("device").unwrap_or_default();
    let known = devices_toml::resolve(devices, &written);
    let per_node = section.whole("devices_per_node", 1, MAX_DEVICES_PER_NODE);
    let devices_per_node = per_node.unwrap_or(1);
    let suspend = section.flag("suspend").unwrap_or(false);
    let base_power = section.number("base_power_w", 0.0, MAX_WATTS).map(Watts);
    if suspend && !section.has("base_power_w") {
        let remedy =
            "add base_power_w (watts per node without devices): sleeping saves that and the devices' idle power";
        section.problem("suspend", "a pool that sleeps needs `base_power_w`", remedy);
    }
    let kind = read_kind(section, known);
    let host_memory = section.number("host_memory_gib", f64::MIN_POSITIVE, MAX_GIB).map(Bytes::from_gib);
    let pool = Pool {
        name,
        devices_busy: read_busy(section, &nodes, per_node.unwrap_or(MAX_DEVICES_PER_NODE)),
        devices_held: BTreeMap::new(),
        nodes,
        device: known.map_or(written, |device| device.name.clone()),
        kind,
        devices_per_node,
        device_memory: read_memory(section, known, kind, host_memory, devices_per_node),
        host_memory,
        cpus_per_device: section.whole("cpus_per_device", 1, 4096),
        idle_power: read_idle_power(section, known),
        base_power,
        suspend,
        wake_time: Seconds(section.number("wake_s", 0.0, MAX_WAKE_SECONDS).unwrap_or(0.0)),
        wake_energy: Joules(section.number("wake_j", 0.0, 1e12).unwrap_or(0.0)),
        clock_control: section.one_of("clock_control", &[("none", false), ("gpu-freq", true)]).unwrap_or(false),
        storage_gib_per_s: section.number("storage_gbps", f64::MIN_POSITIVE, 1e6).map(gib_per_s),
        slurm: SlurmTarget {
            partition: section.text("partition"),
            gres: section.text("gres"),
            constraint: section.text("constraint"),
            account: section.text("account"),
            qos: section.text("qos"),
        },
    };
    section.flag("mps");
    pool
}

fn read_kind(section: &mut Section, known: Option<&DeviceType>) -> DeviceKind {
    let written = section.one_of("device_kind", &[("gpu", DeviceKind::Gpu), ("cpu", DeviceKind::Cpu)]);
    match (written, known) {
        (Some(kind), Some(device)) if kind != device.kind => {
            let what = format!("the device table knows `{}` as another kind", device.name);
            section.problem("device_kind", what, "remove device_kind or correct device");
            kind
        }
        (Some(kind), _) => kind,
        (None, known) => known.map_or(DeviceKind::Gpu, |device| device.kind),
    }
}

fn read_busy(section: &mut Section, nodes: &[String], devices_per_node: u32) -> BTreeMap<usize, Vec<u32>> {
    let mut busy: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    let Some(mut table) = section.section("devices_busy") else { return busy };
    let index_of: HashMap<&str, usize> = nodes.iter().enumerate().map(|(index, node)| (node.as_str(), index)).collect();
    for (list, mut indices) in table.named_wholes(MAX_DEVICES_PER_NODE) {
        indices.sort_unstable();
        if let Some(index) = indices.iter().find(|index| **index >= devices_per_node) {
            let remedy = format!("indices run from 0 to {}", devices_per_node - 1);
            table.problem(&list, format!("there is no device {index}"), remedy);
        }
        if let Some(pair) = indices.windows(2).find(|pair| pair[0] == pair[1]) {
            table.problem(&list, format!("device {} is listed twice", pair[0]), "list it once");
        }
        let hosts = hostlist::expand(&list).unwrap_or_else(|error| {
            table.problem(&list, error.to_string(), "name a host of this pool");
            Vec::new()
        });
        for host in hosts {
            match index_of.get(host.as_str()).copied() {
                Some(node) if busy.contains_key(&node) => {
                    table.problem(&list, format!("host `{host}` is listed twice"), "list it once");
                }
                Some(node) => drop(busy.insert(node, indices.clone())),
                None => {
                    table.problem(&list, format!("host `{host}` is not in this pool"), "name a host of `nodes`");
                    break;
                }
            }
        }
    }
    busy
}

/// A CPU socket's memory is its share of the host's; a GPU's is its own.
fn read_memory(
    section: &mut Section,
    known: Option<&DeviceType>,
    kind: DeviceKind,
    host_memory: Option<Bytes>,
    devices_per_node: u32,
) -> Bytes {
    let given = section.number("device_memory_gib", f64::MIN_POSITIVE, MAX_GIB).map(Bytes::from_gib);
    let derived = match kind {
        DeviceKind::Cpu => host_memory.map(|memory| memory / f64::from(devices_per_node)),
        DeviceKind::Gpu => known.map(|device| device.memory),
    };
    if given.is_none() && derived.is_none() && section.has("device") {
        // A key that is there but wrong has its own message.
        let written = section.has("device_memory_gib");
        match kind {
            DeviceKind::Cpu if !written && !section.has("host_memory_gib") => {
                section.problem("device", "the memory of its CPU nodes is not known", "add host_memory_gib");
            }
            DeviceKind::Gpu if !written => unknown_device(section, "device_memory_gib"),
            _ => {}
        }
    }
    given.or(derived).unwrap_or(Bytes::ZERO)
}

fn read_idle_power(section: &mut Section, known: Option<&DeviceType>) -> Figure<Watts> {
    let given = section.number("idle_power_w", 0.0, MAX_WATTS).map(Watts);
    if let (Some(power), Some(device)) = (given, known)
        && power.0 > device.tdp.0
    {
        let what = format!("{power} idle is more than the {} a `{}` may draw at all", device.tdp, device.name);
        section.problem("idle_power_w", what, "give the idle power of one device, not of the node");
    }
    match (given, known) {
        (Some(power), _) => Figure::new(power, Provenance::Imported),
        (None, Some(device)) => Figure::estimated(device.idle_power.value),
        (None, None) => {
            if !section.has("idle_power_w") && section.has("device") {
                unknown_device(section, "idle_power_w");
            }
            Figure::new(Watts::ZERO, Provenance::Missing)
        }
    }
}

fn unknown_device(section: &Section, key: &str) {
    let what = format!("the device table does not know this device, so `{key}` is needed");
    section.problem("device", what, format!("add {key}, or use the table's name of the device"));
}

fn read_site(root: &mut Section, path: &Path) -> (Site, Vec<(SiteSeries, PathBuf)>) {
    let Some(mut section) = root.section("site") else { return (Site::default(), Vec::new()) };
    let pue = section.number("pue", 1.0, 10.0);
    let power_cap = section.number("power_cap_w", 0.0, 1e12).map(Steps::constant);
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut series = Vec::new();
    for kind in [SiteSeries::Carbon, SiteSeries::Price, SiteSeries::PowerCap] {
        series.extend(section.text(kind.key()).map(|file| (kind, folder.join(file))));
    }
    if power_cap.is_some() && series.iter().any(|(kind, _)| *kind == SiteSeries::PowerCap) {
        section.problem("power_cap_csv", "there is power_cap_w, too", "keep one of the two");
    }
    section.note_unknown_keys();
    (Site { pue, power_cap, ..Site::default() }, series)
}

/// Gigabits (10^9 bits) to GiB per second.
fn gib_per_s(gbps: f64) -> f64 {
    gbps * 1e9 / 8.0 / f64::from(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices() -> Vec<DeviceType> {
        let device = |name: &str, alias: &str, kind| DeviceType {
            name: name.into(),
            aliases: vec![alias.into()],
            kind,
            memory: Bytes::from_gib(80.0),
            memory_bandwidth: 3.35e12,
            peak_flops_16bit: 989e12,
            peak_flops_8bit: None,
            tdp: Watts(700.0),
            idle_power: Figure::new(Watts(70.0), Provenance::Imported),
        };
        vec![device("H100", "NVIDIA H100 80GB HBM3", DeviceKind::Gpu), device("Xeon", "xeon-8480", DeviceKind::Cpu)]
    }

    fn cluster(text: &str) -> Result<Cluster, Problems> {
        parse(text, Path::new("c.toml"), &devices()).map(|file| file.cluster)
    }

    fn errors(text: &str) -> Vec<String> {
        cluster(text).unwrap_err().to_string().lines().map(str::to_owned).collect()
    }

    const GOOD: &str = r#"
[[pool]]
name = "h100"
nodes = "h100n[1-2]"
device = "nvidia h100 80gb hbm3"
devices_per_node = 8
devices_busy = { "h100n2" = [0, 3] }
base_power_w = 900
suspend = true
wake_s = 120
wake_j = 2e5
clock_control = "gpu-freq"
mps = false
storage_gbps = 80
partition = "gpu"

[[pool]]
name = "cpu"
nodes = "c1"
device = "Xeon"
devices_per_node = 2
host_memory_gib = 512
idle_power_w = 95.5
cpus_per_device = 56

[site]
pue = 1.2
"#;

    #[test]
    fn a_file_is_completed_from_the_device_table() {
        let cluster = cluster(GOOD).unwrap();
        let [h100, cpu] = &cluster.pools[..] else { panic!("two pools") };
        assert_eq!((h100.device.as_str(), h100.nodes.len(), h100.free_devices(1).len()), ("H100", 2, 6));
        assert_eq!((h100.device_memory, h100.idle_power), (Bytes::from_gib(80.0), Figure::estimated(Watts(70.0))));
        assert_eq!(h100.storage_gib_per_s, Some(1e10 / f64::from(1 << 30)));
        assert_eq!((cpu.kind, cpu.device_memory), (DeviceKind::Cpu, Bytes::from_gib(256.0)));
        assert_eq!(cpu.idle_power, Figure::new(Watts(95.5), Provenance::Imported));
        assert_eq!((cpu.suspend, cpu.base_power, cluster.site.pue), (false, None, Some(1.2)));
    }

    #[test]
    fn series_lie_beside_the_cluster_file() {
        let site = "carbon_csv = \"carbon.csv\"\nprice_csv = \"/srv/price.csv\"\npower_cap_w = 5e4\n";
        let file = parse(&format!("{GOOD}{site}"), Path::new("site/c.toml"), &devices()).unwrap();
        let expected =
            [(SiteSeries::Carbon, "site/carbon.csv".into()), (SiteSeries::Price, PathBuf::from("/srv/price.csv"))];
        assert_eq!(file.series, expected);
        assert_eq!(file.cluster.site.power_cap, Some(Steps::constant(5e4)));
    }

    #[test]
    fn an_unknown_device_needs_its_figures() {
        let text = "[[pool]]\nname = \"p\"\nnodes = \"n1\"\ndevice = \"X9\"\ndevices_per_node = 1\n";
        let found = errors(text);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].contains("line 4") && found[0].contains("device_memory_gib"));
        assert!(found[1].contains("line 4") && found[1].contains("idle_power_w"));
        let pool = &cluster(&format!("{text}device_memory_gib = 16\nidle_power_w = 9\n")).unwrap().pools[0];
        assert_eq!((pool.kind, pool.device.as_str()), (DeviceKind::Gpu, "X9"));
        assert!(errors(&format!("{text}device_kind = \"cpu\"\n")).iter().any(|line| line.contains("host_memory_gib")));
    }

    #[test]
    fn all_semantic_errors_are_reported_at_once() {
        let bad = GOOD
            .replace("devices_per_node = 8", "devices_per_node = 0")
            .replace("base_power_w = 900\n", "")
            .replace("\"h100n2\" = [0, 3]", "\"h100n9\" = [1]")
            .replace("nodes = \"c1\"", "nodes = \"h100n2\"")
            .replace("name = \"cpu\"", "name = \"h100\"")
            .replace("95.5", "nan")
            .replace("pue = 1.2", "pue = 0.5\npower_cap_w = 1000\npower_cap_csv = \"cap.csv\"");
        let found = errors(&bad);
        for part in [
            "(pool[1].devices_per_node): 0 does not fit",
            "needs `base_power_w`",
            "host `h100n9` is not in this pool",
            "host `h100n2` is in pool `h100` already",
            "a pool `h100` exists already",
            "(pool[2].idle_power_w): nan is out of range",
            "(site.pue): 0.5 is out of range",
            "(site.power_cap_csv): there is power_cap_w, too",
        ] {
            assert!(found.iter().any(|line| line.contains(part)), "{part} in {found:#?}");
        }
    }
}

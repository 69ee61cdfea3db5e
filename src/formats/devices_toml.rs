//! The device table: published figures of accelerators and CPU sockets, by name and alias.
//!
//! `profiles/devices.toml` is built in, so that an estimate needs no file beside the binary; a cluster file may still
//! state other figures for its own pools. Fields carry their unit in their name.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use super::problems::{Collector, Problems};
use super::toml_text;
use crate::domain::{DeviceKind, DeviceType, Figure, Provenance};
use crate::units::{Bytes, Watts};

const BUILTIN: &str = include_str!("../../profiles/devices.toml");

/// The table that comes with jouleplan.
pub fn builtin() -> Vec<DeviceType> {
    // A test parses the file; were it broken, an empty table makes every name unknown rather than the program stop.
    parse(BUILTIN, Path::new("devices.toml")).unwrap_or_default()
}

/// Reads a device table.
///
/// # Errors
/// `Unreadable`, or every problem at once.
pub fn read(path: &Path) -> Result<Vec<DeviceType>, Problems> {
    parse(&toml_text::load(path)?, path)
}

/// The device of this name or alias, whatever the case.
pub fn resolve<'a>(table: &'a [DeviceType], name: &str) -> Option<&'a DeviceType> {
    let name = name.trim();
    table.iter().find(|device| names(device).any(|known| known.eq_ignore_ascii_case(name)))
}

fn names(device: &DeviceType) -> impl Iterator<Item = &str> {
    std::iter::once(&device.name).chain(&device.aliases).map(String::as_str)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    device: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    aliases: Vec<String>,
    kind: Kind,
    memory_gib: f64,
    memory_bandwidth_gb_s: f64,
    peak_tflops_16bit: f64,
    peak_tflops_8bit: Option<f64>,
    tdp_w: f64,
    idle_power_w: f64,
    idle_power_provenance: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Gpu,
    Cpu,
}

fn parse(text: &str, path: &Path) -> Result<Vec<DeviceType>, Problems> {
    let file: File = toml_text::parse(text, path)?;
    let mut problems = Collector::new(path);
    if file.device.is_empty() {
        problems.add("", "the table holds no [[device]]", "add one");
    }
    let mut seen = BTreeSet::new();
    let mut devices = Vec::new();
    for (index, entry) in file.device.into_iter().enumerate() {
        let at = |field: &str| format!("device[{index}].{field}");
        for name in std::iter::once(&entry.name).chain(&entry.aliases) {
            if name.trim().is_empty() {
                problems.add(at("name"), "a name is empty", "name the device as clusters and samples do");
            } else if !seen.insert(name.to_ascii_lowercase()) {
                problems.add(
                    at("name"),
                    format!("`{name}` names two devices"),
                    "a name or alias stands for one device",
                );
            }
        }
        for (field, value) in [
            ("memory_gib", Some(entry.memory_gib)),
            ("memory_bandwidth_gb_s", Some(entry.memory_bandwidth_gb_s)),
            ("peak_tflops_16bit", Some(entry.peak_tflops_16bit)),
            ("peak_tflops_8bit", entry.peak_tflops_8bit),
            ("tdp_w", Some(entry.tdp_w)),
            ("idle_power_w", Some(entry.idle_power_w)),
        ] {
            if value.is_some_and(|value| !(value > 0.0 && value <= 1e6)) {
                problems.add(at(field), "the figure is out of range", "expected more than 0 and at most 1e6");
            }
        }
        if entry.idle_power_w >= entry.tdp_w {
            problems.add(at("idle_power_w"), "a device idles below its TDP", "are the two figures swapped?");
        }
        let provenance = entry.idle_power_provenance.parse().unwrap_or_else(|what: String| {
            problems.add(at("idle_power_provenance"), what, "say where the idle power comes from");
            Provenance::Missing
        });
        devices.push(DeviceType {
            name: entry.name,
            aliases: entry.aliases,
            kind: match entry.kind {
                Kind::Gpu => DeviceKind::Gpu,
                Kind::Cpu => DeviceKind::Cpu,
            },
            memory: Bytes::from_gib(entry.memory_gib),
            memory_bandwidth: entry.memory_bandwidth_gb_s * 1e9,
            peak_flops_16bit: entry.peak_tflops_16bit * 1e12,
            peak_flops_8bit: entry.peak_tflops_8bit.map(|tera| tera * 1e12),
            tdp: Watts(entry.tdp_w),
            idle_power: Figure::new(Watts(entry.idle_power_w), provenance),
        });
    }
    problems.finish(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_table_is_sound_and_knows_the_names_others_use() {
        let table = parse(BUILTIN, Path::new("devices.toml")).expect("profiles/devices.toml is sound");
        assert_eq!(table, builtin());
        for (name, device) in [
            ("h100", "H100"),
            ("H100 80GB HBM3", "H100"),
            ("A100-SXM4-40GB", "A100"),
            ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
            (" b200 ", "B200"),
            ("Xeon-8480+", "Xeon-8480+"),
        ] {
            assert_eq!(resolve(&table, name).map(|device| device.name.as_str()), Some(device), "{name}");
        }
        assert!(resolve(&table, "H1").is_none());
        let h100 = resolve(&table, "H100").expect("there");
        assert_eq!((h100.memory, h100.memory_bandwidth, h100.kind), (Bytes::from_gib(80.0), 3.35e12, DeviceKind::Gpu));
        assert!(table.iter().any(|device| device.kind == DeviceKind::Cpu));
    }

    #[test]
    fn every_problem_of_a_table_is_named() {
        let text = BUILTIN.replace("memory_gib = 80", "memory_gib = nan").replace("\"B200-SXM\"", "\"h100\"");
        let Err(Problems::BadData(problems)) = parse(&text, Path::new("d.toml")) else { panic!("accepted") };
        let places: Vec<&str> = problems.iter().map(|problem| problem.place.as_str()).collect();
        assert!(places.contains(&"device[0].memory_gib") && places.contains(&"device[3].name"), "{places:?}");
        assert!(parse("", Path::new("d.toml")).is_err());
        assert!(parse("[[device]]\nname = 3\n", Path::new("d.toml")).is_err());
    }
}

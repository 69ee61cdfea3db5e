//! The device table: published figures of accelerators and CPU sockets, by name and alias.
//!
//! `profiles/devices.toml` is built in, so that an estimate needs no file beside the binary; a cluster file may still
//! state other figures for its own pools. Fields carry their unit in their name.

use std::collections::BTreeSet;
use std::path::Path;

use super::problems::Problems;
use super::text::read_text;
use super::toml_document::{Section, read_document};
use crate::domain::{DeviceKind, DeviceType, Figure, Provenance};
use crate::units::{Bytes, Watts};

const BUILTIN: &str = include_str!("../../profiles/devices.toml");
/// No figure of a device is beyond this in its unit.
const MAX_FIGURE: f64 = 1e6;

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
    parse(&read_text(path)?, path)
}

/// The device of this name or alias, whatever the case.
pub fn resolve<'a>(table: &'a [DeviceType], name: &str) -> Option<&'a DeviceType> {
    table.iter().find(|device| device.is_named(name))
}

fn parse(text: &str, path: &Path) -> Result<Vec<DeviceType>, Problems> {
    read_document(path, text, |root| {
        let sections = root.sections("device");
        if sections.is_empty() {
            root.problem("device", "there is no device", "describe at least one in a `[[device]]` table");
        }
        let mut seen = BTreeSet::new();
        sections.into_iter().filter_map(|section| entry(section, &mut seen)).collect()
    })
}

fn entry(mut section: Section<'_>, seen: &mut BTreeSet<String>) -> Option<DeviceType> {
    for (key, remedy) in [
        ("name", "name the device as clusters and samples do"),
        ("kind", "write gpu or cpu"),
        ("memory_gib", "its memory"),
        ("memory_bandwidth_gb_s", "its memory bandwidth"),
        ("peak_tflops_16bit", "its dense peak at 16 bits"),
        ("tdp_w", "what it draws at most"),
        ("idle_power_w", "what it draws without load"),
        ("idle_power_provenance", "say where the idle power comes from"),
    ] {
        section.require(key, remedy);
    }
    let name = section.text("name");
    let aliases = section.texts("aliases").unwrap_or_default();
    for name in name.iter().chain(&aliases).filter(|name| !seen.insert(name.to_ascii_lowercase())) {
        section.problem("name", format!("`{name}` names two devices"), "a name or alias stands for one device");
    }
    let kind = section.one_of("kind", &[("gpu", DeviceKind::Gpu), ("cpu", DeviceKind::Cpu)]);
    let [memory, bandwidth, peak_16bit, peak_8bit, tdp, idle] =
        ["memory_gib", "memory_bandwidth_gb_s", "peak_tflops_16bit", "peak_tflops_8bit", "tdp_w", "idle_power_w"]
            .map(|key| section.number(key, f64::MIN_POSITIVE, MAX_FIGURE));
    let provenance = section.parsed("idle_power_provenance", str::parse::<Provenance>);
    section.note_unknown_keys();
    if idle >= tdp && tdp.is_some() {
        section.problem("idle_power_w", "a device idles below its TDP", "are the two figures swapped?");
    }
    Some(DeviceType {
        name: name?,
        aliases,
        kind: kind?,
        memory: Bytes::from_gib(memory?),
        memory_bandwidth: bandwidth? * 1e9,
        peak_flops_16bit: peak_16bit? * 1e12,
        peak_flops_8bit: peak_8bit.map(|tera| tera * 1e12),
        tdp: Watts(tdp?),
        idle_power: Figure::new(Watts(idle?), provenance?),
    })
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
        let message = parse(&text, Path::new("d.toml")).expect_err("accepted").to_string();
        assert!(message.contains("(device[1].memory_gib)") && message.contains("(device[4].name)"), "{message}");
        assert!(parse("", Path::new("d.toml")).is_err());
        assert!(parse("[[device]]\nname = 3\n", Path::new("d.toml")).is_err());
    }
}

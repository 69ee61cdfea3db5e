//! Others' Slurm: every file of the reference data parses, and totals are those counted here in another way.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jouleplan::domain::SlurmNode;
use jouleplan::formats::{devices_toml, sacct, slurm_jobs, slurm_nodes};
use jouleplan::slurm::inventory::{Choice, inventory};
use serde_json::Value;

mod reference_data;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            files(&path, found);
        } else if name.contains("node") || name.starts_with("sinfo") {
            found.push(path);
        }
    }
}

/// Every number of CPUs, all memory in MiB, GPUs by type, and how many nodes are in use by nobody and out of service.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    nodes: usize,
    cpus: u64,
    memory_mib: u64,
    gpus: BTreeMap<String, u64>,
}

fn count(text: &str) -> Counted {
    if text.trim_start().starts_with(['{', '[']) { count_json(text) } else { count_text(text) }
}

fn count_json(text: &str) -> Counted {
    let document: Value = serde_json::from_str(text).unwrap();
    let list = document.as_array().unwrap_or_else(|| document["nodes"].as_array().unwrap());
    let mut counted = Counted::default();
    for node in list.iter().map(|node| node.get("slurm").unwrap_or(node)) {
        counted.nodes += 1;
        let tres = node["tres"].as_str().unwrap_or_default();
        // `cpu=64,mem=128G`: Slurm's own account of the same node.
        for part in tres.split(',') {
            let (name, value) = part.split_once('=').unwrap_or_default();
            if name == "cpu" {
                counted.cpus += value.parse::<u64>().unwrap();
            }
        }
        counted.memory_mib += match node["real_memory"].as_u64() {
            Some(memory) => memory,
            None => {
                let memory = tres.split("mem=").nth(1).unwrap_or("0M").split(',').next().unwrap();
                let (number, unit) = memory.split_at(memory.len() - 1);
                let factor = if unit == "G" { 1024.0 } else { 1.0 };
                (number.parse::<f64>().unwrap() * factor) as u64
            }
        };
        gpus(node["gres"].as_str().unwrap_or_default(), &mut counted.gpus);
    }
    counted
}

fn count_text(text: &str) -> Counted {
    let all = |key: &str| -> Vec<String> {
        let at = text.match_indices(key).filter(|(at, _)| *at == 0 || text[..*at].ends_with([' ', '\n']));
        at.map(|(at, _)| text[at + key.len()..].split_whitespace().next().unwrap_or_default().to_owned()).collect()
    };
    let sum = |key: &str| all(key).iter().map(|number| number.parse::<u64>().unwrap()).sum();
    let mut counted = Counted {
        nodes: all("NodeName=").len(),
        cpus: sum("CPUTot="),
        memory_mib: sum("RealMemory="),
        gpus: BTreeMap::new(),
    };
    for list in all("Gres=") {
        gpus(&list, &mut counted.gpus);
    }
    counted
}

fn gpus(list: &str, found: &mut BTreeMap<String, u64>) {
    for part in list.split(',').filter_map(|part| part.strip_prefix("gpu:")) {
        let word = part.split('(').next().unwrap();
        let (kind, count) = word.rsplit_once(':').unwrap_or(("", word));
        *found.entry(kind.to_owned()).or_default() += count.parse::<u64>().unwrap();
    }
}

#[test]
fn every_node_list_parses_to_what_it_holds() {
    let Some(data) = reference_data::reference("slurm") else { return };
    let mut found = Vec::new();
    files(&data, &mut found);
    assert!(found.len() >= 16, "{found:?}");
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        let nodes = slurm_nodes::parse(&text, &path).unwrap_or_else(|error| panic!("{error}"));
        let seen = inventory(&nodes, &[], &devices_toml::builtin(), &Choice::default());
        let totals = &seen.totals;
        let of_gpus = totals.gres.iter().filter_map(|(name, count)| {
            let kind = name.strip_prefix("gpu")?;
            Some((kind.trim_start_matches(':').to_owned(), *count))
        });
        let read =
            Counted { nodes: totals.nodes, cpus: totals.cpus, memory_mib: totals.memory_mib, gpus: of_gpus.collect() };
        assert_eq!(read, count(&text), "{}", path.display());
        // Every node is in one pool or left out with a reason; those out of service are none of a pool's.
        let placed: Vec<&String> = seen.pools.iter().flat_map(|pool| &pool.nodes).collect();
        let out: Vec<&String> = seen.left_out.iter().filter(|out| out.part.is_none()).map(|out| &out.node).collect();
        assert_eq!(placed.len() + out.len(), nodes.len(), "{}", path.display());
        let is_out = |node: &SlurmNode| node.states.is_empty() || ["DOWN", "DRAIN"].iter().any(|state| node.is(state));
        assert!(nodes.iter().all(|node| is_out(node) == out.contains(&&node.name)), "{}", path.display());
    }
}

#[test]
fn jobs_and_accounts_parse_to_what_they_hold() {
    let Some(data) = reference_data::reference("slurm/clockwork/slurm_state_test/files") else { return };
    for name in ["scontrol_job_2", "small_scontrol_job"] {
        let text = fs::read_to_string(data.join(name)).unwrap();
        let jobs = slurm_jobs::parse(&text, Path::new(name)).unwrap();
        let count = |words: &str| text.matches(words).count();
        let pending = jobs.iter().filter(|job| job.is("PENDING")).count();
        assert_eq!((jobs.len(), pending), (count("JobId="), count("JobState=PENDING")), "{name}");
        assert!(jobs.iter().all(|job| job.cpus.is_some() && job.start.is_none()), "{name}: local times say nothing");
    }
    for name in ["sacct_1", "sacct_2"] {
        let text = fs::read_to_string(data.join(name)).unwrap();
        let jobs = sacct::parse_json(&text, Path::new(name)).unwrap();
        assert_eq!(jobs.len(), text.matches("\"allocation_nodes\"").count(), "{name}");
        assert!(
            jobs.iter().all(|job| !job.state.is_empty() && job.id.contains('_') && job.step_energy_j.is_none()),
            "{jobs:?}"
        );
    }
}

//! Lists of Slurm's nodes: `sinfo --json` and `scontrol show nodes --json`, what slurmrestd answers (22.05 to 25.11), and
//! the text of `scontrol show node`, with or without `-o`.
//!
//! From 23.02 on `sinfo --json` describes groups of nodes once for each partition; they are taken apart again. A state
//! database that keeps each node under `slurm` is read like a list.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::gres;
use super::problems::{Collector, Problems};
use super::slurm_json::{number_of, small_of, states, text_of, texts_of, words};
use crate::domain::SlurmNode;

/// The nodes in `text`, each once, in the order in which they first appear; `path` names it in messages.
///
/// # Errors
/// Text that is neither, and JSON without nodes.
pub fn parse(text: &str, path: &Path) -> Result<Vec<SlurmNode>, Problems> {
    let mut problems = Collector::new(path);
    let trimmed = text.trim_start();
    let remedy = "give what `sinfo --json`, `scontrol show node` or slurmrestd's nodes printed";
    if !trimmed.starts_with(['{', '[']) {
        let nodes = blocks(text);
        if nodes.is_empty() {
            problems.add("", "there is no `NodeName=` in it", remedy);
        }
        return problems.finish(nodes);
    }
    let document: Value = match serde_json::from_str(trimmed) {
        Ok(document) => document,
        Err(error) => {
            problems.add(format!("line {}, column {}", error.line(), error.column()), error.to_string(), remedy);
            return problems.fail();
        }
    };
    let list = document.as_array().or_else(|| document.get("nodes").and_then(Value::as_array));
    let nodes = match (list, document.get("sinfo").and_then(Value::as_array)) {
        (Some(list), _) => list.iter().map(|node| from_json(node.get("slurm").unwrap_or(node))).collect(),
        (None, Some(groups)) => groups.iter().flat_map(from_group).collect(),
        (None, None) => {
            let said = document.get("errors").map(Value::to_string).unwrap_or_default();
            problems.add("", format!("it has no list of nodes {said}").trim_end(), remedy);
            Vec::new()
        }
    };
    problems.finish(once(nodes))
}

fn from_json(node: &Value) -> SlurmNode {
    let mut said = texts_of(node, "state");
    said.extend(texts_of(node, "state_flags"));
    // What is traced of a node stands in for what is not said of it.
    let traced = traced(text_of(node, "tres").unwrap_or_default());
    SlurmNode {
        name: text_of(node, "name").unwrap_or_default().to_owned(),
        states: states(said.iter().map(String::as_str)),
        reason: text_of(node, "reason").map(str::to_owned),
        reservation: text_of(node, "reservation").map(str::to_owned),
        cpus: small_of(node, "cpus").or_else(|| traced.get("cpu")?.parse().ok()),
        cpus_allocated: small_of(node, "alloc_cpus"),
        sockets: small_of(node, "sockets"),
        memory_mib: number_of(node, "real_memory").or_else(|| mebibytes(traced.get("mem")?)),
        gres: gres::parse(text_of(node, "gres").unwrap_or_default()),
        gres_used: gres::parse(text_of(node, "gres_used").unwrap_or_default()),
        features: texts_of(node, "features"),
        partitions: texts_of(node, "partitions"),
    }
}

/// Every node of a group of sinfo's, with what the group says where all its nodes agree.
fn from_group(group: &Value) -> Vec<SlurmNode> {
    let empty = Value::Null;
    let part = |name: &str| group.get(name).unwrap_or(&empty);
    let agreed = |name: &str| {
        let least = number_of(part(name), "minimum")?;
        (number_of(part(name), "maximum")? == least).then_some(least)
    };
    let small = |name: &str| agreed(name).and_then(|number| u32::try_from(number).ok());
    let names = texts_of(part("nodes"), "nodes");
    let alone = names.len() == 1;
    let said = texts_of(part("node"), "state");
    let node = SlurmNode {
        name: String::new(),
        states: states(said.iter().map(String::as_str)),
        reason: text_of(part("reason"), "description").map(str::to_owned),
        reservation: text_of(group, "reservation").map(str::to_owned),
        cpus: small("cpus"),
        cpus_allocated: small_of(part("cpus"), "allocated").filter(|cpus| alone || *cpus == 0),
        sockets: small("sockets"),
        memory_mib: agreed("memory"),
        gres: gres::parse(text_of(part("gres"), "total").unwrap_or_default()),
        gres_used: gres::parse(text_of(part("gres"), "used").unwrap_or_default()),
        features: texts_of(part("features"), "total"),
        partitions: text_of(part("partition"), "name").map(str::to_owned).into_iter().collect(),
    };
    names.into_iter().map(|name| SlurmNode { name, ..node.clone() }).collect()
}

/// A node that appears again adds its partitions.
fn once(nodes: Vec<SlurmNode>) -> Vec<SlurmNode> {
    let (mut places, mut found) = (BTreeMap::new(), Vec::<SlurmNode>::new());
    for node in nodes.into_iter().filter(|node| !node.name.is_empty()) {
        match places.get(&node.name) {
            None => {
                places.insert(node.name.clone(), found.len());
                found.push(node);
            }
            Some(&place) => {
                let known: &mut SlurmNode = &mut found[place];
                known.partitions.extend(node.partitions);
                known.partitions.sort();
                known.partitions.dedup();
            }
        }
    }
    found
}

/// The nodes of `scontrol show node`.
fn blocks(text: &str) -> Vec<SlurmNode> {
    let mut found: Vec<BTreeMap<&str, String>> = Vec::new();
    let mut last = "";
    for word in text.split_whitespace() {
        let (key, value) = word.split_once('=').filter(|(key, _)| is_key(key)).unwrap_or(("", word));
        if key == "NodeName" {
            found.push(BTreeMap::new());
        }
        let Some(node) = found.last_mut() else { continue };
        if key.is_empty() {
            // Values may hold blanks: `OS=Linux 6.1`, `Reason=bad fan`.
            if let Some(value) = node.get_mut(last) {
                value.push(' ');
                value.push_str(word);
            }
            continue;
        }
        last = key;
        // The first wins: what follows `Reason=` is anybody's text.
        node.entry(key).or_insert_with(|| value.to_owned());
    }
    once(found.iter().map(from_block).collect())
}

fn is_key(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn from_block(node: &BTreeMap<&str, String>) -> SlurmNode {
    let text = |key: &str| node.get(key).map_or("", String::as_str);
    let said = |key: &str| Some(text(key)).filter(|text| !["", "(null)", "N/A"].contains(text)).map(str::to_owned);
    let used = if node.contains_key("GresUsed") { text("GresUsed").to_owned() } else { traced_gres(text("AllocTRES")) };
    SlurmNode {
        name: text("NodeName").to_owned(),
        states: states([text("State")]),
        // `bad fan [root@2026-11-20T20:10:05]`
        reason: said("Reason").map(|reason| reason.split(" [").next().unwrap_or_default().to_owned()),
        reservation: said("ReservationName"),
        cpus: text("CPUTot").parse().ok(),
        cpus_allocated: text("CPUAlloc").parse().ok(),
        sockets: text("Sockets").parse().ok(),
        memory_mib: text("RealMemory").parse().ok(),
        gres: gres::parse(text("Gres")),
        gres_used: gres::parse(&used),
        features: words(text("AvailableFeatures")),
        partitions: words(text("Partitions")),
    }
}

/// `cpu=40,mem=95000M,billing=40`
fn traced(list: &str) -> BTreeMap<&str, &str> {
    list.split(',').filter_map(|part| part.split_once('=')).collect()
}

fn traced_gres(list: &str) -> String {
    list.split(',').filter(|part| part.starts_with("gres/")).collect::<Vec<_>>().join(",")
}

/// `95000M`, `125G`
fn mebibytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().ok()?;
    let factor = match &text[digits.len()..] {
        "K" => 1.0 / 1024.0,
        "" | "M" => 1.0,
        "G" => 1024.0,
        "T" => 1024.0 * 1024.0,
        _ => return None,
    };
    (number >= 0.0).then_some((number * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<SlurmNode> {
        parse(text, Path::new("nodes")).unwrap()
    }

    #[test]
    fn one_node_in_four_spellings_is_one_node() {
        let old = r#"{"nodes": [{"name": "n1", "state": "mixed", "state_flags": ["DRAIN"], "reason": "bad fan",
            "cpus": 64, "alloc_cpus": 8, "sockets": 2, "real_memory": 512000, "gres": "gpu:h100:4(S:0-1)",
            "gres_used": "gpu:h100:1(IDX:2)", "features": "h100,nvlink", "partitions": ["all", "gpu"]}]}"#;
        let new = r#"{"nodes": [{"name": "n1", "state": ["MIXED", "DRAIN"], "reason": "bad fan",
            "cpus": {"set": true, "infinite": false, "number": 64}, "alloc_cpus": 8, "sockets": 2, "real_memory": 512000,
            "gres": "gpu:h100:4(S:0-1)", "gres_used": "gpu:h100:1(IDX:2)", "features": ["h100", "nvlink"],
            "partitions": ["all", "gpu"], "reservation": ""}]}"#;
        let group = |partition: &str| {
            format!(
                r#"{{"nodes": {{"nodes": ["n1"]}}, "node": {{"state": ["MIXED", "DRAIN"]}},
                "cpus": {{"minimum": 64, "maximum": 64, "allocated": 8}}, "sockets": {{"minimum": 2, "maximum": 2}},
                "memory": {{"minimum": 512000, "maximum": 512000}}, "reason": {{"description": "bad fan"}},
                "gres": {{"total": "gpu:h100:4(S:0-1)", "used": "gpu:h100:1(IDX:2)"}},
                "features": {{"total": "h100,nvlink"}}, "partition": {{"name": "{partition}"}}}}"#
            )
        };
        let groups = format!(r#"{{"sinfo": [{}, {}]}}"#, group("all"), group("gpu"));
        let text = "NodeName=n1 Arch=x86_64 CoresPerSocket=32\n  CPUAlloc=8 CPUTot=64 AvailableFeatures=h100,nvlink\n \
            Gres=gpu:h100:4(S:0-1) GresUsed=gpu:h100:1(IDX:2) OS=Linux 6.1 #1 SMP RealMemory=512000 Sockets=2 \
            State=MIXED+DRAIN Partitions=all,gpu Reason=bad fan [root@2026-11-20T20:10:05] State=IDLE\n";
        let expected = &read(old)[0];
        assert_eq!((expected.cpus, expected.cpus_allocated, expected.memory_mib), (Some(64), Some(8), Some(512_000)));
        assert!(expected.is("DRAIN") && expected.is("MIXED") && expected.reason.as_deref() == Some("bad fan"));
        assert_eq!(expected.gres_used[0].indices, Some(vec![2]));
        for other in [new, &groups, text] {
            assert_eq!(&read(other)[0], expected, "{other}");
            assert_eq!(read(other).len(), 1);
        }
    }

    #[test]
    fn what_holds_no_nodes_is_refused() {
        for bad in ["", "slurm_load_node error: Unable to contact slurm controller", "{", "{\"errors\": [\"x\"]}", "{}"]
        {
            assert!(parse(bad, Path::new("x")).is_err(), "{bad}");
        }
        for odd in ["[]", "[1, null, {}]", "{\"nodes\": [{\"name\": 3}]}"] {
            assert!(read(odd).is_empty(), "{odd}");
        }
    }
}

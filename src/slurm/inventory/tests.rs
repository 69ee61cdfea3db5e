use std::path::Path;

use super::*;
use crate::formats::{devices_toml, gres, slurm_nodes};

fn node(name: &str, state: &str, gres: &str, features: &str) -> SlurmNode {
    let gpu = !gres.is_empty();
    SlurmNode {
        name: name.into(),
        states: crate::formats::slurm_json::states([state]),
        cpus: Some(64),
        sockets: Some(2),
        memory_mib: Some(512_000),
        gres: gres::parse(gres),
        features: features.split(',').map(str::to_owned).collect(),
        partitions: vec!["all".into(), if gpu { "gpu".into() } else { "cpu".into() }],
        ..SlurmNode::default()
    }
}

fn cluster() -> Vec<SlurmNode> {
    let mut down = node("h3", "DOWN+DRAIN", "gpu:h100:4", "h100");
    down.reason = Some("bad fan".into());
    let mut reserved = node("h4", "idle", "gpu:h100:4", "h100");
    reserved.reservation = Some("course".into());
    vec![
        node("h10", "idle", "gpu:h100:4", "h100,nvlink"),
        node("h2", "mixed", "gpu:h100:4(S:0-1)", "h100"),
        down,
        reserved,
        node("d1", "idle", "gpu:h100:2,gpu:h200:4", ""),
        node("m1", "idle", "gpu:a100_3g.20gb:4,gpu:1g.10gb:8,shard:8", ""),
        node("e1", "idle", "", "epyc_9654"),
        node("a1", "idle~", "", "grace"),
    ]
}

fn job(id: &str, state: &str, nodes: &[&str], held: &[&str], start: u64, end: u64) -> SlurmJob {
    SlurmJob {
        id: id.into(),
        states: [state.to_owned()].into(),
        nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        gres: held.iter().map(|held| gres::parse(held)).collect(),
        cpus: Some(40),
        start: Some(start),
        end: Some(end),
    }
}

#[test]
fn equal_nodes_are_pools_and_the_rest_has_reasons() {
    let mut nodes = cluster();
    nodes[1].gres_used = gres::parse("gpu:h100:2(IDX:1-2)");
    nodes[6].cpus_allocated = Some(40);
    let jobs = [
        job("7", "RUNNING", &["h10", "h2"], &["gpu:h100:1(IDX:3)", "gpu:h100:1(IDX:2)"], 10, 900),
        job("8", "RUNNING", &["d1"], &["gpu:h100:1(IDX:0),gpu:h200:2(IDX:2-3)"], 10, 800),
        job("9", "PENDING", &["h10"], &[], 5000, 0),
        job("10", "RUNNING", &["e1"], &[], 10, 700),
    ];
    let found = inventory(&nodes, &jobs, &devices_toml::builtin(), &Choice::default());
    let line = |pool: &PoolFacts| {
        let (gres, constraint) = (pool.gres.as_deref().unwrap_or("-"), pool.constraint.as_deref().unwrap_or("-"));
        format!(
            "{} {} {}x{} {gres} {constraint} {:?}",
            pool.name,
            pool.nodes.join(","),
            pool.devices_per_node,
            pool.device,
            pool.devices_busy
        )
    };
    let pools: Vec<String> = found.pools.iter().map(line).collect();
    assert_eq!(
        pools,
        [
            "h100 h2,h10 4xH100 gpu:h100 h100 {\"h10\": [3], \"h2\": [1, 2]}",
            "h200 d1 4xH200 gpu:h200 - {\"d1\": [0, 1]}",
            "a100_3g.20gb m1 4xa100_3g.20gb gpu:a100_3g.20gb - {}",
            "epyc-9654 e1 2xEPYC-9654 - epyc_9654 {\"e1\": [0, 1]}",
            "grace a1 2xgrace - grace {}",
        ]
    );
    assert_eq!(found.pools[2].device_memory_gib, Some(20.0));
    assert!(found.pools[2].mps && !found.pools[2].known);
    let reasons: Vec<String> =
        found.left_out.iter().map(|out| format!("{} {:?} {}", out.node, out.part, out.reason)).collect();
    assert_eq!(reasons[..2], ["h3 None down, drained: bad fan", "h4 None reserved (reservation course)"]);
    assert!(reasons[2].starts_with("d1 Some(\"2 of gpu:h100\") a host belongs to one pool"), "{reasons:?}");
    let of = |node: &str| found.usage.iter().find(|usage| usage.node == node).unwrap();
    assert_eq!(of("h10").busy, [Busy { index: 3, job: Some("7".into()), until: Some(900) }]);
    assert_eq!((of("h10").free_until, of("h2").free_until), (Some(5000), None));
    assert_eq!(of("h2").busy[0], Busy { index: 1, job: None, until: None });
    let totals = &found.totals;
    assert_eq!((totals.nodes, totals.usable_nodes, totals.cpus), (8, 6, 512));
    assert_eq!((totals.gres["gpu:h100"], totals.gres["gpu:h200"]), (18, 4));
}

#[test]
fn the_user_names_devices_and_partitions() {
    let choice = Choice {
        partition: Some("cpu".into()),
        devices: BTreeMap::from([("grace".to_owned(), "EPYC-9654".to_owned())]),
    };
    let found = inventory(&cluster(), &[], &devices_toml::builtin(), &choice);
    assert_eq!(found.pools.len(), 1, "both CPU nodes are called the same now");
    assert_eq!((found.pools[0].device.as_str(), found.pools[0].nodes.len()), ("EPYC-9654", 2));
    assert!(found.left_out.iter().any(|out| out.node == "h10" && out.reason.contains("not in partition cpu")));
}

#[test]
fn odd_lists_make_no_panic() {
    let text = r#"{"nodes": [{"name": "n", "state": "idle", "gres": "gpu:x:99999999999", "sockets": 0, "cpus": 0,
        "real_memory": 18446744073709551610}, {"name": "n2", "state": []}]}"#;
    let nodes = slurm_nodes::parse(text, Path::new("x")).unwrap();
    let jobs = [job("1", "RUNNING", &["n", "n"], &["gpu:x:3(IDX:4000)", "gpu:x:9999999"], 0, 0)];
    let found = inventory(&nodes, &jobs, &[], &Choice::default());
    assert_eq!(found.left_out[0].reason, "its state is not said");
    assert_eq!(found.pools.len(), 1);
}

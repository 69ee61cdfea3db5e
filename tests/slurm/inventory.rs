//! `inventory slurm` of a cluster that is in use.

use std::fs;
use std::path::Path;
use std::time::Duration;

use jouleplan::formats::{cluster_toml, devices_toml};
use serde_json::Value;

use super::bed::{Own, assert_code, fresh, stdout, wait_for};

fn inventory(bed: &Own, folder: &Path, more: &[&str]) -> Value {
    let arguments = ["inventory", "slurm", "--out", "cluster.toml", "--json", "--device", "grace=EPYC-9654"];
    let output = bed.jouleplan(folder, &[&arguments[..], more].concat());
    assert_code(&output, 0);
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[test]
fn a_cluster_in_use_becomes_a_cluster_file() {
    let Some(bed) = fresh(false) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let job = bed.slurm(&[
        "sbatch",
        "--parsable",
        "--wrap=sleep 60",
        "--gres=gpu:h100:3",
        "-w",
        "h100n1",
        "-t",
        "10",
        "-o",
        "/dev/null",
    ]);
    bed.slurm(&["sbatch", "--wrap=sleep 60", "-w", "epycn2", "-c", "40", "-t", "10", "-o", "/dev/null"]);
    bed.slurm(&["scontrol", "update", "NodeName=l4n1", "State=DRAIN", "Reason=bad fan; $(x)"]);
    bed.slurm(&[
        "scontrol",
        "create",
        "reservation",
        "ReservationName=course",
        "Nodes=armn1",
        "StartTime=now",
        "Duration=10",
        "Users=root",
    ]);
    let reserved = || bed.slurm(&["scontrol", "-o", "show", "node", "armn1"]).contains("RESERVED");
    wait_for("the reservation", Duration::from_secs(10), reserved);
    wait_for("two jobs", Duration::from_secs(10), || bed.slurm(&["squeue", "-h", "-t", "R"]).lines().count() == 2);

    let found = inventory(&bed, folder.path(), &[]);
    let reasons: Vec<String> =
        found["left_out"].as_array().unwrap().iter().map(|out| format!("{} {}", out["node"], out["reason"])).collect();
    assert!(reasons.iter().any(|text| text.contains("l4n1") && text.contains("drained: bad fan; $(x)")), "{reasons:?}");
    assert!(reasons.iter().any(|text| text.contains("armn1") && text.contains("reserved")), "{reasons:?}");
    let text = fs::read_to_string(at("cluster.toml")).unwrap();
    let read = |text: &str| cluster_toml::parse(text, Path::new("c"), &devices_toml::builtin()).unwrap().cluster;
    let cluster = read(&text);
    let pools: Vec<String> = cluster
        .pools
        .iter()
        .map(|pool| format!("{}:{}x{}", pool.name, pool.nodes.len(), pool.devices_per_node))
        .collect();
    assert_eq!(pools, ["a100:1x8", "h100:2x4", "epyc-9654:2x2"], "{text}");
    let h100 = &cluster.pools[1];
    assert_eq!((h100.free_devices(0), h100.free_devices(1).len()), (vec![3], 4), "{text}");
    assert_eq!(
        (h100.cpus_per_device, h100.slurm.gres.as_deref(), h100.slurm.partition.as_deref()),
        (Some(16), Some("gpu:h100"), Some("gpu"))
    );
    assert_eq!(cluster.pools[2].free_devices(1), Vec::<u32>::new(), "40 of 64 cores fill more than a socket: {text}");
    let busy = found["nodes"].as_array().unwrap().iter().find(|node| node["node"] == "h100n1").unwrap();
    assert_eq!((busy["busy"][0]["job"].as_str(), busy["free_devices"].as_u64()), (Some(job.trim()), Some(1)));
    assert!(busy["busy"][0]["until"].is_string(), "{busy}");

    // What people add survives, and what changed in Slurm follows.
    let ours = text.replace("name = \"h100\"", "name = \"h100\"\nidle_power_w = 61.5 # by the PDU\nbase_power_w = 987");
    fs::write(at("cluster.toml"), ours).unwrap();
    bed.slurm(&["scancel", job.trim()]);
    bed.slurm(&["scontrol", "delete", "ReservationName=course"]);
    wait_for("the job's end", Duration::from_secs(10), || bed.slurm(&["squeue", "-h", "-j", job.trim()]).is_empty());
    inventory(&bed, folder.path(), &[]);
    let text = fs::read_to_string(at("cluster.toml")).unwrap();
    assert!(text.contains("idle_power_w = 61.5 # by the PDU") && text.contains("base_power_w = 987"), "{text}");
    let cluster = read(&text);
    assert_eq!(cluster.pools.iter().find(|pool| pool.name == "h100").unwrap().free_devices(0).len(), 4, "{text}");
    assert!(cluster.pools.iter().any(|pool| pool.nodes == ["armn1"]), "{text}");

    // The same cluster through the text of scontrol.
    fs::write(at("nodes.txt"), bed.slurm(&["scontrol", "-d", "show", "node"])).unwrap();
    let output = bed.jouleplan(folder.path(), &["inventory", "slurm", "--nodes", "nodes.txt", "--json"]);
    assert_code(&output, 0);
    let from_text: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(from_text["totals"], inventory(&bed, folder.path(), &[])["totals"]);
}

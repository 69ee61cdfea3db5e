//! `plan`: what it writes and prints, and that nothing but `run` differs between equal runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json as object};

use crate::case::{CLUSTER, CPU_POOL, Case, assert_code, bundled, json, stderr, stdout, words, workload};

#[test]
fn a_plan_directory_holds_what_it_promises() {
    let case = Case::new();
    let output = case.planned();
    for word in ["objective", "bound", "gap", "merging", "standby", "static_best", "estimates", "low end"] {
        assert!(stdout(&output).contains(word), "{word} in {}", stdout(&output));
    }
    assert!(stderr(&output).contains("plan written"), "{}", stderr(&output));
    for name in ["plan.json", "instances.csv", "nodes.csv", "assignments.csv", "jobs.csv", "summary.csv"] {
        assert!(!case.read(&format!("plan/{name}")).is_empty(), "{name}");
    }
    let ids: BTreeSet<String> =
        case.read("plan/assignments.csv").lines().skip(1).map(|l| l.split(',').next().unwrap().to_owned()).collect();
    assert_eq!(ids, (1..=40).map(|id| id.to_string()).collect(), "every request once");
    assert_eq!(case.read("plan/assignments.csv").lines().count(), 41);
    let shard = case.read("plan/shards/i0001.csv");
    assert!(shard.starts_with("input_tokens,output_tokens\n"));
    assert!(case.read("plan/slurm/i0001.sbatch").contains("#SBATCH --gres=gpu:h100:1"));
    let leftovers: Vec<_> = fs::read_dir(case.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[test]
fn json_has_the_promised_keys_and_is_all_of_stdout() {
    let case = Case::new();
    let output = case.plan(&words("--workload w.csv --deadline 1h --accuracy accuracy.csv --task t --min-accuracy 60 --account whole-cluster --json --quiet"));
    assert_code(&output, 0);
    assert_eq!(stderr(&output), "");
    let plan = json(&output);
    for key in [
        "schema_version",
        "status",
        "objective_j",
        "bound_j",
        "gap",
        "gap_parts",
        "requests",
        "instances",
        "nodes_used",
        "wall_s",
        "peak_rss_mib",
        "energy",
        "standby_j",
        "estimated_share",
        "extrapolated_share",
        "jobs",
        "baselines",
        "warnings",
        "whole_cluster_j",
        "out",
    ] {
        assert!(!plan[key].is_null(), "{key}");
    }
    let number = |value: &Value| value.as_f64().unwrap();
    let (objective, bound) = (number(&plan["objective_j"]), number(&plan["bound_j"]));
    assert!(bound > 0.0 && bound <= objective);
    assert!((number(&plan["gap"]) - (objective - bound) / objective).abs() < 1e-9);
    let parts: f64 = ["merging", "integer", "placement"].iter().map(|part| number(&plan["gap_parts"][part])).sum();
    assert!((parts - number(&plan["gap"])).abs() < 1e-9);
    let causes: f64 = plan["energy"].as_object().unwrap().values().map(number).sum();
    assert!((causes - objective).abs() < 1e-6 * objective);
    assert!(number(&plan["jobs"][0]["mean_accuracy"]) >= 60.0);
    let baselines = plan["baselines"].as_object().unwrap();
    for name in ["fastest", "random", "round_robin", "paper", "static_best", "most_accurate"] {
        assert!(baselines.contains_key(name), "{name}");
    }
    for (name, baseline) in baselines.iter().filter(|(_, baseline)| baseline["feasible"] == true) {
        assert!(number(&baseline["energy_j"]) >= objective * (1.0 - 1e-9), "{name} is better than the plan");
    }
}

#[test]
fn equal_runs_give_equal_bytes_but_for_run() {
    let case = Case::new();
    let plan = |out: &str| {
        let common = ["--workload", "w.csv", "--deadline", "2h", "--seed", "7", "--time-limit", "600s"];
        let output = case.run(
            &[&["plan", "--models", "models.json", "--cluster", "cluster.toml", "--out", out][..], &common].concat(),
        );
        assert_code(&output, 0);
        files(&case.path(out))
    };
    let (mut first, mut second) = (plan("a"), plan("b"));
    let run = |files: &mut BTreeMap<String, Vec<u8>>| {
        let mut json: Value = serde_json::from_slice(&files["plan.json"]).unwrap();
        let run = json.as_object_mut().unwrap().shift_remove("run").unwrap();
        files.insert("plan.json".into(), serde_json::to_vec_pretty(&json).unwrap());
        run
    };
    let (first_run, second_run) = (run(&mut first), run(&mut second));
    assert!(first_run["wall_s"].as_f64().unwrap() > 0.0 && second_run["start"].is_string());
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    for (name, bytes) in &first {
        assert!(*bytes == second[name], "{name} differs");
    }
}

/// Every file under `root` by its relative path.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn without_gpus_the_small_model_runs_on_cpu_sockets() {
    let case = Case::new();
    case.write("cluster.toml", CPU_POOL);
    let output = case.plan(&["--workload", "w.csv", "--deadline", "2h"]);
    assert_code(&output, 0);
    let instances = case.read("plan/instances.csv");
    for row in instances.lines().skip(1) {
        assert!(row.contains(",cpu,cpu") && row.contains("Llama-3.1-8B-Instruct"), "{row}");
    }
    let script = case.read("plan/slurm/i0001.sbatch");
    assert!(script.contains("#SBATCH --cpus-per-task=56\n") && !script.contains("gres"), "{script}");
    assert_code(&case.run(&["check", "plan"]), 0);
    assert!(case.read("plan/nodes.csv").lines().count() > 1, "a node was woken");
}

#[test]
fn an_incumbent_is_never_made_worse() {
    let case = Case::new();
    case.write("w.csv", &workload(300));
    let objective = |out: &str| case.json(&format!("{out}/plan.json"))["objective_j"].as_f64().unwrap();
    assert_code(&case.plan(&["--workload", "w.csv", "--deadline", "5min", "--out", "tight"]), 0);
    // With almost no time to search, the new plan can only lean on the old one.
    let output = case.plan(&words("--workload w.csv --deadline 4h --out loose --incumbent tight --time-limit 1s"));
    assert_code(&output, 0);
    assert!(!stdout(&output).contains("is not used"), "{}", stdout(&output));
    assert!(objective("loose") <= objective("tight") * (1.0 + 1e-9));

    // One that serves other requests, or no plan at all, is said not to be used; the plan is made all the same.
    case.write("w.csv", &workload(301));
    for (old, why) in [("tight", "it does not serve request 301"), ("nowhere", "nowhere/plan.json")] {
        let output = case.plan(&["--workload", "w.csv", "--deadline", "1h", "--incumbent", old, "--json"]);
        assert_code(&output, 0);
        let warnings = json(&output)["warnings"].to_string();
        assert!(warnings.contains("is not used") && warnings.contains(why), "{warnings}");
    }
}

#[test]
fn jobs_and_a_batch_file_are_planned_together() {
    let case = Case::new();
    let jobs = "[[job]]\nname = \"night\"\nfiles = [\"w.csv\"]\ntask = \"t\"\nmin_accuracy = 60\ndeadline = \"2h\"\n\
                [[job]]\nname = \"batch\"\nfiles = [\"b.jsonl\"]\nmodels = [\"meta-llama/Llama-3.1-8B-Instruct\"]\n\
                deadline = \"2026-11-21T02:00:00Z\"\n";
    case.write("jobs.toml", jobs);
    fs::copy(bundled("workloads/batch_100.jsonl"), case.path("b.jsonl")).unwrap();
    let output = case.plan(&words(
        "--workload w.csv b.jsonl --jobs jobs.toml --accuracy accuracy.csv --start 2026-11-21T00:00:00Z --json",
    ));
    assert_code(&output, 0);
    let plan = json(&output);
    assert_eq!(plan["requests"], 140);
    assert_eq!(plan["jobs"][1]["deadline_s"], 7200.0);
    assert!(plan["warnings"].to_string().contains("estimated"), "lengths of text are estimates: {}", plan["warnings"]);
    let shards: Vec<String> = files(&case.path("plan/shards")).into_keys().collect();
    assert!(shards.iter().any(|name| name.ends_with(".jsonl")), "{shards:?}");
    assert_code(&case.run(&["check", "plan"]), 0);
    let explained = json(&case.run(&["explain", "plan", "batch", "--json"]));
    assert_eq!(explained["job"]["result"]["requests"], 100);
}

#[test]
fn the_demo_prints_the_whole_story_and_its_plan_checks() {
    let script = bundled("examples/demo.sh");
    let output = std::process::Command::new("bash").arg(script).output().unwrap();
    assert_code(&output, 0);
    for word in
        ["objective", "bound", "merging", "static_best", "paper", "estimates for", "extrapolation for", "valid:"]
    {
        assert!(stdout(&output).contains(word), "{word} in {}", stdout(&output));
    }
    assert!(stderr(&output).contains("target/demo-plan"), "{}", stderr(&output));
}

/// One Llama family on one device, with a clock table in which the low clock saves energy and takes half as long again.
#[test]
fn the_deadline_decides_the_clock_where_jobs_may_set_it() {
    let case = Case::new();
    let mut models = case.json("models.json");
    let families = models["families"].as_array_mut().unwrap();
    families.retain(|family| family["family"]["model"] == "meta-llama/Llama-3.1-8B-Instruct");
    families.truncate(1);
    let factors =
        |net_energy: f64, time: f64| object!({"net_energy": net_energy, "time": time, "provenance": "imported"});
    let point = |clock: u32, factors: Value| object!({"sm_clock_mhz": clock, "prefill": factors, "decode": factors, "batch_size": [1.0, 4096.0]});
    let points = [point(990, factors(0.7, 1.5)), point(1980, factors(1.0, 1.0))];
    families[0]["clocks"] = object!({"default_mhz": 1980, "points": points});
    case.write("models.json", &models.to_string());
    case.write("w.csv", &workload(30_000));
    let one_device = CLUSTER.replace("gpu[1-2]", "gpu1").replace("devices_per_node = 4", "devices_per_node = 1");
    case.write("cluster.toml", &format!("{one_device}clock_control = \"gpu-freq\"\n"));

    let planned = |deadline: &str| -> (f64, BTreeSet<String>, String) {
        let output = case.plan(&["--workload", "w.csv", "--deadline", deadline, "--json"]);
        assert_code(&output, 0);
        assert_code(&case.run(&["check", "plan"]), 0);
        let table = case.read("plan/instances.csv");
        let clocks = table.lines().skip(1).map(|line| line.split(',').nth(9).unwrap().to_owned()).collect();
        let finish = json(&output)["jobs"][0]["finish_s"].as_f64().unwrap();
        (finish, clocks, case.read("plan/slurm/i0001.sbatch"))
    };
    let (finish, clocks, script) = planned("10h");
    assert_eq!(clocks, BTreeSet::from(["990".to_owned()]));
    assert!(script.contains("#SBATCH --gpu-freq=990\n"), "{script}");
    let (sooner, clocks, _) = planned(&format!("{}s", (finish * 0.75) as u32));
    assert!(sooner <= finish * 0.75 && clocks.contains("1980"), "{sooner} {clocks:?}");

    // A plan that says another clock than its figures are of is refused.
    let plan = case.read("plan/plan.json");
    case.write("plan/plan.json", &plan.replace("\"sm_clock_mhz\": 1980", "\"sm_clock_mhz\": 990"));
    let instances = case.read("plan/instances.csv");
    case.write("plan/instances.csv", &instances.replace(",1980,1,", ",990,1,"));
    let output = case.run(&["check", "plan"]);
    assert_code(&output, 4);
    assert!(stdout(&output).contains("C-DEPLOYMENT"), "{}", stdout(&output));

    case.write("cluster.toml", &one_device);
    let (_, clocks, script) = planned("10h");
    assert_eq!(clocks, BTreeSet::from([String::new()]), "a pool without clock control is planned at its own clock");
    assert!(!script.contains("gpu-freq"));
}

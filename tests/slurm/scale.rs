//! Many instances and many plans: arrays, and `sbatch --test-only` on a bed that matches.
//!
//! JOULEPLAN_RANDOM_PLANS says how many random plans, JOULEPLAN_INSTANCES how many instances are planned and submitted; the
//! usual few keep the tests short. In full:
//! JOULEPLAN_INSTANCES=4000 JOULEPLAN_RANDOM_PLANS=50 JOULEPLAN_REQUIRE_SLURM=1 cargo test --release --test slurm scale --
//! --nocapture

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::bed::{assert_code, binary, cloud, fresh, fresh_of, stderr, stdout};
use super::night::Night;

/// Repeats the instances of a plan's scripts until there are `wanted`, each on another device or later.
fn enlarge(night: &Night, wanted: usize) {
    let path = night.path("plan/slurm/jobs.json");
    let mut jobs: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let nodes = ["h100n1", "h100n2"];
    let first = jobs["scripts"].as_array().unwrap().iter().position(|script| script["pool"] == "h100").unwrap();
    let script = jobs["scripts"][first].clone();
    let model = script["instances"][0].clone();
    let shard = fs::read_to_string(night.path(&format!("plan/{}", model["shards"][0].as_str().unwrap()))).unwrap();
    let line = shard.lines().next().unwrap();
    let mut scripts = Vec::new();
    let mut made: Vec<Value> = Vec::new();
    for index in 0..wanted {
        let id = format!("i{:04}", index + 1);
        let mut instance = model.clone();
        instance["instance"] = json!(id);
        instance["node"] = json!(nodes[index % 2]);
        instance["devices"] = json!([index / 2 % 4]);
        instance["begin_s"] = json!((index / 8 * 60) as f64);
        instance["after"] = json!(
            made.len().checked_sub(8).map(|before| made[before]["instance"].clone()).into_iter().collect::<Vec<_>>()
        );
        instance["shards"] = json!([format!("shards/{id}.jsonl")]);
        fs::write(night.path(&format!("plan/shards/{id}.jsonl")), format!("{line}\n")).unwrap();
        made.push(instance);
    }
    for (number, instances) in made.chunks(1000).enumerate() {
        let mut script = script.clone();
        script["instances"] = json!(instances);
        script["deadline_s"] = json!(1e6);
        let file = format!("slurm/big{number}.sbatch");
        fs::copy(
            night.path("plan").join(jobs["scripts"][first]["file"].as_str().unwrap()),
            night.path("plan").join(&file),
        )
        .unwrap();
        script["file"] = json!(file);
        scripts.push(script);
    }
    jobs["scripts"] = json!(scripts);
    fs::write(&path, jobs.to_string()).unwrap();
}

fn asked(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Fifteen requests of a thousand tokens a device, whose deadline leaves time for no more than that after a load: so the
/// planner needs that many instances.
fn large_plan(folder: &Path, instances: u64) -> Value {
    let line = |number: u64| {
        let body = json!({"model": "any", "prompt": "short", "max_tokens": 1000});
        json!({"custom_id": format!("r{number}"), "method": "POST", "url": "/v1/completions", "body": body}).to_string()
            + "\n"
    };
    let requests = 155 * instances / 10;
    fs::write(folder.join("big.jsonl"), (0..requests).map(line).collect::<String>()).unwrap();
    let cluster = format!(
        "[[pool]]\nname = \"h100\"\nnodes = \"big[1-{}]\"\ndevice = \"H100\"\ndevices_per_node = 8\nhost_memory_gib = 480\n\
         cpus_per_device = 8\nidle_power_w = 70\nbase_power_w = 900\npartition = \"gpu\"\ngres = \"gpu:h100\"\n",
        nodes_for(instances)
    );
    fs::write(folder.join("cluster.toml"), cluster).unwrap();
    // Few tokens at a time: a device then serves few requests in a minute.
    let job = "[[job]]\nname = \"big\"\nfiles = [\"big.jsonl\"]\nmodels = [\"Qwen/Qwen3-8B\"]\nmax_tbt_s = 0.02\n";
    fs::write(folder.join("jobs.toml"), job).unwrap();
    let output = Command::new(binary())
        .current_dir(folder)
        .args([
            "plan",
            "--cluster",
            "cluster.toml",
            "--jobs",
            "jobs.toml",
            "--workload",
            "big.jsonl",
            "--deadline",
            "85s",
        ])
        .args(["--baselines", "none", "--time-limit", "20s", "--out", "plan", "--json", "--models"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/models.json"))
        .output()
        .unwrap();
    assert_code(&output, 0);
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn nodes_for(instances: u64) -> u64 {
    instances * 5 / 32
}

#[test]
fn a_plan_of_thousands_of_instances_goes_as_arrays() {
    let wanted = asked("JOULEPLAN_INSTANCES", 400);
    let Some(bed) = fresh_of(&cloud(u32::try_from(nodes_for(wanted)).unwrap()), false) else { return };
    let folder = tempfile::tempdir().unwrap();
    let planned = large_plan(folder.path(), wanted);
    let instances = planned["instances"].as_u64().unwrap();
    assert!(instances >= wanted, "the planner makes {instances} instances of it");
    let start = Instant::now();
    let output = bed.jouleplan(folder.path(), &["submit", "plan", "--yes", "--json"]);
    let took = start.elapsed();
    assert_code(&output, 0);
    let submitted: Value = serde_json::from_str(&stdout(&output)).unwrap();
    eprintln!("{instances} instances in {} arrays in {:.1} s", submitted["arrays"], took.as_secs_f64());
    assert_eq!(submitted["instances"].as_u64(), Some(instances));
    // Those of one deployment share arrays of a thousand.
    let jobs: Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("plan/slurm/jobs.json")).unwrap()).unwrap();
    assert_eq!(submitted["jobs"].as_u64(), Some(jobs["scripts"].as_array().unwrap().len() as u64));
    assert!(submitted["jobs"].as_u64().unwrap() <= instances / 1000 + 5, "{submitted}");
    assert!(took.as_secs_f64() < 60.0, "{took:?}");
    // Each task is a job, on the node that was planned for it.
    let queued = bed.slurm(&["squeue", "-h", "-r", "-t", "all", "-o", "%F_%K %r"]);
    assert!(queued.lines().count() as u64 == instances && !queued.contains("Held"), "{}", queued.lines().count());
    let told = fs::read_to_string(folder.path().join("plan/submitted.csv")).unwrap();
    let told: Vec<Vec<&str>> = told.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let scripts = jobs["scripts"].as_array().unwrap();
    let node_of = |instance: &str| {
        let all = || scripts.iter().flat_map(|script| script["instances"].as_array().unwrap());
        all().find(|known| known["instance"] == instance).unwrap()["node"].as_str().unwrap().to_owned()
    };
    for task in told.iter().step_by(told.len() / 7) {
        let said = bed.slurm(&["scontrol", "-o", "show", "job", task[1]]);
        assert!(said.contains(&format!("ReqNodeList={} ", node_of(task[0]))), "{task:?}: {said}");
    }
    let cancelled = bed.jouleplan(folder.path(), &["cancel", "plan"]);
    assert_code(&cancelled, 0);
    assert!(stderr(&cancelled).contains(&format!("{instances} jobs cancelled")), "{}", stderr(&cancelled));
}

#[test]
fn tasks_of_an_array_wait_for_what_uses_their_devices_before() {
    let Some(bed) = fresh(false) else { return };
    let night = Night::new([2, 1, 1], 3);
    night.plan(&[]);
    enlarge(&night, 1500);
    let submitted = night.json(&bed, &["submit", "plan", "--yes"]);
    assert_eq!((submitted["instances"].as_u64(), submitted["arrays"].as_u64()), (Some(1500), Some(2)));
    let queued = bed.slurm(&["squeue", "-h", "-r", "-t", "PD,R,CG,CD", "-o", "%F_%K %r"]);
    assert!(queued.lines().count() >= 1500 && !queued.contains("Held"), "{}", queued.lines().count());
    // What was planned for each task is what Slurm knows of it.
    let jobs: Vec<String> =
        fs::read_to_string(night.path("plan/submitted.csv")).unwrap().lines().skip(1).map(str::to_owned).collect();
    let of = |index: usize| jobs[index].split(',').map(str::to_owned).collect::<Vec<_>>();
    let (task, before) = (of(1333), of(1325));
    let said = bed.slurm(&["scontrol", "-o", "show", "job", &task[1]]);
    assert!(
        said.contains(&format!("ReqNodeList={}", task[2])) && said.contains(&format!("afterany:{}", before[1])),
        "{said}"
    );
    let cancelled = night.run(&bed, &["cancel", "plan"]);
    assert_code(&cancelled, 0);
    assert!(stderr(&cancelled).contains("jobs cancelled"), "{}", stderr(&cancelled));
}

#[test]
fn slurm_accepts_every_script_of_random_plans() {
    let Some(bed) = fresh(false) else { return };
    let plans = asked("JOULEPLAN_RANDOM_PLANS", 3);
    for seed in 0..plans {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let requests = [0; 3].map(|_| random.random_range(1..40));
        let night = Night::new(requests, random.random_range(1..400));
        let hours = format!("{}h", random.random_range(1..9));
        night.plan(&["--deadline", &hours]);
        for placement in ["node", "pool"] {
            let mut words = vec!["submit", "plan", "--placement", placement];
            if random.random_bool(0.5) {
                words.push("--exclusive");
            }
            let output = night.run(&bed, &words);
            assert_eq!(output.status.code(), Some(0), "seed {seed}: {}", stderr(&output));
        }
    }
    assert!(bed.slurm(&["squeue", "-h"]).is_empty());
}

//! Many instances and many plans: arrays, and `sbatch --test-only` on a bed that matches.
//!
//! JOULEPLAN_RANDOM_PLANS says how many random plans; the usual few keep the tests short.

use std::fs;
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::bed::{assert_code, fresh, stderr};
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

#[test]
fn four_thousand_instances_go_as_arrays() {
    let Some(bed) = fresh(false) else { return };
    let night = Night::new([2, 1, 1], 3);
    night.plan(&[]);
    enlarge(&night, 4000);
    let start = Instant::now();
    let submitted = night.json(&bed, &["submit", "plan", "--yes"]);
    let took = start.elapsed();
    eprintln!("4000 instances in {} arrays in {:.1} s", submitted["arrays"], took.as_secs_f64());
    assert_eq!((submitted["instances"].as_u64(), submitted["arrays"].as_u64()), (Some(4000), Some(4)));
    assert!(took.as_secs_f64() < 60.0, "{took:?}");
    let queued = bed.slurm(&["squeue", "-h", "-r", "-t", "PD,R,CG,CD", "-o", "%F_%K %r"]);
    assert!(queued.lines().count() >= 4000 && !queued.contains("Held"), "{}", queued.lines().count());
    // What was planned for each task is what Slurm knows of it.
    let jobs: Vec<String> =
        fs::read_to_string(night.path("plan/submitted.csv")).unwrap().lines().skip(1).map(str::to_owned).collect();
    let of = |index: usize| jobs[index].split(',').map(str::to_owned).collect::<Vec<_>>();
    let (task, before) = (of(3333), of(3325));
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
    let plans = std::env::var("JOULEPLAN_RANDOM_PLANS").ok().and_then(|plans| plans.parse().ok()).unwrap_or(3_u64);
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

//! A night from plan to reconciled figures.
//!
//! `make test` keeps the measured part short. In full, at a minute of known power:
//! JOULEPLAN_NIGHT_S=60 JOULEPLAN_REQUIRE_SLURM=1 cargo test --release --test slurm a_night -- --nocapture

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bed::{assert_code, fresh, stderr, stdout, wait_for};
use super::night::Night;

/// Outside the measured time nodes draw little, so what Slurm's whole seconds and the meter's look at the idle node before
/// the command leave open is little too.
const AT_REST_W: f64 = 5.0;
const AT_WORK_W: f64 = 400.0;
/// Most that one instance begins after another.
const START_S: f64 = 12.0;

#[test]
fn a_night_is_planned_submitted_served_collected_and_reconciled() {
    let Some(mut bed) = fresh(true) else { return };
    let seconds = std::env::var("JOULEPLAN_NIGHT_S").ok().and_then(|text| text.parse().ok()).unwrap_or(6.0);
    let mut night = Night::new([1200, 650, 150], 20);
    night.plan(&[]);
    let nodes = ["h100n1", "h100n2", "epycn1", "epycn2"];
    let power = |bed: &mut super::bed::Own, watts: f64| {
        nodes.iter().for_each(|node| drop(bed.tell(&format!("watts {node} {watts}"))));
    };
    power(&mut bed, AT_REST_W);
    // So slow an engine that no instance is through before the last one has begun and the time is over.
    night.environment.insert("TINY_STEP_S".into(), format!("{}", step_s(&night, seconds + START_S)));

    let dry = night.json(&bed, &["submit", "plan"]);
    assert_eq!((dry["submitted"].as_bool(), bed.slurm(&["squeue", "-h"]).as_str()), (Some(false), ""));
    assert!(!night.path("plan/submission.json").exists());
    let submitted = night.json(&bed, &["submit", "plan", "--yes", "--asap"]);
    assert_eq!(submitted["instances"], dry["instances"]);
    // Once more is nothing more.
    let again = night.json(&bed, &["submit", "plan", "--yes"]);
    assert_eq!(again["submitted"].as_bool(), Some(false));
    let status = night.json(&bed, &["status", "plan"]);
    assert_eq!(status["jobs"].as_array().unwrap().len(), 3, "{status}");

    // All serve: for a known time each node draws a known power.
    let instances = dry["instances"].as_u64().unwrap() as usize;
    wait_for("all instances to serve", Duration::from_secs(60), || serving(&night).len() == instances);
    let start = Instant::now();
    power(&mut bed, AT_WORK_W);
    std::thread::sleep(Duration::from_secs_f64(seconds));
    power(&mut bed, AT_REST_W);
    let worked = start.elapsed().as_secs_f64();
    assert!(served(&night).is_empty(), "an instance ended too early for this test");
    night.wait(&bed, Duration::from_secs(120 + 2 * seconds as u64));
    night.assert_all_answered(&bed);

    let status = night.json(&bed, &["status", "plan"]);
    for instance in status["instances"].as_array().unwrap() {
        assert_eq!(
            (instance["state"].as_str(), &instance["answered"]),
            (Some("done"), &instance["requests"]),
            "{status}"
        );
    }
    let table = night.run(&bed, &["status", "plan", "--instances"]);
    assert_code(&table, 0);
    assert!(stdout(&table).contains("2000 of 2000 requests"), "{}", stdout(&table));

    // Slurm's figures lag by seconds.
    let accounted = || {
        let rows = night.json(&bed, &["reconcile", "plan"])["instances"].clone();
        rows.as_array().unwrap().iter().all(|row| row["slurm_gross_j"].is_f64())
    };
    wait_for("Slurm's accounts", Duration::from_secs(30), accounted);
    let reconciled = night.json(&bed, &["reconcile", "plan", "--samples", "new.csv"]);
    for instance in reconciled["instances"].as_array().unwrap() {
        let name = instance["instance"].as_str().unwrap();
        let figure = |name: &str| instance[name].as_f64().unwrap();
        let truth = |seconds: f64| (AT_WORK_W - AT_REST_W) * worked + AT_REST_W * seconds;
        for (by, joules, seconds) in [("the meter", "gross_j", "seconds"), ("Slurm", "slurm_gross_j", "slurm_seconds")]
        {
            let off = figure(joules) / truth(figure(seconds)) - 1.0;
            eprintln!(
                "{name}: {:.1} J by {by} over {:.2} s, {:+.2} % off",
                figure(joules),
                figure(seconds),
                100.0 * off
            );
            assert!(off.abs() < 0.02, "{name}: {off} by {by}; {reconciled:#}");
        }
    }
    assert!(!reconciled["deployments"].as_array().unwrap().is_empty());
    let samples = fs::read_to_string(night.path("new.csv")).unwrap();
    // All nodes of the bed share one processor, so where others use it nothing is a measurement, and no sample.
    let clean = reconciled["instances"].as_array().unwrap().iter().filter(|row| row["estimated"] == false).count();
    assert_eq!(samples.lines().filter(|line| line.contains(",measured,")).count(), clean, "{samples}");
    let nothing = night.run(&bed, &["submit", "plan", "--yes", "--resume"]);
    assert_code(&nothing, 0);
    assert!(stderr(&nothing).contains("nothing to submit"), "{}", stderr(&nothing));
}

/// Seconds of a step of the engine at which the least busy instance works that long.
fn step_s(night: &Night, seconds: f64) -> f64 {
    let plan: Value = serde_json::from_str(&fs::read_to_string(night.path("plan/plan.json")).unwrap()).unwrap();
    let slots = |id: &str| {
        let deployments = plan["deployments"].as_array().unwrap();
        deployments.iter().find(|deployment| deployment["id"] == id).unwrap()["max_num_seqs"].as_f64().unwrap()
    };
    let jobs: Value = serde_json::from_str(&fs::read_to_string(night.path("plan/slurm/jobs.json")).unwrap()).unwrap();
    let mut least = f64::INFINITY;
    for script in jobs["scripts"].as_array().unwrap() {
        for instance in script["instances"].as_array().unwrap() {
            let requests: f64 =
                instance["jobs"].as_array().unwrap().iter().map(|job| job["requests"].as_f64().unwrap()).sum();
            least = least.min(20.0 * (requests / slots(script["deployment"].as_str().unwrap())).max(1.0));
        }
    }
    seconds / least
}

/// Instances whose marks say so.
fn marked(night: &Night, what: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(night.path("plan/results")).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if name.ends_with(".marks") && text.lines().any(|line| line.starts_with(what)) {
            found.insert(name.split('.').next().unwrap().to_owned());
        }
    }
    found
}

fn serving(night: &Night) -> BTreeSet<String> {
    marked(night, "serve ")
}

fn served(night: &Night) -> BTreeSet<String> {
    marked(night, "served ")
}

#[test]
fn runs_on_devices_with_meters_become_samples_that_update_the_models() {
    let Some(bed) = fresh(false) else { return };
    let mut night = Night::new([200, 150, 20], 10);
    night.plan(&[]);
    night.with_devices(&bed, &["h100n1", "h100n2"], 4);
    night.environment.insert("TINY_STEP_S".into(), "0.02".into());
    assert_code(&night.run(&bed, &["submit", "plan", "--yes", "--asap"]), 0);
    night.wait(&bed, Duration::from_secs(120));
    night.assert_all_answered(&bed);
    let reconciled = night.json(&bed, &["reconcile", "plan", "--samples", "new.csv"]);
    let rows = reconciled["instances"].as_array().unwrap();
    let on_devices: Vec<&Value> =
        rows.iter().filter(|row| row["deployment"].as_str().unwrap().ends_with("@h100")).collect();
    assert!(on_devices.len() >= 2, "{reconciled:#}");
    for row in &on_devices {
        assert_eq!(row["estimated"], false, "{reconciled:#}");
        // 60 W at rest, and 332 W once the engine has begun.
        let watts = row["gross_j"].as_f64().unwrap() / row["seconds"].as_f64().unwrap();
        assert!((200.0..335.0).contains(&watts), "{watts}");
    }
    let text = fs::read_to_string(night.path("new.csv")).unwrap();
    let samples: Vec<&str> = text.lines().skip(1).filter(|line| line.contains(",H100,")).collect();
    assert_eq!(samples.len(), on_devices.len(), "{text}");
    assert!(samples.iter().all(|line| line.contains(",measured,")), "{text}");

    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/models.json");
    let update = format!("--update={models}");
    let updated = night.json(&bed, &["fit", "new.csv", &update, "--out", "new.json"]);
    for family in updated["updated"].as_array().unwrap() {
        eprintln!(
            "{}: energy times {}, seconds times {}",
            family["family"], family["net_energy_factor"], family["time_factor"]
        );
    }
    // The tiny server is no vLLM on an H100, and some families may be off by more than can be believed.
    let told = updated["updated"].as_array().unwrap().len() + updated["refused"].as_array().unwrap().len();
    assert_eq!(told, 2, "{updated:#}");
    let fresh_fit = night.json(&bed, &["fit", "new.csv", "--out", "alone.json"]);
    assert!(fresh_fit["samples"].as_u64().unwrap() as usize >= samples.len(), "{fresh_fit:#}");
    let evaluated = night.json(&bed, &["evaluate", "new.csv", "--models", "new.json"]);
    for family in updated["updated"].as_array().unwrap() {
        let of = |group: &&Value| group["family"] == family["family"];
        let group = evaluated["groups"].as_array().unwrap().iter().find(of).unwrap();
        assert!(group["energy_bias"].as_f64().unwrap().abs() < 0.1, "{group:#}");
    }
}

#[test]
fn a_plan_runs_on_one_machine_without_slurm() {
    let Some(bed) = fresh(false) else { return };
    let night = Night::new([60, 40, 20], 5);
    night.plan(&[]);
    let output = night.run(&bed, &["submit", "plan", "--local", "--yes", "--asap"]);
    assert_eq!(output.status.code(), Some(0), "{}\n{}", stderr(&output), night.logs());
    night.assert_all_answered(&bed);
    let again = night.run(&bed, &["submit", "plan", "--local", "--yes", "--asap", "--json"]);
    assert!(stdout(&again).contains("\"instances\": 0"), "{}", stdout(&again));
}

#[test]
fn what_slurm_cannot_run_is_refused_before_anything_is_submitted() {
    let Some(bed) = fresh(false) else { return };
    let night = Night::new([20, 20, 20], 5);
    let cluster = fs::read_to_string(night.path("cluster.toml")).unwrap();
    fs::write(night.path("cluster.toml"), cluster.replace("cpus_per_device = 16", "cpus_per_device = 160")).unwrap();
    night.plan(&[]);
    let output = night.run(&bed, &["submit", "plan", "--yes"]);
    assert_code(&output, 69);
    assert!(
        stderr(&output).contains("nothing was submitted") && stderr(&output).contains("h100n"),
        "{}",
        stderr(&output)
    );
    assert_eq!(bed.slurm(&["squeue", "-h", "-t", "all"]).lines().filter(|line| line.contains("PD")).count(), 0);
    assert!(!night.path("plan/submission.json").exists());
}

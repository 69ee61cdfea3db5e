//! What may happen to a job, at random: after `submit --resume` every request is answered exactly once.
//!
//! JOULEPLAN_FAULT_RUNS says how many runs; the usual few keep the tests short.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::bed::{Own, assert_code, fresh, stderr};
use super::night::Night;

const FAULTS: [&str; 6] = ["step", "drain", "cancel", "restart", "requeue", "disk"];

fn runs() -> u64 {
    std::env::var("JOULEPLAN_FAULT_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(2)
}

#[test]
fn every_request_is_answered_once_whatever_happens() {
    for seed in 0..runs() {
        let Some(mut bed) = fresh(false) else { return };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut night = Night::new([80, 60, 40], 10);
        night.environment.insert("TINY_STEP_S".into(), "0.1".into());
        night.plan(&[]);
        // The disk that fills up is one of its own.
        let disk = random.random_bool(0.3);
        if disk {
            small_disk(&night);
        }
        let output = night.run(&bed, &["submit", "plan", "--yes", "--asap"]);
        assert_code(&output, 0);
        let mut faults: Vec<&str> =
            FAULTS.choose_multiple(&mut random, 3).copied().filter(|fault| *fault != "disk").collect();
        if disk {
            faults.insert(0, "disk");
        }
        for fault in &faults {
            sleep(Duration::from_millis(random.random_range(0..2500)));
            happen(fault, &mut bed, &night, &mut random);
        }
        let done = resume_until_done(&bed, &night, disk);
        if disk {
            unmount(&night);
        }
        assert!(done, "seed {seed}, {faults:?}: {}\n{}", bed.slurm(&["squeue"]), night.logs());
        eprintln!("seed {seed}: {faults:?}");
        if !disk {
            night.assert_all_answered(&bed);
        }
    }
}

/// A tmpfs over `results`, too small for what is to be written at first.
fn small_disk(night: &Night) {
    let results = night.path("plan/results");
    fs::create_dir_all(&results).unwrap();
    let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=40k", "none"]).arg(&results).status().unwrap();
    assert!(done.success());
}

fn unmount(night: &Night) {
    // The answers stay where they can be collected.
    let (results, aside) = (night.path("plan/results"), night.path("aside"));
    assert!(Command::new("cp").arg("-a").args([&results, &aside]).status().unwrap().success());
    assert!(Command::new("umount").arg("-l").arg(&results).status().unwrap().success());
    fs::remove_dir(&results).unwrap();
    fs::rename(&aside, &results).unwrap();
}

fn happen(fault: &str, bed: &mut Own, night: &Night, random: &mut ChaCha8Rng) {
    let quietly = |bed: &Own, words: &[&str]| {
        let _ = bed.command(words[0]).args(&words[1..]).output().unwrap();
    };
    let running = bed.slurm(&["squeue", "-h", "-t", "R", "-o", "%i %N"]);
    let running: Vec<(&str, &str)> = running.lines().filter_map(|line| line.split_once(' ')).collect();
    let one = running.choose(random).copied();
    match (fault, one) {
        ("step", Some((job, _))) => quietly(bed, &["scancel", "--signal=KILL", &format!("{job}.0")]),
        ("drain", Some((_, node))) => {
            quietly(bed, &["scontrol", "update", &format!("NodeName={node}"), "State=DRAIN", "Reason=test"]);
        }
        ("cancel", Some((job, _))) => quietly(bed, &["scancel", job]),
        ("requeue", Some((job, _))) => {
            quietly(bed, &["scontrol", "requeue", job]);
            // Slurm lets a requeued job wait for two minutes; a test does not.
            for _ in 0..20 {
                quietly(bed, &["scontrol", "update", &format!("JobId={job}"), "StartTime=now"]);
                sleep(Duration::from_millis(200));
            }
        }
        ("restart", _) => drop(bed.tell("restart slurmctld")),
        ("disk", _) => {
            // It is full until somebody notices.
            sleep(Duration::from_secs(2));
            let size = "remount,size=4m";
            let done = Command::new("mount").args(["-o", size]).arg(night.path("plan/results")).status().unwrap();
            assert!(done.success());
        }
        _ => {}
    }
}

fn resume_until_done(bed: &Own, night: &Night, disk: bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(90) {
        let output = night.run(bed, &["submit", "plan", "--yes", "--resume", "--asap"]);
        // Right after a restart Slurm knows no node; another time it will.
        assert!(matches!(output.status.code(), Some(0 | 69)), "{}", stderr(&output));
        let status = night.json(bed, &["status", "plan"]);
        let is_done = |instance: &serde_json::Value| instance["answered"] == instance["requests"];
        let alive = !bed.slurm(&["squeue", "-h"]).is_empty();
        if status["instances"].as_array().unwrap().iter().all(is_done) && !alive {
            if disk {
                night.assert_all_answered(bed);
            }
            return true;
        }
        sleep(Duration::from_millis(500));
    }
    false
}

//! What may happen to a job, at random: after `submit --resume` every request is answered exactly once.
//!
//! JOULEPLAN_FAULT_RUNS says how many runs, or which (`9..12`); the usual one keeps the tests short.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::bed::{Own, assert_code, fresh, stderr};
use super::night::Night;

const FAULTS: [&str; 5] = ["step", "drain", "cancel", "restart", "requeue"];

fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("JOULEPLAN_FAULT_RUNS").unwrap_or_default();
    let (first, last) = asked.split_once("..").unwrap_or(("0", &asked));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) => first..last,
        // Three faults on a disk that is full.
        _ => 5..6,
    }
}

#[test]
fn every_request_is_answered_once_whatever_happens() {
    for seed in seeds() {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut night = Night::new([80, 60, 40], 10);
        night.environment.insert("TINY_STEP_S".into(), "0.1".into());
        night.plan(&[]);
        // Mounted before Slurm's daemons have their own view of what is mounted.
        let disk = random.random_bool(0.3).then(|| SmallDisk::under_results(&night));
        let Some(mut bed) = fresh(false) else { return };
        let output = night.run(&bed, &["submit", "plan", "--yes", "--asap"]);
        assert_code(&output, 0);
        let mut faults: Vec<&str> = FAULTS.choose_multiple(&mut random, 3).copied().collect();
        faults.extend(disk.as_ref().map(|_| "disk"));
        for fault in &faults {
            sleep(Duration::from_millis(random.random_range(0..2500)));
            happen(fault, &mut bed, &night, &mut random, disk.as_ref());
        }
        assert!(
            resume_until_done(&bed, &night),
            "seed {seed}, {faults:?}: {}\n{}",
            bed.slurm(&["squeue"])
                + &bed.slurm(&["scontrol", "-d", "-o", "show", "node"])
                + &bed.slurm(&["scontrol", "-o", "show", "job"]),
            night.logs()
        );
        eprintln!("seed {seed}: {faults:?}");
        night.assert_all_answered(&bed);
        drop(bed);
    }
}

/// What `results` is on, too small for what is to be written until it grows.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn under_results(night: &Night) -> Self {
        let folder = night.path("disk");
        fs::create_dir(&folder).unwrap();
        let words = ["-t", "tmpfs", "-o", "size=32k", "none"];
        assert!(Command::new("mount").args(words).arg(&folder).status().unwrap().success());
        std::os::unix::fs::symlink(&folder, night.path("plan/results")).unwrap();
        Self(folder)
    }

    fn grow(&self) {
        assert!(Command::new("mount").args(["-o", "remount,size=4m"]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn happen(fault: &str, bed: &mut Own, night: &Night, random: &mut ChaCha8Rng, disk: Option<&SmallDisk>) {
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
            let free = Command::new("df").arg("--output=avail").arg(night.path("plan/results/")).output().unwrap();
            eprintln!("left on the disk: {}", String::from_utf8_lossy(&free.stdout).split_whitespace().last().unwrap());
            disk.into_iter().for_each(SmallDisk::grow);
        }
        _ => {}
    }
}

fn resume_until_done(bed: &Own, night: &Night) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(90) {
        let output = night.run(bed, &["submit", "plan", "--yes", "--resume", "--asap"]);
        // Right after a restart Slurm knows no node; another time it will.
        assert!(matches!(output.status.code(), Some(0 | 69)), "{}", stderr(&output));
        let status = night.json(bed, &["status", "plan"]);
        let is_done = |instance: &serde_json::Value| instance["answered"] == instance["requests"];
        let alive = !bed.slurm(&["squeue", "-h"]).is_empty();
        if status["instances"].as_array().unwrap().iter().all(is_done) && !alive {
            return true;
        }
        sleep(Duration::from_millis(500));
    }
    false
}

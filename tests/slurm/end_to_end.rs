//! A night from plan to reconciled figures.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::bed::{assert_code, fresh, stderr, stdout};
use super::night::Night;

#[test]
fn a_night_is_planned_submitted_served_collected_and_reconciled() {
    let Some(mut bed) = fresh(true) else { return };
    let mut night = Night::new([900, 700, 400], 20);
    night.plan(&[]);
    for node in ["h100n1", "h100n2", "epycn1", "epycn2"] {
        bed.tell(&format!("watts {node} 400"));
    }
    // Long enough for what Slurm samples once a second.
    night.environment.insert("TINY_STEP_S".into(), "0.05".into());

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
    night.wait(&bed, Duration::from_secs(120));
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

    let reconciled = night.json(&bed, &["reconcile", "plan", "--samples", "new.csv"]);
    for instance in reconciled["instances"].as_array().unwrap() {
        let name = instance["instance"].as_str().unwrap();
        // Each node drew 400 W all the time.
        let watts = instance["gross_j"].as_f64().unwrap() / instance["seconds"].as_f64().unwrap();
        assert!((watts / 400.0 - 1.0).abs() < 0.02, "{name}: {watts} W by the meter; {reconciled:#}");
        let slurm_seconds = instance["slurm_seconds"].as_f64().unwrap();
        let by_slurm = instance["slurm_gross_j"].as_f64().unwrap() / slurm_seconds;
        eprintln!("{name}: {watts:.1} W by the meter, {by_slurm:.1} W by Slurm over {slurm_seconds} s");
        // Slurm reads once a second and says whole seconds.
        let margin = 0.02 + 1.5 / slurm_seconds;
        assert!((by_slurm / 400.0 - 1.0).abs() < margin, "{name}: {by_slurm} W by Slurm; {reconciled:#}");
    }
    assert!(!reconciled["deployments"].as_array().unwrap().is_empty());
    let samples = fs::read_to_string(night.path("new.csv")).unwrap();
    // All nodes of the bed share one processor, so where others use it nothing is a measurement, and no sample.
    let clean = reconciled["instances"].as_array().unwrap().iter().filter(|row| row["estimated"] == false).count();
    assert_eq!(samples.lines().filter(|line| line.contains(",measured,")).count(), clean, "{samples}");
    let nothing = night.run(&bed, &["submit", "plan", "--yes", "--resume"]);
    assert_code(&nothing, 0);
    assert!(stderr(&nothing).contains("nothing to submit"), "{}", stderr(&nothing));
    let _: Value = night.json(&bed, &["reconcile", "plan"]);
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

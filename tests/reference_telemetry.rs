//! Published power logs, imported by the program and summed up here a second way: from columns cut out of the lines, with
//! devices taken by counting rows and energy by a sum over rows instead of pairs.
//!
//! `JOULEPLAN_REFERENCE_DATA` names the folder of the published data sets; without it these tests say that they skipped.

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

fn logs(folder: &str) -> Option<Vec<PathBuf>> {
    let Some(data) = std::env::var_os("JOULEPLAN_REFERENCE_DATA").map(PathBuf::from) else {
        eprintln!("SKIPPED: JOULEPLAN_REFERENCE_DATA is not set, so no published log is imported");
        return None;
    };
    let entries = std::fs::read_dir(data.join("power").join(folder)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "csv" || extension == "txt");
    paths.retain(is_log);
    paths.sort();
    Some(paths)
}

fn import(format: &str, log: &Path, out: &Path) -> Output {
    let mut command = Command::cargo_bin("jouleplan").unwrap();
    command.args(["telemetry", "import", format]).arg(log).arg("--out").arg(out).arg("--json").output().unwrap()
}

/// (rows, joules) of each channel, in order; asserts that the CSV written sums up to the same.
fn imported(format: &str, log: &Path, folder: &Path) -> Vec<(u64, f64)> {
    let out = folder.join("t.csv");
    let sums = |output: Output| -> Vec<(u64, f64)> {
        assert!(output.status.success(), "{}: {}", log.display(), String::from_utf8_lossy(&output.stderr));
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        let channel = |channel: &Value| (channel["rows"].as_u64().unwrap(), channel["energy_j"].as_f64().unwrap());
        value["channels"].as_array().unwrap().iter().map(channel).collect()
    };
    let first = sums(import(format, log, &out));
    assert_eq!(sums(import("csv", &out, &folder.join("again.csv"))), first, "{}", log.display());
    first
}

/// Seconds of `HH:MM:SS.mmm`.
fn clock(text: &str) -> f64 {
    text.split(':').fold(0.0, |seconds, part| 60.0 * seconds + part.parse::<f64>().unwrap())
}

/// Each reading times half the time to its neighbours on both sides; `None` is a reading that was not given.
fn energy(rows: &[(f64, Option<f64>)]) -> f64 {
    let half = |a: usize, b: usize| {
        let known = rows[a].1.is_some() && rows[b].1.is_some();
        let time = (rows[b].0 - rows[a].0).rem_euclid(86_400.0); // past midnight the clock starts again
        if known { 0.5 * time } else { 0.0 }
    };
    let weight = |at: usize| {
        let before = if at > 0 { half(at - 1, at) } else { 0.0 };
        before + if at + 1 < rows.len() { half(at, at + 1) } else { 0.0 }
    };
    (0..rows.len()).map(|at| rows[at].1.map_or(0.0, |watts| watts * weight(at))).sum()
}

/// (clock, watts) of each whole line.
fn nvidia_smi_rows(text: &str) -> Vec<(f64, Option<f64>)> {
    let whole = text.lines().skip(1).filter(|line| line.matches(',').count() == 3 && line.ends_with('%'));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(", ").collect();
        (clock(&cells[0][11..]), Some(cells[1].trim_end_matches(" W").parse().unwrap()))
    };
    whole.map(row).collect()
}

#[test]
fn nvidia_smi_logs_add_up() {
    let Some(logs) = logs("gpu_llm_v100_a100") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut many_devices = 0;
    for log in &logs {
        let text = std::fs::read_to_string(log).unwrap();
        if text.is_empty() {
            let output = import("nvidia-smi", log, &folder.path().join("none.csv"));
            assert_eq!(output.status.code(), Some(65), "{}", log.display());
            assert!(!folder.path().join("none.csv").exists());
            continue;
        }
        let rows = nvidia_smi_rows(&text);
        // Devices are asked a few milliseconds apart, ten times a second.
        let samples = 1 + rows.windows(2).filter(|pair| (pair[1].0 - pair[0].0).rem_euclid(86_400.0) > 0.06).count();
        let devices = (rows.len() as f64 / samples as f64).round() as usize;
        many_devices += usize::from(devices > 1);
        let read = imported("nvidia-smi", log, folder.path());
        assert_eq!(read.len(), devices, "{}", log.display());
        for (device, (count, joules)) in read.into_iter().enumerate() {
            // No row is lost in these logs before the end, so every so many rows are the same device's.
            let of: Vec<(f64, Option<f64>)> = rows.iter().copied().skip(device).step_by(devices).collect();
            let expected = energy(&of);
            assert_eq!(count as usize, of.len(), "{} device {device}", log.display());
            assert!((joules / expected - 1.0).abs() < 1e-9, "{} device {device}: {joules} {expected}", log.display());
        }
    }
    assert!(many_devices >= 3 && logs.len() >= 20, "{many_devices} of {}", logs.len());
}

#[test]
fn ptdaemon_logs_add_up() {
    let Some(logs) = logs("mlperf_v4.1_h200") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut not_given = 0;
    for log in &logs {
        let text = std::fs::read_to_string(log).unwrap();
        let row = |line: &str| {
            let cells: Vec<&str> = line.split(',').collect();
            let watts = Some(cells[3].parse::<f64>().unwrap()).filter(|watts| *watts != -1.0);
            (clock(&cells[1][11..]), watts)
        };
        let rows: Vec<(f64, Option<f64>)> = text.lines().filter(|line| !line.trim().is_empty()).map(row).collect();
        not_given += rows.iter().filter(|row| row.1.is_none()).count();
        let (expected, read) = (energy(&rows), imported("ptdaemon", log, folder.path()));
        assert_eq!((read.len(), read[0].0 as usize), (1, rows.len()), "{}", log.display());
        assert!((read[0].1 / expected - 1.0).abs() < 1e-9, "{}: {} {expected}", log.display(), read[0].1);
    }
    assert!(not_given > 0 && logs.len() >= 16, "{not_given} of {}", logs.len());
}

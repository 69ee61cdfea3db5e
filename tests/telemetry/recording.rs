//! `telemetry record` as shipped, on a fake sysfs whose counter is moved by the test.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn sysfs(folder: &Path) {
    let zone = folder.join("class/powercap/intel-rapl:0");
    fs::create_dir_all(&zone).unwrap();
    fs::write(zone.join("name"), "package-0\n").unwrap();
    fs::write(zone.join("max_energy_range_uj"), "262143328850\n").unwrap();
    count(folder, 0.0);
}

/// Sets the counter, whole at any moment.
fn count(folder: &Path, joules: f64) {
    let zone = folder.join("class/powercap/intel-rapl:0");
    fs::write(zone.join("next"), format!("{:.0}\n", 1e6 * joules)).unwrap();
    fs::rename(zone.join("next"), zone.join("energy_uj")).unwrap();
}

fn record(folder: &Path, arguments: &[&str]) -> Child {
    Command::new(assert_cmd::cargo::cargo_bin("jouleplan"))
        .current_dir(folder)
        .args(["telemetry", "record", "--meters", "rapl", "--out", "t.csv", "--json"])
        .args(arguments)
        .env("JOULEPLAN_SYSFS_ROOT", folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Moves the counter at 80 W for so long.
fn draw(folder: &Path, time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        count(folder, 80.0 * start.elapsed().as_secs_f64());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn power_is_that_of_the_counter_and_rows_are_there_at_once() {
    let folder = tempfile::tempdir().unwrap();
    sysfs(folder.path());
    let child = record(folder.path(), &["--interval", "100ms", "--for", "2s", "--phase", "load"]);
    draw(folder.path(), Duration::from_millis(1_500));
    let early = fs::read_to_string(folder.path().join("t.csv")).unwrap();
    assert!(early.lines().count() > 5 && early.ends_with('\n'), "{early}");
    draw_on(folder.path());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = fs::read_to_string(folder.path().join("t.csv")).unwrap();
    assert_eq!(value["channels"][0]["scope"], "package");
    assert_eq!(value["rows"].as_u64().unwrap() as usize, text.lines().count() - 1);
    // While the counter was moved at 80 W.
    let powers: Vec<f64> = early.lines().skip(3).filter_map(|line| line.split(',').nth(4)?.parse().ok()).collect();
    let mean = powers.iter().sum::<f64>() / powers.len() as f64;
    assert!((mean / 80.0 - 1.0).abs() < 0.1, "{powers:?}");
    assert!(early.lines().skip(1).all(|line| line.ends_with(",load")), "{early}");
}

/// Keeps the counter where a reset would not be seen.
fn draw_on(folder: &Path) {
    count(folder, 80.0 * 1.5);
}

#[test]
fn signals_end_it_cleanly_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    sysfs(folder.path());
    for signal in ["-INT", "-TERM"] {
        let _ = fs::remove_file(folder.path().join("t.csv"));
        let child = record(folder.path(), &["--interval", "50ms"]);
        draw(folder.path(), Duration::from_millis(400));
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{signal}: {}", String::from_utf8_lossy(&output.stderr));
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(value["rows"].as_u64().unwrap() >= 2, "{value}");
        assert!(fs::read_to_string(folder.path().join("t.csv")).unwrap().ends_with('\n'));
    }
    let before = fs::read(folder.path().join("t.csv")).unwrap();
    let output = record(folder.path(), &["--for", "1s"]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(73), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read(folder.path().join("t.csv")).unwrap(), before);
}

#[test]
fn a_counter_that_stands_still_is_no_zero() {
    let folder = tempfile::tempdir().unwrap();
    sysfs(folder.path());
    let output = record(folder.path(), &["--interval", "100ms", "--for", "1500ms"]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the counter stands still"));
    let text = fs::read_to_string(folder.path().join("t.csv")).unwrap();
    let powers: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split(',').nth(4)).collect();
    assert!(!powers.is_empty() && powers.iter().all(|power| power.is_empty()), "{text}");
}

#[test]
fn without_a_meter_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let output = record(folder.path(), &["--for", "1s"]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!folder.path().join("t.csv").exists());
}

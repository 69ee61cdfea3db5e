//! Devices: their energy, clocks, driver, and other people on them.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::rig::json as summary;
use crate::rig::{QUICK, Rig, assert_code, binary, stderr};

const NAMED: [&str; 4] = ["--model", "tiny", "--precision", "bfloat16"];
const GRID: [&str; 6] = ["--grid-input", "8", "--grid-output", "16", "--max-trials", "3"];
/// Full load for 0.4 s.
const WORK: &str =
    r#"sh -c 'say() { echo "$(date +%s.%N) 0 load $1" >> "$FAKE_NVML/events"; }; say 1; sleep 0.4; say 0'"#;
const IDLE: f64 = 60.0;
const FULL: f64 = 400.0;

/// With one device.
fn rig() -> Rig {
    rig_of(1.0)
}

/// Its power is reported `power_scale` times what the counter counts.
fn rig_of(power_scale: f64) -> Rig {
    let rig = Rig::bare();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() - 100.0;
    let device = json!({
        "uuid": "GPU-0a0b1c2d", "name": "NVIDIA H100 80GB HBM3", "idle_w": IDLE, "max_w": FULL, "since": since,
        "counter_step_s": 0.02, "power_scale": power_scale
    });
    rig.write("script.json", &json!({"devices": [device], "fail": {}}).to_string());
    rig
}

fn command(rig: &Rig, arguments: &[&str]) -> Command {
    let mut command = rig.command(&[&NAMED[..], &QUICK, &GRID, arguments].concat());
    command.env("JOULEPLAN_NVML", binary().with_file_name("examples").join("libfake_nvml.so"));
    command.env("FAKE_NVML", rig.folder.path());
    command
}

fn events(rig: &Rig, what: &str) -> Vec<f64> {
    let of = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[2] == what).then(|| words.get(3).map_or(0.0, |word| word.parse().unwrap()))
    };
    rig.read("events").lines().filter_map(of).collect()
}

#[test]
fn energy_driver_and_clocks_of_a_device() {
    let rig = rig();
    let output = command(&rig, &["--command", WORK, "--clock", "990,1980", "--out", "s.csv"]).output().unwrap();
    assert_code(&output, 0);
    let samples = rig.samples("s.csv");
    let clocks: BTreeSet<Option<u32>> = samples.iter().map(|sample| sample.sm_clock_mhz).collect();
    assert_eq!(clocks, BTreeSet::from([Some(990), Some(1980)]));
    assert_eq!(samples.len(), 2 * 4);
    for sample in &samples {
        let (joules, seconds) = (sample.gpu_energy.unwrap().0, sample.runtime.unwrap().0);
        // Half the clock is a quarter of the power above idle.
        let share = if sample.sm_clock_mhz == Some(990) { 0.25 } else { 1.0 };
        let expected = IDLE * seconds + share * (FULL - IDLE) * 0.4;
        assert!((joules / expected - 1.0).abs() < 0.08, "{joules} for {expected}");
        assert!((sample.idle_power.unwrap().0 / IDLE - 1.0).abs() < 0.03);
        assert_eq!((sample.device.as_str(), sample.devices), ("H100", 1));
        assert!(sample.driver_version.is_some());
    }
    assert!(!stderr(&output).contains("do not rely"), "{}", stderr(&output));
    assert_eq!(events(&rig, "clock").last(), Some(&0.0), "undone");
    assert_eq!(std::fs::read_dir(rig.path("state")).unwrap().count(), 0);
}

#[test]
fn a_counter_that_disagrees_with_power_is_told_at_the_end() {
    let rig = rig_of(1.5);
    let output = command(&rig, &["--command", WORK, "--out", "s.csv", "--json"]).output().unwrap();
    assert_code(&output, 0);
    assert!(stderr(&output).contains("do not rely on either"), "{}", stderr(&output));
    let warnings = summary(&output)["warnings"].clone();
    assert!(
        warnings[0].as_str().unwrap().starts_with("device 0 (NVIDIA H100 80GB HBM3): over all trials"),
        "{warnings}"
    );
}

#[test]
fn a_clock_that_a_killed_study_left_is_undone_on_resume() {
    let rig = rig();
    let arguments = ["--command", WORK, "--clock", "990", "--out", "s.csv", "--resume"];
    let mut child = command(&rig, &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // The note of what to undo comes before what is done.
    while !std::fs::read_to_string(rig.path("events")).is_ok_and(|text| text.contains(" clock 990")) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ne!(events(&rig, "clock").last(), Some(&0.0), "left behind");
    let output = command(&rig, &arguments).output().unwrap();
    assert_code(&output, 0);
    assert!(stderr(&output).contains("as before"), "{}", stderr(&output));
    assert_eq!(events(&rig, "clock").last(), Some(&0.0));
}

#[test]
fn who_was_there_before_is_the_server_and_who_comes_later_spoils_the_trial() {
    let rig = rig();
    let on_device = |command: &mut Command| command.spawn().unwrap();
    let mut server = on_device(Command::new("sleep").arg("60"));
    let start = |pid: u32| {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let line = format!("{at:.6} 0 process {pid}\n");
        let before = std::fs::read_to_string(rig.path("events")).unwrap_or_default();
        rig.write("events", &(before + &line));
    };
    start(server.id());
    let output = command(&rig, &["--command", WORK, "--out", "s.csv"]).output().unwrap();
    assert_code(&output, 0);
    let work = WORK.replace("say 1;", "say 1; echo \"$(date +%s.%N) 0 process 1\" >> \"$FAKE_NVML/events\";");
    let output = command(&rig, &["--command", &work, "--out", "t.csv", "--json"]).output().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert_code(&output, 69);
    let failed = &summary(&output)["cells"][0]["failed"];
    assert_eq!(failed["contaminated"].as_u64(), Some(10), "{failed} {}", stderr(&output));
    assert!(!rig.path("t.csv").exists());
}

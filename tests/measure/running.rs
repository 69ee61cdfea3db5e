//! The command under the meter: exit codes, signals, output, and what is left of a killed measurement.

use std::fs;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::rig::{Rig, assert_code, stderr};

pub fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
}

/// Waits until `done`, for ten seconds.
pub fn until(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it never happened");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_exit_code_and_output_of_the_command_pass() {
    let rig = Rig::new(&[json!({})]);
    let output = rig.run(&["meter", "--idle", "0s", "--", "sh", "-c", "echo out; echo err >&2; sleep 0.1; exit 9"]);
    assert_code(&output, 9);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
    assert!(stderr(&output).starts_with("err\n") || stderr(&output).contains("\nerr\n"), "{}", stderr(&output));
    assert!(stderr(&output).contains("devices"), "{}", stderr(&output));

    let (output, result) = rig.meter(&["--idle", "0s"], "echo out; sleep 0.1; kill -KILL $$");
    assert_code(&output, 137);
    assert_eq!((&result["signal"], result.get("exit_code")), (&json!(9), None));
    assert!(stderr(&output).contains("out\n"), "with --json the command's stdout goes to stderr");

    assert_code(&rig.run(&["meter", "--idle", "0s", "--", "./no-such-command"]), 127);
    assert_code(&rig.run(&["meter", "--idle", "0s", "--", "./script.json"]), 126);
    assert_code(&rig.run(&["meter"]), 2);
    let output = rig.run(&["meter", "--out", "no/such/folder/m.json", "--", "touch", "ran"]);
    assert_code(&output, 73);
    assert!(!rig.path("ran").exists());
}

#[test]
fn signals_reach_the_command_and_its_answer_counts() {
    let rig = Rig::new(&[json!({})]);
    for (script, code) in
        [("trap 'exit 7' TERM; touch ready; while :; do sleep 0.01; done", 7), ("touch ready; exec sleep 9", 143)]
    {
        let _ = fs::remove_file(rig.path("ready"));
        let arguments = ["meter", "--idle", "0s", "--out", "m.json", "--", "sh", "-c", script];
        let child = rig.command(&arguments).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        until(|| rig.path("ready").exists());
        thread::sleep(Duration::from_millis(300));
        send(&child, Signal::TERM);
        assert_code(&child.wait_with_output().unwrap(), code);
        let result: Value = serde_json::from_str(&fs::read_to_string(rig.path("m.json")).unwrap()).unwrap();
        assert_eq!(result["state"], "finished");
        assert!(result["gpu_energy_j"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_signal_while_idle_ends_it_before_the_command() {
    let rig = Rig::new(&[json!({})]);
    let child = rig.command(&["meter", "--idle", "30s", "--out", "m.json", "--", "touch", "ran"]).spawn().unwrap();
    thread::sleep(Duration::from_millis(300));
    send(&child, Signal::TERM);
    assert_code(&child.wait_with_output().unwrap(), 143);
    assert!(!rig.path("ran").exists());
    assert!(fs::read_to_string(rig.path("m.json")).unwrap().contains("interrupted"));
}

#[test]
fn a_signal_after_the_measurement_ends_the_program() {
    let rig = Rig::new(&[json!({})]);
    // A full pipe, which nobody reads: the result cannot be printed.
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    thread::spawn(move || filler.write_all(&[b' '; 1 << 20]));
    let arguments = ["meter", "--json", "--idle", "0s", "--out", "m.json", "--", "sleep", "0.3"];
    let mut child = rig.command(&arguments).stdout(writer).spawn().unwrap();
    until(|| fs::read_to_string(rig.path("m.json")).is_ok_and(|text| text.contains("finished")));
    thread::sleep(Duration::from_millis(500));
    send(&child, Signal::TERM);
    let mut status = None;
    until(|| {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().signal(), Some(15));
}

#[test]
fn a_killed_measurement_leaves_what_it_knew() {
    let rig = Rig::new(&[json!({})]);
    let arguments = [
        "meter",
        "--idle",
        "500ms",
        "--interval",
        "20ms",
        "--out",
        "m.json",
        "--",
        "sh",
        "-c",
        "touch ready; exec sleep 7",
    ];
    let mut child = rig.command(&arguments).spawn().unwrap();
    until(|| rig.path("ready").exists());
    thread::sleep(Duration::from_millis(5_500));
    child.kill().unwrap();
    child.wait().unwrap();
    let result: Value = serde_json::from_str(&fs::read_to_string(rig.path("m.json")).unwrap()).unwrap();
    assert_eq!(result["state"], "running");
    let (seconds, joules) = (result["seconds"].as_f64().unwrap(), result["gpu_energy_j"].as_f64().unwrap());
    assert!(seconds > 4.0 && (joules / seconds / 60.0 - 1.0).abs() < 0.02, "{joules} J in {seconds} s");
}

#[test]
fn other_users_of_a_device_contaminate_it() {
    let rig = Rig::new(&[json!({}), json!({}), json!({})]);
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    rig.event(&format!("0 process {}", other.id()));
    // 2's process is a grandchild of the command; 1's comes while it runs and is in no process table here.
    let script = r#"echo "$(date +%s.%N) 1 process 4000000" >> "$FAKE_NVML/events"
        sh -c 'echo "$(date +%s.%N) 2 process $$" >> "$FAKE_NVML/events"; sleep 1.2; true'"#;
    let (output, result) = rig.meter(&["--idle", "500ms"], script);
    other.kill().unwrap();
    other.wait().unwrap();
    assert_code(&output, 0);
    let devices = &result["devices"];
    assert_eq!(devices[0]["status"], "contaminated", "{result}");
    assert_eq!(
        (&devices[0]["others"][0]["pid"], &devices[0]["others"][0]["name"]),
        (&json!(other.id()), &json!("sleep"))
    );
    assert!(result["gpu_idle_power_w"].is_number() && result["gpu_net_energy_j"].is_null(), "{result}");
    assert_eq!(devices[1]["unidentified_pids"], json!([4_000_000]));
    assert_eq!(devices[2]["status"], "measured");
    assert_eq!(result["clean"], false);
    assert!(stderr(&output).contains("other processes were on it"), "{}", stderr(&output));
}

#[test]
fn sampling_two_devices_at_10_hz_costs_under_a_hundredth_of_a_core() {
    let rig = Rig::new(&[json!({}), json!({})]);
    let mut child =
        rig.command(&["meter", "--interval", "100ms", "--idle", "0s", "--quiet", "--", "sleep", "6"]).spawn().unwrap();
    thread::sleep(Duration::from_millis(1_500));
    let (begun, before) = (Instant::now(), cpu_seconds(child.id()));
    thread::sleep(Duration::from_secs(4));
    let share = (cpu_seconds(child.id()) - before) / begun.elapsed().as_secs_f64();
    child.wait().unwrap();
    eprintln!("sampling two devices at 10 Hz took {:.2} % of a core", 100.0 * share);
    assert!(share > 0.0 && share < 0.01, "{share}");
}

/// Time on a processor of all threads of a process.
fn cpu_seconds(pid: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanoseconds = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path().join("schedstat")).unwrap();
        text.split_whitespace().next().unwrap().parse::<f64>().unwrap()
    };
    threads.map(|entry| nanoseconds(entry.unwrap())).sum::<f64>() / 1e9
}

#[test]
fn a_process_of_another_user_keeps_clocks_untouched() {
    let rig = Rig::new(&[json!({})]);
    let mut other = Command::new("sleep");
    other.arg("60");
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        other.uid(65_534);
    }
    let mut other = other.spawn().unwrap();
    // Without root, process 1 is another user's.
    rig.event(&format!("0 process {}", if is_root { other.id() } else { 1 }));
    let output = rig.run(&["meter", "--sm-clock", "1200", "--", "touch", "ran"]);
    other.kill().unwrap();
    other.wait().unwrap();
    assert_code(&output, 77);
    assert!(stderr(&output).contains("is on it, so its clocks are not touched"), "{}", stderr(&output));
    assert_eq!(rig.last(0, "clock"), None);
    assert!(!rig.path("ran").exists());
}

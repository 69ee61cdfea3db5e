//! Clocks and power limits: set only when asked, refused where they must not be, and undone whatever happens.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use serde_json::json;

use crate::rig::{FULL, IDLE, Rig, assert_close, assert_code, stderr};
use crate::running::{send, until};

const POINT: [&str; 4] = ["--sm-clock", "990", "--power-limit", "250"];

fn is_restored(rig: &Rig) -> bool {
    let left = fs::read_dir(rig.path("state")).map_or(0, |files| files.count());
    let clock = rig.last(0, "clock").is_none_or(|clock| clock == 0.0);
    left == 0 && clock && rig.last(0, "limit").is_none_or(|limit| limit == 1e3 * FULL)
}

#[test]
fn a_point_is_set_meanwhile_seen_and_undone() {
    let rig = Rig::new(&[json!({}), json!({})]);
    let flags = [&POINT[..2], &["--interval", "20ms", "--idle", "500ms"]].concat();
    let (output, result) = rig.meter(&flags, "load 0 1; sleep 1; load 0 0");
    assert_code(&output, 0);
    assert_eq!(result["requested_sm_clock_mhz"], 990);
    assert_eq!(result["devices"][0]["sm_clock_mhz"]["max"], 990.0);
    // Half the clock is a quarter of the power above idle; the shell's own start and end are at idle.
    assert_close(
        &result["devices"][0]["energy_j"],
        (IDLE + 0.25 * (FULL - IDLE)) * result["seconds"].as_f64().unwrap(),
        0.06,
    );
    assert!(is_restored(&rig) && rig.last(1, "clock") == Some(0.0));
    let (output, _) = rig.meter(&["--idle", "0s"], "sleep 0.1");
    assert_code(&output, 0);
    assert_eq!(rig.events().iter().filter(|event| event.2 == "clock").count(), 4, "without a flag nothing is set");
}

#[test]
fn what_must_not_be_set_is_refused_and_the_command_not_run() {
    let denied = json!({"fail": {"nvmlDeviceSetGpuLockedClocks": 4}});
    let silent = json!({"fail": {"nvmlDeviceGetComputeRunningProcesses_v3": 3}});
    let half_silent = json!({"fail": {"nvmlDeviceGetGraphicsRunningProcesses_v3": 4}});
    for (devices, flags, code, word) in [
        (vec![denied], ["--sm-clock", "990"], 77, "as root"),
        (
            vec![json!({}), json!({"fail": {"nvmlDeviceSetPowerManagementLimit": 4}})],
            ["--power-limit", "250"],
            77,
            "as root",
        ),
        (vec![json!({"mig": 2})], ["--sm-clock", "990"], 77, "MIG"),
        (vec![silent], ["--sm-clock", "990"], 77, "does not say who uses it"),
        (vec![half_silent], ["--sm-clock", "990"], 77, "does not say who uses it"),
        (vec![json!({})], ["--sm-clock", "5000"], 69, "at most 1980 MHz"),
        (vec![json!({})], ["--power-limit", "900"], 69, "from 100 W to 400 W"),
        (vec![json!({})], ["--sm-clock", "0"], 2, "--sm-clock"),
    ] {
        let rig = Rig::new(&devices);
        let (output, _) = rig.meter(&flags, "touch ran");
        assert_code(&output, code);
        assert!(stderr(&output).contains(word), "{word}: {}", stderr(&output));
        assert!(!rig.path("ran").exists() && is_restored(&rig), "{flags:?} {:?}", rig.events());
    }
}

#[test]
fn a_device_without_graphics_has_no_graphics_processes() {
    let rig = Rig::new(&[json!({"fail": {"nvmlDeviceGetGraphicsRunningProcesses_v3": 3}})]);
    let (output, _) = rig.meter(&["--sm-clock", "990", "--idle", "0s"], "sleep 0.1");
    assert_code(&output, 0);
    assert!(is_restored(&rig) && rig.last(0, "clock") == Some(0.0));
}

#[test]
fn an_undoing_that_fails_is_said_also_before_the_command_ran() {
    let rig = Rig::new(&[json!({})]);
    rig.script(&[json!({})], json!({"nvmlDeviceResetGpuLockedClocks": 4}));
    let arguments = ["meter", "--sm-clock", "990", "--idle", "30s", "--", "touch", "ran"];
    let child = rig.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    until(|| rig.last(0, "clock") == Some(990.0));
    thread::sleep(Duration::from_millis(300));
    send(&child, Signal::TERM);
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 143);
    assert!(stderr(&output).contains("not restored: cannot set the SM clock"), "{}", stderr(&output));
    assert!(!rig.path("ran").exists());
}

#[test]
fn a_clock_that_was_not_kept_is_reported() {
    let rig = Rig::new(&[json!({})]);
    let script = r#"echo "$(date +%s.%N) 0 clock 1980" >> "$FAKE_NVML/events"; sleep 1"#;
    let (output, result) = rig.meter(&["--sm-clock", "990", "--idle", "0s"], script);
    assert_code(&output, 0);
    assert_eq!(result["clean"], false);
    assert!(stderr(&output).contains("990 MHz were asked for and up to 1980 MHz seen"), "{}", stderr(&output));
}

/// Runs `meter` with a point, and `end`s it at each of 20 random moments, four runs at a time.
fn at_random_moments(end: impl Fn(&Rig, std::process::Child) + Sync) {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let moments: Vec<u64> = (0..20).map(|_| random.random_range(0..1_200)).collect();
    thread::scope(|scope| {
        for moments in moments.chunks(5) {
            let end = &end;
            scope.spawn(move || {
                for moment in moments {
                    let rig = Rig::new(&[json!({})]);
                    let arguments = [&["meter"], &POINT[..], &["--idle", "300ms", "--", "sleep", "0.6"]].concat();
                    let mut command = rig.command(&arguments);
                    let child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
                    thread::sleep(Duration::from_millis(*moment));
                    end(&rig, child);
                    assert!(is_restored(&rig), "after {moment} ms: {:?}", rig.events());
                }
            });
        }
    });
}

#[test]
fn clocks_are_restored_after_sigterm_at_any_moment() {
    at_random_moments(|_, child| {
        send(&child, Signal::TERM);
        let output = child.wait_with_output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 143)) || output.status.code().is_none(), "{}", stderr(&output));
    });
}

#[test]
fn clocks_are_restored_by_doctor_after_kill_9_at_any_moment() {
    at_random_moments(|rig, mut child| {
        child.kill().unwrap();
        child.wait().unwrap();
        assert_code(&rig.run(&["doctor", "--restore"]), 0);
    });
}

#[test]
fn a_killed_run_blocks_its_device_until_it_is_restored() {
    let rig = Rig::new(&[json!({})]);
    let arguments = [&["meter"], &POINT[..], &["--idle", "0s", "--", "sh", "-c", "touch ready; exec sleep 2"]].concat();
    let mut child = rig.command(&arguments).spawn().unwrap();
    until(|| rig.path("ready").exists());
    let restore = rig.run(&["doctor", "--restore"]);
    assert_code(&restore, 0);
    assert!(stderr(&restore).contains("still measures"), "{}", stderr(&restore));
    assert_eq!(rig.last(0, "clock"), Some(990.0), "a living run keeps its clocks");
    child.kill().unwrap();
    child.wait().unwrap();
    let again = rig.run(&[&["meter"], &POINT[..], &["--", "true"]].concat());
    assert_code(&again, 77);
    assert!(stderr(&again).contains("doctor --restore"), "{}", stderr(&again));
    let found = String::from_utf8(rig.run(&["doctor"]).stdout).unwrap();
    assert!(found.contains("a run that lives or was killed set clocks"), "{found}");
    assert_code(&rig.run(&["doctor", "--restore"]), 0);
    assert!(is_restored(&rig) && rig.last(0, "limit") == Some(1e3 * FULL));
    assert!(stderr(&rig.run(&["doctor", "--restore"])).contains("nothing to restore"));
}

#[test]
fn what_cannot_be_restored_keeps_its_file() {
    let rig = Rig::new(&[json!({})]);
    let restore =
        json!({"schema_version": 1, "pid": 1, "pid_started": 0, "uuid": "GPU-0a0b1c2d", "unlock_sm_clock": true});
    rig.write("state/restore-GPU-0a0b1c2d.json", &restore.to_string());
    rig.script(&[json!({})], json!({"nvmlDeviceResetGpuLockedClocks": 4}));
    assert_code(&rig.run(&["doctor", "--restore"]), 77);
    rig.write("state/restore-GPU-gone.json", &restore.to_string().replace("0a0b1c2d", "gone"));
    rig.write("state/restore-half.json", "{");
    rig.write("state/restore-later.json", &restore.to_string().replace("\"schema_version\":1", "\"schema_version\":2"));
    rig.script(&[json!({})], json!({}));
    let output = rig.run(&["doctor", "--restore"]);
    assert_code(&output, 69);
    assert!(stderr(&output).contains("no such device") && stderr(&output).contains("half"), "{}", stderr(&output));
    assert!(stderr(&output).contains("schema_version 2 is not known"), "{}", stderr(&output));
    assert_eq!(rig.last(0, "clock"), Some(0.0));
    assert!(!rig.path("state/restore-GPU-0a0b1c2d.json").exists() && rig.path("state/restore-half.json").exists());
}

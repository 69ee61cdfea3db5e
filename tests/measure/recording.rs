//! `telemetry record` on scripted devices: what they draw, and a device that is lost on the way.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::rig::{FULL, IDLE, Rig, assert_close, assert_code, printed, stderr};

#[test]
fn devices_are_recorded_and_a_lost_one_leaves_a_gap() {
    let rig = Rig::new(&[json!({}), json!({})]);
    let arguments = ["telemetry", "record", "--interval", "50ms", "--for", "2s", "--out", "t.csv", "--json"];
    let child = rig
        .command(&[&arguments[..], &["--meters", "nvml", "--phase", "load"]].concat())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    sleep(Duration::from_millis(700));
    rig.event("0 load 1");
    rig.event("1 lost");
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 0);
    assert!(stderr(&output).contains("device 1 from now on without power"), "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("without power").count(), 1, "said once");

    let value = printed(&output);
    let (first, second) = (&value["channels"][0], &value["channels"][1]);
    assert_close(&first["seconds"], 2.0, 0.03);
    assert_close(&first["max_power_w"], FULL, 0.001);
    let mean = first["energy_j"].as_f64().unwrap() / first["seconds"].as_f64().unwrap();
    assert!(mean > IDLE + 0.5 * (FULL - IDLE) && mean < IDLE + 0.8 * (FULL - IDLE), "{mean}");
    assert_close(&second["mean_power_w"], IDLE, 0.001);
    assert!(second["seconds"].as_f64().unwrap() < 1.0 && second["gap_s"].as_f64().unwrap() > 1.0, "{second}");

    let text = fs::read_to_string(rig.path("t.csv")).unwrap();
    let lost = text.lines().filter(|line| line.contains(",device,1,,,,,,load")).count();
    assert_eq!(lost as u64, second["rows_without_power"].as_u64().unwrap(), "{text}");
    let again = rig.run(&["telemetry", "import", "csv", "t.csv", "--out", "again.csv", "--json"]);
    let again = printed(&again);
    assert_eq!(again["channels"][0]["energy_j"], first["energy_j"], "imported as it was recorded");
}

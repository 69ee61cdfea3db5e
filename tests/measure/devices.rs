//! Energy of devices: by counter and by integrated power, against the truth of the script.

use std::process::Command;

use serde_json::json;

use crate::rig::{IDLE, Rig, assert_close, assert_code, assert_no_zero, binary, line, printed, stderr};

#[test]
fn energy_is_true_by_counter_and_by_integration() {
    let rig = Rig::new(&[json!({}), json!({"counter_step_s": 0.1})]);
    let script =
        "load 0 1; sleep 1; load 0 0.25; load 1 0.5; sleep 1.5; load 0 0.75; sleep 1; load 1 0; load 0 0; sleep 0.5";
    let (output, result) = rig.meter(&["--interval", "10ms", "--idle", "1s"], script);
    assert_code(&output, 0);
    for device in 0..2 {
        let truth = rig.truth(&result, device);
        for meter in ["counter", "power"] {
            let line = line(&result, &format!("nvml:{device}:{meter}"));
            assert_close(&line["energy_j"], truth, 0.005);
            // A second of idle, whose ends are known to a reading.
            assert_close(&line["idle_before_w"], IDLE, 0.05);
            assert_eq!(line["provenance"], "measured");
        }
        assert_eq!(result["devices"][device]["status"], "measured");
        assert_eq!(result["devices"][device]["method"], "counter");
    }
    let truth = rig.truth(&result, 0) + rig.truth(&result, 1);
    assert_close(&result["gpu_energy_j"], truth, 0.005);
    let seconds = result["seconds"].as_f64().unwrap();
    assert_close(&result["gpu_net_energy_j"], truth - 2.0 * IDLE * seconds, 0.01);
    assert_eq!(result["clean"], true, "{result}");
    let step = line(&result, "nvml:1:counter")["update_s"].as_f64().unwrap();
    assert!((0.09..0.12).contains(&step), "the counter's step was seen as {step}");
}

#[test]
fn a_counter_that_disagrees_with_power_is_reported() {
    // 3 s at 62.333 W are 187 J; the sensor's power says 327 J.
    let rig = Rig::new(&[json!({"idle_w": 187.0 / 3.0, "power_scale": 327.0 / 187.0})]);
    let (output, result) = rig.meter(&["--interval", "20ms", "--idle", "0s"], "sleep 3");
    assert_code(&output, 0);
    assert_close(&line(&result, "nvml:0:counter")["energy_j"], 187.0, 0.05);
    assert_close(&line(&result, "nvml:0:power")["energy_j"], 327.0, 0.05);
    assert_close(&result["devices"][0]["disagreement"], 327.0 / 187.0 - 1.0, 0.05);
    assert_eq!(result["devices"][0]["status"], "disagreement");
    assert_eq!(result["clean"], false);
    assert!(stderr(&output).contains("do not rely on either"), "{}", stderr(&output));
}

#[test]
fn a_counter_that_went_back_gives_no_energy_and_power_does() {
    let rig = Rig::new(&[json!({})]);
    let script = r#"sleep 0.5; echo "$(date +%s.%N) 0 reset" >> "$FAKE_NVML/events"; sleep 0.5"#;
    let (output, result) = rig.meter(&["--interval", "20ms", "--idle", "0s"], script);
    assert_code(&output, 0);
    assert_eq!(line(&result, "nvml:0:counter")["refused"]["kind"], "reset");
    assert_eq!(result["devices"][0]["method"], "integrated");
    assert_close(&result["gpu_energy_j"], rig.truth(&result, 0), 0.03);
}

#[test]
fn a_lost_device_is_marked_and_the_others_go_on() {
    let rig = Rig::new(&[json!({}), json!({})]);
    let script = r#"sleep 0.5; echo "$(date +%s.%N) 0 lost" >> "$FAKE_NVML/events"; sleep 0.7; exit 5"#;
    let (output, result) = rig.meter(&["--interval", "20ms", "--idle", "0s"], script);
    assert_code(&output, 5);
    assert_eq!(result["devices"][0]["status"], "lost");
    assert_eq!(line(&result, "nvml:0:counter")["refused"]["kind"], "lost");
    assert!(result["devices"][0].get("energy_j").is_none() && result.get("gpu_energy_j").is_none(), "{result}");
    assert_eq!(result["devices"][1]["status"], "measured");
    assert_close(&result["devices"][1]["energy_j"], rig.truth(&result, 1), 0.03);
}

#[test]
fn a_device_with_mig_is_measured_once_and_says_so() {
    let rig = Rig::new(&[json!({"mig": 3})]);
    let (output, result) = rig.meter(&["--interval", "20ms", "--idle", "0s"], "sleep 0.5");
    assert_code(&output, 0);
    assert_eq!(result["devices"].as_array().unwrap().len(), 1);
    assert_eq!(result["devices"][0]["mig_instances"], 3);
    assert_close(&result["gpu_energy_j"], rig.truth(&result, 0), 0.03);
}

/// NVML's codes: not supported, no permission, lost, reset required, blocked, no data, unknown, and one from the future.
const CODES: [u32; 8] = [3, 4, 15, 16, 17, 21, 999, 77];

#[test]
fn what_is_refused_is_never_zero() {
    let both = |code: u32| json!({"nvmlDeviceGetTotalEnergyConsumption": code, "nvmlDeviceGetPowerUsage": code, "POWER_INSTANT": code});
    for fail in [
        both as fn(u32) -> serde_json::Value,
        |code| json!({"nvmlDeviceGetHandleByIndex_v2": code}),
        |code| json!({"nvmlDeviceGetUUID": code}),
    ] {
        let mut devices: Vec<_> = CODES.iter().map(|code| json!({"fail": fail(*code)})).collect();
        devices.push(json!({}));
        let rig = Rig::new(&devices);
        let (output, result) = rig.meter(&["--interval", "20ms", "--idle", "0s"], "sleep 0.3");
        assert_code(&output, 0);
        assert_no_zero(&result);
        let refused = result["refused"].as_array().unwrap();
        for (index, _) in CODES.iter().enumerate() {
            let about = format!("device {index}");
            assert!(refused.iter().any(|r| r["what"].as_str().unwrap().contains(&about)), "{about}: {result}");
        }
        assert!(result.get("gpu_energy_j").is_none(), "a sum without its parts: {result}");
        assert_close(&result["devices"].as_array().unwrap().last().unwrap()["energy_j"], rig.truth(&result, 8), 0.05);
    }
}

#[test]
fn a_sensor_that_says_zero_is_not_believed() {
    let rig = Rig::new(&[json!({"power_scale": 0.0, "fail": {"nvmlDeviceGetTotalEnergyConsumption": 3}})]);
    let (output, result) = rig.meter(&["--interval", "20ms", "--idle", "0s"], "sleep 0.3");
    assert_code(&output, 69);
    assert_no_zero(&result);
}

#[test]
fn every_failure_of_every_meter_ends_with_its_code_before_the_command_runs() {
    for code in CODES {
        for symbol in ["nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2"] {
            let rig = Rig::new(&[json!({})]);
            rig.script(&[json!({})], json!({symbol: code}));
            let (output, _) = rig.meter(&["--idle", "0s"], "touch ran");
            assert_code(&output, if code == 4 || code == 17 { 77 } else { 69 });
            assert!(!rig.path("ran").exists());
        }
    }
}

#[test]
fn without_a_driver_it_is_69() {
    let rig = Rig::new(&[]);
    for library in ["/nowhere/libnvidia-ml.so.1", "script.json"] {
        let mut command = Command::new(binary());
        command.args(["meter", "--", "touch", "ran"]).current_dir(rig.folder.path());
        let output =
            command.env("JOULEPLAN_NVML", library).env("JOULEPLAN_SYSFS_ROOT", rig.path("sys")).output().unwrap();
        assert_code(&output, 69);
        assert!(stderr(&output).contains("install the NVIDIA driver"), "{}", stderr(&output));
        assert!(!rig.path("ran").exists());
    }
    assert_code(&rig.meter(&[], "touch ran").0, 69);
}

#[test]
fn a_region_shorter_than_the_meter_is_refused() {
    let rig = Rig::new(&[json!({"counter_step_s": 0.2, "fail": {"POWER_INSTANT": 3}})]);
    let (output, result) = rig.meter(&["--idle", "500ms"], "sleep 0.2");
    assert_code(&output, 0);
    assert_eq!(line(&result, "nvml:0:counter")["refused"]["kind"], "too_short", "{result}");
    let power = line(&result, "nvml:0:power");
    assert_eq!((&power["refused"]["kind"], &power["averaged_over_s"]), (&json!("too_short"), &json!(1.0)));
    assert_no_zero(&result);
    assert!(stderr(&output).contains("measure for longer"), "{}", stderr(&output));
}

#[test]
fn devices_are_chosen_by_index_uuid_or_cuda_visible_devices() {
    let rig = Rig::new(&[json!({}), json!({}), json!({})]);
    let indices = |flags: &[&str], visible: Option<&str>| -> Vec<u64> {
        let mut command = rig.command(&[&["meter", "--json", "--idle", "0s"], flags, &["--", "sleep", "0.2"]].concat());
        visible.map(|visible| command.env("CUDA_VISIBLE_DEVICES", visible));
        let output = command.output().unwrap();
        assert_code(&output, 0);
        let result = printed(&output);
        result["devices"].as_array().unwrap().iter().map(|device| device["index"].as_u64().unwrap()).collect()
    };
    assert_eq!(indices(&[], None), [0, 1, 2]);
    assert_eq!(indices(&[], Some("1")), [1]);
    assert_eq!(indices(&[], Some("GPU-2a0,0")), [0, 2]);
    assert_eq!(indices(&["--devices", "0,1"], Some("2")), [0, 1]);
    // What a variable names and is not here is only noted.
    assert_eq!(indices(&[], Some("1,7")), [1]);
    rig.write("sys/class/hwmon/hwmon0/name", "power_meter\n");
    rig.write("sys/class/hwmon/hwmon0/power1_input", "400000000\n");
    for (named, absent) in [("7", "device 7"), ("0,7", "device 7"), ("GPU-2a0,GPU-ffff", "device GPU-ffff")] {
        let output = rig.run(&["meter", "--devices", named, "--", "touch", "ran"]);
        assert_code(&output, 69);
        assert!(stderr(&output).contains(&format!("{absent} is not here")), "{}", stderr(&output));
        assert!(!rig.path("ran").exists());
    }
}

#[test]
fn a_lost_device_that_nobody_asked_for_hides_nothing() {
    let rig = Rig::new(&[json!({}), json!({"fail": {"nvmlDeviceGetHandleByIndex_v2": 15}})]);
    for (flags, known) in [(&[][..], false), (&["--devices", "0"], true)] {
        let (output, result) = rig.meter(&[&["--idle", "0s"], flags].concat(), "sleep 0.3");
        assert_code(&output, 0);
        assert_eq!(result.get("gpu_energy_j").is_some(), known, "{result}");
        assert_eq!(stderr(&output).contains("fell off the bus"), !known, "{}", stderr(&output));
    }
    for named in ["1", "GPU-1a0"] {
        assert_code(&rig.run(&["meter", "--devices", named, "--", "true"]), 69);
    }
}

#[test]
fn a_device_without_a_counter_is_measured_by_its_power_also_when_named() {
    let rig = Rig::new(&[json!({"fail": {"nvmlDeviceGetTotalEnergyConsumption": 3}})]);
    for flags in [["--meters", "nvml"], ["--devices", "0"]] {
        let (output, result) = rig.meter(&[&flags[..], &["--interval", "20ms", "--idle", "0s"]].concat(), "sleep 0.5");
        assert_code(&output, 0);
        assert_eq!(result["devices"][0]["method"], "integrated");
        assert_close(&result["gpu_energy_j"], rig.truth(&result, 0), 0.03);
    }
}

#[test]
fn clocks_throttling_temperature_and_drift_are_reported() {
    let rig = Rig::new(&[json!({"throttle": 4})]);
    let (output, result) = rig.meter(&["--interval", "20ms", "--idle", "1s"], "sleep 1; load 0 0.5");
    assert_code(&output, 0);
    let device = &result["devices"][0];
    assert_eq!(device["sm_clock_mhz"]["max"], 1980.0);
    assert_eq!(device["throttle_reasons"], json!([{"reason": "sw_power_cap", "share": 1.0}]));
    assert!(device["temperature_c"]["mean"].as_f64().unwrap() >= 36.0, "{device}");
    // A second of the new power, whose beginning is the end of the command.
    assert_close(&line(&result, "nvml:0:counter")["idle_drift_w"], 170.0, 0.06);
    assert!(stderr(&output).contains("idle power drifted by +1"), "{}", stderr(&output));
}

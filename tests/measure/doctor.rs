//! `doctor`: a line for each thing, with where it is from and what to do.

use serde_json::{Value, json};

use crate::rig::{Rig, assert_code, printed};

#[test]
fn every_finding_has_its_source_and_every_lack_a_remedy_or_none_to_have() {
    let rig = Rig::new(&[
        json!({}),
        json!({"mig": 2}),
        json!({"fail": {"nvmlDeviceGetTotalEnergyConsumption": 3}}),
        json!({"fail": {"nvmlDeviceGetHandleByIndex_v2": 15}}),
    ]);
    rig.event("0 process 1");
    let output = rig.run(&["doctor", "--json"]);
    assert_code(&output, 0);
    let report = printed(&output);
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| !finding["provenance"].as_str().unwrap().is_empty()));
    let has = |topic: &str, state: &str, words: &str, remedy: &str| {
        let found = findings.iter().any(|finding| {
            let text = |key: &str| finding.get(key).and_then(Value::as_str).unwrap_or_default();
            text("topic") == topic
                && text("state") == state
                && text("what").contains(words)
                && text("remedy").contains(remedy)
        });
        assert!(found, "{topic} {state} {words} {remedy} in {report:#}");
    };
    has("driver", "good", "580.95.05, CUDA up to 13.0", "");
    has("device", "good", "device 0: Fake H100, 81920 MiB, GPU-0a0b1c2d", "");
    has("mig", "limited", "device 1: MIG is on, with 2 instances", "whole device");
    has("clocks", "good", "SM clock 1980 MHz", "");
    has("clocks", "good", "settable from 100 W to 400 W, 400 W by default", "");
    has("processes", "limited", "device 0: in use by 1 (", "");
    has("processes", "good", "device 1: nobody is on it", "");
    has("meter", "good", "nvml:0:counter: energy counter of device", "");
    has("meter", "good", "nvml:0:power: power of the moment of device", "");
    has("meter", "limited", "energy counter of device 2", "");
    has("meter", "missing", "device 3: the device fell off the bus", "dmesg");
    has("meter", "missing", "no intel-rapl zone", "modprobe");
    has("engine", "missing", "vLLM", "module");
    let text = String::from_utf8(rig.run(&["doctor"]).stdout).unwrap();
    assert_eq!(text.lines().filter(|line| !line.trim_start().starts_with("->")).count(), findings.len());
}

#[test]
fn a_node_without_anything_is_no_error() {
    let rig = Rig::new(&[]);
    let output = rig.command(&["doctor", "--json"]).env("JOULEPLAN_NVML", "/nowhere").env("PATH", "").output().unwrap();
    assert_code(&output, 0);
    let report = printed(&output);
    assert!(report["findings"].as_array().unwrap().iter().all(|finding| finding["state"] == "missing"), "{report:#}");
}

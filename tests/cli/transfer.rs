//! Families nobody measured, cells to measure next, and what is left out to see how well the rest predicts it.

use std::fs;

use serde_json::Value;

use crate::case::{CLUSTER, Case, assert_code, bundled, json, stderr, stdout, workload};

const SAMPLES: &str = "profiles/samples/h100_b200_chat_mlenergy_v3.csv";

/// The bundled samples of some models.
fn samples(case: &Case, models: &[&str]) {
    let text = fs::read_to_string(bundled(SAMPLES)).unwrap();
    let keep = |line: &&str| line.starts_with("model,") || models.iter().any(|model| line.starts_with(model));
    let rows: String = text.lines().filter(keep).map(|line| format!("{line}\n")).collect();
    case.write("s.csv", &rows);
}

#[test]
fn an_estimated_family_has_a_range_and_can_be_planned_with() {
    let case = Case::new();
    samples(&case, &["Qwen/Qwen3-8B", "Qwen/Qwen3-14B", "meta-llama/Llama-3.1-8B"]);
    let output = case.run(&["fit", "s.csv", "--out", "m.json", "--transfer", "Qwen/Qwen3-32B@H100x2", "--json"]);
    assert_code(&output, 0);
    let transferred = json(&output)["transferred"].clone();
    assert_eq!(transferred[0]["family"], "Qwen/Qwen3-32B/bfloat16/H100x2/tp2/vllm@mlenergy_v3");
    assert_eq!(transferred[0]["model_measured_elsewhere"], false);
    let models = case.json("m.json");
    let family = models["families"].as_array().unwrap().last().unwrap().clone();
    for term in family["energy_j"].as_array().unwrap().iter().chain(family["runtime_s"].as_array().unwrap()) {
        assert_eq!(term["provenance"], "estimated");
        let (low, value, high) = (term["low"].as_f64(), term["value"].as_f64(), term["high"].as_f64());
        assert!(low < value && value < high, "{term}");
    }
    case.write("cluster.toml", CLUSTER);
    case.write("w.csv", &workload(50));
    case.write("a.csv", "model,task,accuracy\nQwen/Qwen3-32B,t,72\n");
    let output = case.run(&[
        "plan",
        "--models",
        "m.json",
        "--cluster",
        "cluster.toml",
        "--workload",
        "w.csv",
        "--accuracy",
        "a.csv",
        "--task",
        "t",
        "--min-accuracy",
        "70",
        "--deadline",
        "8h",
        "--out",
        "plan",
        "--json",
    ]);
    assert_code(&output, 0);
    let plan = json(&output);
    assert!(plan["estimated_share"].as_f64().unwrap() > 0.99, "{}", plan["estimated_share"]);
    let [low, central, high] = ["objective_low_j", "objective_j", "objective_high_j"].map(|key| plan[key].as_f64());
    assert!(low < central && central < high, "{low:?} {central:?} {high:?}");
}

#[test]
fn what_cannot_be_estimated_is_named_all_at_once_and_nothing_is_written() {
    let case = Case::new();
    samples(&case, &["Qwen/Qwen3-8B", "Qwen/Qwen3-14B"]);
    let transfer = ["Nobody/Model@H100", "Qwen/Qwen3-8B@H100", "Qwen/Qwen3-8B@Abacus"];
    let mut arguments = vec!["fit", "s.csv", "--out", "m.json"];
    transfer.iter().for_each(|family| arguments.extend(["--transfer", family]));
    let output = case.run(&arguments);
    assert_code(&output, 65);
    for what in ["`Nobody/Model` is not in engines.toml", "measured already", "`Abacus` is not in the device table"] {
        assert!(stderr(&output).contains(what), "{}", stderr(&output));
    }
    assert!(!case.path("m.json").exists());
    assert_code(&case.run(&["fit", "s.csv", "--out", "m.json", "--transfer", "no-device"]), 2);
}

#[test]
fn nine_cells_are_suggested_for_a_new_family_and_none_that_is_measured() {
    let case = Case::new();
    let output = case.run(&["fit", "--suggest", "--json"]);
    assert_code(&output, 0);
    assert_eq!(json(&output)["suggest"][0]["cells"].as_array().unwrap().len(), 9);

    let header = fs::read_to_string(bundled(SAMPLES)).unwrap().lines().next().unwrap().to_owned();
    let columns: Vec<&str> = header.split(',').collect();
    let row = |input: u32, output: u32| -> String {
        let cell = |name: &str| match name {
            "model" => "m".to_owned(),
            "precision" => "bfloat16".to_owned(),
            "device" => "H100".to_owned(),
            "devices" | "tensor_parallel" | "batch_size" | "requests" => "1".to_owned(),
            "kv_cache" => "true".to_owned(),
            "warmup" => "false".to_owned(),
            "input_tokens" => input.to_string(),
            "output_tokens" => output.to_string(),
            "measurement" => "trial".to_owned(),
            "runtime_s" => format!("{}", 0.1 + 0.01 * f64::from(output)),
            "gpu_energy_j" => format!("{}", 30.0 + 3.0 * f64::from(output)),
            "engine" => "vllm".to_owned(),
            "provenance" => "measured".to_owned(),
            _ => String::new(),
        };
        columns.iter().map(|name| cell(name)).collect::<Vec<_>>().join(",") + "\n"
    };
    case.write("s.csv", &format!("{header}\n{}{}", row(8, 8), row(2048, 8)));
    let output =
        case.run(&["fit", "s.csv", "--suggest=2", "--grid-input", "8,2048", "--grid-output", "8,2048", "--json"]);
    assert_code(&output, 0);
    let cells = json(&output)["suggest"][0]["cells"].clone();
    let lengths = |cell: &Value| (cell["input_tokens"].as_f64().unwrap(), cell["output_tokens"].as_f64().unwrap());
    let mut named: Vec<(f64, f64)> = cells.as_array().unwrap().iter().map(lengths).collect();
    named.sort_by(|a, b| a.partial_cmp(b).unwrap());
    assert_eq!(named, [(8.0, 2048.0), (2048.0, 2048.0)]);
    assert_code(&case.run(&["fit", "--suggest", "--grid-input", "0"]), 2);
    assert_code(&case.run(&["fit", "--out", "m.json"]), 2);
}

#[test]
fn each_way_of_leaving_out_says_how_well_the_rest_predicts() {
    let case = Case::new();
    samples(&case, &["Qwen/Qwen3-8B", "Qwen/Qwen3-14B", "google/gemma-3-12b-it", "meta-llama/Llama-3.1-8B"]);
    for (mode, left_out) in [("kfold", "samples"), ("leave-batch-out", "batch"), ("leave-family-out", "known model")] {
        let output = case.run(&["fit", "s.csv", "--out", "m.json", "--cv", mode, "--json"]);
        assert_code(&output, 0);
        let cv = json(&output)["cv"].clone();
        assert_eq!((cv["mode"].as_str(), cv["summary"][0]["left_out"].as_str()), (Some(mode), Some(left_out)));
        assert_eq!(cv["families"].as_array().unwrap().iter().filter(|f| f["left_out"] == left_out).count(), 8);
        let median = cv["summary"][0]["energy"]["median"].as_f64().unwrap();
        assert!(median > 0.0 && median < 0.5, "{cv}");
        assert_eq!(cv["summary"][0]["energy"]["coverage_90"].is_null(), mode != "leave-family-out");
    }
    let output = case.run(&["fit", "s.csv", "--out", "m.json", "--cv", "leave-family-out"]);
    assert!(stdout(&output).contains("90th percentile"), "{}", stdout(&output));
}

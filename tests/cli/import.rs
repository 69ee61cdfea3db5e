//! `import aiperf` and `import vllm-bench`: what load generators of others measured.

use crate::case::{Case, assert_code, json, stderr, stdout};

const SUMMARY: &str = r#"{"aiperf_version": "0.13.0", "request_count": {"unit": "requests", "avg": 4.0},
    "benchmark_duration": {"unit": "sec", "avg": 2.0}, "request_latency": {"unit": "ms", "avg": 1000.0},
    "input_sequence_length": {"unit": "tokens", "avg": 20.0, "std": 0.0},
    "output_sequence_length": {"unit": "tokens", "avg": 5.0, "std": 0.0},
    "telemetry_data": {"endpoints": {"pynvml": {"gpus": {
        "gpu_0": {"gpu_index": 0, "gpu_name": "NVIDIA H100 80GB HBM3", "gpu_uuid": "GPU-a",
            "metrics": {"nvidia_energy_consumption": {"unit": "MJ", "avg": 0.0006}}},
        "gpu_1": {"gpu_index": 1, "gpu_name": "NVIDIA H100 80GB HBM3", "gpu_uuid": "GPU-b",
            "metrics": {"nvidia_energy_consumption": {"unit": "MJ", "avg": 0.0001}}}}}}}}"#;

const SERVE: &str = r#"{"model_id": "o/m", "num_prompts": 8, "duration": 2.0, "completed": 8, "failed": 0,
    "total_input_tokens": 800, "total_output_tokens": 88, "mean_ttft_ms": 300.0, "mean_tpot_ms": 70.0}"#;

const DEPLOYMENT: [&str; 8] =
    ["--precision", "bfloat16", "--tensor-parallel", "1", "--engine", "vllm", "--engine-version", "0.11.0"];

#[test]
fn a_run_of_aiperf_is_a_sample_with_the_energy_of_the_gpus_that_served() {
    let case = Case::new();
    case.write("profile_export_aiperf.json", SUMMARY);
    let import = ["import", "aiperf", "profile_export_aiperf.json", "--model", "o/m", "--out", "s.csv"];
    let output = case.run(&import);
    assert_code(&output, 65);
    for flag in ["--precision", "--tensor-parallel", "--engine", "--engine-version"] {
        assert!(stderr(&output).contains(flag), "{}", stderr(&output));
    }
    let all = [&import[..], &DEPLOYMENT].concat();
    let output = case.run(&all);
    assert_code(&output, 65);
    assert!(stderr(&output).contains("--gpus"), "{}", stderr(&output));
    assert!(!case.path("s.csv").exists());
    let output = case.run(&[&all[..], &["--gpus", "0", "--json"]].concat());
    assert_code(&output, 0);
    assert_eq!((&json(&output)["samples"], &json(&output)["without_energy"]), (&1.into(), &0.into()));
    let row = case.read("s.csv");
    assert!(row.contains("o/m,bfloat16,H100,") && row.contains(",600,") && row.contains("imported"), "{row}");
}

#[test]
fn a_result_of_vllm_bench_is_a_sample_without_energy_and_says_so() {
    let case = Case::new();
    case.write("r.json", SERVE);
    let import = ["import", "vllm-bench", "r.json", "--device", "H100", "--constant-lengths", "--out"];
    let output = case.run(&[&import[..], &["s.csv"], &DEPLOYMENT].concat());
    assert_code(&output, 0);
    assert!(stderr(&output).contains("1 sample without energy"), "{}", stderr(&output));
    let output = case.run(&[&import[..], &["-"], &DEPLOYMENT].concat());
    assert!(stdout(&output).contains("o/m,bfloat16,H100,,1,1,1,1,1,,4,"), "{}", stdout(&output));
    case.write("r.json", &SERVE.replace("\"failed\": 0", "\"failed\": 3"));
    let output = case.run(&[&import[..], &["-"], &DEPLOYMENT].concat());
    assert_code(&output, 65);
    assert!(stderr(&output).contains("3 of 11 requests failed"), "{}", stderr(&output));
}

use super::*;
use crate::domain::{Measurement, Moments};
use crate::units::Joules;

/// Four requests, two at a time for a second each: 10 or 30 tokens in, 5 out.
const SUMMARY: &str = r#"{
  "schema_version": "1.4", "aiperf_version": "0.13.0",
  "input_config": {"models": {"strategy": "round_robin", "items": [{"name": "org/m"}]}},
  "was_cancelled": false,
  "request_count": {"unit": "requests", "avg": 4.0},
  "benchmark_duration": {"unit": "sec", "avg": 2.0},
  "request_latency": {"unit": "ms", "avg": 1000.0, "count": 4},
  "input_sequence_length": {"unit": "tokens", "avg": 20.0, "std": 10.0, "count": 4},
  "output_sequence_length": {"unit": "tokens", "avg": 5.0, "std": 0.0, "count": 4},
  "time_to_first_token": {"unit": "ms", "avg": 200.0, "p99": 250.0},
  "inter_token_latency": {"unit": "ms", "avg": 200.0, "p50": 200.0, "p99": 201.0},
  "inter_chunk_latency": {"unit": "ms", "avg": 200.0, "p50": 190.0, "p99": 220.0},
  "telemetry_data": {"endpoints": {
    "localhost:9400": {"gpus": {
      "gpu_0": {"gpu_index": 0, "gpu_name": "NVIDIA H100 80GB HBM3", "gpu_uuid": "GPU-a", "hostname": "n1",
        "metrics": {"nvidia_energy_consumption": {"unit": "MJ", "avg": 0.0006}}},
      "gpu_1": {"gpu_index": 1, "gpu_name": "NVIDIA H100 80GB HBM3", "gpu_uuid": "GPU-b", "hostname": "n1",
        "metrics": {"nvidia_energy_consumption": {"unit": "MJ", "avg": 0.0004}}}}},
    "localhost:9401": {"gpus": {
      "gpu_0": {"gpu_index": 0, "gpu_name": "NVIDIA H100 80GB HBM3", "gpu_uuid": "GPU-a", "hostname": "n1",
        "metrics": {"nvidia_power_usage": {"unit": "W", "avg": 300.0}}}}}}}
}"#;

fn record(start_ns: u64, input: u32) -> String {
    format!(
        r#"{{"metadata": {{"benchmark_phase": "profiling", "was_cancelled": false, "request_start_ns": {start_ns}, "request_end_ns": {}}}, "metrics": {{"input_sequence_length": {{"value": {input}, "unit": "tokens"}}, "output_sequence_length": {{"value": 5, "unit": "tokens"}}, "time_to_first_token": {{"value": 200.0, "unit": "ms"}}, "inter_token_latency": {{"value": 0.2, "unit": "sec"}}, "inter_chunk_latency": {{"value": [190.0, 190.0, 200.0, 220.0], "unit": "ms"}}}}, "error": null}}"#,
        start_ns + 1_000_000_000
    ) + "\n"
}

fn records() -> String {
    [(0, 10), (0, 30), (1, 10), (1, 30)]
        .map(|(second, input)| record((1_760_000_000 + second) * 1_000_000_000, input))
        .concat()
}

fn facts() -> Facts {
    Facts {
        precision: Some("bfloat16".into()),
        tensor_parallel: Some(2),
        expert_parallel: 1,
        data_parallel: 1,
        pipeline_parallel: 1,
        engine: Some("vllm".into()),
        engine_version: Some("0.11.0".into()),
        ..Facts::default()
    }
}

fn import_with(files: &[(&str, &str)], facts: &Facts, gpus: Option<&[&str]>) -> Result<Vec<Sample>, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let paths: Vec<PathBuf> = files
        .iter()
        .map(|(name, text)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        })
        .collect();
    let gpus: Option<Vec<String>> = gpus.map(|gpus| gpus.iter().map(|gpu| (*gpu).to_owned()).collect());
    import(&paths, facts, gpus.as_deref()).map_err(|error| error.to_string())
}

const JSON: &str = "profile_export_aiperf.json";
const JSONL: &str = "profile_export.jsonl";

fn refused(summary: &str, facts: &Facts, gpus: Option<&[&str]>) -> String {
    import_with(&[(JSON, summary)], facts, gpus).expect_err("accepted")
}

#[test]
fn a_summary_is_a_trial_with_the_energy_of_each_gpu_once() {
    let samples = import_with(&[(JSON, SUMMARY)], &facts(), None).expect("sound");
    let [sample] = samples.as_slice() else { panic!("{samples:?}") };
    assert_eq!((sample.model.as_str(), sample.device.as_str(), sample.devices), ("org/m", "H100", 2));
    assert_eq!((sample.measurement, sample.requests), (Measurement::Trial, 4.0));
    assert_eq!(sample.gpu_energy, Some(Joules(1000.0)));
    assert_eq!((sample.runtime, sample.batch_size), (Some(Seconds(2.0)), 2.0));
    let tokens = Moments {
        input: Some(20.0),
        output: 5.0,
        input_sq: Some(500.0),
        output_sq: Some(25.0),
        input_output: Some(100.0),
    };
    assert_eq!(sample.tokens, tokens);
    assert_eq!(
        (sample.ttft_p99, sample.tbt_p50, sample.tbt_p99),
        (Some(Seconds(0.25)), Some(Seconds(0.19)), Some(Seconds(0.22)))
    );
    assert_eq!(sample.output_throughput_tok_s, Some(10.0));
    assert_eq!((sample.node.as_deref(), sample.source.as_deref()), (Some("n1"), Some("aiperf 0.13.0")));
    assert_eq!(sample.measured_at, None, "local time without a zone");
    assert_eq!(sample.family().engine, "vllm-0.11.0");
}

#[test]
fn requests_alone_tell_lengths_and_times_but_no_energy_and_no_names() {
    let named = Facts { model: Some("org/m".into()), device: Some("H100".into()), ..facts() };
    let warm_up = record(1, 999).replace("profiling", "warmup");
    let text = warm_up + &records();
    let samples = import_with(&[(JSONL, &text)], &named, None).expect("sound");
    assert_eq!((samples[0].requests, samples[0].runtime, samples[0].batch_size), (4.0, Some(Seconds(2.0)), 2.0));
    assert_eq!((samples[0].tokens.input_sq, samples[0].tokens.input_output), (Some(500.0), Some(100.0)));
    assert_eq!(samples[0].tbt_p50, Some(Seconds(0.195)));
    assert_eq!(samples[0].measured_at.as_deref(), Some("2025-10-09T08:53:20.000Z"));
    assert_eq!(samples[0].energy_per_request(), None);
    let error = import_with(&[(JSONL, &text)], &facts(), None).expect_err("no model");
    assert!(error.contains("--model") && error.contains("--device"), "{error}");
    let error = import_with(&[(JSONL, &text)], &named, Some(&["0"])).expect_err("no GPUs");
    assert!(error.contains("drop --gpus"), "{error}");
}

#[test]
fn the_files_of_a_run_are_one_sample_and_those_of_two_are_not() {
    let mixed = SUMMARY.replace("\"avg\": 5.0, \"std\": 0.0", "\"avg\": 5.0, \"std\": 1.0");
    let alone = import_with(&[(JSON, &mixed)], &facts(), None).expect("sound");
    assert_eq!(alone[0].tokens.input_output, None, "not to be known from two deviations");
    let samples = import_with(&[(JSON, &mixed), (JSONL, &records())], &facts(), None).expect("sound");
    assert_eq!(samples.len(), 1);
    assert_eq!((samples[0].tokens.input_output, samples[0].gpu_energy), (Some(100.0), Some(Joules(1000.0))));
    assert_eq!(samples[0].source.as_deref(), Some("aiperf 0.13.0"));
    let three: String = records().split_inclusive('\n').take(3).collect();
    let error = import_with(&[(JSON, SUMMARY), (JSONL, &three)], &facts(), None).expect_err("torn");
    assert!(error.contains("request_count") && error.contains("complete?"), "{error}");
    assert!(import_with(&[(JSON, SUMMARY), (JSON, SUMMARY)], &facts(), None).expect_err("doubled").contains("twice"));
    assert_eq!(import_with(&[("a.json", SUMMARY), ("b.json", SUMMARY)], &facts(), None).expect("two runs").len(), 2);
}

#[test]
fn the_first_schema_names_its_counter_and_its_model_otherwise() {
    let old = SUMMARY
        .replace("nvidia_energy_consumption", "energy_consumption")
        .replace(
            r#"{"models": {"strategy": "round_robin", "items": [{"name": "org/m"}]}}"#,
            r#"{"endpoint": {"model_names": ["org/m"]}}"#,
        )
        .replace(", \"count\": 4", "");
    let samples = import_with(&[(JSON, &old)], &facts(), None).expect("sound");
    assert_eq!((samples[0].model.as_str(), samples[0].gpu_energy), ("org/m", Some(Joules(1000.0))));
}

#[test]
fn token_counts_of_the_server_go_before_those_of_the_client() {
    let usage = r#""usage_prompt_tokens": {"unit": "tokens", "avg": 26.0, "std": 10.0, "count": 4},
        "usage_completion_tokens": {"unit": "tokens", "avg": 6.0, "std": 0.0, "count": 4}, "request_latency""#;
    let told = SUMMARY.replace("\"request_latency\"", usage);
    let samples = import_with(&[(JSON, &told)], &facts(), None).expect("sound");
    assert_eq!((samples[0].tokens.input, samples[0].tokens.output), (Some(26.0), 6.0));
    let partly = told.replace("\"avg\": 6.0, \"std\": 0.0, \"count\": 4", "\"avg\": 6.0, \"std\": 0.0, \"count\": 3");
    let samples = import_with(&[(JSON, &partly)], &facts(), None).expect("sound");
    assert_eq!((samples[0].tokens.input, samples[0].tokens.output), (Some(20.0), 5.0));
    let cached = told.replace(
        "\"request_latency\"",
        r#""total_usage_prompt_cache_read_tokens": {"unit": "tokens", "avg": 64.0}, "request_latency""#,
    );
    assert!(refused(&cached, &facts(), None).contains("64 prompt tokens"));
}

#[test]
fn a_run_with_failures_is_refused_and_they_are_counted() {
    for failures in [
        r#""error_request_count": {"unit": "requests", "avg": 3.0}, "#,
        r#""error_summary": [{"error_details": {"message": "x"}, "count": 2}, {"error_details": {"message": "y"}, "count": 1}], "#,
    ] {
        let failed = SUMMARY.replace("\"request_count\"", &format!("{failures}\"request_count\""));
        assert!(refused(&failed, &facts(), None).contains("3 of 7 requests failed"), "{failures}");
    }
    for (from, to) in [
        ("\"error\": null", "\"error\": {\"code\": 500, \"message\": \"x\"}"),
        ("was_cancelled\": false", "was_cancelled\": true"),
    ] {
        let text = records().replacen(from, to, 1);
        let error = import_with(&[(JSONL, &text)], &facts(), None).expect_err("accepted");
        assert!(error.contains("1 of 4 requests failed"), "{error}");
    }
    for (from, to) in
        [("was_cancelled\": false", "was_cancelled\": true"), ("\"was_cancelled\": false", "\"is_complete\": false")]
    {
        assert!(refused(&SUMMARY.replace(from, to), &facts(), None).contains("broken off"));
    }
}

#[test]
fn only_the_gpus_that_served_count_and_they_must_be_those_of_the_instance() {
    let one = Facts { tensor_parallel: Some(1), ..facts() };
    let error = refused(SUMMARY, &one, None);
    assert!(
        error.contains("2 of its 2 GPUs are counted, and the instance has 1") && error.contains("--gpus"),
        "{error}"
    );
    for (gpu, energy) in [("1", 400.0), ("GPU-a", 600.0)] {
        let samples = import_with(&[(JSON, SUMMARY)], &one, Some(&[gpu])).expect("sound");
        assert_eq!(samples[0].gpu_energy, Some(Joules(energy)));
    }
    assert!(refused(SUMMARY, &one, Some(&["7"])).contains("no GPU 7"));
    assert!(refused(SUMMARY, &facts(), Some(&["1", "1"])).contains("twice"));
    let two_hosts = SUMMARY.replace("\"gpu_index\": 1", "\"gpu_index\": 0");
    assert!(refused(&two_hosts, &one, Some(&["0"])).contains("UUID"));
    let mixed =
        SUMMARY.replacen("NVIDIA H100 80GB HBM3", "NVIDIA L4", 3).replacen("NVIDIA L4", "NVIDIA H100 80GB HBM3", 1);
    assert!(refused(&mixed, &facts(), None).contains("several types"));
    let half = SUMMARY.replace("{\"nvidia_energy_consumption\": {\"unit\": \"MJ\", \"avg\": 0.0004}}", "{}");
    assert!(refused(&half, &facts(), None).contains("no energy counter"));
}

#[test]
fn without_a_counter_there_is_no_energy() {
    let none = SUMMARY.replace("nvidia_energy_consumption", "nvidia_power_usage").replace("\"MJ\"", "\"W\"");
    let samples = import_with(&[(JSON, &none)], &facts(), None).expect("sound");
    assert_eq!((samples[0].gpu_energy, samples[0].device.as_str()), (None, "H100"));
    let still = SUMMARY.replace("0.0004", "0.0");
    assert!(refused(&still, &facts(), None).contains("did not rise"));
}

#[test]
fn every_fact_that_nobody_gave_is_named_with_its_flag() {
    let error = refused(
        SUMMARY,
        &Facts { expert_parallel: 1, data_parallel: 1, pipeline_parallel: 1, ..Facts::default() },
        None,
    );
    for flag in ["--precision", "--tensor-parallel", "--engine", "--engine-version"] {
        assert!(error.contains(flag), "{flag}: {error}");
    }
}

#[test]
fn the_batch_is_what_ran_and_not_what_waited() {
    let idle = SUMMARY.replace("\"avg\": 1000.0", "\"avg\": 100.0");
    assert!(refused(&idle, &facts(), None).contains("waited for work"));
    let queued = Facts { max_num_seqs: Some(1), ..facts() };
    assert!(refused(SUMMARY, &queued, None).contains("--batch-size"));
    let said = Facts { batch_size: Some(1.0), ..queued };
    assert_eq!(import_with(&[(JSON, SUMMARY)], &said, None).expect("sound")[0].batch_size, 1.0);
    let no_latency = SUMMARY.replace("\"request_latency\"", "\"something\"");
    assert!(refused(&no_latency, &facts(), None).contains("--batch-size"));
}

#[test]
fn chunks_of_several_tokens_tell_no_time_between_tokens() {
    let chunked = SUMMARY.replace(
        r#""inter_chunk_latency": {"unit": "ms", "avg": 200.0"#,
        r#""inter_chunk_latency": {"unit": "ms", "avg": 800.0"#,
    );
    let sample = &import_with(&[(JSON, &chunked)], &facts(), None).expect("sound")[0];
    assert_eq!((sample.tbt_p50, sample.tbt_p99, sample.ttft), (None, None, Some(Seconds(0.2))));
}

#[test]
fn malformed_files_name_the_field() {
    for (from, to, complaint) in [
        ("\"request_count\"", "\"count_of\"", "request_count: request_count is missing"),
        ("\"avg\": 4.0", "\"avg\": \"four\"", "request_count.avg: `\"four\"` is no number"),
        ("\"unit\": \"sec\"", "\"unit\": \"min\"", "benchmark_duration.unit"),
        ("\"avg\": 2.0", "\"avg\": -2.0", "batch_size"),
        ("\"input_sequence_length\"", "\"isl\"", "input_sequence_length is missing"),
        ("\"avg\": 5.0", "\"avg\": 0.0", "output_tokens"),
        ("\"items\": [{\"name\": \"org/m\"}]", "\"items\": [{\"name\": \"org/m\"}, {\"name\": \"b\"}]", "2 models"),
        ("\"gpu_uuid\": \"GPU-b\", ", "", "telemetry_data.endpoints.localhost:9400.gpus.gpu_1.gpu_uuid"),
        ("\"MJ\"", "\"kWh\"", "nvidia_energy_consumption.unit"),
        ("\"telemetry_data\": {", "\"telemetry_data\": {{", "line 13, column 22"),
    ] {
        let error = refused(&SUMMARY.replacen(from, to, 1), &facts(), None);
        assert!(error.contains(complaint), "{complaint}: {error}");
    }
    let good = records();
    for (from, to, complaint) in [
        ("\"metadata\"", "\"meta\"", "line 1 (metadata)"),
        ("\"request_end_ns\": 1760000001000000000", "\"request_end_ns\": 5", "line 1 (metadata.request_end_ns)"),
        ("\"output_sequence_length\"", "\"osl\"", "line 1"),
        ("\"unit\": \"sec\"", "\"unit\": \"h\"", "inter_token_latency.unit"),
        ("[190.0,", "[\"x\",", "list of numbers"),
        ("}\n", "\n", "line 1, column"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = import_with(&[(JSONL, &good.replacen(from, to, 1))], &facts(), None).expect_err(complaint);
        assert!(error.contains(complaint), "{complaint}: {error}");
    }
    for text in ["", "[]", "{}", "7", "null"] {
        assert!(import_with(&[(JSON, text)], &facts(), None).is_err(), "{text}");
        assert!(import_with(&[(JSONL, text)], &facts(), None).is_err(), "{text}");
    }
    assert!(matches!(import(&["/nowhere/at.json".into()], &facts(), None), Err(Problems::Unreadable { .. })));
}

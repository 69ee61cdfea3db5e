use super::*;
use crate::domain::Measurement;

/// Eight requests, four at a time for a second each.
const SERVE: &str = r#"{"date": "20251009-120000", "endpoint_type": "openai", "backend": "openai", "label": null,
"model_id": "org/m", "tokenizer_id": "org/m", "num_prompts": 8, "request_rate": "inf", "burstiness": 1.0,
"max_concurrency": 4, "duration": 2.0, "completed": 8, "failed": 0, "total_input_tokens": 800,
"total_output_tokens": 88, "request_throughput": 4.0, "output_throughput": 44.0, "mean_ttft_ms": 300.0,
"median_ttft_ms": 290.0, "p99_ttft_ms": 400.0, "mean_tpot_ms": 70.0, "median_tpot_ms": 70.0, "p99_tpot_ms": 72.0,
"mean_itl_ms": 70.0, "median_itl_ms": 69.0, "p99_itl_ms": 90.0}"#;

const THROUGHPUT: &str = r#"{
    "elapsed_time": 10.0,
    "num_requests": 100,
    "total_num_tokens": 25600,
    "requests_per_second": 10.0,
    "tokens_per_second": 2560.0
}"#;

fn facts() -> Facts {
    Facts {
        precision: Some("bfloat16".into()),
        device: Some("NVIDIA H100 80GB HBM3".into()),
        tensor_parallel: Some(1),
        expert_parallel: 1,
        data_parallel: 1,
        pipeline_parallel: 1,
        engine: Some("vllm".into()),
        engine_version: Some("0.11.0".into()),
        ..Facts::default()
    }
}

fn import_text(text: &str, facts: &Facts, lengths: Lengths) -> Result<Vec<Sample>, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("result.json");
    std::fs::write(&path, text).expect("written");
    import(&[path], facts, lengths).map_err(|error| error.to_string())
}

fn refused(text: &str) -> String {
    import_text(text, &facts(), Lengths::default()).expect_err("accepted")
}

#[test]
fn a_serving_result_without_detail_is_a_state_per_request() {
    let sample = &import_text(SERVE, &facts(), Lengths::default()).expect("sound")[0];
    assert_eq!((sample.model.as_str(), sample.device.as_str(), sample.devices), ("org/m", "H100", 1));
    assert_eq!((sample.measurement, sample.requests), (Measurement::SteadyState, 1.0));
    assert_eq!((sample.runtime, sample.output_throughput_tok_s), (Some(Seconds(0.25)), Some(44.0)));
    assert_eq!((sample.tokens.input, sample.tokens.output, sample.tokens.output_sq), (Some(100.0), 11.0, None));
    // 300 ms to the first token and ten times 70 ms: a second each, eight of them in two.
    assert!((sample.batch_size - 4.0).abs() < 1e-9, "{}", sample.batch_size);
    assert_eq!((sample.ttft, sample.tbt_p99), (Some(Seconds(0.3)), Some(Seconds(0.09))));
    assert_eq!((sample.energy_per_request(), sample.measured_at.as_deref()), (None, None));
}

#[test]
fn constant_lengths_or_details_make_it_a_trial() {
    let constant = Lengths { constant: true, ..Lengths::default() };
    let sample = &import_text(SERVE, &facts(), constant).expect("sound")[0];
    assert_eq!((sample.measurement, sample.requests, sample.runtime), (Measurement::Trial, 8.0, Some(Seconds(2.0))));
    assert_eq!(sample.tokens, Moments::constant(100.0, 11.0));

    let lists = r#""input_lens": [50, 150, 50, 150, 50, 150, 50, 150], "output_lens": [11, 11, 11, 11, 11, 11, 11, 11],
        "latencies": [1, 1, 1, 1, 1, 1, 1, 0.8], "failed""#;
    let detailed = SERVE.replace("\"failed\"", lists);
    let sample = &import_text(&detailed, &facts(), Lengths::default()).expect("sound")[0];
    assert_eq!((sample.measurement, sample.tokens.input_sq), (Measurement::Trial, Some(12_500.0)));
    assert!((sample.batch_size - 3.9).abs() < 1e-9, "{}", sample.batch_size);
    for (from, to) in [("[50, 150, 50", "[51, 150, 50"), ("[11, 11, ", "[11, ")] {
        assert!(refused(&detailed.replace(from, to)).contains("do not add up"), "{to}");
    }
    let none = SERVE.replace("\"failed\"", "\"input_lens\": [], \"output_lens\": [], \"failed\"");
    assert!(refused(&none).contains("do not add up"));
}

#[test]
fn results_that_were_appended_to_one_file_are_as_many_samples() {
    let two = format!("{SERVE}\n{}", SERVE.replace("\"duration\": 2.0", "\"duration\": 1.9"));
    assert_eq!(import_text(&two, &facts(), Lengths::default()).expect("sound").len(), 2);
    let error = refused(&format!("{SERVE}\n{}", SERVE.replace("\"duration\": 2.0", "\"duration\": \"2\"")));
    assert!(error.contains("result 2 (duration)"), "{error}");
}

#[test]
fn the_offline_benchmark_needs_the_prompt_length_and_the_batch() {
    let error = refused(THROUGHPUT);
    assert!(error.contains("--input-tokens"), "{error}");
    let lengths = Lengths { input_tokens: Some(200.0), constant: true };
    let error = import_text(THROUGHPUT, &facts(), lengths).expect_err("no batch");
    assert!(error.contains("--batch-size") && error.contains("--model"), "{error}");
    let facts = Facts { model: Some("org/m".into()), batch_size: Some(64.0), ..facts() };
    let sample = &import_text(THROUGHPUT, &facts, lengths).expect("sound")[0];
    assert_eq!((sample.tokens, sample.requests), (Moments::constant(200.0, 56.0), 100.0));
    assert_eq!((sample.runtime, sample.gpu_energy, sample.ttft), (Some(Seconds(10.0)), None, None));
    let long = Lengths { input_tokens: Some(256.0), constant: false };
    assert!(import_text(THROUGHPUT, &facts, long).expect_err("no output").contains("leave none for outputs"));
}

#[test]
fn a_run_with_failures_is_refused_and_they_are_counted() {
    assert!(refused(&SERVE.replace("\"failed\": 0", "\"failed\": 2")).contains("2 of 10 requests failed"));
    let old = SERVE.replace("\"failed\": 0, ", "").replace("\"num_prompts\": 8", "\"num_prompts\": 9");
    assert!(refused(&old).contains("1 of 9 requests failed"));
    assert!(refused(&SERVE.replace("\"completed\": 8", "\"completed\": 0")).contains("no request was completed"));
}

#[test]
fn what_the_client_did_not_see_is_absent() {
    let blocking = SERVE
        .replace("\"mean_ttft_ms\": 300.0", "\"mean_ttft_ms\": 0.0")
        .replace("\"p99_ttft_ms\": 400.0", "\"p99_ttft_ms\": 0.0")
        .replace("itl_ms\": ", "itl_ms\": 0.0, \"x\": ");
    let facts = Facts { batch_size: Some(4.0), ..facts() };
    let sample = &import_text(&blocking, &facts, Lengths::default()).expect("sound")[0];
    assert_eq!((sample.ttft, sample.ttft_p99, sample.tbt_p50, sample.tbt_p99), (None, None, None, None));
    let chunked = SERVE.replace("\"mean_itl_ms\": 70.0", "\"mean_itl_ms\": 140.0");
    assert_eq!(import_text(&chunked, &facts, Lengths::default()).expect("sound")[0].tbt_p99, None);
}

#[test]
fn malformed_files_name_the_field() {
    for (from, to, complaint) in [
        ("\"duration\": 2.0", "\"lasted\": 2.0", "no result of vllm bench"),
        ("\"completed\": 8", "\"complete\": 8", "completed: completed is missing"),
        ("\"total_output_tokens\"", "\"total\"", "total_output_tokens is missing"),
        ("\"duration\": 2.0", "\"duration\": true", "duration: `true` is no number"),
        ("\"total_output_tokens\": 88", "\"total_output_tokens\": 0", "output_tokens"),
        ("\"duration\": 2.0", "\"duration\": NaN", "line 3, column"),
        ("\"duration\": 2.0", "\"duration\": 1e999", "line 3, column"),
        ("\"model_id\": \"org/m\"", "\"model_id\": 7", "model_id: `7` is no text"),
        ("\"failed\": 0", "\"failed\": 0.5", "failed: `0.5` is no count"),
    ] {
        assert!(SERVE.contains(from), "{from}");
        let error = refused(&SERVE.replacen(from, to, 1));
        assert!(error.contains(complaint), "{complaint}: {error}");
    }
    for text in ["", "[]", "{}", "7", "{\"duration\": {}}"] {
        refused(text);
    }
    assert!(matches!(
        import(&["/nowhere/at.json".into()], &facts(), Lengths::default()),
        Err(Problems::Unreadable { .. })
    ));
}

use super::*;

#[test]
fn the_histogram_gives_the_second_moment_about_the_published_mean() {
    // Uniform on [0, 2]: mean 1, mean square 4/3; stretched to a mean of 10.
    let histogram = Histogram { bins: vec![0.0, 1.0, 2.0], counts: vec![5.0, 5.0] };
    let square = histogram.mean_square(10.0).expect("sound");
    assert!((square - 400.0 / 3.0).abs() < 1e-9);
    assert_eq!(Histogram { bins: vec![0.0, 1.0], counts: vec![0.0] }.mean_square(10.0), None);
    assert_eq!(Histogram { bins: vec![0.0], counts: vec![1.0] }.mean_square(10.0), None);
}

fn import_text(text: &str) -> Result<Vec<Sample>, Problems> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.json");
    std::fs::write(&path, text).expect("written");
    import(&[path])
}

const ROW: &str = r#"{"gpu_model": "H100", "num_gpus": 2, "max_num_seqs": 64, "avg_batch_size": 63.5,
        "avg_output_len": 500.0, "energy_per_request_joules": 100.0, "output_throughput_tokens_per_sec": 2000.0,
        "median_itl_ms": 30.0, "p99_itl_ms": 60.0, "parallelization": {"tensor_parallel": 1, "expert_parallel": 2}}"#;

#[test]
fn a_row_of_generation_3_is_a_steady_state_with_unknown_input() {
    let text = format!(
        r#"{{"task": "chat", "model_id": "o/m", "weight_precision": "fp8", "configurations": [{ROW}, {ROW}]}}"#
    );
    let samples = import_text(&text).expect("sound");
    assert_eq!(samples.len(), 1, "equal rows count once");
    let sample = &samples[0];
    assert_eq!(sample.runtime, Some(Seconds(0.25)));
    assert_eq!((sample.tokens.input, sample.tokens.output_sq), (None, None));
    assert_eq!(sample.parallel, Parallel { tensor: 1, expert: 2, data: 1, pipeline: 1 });
    assert_eq!(sample.tbt_p99, Some(Seconds(0.06)));
    assert_eq!(sample.family().engine, "vllm@mlenergy_v3");
}

#[test]
fn malformed_files_name_the_row_and_the_field() {
    let bad = ROW.replace("100.0", "-1.0");
    let missing = ROW.replace("\"avg_batch_size\": 63.5,", "");
    let text = format!(
        r#"{{"task": "c", "model_id": "m", "weight_precision": "p", "configurations": [{ROW}, {bad}, {missing}]}}"#
    );
    let Err(Problems::BadData(problems)) = import_text(&text) else { panic!("accepted") };
    let all: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].contains("configurations[1] (gpu_energy_j)"), "{all:?}");
    assert!(all[1].contains("configurations[2]") && all[1].contains("avg_batch_size"), "{all:?}");
    for text in ["", "{", "[]", "{}", r#"{"configurations": 3}"#, r#"{"Energy/req (J)": 1}"#] {
        assert!(import_text(text).is_err(), "{text}");
    }
    assert!(matches!(import(&["/nowhere/at.json".into()]), Err(Problems::Unreadable { .. })));
}

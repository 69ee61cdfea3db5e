//! A study of a server that makes tokens by a clock.

use jouleplan::measure::profile::Cell;

use crate::rig::{IDLE, NAMED, QUICK, Rig, Server, assert_code, json, stderr};

const CLOCK: [&str; 4] = ["--step-s", "0.004", "--prefill-token-s", "0.0002"];

#[test]
fn rows_say_all_that_the_server_did() {
    let rig = Rig::metered();
    let server = Server::start(&CLOCK);
    let grid =
        ["--grid-input", "16,256", "--grid-output", "8,32", "--batch", "1,4", "--ci", "0.2", "--max-trials", "5"];
    let url = server.url();
    let more = ["--endpoint", &url, "--out", "s.csv", "--json"];
    let output = rig.run(&[&NAMED[..], &QUICK, &grid, &more].concat());
    assert_code(&output, 0);
    let summary = json(&output);
    assert_eq!(summary["cells"].as_array().unwrap().len(), 8);
    let samples = rig.samples("s.csv");
    assert!(samples.len() >= 8 * 4, "a warm-up and three trials a cell");
    for sample in samples.iter().filter(|sample| !sample.warmup) {
        let Cell { input_tokens, output_tokens, batch, .. } = Cell::of(sample).unwrap();
        let runtime = sample.runtime.unwrap().0;
        assert!(runtime >= 0.09, "{runtime}: requests are repeated until a trial is long enough");
        let rounds = sample.requests / f64::from(batch);
        assert_eq!(rounds.fract(), 0.0);
        let alone = 0.004 * f64::from(output_tokens) + 0.0002 * f64::from(input_tokens);
        assert!(runtime >= 0.95 * rounds * alone, "{runtime} s for {rounds} rounds of {alone}");
        let watts = sample.cpu_energy.unwrap().0 / runtime;
        assert!((0.95 * IDLE..1.05 * IDLE).contains(&watts), "{watts}");
        assert_eq!(sample.batch_size, f64::from(batch));
        assert!(sample.ttft.unwrap().0 >= 0.0002 * f64::from(input_tokens));
        assert!(sample.ttft_p99 >= sample.ttft && sample.tbt_p99 >= sample.tbt_p50);
        assert!((0.003..0.02).contains(&sample.tbt_p50.unwrap().0), "{:?}", sample.tbt_p50);
        assert!(sample.engine.is_some() && sample.engine_version.is_some(), "the server says both");
        assert!(sample.output_throughput_tok_s.is_some());
    }
    assert!(stderr(&output).contains("token ids"), "{}", stderr(&output));
}

#[test]
fn a_budget_and_suggested_cells() {
    let rig = Rig::bare();
    let server = Server::start(&["--step-s", "0.001"]);
    let grid =
        ["--grid-input", "8,16,32,64,128,256", "--grid-output", "8,16,32,64,128,256", "--batch", "1,2", "--ci", "0.2"];
    let url = server.url();
    let more = ["--endpoint", &url, "--runtime-only", "--json"];
    let run = |extra: &[&str]| {
        let begun = std::time::Instant::now();
        let output = rig.run(&[&NAMED[..], &QUICK, &grid, &more, extra].concat());
        assert_code(&output, 0);
        (json(&output), begun.elapsed().as_secs_f64())
    };
    let (suggested, _) = run(&["--suggest", "5", "--out", "suggested.csv", "--max-trials", "3"]);
    let cells = suggested["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 5);
    let longest = |name: &str| cells.iter().filter_map(|cell| cell[name].as_u64()).max();
    assert_eq!((longest("input_tokens"), longest("output_tokens")), (Some(256), Some(256)));
    let (short, seconds) = run(&["--budget", "4s", "--out", "short.csv"]);
    assert!(seconds < 7.0, "{seconds}");
    let states: Vec<&str> =
        short["cells"].as_array().unwrap().iter().filter_map(|cell| cell["state"].as_str()).collect();
    assert!(states.contains(&"out_of_time") && states[0] == "converged", "{states:?}");
}

#[test]
fn cells_the_server_cannot_serve_are_left_out() {
    let rig = Rig::bare();
    let server = Server::start(&["--step-s", "0.001", "--max-model-len", "64"]);
    let url = server.url();
    let grid = ["--grid-input", "8,512", "--grid-output", "8", "--ci", "0.5", "--runtime-only", "--json"];
    let output = rig.run(&[&NAMED[..], &QUICK, &grid, &["--endpoint", &url, "--out", "s.csv"]].concat());
    assert_code(&output, 0);
    assert!(stderr(&output).contains("1 of 2 cells are left out"), "{}", stderr(&output));
    let missing = ["--endpoint", "http://127.0.0.1:9", "--ready-within", "1s", "--out", "t.csv"];
    assert_code(&rig.run(&[&NAMED[..], &QUICK, &grid, &missing].concat()), 69);
}

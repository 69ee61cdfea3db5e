//! Servers with faults: every trial is a row or a counted failure, and no row is of a load that was not whole.

use std::time::Duration;

use serde_json::Value;

use crate::rig::{NAMED, QUICK, Rig, Server, assert_code, json};

/// No interval is that narrow: every cell gets its most trials.
const GRID: [&str; 10] =
    ["--grid-input", "16,64", "--grid-output", "8,16", "--batch", "1,4", "--max-trials", "6", "--ci", "0.000001"];

/// The summary, after checking it against the samples.
fn checked(rig: &Rig, server: &Server) -> Value {
    let url = server.url();
    let more =
        ["--endpoint", &url, "--runtime-only", "--out", "s.csv", "--json", "--least-time", "0s", "--timeout", "2s"];
    let output = rig.run(&[&NAMED[..], &QUICK[..4], &GRID, &more].concat());
    assert_code(&output, 0);
    let summary = json(&output);
    let samples = rig.samples("s.csv");
    let counted = samples.iter().filter(|sample| !sample.warmup).count() as u64;
    assert_eq!(summary["trials"].as_u64(), Some(counted));
    for cell in summary["cells"].as_array().unwrap() {
        assert_eq!(cell["state"], "max_trials", "{cell}");
        assert_eq!(cell["trials"], 6);
    }
    for sample in &samples {
        assert_eq!(sample.requests, f64::from(sample.max_num_seqs.unwrap()), "whole");
        assert!(sample.batch_size <= sample.requests);
        assert!(sample.runtime.unwrap().0 >= 0.001 * sample.tokens.output);
    }
    summary
}

/// Failures of all cells, by kind.
fn failures(summary: &Value, kind: &str) -> u64 {
    summary["cells"].as_array().unwrap().iter().filter_map(|cell| cell["failed"][kind].as_u64()).sum()
}

#[test]
fn dropped_connections_refusals_and_wrong_counts_are_never_rows() {
    let cases: [(&[&str], &[&str]); 5] = [
        (&["--drop-share", "0.1"], &["connection", "broken_stream", "server_gone"]),
        (&["--short-output-share", "0.1"], &["wrong_output_tokens"]),
        (&["--wrong-input-share", "0.1"], &["wrong_input_tokens"]),
        (&["--status-429-share", "0.1"], &["status_429"]),
        (&["--status-500-share", "0.1"], &["status_500"]),
    ];
    for (faults, kinds) in cases {
        let rig = Rig::bare();
        let server = Server::start(&[&["--step-s", "0.001"], faults].concat());
        let summary = checked(&rig, &server);
        let failed: u64 = kinds.iter().map(|kind| failures(&summary, kind)).sum();
        assert!(failed > 5, "{faults:?}: {summary}");
    }
}

#[test]
fn a_slow_first_token_is_measured_not_hidden() {
    let rig = Rig::bare();
    let server = Server::start(&["--step-s", "0.001", "--slow-first-share", "0.1", "--slow-first-s", "0.3"]);
    let summary = checked(&rig, &server);
    assert!(summary["cells"].as_array().unwrap().iter().all(|cell| cell["failed"].as_object().unwrap().is_empty()));
    let slow = rig.samples("s.csv").iter().filter(|sample| sample.ttft_p99.unwrap().0 > 0.25).count();
    assert!(slow > 2, "{slow}");
}

#[test]
fn a_first_token_that_no_text_shows_has_no_time() {
    let rig = Rig::bare();
    let server = Server::start(&["--step-s", "0.001", "--unseen-share", "1.0"]);
    let summary = checked(&rig, &server);
    assert!(summary["cells"].as_array().unwrap().iter().all(|cell| cell["failed"].as_object().unwrap().is_empty()));
    for sample in rig.samples("s.csv") {
        assert_eq!((sample.ttft, sample.ttft_p99, sample.tbt_p50, sample.tbt_p99), (None, None, None, None));
    }
}

#[test]
fn a_server_that_is_restarted_costs_its_trial_and_no_more() {
    let rig = Rig::bare();
    let server = Server::start(&["--step-s", "0.002"]);
    let port = server.port;
    let restart = std::thread::spawn(move || {
        let mut server = Some(server);
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(900));
            drop(server.take());
            std::thread::sleep(Duration::from_millis(300));
            server = Some(Server::on_port(port, &["--step-s", "0.002"]));
        }
        server
    });
    let stand_in = Url(port);
    let url = stand_in.url();
    let more = ["--endpoint", &url, "--runtime-only", "--out", "s.csv", "--json", "--least-time", "0s"];
    let output = rig.run(&[&NAMED[..], &QUICK[..4], &GRID, &more].concat());
    let server = restart.join().unwrap();
    assert_code(&output, 0);
    let summary = json(&output);
    assert!(summary["cells"].as_array().unwrap().iter().all(|cell| cell["trials"] == 6), "{summary}");
    let failed: u64 =
        summary["cells"].as_array().unwrap().iter().map(|cell| cell["failed"].as_object().unwrap().len() as u64).sum();
    assert!((1..=6).contains(&failed), "{summary}");
    drop(server);
}

/// Where a server will be again.
struct Url(u16);

impl Url {
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.0)
    }
}

//! What is measured, against the clock that made it and the batch that the server says it ran.

use std::sync::Mutex;

use jouleplan::measure::load::{LoadPlan, MarkKind, Options, run};

use crate::server::{PLAN, Server, load};

/// One at a time: the first token after the step and the prompt's share, each other after a step.
#[test]
fn ttft_and_tbt_follow_the_clock() {
    let server = Server::start(&["--step-s", "0.004", "--step-per-request-s", "0.001", "--prefill-token-s", "0.0002"]);
    let plan = LoadPlan { input_tokens: 100, output_tokens: 20, concurrency: 1, requests: 5, ..PLAN };
    let summary = load(&server.endpoint(), plan).summary().unwrap();
    clocked(summary.ttft_mean.unwrap().0, 0.025);
    clocked(summary.tbt_mean.unwrap().0, 0.005);
    clocked(summary.tbt_p50.unwrap().0, 0.005);
    clocked(summary.e2e_mean.0, 0.120);
    clocked(1.0 / summary.output_throughput_tok_s, 0.120 / 20.0);
    assert!(summary.ttft_p99 >= summary.ttft_mean && summary.tbt_p99 >= summary.tbt_p50);
}

/// The client's mean batch is the server's, less those in their first step.
#[test]
fn the_mean_batch_is_the_one_the_server_ran() {
    let server = Server::start(&["--step-s", "0.004", "--step-per-request-s", "0.0005"]);
    let endpoint = server.fresh(Options::default());
    let marks = Mutex::new(Vec::new());
    let plan = LoadPlan { output_tokens: 25, concurrency: 8, requests: 64, ..PLAN };
    let outcome = run(&endpoint, &plan, &|mark| marks.lock().unwrap().push(mark)).unwrap();
    let (summary, steady, stats) = (outcome.summary().unwrap(), outcome.steady.unwrap(), server.stats());

    assert_eq!(stats["max_running"], 8);
    near(summary.mean_in_flight, 8.0, 0.4);
    near(steady.mean_decoding, stats["mean_running"].as_f64().unwrap(), 0.8);
    clocked(summary.tbt_mean.unwrap().0, 0.008);
    clocked(1.0 / steady.output_throughput_tok_s, 0.008 / 8.0);

    let marks = marks.into_inner().unwrap();
    let kinds: Vec<MarkKind> = marks.iter().map(|mark| mark.kind).collect();
    assert_eq!(kinds, [MarkKind::Started, MarkKind::Full, MarkKind::Draining, MarkKind::Ended]);
    assert_eq!((marks[0].at, marks[3].at), (outcome.started_at, outcome.ended_at));
    assert!(outcome.started_at <= steady.from && steady.from < steady.to && steady.to <= outcome.ended_at);
    let parts = steady.ramp_up.0 + steady.seconds().0 + steady.drain.0;
    near(parts, summary.runtime.0, 1e-6);
    assert!(steady.seconds().0 > 0.9 * summary.runtime.0, "{steady:?}");
}

/// Beyond the server's cap requests wait in its queue: in flight, not decoding.
#[test]
fn a_server_that_queues_is_seen() {
    let server = Server::start(&["--step-s", "0.003", "--max-num-seqs", "4"]);
    let outcome = load(&server.endpoint(), LoadPlan { output_tokens: 20, concurrency: 12, requests: 48, ..PLAN });
    let steady = outcome.steady.unwrap();
    near(steady.mean_decoding, 4.0, 0.5);
    near(outcome.summary().unwrap().mean_in_flight, 11.0, 1.5);
}

/// Fewer requests than the concurrency never fill it.
#[test]
fn a_load_that_was_never_full_has_no_steady_state() {
    let server = Server::start(&[]);
    let outcome = load(&server.endpoint(), LoadPlan { concurrency: 8, requests: 5, ..PLAN });
    assert!(outcome.steady.is_none() && outcome.summary().is_some());
}

/// Four tokens a chunk: four gaps of a quarter each where the server counts them, else no percentiles.
#[test]
fn a_chunk_of_several_tokens_is_not_one_gap() {
    let plan = LoadPlan { output_tokens: 40, concurrency: 2, requests: 6, ..PLAN };
    let chunks = ["--chunk-tokens", "4", "--step-s", "0.003"];
    let server = Server::start(&chunks);
    let summary = load(&server.endpoint(), plan).summary().unwrap();
    clocked(summary.tbt_p50.unwrap().0, 0.003);
    clocked(summary.tbt_mean.unwrap().0, 0.003);

    let server = Server::start(&[&chunks[..], &["--no-continuous-usage"]].concat());
    let outcome = load(&server.endpoint(), plan);
    let summary = outcome.summary().unwrap();
    assert_eq!((summary.tbt_p50, summary.tbt_p99), (None, None));
    clocked(summary.tbt_mean.unwrap().0, 0.003);
    let expected = summary.output_tokens as f64 / summary.runtime.0;
    near(outcome.steady.unwrap().output_throughput_tok_s, expected, 0.1 * expected);
}

/// Never faster than the clock; slower by what a busy machine adds.
#[track_caller]
fn clocked(value: f64, expected: f64) {
    assert!((0.95 * expected..1.5 * expected).contains(&value), "{value} for {expected}");
}

#[track_caller]
fn near(value: f64, expected: f64, tolerance: f64) {
    assert!((value - expected).abs() <= tolerance, "{value} is not {expected} +/- {tolerance}");
}

//! Each fault is counted by its kind, as often as the server made it, and a trial with one has no figures.

use std::time::{Duration, Instant};

use jouleplan::measure::load::{LoadOutcome, LoadPlan, Options};
use serde_json::Value;

use crate::server::{PLAN, Server, load, seconds_since};

const MANY: LoadPlan = LoadPlan { requests: 200, concurrency: 8, ..PLAN };

fn with_faults(arguments: &[&str], plan: LoadPlan) -> (LoadOutcome, Value) {
    let server = Server::start(&[&["--step-s", "0.0005"], arguments].concat());
    let endpoint = server.fresh(Options::default());
    let outcome = load(&endpoint, plan);
    (outcome, server.stats())
}

/// What the client counted is what the server did, request for request.
#[track_caller]
fn counted(arguments: &[&str], pairs: &[(&str, &[&str])]) {
    let (outcome, stats) = with_faults(arguments, MANY);
    assert_eq!(stats["requests"], 200, "nothing is sent twice");
    let failures = outcome.failures();
    let mut failed = 0;
    for (fault, kinds) in pairs {
        let made = stats["faults"][fault].as_u64().unwrap();
        assert!(made >= 5, "{fault}: {made}");
        let seen: u32 = kinds.iter().filter_map(|kind| failures.get(*kind)).sum();
        assert_eq!(u64::from(seen), made, "{fault}: {failures:?}");
        failed += made;
    }
    assert_eq!(u64::from(failures.values().sum::<u32>()), failed, "{failures:?}");
    assert_eq!(outcome.completed.len() as u64, 200 - failed);
    assert!(outcome.completed.iter().all(|request| request.output_tokens == 8 && request.input_tokens == 32));
    assert!(outcome.summary().is_none() && outcome.steady.is_none(), "no trial with failures has figures");
    assert_eq!((outcome.unsent, outcome.restarts), (0, 0));
}

/// Where the connection breaks before the answer's head was sent, no answer began.
const DROPPED: (&str, &[&str]) = ("drop", &["broken_stream", "connection"]);

#[test]
fn dropped_connections_are_failures_and_not_sent_again() {
    counted(&["--drop-share", "0.1"], &[DROPPED]);
}

#[test]
fn wrong_token_counts_are_failures_of_their_own() {
    let arguments = ["--short-output-share", "0.1", "--wrong-input-share", "0.1"];
    counted(&arguments, &[("short_output", &["wrong_output_tokens"]), ("wrong_input", &["wrong_input_tokens"])]);
}

#[test]
fn refusals_are_counted_by_status() {
    let arguments = ["--status-429-share", "0.1", "--status-500-share", "0.1"];
    counted(&arguments, &[("status_429", &["status_429"]), ("status_500", &["status_500"])]);
}

#[test]
fn all_faults_at_once_are_told_apart() {
    let shares = ["drop", "short-output", "wrong-input", "status-429", "status-500"];
    let flags: Vec<String> = shares.iter().map(|share| format!("--{share}-share=0.08")).collect();
    let arguments: Vec<&str> = flags.iter().map(String::as_str).collect();
    counted(
        &arguments,
        &[
            DROPPED,
            ("short_output", &["wrong_output_tokens"]),
            ("wrong_input", &["wrong_input_tokens"]),
            ("status_429", &["status_429"]),
            ("status_500", &["status_500"]),
        ],
    );
}

/// Slow is no failure within the timeout: it shows in the tail.
#[test]
fn a_slow_first_token_shows_in_the_tail() {
    let (outcome, stats) = with_faults(&["--slow-first-share", "0.1", "--slow-first-s", "0.3"], MANY);
    assert!(stats["faults"]["slow_first"].as_u64().unwrap() >= 5);
    let summary = outcome.summary().unwrap();
    assert!(summary.ttft_p99.unwrap().0 > 0.29 && summary.ttft_mean.unwrap().0 < 0.1, "{summary:?}");
}

/// Tokens that are no text are tokens: the answer counts, only when they came is not known.
#[test]
fn tokens_that_show_no_text_are_no_failure() {
    let (outcome, stats) = with_faults(&["--unseen-share", "0.1"], MANY);
    let unseen = stats["faults"]["unseen"].as_u64().unwrap();
    assert!(unseen >= 5, "{unseen}");
    assert_eq!((outcome.completed.len(), outcome.failed.len()), (200, 0));
    let without_time = outcome.completed.iter().filter(|request| request.ttft().is_none()).count();
    assert_eq!(without_time as u64, unseen);
    let summary = outcome.summary().unwrap();
    assert_eq!((summary.ttft_mean, summary.ttft_p99, summary.tbt_p99), (None, None, None));
    assert_eq!(summary.output_tokens, 200 * 8);
    assert!(summary.e2e_mean.0 > 0.0 && outcome.steady.is_none());
}

#[test]
fn beyond_the_timeout_it_is_a_failure() {
    let plan = LoadPlan { timeout: Duration::from_millis(500), requests: 60, ..MANY };
    let (outcome, stats) = with_faults(&["--slow-first-share", "0.1", "--slow-first-s", "30"], plan);
    let slow = stats["faults"]["slow_first"].as_u64().unwrap();
    assert!(slow >= 2);
    assert_eq!(outcome.failures().into_iter().collect::<Vec<_>>(), [("timeout".to_owned(), slow as u32)]);
    let took = |from: Instant, to: Instant| to.duration_since(from).as_secs_f64();
    assert!(outcome.failed.iter().all(|failed| took(failed.sent_at, failed.ended_at) < 1.5));
}

/// A timeout holds over a stream that trickles, too.
#[test]
fn a_stream_that_never_ends_times_out() {
    let server = Server::start(&["--step-s", "0.05"]);
    let endpoint = server.endpoint();
    let begun = Instant::now();
    let plan =
        LoadPlan { timeout: Duration::from_millis(400), output_tokens: 1000, requests: 2, concurrency: 2, ..PLAN };
    let outcome = load(&endpoint, plan);
    assert_eq!(outcome.failures().into_iter().collect::<Vec<_>>(), [("timeout".to_owned(), 2)]);
    assert!(seconds_since(begun) < 3.0);
}

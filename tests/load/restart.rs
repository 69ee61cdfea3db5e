//! A server that stops in the middle of a run, and comes back or does not.

use std::thread;
use std::time::{Duration, Instant};

use jouleplan::measure::load::{Endpoint, FailureKind, LoadError, LoadPlan, Options};

use crate::server::{PLAN, Server, load, seconds_since};

const LONG: LoadPlan = LoadPlan { output_tokens: 20, requests: 80, concurrency: 4, ..PLAN };

/// Those in flight fail once each, the rest waits for the server to be ready again and completes.
#[test]
fn a_restart_costs_the_requests_in_flight_and_no_others() {
    let arguments = ["--step-s", "0.004"];
    let mut server = Server::start(&arguments);
    let (endpoint, port) = (server.endpoint(), server.port);
    let restarted = thread::scope(|scope| {
        let restart = scope.spawn(|| {
            thread::sleep(Duration::from_millis(400));
            assert_eq!(server.stop(), Some(0), "ends cleanly on SIGTERM");
            thread::sleep(Duration::from_millis(300));
            Server::on_port(port, &[&arguments[..], &["--startup-s", "0.4"]].concat())
        });
        let outcome = load(&endpoint, LONG);
        (outcome, restart.join().unwrap())
    });
    let (outcome, server) = restarted;
    assert_eq!((outcome.restarts, outcome.unsent), (1, 0));
    let failed = outcome.failed.len();
    assert!((1..=4).contains(&failed), "{:?}", outcome.failures());
    assert!(outcome.failed.iter().all(|failed| failed.kind == FailureKind::ServerGone), "{:?}", outcome.failures());
    assert_eq!(outcome.completed.len(), 80 - failed);
    assert!(outcome.summary().is_none());
    // The new server saw what was left, and each once.
    assert_eq!(server.stats()["requests"], server.stats()["distinct_prompts"]);
}

#[test]
fn a_server_that_stays_away_ends_the_run() {
    let mut server = Server::start(&["--step-s", "0.004"]);
    let options = Options { ready_within: Duration::from_millis(500), ..Options::default() };
    let endpoint = server.connect(options).unwrap();
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            server.stop();
        });
        load(&endpoint, LONG)
    });
    assert!(outcome.unsent > 0 && outcome.restarts == 0 && !outcome.completed.is_empty());
    assert!(outcome.failed.iter().all(|failed| failed.kind == FailureKind::ServerGone), "{:?}", outcome.failures());
    assert!((1..=4).contains(&outcome.failed.len()), "{:?}", outcome.failures());
}

#[test]
fn connecting_waits_for_a_server_that_loads_and_not_for_ever() {
    let server = Server::start(&["--startup-s", "0.6"]);
    let begun = Instant::now();
    server.endpoint();
    assert!(seconds_since(begun) > 0.5);

    let loading = Server::start(&["--startup-s", "600"]);
    let options = Options { ready_within: Duration::from_millis(300), ..Options::default() };
    let error = loading.connect(options.clone()).unwrap_err();
    assert!(error.to_string().contains("/health: HTTP status 503"), "{error}");
    let url = loading.url();
    drop(loading);
    let error = Endpoint::connect(&url, None, options).unwrap_err();
    assert!(matches!(&error, LoadError::NotReady { .. }), "{error}");
}

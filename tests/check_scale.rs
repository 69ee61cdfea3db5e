//! A million requests on a few hundred instances are checked in about a second.

mod common;

use std::time::Instant;

use common::wide::wide_case;
use jouleplan::check::check;

#[test]
fn a_million_requests_are_checked_in_seconds() {
    let case = wide_case(1_000_000, 300);
    let start = Instant::now();
    let report = check(&case.input());
    let seconds = start.elapsed().as_secs_f64();
    assert!(report.is_valid(), "{:#?}", report.violations);
    eprintln!("{} requests, {} deployments: {seconds:.2} s", report.totals.requests, case.plan.deployments.len());
    // Ten times what two free cores take, so that a busy machine does not fail it.
    assert!(seconds < 20.0, "{seconds} s");
}

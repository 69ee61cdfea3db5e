//! The load generator on a server of the test's own, and what that server says it did.

#[path = "../support/server.rs"]
mod support;

use std::time::{Duration, Instant};

use jouleplan::measure::load::{Endpoint, LoadError, LoadOutcome, LoadPlan, Options, run};
use serde_json::Value;

pub use support::Server;

impl Server {
    pub fn connect(&self, options: Options) -> Result<Endpoint, LoadError> {
        Endpoint::connect(&self.url(), None, options)
    }

    pub fn endpoint(&self) -> Endpoint {
        self.connect(Options::default()).unwrap()
    }

    /// Connected, and its statistics begun anew.
    pub fn fresh(&self, options: Options) -> Endpoint {
        let endpoint = self.connect(options).unwrap();
        direct().post(format!("{}/stats/reset", self.url())).send_empty().unwrap();
        endpoint
    }

    pub fn stats(&self) -> Value {
        let text = direct().get(format!("{}/stats", self.url())).call().unwrap().body_mut().read_to_string().unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// SIGTERM, and the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

/// Whatever proxy the environment names.
fn direct() -> ureq::Agent {
    ureq::Agent::new_with_config(ureq::Agent::config_builder().proxy(None).build())
}

pub const PLAN: LoadPlan = LoadPlan {
    input_tokens: 32,
    output_tokens: 8,
    concurrency: 4,
    requests: 20,
    seed: 1,
    timeout: Duration::from_secs(20),
};

pub fn load(endpoint: &Endpoint, plan: LoadPlan) -> LoadOutcome {
    let outcome = run(endpoint, &plan, &|_| {}).unwrap();
    let accounted = outcome.completed.len() + outcome.failed.len() + outcome.unsent as usize;
    assert_eq!(accounted, plan.requests as usize, "every request is accounted for once");
    outcome
}

pub fn seconds_since(from: Instant) -> f64 {
    from.elapsed().as_secs_f64()
}

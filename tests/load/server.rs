//! A server of its own for each test, on a free port, ended with the test.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jouleplan::measure::load::{Endpoint, LoadError, LoadOutcome, LoadPlan, Options, run};
use serde_json::Value;

pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    pub fn start(arguments: &[&str]) -> Self {
        Self::on_port(0, arguments)
    }

    pub fn on_port(port: u16, arguments: &[&str]) -> Self {
        let mut child = Command::new(binary())
            .arg("--port")
            .arg(port.to_string())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

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

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whatever proxy the environment names.
fn direct() -> ureq::Agent {
    ureq::Agent::new_with_config(ureq::Agent::config_builder().proxy(None).build())
}

/// Beside this test's own folder, where `cargo test` builds examples.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.parent().and_then(|folder| folder.parent()).unwrap().join("examples/tiny_server");
    assert!(binary.is_file(), "{} is there once `cargo build --example tiny_server` has run", binary.display());
    binary
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

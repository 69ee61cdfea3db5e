//! A tiny server (`tests/tiny_server`) of its own for each test, on a free port, ended with the test.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

pub struct Server {
    pub child: Child,
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
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Beside the test's own folder, where `cargo test` builds examples.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.parent().and_then(|folder| folder.parent()).unwrap().join("examples/tiny_server");
    assert!(binary.is_file(), "{} is there once `cargo build --example tiny_server` has run", binary.display());
    binary
}

//! Scripted hardware in a folder: a fake NVML, a fake sysfs, and the binary run on them.

#[path = "../support/output.rs"]
mod output;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

pub use output::{assert_code, json as printed, stderr};

pub struct Rig {
    pub folder: TempDir,
}

/// Idle and full power of the devices here.
pub const IDLE: f64 = 60.0;
pub const FULL: f64 = 400.0;

impl Rig {
    /// `devices` as the fake NVML's script has them; name and uuid are filled in.
    pub fn new(devices: &[Value]) -> Self {
        let rig = Self { folder: tempfile::tempdir().unwrap() };
        rig.script(devices, json!({}));
        fs::create_dir(rig.path("sys")).unwrap();
        rig
    }

    pub fn script(&self, devices: &[Value], fail: Value) {
        let complete = |(index, device): (usize, &Value)| {
            let mut device = device.clone();
            let defaults = json!({
                "uuid": format!("GPU-{index}a0b1c2d"), "name": "Fake H100", "idle_w": IDLE, "max_w": FULL,
                "since": now() - 100.0, "counter_step_s": 0.02
            });
            for (key, value) in defaults.as_object().unwrap() {
                device.as_object_mut().unwrap().entry(key).or_insert(value.clone());
            }
            device
        };
        let devices: Vec<Value> = devices.iter().enumerate().map(complete).collect();
        self.write("script.json", &json!({"devices": devices, "fail": fail}).to_string());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// Something that happens to a device now.
    pub fn event(&self, text: &str) {
        let mut log = OpenOptions::new().append(true).create(true).open(self.path("events")).unwrap();
        writeln!(log, "{:.6} {text}", now()).unwrap();
    }

    /// (time, device, what, value)
    pub fn events(&self) -> Vec<(f64, usize, String, f64)> {
        let text = fs::read_to_string(self.path("events")).unwrap_or_default();
        let parse = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let value = words.get(3).map_or(0.0, |word| word.parse().unwrap());
            (words[0].parse().unwrap(), words[1].parse().unwrap(), words[2].to_owned(), value)
        };
        text.lines().map(parse).collect()
    }

    /// The latest value of `what` on a device.
    pub fn last(&self, device: usize, what: &str) -> Option<f64> {
        self.events().iter().rev().find(|(_, on, name, _)| *on == device && name == what).map(|event| event.3)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("JOULEPLAN_NVML", fake_nvml())
            .env("FAKE_NVML", self.folder.path())
            .env("JOULEPLAN_SYSFS_ROOT", self.path("sys"))
            .env("JOULEPLAN_STATE_DIR", self.path("state"))
            .env_remove("CUDA_VISIBLE_DEVICES")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// `meter --json` around a shell script in which `load DEVICE SHARE` sets a device's load.
    pub fn meter(&self, flags: &[&str], script: &str) -> (Output, Value) {
        let helper = r#"load() { echo "$(date +%s.%N) $1 load $2" >> "$FAKE_NVML/events"; }"#;
        let script = format!("{helper}\n{script}");
        let output = self.run(&[&["meter", "--json"], flags, &["--", "sh", "-c", &script]].concat());
        let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output, value)
    }

    /// What a device really used while the command ran: load in steps between idle and full power, clocks unlocked.
    pub fn truth(&self, result: &Value, device: usize) -> f64 {
        let start = instant(result["started_at"].as_str().unwrap());
        let end = start + result["seconds"].as_f64().unwrap();
        let loads: Vec<(f64, f64)> =
            self.events().into_iter().filter(|e| e.1 == device && e.2 == "load").map(|e| (e.0, e.3)).collect();
        let (mut joules, mut at, mut load) = (0.0, start, 0.0);
        for (time, next) in loads.into_iter().chain([(end, 0.0)]) {
            let until = time.clamp(start, end);
            joules += (IDLE + load * (FULL - IDLE)) * (until - at);
            (at, load) = (until, next);
        }
        joules
    }
}

pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| assert_cmd::cargo::cargo_bin("jouleplan"))
}

/// The library, which `cargo test` builds as an example; with a filter on tests it does not, so it is built here.
fn fake_nvml() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--example", "fake_nvml"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "the fake NVML does not build");
        binary().with_file_name("examples").join("libfake_nvml.so")
    })
}

pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn instant(text: &str) -> f64 {
    humantime::parse_rfc3339(text).unwrap().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[track_caller]
pub fn assert_close(value: &Value, truth: f64, tolerance: f64) {
    let value = value.as_f64().unwrap_or_else(|| panic!("{value} is no number; {truth} was expected"));
    assert!((value / truth - 1.0).abs() <= tolerance, "{value} is not within {tolerance} of {truth}");
}

/// The line of a meter.
#[track_caller]
pub fn line<'a>(result: &'a Value, name: &str) -> &'a Value {
    let lines = result["meters"].as_array().unwrap();
    lines.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("no meter {name} in {result}"))
}

/// No energy and no power anywhere in `value` is 0.
#[track_caller]
pub fn assert_no_zero(value: &Value) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            // What is above idle may be nothing.
            let gross = !key.contains("net_");
            let quantity =
                gross && key.ends_with("energy_j") || key.ends_with("power_w") || key.starts_with("idle_before");
            assert!(!quantity || value.as_f64() != Some(0.0), "{key} is 0");
            assert_no_zero(value);
        }),
        Value::Array(values) => values.iter().for_each(assert_no_zero),
        _ => {}
    }
}

//! A folder with a fake processor package whose counter counts, servers on free ports, and the binary run there.

#[path = "../support/output.rs"]
mod output;
#[path = "../support/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jouleplan::domain::Sample;
use jouleplan::formats::samples_csv;
use tempfile::TempDir;

pub use output::{assert_code, json, stderr};
pub use server::Server;

/// What the package draws; more where a file `busy` is there.
pub const IDLE: f64 = 80.0;
pub const BUSY: f64 = 200.0;
const RANGE: u64 = 262_143_328_850;

/// Quick everywhere: no cooling, little idle, short trials.
pub const QUICK: [&str; 6] = ["--idle", "600ms", "--cool-down", "0s", "--least-time", "100ms"];
/// What names a family where nothing else does.
pub const NAMED: [&str; 6] = ["--model", "tiny", "--precision", "float32", "--device", "test socket"];

pub struct Rig {
    pub folder: TempDir,
    counting: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Rig {
    /// Without a meter.
    pub fn bare() -> Self {
        let rig = Self { folder: tempfile::tempdir().unwrap(), counting: None };
        fs::create_dir(rig.path("sys")).unwrap();
        rig
    }

    /// With one package.
    pub fn metered() -> Self {
        let mut rig = Self::bare();
        let zone = rig.path("sys/class/powercap/intel-rapl:0");
        fs::create_dir_all(&zone).unwrap();
        fs::write(zone.join("name"), "package-0\n").unwrap();
        fs::write(zone.join("max_energy_range_uj"), format!("{RANGE}\n")).unwrap();
        fs::write(zone.join("energy_uj"), "0\n").unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, busy, file) = (Arc::clone(&stop), rig.path("busy"), zone.join("energy_uj"));
        let count = move || {
            let (mut microjoules, mut last) = (0.0, Instant::now());
            while !stopped.load(Ordering::Relaxed) {
                let watts = if busy.exists() { BUSY } else { IDLE };
                let now = Instant::now();
                microjoules += 1e6 * watts * (now - last).as_secs_f64();
                last = now;
                let temporary = file.with_extension("new");
                fs::write(&temporary, format!("{microjoules:.0}\n")).unwrap();
                fs::rename(&temporary, &file).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        rig.counting = Some((stop, std::thread::spawn(count)));
        rig
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .arg("profile")
            .args(arguments)
            .current_dir(self.folder.path())
            .env("JOULEPLAN_NVML", "/nowhere")
            .env("JOULEPLAN_SYSFS_ROOT", self.path("sys"))
            .env("JOULEPLAN_STATE_DIR", self.path("state"))
            .env_remove("CUDA_VISIBLE_DEVICES")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn samples(&self, name: &str) -> Vec<Sample> {
        samples_csv::read(&self.path(name)).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.counting.take() {
            stop.store(true, Ordering::Relaxed);
            drop(thread.join());
        }
    }
}

pub fn binary() -> &'static Path {
    static BINARY: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    BINARY.get_or_init(|| assert_cmd::cargo::cargo_bin("jouleplan"))
}

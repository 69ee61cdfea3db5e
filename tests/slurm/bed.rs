//! The Slurm of `tests/slurm_testbed/bed.py`, a new one for each test: it is there in half a second, with a database in five,
//! and what one test did to it is nothing to the next.
//!
//! It ends with the test, and with this program, however that ends: the pipe to its stdin closes. Needs root and Debian's
//! packages; without them a test skips, loudly, unless JOULEPLAN_REQUIRE_SLURM is set.

#[path = "../support/output.rs"]
mod output;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

pub use output::{assert_code, json as json_of, stderr, stdout};

/// Seven nodes of five kinds.
pub fn seven_nodes() -> Value {
    let group = |prefix: &str, count: u32, cpus: u32, sockets: u32, memory: u32, gres: &str, features: &str| {
        json!({"prefix": prefix, "count": count, "cpus": cpus, "sockets": sockets, "memory_mib": memory, "gres": gres,
            "features": features})
    };
    json!([
        group("h100n", 2, 64, 2, 512_000, "gpu:h100:4", "h100,hopper,nvlink"),
        group("a100n", 1, 96, 2, 768_000, "gpu:a100:8", "a100,ampere,nvlink"),
        group("l4n", 1, 32, 1, 128_000, "gpu:l4:2,shard:l4:8", "l4,ada"),
        group("epycn", 2, 64, 2, 256_000, "", "cpu,epyc_9654"),
        group("armn", 1, 72, 1, 480_000, "", "cpu,grace"),
    ])
}

pub struct Bed {
    folder: TempDir,
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Bed {
    /// # Panics
    /// A bed that does not come up.
    pub fn start(nodes: &Value, database: bool) -> Self {
        let folder = tempfile::Builder::new().prefix("jouleplan-bed-").tempdir().unwrap();
        let spec = folder.path().join("spec.json");
        std::fs::write(&spec, json!({"database": database, "nodes": nodes}).to_string()).unwrap();
        // The database's own user enters it.
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut process = Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm_testbed/bed.py"))
            .args([&folder.path().join("bed"), &spec])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = process.stdin.take();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let mut bed = Self { folder, process, stdin, stdout };
        let answer = bed.answer();
        assert_eq!(answer, "ready", "the test bed");
        bed
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// `watts NODE W`, `restart slurmctld`, ...
    pub fn tell(&mut self, command: &str) -> String {
        writeln!(self.stdin.as_mut().unwrap(), "{command}").unwrap();
        let answer = self.answer();
        assert!(!answer.starts_with("failed"), "{command}: {answer}");
        answer
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("bed").join(name)
    }

    /// A program that talks to this Slurm.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if ["SLURM", "SBATCH", "SRUN", "SQUEUE", "JOULEPLAN"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command
            .env("SLURM_CONF", self.path("etc/slurm.conf"))
            .env("JOULEPLAN_BED", self.path("").to_string_lossy().trim_end_matches('/'))
            .stdin(Stdio::null());
        command
    }

    pub fn slurm(&self, words: &[&str]) -> String {
        let output = self.command(words[0]).args(&words[1..]).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn jouleplan(&self, folder: &Path, arguments: &[&str]) -> Output {
        self.command(binary()).current_dir(folder).args(arguments).output().unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.process.wait();
    }
}

/// Nodes of the `h100` kind that are powered down and never come up, beside one that is there.
pub fn cloud(count: u32) -> Value {
    let group = |prefix: &str, count: u32, cloud: bool| {
        json!({"prefix": prefix, "count": count, "cpus": 64, "sockets": 2, "memory_mib": 512_000, "gres": "gpu:h100:8",
            "features": "h100", "cloud": cloud})
    };
    json!([group("there", 1, false), group("big", count, true)])
}

/// A new bed of seven nodes, and none of another test beside it; `None` where there cannot be one.
pub fn fresh(database: bool) -> Option<Own> {
    fresh_of(&seven_nodes(), database)
}

/// As `fresh`, of other nodes.
pub fn fresh_of(nodes: &Value, database: bool) -> Option<Own> {
    static ALONE: Mutex<()> = Mutex::new(());
    if !possible() {
        return None;
    }
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Some(Own { bed: Bed::start(nodes, database), _alone: alone })
}

pub struct Own {
    bed: Bed,
    _alone: MutexGuard<'static, ()>,
}

impl std::ops::Deref for Own {
    type Target = Bed;

    fn deref(&self) -> &Bed {
        &self.bed
    }
}

impl std::ops::DerefMut for Own {
    fn deref_mut(&mut self) -> &mut Bed {
        &mut self.bed
    }
}

/// Whether this machine can run a Slurm; says why not.
pub fn possible() -> bool {
    let user = Command::new("id").arg("-u").output().unwrap().stdout;
    let on_path = |program: &str| {
        let found = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&found).chain(["/usr/sbin".into()]).any(|folder| folder.join(program).exists())
    };
    let programs = ["munged", "slurmctld", "slurmd", "slurmdbd", "sbatch", "sacct", "mariadbd", "unshare"];
    let missing: Vec<&str> = programs.into_iter().filter(|program| !on_path(program)).collect();
    let why = match (user.as_slice() == b"0\n", missing.is_empty()) {
        (true, true) => return true,
        (false, _) => "not root".to_owned(),
        (true, false) => format!("no {}", missing.join(", ")),
    };
    assert!(std::env::var_os("JOULEPLAN_REQUIRE_SLURM").is_none(), "the tests need a Slurm of their own: {why}");
    eprintln!("SKIPPED: no Slurm can be started here ({why}); nothing of it was tested");
    false
}

pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_jouleplan"))
}

/// # Panics
/// What does not come in time.
pub fn wait_for(what: &str, patience: Duration, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < patience, "waited {patience:?} for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

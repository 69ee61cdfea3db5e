//! A folder with small inputs of every kind, and the binary run in it.

#[path = "../support/output.rs"]
mod output;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

pub use output::{assert_code, json, stderr, stdout};

pub const CLUSTER: &str = r#"[[pool]]
name = "gpu"
nodes = "gpu[1-2]"
device = "H100"
devices_per_node = 4
idle_power_w = 70
base_power_w = 900
gres = "gpu:h100"
cpus_per_device = 12
"#;

pub const CPU_POOL: &str = r#"[[pool]]
name = "cpu"
nodes = "cpu[1-4]"
device = "Xeon-8480+"
devices_per_node = 2
device_memory_gib = 240
cpus_per_device = 56
idle_power_w = 100
base_power_w = 120
suspend = true
wake_s = 120
wake_j = 50000
"#;

pub const ACCURACY: &str = "model,task,accuracy\nQwen/Qwen3-8B,t,64.3\nmeta-llama/Llama-3.1-8B-Instruct,t,47.6\n";

pub fn bundled(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Models of two small families on H100 and one on CPU sockets, fitted once for all tests.
pub fn models() -> &'static str {
    static MODELS: OnceLock<String> = OnceLock::new();
    MODELS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let rows = |file: &str, keep: &[&str]| -> String {
            let text = fs::read_to_string(bundled(file)).unwrap();
            let kept = |line: &&str| keep.iter().any(|start| line.starts_with(start));
            text.lines().filter(kept).map(|line| format!("{line}\n")).collect()
        };
        let gpu = ["model,", "Qwen/Qwen3-8B,bfloat16,H100", "meta-llama/Llama-3.1-8B-Instruct,bfloat16,H100"];
        fs::write(folder.path().join("gpu.csv"), rows("profiles/samples/h100_b200_chat_mlenergy_v3.csv", &gpu))
            .unwrap();
        let output = Command::cargo_bin("jouleplan")
            .unwrap()
            .current_dir(folder.path())
            .args(["fit", "gpu.csv", "--out", "models.json"])
            .arg(bundled("profiles/samples/cpu_estimated.csv"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(folder.path().join("models.json")).unwrap()
    })
}

/// `rows` requests of varied lengths.
pub fn workload(rows: usize) -> String {
    let row = |r: usize| format!("{},{}\n", 50 + (r * 37) % 400, 20 + (r * 53) % 200);
    "input_tokens,output_tokens\n".to_owned() + &(0..rows).map(row).collect::<String>()
}

pub struct Case {
    pub folder: TempDir,
}

impl Case {
    /// models.json, cluster.toml, accuracy.csv and a workload w.csv of 40 requests.
    pub fn new() -> Self {
        let case = Self { folder: tempfile::tempdir().unwrap() };
        case.write("models.json", models());
        case.write("cluster.toml", CLUSTER);
        case.write("accuracy.csv", ACCURACY);
        case.write("w.csv", &workload(40));
        case
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::cargo_bin("jouleplan").unwrap();
        command.current_dir(self.folder.path()).args(arguments).output().unwrap()
    }

    /// `plan` with models, cluster, `--out plan` and a time limit, and more arguments.
    pub fn plan(&self, more: &[&str]) -> Output {
        let common = ["plan", "--models", "models.json", "--cluster", "cluster.toml"];
        let unless_given = |pair: [&'static str; 2]| if more.contains(&pair[0]) { vec![] } else { pair.to_vec() };
        let (out, limit) = (unless_given(["--out", "plan"]), unless_given(["--time-limit", "20s"]));
        self.run(&[&common[..], &out, &limit, more].concat())
    }

    /// The plan in `plan/` for w.csv, done in an hour.
    pub fn planned(&self) -> Output {
        let output = self.plan(&["--workload", "w.csv", "--deadline", "1h"]);
        assert_code(&output, 0);
        output
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }
}

/// The words of a command line in which none holds a blank.
pub fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

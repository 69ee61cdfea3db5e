//! A queue of three jobs planned for the nodes of the bed, and the project's tiny server in place of the engines.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::bed::{Bed, assert_code, binary, json_of, stderr, wait_for};

/// Pools of the bed, with figures of power that nobody measured.
pub const CLUSTER: &str = r#"[[pool]]
name = "h100"
nodes = "h100n[1-2]"
device = "H100"
devices_per_node = 4
host_memory_gib = 480
cpus_per_device = 16
idle_power_w = 70
base_power_w = 900
partition = "gpu"
gres = "gpu:h100"

[[pool]]
name = "cpu"
nodes = "epycn[1-2]"
device = "Xeon-8480+"
devices_per_node = 2
device_memory_gib = 100
host_memory_gib = 240
cpus_per_device = 32
idle_power_w = 90
base_power_w = 110
partition = "cpu"
constraint = "epyc_9654"
"#;

const JOBS: &str = r#"[[job]]
name = "chat"
files = ["chat.jsonl"]
pools = ["h100"]
models = ["Qwen/Qwen3-8B"]

[[job]]
name = "mail"
files = ["mail.jsonl"]
pools = ["h100"]
models = ["meta-llama/Llama-3.1-8B-Instruct"]

[[job]]
name = "logs"
files = ["logs.jsonl"]
pools = ["cpu"]
"#;

pub const JOB_NAMES: [&str; 3] = ["chat", "mail", "logs"];

/// Takes the place of vllm and llama-server.
const SHIM: &str = r#"#!/bin/bash
port='' slots=8 model=tiny
while [ $# -gt 0 ]; do
  case "$1" in
    --port=*) port=${1#*=} ;;
    --port) port=$2; shift ;;
    --max-num-seqs=*) slots=${1#*=} ;;
    --parallel) slots=$2; shift ;;
    --served-model-name=*) model=${1#*=} ;;
    --alias) model=$2; shift ;;
  esac
  shift
done
# The devices of a scripted NVML work while the engine runs.
if [ -n "${JOULEPLAN_NVML:-}" ]; then
  for device in ${CUDA_VISIBLE_DEVICES//,/ }; do printf '%s %s load 0.8\n' "$(date +%s.%N)" "$device" >> "$FAKE_NVML/events"; done
fi
exec "$TINY_SERVER" --port "$port" --max-num-seqs "$slots" --model "$model" --step-s "${TINY_STEP_S:-0.002}" \
  --startup-s "${TINY_STARTUP_S:-0.2}"
"#;

pub struct Night {
    pub folder: TempDir,
    /// (job, custom_id) in the caller's order.
    pub ids: Vec<(usize, String)>,
    pub environment: BTreeMap<String, String>,
}

impl Night {
    /// So many requests of each job.
    pub fn new(requests: [usize; 3], output_tokens: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut ids = Vec::new();
        for (job, name) in JOB_NAMES.iter().enumerate() {
            let mut text = String::new();
            for k in 0..requests[job] {
                let id = if job == 2 { format!("log \"{k}\" $(x) é") } else { format!("{name}-{k}") };
                let content = format!("{name} number {k} asks something");
                let body = json!({"model": "any", "messages": [{"role": "user", "content": content}],
                    "max_tokens": output_tokens, "ignore_eos": true});
                let line = json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body});
                text.push_str(&format!("{line}\n"));
                ids.push((job, id));
            }
            fs::write(folder.path().join(format!("{name}.jsonl")), text).unwrap();
        }
        fs::write(folder.path().join("cluster.toml"), CLUSTER).unwrap();
        fs::write(folder.path().join("jobs.toml"), JOBS).unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for name in ["vllm", "llama-server"] {
            fs::write(bin.join(name), SHIM).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let server = binary().parent().unwrap().join("examples/tiny_server");
        let environment =
            BTreeMap::from([("PATH".to_owned(), path), ("TINY_SERVER".to_owned(), server.display().to_string())]);
        Self { folder, ids, environment }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives the nodes scripted devices of 60 W at rest and 400 W at most.
    pub fn with_devices(&mut self, bed: &Bed, nodes: &[&str], devices: u32) {
        for node in nodes {
            let folder = bed.path(&format!("dev/nvml.{node}"));
            fs::create_dir_all(&folder).unwrap();
            let device = |index: u32| {
                json!({"uuid": format!("GPU-{node}-{index}"), "name": "Fake H100", "idle_w": 60.0, "max_w": 400.0,
                    "since": 0.0, "counter_step_s": 0.02})
            };
            let script = json!({"devices": (0..devices).map(device).collect::<Vec<_>>(), "fail": {}});
            fs::write(folder.join("script.json"), script.to_string()).unwrap();
        }
        let library = binary().with_file_name("examples").join("libfake_nvml.so");
        self.environment.insert("JOULEPLAN_NVML".into(), library.display().to_string());
    }

    /// Plans into `plan`.
    pub fn plan(&self, more: &[&str]) {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/models.json");
        let output = Command::new(binary())
            .current_dir(self.folder.path())
            .args(["plan", "--cluster", "cluster.toml", "--jobs", "jobs.toml", "--out", "plan"])
            .args(["--baselines", "none", "--time-limit", "20s", "--models"])
            .arg(models)
            .args(["--workload", "chat.jsonl", "--workload", "mail.jsonl", "--workload", "logs.jsonl"])
            .args(if more.contains(&"--deadline") { &[][..] } else { &["--deadline", "8h"] })
            .args(more)
            .output()
            .unwrap();
        assert_code(&output, 0);
    }

    pub fn command(&self, bed: &Bed, arguments: &[&str]) -> Command {
        let mut command = bed.command(binary());
        command.current_dir(self.folder.path()).args(arguments).envs(&self.environment);
        command
    }

    pub fn run(&self, bed: &Bed, arguments: &[&str]) -> Output {
        self.command(bed, arguments).output().unwrap()
    }

    #[track_caller]
    pub fn json(&self, bed: &Bed, arguments: &[&str]) -> Value {
        let output = self.run(bed, &[arguments, &["--json"]].concat());
        assert_code(&output, 0);
        json_of(&output)
    }

    /// Waits until Slurm has nothing alive of the plan.
    pub fn wait(&self, bed: &Bed, patience: Duration) {
        wait_for("the end of all jobs", patience, || bed.slurm(&["squeue", "-h"]).is_empty());
    }

    /// The logs of all jobs, for messages.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for entry in fs::read_dir(self.path("plan/results")).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                let log = fs::read_to_string(entry.path()).unwrap_or_default();
                text.push_str(&format!("== {}\n{log}\n", entry.path().display()));
            }
        }
        text
    }

    /// Every request is answered exactly once, under its own id, in the caller's order, with its own prompt's length.
    pub fn assert_all_answered(&self, bed: &Bed) {
        let output = self.run(bed, &["collect", "plan"]);
        assert_eq!(output.status.code(), Some(0), "{}\n{}", stderr(&output), self.logs());
        for (job, name) in JOB_NAMES.iter().enumerate() {
            let text = fs::read_to_string(self.path(&format!("plan/collected/{name}.jsonl"))).unwrap();
            let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let ids: Vec<&str> = lines.iter().map(|line| line["custom_id"].as_str().unwrap()).collect();
            let wanted: Vec<&str> = self.ids.iter().filter(|(of, _)| *of == job).map(|(_, id)| id.as_str()).collect();
            assert_eq!(ids, wanted, "{name}");
            for line in &lines {
                assert_eq!(line["response"]["status_code"], 200, "{line}");
                assert!(
                    line["error"].is_null() && line["response"]["body"]["usage"]["completion_tokens"].is_u64(),
                    "{line}"
                );
            }
        }
    }
}

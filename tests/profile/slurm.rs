//! `profile --slurm`: scripts that a shell takes, and that run the study where a server and jouleplan are on the path.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::rig::{Rig, assert_code, binary, stderr};

const CLUSTER: &str = r#"[[pool]]
name = "gpu fast"
nodes = "gpu[1-2]"
device = "H100"
devices_per_node = 4
idle_power_w = 70
base_power_w = 900
gres = "gpu:h100"
cpus_per_device = 12
partition = "p"
constraint = "a b"

[[pool]]
name = "cpu"
nodes = "cpu[1-4]"
device = "Xeon-8480+"
devices_per_node = 1
device_memory_gib = 240
cpus_per_device = 56
idle_power_w = 100
base_power_w = 120
"#;

fn engines(name: &str) -> String {
    format!(
        r#"[[engine]]
model = "tiny"
checkpoint = "weights of $(touch pwned).gguf"
precision = "float32"
served_name = {name:?}
engine = "llama.cpp"
arguments = ["--flag with blank"]
environment = {{ TINY_MODE = "it's" }}
load_seconds = 1
[engine.architecture]
layers = 2
attention_heads = 2
kv_heads = 2
head_dimension = 8
parameters = 1e6
active_parameters = 1e6
"#
    )
}

const STUDY: [&str; 12] = [
    "--slurm",
    "--cluster",
    "cluster.toml",
    "--engines",
    "engines.toml",
    "--grid-input",
    "8,16",
    "--grid-output",
    "8",
    "--batch",
    "2",
    "--max-trials",
];

#[test]
fn a_script_a_pool_and_a_task_a_model() {
    let rig = Rig::bare();
    rig.write("cluster.toml", CLUSTER);
    rig.write("engines.toml", &engines("tiny"));
    let more = ["3", "--model", "tiny", "--out", "arrays", "--runtime-only", "--budget", "20m"];
    let output = rig.run(&[&STUDY[..], &more].concat());
    assert_code(&output, 0);
    assert!(stderr(&output).contains("2 job arrays of 1 task"), "{}", stderr(&output));
    let gpu = rig.read("arrays/profile-gpu_fast.sbatch");
    for line in ["--array=0-0", "--partition=p", "--gres=gpu:h100:1", "--cpus-per-task=12", "--time=50", "--requeue"] {
        assert!(gpu.lines().any(|found| found == format!("#SBATCH {line}")), "{line}: {gpu}");
    }
    assert!(rig.read("arrays/profile-cpu.sbatch").contains("#SBATCH --exclusive\n"));
    let submit = rig.read("arrays/submit.sh");
    assert!(submit.contains("sbatch '--constraint=a b' -- profile-gpu_fast.sbatch"), "{submit}");
    for name in ["profile-gpu_fast.sbatch", "profile-cpu.sbatch", "submit.sh"] {
        let checked = Command::new("shellcheck").arg(rig.path("arrays").join(name)).output();
        match checked {
            Ok(checked) => assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout)),
            Err(_) => eprintln!("SKIPPED: shellcheck is not here, {name} was not checked"),
        }
    }
    let unknown = rig.run(&[&STUDY[..], &["3", "--model", "tiny,other", "--out", "x"]].concat());
    assert_code(&unknown, 2);
    assert!(stderr(&unknown).contains("no entry for other"), "{}", stderr(&unknown));
}

/// The script as a node runs it: a stand-in for llama-server starts `tiny_server`, and names stay data.
#[test]
fn a_task_starts_its_server_and_measures_it() {
    let rig = Rig::bare();
    rig.write("cluster.toml", CLUSTER);
    rig.write("engines.toml", &engines("tiny"));
    let more = ["3", "--model", "tiny", "--out", "arrays", "--runtime-only", "--ci", "0.5", "--least-time", "50ms"];
    assert_code(&rig.run(&[&STUDY[..], &more].concat()), 0);
    let programs = rig.path("programs");
    fs::create_dir(&programs).unwrap();
    let server = binary().with_file_name("examples").join("tiny_server");
    let stand_in = format!(
        "#!/bin/bash\nprintf '%s\\n' \"$@\" > arguments\nenv > environment\n\
         while [ $# -gt 0 ]; do [ \"$1\" = --port ] && port=$2; shift; done\nexec {} --port \"$port\"\n",
        server.display()
    );
    fs::write(programs.join("llama-server"), stand_in).unwrap();
    fs::set_permissions(programs.join("llama-server"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(binary(), programs.join("jouleplan")).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .arg("profile-cpu.sbatch")
        .current_dir(rig.path("arrays"))
        .env("PATH", path)
        .env("SLURM_ARRAY_TASK_ID", "0")
        .env_remove("SLURM_SUBMIT_DIR")
        .env("JOULEPLAN_NVML", "/nowhere")
        .output()
        .unwrap();
    assert_code(&output, 0);
    let samples = rig.samples("arrays/cpu-0-tiny.csv");
    assert_eq!(samples.iter().filter(|sample| !sample.warmup).count(), 6);
    assert!(samples.iter().all(|sample| sample.device == "Xeon-8480+" && sample.precision == "float32"));
    let arguments = rig.read("arrays/arguments");
    for expected in ["weights of $(touch pwned).gguf", "--flag with blank", "--parallel\n2", "--ctx-size\n176"] {
        assert!(arguments.contains(expected), "{expected}: {arguments}");
    }
    assert!(rig.read("arrays/environment").contains("TINY_MODE=it's"));
    assert!(!rig.path("arrays/pwned").exists());
}

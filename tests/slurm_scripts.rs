//! The Slurm scripts, run for real: under bash without Slurm, against a program that stands in for the engine.
//!
//! Needs bash and python3; ShellCheck's part is skipped, loudly, where that is not installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use jouleplan::domain::*;
use jouleplan::formats::shards::{self, Split};
use jouleplan::formats::workload::{Format, WorkloadFile};
use jouleplan::slurm::{self, Scripts};
use jouleplan::units::{Bytes, Joules, Seconds, Watts};
use serde_json::Value;

/// What users, clusters and workloads might name things. `touch pwned` must never run.
const HOSTILE: [&str; 9] = [
    "plain-name",
    "two words",
    "it's $(touch pwned) `touch pwned`",
    "\"; touch pwned; \"",
    "'; touch pwned; '",
    "-rf",
    "line\n#SBATCH --exclusive\ntouch pwned",
    "日本 — “smart” ’ \u{1b}[31m",
    "back\\slash #comment & | * ? {a,b} ~ !!",
];

fn family(model: &str) -> FamilyKey {
    FamilyKey {
        model: model.into(),
        precision: "bf16".into(),
        device: "H100".into(),
        devices: 2,
        parallel: Parallel::tensor(2),
        kv_cache: true,
        engine: "vllm@test".into(),
    }
}

fn deployment(model: &str, pool: usize) -> Deployment {
    Deployment {
        id: model.into(),
        family: family(model),
        pool,
        devices: 2,
        max_num_seqs: 8,
        batch_size: 8.0,
        rates: Rates { batch_size: 8.0, net_energy: [1.0; 6], busy_time: [0.1; 6] },
        net_energy_low: [1.0; 6],
        net_energy_high: [1.0; 6],
        net_energy_estimated: [0.0; 6],
        load_time: Seconds(60.0),
        load_energy: Joules(1.0),
        tail_time: Seconds(1.0),
        tail_energy: Joules(1.0),
        max_tokens: f64::INFINITY,
        ttft_p99: None,
        tbt_p99: None,
        support: Box2::default(),
        idle_power: Watts(1.0),
    }
}

fn pool(name: &str, kind: DeviceKind, slurm: SlurmTarget) -> Pool {
    Pool {
        name: name.into(),
        nodes: vec!["h100n1".into(), name.into()],
        device: "H100".into(),
        kind,
        devices_per_node: 4,
        devices_busy: BTreeMap::new(),
        device_memory: Bytes::from_gib(64.0),
        host_memory: None,
        cpus_per_device: Some(8),
        idle_power: Figure::estimated(Watts(70.0)),
        base_power: Some(Watts(300.0)),
        suspend: true,
        wake_time: Seconds(60.0),
        wake_energy: Joules(1.0),
        storage_gib_per_s: None,
        slurm,
    }
}

fn engine(name: &str, engine: &str, command: Option<Vec<String>>) -> Engine {
    Engine {
        model: name.into(),
        checkpoint: format!("{name}.gguf"),
        precision: "bf16".into(),
        served_name: name.into(),
        architecture: Architecture {
            layers: 1,
            attention_heads: 1,
            kv_heads: 1,
            head_dimension: 1,
            parameters: 1.0,
            active_parameters: 1.0,
            kv_bytes_per_token_layer: None,
        },
        engine: engine.into(),
        module: None,
        image: None,
        arguments: vec![name.into()],
        environment: BTreeMap::from([("GREETING".to_owned(), name.to_owned())]),
        command,
        load_time: None,
    }
}

/// A plan directory with one instance per request of `workload`, all on the first node.
struct Case {
    dir: tempfile::TempDir,
    cluster: Cluster,
    deployments: Vec<Deployment>,
    engines: Vec<Engine>,
}

impl Case {
    fn new(pool: Pool, deployment: Deployment, engine: Engine) -> Self {
        Self {
            dir: tempfile::Builder::new().prefix("plan it's $(touch pwned) ").tempdir().unwrap(),
            cluster: Cluster { pools: vec![pool], site: Site { pue: None } },
            deployments: vec![deployment],
            engines: vec![engine],
        }
    }

    /// Writes shards and scripts for one instance (on node `node`) that serves every line of `workload`.
    fn write(&self, file: &str, format: Format, workload: &str, node: usize) -> Result<PathBuf, slurm::SlurmError> {
        let requests = workload.lines().count() - usize::from(format == Format::Csv);
        let schedule = Schedule {
            instances: vec![Instance {
                deployment: 0,
                pool: 0,
                node,
                device_indices: vec![0, 1],
                start: Seconds(60.0),
                end: Seconds(661.0),
            }],
            powered: vec![PoweredInterval {
                pool: 0,
                node,
                wake: Seconds(0.0),
                on: Seconds(60.0),
                off: Seconds(661.0),
            }],
            assignment: vec![0; requests],
        };
        let dir = self.dir.path();
        let path = dir.join(file);
        fs::write(dir.join("plan.json"), "{}").unwrap();
        fs::write(&path, workload).unwrap();
        let files = [WorkloadFile { path, format, first_request: 0, requests }];
        let served = slurm::served_name(&self.engines, &self.deployments[0].family);
        let split = Split { assignment: &schedule.assignment, served_names: &[served], rank: None };
        let shards = shards::write(dir, &files, &split).unwrap();
        let requests = Requests {
            input_tokens: vec![100; requests],
            output_tokens: vec![20; requests],
            group: vec![0; requests],
            ids: RequestIds::Rows(vec![(String::new(), 0)]),
        };
        let (deployments, cluster, engines) = (&self.deployments, &self.cluster, &self.engines);
        let scripts =
            Scripts { schedule: &schedule, deployments, cluster, engines, shards: &shards, requests: &requests };
        slurm::write(dir, &scripts)?;
        Ok(dir.join("slurm/i0001.sbatch"))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.dir.path().join(name).exists()
    }

    /// Runs the script under bash with the fake engine first on the path, in a folder that must stay empty.
    fn run(&self, script: &Path, variables: &[(&str, &str)]) -> Output {
        let bin = self.dir.path().join("bin");
        fs::create_dir_all(&bin).unwrap();
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_engine.py");
        for name in ["vllm", "llama-server", "apptainer"] {
            let program = bin.join(name);
            fs::copy(&fake, &program).unwrap();
            executable(&program);
        }
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let elsewhere = tempfile::tempdir().unwrap();
        let output = Command::new("bash")
            .arg(script)
            .current_dir(elsewhere.path())
            .env("PATH", path)
            .env("FAKE_ENGINE_LOG", self.dir.path().join("engine.json"))
            .env_remove("JOULEPLAN_DIR")
            .env_remove("SLURM_SUBMIT_DIR")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        assert!(!self.has("pwned"), "a name was executed");
        output
    }
}

fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn gpu_case(name: &str) -> Case {
    let slurm = SlurmTarget { gres: Some("gpu:h100:8".into()), ..SlurmTarget::default() };
    Case::new(pool(name, DeviceKind::Gpu, slurm), deployment(name, 0), engine(name, "vllm", None))
}

fn workload(ids: &[String]) -> String {
    ids.iter()
        .map(|id| {
            let body = serde_json::json!({"model": "anything", "prompt": format!("prompt of {id}")});
            serde_json::json!({"custom_id": id, "method": "POST", "url": "/v1/completions", "body": body}).to_string()
                + "\n"
        })
        .collect()
}

#[test]
fn bash_and_shellcheck_accept_scripts_with_any_names() {
    let shellcheck = Command::new("shellcheck").arg("--version").output().is_ok();
    if !shellcheck {
        eprintln!("SKIPPED: shellcheck is not installed; scripts are checked with bash -n only");
    }
    let line = workload(&["r".into()]);
    let with_command = |name: &str| Some(vec![name.to_owned(), format!("{name}={{shard}}"), "{output}{port}".into()]);
    for name in HOSTILE {
        let target = SlurmTarget {
            partition: Some(name.into()),
            gres: Some("gpu".into()),
            constraint: Some("(hopper|ada)&nvlink".into()),
            account: Some(name.into()),
            qos: Some(name.into()),
        };
        let mut cases = Vec::new();
        for kind in [DeviceKind::Gpu, DeviceKind::Cpu] {
            for (program, command) in
                [("vllm", None), ("llama.cpp", None), ("command", with_command(name)), (name, None)]
            {
                let mut engine = engine(name, program, command);
                engine.module = Some(name.into());
                engine.image = Some(name.into());
                let case = Case::new(pool(name, kind, target.clone()), deployment(name, 0), engine);
                case.write("w.jsonl", Format::OpenaiBatch, &line, 1).unwrap();
                cases.push(case);
            }
        }
        let lengths = gpu_case(name);
        lengths.write("w.csv", Format::Csv, "input_tokens\n1\n", 1).unwrap();
        cases.push(lengths);

        let script = |case: &Case| case.dir.path().join("slurm/i0001.sbatch");
        let mut scripts: Vec<PathBuf> = cases.iter().map(script).collect();
        scripts.extend([0, 8].map(|case| cases[case].dir.path().join("slurm/submit.sh")));
        for script in &scripts {
            let checked = Command::new("bash").arg("-n").arg(script).output().unwrap();
            assert!(checked.status.success(), "{name:?}: {}", stderr(&checked));
            // sbatch reads its options down to the first command: none of them may come from a name.
            let text = fs::read_to_string(script).unwrap();
            let head = text.split("set -euo pipefail").next().unwrap();
            let options = head.lines().filter(|line| line.starts_with("#SBATCH"));
            assert!(options.clone().all(|line| !line.contains("touch ") && !line.contains(" --exclusive")), "{head}");
        }
        if shellcheck {
            let checked = Command::new("shellcheck").args(&scripts).output().unwrap();
            assert!(checked.status.success(), "{name:?}:\n{}", String::from_utf8_lossy(&checked.stdout));
        }
    }
}

#[test]
fn a_script_starts_the_engine_runs_the_shard_and_stops_it() {
    for name in HOSTILE {
        let case = gpu_case(name);
        let ids: Vec<String> = (0..40).map(|k| format!("{k} {name}")).collect();
        let script = case.write("w.jsonl", Format::OpenaiBatch, &workload(&ids), 0).unwrap();
        let output = case.run(&script, &[]);
        assert!(output.status.success(), "{name:?}: {}", stderr(&output));

        let answers = case.lines("results/i0001.jsonl");
        let by_id: BTreeMap<&str, &Value> =
            answers.iter().map(|answer| (answer["custom_id"].as_str().unwrap(), answer)).collect();
        assert_eq!((answers.len(), by_id.len()), (40, 40), "each request is answered once");
        for id in &ids {
            let body = &by_id[id.as_str()]["response"]["body"];
            assert_eq!(body["echo"], format!("prompt of {id}"), "the answer belongs to the request");
            assert_eq!((body["model"].as_str(), body["path"].as_str()), (Some(name), Some("/v1/completions")));
        }
        let most = answers.iter().map(|answer| answer["response"]["body"]["most"].as_u64().unwrap()).max();
        assert!((2..=8).contains(&most.unwrap()), "max_num_seqs in flight, not {most:?}");
        assert!(!case.has("results/i0001.errors.jsonl"));

        let log: Value = serde_json::from_str(&case.read("engine.json")).unwrap();
        assert_eq!(log["greeting"], name);
        let arguments: Vec<&str> = log["arguments"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        assert_eq!(arguments.last(), Some(&name));
        assert!(arguments.contains(&"--tensor-parallel-size=2") && arguments.contains(&"--max-num-seqs=8"));
        for pid in log["pids"].as_array().unwrap() {
            assert!(!running(pid.as_u64().unwrap()), "a process of the engine outlived the script");
        }
    }
}

/// Ended processes that nobody has waited for yet count as ended; they are given a moment to end.
fn running(pid: u64) -> bool {
    let state = || fs::read_to_string(format!("/proc/{pid}/stat")).ok().filter(|stat| !stat.contains(") Z "));
    let start = Instant::now();
    while state().is_some() {
        if start.elapsed() > Duration::from_secs(5) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn failures_are_counted_and_a_second_run_asks_only_for_what_is_missing() {
    let case = gpu_case("m");
    let ids: Vec<String> = (0..30).map(|k| if k == 7 { "refuse".to_owned() } else { format!("r{k}") }).collect();
    let script = case.write("w.jsonl", Format::OpenaiBatch, &workload(&ids), 0).unwrap();
    let first = case.run(&script, &[]);
    assert_eq!(first.status.code(), Some(1), "{}", stderr(&first));
    assert!(stderr(&first).contains("30 requests sent, 29 answered, 1 failed"), "{}", stderr(&first));
    let errors = case.lines("results/i0001.errors.jsonl");
    assert_eq!((errors.len(), errors[0]["custom_id"].as_str()), (1, Some("refuse")));
    assert_eq!(errors[0]["response"]["status_code"], 400);

    // As after a kill: the last answer is cut off.
    let results = case.dir.path().join("results/i0001.jsonl");
    let whole = fs::read(&results).unwrap();
    fs::write(&results, &whole[..whole.len() - 10]).unwrap();
    let second = case.run(&script, &[]);
    assert!(stderr(&second).contains("2 requests sent, 1 answered, 1 failed"), "{}", stderr(&second));
    let answered: BTreeSet<String> =
        case.lines("results/i0001.jsonl").iter().map(|answer| answer["custom_id"].to_string()).collect();
    assert_eq!((answered.len(), case.lines("results/i0001.jsonl").len()), (29, 29));
}

#[test]
fn an_engine_that_dies_or_is_not_there_ends_the_script_at_once() {
    let case = gpu_case("m");
    let script = case.write("w.jsonl", Format::OpenaiBatch, &workload(&["r".into()]), 0).unwrap();
    let start = Instant::now();
    let output = case.run(&script, &[("FAKE_ENGINE_DIES", "1")]);
    assert_eq!(output.status.code(), Some(69));
    assert!(stderr(&output).contains("ended before it was ready"), "{}", stderr(&output));
    assert!(case.read("results/i0001.engine.log").contains("out of memory"));
    assert!(start.elapsed() < Duration::from_secs(20));

    let text = fs::read_to_string(&script).unwrap();
    fs::write(&script, text.replace("vllm", "no-such-engine")).unwrap();
    let output = case.run(&script, &[]);
    assert_eq!(output.status.code(), Some(69));
    assert!(stderr(&output).contains("no-such-engine is not on"), "{}", stderr(&output));
}

#[test]
fn lengths_without_a_command_and_models_without_an_entry_say_so() {
    let csv = "input_tokens,output_tokens\n10,20\n";
    let mut case = gpu_case("it's");
    let script = case.write("w.csv", Format::Csv, csv, 0).unwrap();
    let output = case.run(&script, &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("shards/i0001.csv holds lengths only"), "{}", stderr(&output));
    case.engines.clear();
    let output = case.run(&case.write("w.csv", Format::Csv, csv, 0).unwrap(), &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("no entry for it's"), "{}", stderr(&output));
}

#[test]
fn a_command_gets_its_placeholders() {
    for name in HOSTILE {
        let program = r#"cp -- "$1" "$2"; printf '%s|' "${@:3}" > args"#;
        let words = [
            "bash",
            "-c",
            program,
            "x",
            "{shard}",
            "{output}",
            "{model}",
            "{max_num_seqs}x{tensor_parallel}",
            "{no}",
            name,
        ];
        let command = words.iter().map(|word| word.to_string()).collect();
        let mut case = gpu_case(name);
        case.engines = vec![engine(name, "command", Some(command))];
        let csv = "input_tokens,output_tokens\n10,20\n";
        let output = case.run(&case.write("w.csv", Format::Csv, csv, 0).unwrap(), &[]);
        assert!(output.status.success(), "{name:?}: {}", stderr(&output));
        assert_eq!(case.read("results/i0001.csv"), csv);
        assert_eq!(case.read("args"), format!("{name}|8x2|{{no}}|{name}|"));
    }
}

#[test]
fn directives_ask_for_what_the_plan_uses() {
    let case = gpu_case("m");
    let text =
        fs::read_to_string(case.write("w.jsonl", Format::OpenaiBatch, &workload(&["r".into()]), 0).unwrap()).unwrap();
    for line in ["--gres=gpu:h100:2", "--nodelist=h100n1", "--time=11", "--cpus-per-task=16", "--job-name=jp-i0001-m"] {
        assert!(text.contains(&format!("#SBATCH {line}\n")), "{line} in\n{text}");
    }
    assert!(case.read("slurm/submit.sh").contains("\nsubmit i0001 0 ''\n"), "the job wakes its node");

    let slurm = SlurmTarget::default();
    let mut cpu = Case::new(pool("cpu", DeviceKind::Cpu, slurm), deployment("m", 0), engine("m", "llama.cpp", None));
    let text =
        fs::read_to_string(cpu.write("w.jsonl", Format::OpenaiBatch, &workload(&["r".into()]), 0).unwrap()).unwrap();
    for line in ["--cpus-per-task=16", "--mem-bind=local", "--distribution=block:block", "--mem=117964M"] {
        assert!(text.contains(&format!("#SBATCH {line}\n")), "{line} in\n{text}");
    }
    assert!(!text.contains("gres") && text.contains("--ctx-size 3248"), "{text}");
    cpu.cluster.pools[0].cpus_per_device = None;
    let error = cpu.write("w.jsonl", Format::OpenaiBatch, &workload(&["r".into()]), 0).unwrap_err().to_string();
    assert!(error.contains("cpus_per_device"), "{error}");
}

#[test]
fn what_no_script_can_hold_is_refused() {
    let mut case = gpu_case("m");
    case.engines[0].arguments = vec!["a\0b".into()];
    let line = workload(&["r".into()]);
    assert!(case.write("w.jsonl", Format::OpenaiBatch, &line, 0).unwrap_err().to_string().contains("NUL"));
    case.engines[0].arguments.clear();
    case.engines[0].environment = BTreeMap::from([("A=$(touch pwned)".to_owned(), "x".to_owned())]);
    let error = case.write("w.jsonl", Format::OpenaiBatch, &line, 0).unwrap_err().to_string();
    assert!(error.contains("no name of an environment variable"), "{error}");
}

#[test]
fn submit_hands_jobs_over_in_order_with_their_predecessors() {
    let case = gpu_case("it's");
    case.write("w.jsonl", Format::OpenaiBatch, &workload(&["a".into(), "b".into()]), 1).unwrap();
    let instance = |devices: Vec<u32>, start: f64| Instance {
        deployment: 0,
        pool: 0,
        node: 1,
        device_indices: devices,
        start: Seconds(start),
        end: Seconds(start + 100.0),
    };
    // i0001 follows i0002 on device 1 and i0003 on device 2.
    let schedule = Schedule {
        instances: vec![instance(vec![1, 2], 500.0), instance(vec![0, 1], 0.0), instance(vec![2, 3], 100.0)],
        powered: vec![],
        assignment: vec![],
    };
    let shards = vec![vec!["shards/i0001.jsonl".to_owned()]; 3];
    let requests =
        Requests { input_tokens: vec![], output_tokens: vec![], group: vec![], ids: RequestIds::Named(vec![]) };
    let (deployments, cluster, engines) = (&case.deployments, &case.cluster, &case.engines);
    let scripts = Scripts { schedule: &schedule, deployments, cluster, engines, shards: &shards, requests: &requests };
    slurm::write(case.dir.path(), &scripts).unwrap();

    let bin = case.dir.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let fake = r#"#!/bin/bash
printf '<%s>' "$@" >> "$SBATCH_LOG"; echo >> "$SBATCH_LOG"
n=$(wc -l < "$SBATCH_LOG"); [ "$n" != "${SBATCH_REFUSES:-}" ] || exit 1
echo "$((100 + n));cluster"
"#;
    fs::write(bin.join("sbatch"), fake).unwrap();
    executable(&bin.join("sbatch"));
    let log = case.dir.path().join("sbatch.log");
    let submit = |refuses: &str| {
        case.run(
            &case.dir.path().join("slurm/submit.sh"),
            &[("SBATCH_LOG", log.to_str().unwrap()), ("SBATCH_REFUSES", refuses)],
        )
    };
    let output = submit("");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(case.read("submitted.csv"), "instance,slurm_job\ni0002,101\ni0003,102\ni0001,103\n");
    let calls = case.read("sbatch.log");
    let calls: Vec<&str> = calls.lines().collect();
    assert!(calls[0].contains("<--nodelist=it's>") && !calls[0].contains("--begin"), "{}", calls[0]);
    assert!(calls[1].contains("<--begin=now+") && !calls[1].contains("--dependency"), "{}", calls[1]);
    assert!(calls[2].contains("<--dependency=afterany:101:102><--kill-on-invalid-dep=yes>"), "{}", calls[2]);
    assert!(calls[2].ends_with("<slurm/i0001.sbatch>"), "{}", calls[2]);

    let again = submit("");
    assert_eq!(again.status.code(), Some(73));
    assert!(stderr(&again).contains("has been submitted"), "{}", stderr(&again));
    fs::remove_file(case.dir.path().join("submitted.csv")).unwrap();
    fs::remove_file(&log).unwrap();
    let refused = submit("2");
    assert_eq!(refused.status.code(), Some(69));
    assert!(stderr(&refused).contains("Slurm refused i0003. Submitted before it: 101"), "{}", stderr(&refused));
}

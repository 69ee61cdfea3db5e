//! The Slurm scripts, run for real: under bash without Slurm, against a program that stands in for the engine.
//!
//! Needs bash and python3; ShellCheck's part is skipped, loudly, where that is not installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use jouleplan::domain::*;
use jouleplan::formats::workload::Format;
use jouleplan::units::Seconds;
use serde_json::Value;

mod case;

use case::*;

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
    // Side by side: most of the time is waiting for the engine.
    std::thread::scope(|scope| {
        for name in HOSTILE {
            scope.spawn(|| the_engine_is_started_used_and_stopped(name));
        }
    });
}

fn the_engine_is_started_used_and_stopped(name: &str) {
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
fn a_cancelled_job_keeps_its_answers_and_leaves_no_process() {
    let case = gpu_case("m");
    let ids = ["a", "b", "c", "slow"].map(str::to_owned);
    let script = case.write("w.jsonl", Format::OpenaiBatch, &workload(&ids), 0).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut job = case.command(&script, elsewhere.path()).spawn().unwrap();
    let start = Instant::now();
    while !case.has("results/i0001.jsonl") || case.read("results/i0001.jsonl").lines().count() < 3 {
        assert!(start.elapsed() < Duration::from_secs(30), "no answers");
        std::thread::sleep(Duration::from_millis(20));
    }
    let killed = Instant::now();
    assert!(Command::new("kill").arg(job.id().to_string()).status().unwrap().success());
    assert_eq!(job.wait().unwrap().code(), Some(143));
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    let log: Value = serde_json::from_str(&case.read("engine.json")).unwrap();
    for pid in log["pids"].as_array().unwrap() {
        assert!(!running(pid.as_u64().unwrap()), "a process of the engine outlived the script");
    }
    assert_eq!(case.lines("results/i0001.jsonl").len(), 3);
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
    // 601 s planned, and the 600 s that the script waits for the engine.
    for line in ["--gres=gpu:h100:2", "--requeue", "--time=21", "--cpus-per-task=16", "--job-name=jp-i0001-m"] {
        assert!(text.contains(&format!("#SBATCH {line}\n")), "{line} in\n{text}");
    }
    let jobs: Value = serde_json::from_str(&case.read("slurm/jobs.json")).unwrap();
    let instance = &jobs["scripts"][0]["instances"][0];
    assert_eq!(
        (instance["begin_s"].as_f64(), instance["node"].as_str()),
        (Some(0.0), Some("h100n1")),
        "it wakes its node"
    );
    assert!(!text.contains("gpu-freq"), "no clock is set that was not planned");

    let mut slow = gpu_case("m");
    slow.deployments[0].sm_clock_mhz = Some(990);
    let text =
        fs::read_to_string(slow.write("w.jsonl", Format::OpenaiBatch, &workload(&["r".into()]), 0).unwrap()).unwrap();
    assert!(!text.contains("gpu-freq") && !text.contains("clock_mhz=990"), "jobs may not set clocks there");
    slow.cluster.pools[0].clock_control = true;
    let text =
        fs::read_to_string(slow.write("w.jsonl", Format::OpenaiBatch, &workload(&["r".into()]), 0).unwrap()).unwrap();
    assert!(text.contains("#SBATCH --gpu-freq=990\n") && text.contains("\nclock_mhz=990\n"), "{text}");

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
fn alike_instances_share_a_script_and_know_their_predecessors() {
    let mut case = gpu_case("it's");
    case.write("w.jsonl", Format::OpenaiBatch, &workload(&["a".into(), "b".into()]), 1).unwrap();
    case.deployments.push(deployment("other", 0));
    let instance = |deployment: usize, devices: Vec<u32>, start: f64| Instance {
        deployment,
        pool: 0,
        node: 1,
        device_indices: devices,
        start: Seconds(start),
        end: Seconds(start + 100.0),
    };
    // i0001 follows i0002 on device 1 and i0003 on device 2; i0004 is of another deployment.
    let schedule = Schedule {
        instances: vec![
            instance(0, vec![1, 2], 500.0),
            instance(0, vec![0, 1], 0.0),
            instance(0, vec![2, 3], 100.0),
            instance(1, vec![0], 700.0),
        ],
        powered: vec![],
        assignment: vec![],
    };
    let shards: Vec<Vec<String>> = (1..=4).map(|k| vec![format!("shards/i000{k}.jsonl")]).collect();
    let requests =
        Requests { input_tokens: vec![], output_tokens: vec![], group: vec![], ids: RequestIds::Rows(vec![]) };
    case.scripts(&schedule, &shards, &requests).unwrap();
    let jobs: Value = serde_json::from_str(&case.read("slurm/jobs.json")).unwrap();
    let line = |script: &Value| {
        let of = |instance: &Value| format!("{}<{}", instance["instance"], instance["after"]).replace('"', "");
        let instances: Vec<String> = script["instances"].as_array().unwrap().iter().map(of).collect();
        format!("{} {}", script["file"].as_str().unwrap(), instances.join(" "))
    };
    let found: Vec<String> = jobs["scripts"].as_array().unwrap().iter().map(line).collect();
    assert_eq!(found, ["slurm/i0002.sbatch i0002<[] i0003<[] i0001<[i0002,i0003]", "slurm/i0004.sbatch i0004<[i0002]"]);
    assert!(case.read("slurm/i0002.sbatch").contains("\ninstances=(i0002 i0003 i0001)\n"));
    assert!(case.read("slurm/submit.sh").contains("jouleplan"));
    // A task of an array that is not there.
    let none = case.run(&case.dir.path().join("slurm/i0002.sbatch"), &[("SLURM_ARRAY_TASK_ID", "3")]);
    assert_eq!(none.status.code(), Some(64), "{}", stderr(&none));
}

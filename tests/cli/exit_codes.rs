//! Each exit code, and that whatever fails leaves no plan directory behind.

use std::fs;
use std::process::{Command, Stdio};

use crate::case::{CPU_POOL, Case, assert_code, json, stderr, stdout};

#[test]
fn usage_is_2() {
    let case = Case::new();
    for arguments in [
        &["plan"][..],
        &["no-such-verb"],
        &[
            "plan",
            "--models",
            "models.json",
            "--cluster",
            "cluster.toml",
            "--workload",
            "w.csv",
            "--out",
            "p",
            "--gap",
            "2",
        ],
        &["schema", "nothing"],
        &["man", "nothing"],
    ] {
        assert_code(&case.run(arguments), 2);
    }
    for deadline in ["8", "-1h", "0s", "1e300h", "yesterday", "2020-01-01T00:00:00Z"] {
        let output = case.plan(&["--workload", "w.csv", "--deadline", deadline]);
        assert_code(&output, 2);
    }
    for more in [["--min-accuracy", "101"], ["--safety", "NaN"], ["--threads", "0"], ["--start", "2026-11-21T00:00:00"]]
    {
        assert_code(&case.plan(&[&["--workload", "w.csv", "--deadline", "1h"], &more[..]].concat()), 2);
    }
    let output = case.plan(&["--workload", "w.csv", "--deadline", "1h", "--task", "t", "--min-accuracy", "60"]);
    assert_code(&output, 2);
    assert!(stderr(&output).contains("--accuracy"), "{}", stderr(&output));
    assert_code(&case.plan(&["--workload", "-", "--deadline", "1h"]), 2);
    assert!(!case.path("plan").exists());
}

#[test]
fn a_plan_without_a_deadline_says_so_and_stops() {
    let case = Case::new();
    let output = case.plan(&["--workload", "w.csv"]);
    assert_code(&output, 65);
    assert!(stderr(&output).contains("have no deadline; give --deadline"), "{}", stderr(&output));
}

#[test]
fn infeasible_is_3_and_says_which_job_and_why() {
    let case = Case::new();
    let fails = |more: &[&str], words: &[&str]| {
        let output = case.plan(&[&["--workload", "w.csv", "--quiet"], more].concat());
        assert_code(&output, 3);
        for word in words {
            assert!(stderr(&output).contains(word), "{word} in {}", stderr(&output));
        }
        assert!(!case.path("plan").exists());
    };
    fails(&["--deadline", "2s"], &["infeasible", "job w: 40 requests", "deadline"]);
    let accuracy = ["--accuracy", "accuracy.csv", "--task", "t", "--deadline", "1h", "--min-accuracy"];
    fails(&[&accuracy[..], &["99"]].concat(), &["infeasible", "job w", "99 %", "64.3"]);
    case.write("w.csv", "input_tokens,output_tokens\n9000000,9000000\n1,1\n");
    fails(&["--deadline", "1h"], &["1 request,", "for example 1 (9000000 tokens in", "memory"]);
    case.write("cluster.toml", &CPU_POOL.replace("Xeon-8480+", "EPYC-9654"));
    let output = case.plan(&["--workload", "w.csv", "--deadline", "1h", "--json"]);
    if output.status.code() == Some(3) {
        assert_eq!(json(&output)["status"], "infeasible");
        assert!(stderr(&output).contains("no model fits any pool"), "{}", stderr(&output));
    } else {
        assert_code(&output, 65);
    }
    assert!(!case.path("plan").exists());
}

#[test]
fn bad_data_is_65_with_the_problems_of_all_files_at_once() {
    let case = Case::new();
    case.write("models.json", "{\"schema_version\": 1, \"families\": []}");
    case.write("cluster.toml", "[[pool]]\nname = \"gpu\"\n");
    case.write("w.csv", "input_tokens,output_tokens\n1,x\n");
    case.write("accuracy.csv", "model,task,accuracy\nm,t,200\n");
    case.write("jobs.toml", "[[job]]\nfiles = [\"w.csv\"]\n");
    let output =
        case.plan(&["--workload", "w.csv", "--accuracy", "accuracy.csv", "--jobs", "jobs.toml", "--engines", "w.csv"]);
    assert_code(&output, 65);
    for place in ["models.json", "cluster.toml: line 1", "w.csv: line 2, column 2", "accuracy.csv: line 2", "jobs.toml"]
    {
        assert!(stderr(&output).contains(place), "{place} in {}", stderr(&output));
    }
    assert!(!case.path("plan").exists());
}

#[test]
fn unknown_models_and_pools_are_named() {
    let case = Case::new();
    case.write("jobs.toml", "[[job]]\nname = \"w\"\nmodels = [\"gpt-9\"]\npools = [\"moon\"]\ndeadline = \"1h\"\n");
    let output = case.plan(&["--workload", "w.csv", "--jobs", "jobs.toml"]);
    assert_code(&output, 65);
    assert!(stderr(&output).contains("gpt-9") && stderr(&output).contains("moon"), "{}", stderr(&output));
    case.write("w.csv", "input_tokens,output_tokens,model\n1,1,gpt-9\n");
    let output = case.plan(&["--workload", "w.csv", "--deadline", "1h", "--model-policy", "pin"]);
    assert_code(&output, 65);
    assert!(stderr(&output).contains("gpt-9"), "{}", stderr(&output));
    assert_code(&case.plan(&["--workload", "w.csv", "--deadline", "1h"]), 0);
}

#[test]
fn missing_inputs_are_66_all_of_them() {
    let case = Case::new();
    let output = case.plan(&["--workload", "gone.csv", "w.csv", "--jobs", "gone.toml", "--deadline", "1h"]);
    assert_code(&output, 66);
    assert!(stderr(&output).contains("gone.csv") && stderr(&output).contains("gone.toml"), "{}", stderr(&output));
    for arguments in [&["fit", "gone.csv", "--out", "m.json"][..], &["import", "mlenergy", "gone", "--out", "s.csv"]] {
        let output = case.run(arguments);
        assert_code(&output, 66);
        assert!(stderr(&output).contains("gone"), "{}", stderr(&output));
    }
    assert!(!case.path("m.json").exists() && !case.path("s.csv").exists());
}

#[test]
fn what_cannot_be_written_is_73_and_nothing_is_touched() {
    let case = Case::new();
    fs::create_dir(case.path("thesis")).unwrap();
    case.write("thesis/chapter.tex", "x");
    let output = case.plan(&["--workload", "w.csv", "--deadline", "1h", "--out", "thesis"]);
    assert_code(&output, 73);
    assert!(stderr(&output).contains("chapter.tex"), "{}", stderr(&output));
    assert_eq!(case.read("thesis/chapter.tex"), "x");
    assert_code(&case.plan(&["--workload", "w.csv", "--deadline", "1h", "--out", "w.csv"]), 73);
    assert_code(&case.run(&["fit", "w.csv", "--out", "no/such/folder/m.json"]), 65);
}

#[cfg(unix)]
#[test]
fn what_may_not_be_read_is_77() {
    use std::os::unix::fs::PermissionsExt;
    let case = Case::new();
    fs::set_permissions(case.path("w.csv"), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(case.path("w.csv")).is_ok() {
        eprintln!("SKIPPED: this user may read everything, so permissions cannot be tested");
        return;
    }
    assert_code(&case.plan(&["--workload", "w.csv", "--deadline", "1h"]), 77);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let case = Case::new();
    case.planned();
    for arguments in [&["schema", "plan"][..], &["explain", "plan", "1", "--json"], &["--help"]] {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("jouleplan"))
            .current_dir(case.folder.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_code(&output, 0);
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn off_a_terminal_there_is_no_progress_and_no_colour() {
    let case = Case::new();
    let output = case.planned();
    assert!(!stderr(&output).contains('\u{1b}') && !stderr(&output).contains('\r'), "{}", stderr(&output));
    assert!(!stdout(&output).contains('\u{1b}'));
}

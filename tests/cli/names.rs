//! Names of jobs, models, requests and folders are data everywhere: never shell, never terminal control.

use std::process::Command;

use crate::case::{Case, assert_code, models, stderr, stdout};

const HOSTILE: [&str; 5] =
    ["two words", "it's $(touch pwned) `touch pwned`", "\"; touch pwned; \"", "-rf", "日本 “smart” $HOME"];

#[test]
fn hostile_names_reach_scripts_and_terminals_as_text() {
    let shellcheck = Command::new("shellcheck").arg("--version").output().is_ok();
    if !shellcheck {
        eprintln!("SKIPPED: shellcheck is not installed; scripts are checked with bash -n only");
    }
    for name in HOSTILE {
        let case = Case::new();
        let quoted = serde_json::to_string(name).unwrap();
        case.write("models.json", &models().replace("\"Qwen/Qwen3-8B\"", &quoted));
        let cell = format!("\"{}\"", name.replace('"', "\"\""));
        let row = |r: usize| format!("{},{},{cell},\"{} {r}\"\n", 100 + r, 50 + r, name.replace('"', "\"\""));
        case.write(
            "w.csv",
            &("input_tokens,output_tokens,job,request_id\n".to_owned() + &(0..20).map(row).collect::<String>()),
        );
        case.write("jobs.toml", &format!("[[job]]\nname = {quoted}\nmodels = [{quoted}]\ndeadline = \"1h\"\n"));
        let out = format!("plan {}", name.replace('/', "_"));
        let output = case.plan(&["--workload", "w.csv", "--jobs", "jobs.toml", "--out", &out]);
        assert_code(&output, 0);
        assert!(!stdout(&output).contains('\u{1b}') && !stderr(&output).contains('\u{1b}'), "{name:?}");
        assert_code(&case.run(&["check", "--", &out]), 0);
        for what in [format!("{name} 3"), name.to_owned()] {
            let told = case.run(&["explain", "--", &out, &what]);
            assert_code(&told, 0);
            assert!(!stdout(&told).contains('\u{1b}'));
        }
        for script in ["i0001.sbatch", "submit.sh"] {
            let path = case.path(&out).join("slurm").join(script);
            assert!(Command::new("bash").arg("-n").arg(&path).status().unwrap().success(), "{name:?}: {script}");
            if shellcheck {
                let checked = Command::new("shellcheck").arg(&path).output().unwrap();
                assert!(checked.status.success(), "{name:?}: {}", String::from_utf8_lossy(&checked.stdout));
            }
        }
        assert!(!case.path("pwned").exists() && !case.path(&out).join("pwned").exists());
    }
}

//! Names that would rather be commands: through sbatch, the scripts and back.
//!
//! JOULEPLAN_HOSTILE_NAMES says how many; the usual few keep the tests short.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::bed::{assert_code, binary, fresh, stderr};
use super::night::Night;

const PIECES: [&str; 18] = [
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned ;",
    "'",
    "\"",
    "\n",
    "\\",
    "-rf",
    "--wrap=touch pwned",
    "|| touch pwned",
    "\n#SBATCH --wrap=x\n",
    "日本",
    "é",
    " ",
    "%j",
    "${IFS}",
    "../..",
    "\t#",
];

fn name(random: &mut ChaCha8Rng, number: usize) -> String {
    let pieces = random.random_range(1..6);
    let mut text: String = (0..pieces).map(|_| *PIECES.choose(random).unwrap()).collect();
    if number.is_multiple_of(20) {
        text.push_str(&"x".repeat(10_000));
    }
    format!("{text}{number}")
}

#[test]
fn no_name_is_ever_executed_and_ids_come_back_as_they_were() {
    let Some(bed) = fresh(false) else { return };
    let names = std::env::var("JOULEPLAN_HOSTILE_NAMES").ok().and_then(|names| names.parse().ok()).unwrap_or(24_usize);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let night = Night::new([1, 1, 1], 3);
    // One job a dozen ids, and its name and its folder are hostile too.
    let mut jobs = String::new();
    let mut all: Vec<Vec<String>> = Vec::new();
    let ids: Vec<String> = (0..names).map(|number| name(&mut random, number)).collect();
    let mut files = Vec::new();
    for (number, ids) in ids.chunks(12).enumerate() {
        let file = format!("work '{number}' $(touch pwned) ;.jsonl");
        let line = |id: &String| {
            let body = json!({"model": name(&mut ChaCha8Rng::seed_from_u64(number as u64), 1), "prompt": "short", "max_tokens": 2});
            json!({"custom_id": id, "method": "POST", "url": "/v1/completions", "body": body}).to_string() + "\n"
        };
        fs::write(night.path(&file), ids.iter().map(line).collect::<String>()).unwrap();
        let job: String = name(&mut random, number + 1).chars().filter(|c| !c.is_control()).collect();
        jobs.push_str(&format!("[[job]]\nname = {}\nfiles = [{}]\npools = [\"h100\"]\n\n", json!(job), json!(file)));
        all.push(ids.to_vec());
        files.push(file);
    }
    fs::write(night.path("jobs.toml"), jobs).unwrap();
    let dir = "plan -- it's $(touch pwned) `touch pwned`;\n#";
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/models.json");
    let mut plan = Command::new(binary());
    plan.current_dir(night.folder.path())
        .args(["plan", "--cluster", "cluster.toml", "--jobs", "jobs.toml", "--deadline", "2h", "--baselines", "none"])
        .args(["--models".as_ref(), models.as_os_str(), "--out".as_ref(), dir.as_ref()]);
    for file in &files {
        plan.args(["--workload", file]);
    }
    let output = plan.output().unwrap();
    assert_code(&output, 0);
    let output = night.run(&bed, &["submit", dir, "--yes", "--asap"]);
    assert_code(&output, 0);
    night.wait(&bed, Duration::from_secs(60));
    let output = night.run(&bed, &["collect", dir, "--out", "collected", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let collected: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut found = 0;
    for (job, ids) in collected["jobs"].as_array().unwrap().iter().zip(&all) {
        let text = fs::read_to_string(night.path(job["file"].as_str().unwrap())).unwrap();
        let answered: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["custom_id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(&answered, ids);
        found += answered.len();
    }
    assert_eq!(found, names);
    let pwned = Command::new("find").arg(night.folder.path()).args(["-name", "pwned"]).output().unwrap();
    assert!(pwned.stdout.is_empty() && !Path::new("pwned").exists(), "a name was executed");
    assert!(!bed.path("run/pwned").exists());
}

//! The same malformed files through the real binary: exit 65, the place named, no panic, no output directory.

use std::path::Path;

use assert_cmd::Command;
use jouleplan::formats::workload::Format;
use rayon::prelude::*;

use crate::cases::{self, BATCH_LINE, Case};
use crate::{Kind, write};

/// As small as a cluster can be.
const CLUSTER: &str = "[[pool]]\nname = \"h100\"\nnodes = \"n1\"\ndevice = \"H100\"\ndevices_per_node = 8\n";
const ACCURACY: &str = "model,task,accuracy\nm,t,60\n";
const CSV: &str = "input_tokens,output_tokens\n10,20\n";

/// A models file with one family, cut from the bundled one.
fn models() -> String {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/models.json");
    let mut models: serde_json::Value = serde_json::from_slice(&std::fs::read(bundled).unwrap()).unwrap();
    models["families"].as_array_mut().unwrap().truncate(1);
    models.to_string()
}

/// How `plan` is told to read `input.dat` as a file of this kind; `None` where no flag does.
fn arguments(kind: Kind) -> Option<Vec<&'static str>> {
    let workload = |more: &[&'static str]| Some([&["--workload", "input.dat"], more].concat());
    match kind {
        Kind::Cluster => Some(vec!["--workload", "good.csv", "--cluster", "input.dat"]),
        Kind::Jobs => Some(vec!["--workload", "good.csv", "--jobs", "input.dat"]),
        Kind::Accuracy => Some(vec!["--workload", "good.csv", "--accuracy", "input.dat"]),
        Kind::Workload => workload(&[]),
        Kind::Forced(format) => workload(match format {
            Format::Csv => &["--format", "csv"],
            Format::Azure => &["--format", "azure"],
            Format::OpenaiBatch => &["--format", "openai-batch"],
            Format::ClassTable => &["--format", "class-table"],
        }),
        Kind::Pinned => workload(&["--model-policy", "pin"]),
        Kind::Releases => workload(&["--releases"]),
        Kind::Tokenizer => Some(vec!["--workload", "batch.jsonl", "--tokenizer", "input.dat"]),
        Kind::Sidecar => Some(vec!["--workload", "batch.jsonl", "--sidecar", "input.dat"]),
        // Files that `import` reads.
        Kind::AiperfSummary | Kind::AiperfRequests | Kind::VllmBench => None,
    }
}

/// What is wrong with the answer to a case, if anything.
fn failure(case: &Case, models: &str) -> Option<String> {
    let Case { kind, what, bytes, place } = case;
    let arguments = arguments(*kind)?;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| write(&folder.path().join(name), bytes);
    file("input.dat", bytes);
    file("models.json", models.as_bytes());
    file("good.csv", CSV.as_bytes());
    file("batch.jsonl", format!("{BATCH_LINE}\n").as_bytes());
    let mut command = Command::cargo_bin("jouleplan").unwrap();
    command.current_dir(folder.path()).args(["plan", "--models", "models.json", "--deadline", "1h", "--task", "t"]);
    command.args(["--start", "1970-01-01T00:00:00Z", "--out", "plan"]).args(&arguments);
    for (flag, name, text) in [("--cluster", "cluster.toml", CLUSTER), ("--accuracy", "accuracy.csv", ACCURACY)] {
        if !arguments.contains(&flag) {
            file(name, text.as_bytes());
            command.args([flag, name]);
        }
    }
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    let wrong = if output.status.code() != Some(65) {
        format!("exit {:?}", output.status.code())
    } else if message.contains("panicked") || !output.stdout.is_empty() {
        "a panic, or something on stdout".to_owned()
    } else if folder.path().join("plan").exists() {
        "an output directory".to_owned()
    } else if !message.lines().any(|line| line.contains("input.dat") && line.contains(place.as_str())) {
        format!("no `{place}`")
    } else {
        return None;
    };
    Some(format!("{kind:?}, {what}: {wrong} in: {message}"))
}

#[test]
fn the_binary_refuses_every_malformed_input() {
    let models = models();
    let cases: Vec<Case> = cases::all().into_iter().filter(|case| arguments(case.kind).is_some()).collect();
    let failures: Vec<String> = cases.par_iter().filter_map(|case| failure(case, &models)).collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert!(cases.len() >= 200, "only {} cases", cases.len());
    eprintln!("{} malformed inputs refused by the binary", cases.len());
}

//! Malformed inputs over all formats a plan is made from, and those of load generators: each is refused with its file and
//! place, none panics.
//!
//! Cases are good files with one thing broken, most of them generated: every column and key is removed, renamed, doubled
//! and given every kind of wrong value. What only looks odd (byte order mark, CRLF, blank lines) is accepted.

mod binary;
mod cases;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jouleplan::formats::deployment_facts::Facts;
use jouleplan::formats::vllm_bench::{self, Lengths};
use jouleplan::formats::workload::{Defaults, Format, ModelPolicy, assemble};
use jouleplan::formats::{Problems, accuracy_csv, aiperf, cluster_toml, devices_toml, jobs_toml};
use jouleplan::units::Seconds;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use cases::{BATCH_LINE, Case, TOKENIZER, good};

/// Which reader a file is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Cluster,
    Jobs,
    Accuracy,
    /// A workload whose format is detected.
    Workload,
    /// A workload read as this format, whatever it looks like.
    Forced(Format),
    Sidecar,
    Tokenizer,
    /// A workload under `--model-policy pin`.
    Pinned,
    /// An Azure trace with `--releases`.
    Releases,
    AiperfSummary,
    /// Per request; the name of the file says so.
    AiperfRequests,
    VllmBench,
}

impl Kind {
    fn read(self, path: &Path) -> Result<(), Problems> {
        let workload = |change: fn(&mut Defaults, &Path), file: &Path| {
            let mut defaults =
                Defaults { deadline: Some(Seconds(3600.0)), task: Some("t".into()), ..Defaults::default() };
            change(&mut defaults, path);
            assemble(&[file.to_owned()], None, &defaults).map(drop)
        };
        let batch = || {
            let beside = path.with_file_name("batch.jsonl");
            write(&beside, BATCH_LINE.as_bytes());
            beside
        };
        match self {
            Self::Cluster => cluster_toml::read(path, &devices_toml::builtin()).map(drop),
            Self::Jobs => jobs_toml::read(path, SystemTime::UNIX_EPOCH).map(drop),
            Self::Accuracy => accuracy_csv::read(path).map(drop),
            Self::Workload => workload(|_, _| (), path),
            Self::Forced(format) => match format {
                Format::Csv => workload(|defaults, _| defaults.format = Some(Format::Csv), path),
                Format::Azure => workload(|defaults, _| defaults.format = Some(Format::Azure), path),
                Format::OpenaiBatch => workload(|defaults, _| defaults.format = Some(Format::OpenaiBatch), path),
                Format::ClassTable => workload(|defaults, _| defaults.format = Some(Format::ClassTable), path),
            },
            Self::Sidecar => workload(|defaults, path| defaults.sidecar = Some(path.to_owned()), &batch()),
            Self::Tokenizer => workload(|defaults, path| defaults.tokenizer = Some(path.to_owned()), &batch()),
            Self::Pinned => workload(|defaults, _| defaults.model_policy = ModelPolicy::Pin, path),
            Self::Releases => workload(|defaults, _| defaults.releases = true, path),
            Self::AiperfSummary => aiperf::import(&[path.to_owned()], &facts(), None).map(drop),
            Self::AiperfRequests => {
                let lines = PathBuf::from(format!("{}.jsonl", path.display()));
                let _ = fs::remove_file(&lines);
                let _ = fs::copy(path, &lines);
                aiperf::import(&[lines], &facts(), None).map(drop)
            }
            Self::VllmBench => vllm_bench::import(&[path.to_owned()], &facts(), Lengths::default()).map(drop),
        }
    }
}

/// What load generators' files do not say.
fn facts() -> Facts {
    Facts {
        model: Some("m".into()),
        precision: Some("bfloat16".into()),
        device: Some("H100".into()),
        tensor_parallel: Some(1),
        expert_parallel: 1,
        data_parallel: 1,
        pipeline_parallel: 1,
        engine: Some("vllm".into()),
        engine_version: Some("0.11.0".into()),
        ..Facts::default()
    }
}

/// A new file each time: overwriting one makes some file systems flush it, which takes milliseconds.
fn write(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
}

#[test]
fn every_malformed_input_is_refused_with_its_place() {
    let cases = cases::all();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input.dat");
    let mut failures = Vec::new();
    for Case { kind, what, bytes, place } in &cases {
        write(&path, bytes);
        match kind.read(&path) {
            Ok(()) => failures.push(format!("{kind:?}, {what}: accepted")),
            Err(error) => {
                let message = error.to_string();
                let named = message.lines().any(|line| line.contains("input.dat") && line.contains(place.as_str()));
                if !named {
                    failures.push(format!("{kind:?}, {what}: no `{place}` in: {message}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert!(cases.len() >= 200, "only {} cases", cases.len());
    eprintln!("{} malformed inputs refused", cases.len());
}

#[test]
fn missing_files_and_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone.dat");
    for (kind, _) in good().into_iter().chain([(Kind::Tokenizer, String::new())]) {
        for path in [&gone, &folder.path().to_path_buf()] {
            let error = kind.read(path).unwrap_err();
            assert!(matches!(error, Problems::Unreadable { .. }), "{kind:?}: {error}");
            assert!(error.to_string().contains(&path.display().to_string()), "{kind:?}: {error}");
        }
    }
}

#[test]
fn what_only_looks_odd_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("input.dat");
    for (kind, text) in good() {
        let crlf = text.replace('\n', "\r\n");
        for (what, text) in [
            ("as it is", text.clone()),
            ("byte order mark", format!("\u{feff}{text}")),
            ("CRLF", crlf.clone()),
            ("both", format!("\u{feff}{crlf}")),
            ("blank lines at the end", format!("{text}\n\n  \n")),
            ("no end of line", text.trim_end().to_owned()),
        ] {
            write(&path, text.as_bytes());
            if let Err(error) = kind.read(&path) {
                panic!("{kind:?}, {what}: {error}");
            }
        }
    }
}

#[test]
fn random_damage_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input.dat");
    let mut random = ChaCha8Rng::seed_from_u64(2);
    for (kind, text) in good().into_iter().chain([(Kind::Tokenizer, TOKENIZER.to_owned())]) {
        for _ in 0..200 {
            let mut bytes = text.clone().into_bytes();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len());
                match random.random_range(0..4) {
                    0 => bytes.truncate(at + 1),
                    1 => drop(bytes.remove(at)),
                    2 => bytes[at] = random.random(),
                    _ => bytes.insert(at, b"0129.-,\"[]{}=\n"[random.random_range(0..14)]),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            write(&path, &bytes);
            let _ = kind.read(&path);
        }
    }
}

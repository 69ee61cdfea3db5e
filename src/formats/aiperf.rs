//! Import of NVIDIA AIPerf: a run's summary (`profile_export_aiperf.json`), its requests (`profile_export.jsonl`), or
//! better both, which then make one sample: exact lengths from the requests, energy and names from the summary.
//!
//! Written after AIPerf 0.13.0 (Apache-2.0; aiperf/common/models/{export_models,record_models}.py, schema 1.4, and
//! aiperf/gpu_telemetry) and 0.3.0 (schema 1.0), whose names for the energy counter and the model differ. Every figure is
//! read in the unit it states. The energy counters are AIPerf's: they run from the last reading before the first request
//! to the last within 0.7 s after the last answer, so that runs of less than half a minute are charged a few percent too
//! much. Run totals over "all GPUs" are passed over, since a host may hold GPUs that did not serve.

mod records;
mod summary;
mod telemetry;

use std::path::{Path, PathBuf};

use super::deployment_facts::{Facts, Run, refuse_failures};
use super::json_fields::Fields;
use super::problems::{Collector, Problem, Problems};
use crate::domain::Sample;
use crate::units::Seconds;

/// Reads files of either kind; a summary and its requests lie in one folder under one name
/// (`profile_export_aiperf.json` and `profile_export.jsonl`, or `NAME.json` and `NAME.jsonl`).
///
/// `gpus` are the indices or UUIDs of the GPUs that served the model; without it, all of the telemetry did.
///
/// # Errors
/// `Unreadable`, or every problem of every file at once: what neither a file nor `facts` says, failed requests, GPUs that
/// are not those of the instance, and prompts answered from a cache are such.
pub fn import(files: &[PathBuf], facts: &Facts, gpus: Option<&[String]>) -> Result<Vec<Sample>, Problems> {
    let mut samples = Vec::new();
    let mut all = Vec::new();
    for run in pair(files, &mut all) {
        match run.read(facts, gpus) {
            Ok(sample) => samples.extend(sample),
            Err(Problems::BadData(problems)) => all.extend(problems),
            Err(unreadable) => return Err(unreadable),
        }
    }
    if all.is_empty() { Ok(samples) } else { Err(Problems::BadData(all)) }
}

/// The files of one run.
struct Files {
    key: PathBuf,
    summary: Option<PathBuf>,
    records: Option<PathBuf>,
}

fn pair(files: &[PathBuf], problems: &mut Vec<Problem>) -> Vec<Files> {
    let mut runs: Vec<Files> = Vec::new();
    for path in files {
        let key = path.with_file_name(run_name(path));
        let at = runs.iter().position(|run| run.key == key).unwrap_or_else(|| {
            runs.push(Files { key, summary: None, records: None });
            runs.len() - 1
        });
        let records = path.extension().is_some_and(|extension| extension == "jsonl");
        let place = if records { &mut runs[at].records } else { &mut runs[at].summary };
        if place.replace(path.clone()).is_some() {
            problems.push(Problem {
                file: path.clone(),
                place: String::new(),
                what: "this run is here twice".into(),
                remedy: "name each file once".into(),
            });
        }
    }
    runs
}

/// What the files of a run have in common in their names.
fn run_name(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if stem == "profile_export_aiperf" { "profile_export".to_owned() } else { stem }
}

impl Files {
    fn read(&self, facts: &Facts, gpus: Option<&[String]>) -> Result<Option<Sample>, Problems> {
        let records = self.records.as_deref().map(records::read).transpose();
        let summary = self.summary.as_deref().map(|path| summary::read(path, facts, gpus)).transpose();
        let (records, summary) = match (records, summary) {
            (Ok(records), Ok(summary)) => (records, summary),
            (Err(Problems::BadData(mut first)), Err(Problems::BadData(second))) => {
                first.extend(second);
                return Err(Problems::BadData(first));
            }
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        // The gate's problems are told of the file that names the run.
        let mut problems = Collector::new(self.summary.as_ref().or(self.records.as_ref()).unwrap_or(&self.key));
        let run = match (summary, records) {
            (Some(summary), Some(records)) => join(summary, records, &mut problems),
            (summary, records) => summary.or(records),
        };
        if gpus.is_some() && self.summary.is_none() {
            problems.add("telemetry_data", "requests do not name GPUs", "give the run's summary too, or drop --gpus");
        }
        let sample = run.and_then(|run| facts.sample(run, "", &mut problems));
        problems.finish(sample)
    }
}

/// Energy and names of the summary with the figures of the single requests, if they are of one run.
fn join(summary: Run, records: Run, problems: &mut Collector) -> Option<Run> {
    let means = |run: &Run| [run.requests, run.tokens.input.unwrap_or(0.0), run.tokens.output];
    let differ = means(&summary).iter().zip(means(&records)).any(|(a, b)| (a - b).abs() > 1e-3 * a.abs().max(1.0));
    if differ {
        let [requests, input, output] = means(&records);
        let what = format!("the requests beside it are {requests}, of {input:.1} input and {output:.1} output tokens");
        problems.add("request_count", what, "is the .jsonl that of this run, and complete?");
        return None;
    }
    Some(Run {
        model: summary.model,
        device: summary.device,
        node: summary.node,
        gpu_energy: summary.gpu_energy,
        source: summary.source,
        ..records
    })
}

/// A run that is known whole, or why it is not.
fn whole(run: Option<Run>, mut problems: Collector, remedy: &str) -> Result<Run, Problems> {
    match run {
        Some(run) => problems.finish(run),
        None => {
            if problems.is_empty() {
                problems.add("", "figures of the run are missing", remedy);
            }
            problems.fail()
        }
    }
}

/// AIPerf's units of time, in seconds.
const TIMES: &[(&str, f64)] = &[("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("sec", 1.0), ("s", 1.0)];

/// A time in the unit that stands beside it.
fn seconds(metric: &Fields, name: &str, problems: &mut Collector) -> Option<Seconds> {
    let value = metric.number(name, problems)?;
    scaled(metric, value, TIMES, problems).map(Seconds)
}

fn scaled(metric: &Fields, value: f64, units: &[(&str, f64)], problems: &mut Collector) -> Option<f64> {
    let unit = metric.text("unit", problems).unwrap_or_default();
    let scale = units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| value * scale);
    if scale.is_none() {
        let known: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        metric.refuse(
            "unit",
            format!("`{unit}` is no unit of this figure"),
            format!("expected {}", known.join(", ")),
            problems,
        );
    }
    scale
}

/// Prompts from a cache cost no prefill, and a sample of them would say that prefill is cheap.
fn refuse_cached(tokens: f64, place: String, problems: &mut Collector) {
    if tokens > 0.0 {
        let what = format!("{tokens} prompt tokens came from the engine's prefix cache and were not computed");
        problems.add(place, what, "measure it with the prefix cache off, or with prompts that share nothing");
    }
}

#[cfg(test)]
mod tests;

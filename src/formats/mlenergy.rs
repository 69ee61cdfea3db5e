//! Import of the ML.ENERGY leaderboard (Apache-2.0): generation 3 (`public/data/{models,tasks}/*.json`) and generation 2
//! (`data/llm_text_generation/TASK/GPU/ORG/MODEL/bs*.json`).
//!
//! Every row is a steady state: energy per request over all devices, mean running batch, mean output length. Neither
//! generation holds input lengths, so those stay unknown; the published output-length histograms give the second moment.
//! The generations are different engines and never share a family: the data set names the generation.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::devices_toml;
use super::problems::{Collector, Problem, Problems};
use super::sample_row;
use crate::domain::{DeviceType, FamilyKey, Measurement, Moments, Parallel, Provenance, Sample};
use crate::units::{Joules, Seconds};

const SOURCE_V3: &str = "github.com/ml-energy/leaderboard@0cd52dab (Apache-2.0)";
const SOURCE_V2: &str = "github.com/ml-energy/leaderboard-v2@c3af7f31 (Apache-2.0)";

/// Reads files, or folders of them (searched for `*.json`; files of other kinds in a folder are passed over). A
/// configuration found twice, as in the `models` and `tasks` folders of generation 3, counts once, with its histogram.
///
/// # Errors
/// `Unreadable`, or every problem of every file at once. A named file of another kind, or a folder without any, is one.
pub fn import(paths: &[PathBuf]) -> Result<Vec<Sample>, Problems> {
    let devices = devices_toml::builtin();
    let mut problems = Vec::new();
    let mut samples = Vec::new();
    for path in paths {
        let named = !path.is_dir();
        let files = if named { vec![path.clone()] } else { json_files(path)? };
        let mut found = 0usize;
        for file in &files {
            match import_file(file, named, &devices) {
                Ok(more) => {
                    found += more.len();
                    samples.extend(more);
                }
                Err(Problems::BadData(more)) => {
                    found += 1;
                    problems.extend(more);
                }
                Err(unreadable) => return Err(unreadable),
            }
        }
        if found == 0 {
            problems.push(Problem {
                file: path.clone(),
                place: String::new(),
                what: "there are no ML.ENERGY figures here".into(),
                remedy: "name public/data of generation 3 or data/llm_text_generation of generation 2".into(),
            });
        }
    }
    if !problems.is_empty() {
        return Err(Problems::BadData(problems));
    }
    // With the histogram first, so that of two equal rows it is the one that stays.
    samples
        .sort_by(|a, b| order(a).cmp(&order(b)).then(b.tokens.output_sq.is_some().cmp(&a.tokens.output_sq.is_some())));
    let mut seen = BTreeSet::new();
    samples.retain(|sample| seen.insert(order(sample)));
    Ok(samples)
}

/// Sorts rows for people and tells equal ones: data set, family, batch cap, and the energy's bits.
fn order(sample: &Sample) -> (Option<String>, FamilyKey, Option<u32>, Option<u64>) {
    let energy = sample.gpu_energy.map(|energy| energy.0.to_bits());
    (sample.data_set.clone(), sample.family(), sample.max_num_seqs, energy)
}

/// All `*.json` below a folder, in order of their names.
fn json_files(folder: &Path) -> Result<Vec<PathBuf>, Problems> {
    let unreadable = |source| Problems::Unreadable { file: folder.to_owned(), source };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        entries.push(entry.map_err(unreadable)?);
    }
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.path();
        // The entry's own kind: a link to a folder above would never end.
        if entry.file_type().map_err(unreadable)?.is_dir() {
            files.extend(json_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    Ok(files)
}

/// One file of either generation. A file of another kind gives nothing, or a problem if it was `named`.
fn import_file(path: &Path, named: bool, devices: &[DeviceType]) -> Result<Vec<Sample>, Problems> {
    let bytes = std::fs::read(path).map_err(|source| Problems::Unreadable { file: path.to_owned(), source })?;
    let mut problems = Collector::new(path);
    let value: Value = match serde_json::from_slice(&bytes) {
        Ok(value) => value,
        Err(error) => {
            problems.add(
                format!("line {}, column {}", error.line(), error.column()),
                format!("this is no JSON: {error}"),
                "is the file complete?",
            );
            return problems.fail();
        }
    };
    let samples = if value.get("configurations").is_some() {
        generation_3(value, devices, &mut problems)
    } else if value.get("Energy/req (J)").is_some() {
        generation_2(value, path, devices, &mut problems)
    } else {
        if named {
            problems.add(
                "",
                "this is no ML.ENERGY file",
                "expected `configurations` (generation 3) or `Energy/req (J)` (generation 2)",
            );
        }
        Vec::new()
    };
    problems.finish(samples)
}

#[derive(Deserialize)]
struct File3 {
    task: String,
    model_id: Option<String>,
    weight_precision: Option<String>,
    configurations: Vec<Value>,
}

/// A row of `models/` nests its parallel degrees and carries a histogram; one of `tasks/` is flat and names its model.
#[derive(Deserialize)]
struct Row3 {
    model_id: Option<String>,
    weight_precision: Option<String>,
    gpu_model: String,
    num_gpus: u32,
    max_num_seqs: u32,
    avg_batch_size: f64,
    avg_output_len: f64,
    energy_per_request_joules: f64,
    output_throughput_tokens_per_sec: f64,
    median_itl_ms: Option<f64>,
    p99_itl_ms: Option<f64>,
    #[serde(flatten)]
    flat: Degrees,
    parallelization: Option<Degrees>,
    output_length_distribution: Option<Histogram>,
}

#[derive(Clone, Copy, Default, Deserialize)]
struct Degrees {
    tensor_parallel: Option<u32>,
    expert_parallel: Option<u32>,
    data_parallel: Option<u32>,
}

#[derive(Deserialize)]
struct Histogram {
    /// Edges, one more than counts.
    bins: Vec<f64>,
    counts: Vec<f64>,
}

impl Histogram {
    /// E[o^2], lengths spread evenly within each bin and scaled so that the mean is `mean`; `None` if it is malformed.
    fn mean_square(&self, mean: f64) -> Option<f64> {
        if self.bins.len() != self.counts.len() + 1 || !self.counts.iter().all(|count| *count >= 0.0) {
            return None;
        }
        let total: f64 = self.counts.iter().sum();
        let bins = || self.counts.iter().zip(self.bins.windows(2));
        let first: f64 = bins().map(|(count, edge)| count * (edge[0] + edge[1]) / 2.0).sum::<f64>() / total;
        let second: f64 = bins().map(|(n, e)| n * (e[0] * e[0] + e[0] * e[1] + e[1] * e[1]) / 3.0).sum::<f64>() / total;
        let scaled = second * (mean / first).powi(2);
        (scaled.is_finite() && scaled >= mean * mean).then_some(scaled)
    }
}

fn generation_3(value: Value, devices: &[DeviceType], problems: &mut Collector) -> Vec<Sample> {
    let file: File3 = match serde_json::from_value(value) {
        Ok(file) => file,
        Err(error) => {
            problems.add("", format!("{error}"), "expected task and configurations");
            return Vec::new();
        }
    };
    let mut samples = Vec::new();
    for (index, row) in file.configurations.into_iter().enumerate() {
        let at = format!("configurations[{index}]");
        let row: Row3 = match serde_json::from_value(row) {
            Ok(row) => row,
            Err(error) => {
                problems.add(at, format!("{error}"), "is this a file of generation 3?");
                continue;
            }
        };
        let (model, precision) =
            (file.model_id.clone().or(row.model_id), file.weight_precision.clone().or(row.weight_precision));
        let (Some(model), Some(precision)) = (model, precision) else {
            problems.add(at, "model_id or weight_precision is missing", "the row or its file must name both");
            continue;
        };
        let degrees = row.parallelization.unwrap_or(row.flat);
        let output_sq =
            row.output_length_distribution.as_ref().map(|histogram| histogram.mean_square(row.avg_output_len));
        if output_sq == Some(None) {
            problems.add(
                format!("{at}.output_length_distribution"),
                "the histogram does not fit the mean",
                "expected one more edge than counts, and counts of 0 or more",
            );
        }
        let sample = Sample {
            model,
            precision,
            device: device_name(devices, &row.gpu_model),
            devices: row.num_gpus,
            parallel: Parallel {
                tensor: degrees.tensor_parallel.unwrap_or(1),
                expert: degrees.expert_parallel.unwrap_or(1),
                data: degrees.data_parallel.unwrap_or(1),
                pipeline: 1,
            },
            max_num_seqs: Some(row.max_num_seqs),
            batch_size: row.avg_batch_size,
            tokens: Moments { output_sq: output_sq.flatten(), ..unknown_input(row.avg_output_len) },
            runtime: Some(Seconds(row.avg_output_len / row.output_throughput_tokens_per_sec)),
            gpu_energy: Some(Joules(row.energy_per_request_joules)),
            output_throughput_tok_s: Some(row.output_throughput_tokens_per_sec),
            tbt_p50: row.median_itl_ms.map(|milli| Seconds(milli / 1e3)),
            tbt_p99: row.p99_itl_ms.map(|milli| Seconds(milli / 1e3)),
            data_set: Some(format!("mlenergy_v3/{}", file.task)),
            source: Some(SOURCE_V3.into()),
            ..steady_state()
        };
        samples.extend(sample_row::checked(&sample, &at, problems));
    }
    samples
}

#[derive(Deserialize)]
struct Row2 {
    #[serde(rename = "Model")]
    model: String,
    #[serde(rename = "GPU")]
    gpu: String,
    #[serde(rename = "TP")]
    tensor_parallel: u32,
    #[serde(rename = "PP")]
    pipeline_parallel: u32,
    #[serde(rename = "Energy/req (J)")]
    energy_j: f64,
    #[serde(rename = "Token tput (tok/s)")]
    throughput: f64,
    #[serde(rename = "Avg Output Tokens")]
    output_tokens: f64,
    #[serde(rename = "Avg BS (reqs)")]
    batch_size: f64,
    #[serde(rename = "Max BS (reqs)")]
    max_num_seqs: u32,
}

fn generation_2(value: Value, path: &Path, devices: &[DeviceType], problems: &mut Collector) -> Vec<Sample> {
    let row: Row2 = match serde_json::from_value(value) {
        Ok(row) => row,
        Err(error) => {
            problems.add("", format!("{error}"), "is this a file of generation 2?");
            return Vec::new();
        }
    };
    let Some(count) = row.tensor_parallel.checked_mul(row.pipeline_parallel) else {
        problems.add("TP", "TP x PP is out of range", "is this a file of generation 2?");
        return Vec::new();
    };
    // The task is only in the path: llm_text_generation/TASK/GPU/ORG/MODEL/FILE.
    let task = path
        .components()
        .filter_map(|part| part.as_os_str().to_str())
        .skip_while(|part| *part != "llm_text_generation")
        .nth(1);
    let sample = Sample {
        model: row.model,
        // Served with the checkpoints' own type, 16-bit for every model of that generation.
        precision: "bfloat16".into(),
        device: device_name(devices, &row.gpu),
        devices: count,
        parallel: Parallel { pipeline: row.pipeline_parallel, ..Parallel::tensor(row.tensor_parallel) },
        max_num_seqs: Some(row.max_num_seqs),
        batch_size: row.batch_size,
        tokens: unknown_input(row.output_tokens),
        runtime: Some(Seconds(row.output_tokens / row.throughput)),
        gpu_energy: Some(Joules(row.energy_j)),
        output_throughput_tok_s: Some(row.throughput),
        data_set: Some(task.map_or_else(|| "mlenergy_v2".to_owned(), |task| format!("mlenergy_v2/{task}"))),
        source: Some(SOURCE_V2.into()),
        ..steady_state()
    };
    sample_row::checked(&sample, "", problems).into_iter().collect()
}

/// The name in the device table, or the source's own where the table does not know it.
fn device_name(devices: &[DeviceType], name: &str) -> String {
    devices_toml::resolve(devices, name).map_or_else(|| name.to_owned(), |device| device.name.clone())
}

fn unknown_input(output: f64) -> Moments {
    Moments { input: None, output, input_sq: None, output_sq: None, input_output: None }
}

/// What all rows have in common.
fn steady_state() -> Sample {
    Sample { engine: Some("vllm".into()), provenance: Provenance::Imported, ..Sample::empty(Measurement::SteadyState) }
}

#[cfg(test)]
mod tests;

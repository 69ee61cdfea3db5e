//! `import`: what others measured, as samples.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::output::Output;
use crate::domain::Sample;
use crate::formats::deployment_facts::Facts;
use crate::formats::vllm_bench::{self, Lengths};
use crate::formats::{aiperf, csv_map, mlenergy, samples_csv};
use crate::report::text::count;

/// Turn measurements of others into samples
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Format {
    /// ML.ENERGY benchmark files of generation 2 or 3, or folders of them
    Mlenergy {
        /// Benchmark files, or folders of which every JSON file is read
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        to: Destination,
    },
    /// NVIDIA AIPerf: profile_export_aiperf.json, profile_export.jsonl, or best both of a run
    ///
    /// Energy is that of AIPerf's GPU telemetry. A run with failed requests is refused: what they cost is in its totals.
    Aiperf {
        /// Summaries and per-request files; those of one run lie in one folder
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The GPUs that served the model, by index or UUID [default: all that the file names]
        #[arg(long, value_name = "GPU,..", value_delimiter = ',')]
        gpus: Option<Vec<String>>,
        #[command(flatten)]
        deployment: Deployment,
        #[command(flatten)]
        to: Destination,
    },
    /// Results of `vllm bench serve --save-result` and `vllm bench throughput --output-json`
    ///
    /// vLLM measures no energy, so the samples tell times only. A run with failed requests is refused.
    VllmBench {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Mean prompt length of `vllm bench throughput`, whose file only has the sum of prompts and outputs
        #[arg(long, value_name = "TOKENS", value_parser = positive)]
        input_tokens: Option<f64>,
        /// All requests had the same lengths; else only --save-detailed tells how they spread
        #[arg(long)]
        constant_lengths: bool,
        #[command(flatten)]
        deployment: Deployment,
        #[command(flatten)]
        to: Destination,
    },
    /// Any table, by a declared map
    Csv {
        /// Says where each column of the samples comes from
        #[arg(long)]
        map: PathBuf,
        /// Tables with a header line, all of the same columns
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        to: Destination,
    },
}

#[derive(Debug, clap::Args)]
struct Destination {
    /// Samples CSV to write; `-` is stdout
    #[arg(long)]
    out: PathBuf,
    /// Print one JSON object about what was read
    #[arg(long)]
    json: bool,
}

/// What a load generator does not know of the deployment that it measured
#[derive(Debug, clap::Args)]
struct Deployment {
    /// The model, as samples and models name it [default: as the file names it]
    #[arg(long)]
    model: Option<String>,
    /// Precision of the weights, as bfloat16
    #[arg(long)]
    precision: Option<String>,
    /// The device type [default: as the file names it]
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    #[arg(long, value_name = "DEVICES", value_parser = clap::value_parser!(u32).range(1..))]
    tensor_parallel: Option<u32>,
    #[arg(long, value_name = "DEVICES", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    expert_parallel: u32,
    #[arg(long, value_name = "REPLICAS", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    data_parallel: u32,
    #[arg(long, value_name = "STAGES", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pipeline_parallel: u32,
    /// The engine's cap on the running batch
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u32).range(1..))]
    max_num_seqs: Option<u32>,
    /// Mean running batch [default: the mean of requests in flight, if the file tells it]
    #[arg(long, value_name = "REQUESTS", value_parser = positive)]
    batch_size: Option<f64>,
    /// The SM clock that was set
    #[arg(long, value_name = "MHZ", value_parser = clap::value_parser!(u32).range(1..))]
    sm_clock_mhz: Option<u32>,
    /// The power limit that was set, of each device
    #[arg(long, value_name = "WATTS", value_parser = positive)]
    power_limit_w: Option<f64>,
    /// Power of all devices together before the model was loaded
    #[arg(long, value_name = "WATTS", value_parser = positive)]
    idle_power_w: Option<f64>,
    /// What served the model, as vllm
    #[arg(long)]
    engine: Option<String>,
    /// Its version: measurements of different ones are never pooled
    #[arg(long, value_name = "VERSION")]
    engine_version: Option<String>,
}

impl Deployment {
    fn facts(&self) -> Facts {
        Facts {
            model: self.model.clone(),
            precision: self.precision.clone(),
            device: self.device.clone(),
            tensor_parallel: self.tensor_parallel,
            expert_parallel: self.expert_parallel,
            data_parallel: self.data_parallel,
            pipeline_parallel: self.pipeline_parallel,
            max_num_seqs: self.max_num_seqs,
            batch_size: self.batch_size,
            sm_clock_mhz: self.sm_clock_mhz,
            power_limit_w: self.power_limit_w,
            idle_power_w: self.idle_power_w,
            engine: self.engine.clone(),
            engine_version: self.engine_version.clone(),
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|value| *value > 0.0 && *value <= 1e15).ok_or_else(|| "not a number above 0".to_owned())
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let (samples, to) = match &arguments.format {
        Format::Mlenergy { files, to } => (mlenergy::import(files)?, to),
        Format::Aiperf { files, gpus, deployment, to } => {
            (aiperf::import(files, &deployment.facts(), gpus.as_deref())?, to)
        }
        Format::VllmBench { files, input_tokens, constant_lengths, deployment, to } => {
            let lengths = Lengths { input_tokens: *input_tokens, constant: *constant_lengths };
            (vllm_bench::import(files, &deployment.facts(), lengths)?, to)
        }
        Format::Csv { map, files, to } => (csv_map::import(map, files)?, to),
    };
    let to_stdout = super::arguments::is_stdin(&to.out);
    if to_stdout && to.json {
        return Err(super::exit::Failure::usage("--json and --out - would both write to stdout"));
    }
    let mut bytes = Vec::new();
    samples_csv::write(&mut bytes, &samples)?;
    output.file(&to.out, &bytes)?;
    let families: std::collections::BTreeSet<_> = samples.iter().map(|sample| sample.family()).collect();
    let has_energy = |sample: &Sample| sample.energy_per_request().is_some() || sample.node_energy.is_some();
    let without_energy = samples.iter().filter(|sample| !has_energy(sample)).count();
    if to.json {
        output.json(&json!({
            "samples": samples.len(),
            "without_energy": without_energy,
            "families": families.len(),
            "out": to.out,
        }))?;
    } else if !to_stdout {
        let samples = count(samples.len() as u64, "sample");
        let families = count(families.len() as u64, "family");
        output.note(&format!("{samples} of {families} in {}", to.out.display()));
    }
    if without_energy > 0 {
        output.note(&format!("{} without energy: none was measured", count(without_energy as u64, "sample")));
    }
    Ok(())
}

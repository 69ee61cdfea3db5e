//! What `profile` is told, and the cells and the load that follow from it.

use std::path::PathBuf;
use std::time::Duration;

use super::super::arguments;
use super::super::exit::Failure;
use crate::fit::suggest::{self, suggest};
use crate::measure::load::{Api, Endpoint, LoadError, Options};
use crate::measure::profile::{Cell, Grid};

/// Every cell is weighed against every other for --suggest and --budget.
const MOST_WEIGHED: usize = 4096;

#[derive(Debug, clap::Args)]
pub struct StudyArguments {
    /// An OpenAI-compatible server to load, as http://host:port
    #[arg(long, value_name = "URL", conflicts_with = "command")]
    endpoint: Option<String>,
    /// A program to run once a trial; {input_tokens}, {output_tokens}, {batch}, {requests}, {sm_clock_mhz} and {seed} are
    /// filled in, and stand in JOULEPLAN_INPUT_TOKENS and so on. It may write `begin` and `end` to the pipe $JOULEPLAN_REGION
    #[arg(long, value_name = "CMD")]
    pub command: Option<String>,
    /// The model, as samples and models name it; several, separated by commas, with --slurm
    #[arg(long)]
    pub model: Option<String>,
    /// The name the server knows the model by [default: that of --model]
    #[arg(long, value_name = "NAME")]
    served_model: Option<String>,
    /// Input lengths
    #[arg(long, value_name = "TOKENS,..", value_delimiter = ',', value_parser = tokens(), required = true)]
    pub grid_input: Vec<u32>,
    /// Output lengths
    #[arg(long, value_name = "TOKENS,..", value_delimiter = ',', value_parser = tokens(), required = true)]
    pub grid_output: Vec<u32>,
    /// Requests in flight at a time
    #[arg(long, value_name = "REQUESTS,..", value_delimiter = ',', value_parser = tokens(), default_value = "1")]
    pub batch: Vec<u32>,
    /// SM clocks to lock every measured device to; needs root [default: the device's own]
    #[arg(long, value_name = "MHZ,..", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub clock: Vec<u32>,
    /// A cell is done when the 95 % intervals of its mean energy and runtime are this narrow: half width over mean
    #[arg(long, value_name = "FRACTION", default_value = "0.05", value_parser = half_width)]
    pub ci: f64,
    /// ... or after so many trials
    #[arg(long, value_name = "TRIALS", default_value = "25", value_parser = clap::value_parser!(u32).range(3..=500))]
    pub max_trials: u32,
    /// Time for all trials together; the most useful cells come first, and none is begun that could not be finished
    #[arg(long, value_parser = arguments::duration)]
    pub budget: Option<Duration>,
    /// Measure only the N cells of the grid that tell most (at every --clock)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub suggest: Option<u32>,
    /// Draws the order of trials and the prompts [default: 0, or that of the study to resume]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Trials before the first one of each cell, kept with `warmup` true and not counted
    #[arg(long, value_name = "TRIALS", default_value = "1", value_parser = clap::value_parser!(u32).range(..=20))]
    pub warmup: u32,
    /// Most time to come back to idle power before each trial
    #[arg(long, default_value = "30s", value_parser = arguments::duration)]
    pub cool_down: Duration,
    /// Idle time measured before the first trial
    #[arg(long, default_value = "5s", value_parser = arguments::duration)]
    pub idle: Duration,
    /// Requests are repeated until a trial lasts so long: counters need time
    #[arg(long, default_value = "1s", value_parser = arguments::duration)]
    pub least_time: Duration,
    /// Most time for one request, or one run of the command
    #[arg(long, default_value = "10min", value_parser = arguments::duration)]
    pub timeout: Duration,
    /// Most time to wait for a server that loads its model, at first and after it went away
    #[arg(long, default_value = "10min", value_parser = arguments::duration)]
    ready_within: Duration,
    /// Speak to the server's chat endpoint, whose template adds tokens
    #[arg(long, conflicts_with = "command")]
    pub chat: bool,
    /// Environment variable that holds the server's API key
    #[arg(long, value_name = "VARIABLE", conflicts_with = "command")]
    api_key_env: Option<String>,
    /// Samples CSV to write; with --slurm, the folder of the scripts
    #[arg(long)]
    pub out: PathBuf,
    /// Go on with the study in --out, or begin it
    #[arg(long)]
    pub resume: bool,
    /// Samples without energy where there is no meter
    #[arg(long, conflicts_with_all = ["meters", "devices", "clock"])]
    pub runtime_only: bool,
    /// Time between two readings
    #[arg(long, default_value = "100ms", value_parser = arguments::duration)]
    pub interval: Duration,
    /// Which meters to use; one that is named must be there [default: all that are]
    #[arg(long, value_delimiter = ',', value_parser = ["nvml", "rapl", "node"])]
    pub meters: Option<Vec<String>>,
    /// Which devices to measure, by index or UUID: those that serve the model [default: CUDA_VISIBLE_DEVICES, else all]
    #[arg(long, value_delimiter = ',')]
    pub devices: Option<Vec<String>>,
    /// Precision of the weights [default: that of the model in engines.toml, if it has one]
    #[arg(long)]
    pub precision: Option<String>,
    /// The device type [default: as the driver or the processor calls it]
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// [default: the devices that data and pipeline parallelism leave]
    #[arg(long, value_name = "DEVICES", value_parser = clap::value_parser!(u32).range(1..))]
    pub tensor_parallel: Option<u32>,
    #[arg(long, value_name = "DEVICES", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub expert_parallel: u32,
    #[arg(long, value_name = "REPLICAS", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub data_parallel: u32,
    #[arg(long, value_name = "STAGES", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub pipeline_parallel: u32,
    /// The engine keeps no KV cache
    #[arg(long)]
    pub no_kv_cache: bool,
    /// What serves the model [default: what the server says]
    #[arg(long)]
    pub engine: Option<String>,
    /// Its version [default: what the server says]
    #[arg(long)]
    pub engine_version: Option<String>,
    /// Engines file [default: the one that comes with jouleplan]
    #[arg(long)]
    pub engines: Option<PathBuf>,
    /// Write Slurm job arrays that measure instead of measuring: a script a pool of --cluster, a task a model of --model
    #[arg(long, requires = "cluster", conflicts_with_all = ["endpoint", "json"])]
    pub slurm: bool,
    /// Cluster file, for --slurm
    #[arg(long, requires = "slurm")]
    pub cluster: Option<PathBuf>,
    /// Print one JSON object about what was measured
    #[arg(long)]
    pub json: bool,
}

/// What makes the work.
pub enum Load {
    Endpoint(String),
    /// Its words; not empty.
    Command(Vec<String>),
}

impl StudyArguments {
    pub fn load(&self) -> anyhow::Result<Load> {
        if self.interval < Duration::from_millis(1) {
            return Err(Failure::usage("--interval: at least 1ms"));
        }
        match (&self.endpoint, &self.command) {
            (Some(url), _) => Ok(Load::Endpoint(url.clone())),
            (None, Some(command)) => match shlex::split(command).filter(|words| !words.is_empty()) {
                Some(words) => Ok(Load::Command(words)),
                None => Err(Failure::usage(format!("--command: `{command}` has an open quote, or no word"))),
            },
            (None, None) => Err(Failure::usage("say what makes the work: --endpoint or --command")),
        }
    }

    pub fn has_command(&self) -> bool {
        self.command.is_some()
    }

    /// The models named; at least one.
    pub fn models(&self) -> anyhow::Result<Vec<&str>> {
        let names: Vec<&str> = self.model.iter().flat_map(|names| names.split(',')).map(str::trim).collect();
        let known: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
        if known.is_empty() { Err(Failure::usage("--model: name the model")) } else { Ok(known) }
    }

    /// The cells to measure, the most useful first where that matters.
    pub fn cells(&self) -> anyhow::Result<Vec<Cell>> {
        let grid = Grid {
            input_tokens: self.grid_input.clone(),
            output_tokens: self.grid_output.clone(),
            batch: self.batch.clone(),
            sm_clock_mhz: self.clock.clone(),
        };
        let cells = grid.cells();
        if self.suggest.is_none() && self.budget.is_none() {
            return Ok(cells);
        }
        let shapes: Vec<Cell> = Grid { sm_clock_mhz: Vec::new(), ..grid }.cells();
        if shapes.len() > MOST_WEIGHED {
            return Err(Failure::usage(format!(
                "{} cells are more than {MOST_WEIGHED}, which --suggest and --budget can weigh: give fewer",
                shapes.len()
            )));
        }
        let weighed = |cell: &Cell| suggest::Cell {
            input_tokens: f64::from(cell.input_tokens),
            output_tokens: f64::from(cell.output_tokens),
            batch_size: f64::from(cell.batch),
        };
        let candidates: Vec<suggest::Cell> = shapes.iter().map(weighed).collect();
        let count = self.suggest.map_or(shapes.len(), |count| count as usize);
        // Not by what is measured already: a study that is resumed has the cells it had.
        let chosen = suggest(&candidates, &[], !self.no_kv_cache, count);
        let at_clocks = |index: usize| {
            let shape = shapes[index];
            cells.iter().copied().filter(move |cell| Cell { sm_clock_mhz: None, ..*cell } == shape)
        };
        Ok(chosen.into_iter().flat_map(at_clocks).collect())
    }

    pub fn connect(&self, url: &str) -> Result<Endpoint, LoadError> {
        let options = Options {
            api: if self.chat { Api::Chat } else { Api::Completions },
            api_key: self.api_key_env.as_ref().and_then(|name| std::env::var(name).ok()),
            ready_within: self.ready_within,
            ..Options::default()
        };
        Endpoint::connect(url, self.served_model.as_deref().or(self.model.as_deref()), options)
    }
}

/// A count of tokens or requests.
fn tokens() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=10_000_000)
}

fn half_width(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| (1e-6..=0.5).contains(value));
    value.ok_or_else(|| "not a fraction from 0.000001 to 0.5 (0.05 is 5 %)".to_owned())
}

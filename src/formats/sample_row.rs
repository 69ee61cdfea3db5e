//! One row of samples: named cells in, a checked `Sample` out, and back.
//!
//! The samples CSV and the declarative CSV import share this, so that a row means the same and is refused for the same
//! reasons wherever it comes from. Which cells there are and where they lie is the caller's business.

use super::problems::Collector;
use crate::domain::{Measurement, Moments, Parallel, Provenance, Sample};
use crate::units::{Joules, Seconds, Watts};

/// Columns of the samples CSV in their order.
pub const COLUMNS: [&str; 42] = [
    "model",
    "precision",
    "device",
    "node",
    "devices",
    "tensor_parallel",
    "expert_parallel",
    "data_parallel",
    "pipeline_parallel",
    "max_num_seqs",
    "batch_size",
    "sm_clock_mhz",
    "power_limit_w",
    "sm_share",
    "kv_cache",
    "input_tokens",
    "output_tokens",
    "input_sq_mean",
    "output_sq_mean",
    "input_output_mean",
    "requests",
    "measurement",
    "trial",
    "warmup",
    "runtime_s",
    "gpu_energy_j",
    "cpu_energy_j",
    "cpu_energy_scope",
    "node_energy_j",
    "idle_power_w",
    "output_throughput_tok_s",
    "ttft_s",
    "ttft_p99_s",
    "tbt_p50_s",
    "tbt_p99_s",
    "engine",
    "engine_version",
    "driver_version",
    "data_set",
    "provenance",
    "source",
    "measured_at",
];

/// Columns that no row can do without; the others may be absent altogether.
pub const REQUIRED: [&str; 10] = [
    "model",
    "precision",
    "device",
    "devices",
    "tensor_parallel",
    "batch_size",
    "output_tokens",
    "requests",
    "measurement",
    "provenance",
];

/// No quantity of a sample is beyond this in its unit; larger ones are slips of the pen.
const LARGEST: f64 = 1e15;

/// Reads one row. `cell` gives the text of a column (absent or blank: unknown), `place` names a column for a message.
/// `None` if anything was wrong; all of it is then in `problems`.
pub fn read_row<'a>(
    cell: &dyn Fn(&str) -> Option<&'a str>,
    place: &dyn Fn(&str) -> String,
    problems: &mut Collector,
) -> Option<Sample> {
    let mut row = Row { cell, place, problems, sound: true };
    let measurement = row.required("measurement").and_then(|text| match text {
        "trial" => Some(Measurement::Trial),
        "steady_state" => Some(Measurement::SteadyState),
        other => {
            row.refuse("measurement", format!("`{other}` is no kind of measurement"), "write trial or steady_state");
            None
        }
    });
    let provenance = row.required("provenance").and_then(|text| match text.parse() {
        Ok(Provenance::Missing) | Err(_) => {
            row.refuse(
                "provenance",
                format!("`{text}` says not where the row comes from"),
                "write measured, imported or estimated",
            );
            None
        }
        Ok(provenance) => Some(provenance),
    });
    let model = row.required("model").map(str::to_owned);
    let precision = row.required("precision").map(str::to_owned);
    let device = row.required("device").map(str::to_owned);
    let devices = row.required_count("devices");
    let tensor = row.required_count("tensor_parallel");
    let parallel = Parallel {
        tensor: tensor.unwrap_or(1),
        expert: row.count("expert_parallel").unwrap_or(1),
        data: row.count("data_parallel").unwrap_or(1),
        pipeline: row.count("pipeline_parallel").unwrap_or(1),
    };
    let batch_size = row.required_number("batch_size", Range::Positive);
    let output = row.required_number("output_tokens", Range::Positive);
    let requests = row.required_number("requests", Range::Positive);
    let tokens = row.moments(measurement, output.unwrap_or(1.0));
    let sample = Sample {
        model: model.unwrap_or_default(),
        precision: precision.unwrap_or_default(),
        device: device.unwrap_or_default(),
        node: row.text("node"),
        devices: devices.unwrap_or(1),
        parallel,
        max_num_seqs: row.count("max_num_seqs"),
        batch_size: batch_size.unwrap_or(1.0),
        sm_clock_mhz: row.count("sm_clock_mhz"),
        power_limit: row.number("power_limit_w", Range::Positive).map(Watts),
        sm_share: row.number("sm_share", Range::Share),
        kv_cache: row.flag("kv_cache", true),
        tokens,
        requests: requests.unwrap_or(1.0),
        measurement: measurement.unwrap_or(Measurement::Trial),
        trial: row.whole("trial", 0),
        warmup: row.flag("warmup", false),
        runtime: row.number("runtime_s", Range::Positive).map(Seconds),
        gpu_energy: row.number("gpu_energy_j", Range::Positive).map(Joules),
        cpu_energy: row.number("cpu_energy_j", Range::Positive).map(Joules),
        cpu_energy_scope: row.text("cpu_energy_scope"),
        node_energy: row.number("node_energy_j", Range::Positive).map(Joules),
        idle_power: row.number("idle_power_w", Range::Positive).map(Watts),
        output_throughput_tok_s: row.number("output_throughput_tok_s", Range::Positive),
        ttft: row.number("ttft_s", Range::Positive).map(Seconds),
        ttft_p99: row.number("ttft_p99_s", Range::Positive).map(Seconds),
        tbt_p50: row.number("tbt_p50_s", Range::Positive).map(Seconds),
        tbt_p99: row.number("tbt_p99_s", Range::Positive).map(Seconds),
        engine: row.text("engine"),
        engine_version: row.text("engine_version"),
        driver_version: row.text("driver_version"),
        data_set: row.text("data_set"),
        provenance: provenance.unwrap_or(Provenance::Missing),
        source: row.text("source"),
        measured_at: row.instant("measured_at"),
    };
    if row.sound {
        row.consistency(&sample);
    }
    row.sound.then_some(sample)
}

/// The cells of a row, in the order of `COLUMNS`.
pub fn write_row(sample: &Sample) -> [String; 42] {
    let Sample { parallel, tokens, .. } = sample;
    // A trial without second moments reads as constant lengths, so constant lengths need none.
    let implied = sample.measurement == Measurement::Trial && *tokens == constant(tokens.input, tokens.output);
    let moment = |value: Option<f64>| if implied { String::new() } else { cell_of(value) };
    [
        sample.model.clone(),
        sample.precision.clone(),
        sample.device.clone(),
        cell_of(sample.node.as_ref()),
        sample.devices.to_string(),
        parallel.tensor.to_string(),
        parallel.expert.to_string(),
        parallel.data.to_string(),
        parallel.pipeline.to_string(),
        cell_of(sample.max_num_seqs),
        sample.batch_size.to_string(),
        cell_of(sample.sm_clock_mhz),
        cell_of(sample.power_limit.map(|power| power.0)),
        cell_of(sample.sm_share),
        sample.kv_cache.to_string(),
        cell_of(tokens.input),
        tokens.output.to_string(),
        moment(tokens.input_sq),
        moment(tokens.output_sq),
        moment(tokens.input_output),
        sample.requests.to_string(),
        match sample.measurement {
            Measurement::Trial => "trial".to_owned(),
            Measurement::SteadyState => "steady_state".to_owned(),
        },
        cell_of(sample.trial),
        sample.warmup.to_string(),
        cell_of(sample.runtime.map(|time| time.0)),
        cell_of(sample.gpu_energy.map(|energy| energy.0)),
        cell_of(sample.cpu_energy.map(|energy| energy.0)),
        cell_of(sample.cpu_energy_scope.as_ref()),
        cell_of(sample.node_energy.map(|energy| energy.0)),
        cell_of(sample.idle_power.map(|power| power.0)),
        cell_of(sample.output_throughput_tok_s),
        cell_of(sample.ttft.map(|time| time.0)),
        cell_of(sample.ttft_p99.map(|time| time.0)),
        cell_of(sample.tbt_p50.map(|time| time.0)),
        cell_of(sample.tbt_p99.map(|time| time.0)),
        cell_of(sample.engine.as_ref()),
        cell_of(sample.engine_version.as_ref()),
        cell_of(sample.driver_version.as_ref()),
        cell_of(sample.data_set.as_ref()),
        sample.provenance.to_string(),
        cell_of(sample.source.as_ref()),
        cell_of(sample.measured_at.as_ref()),
    ]
}

/// A sample made elsewhere, through the gate of a row. `at` is its place in the file, empty for the file itself.
pub fn checked(sample: &Sample, at: &str, problems: &mut Collector) -> Option<Sample> {
    let cells = write_row(sample);
    let cell = |name: &str| COLUMNS.iter().position(|column| *column == name).map(|at| cells[at].as_str());
    read_row(&cell, &|name| place(at, name), problems)
}

/// The place of a field of the thing at `at`.
pub fn place(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at} ({name})") }
}

fn cell_of<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// Moments of requests that all have these lengths; terms with an unknown input stay unknown.
pub fn constant(input: Option<f64>, output: f64) -> Moments {
    match input {
        Some(input) => Moments::constant(input, output),
        None => Moments { input: None, output, input_sq: None, output_sq: Some(output * output), input_output: None },
    }
}

#[derive(Clone, Copy)]
enum Range {
    /// (0, 1e15]: a quantity that is never 0 when it is known.
    Positive,
    /// [0, 1e15]
    NonNegative,
    /// (0, 1]
    Share,
}

struct Row<'r, 'a> {
    cell: &'r dyn Fn(&str) -> Option<&'a str>,
    place: &'r dyn Fn(&str) -> String,
    problems: &'r mut Collector,
    sound: bool,
}

impl<'a> Row<'_, 'a> {
    fn refuse(&mut self, column: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.problems.add((self.place)(column), what, remedy);
        self.sound = false;
    }

    fn get(&self, column: &str) -> Option<&'a str> {
        (self.cell)(column).map(str::trim).filter(|text| !text.is_empty())
    }

    fn text(&mut self, column: &str) -> Option<String> {
        let text = self.get(column)?;
        if text.chars().any(char::is_control) {
            self.refuse(column, format!("{text:?} holds control characters"), "write plain text");
            return None;
        }
        Some(text.to_owned())
    }

    fn required(&mut self, column: &str) -> Option<&'a str> {
        match self.get(column) {
            None => {
                self.refuse(column, "the cell is empty", "every row needs this column");
                None
            }
            Some(text) if text.chars().any(char::is_control) => {
                self.refuse(column, format!("{text:?} holds control characters"), "write plain text");
                None
            }
            text => text,
        }
    }

    fn number(&mut self, column: &str, range: Range) -> Option<f64> {
        let text = self.get(column)?;
        let Ok(value) = text.parse::<f64>() else {
            self.refuse(column, format!("`{text}` is no number"), "write a decimal number, or leave the cell empty");
            return None;
        };
        let (fits, expected) = match range {
            Range::Positive => (value > 0.0 && value <= LARGEST, "more than 0 and at most 1e15"),
            Range::NonNegative => ((0.0..=LARGEST).contains(&value), "from 0 to 1e15"),
            Range::Share => (value > 0.0 && value <= 1.0, "a fraction, more than 0 and at most 1"),
        };
        if !fits {
            self.refuse(column, format!("`{text}` is out of range"), format!("expected {expected}; unknown is empty"));
            return None;
        }
        Some(value)
    }

    fn required_number(&mut self, column: &str, range: Range) -> Option<f64> {
        self.required(column)?;
        self.number(column, range)
    }

    /// A whole number of at least `least`. `64.0` counts as 64: other tools write counts so.
    fn whole(&mut self, column: &str, least: u32) -> Option<u32> {
        let value = self.number(column, if least == 0 { Range::NonNegative } else { Range::Positive })?;
        if value.fract() != 0.0 || value < f64::from(least) || value > f64::from(u32::MAX) {
            self.refuse(column, format!("`{value}` is no count"), format!("write a whole number from {least} on"));
            return None;
        }
        Some(value as u32)
    }

    fn count(&mut self, column: &str) -> Option<u32> {
        self.whole(column, 1)
    }

    fn required_count(&mut self, column: &str) -> Option<u32> {
        self.required(column)?;
        self.count(column)
    }

    fn flag(&mut self, column: &str, default: bool) -> bool {
        match self.get(column).map(str::to_ascii_lowercase).as_deref() {
            None => default,
            Some("true" | "1" | "yes") => true,
            Some("false" | "0" | "no") => false,
            Some(other) => {
                self.refuse(column, format!("`{other}` is neither true nor false"), "write true or false");
                default
            }
        }
    }

    fn instant(&mut self, column: &str) -> Option<String> {
        let text = self.text(column)?;
        if humantime::parse_rfc3339_weak(&text).is_err() {
            self.refuse(column, format!("`{text}` is no instant"), "write RFC 3339, as 2026-01-31T12:00:00Z");
            return None;
        }
        Some(text)
    }

    fn moments(&mut self, measurement: Option<Measurement>, output: f64) -> Moments {
        let input = self.number("input_tokens", Range::NonNegative);
        let input_sq = self.number("input_sq_mean", Range::NonNegative);
        let output_sq = self.number("output_sq_mean", Range::Positive);
        let input_output = self.number("input_output_mean", Range::NonNegative);
        // E[x^2] >= E[x]^2, up to the rounding of whoever wrote the row.
        for (column, mean, square) in [("input_sq_mean", input, input_sq), ("output_sq_mean", Some(output), output_sq)]
        {
            if let (Some(mean), Some(square)) = (mean, square)
                && square < mean * mean * (1.0 - 1e-6)
            {
                self.refuse(
                    column,
                    format!("{square} is less than the square of the mean, {}", mean * mean),
                    "a mean square is never less; is it a variance?",
                );
            }
        }
        let given = input_sq.is_some() || output_sq.is_some() || input_output.is_some();
        if measurement == Some(Measurement::Trial) && !given {
            return constant(input, output);
        }
        Moments { input, output, input_sq, output_sq, input_output }
    }

    fn consistency(&mut self, sample: &Sample) {
        let Parallel { tensor, pipeline, .. } = sample.parallel;
        if u64::from(tensor) * u64::from(pipeline) > u64::from(sample.devices) {
            self.refuse(
                "tensor_parallel",
                format!("{tensor} x {pipeline} pipeline stages need more than {} devices", sample.devices),
                "devices counts all accelerators of one instance",
            );
        }
        if sample.measurement == Measurement::SteadyState && sample.requests != 1.0 {
            self.refuse("requests", "a steady state speaks of one request", "write 1, and energies per request");
        }
        if let (Some(p50), Some(p99)) = (sample.tbt_p50, sample.tbt_p99)
            && p50 > p99
        {
            self.refuse("tbt_p99_s", "the 99th percentile is below the median", "are the two columns swapped?");
        }
        let energies = [sample.gpu_energy, sample.cpu_energy, sample.node_energy];
        if sample.runtime.is_none() && energies.iter().all(Option::is_none) {
            self.refuse("runtime_s", "the row has neither a time nor an energy", "fill one, or drop the row");
        }
    }
}

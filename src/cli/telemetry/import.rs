//! `telemetry import`: logs of power as a telemetry CSV, with what each device drew.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use serde_json::json;

use super::super::arguments::{self, is_stdin};
use super::super::exit::Failure;
use super::super::inputs::Gathered;
use super::super::output::Output;
use super::{as_json, table};
use crate::domain::{Channel, Reading};
use crate::formats::trace_builder::{Assumed, Imported, join};
use crate::formats::{Problems, text};
use crate::formats::{dcgm_text, nvidia_smi, prometheus_json, ptdaemon, telemetry_csv, timestamp};
use crate::telemetry::{Totals, gap_limit, most_steps, resample, totals};
use crate::units::Seconds;

/// Turn logs of power into a telemetry CSV and sum them up
///
/// Time without readings stays a gap: no energy is counted for it. A last line that was cut off is left out, with a note.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[arg(value_enum)]
    format: Format,
    /// Logs of this format; `-` is stdin. Those of one device may follow each other in time but not overlap
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Telemetry CSV to write; `-` is stdout
    #[arg(long)]
    out: PathBuf,
    /// The node, where the log does not name one
    #[arg(long)]
    node: Option<String>,
    /// How far times without a zone are ahead of UTC, as `+02:00`
    #[arg(long, value_parser = offset, allow_hyphen_values = true, default_value = "+00:00")]
    utc_offset: i32,
    /// When the first scrape was made, for scrapes as text without times
    #[arg(long, value_parser = arguments::instant)]
    start: Option<SystemTime>,
    /// Time between two scrapes, for scrapes as text without times
    #[arg(long, value_parser = arguments::duration)]
    interval: Option<Duration>,
    /// Write means over steps of this length instead of the readings
    #[arg(long, value_parser = arguments::duration)]
    step: Option<Duration>,
    /// Readings further apart have a gap between them [default: five times the usual interval, at least 1s]
    #[arg(long, value_parser = arguments::duration)]
    max_gap: Option<Duration>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Rows of resampled readings that take about 2 GB.
const MOST_STEPS: f64 = 1e7;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// CSV of `nvidia-smi --query-gpu=timestamp,index,power.draw,.. --format=csv`
    NvidiaSmi,
    /// Text of NVIDIA's DCGM exporter or another exporter of GPU metrics
    Dcgm,
    /// JSON of a Prometheus range query; one query may ask for several metrics
    Prometheus,
    /// Log of SPEC's PTDaemon, as MLPerf Power has it
    Ptdaemon,
    /// Telemetry CSV, to join, sum up or resample
    Csv,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let to_stdout = is_stdin(&arguments.out);
    check(arguments, to_stdout)?;
    let assumed = Assumed {
        node: arguments.node.clone(),
        utc_offset_minutes: arguments.utc_offset,
        start: arguments.start.and_then(timestamp::from_system),
        interval: arguments.interval.map(seconds),
    };
    let mut gathered = Gathered::default();
    let mut parts = Vec::new();
    for path in &arguments.files {
        let part = read(path).and_then(|text| parse(arguments.format, &text, path, &assumed));
        parts.extend(gathered.take(part).map(|part| (path.clone(), part)));
    }
    let joined = gathered.take(join(parts));
    gathered.finish()?;
    let Imported { mut trace, notes } = joined.unwrap_or_default();

    let limit = |readings: &[Reading]| arguments.max_gap.map_or_else(|| gap_limit(readings), seconds);
    let sums: Vec<(Channel, Totals)> =
        trace.channels.iter().map(|(channel, of)| (channel.clone(), totals(of, limit(of)))).collect();
    if let Some(step) = arguments.step {
        let most: f64 = trace.channels.values().map(|of| most_steps(of, seconds(step), limit(of))).sum();
        if most > MOST_STEPS {
            return Err(Failure::usage(format!(
                "--step: {most:.0} rows, more than {MOST_STEPS:.0}; name a longer step"
            )));
        }
        for readings in trace.channels.values_mut() {
            *readings = resample(readings, seconds(step), limit(readings));
        }
    }
    let mut bytes = Vec::new();
    telemetry_csv::write(&mut bytes, &trace)?;
    notes.iter().for_each(|note| output.note(&crate::report::text::plain(note)));
    output.file(&arguments.out, &bytes)?;
    if arguments.json {
        let (rows, channels) = (trace.rows(), as_json(&sums));
        output.json(&json!({"rows": rows, "channels": channels, "notes": notes, "out": arguments.out}))?;
    } else if to_stdout {
        output.note(&table(&sums));
    } else {
        output.data(table(&sums).as_bytes())?;
    }
    Ok(())
}

fn check(arguments: &Arguments, to_stdout: bool) -> anyhow::Result<()> {
    if to_stdout && arguments.json {
        return Err(Failure::usage("--json and --out - would both write to stdout"));
    }
    if arguments.files.iter().filter(|path| is_stdin(path)).count() > 1 {
        return Err(Failure::usage("stdin (`-`) can be read once only"));
    }
    if arguments.step.is_some_and(|step| step < Duration::from_millis(100)) {
        return Err(Failure::usage("--step: at least 100ms"));
    }
    if arguments.max_gap.is_some_and(|gap| gap < Duration::from_millis(1) || gap > Duration::from_secs(86_400)) {
        return Err(Failure::usage("--max-gap: at least 1ms and at most 1day"));
    }
    let scrapes = arguments.start.is_some() || arguments.interval.is_some();
    if scrapes && arguments.format != Format::Dcgm {
        return Err(Failure::usage(
            "--start and --interval are for scrapes as text (dcgm); other logs hold their times",
        ));
    }
    if scrapes && arguments.files.len() > 1 {
        return Err(Failure::usage("with --start give one file: `cat` the scrapes behind each other"));
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Problems> {
    if !is_stdin(path) {
        return text::read_text(path);
    }
    text::whole_text(path, text::checked_text(path, io::stdin())?)
}

fn parse(format: Format, text: &str, path: &Path, assumed: &Assumed) -> Result<Imported, Problems> {
    match format {
        Format::NvidiaSmi => nvidia_smi::parse(text, path, assumed),
        Format::Dcgm => dcgm_text::parse(text, path, assumed),
        Format::Prometheus => prometheus_json::parse(text, path, assumed),
        Format::Ptdaemon => ptdaemon::parse(text, path, assumed),
        Format::Csv => telemetry_csv::parse(text, path),
    }
}

fn seconds(duration: Duration) -> Seconds {
    Seconds(duration.as_secs_f64())
}

/// `+02:00` in minutes.
fn offset(text: &str) -> Result<i32, String> {
    let parsed = || {
        let sign = match text.get(..1)? {
            "+" => 1,
            "-" => -1,
            _ => return None,
        };
        let (hours, minutes) = text[1..].split_once(':')?;
        let number = |digits: &str, most: i32| {
            let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<i32>().ok().filter(|number| is_number && *number <= most)
        };
        Some(sign * (60 * number(hours, 18)? + number(minutes, 59)?))
    };
    parsed().ok_or_else(|| "not an offset from UTC like +02:00 or -05:30".to_owned())
}

#[cfg(test)]
mod tests {
    use super::offset;

    #[test]
    fn offsets_are_signed_hours_and_minutes() {
        assert_eq!((offset("+02:00"), offset("-05:30"), offset("+00:00")), (Ok(120), Ok(-330), Ok(0)));
        for bad in ["", "2", "02:00", "+2:00", "+19:00", "+02:60", "+-1:00", "é2:00"] {
            assert!(offset(bad).is_err(), "{bad}");
        }
    }
}

//! `telemetry record`: the power of this node as a telemetry CSV, row by row.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, SystemTime};

use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::super::arguments::{self, is_stdin};
use super::super::exit::Failure;
use super::super::meter::{find, node_name, roots};
use super::super::output::Output;
use super::{as_json, table};
use crate::domain::{Channel, Reading};
use crate::formats::write::WriteError;
use crate::formats::{telemetry_csv, timestamp};
use crate::telemetry::record::Pace;
use crate::telemetry::{Recorder, Summing, Totals, gap_limit_of, record};
use crate::units::Seconds;

/// Record the power of this node, its devices and its processor packages
///
/// Each sample reaches the file before the next is taken. SIGINT, SIGTERM and SIGHUP end the recording, with exit code 0.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Time between two samples
    #[arg(long, default_value = "1s", value_parser = arguments::duration)]
    interval: Duration,
    /// How long to record [default: until it is interrupted]
    #[arg(long = "for", value_parser = arguments::duration)]
    duration: Option<Duration>,
    /// Telemetry CSV to write, a new one; `-` is stdout
    #[arg(long)]
    out: PathBuf,
    /// What runs meanwhile, for the column `phase`
    #[arg(long)]
    phase: Option<String>,
    /// Which meters to use; one that is named must be there [default: all that are]
    #[arg(long, value_delimiter = ',', value_parser = ["nvml", "rapl", "node"])]
    meters: Option<Vec<String>>,
    /// Which devices to record, by index or UUID [default: CUDA_VISIBLE_DEVICES, else all]
    #[arg(long, value_delimiter = ',')]
    devices: Option<Vec<String>>,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let to_stdout = is_stdin(&arguments.out);
    if arguments.interval < Duration::from_millis(1) {
        return Err(Failure::usage("--interval: at least 1ms"));
    }
    if to_stdout && arguments.json {
        return Err(Failure::usage("--json and --out - would both write to stdout"));
    }
    let inventory = find(&arguments.meters, &arguments.devices, &roots(), "nothing is recorded")?;
    for (source, refusal) in &inventory.refused {
        output.note(&format!("no {source} here: {refusal}"));
    }
    let stop = interrupted()?;
    let start = timestamp::from_system(SystemTime::now());
    let start = start.ok_or_else(|| anyhow::anyhow!("this computer's clock is before 1970; set it and try again"))?;
    let mut recorder = Recorder::new(inventory, &node_name(), arguments.phase.clone(), start);
    let pace = Pace { interval: arguments.interval, duration: arguments.duration };
    let of = |(channel, interval): (&Channel, Seconds)| (channel.clone(), Summing::new(gap_limit_of(interval)));
    let mut sums: BTreeMap<Channel, Summing> = recorder.channels(&pace).map(of).collect();
    if sums.is_empty() {
        let message = "the meters here say no power of a device or package; see `jouleplan doctor`".to_owned();
        return Err(Failure { code: super::super::exit::UNAVAILABLE, message }.into());
    }

    let cannot = |source| WriteError::Cannot { path: arguments.out.clone(), source };
    let sink: Box<dyn Write> =
        if to_stdout { Box::new(io::stdout()) } else { Box::new(create(&arguments.out).map_err(cannot)?) };
    let mut csv = telemetry_csv::Writer::new(sink).and_then(|mut csv| csv.flush().map(|()| csv)).map_err(cannot)?;
    let mut write = |sample: &[(Channel, Reading)]| {
        for (channel, reading) in sample {
            csv.row(channel, reading)?;
            if let Some(sum) = sums.get_mut(channel) {
                sum.add(reading);
            }
        }
        csv.flush()
    };
    let mut told = |channel: &Channel, why: &str| output.warn(&format!("{channel} from now on without power: {why}"));
    let recorded = record(&mut recorder, &pace, &stop, &mut told, &mut write);
    drop(stop);
    match recorded {
        Err(error) if to_stdout => return Err(error.into()),
        other => other.map_err(cannot)?,
    }
    let sums: Vec<(Channel, Totals)> = sums.into_iter().map(|(channel, sum)| (channel, sum.totals())).collect();
    if arguments.json {
        let rows: usize = sums.iter().map(|(_, totals)| totals.rows).sum();
        output.json(&json!({"rows": rows, "channels": as_json(&sums), "out": arguments.out}))?;
    } else if to_stdout {
        output.note(&table(&sums));
    } else {
        output.data(table(&sums).as_bytes())?;
    }
    Ok(())
}

/// Hears of signals that ask to end. One that comes when the receiver is gone ends the program as if nobody listened.
fn interrupted() -> anyhow::Result<Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let (tell, stop) = mpsc::channel();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if tell.send(()).is_err() {
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        }
    });
    Ok(stop)
}

/// A new file, or one that is empty or no regular file: a recording cannot be repeated, so none is overwritten.
fn create(path: &Path) -> io::Result<File> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::Error::other("it is a folder")),
        Ok(found) if found.is_file() && found.len() > 0 => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "it holds something already; name a new file"))
        }
        _ => File::options().write(true).create(true).truncate(true).open(path),
    }
}

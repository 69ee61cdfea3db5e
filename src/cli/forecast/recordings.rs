//! Logs of power as recordings to learn from, one a channel, with the groups and device types that flags give them.

use std::io;
use std::path::{Path, PathBuf};

use super::super::arguments::is_stdin;
use super::super::exit::Failure;
use super::super::inputs::Gathered;
use super::super::output::Output;
use crate::domain::Channel;
use crate::forecast::{HISTORY, Kind, LONGEST, Recording, STEP};
use crate::formats::problems::Problems;
use crate::formats::trace_builder::Imported;
use crate::formats::{power_log, text};
use crate::telemetry::{gap_limit, most_steps, totals};
use crate::units::Seconds;

/// Steps of all recordings, which take about 2 GB.
const MOST_STEPS: f64 = 1e7;

/// What files say that hold the traces to learn from.
#[derive(Debug, clap::Args)]
pub struct Labels {
    /// Traces of files whose names contain TEXT are held out together, as those of one workload; other files by themselves
    #[arg(long, value_name = "TEXT")]
    group: Vec<String>,
    /// Type of the devices or nodes in files whose names contain TEXT, as `gptj=8xH200`; others have none
    #[arg(long, value_name = "TEXT=TYPE", value_parser = device)]
    device: Vec<(String, String)>,
    /// Leave out channels with less known time than this
    #[arg(long, default_value = "5min", value_parser = super::super::arguments::duration)]
    min_length: std::time::Duration,
}

fn device(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(part, device)| !part.is_empty() && !device.is_empty());
    parts.map(|(part, device)| (part.to_owned(), device.to_owned())).ok_or_else(|| "write TEXT=TYPE".to_owned())
}

impl Labels {
    pub fn kind(&self, name: &str, channel: &Channel) -> Kind {
        let device = self.device.iter().find(|(part, _)| name.contains(part)).map(|(_, device)| device.clone());
        Kind { scope: channel.scope, device }
    }
}

/// All channels of all files that are long enough.
///
/// # Errors
/// Every problem of every file; too many steps.
pub fn read(paths: &[PathBuf], labels: &Labels, output: &Output) -> anyhow::Result<Vec<Recording>> {
    let least = Seconds(labels.min_length.as_secs_f64());
    let mut recordings = Vec::new();
    let mut steps = 0.0;
    let mut short = Vec::new();
    for (name, imported) in read_logs(paths, output)? {
        for (channel, readings) in &imported.trace.channels {
            let limit = gap_limit(readings);
            if totals(readings, limit).covered < least {
                short.push(format!("{name} {channel}"));
                continue;
            }
            steps += most_steps(readings, STEP, limit);
            if steps > MOST_STEPS {
                let message = format!("the traces have more than {MOST_STEPS:.0} seconds; give fewer");
                return Err(Failure::bad_data(message));
            }
            let group = labels.group.iter().find(|part| name.contains(*part)).unwrap_or(&name).clone();
            let kind = labels.kind(&name, channel);
            recordings.push(Recording::new(format!("{name} {channel}"), group, kind, readings));
        }
    }
    if !short.is_empty() {
        let shown: Vec<&str> = short.iter().take(3).map(String::as_str).collect();
        let more = if short.len() > shown.len() { ", .." } else { "" };
        output.note(&format!(
            "{} channels shorter than --min-length left out: {}{more}",
            short.len(),
            shown.join(", ")
        ));
    }
    Ok(recordings)
}

/// Each file under the last part of its name. An empty log among several is left out with a note.
pub fn read_logs(paths: &[PathBuf], output: &Output) -> anyhow::Result<Vec<(String, Imported)>> {
    if paths.iter().filter(|path| is_stdin(path)).count() > 1 {
        return Err(Failure::usage("stdin (`-`) can be read once only"));
    }
    let mut gathered = Gathered::default();
    let mut logs = Vec::new();
    for path in paths {
        let name = path.file_name().map_or_else(|| "-".to_owned(), |name| name.to_string_lossy().into_owned());
        let text = gathered.take(whole(path));
        if paths.len() > 1 && text.as_ref().is_some_and(|text| text.trim().is_empty()) {
            output.note(&format!("{name} is empty, left out"));
            continue;
        }
        logs.extend(text.and_then(|text| gathered.take(power_log::parse(&text, path))).map(|log| (name, log)));
    }
    gathered.finish()?;
    for note in logs.iter().flat_map(|(_, log)| &log.notes) {
        output.note(&crate::report::text::plain(note));
    }
    Ok(logs)
}

fn whole(path: &Path) -> Result<String, Problems> {
    if !is_stdin(path) {
        return text::read_text(path);
    }
    text::whole_text(path, text::checked_text(path, io::stdin())?)
}

/// Why nothing can be learned.
pub fn too_little() -> anyhow::Error {
    let seconds = HISTORY + LONGEST;
    Failure::bad_data(format!("no trace has {seconds} s without a gap to learn from; record longer ones"))
}

//! `meter`: a command's energy, with its provenance.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::arguments;
use super::exit::{BAD_DATA, Failure, MISSING_INPUT, PERMISSION, UNAVAILABLE};
use super::output::Output;
use crate::formats::meter_json::{MeterJson, State};
use crate::formats::write::write_atomic;
use crate::measure::command::{self, CommandError, Options};
use crate::measure::inventory::{self, Inventory, Roots, Wanted};
use crate::measure::operating_point::OperatingPoint;
use crate::measure::processes::ProcessTable;
use crate::measure::{Refusal, RefusalKind};
use crate::report::text::{energy, time};
use crate::units::Watts;

/// Run a command and say what energy it took
///
/// Its exit code is passed on, as are signals. 126 and 127 say, as in a shell, that it cannot be run or found.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Time between two readings
    #[arg(long, default_value = "100ms", value_parser = arguments::duration)]
    interval: Duration,
    /// Idle time measured before and after the command
    #[arg(long, default_value = "2s", value_parser = arguments::duration)]
    idle: Duration,
    /// Which meters to use; one that is named must be there [default: all that are]
    #[arg(long, value_delimiter = ',', value_parser = ["nvml", "rapl", "node"])]
    meters: Option<Vec<String>>,
    /// Which devices to measure, by index or UUID [default: CUDA_VISIBLE_DEVICES, else all]
    #[arg(long, value_delimiter = ',')]
    devices: Option<Vec<String>>,
    /// Lock the SM clock of every measured device meanwhile; needs root
    #[arg(long, value_name = "MHZ", value_parser = clap::value_parser!(u32).range(1..))]
    sm_clock: Option<u32>,
    /// Set the power limit of every measured device meanwhile; needs root
    #[arg(long, value_name = "WATTS", value_parser = arguments::power)]
    power_limit: Option<f64>,
    /// Play a recorded trace (CSV of seconds and power_w or energy_j) instead of reading hardware
    #[arg(long, conflicts_with_all = ["meters", "devices", "sm_clock", "power_limit"])]
    replay: Option<PathBuf>,
    /// File to which the command appends `NAME SECONDS_SINCE_1970` where a phase of it begins
    #[arg(long, value_name = "FILE")]
    marks: Option<PathBuf>,
    /// JSON file to write, also while the command runs
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print one JSON object; the command's own stdout goes to stderr then
    #[arg(long)]
    json: bool,
    /// The command and its arguments
    #[arg(required = true, last = true)]
    command: Vec<String>,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    if arguments.interval < Duration::from_millis(1) {
        return Err(Failure::usage("--interval: at least 1ms"));
    }
    let roots = Roots { replay: arguments.replay.clone(), ..roots() };
    let inventory = find(&arguments.meters, &arguments.devices, &roots, "the command was not run")?;
    for (source, refusal) in &inventory.refused {
        output.note(&format!("no {source} here: {refusal}"));
    }
    if (arguments.sm_clock.is_some() || arguments.power_limit.is_some()) && inventory.gpus.is_empty() {
        let message = "--sm-clock and --power-limit: no device to set them on; see `jouleplan doctor`".to_owned();
        return Err(Failure { code: UNAVAILABLE, message }.into());
    }
    let options = Options {
        interval: arguments.interval,
        idle: arguments.idle,
        node: node_name(),
        stdout_to_stderr: arguments.json,
        operating_point: OperatingPoint {
            sm_clock_mhz: arguments.sm_clock,
            power_limit: arguments.power_limit.map(Watts),
        },
        state_folder: roots.state.clone(),
        marks: arguments.marks.clone(),
    };
    let mut unwritten = None;
    let mut write = |result: &MeterJson| {
        if let Some(path) = &arguments.out
            && unwritten.is_none()
        {
            unwritten = save(path, result).err();
        }
    };
    // An output that cannot be written is said before the command runs, not after hours of it.
    if let Some(path) = &arguments.out {
        crate::formats::write::check_file(path)?;
    }
    let processes = ProcessTable::new(&roots.procfs);
    let result = command::run(inventory, processes, &arguments.command, &options, &mut write).map_err(cannot_run)?;
    for warning in &result.warnings {
        output.warn(warning);
    }
    if arguments.json {
        output.json(&serde_json::to_value(&result)?)?;
    } else {
        output.note(&summary(&result));
    }
    if let Some(error) = unwritten {
        return Err(error);
    }
    ended_as(&result)
}

/// The scripted hardware of a test, or the node's own.
pub fn roots() -> Roots {
    let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let default = Roots::default();
    Roots {
        nvml: path("JOULEPLAN_NVML"),
        sysfs: path("JOULEPLAN_SYSFS_ROOT").unwrap_or(default.sysfs),
        programs: std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
        replay: None,
        procfs: default.procfs,
        state: path("JOULEPLAN_STATE_DIR").unwrap_or(default.state),
    }
}

pub fn node_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The meters of the named sources and devices, all where none are named; `otherwise` says what their lack means.
pub fn find(
    meters: &Option<Vec<String>>,
    devices: &Option<Vec<String>>,
    roots: &Roots,
    otherwise: &str,
) -> anyhow::Result<Inventory> {
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let wanted = Wanted {
        sources: meters.clone(),
        devices: devices.clone().or_else(|| inventory::visible_devices(visible.as_deref())),
    };
    let inventory = inventory::find(roots, &wanted);
    let named = |source: &str| {
        let by_device = source == "nvml" && devices.is_some();
        by_device || meters.as_ref().is_some_and(|named| named.iter().any(|name| name == source))
    };
    // A device without an energy counter still says its power.
    let has_another_way = |source: &str, refusal: &Refusal| {
        refusal.kind == RefusalKind::Unsupported
            && inventory.meters.iter().any(|meter| meter.identity().source == source)
    };
    let is_missing = |source: &str, refusal: &Refusal| named(source) && !has_another_way(source, refusal);
    let missing: Vec<&Refusal> = inventory
        .refused
        .iter()
        .filter(|(source, refusal)| inventory.meters.is_empty() || is_missing(source, refusal))
        .map(|(_, refusal)| refusal)
        .collect();
    if inventory.meters.is_empty() || !missing.is_empty() {
        let denied = missing.iter().any(|refusal| refusal.kind == RefusalKind::Permission);
        let lines: Vec<String> = missing.iter().map(|refusal| refusal.to_string()).collect();
        // A trace is a file, and what is wrong with it is wrong with an input.
        let code = match missing.first().filter(|_| roots.replay.is_some()).map(|refusal| refusal.kind) {
            Some(RefusalKind::Absent) => MISSING_INPUT,
            Some(RefusalKind::Unreadable) => BAD_DATA,
            _ if denied => PERMISSION,
            _ => UNAVAILABLE,
        };
        let lack = if inventory.meters.is_empty() { "no meter" } else { "what was named is missing" };
        return Err(Failure { code, message: format!("{lack}, so {otherwise}:\n{}", lines.join("\n")) }.into());
    }
    Ok(inventory)
}

fn save(path: &Path, result: &MeterJson) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(result)?;
    text.push('\n');
    Ok(write_atomic(path, text.as_bytes())?)
}

fn cannot_run(error: CommandError) -> anyhow::Error {
    let code = match &error {
        CommandError::CannotRun { source, .. } if source.kind() == std::io::ErrorKind::NotFound => 127,
        CommandError::CannotRun { .. } => 126,
        CommandError::OperatingPoint(refusal) if refusal.kind == RefusalKind::Permission => PERMISSION,
        CommandError::OperatingPoint(_) => UNAVAILABLE,
        CommandError::Signals(_) => return error.into(),
    };
    Failure { code, message: error.to_string() }.into()
}

fn summary(result: &MeterJson) -> String {
    let mut parts: Vec<String> = result.seconds.map(time).into_iter().collect();
    let known = [("devices", result.gpu_energy_j), ("processors", result.cpu_energy_j), ("node", result.node_energy_j)];
    for (name, joules) in known {
        parts.extend(joules.map(|joules| format!("{name} {}", energy(joules))));
    }
    if let Some(net) = result.gpu_net_energy_j {
        parts.push(format!("devices above idle {}", energy(net)));
    }
    parts.join(", ")
}

/// The command's exit code as this program's own: 128 and more after a signal, as shells say it.
fn ended_as(result: &MeterJson) -> anyhow::Result<()> {
    let code = match (result.state, result.exit_code, result.signal) {
        (State::Finished, Some(0), _) => return Ok(()),
        (State::Finished, Some(code), _) => u8::try_from(code).unwrap_or(1),
        (_, _, Some(signal)) => u8::try_from(128 + signal).unwrap_or(255),
        _ => super::exit::UNEXPECTED,
    };
    Err(Failure::silent(code))
}

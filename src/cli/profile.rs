//! `profile`: what requests cost on this node, cell by cell, until each is known well enough.

mod arguments;
mod identity;
mod merge;
mod report;
mod slurm;

use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::arguments::{Load, StudyArguments};
use super::exit::{BAD_DATA, CANNOT_WRITE, Failure, UNAVAILABLE};
use super::meter::{find, node_name, roots};
use super::output::Output;
use crate::domain::Sample;
use crate::formats::profile_journal::{Journal, JournalError, Past, Record, RunningRecord};
use crate::measure::inventory::{Inventory, Roots};
use crate::measure::load::{Endpoint, LoadError};
use crate::measure::operating_point::{self, Restored};
use crate::measure::processes::ProcessTable;
use crate::measure::profile::command::{CommandRunner, end_group};
use crate::measure::profile::endpoint::EndpointRunner;
use crate::measure::profile::metering::{MeterOptions, Metering};
use crate::measure::profile::{Cell, Rule, Stop, Study, TrialError, TrialRunner, run as run_study};
use crate::measure::{Refusal, RefusalKind};

/// Measure what requests cost, cell by cell, until each is known well enough
///
/// Every trial is on the disk before the next begins. SIGINT, SIGTERM and SIGHUP end the study after the trial at hand;
/// --resume goes on from there, also after a crash.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    merge: Option<Subcommand>,
    #[command(flatten)]
    study: Option<StudyArguments>,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    Merge(merge::Arguments),
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    match (&arguments.merge, &arguments.study) {
        (Some(Subcommand::Merge(arguments)), _) => merge::run(arguments, output),
        (None, Some(arguments)) if arguments.slurm => slurm::run(arguments, output),
        (None, Some(arguments)) => study(arguments, output),
        (None, None) => Err(Failure::usage("say what to measure: --endpoint or --command, --model and --out")),
    }
}

fn study(arguments: &StudyArguments, output: &Output) -> anyhow::Result<()> {
    let load = arguments.load()?;
    let cells = arguments.cells()?;
    let rule = Rule::new(arguments.ci, arguments.max_trials);
    let roots = roots();
    let processes = ProcessTable::new(&roots.procfs);
    let inventory = meters(arguments, &roots, output)?;
    let mut template = identity::template(arguments, &inventory, &roots.procfs)?;
    let endpoint = match &load {
        Load::Command(_) => None,
        Load::Endpoint(url) => {
            output.note(&format!("waiting for {url}"));
            Some(arguments.connect(url).map_err(unreachable)?)
        }
    };
    if let Some(endpoint) = &endpoint {
        identity::engine_of(endpoint, &mut template);
        output.note(&format!("{}, prompts by {}", identity::name_of(&template), endpoint.prompt_method()));
    }
    let cells = allowed(cells, endpoint.as_ref(), output)?;
    restore_clocks(arguments, &inventory, &roots, &processes, output)?;
    let family = template.family();
    let (mut journal, past) =
        Journal::open(&arguments.out, &family, arguments.seed, arguments.resume).map_err(not_opened)?;
    tell_past(&past, output);
    end_what_runs(&past, &processes, output);

    let stop = Stop::default();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_usize(signal, stop.flag(), usize::try_from(signal).unwrap_or(1))?;
    }
    let options = MeterOptions {
        interval: arguments.interval,
        idle: arguments.idle,
        cool_down: arguments.cool_down,
        node: node_name(),
        state_folder: roots.state.clone(),
    };
    let metering = Metering::start(inventory, processes.clone(), options, &stop);
    identity::finish(&metering, &mut template);
    let idle_power = metering.idle_power;
    let timeout = arguments.timeout;
    let mut runner: Box<dyn TrialRunner> = match (load, endpoint) {
        (Load::Command(words), _) => {
            let mut notes = journal.notes.try_clone()?;
            // Without the note a killed study only leaves its last command behind.
            let started = Box::new(move |pid: u32| {
                let started = processes.started(pid).unwrap_or_default();
                let _ = notes.add(&Record::Running(RunningRecord { pid, started }));
            });
            Box::new(CommandRunner { words, metering, template, timeout, started })
        }
        (Load::Endpoint(_), Some(endpoint)) => Box::new(EndpointRunner { endpoint, metering, template, timeout }),
        (Load::Endpoint(url), None) => return Err(anyhow::anyhow!("{url} was not connected to")),
    };
    let study = Study {
        cells,
        rule,
        warmup: arguments.warmup,
        least_time: arguments.least_time,
        budget: arguments.budget,
        seed: past.seed,
    };
    let mut watch = report::Progress::new(output, study.cells.len(), arguments.ci);
    let begun = Instant::now();
    let done = run_study(&study, &past, &mut journal, runner.as_mut(), &mut watch, &stop, &|| begun.elapsed())?;
    drop(watch);
    let summary = report::Summary { arguments, study: &study, past: &past, report: &done, idle_power };
    summary.say(output)?;
    ended(done.ended.as_ref(), &stop, summary.trials(), arguments)
}

/// The meters of this node; none only where that was asked for.
fn meters(arguments: &StudyArguments, roots: &Roots, output: &Output) -> anyhow::Result<Inventory> {
    if arguments.runtime_only {
        let none = Err(Refusal::new(RefusalKind::Absent, "--runtime-only asks for no meter", ""));
        return Ok(Inventory { library: none, gpus: Vec::new(), meters: Vec::new(), refused: Vec::new() });
    }
    let otherwise = "nothing was measured; --runtime-only gives samples without energy";
    let inventory = find(&arguments.meters, &arguments.devices, roots, otherwise)?;
    for (source, refusal) in &inventory.refused {
        output.note(&format!("no {source} here: {refusal}"));
    }
    if !arguments.clock.is_empty() && inventory.gpus.is_empty() {
        let message = "--clock: no device to set it on; see `jouleplan doctor`".to_owned();
        return Err(Failure { code: UNAVAILABLE, message }.into());
    }
    Ok(inventory)
}

/// The cells that the server can serve at all.
fn allowed(cells: Vec<Cell>, endpoint: Option<&Endpoint>, output: &Output) -> anyhow::Result<Vec<Cell>> {
    let Some(endpoint) = endpoint else { return Ok(cells) };
    let least = endpoint.prompt_overhead() + 1;
    let most = endpoint.max_model_len().unwrap_or(u32::MAX);
    let fits = |cell: &Cell| {
        cell.input_tokens >= least && u64::from(cell.input_tokens) + u64::from(cell.output_tokens) <= u64::from(most)
    };
    let (fitting, others): (Vec<Cell>, Vec<Cell>) = cells.into_iter().partition(fits);
    if !others.is_empty() {
        let limit = if most == u32::MAX { "any number".to_owned() } else { most.to_string() };
        output.warn(&format!(
            "{} of {} cells are left out: the server takes {least} input tokens or more, and {limit} with the output",
            others.len(),
            others.len() + fitting.len()
        ));
    }
    if fitting.is_empty() {
        return Err(Failure::usage("the server can serve no cell of the grid"));
    }
    Ok(fitting)
}

fn tell_past(past: &Past, output: &Output) {
    if past.torn > 0 {
        output.warn(&format!(
            "the last row was torn off after {} bytes and is cut away; its trial is run again",
            past.torn
        ));
    }
    if !past.samples.is_empty() {
        let trials = past.samples.iter().filter(|sample: &&Sample| !sample.warmup).count();
        output.note(&format!("resuming after {trials} trials and {} failures", past.failed.len()));
    }
}

/// Clocks that a killed study left would keep this one from setting its own.
fn restore_clocks(
    arguments: &StudyArguments,
    inventory: &Inventory,
    roots: &Roots,
    processes: &ProcessTable,
    output: &Output,
) -> anyhow::Result<()> {
    if !arguments.resume || arguments.clock.is_empty() {
        return Ok(());
    }
    let failure = |refusal: Refusal| Failure { code: UNAVAILABLE, message: refusal.to_string() };
    for restored in operating_point::restore(&roots.state, &inventory.gpus, processes).map_err(failure)? {
        match restored {
            Restored::Done(uuid) => output.note(&format!("{uuid}: clocks and power limit are as before")),
            Restored::InUse(uuid, pid) => output.warn(&format!("{uuid}: process {pid} has set its clocks")),
            Restored::Failed(file, refusal) => output.warn(&format!("{file}: {refusal}")),
        }
    }
    Ok(())
}

/// A command that a killed study left would spoil every trial from now on.
fn end_what_runs(past: &Past, processes: &ProcessTable, output: &Output) {
    if let Some(running) = past.running
        && processes.started(running.pid) == Some(running.started)
    {
        output.warn(&format!("the last trial's command still runs (process {}); it is ended now", running.pid));
        end_group(running.pid);
    }
}

fn ended(ended: Option<&TrialError>, stop: &Stop, trials: u32, arguments: &StudyArguments) -> anyhow::Result<()> {
    let fail = |code: u8, message: String| Err(Failure { code, message }.into());
    let go_on = format!("what was measured is in {}; go on with --resume", arguments.out.display());
    match ended {
        Some(TrialError::Stopped) => {
            let signal = stop.flag().load(std::sync::atomic::Ordering::Relaxed);
            fail(u8::try_from(128 + signal).unwrap_or(u8::MAX), format!("stopped; {go_on}"))
        }
        Some(error) => fail(UNAVAILABLE, format!("{error}; {go_on}")),
        None if trials == 0 => fail(UNAVAILABLE, "no trial succeeded".to_owned()),
        None => Ok(()),
    }
}

fn unreachable(error: LoadError) -> anyhow::Error {
    Failure { code: UNAVAILABLE, message: error.to_string() }.into()
}

fn not_opened(error: JournalError) -> anyhow::Error {
    let code = match error {
        JournalError::Problems(problems) => return problems.into(),
        JournalError::Write(error) => return error.into(),
        JournalError::Exists(_) | JournalError::Locked(_) => CANNOT_WRITE,
        JournalError::Differs { .. } => BAD_DATA,
    };
    Failure { code, message: error.to_string() }.into()
}

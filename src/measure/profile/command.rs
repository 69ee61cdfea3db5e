//! Trials of any program: run once a trial, told the cell, metered from start to end or over the region it signals.
//!
//! The cell stands in the command's words (`{input_tokens}`) and in its environment (`JOULEPLAN_INPUT_TOKENS`). A program
//! that loads a model first writes a line `begin` to the named pipe `$JOULEPLAN_REGION` and a line `end` to it when it is
//! done, with a JSON object behind, if it likes, of what it really did ([`RegionReport`]); figures that are not the cell's
//! fail the trial. It runs in a process group of its own, so that nothing of it outlives its trial: what a killed study
//! left behind is ended by the next one, through the journal.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, Signal, kill_process_group};

use super::metering::{Metering, Region};
use super::trial::{Order, Stop, TrialError, TrialRunner};
use crate::domain::Sample;
use crate::formats::profile_journal::RegionReport;
use crate::units::Seconds;

/// What a program is told, as `{name}` and as `JOULEPLAN_NAME`.
const TOLD: [&str; 6] = ["input_tokens", "output_tokens", "batch", "requests", "sm_clock_mhz", "seed"];
/// A program that was asked to end gets so long to do it.
const GRACE: Duration = Duration::from_secs(5);
/// Written to the pipe by ourselves when nobody else will.
const OVER: &str = "over";

/// Runs a program.
pub struct CommandRunner {
    /// Its name and arguments; not empty.
    pub words: Vec<String>,
    pub metering: Metering,
    /// Identity of every row.
    pub template: Sample,
    /// For one trial.
    pub timeout: Duration,
    /// Told the process group of each program that is started.
    pub started: Box<dyn FnMut(u32) + Send>,
}

enum Event {
    Begin,
    /// What the program reported behind `end`.
    End(Instant, String),
    Exit(io::Result<ExitStatus>, Instant),
    /// All that was written to the pipe has been read.
    Over,
}

impl TrialRunner for CommandRunner {
    fn cool_down(&mut self, stop: &Stop) -> bool {
        self.metering.cool_down(stop)
    }

    fn warnings(&self) -> Vec<String> {
        self.metering.warnings()
    }

    fn run(&mut self, order: &Order, stop: &Stop) -> Result<Sample, TrialError> {
        let (words, timeout, started) = (&self.words, self.timeout, &mut self.started);
        let (report, result) = self
            .metering
            .measure(order.cell.sm_clock_mhz, stop, |region| supervise(words, order, timeout, started, region, stop))?;
        let mut sample = self.template.clone();
        self.metering.fill(&result, &mut sample);
        let cell = order.cell;
        cell.name_in(&mut sample);
        sample.batch_size = report.batch_size.unwrap_or(f64::from(cell.batch));
        sample.requests = f64::from(order.requests);
        let time = |seconds: Option<f64>| seconds.map(Seconds);
        sample.ttft = time(report.ttft_s);
        sample.ttft_p99 = time(report.ttft_p99_s);
        sample.tbt_p50 = time(report.tbt_p50_s);
        sample.tbt_p99 = time(report.tbt_p99_s);
        let tokens = f64::from(order.requests) * f64::from(cell.output_tokens);
        sample.output_throughput_tok_s = sample.runtime.map(|runtime| tokens / runtime.0);
        Ok(sample)
    }
}

/// Ends a process group, such as a killed study left behind.
pub fn end_group(group: u32) {
    let Some(pid) = i32::try_from(group).ok().and_then(Pid::from_raw) else { return };
    let _ = kill_process_group(pid, Signal::KILL); // it may be gone
}

fn supervise(
    words: &[String],
    order: &Order,
    timeout: Duration,
    started: &mut dyn FnMut(u32),
    region: &Region<'_>,
    stop: &Stop,
) -> Result<RegionReport, TrialError> {
    let internal = |error: io::Error| TrialError::Fatal(format!("cannot prepare the command: {error}"));
    let folder = tempfile::tempdir().map_err(internal)?;
    let pipe = folder.path().join("region");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).map_err(|error| internal(error.into()))?;
    // Open for writing too, so that neither side ever waits for the other to open it.
    let own = OpenOptions::new().read(true).write(true).open(&pipe).map_err(internal)?;
    let (events, received) = mpsc::channel();
    listen(own.try_clone().map_err(internal)?, events.clone());
    let mut own = Over(own);

    region.begin();
    let child = spawn(words, order, &pipe)?;
    let group = child.id();
    let _group = Group(group);
    region.work_of(group);
    started(group);
    wait_in_thread(child, events);
    let (status, report) = follow(&received, timeout, region, group, stop, &mut own)?;
    if !status.success() {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no exit code".to_owned(),
        };
        return Err(TrialError::failed("command", format!("`{}` ended with {how}", words.join(" "))));
    }
    let report = read_report(&report)?;
    hold_against(order, &report)?;
    Ok(report)
}

/// Until the program exits: its signals become the region. Without them all of its time is.
fn follow(
    received: &Receiver<Event>,
    timeout: Duration,
    region: &Region<'_>,
    group: u32,
    stop: &Stop,
    pipe: &mut Over,
) -> Result<(ExitStatus, String), TrialError> {
    let until = Instant::now() + timeout;
    let mut signalled = false;
    let mut ended: Option<String> = None;
    let mut exit = None;
    loop {
        if stop.is_asked() || (exit.is_none() && Instant::now() >= until) {
            terminate(group, received);
            return Err(if stop.is_asked() {
                TrialError::Stopped
            } else {
                TrialError::failed("timeout", format!("the command ran for {:.1} s", timeout.as_secs_f64()))
            });
        }
        match received.recv_timeout(Duration::from_millis(100)) {
            Ok(Event::Begin) if !signalled => {
                signalled = true;
                region.begin();
                region.work_of(group);
            }
            Ok(Event::Begin) => {
                return Err(TrialError::failed("region", "the command signalled `begin` twice"));
            }
            Ok(Event::End(at, report)) if signalled && ended.is_none() => {
                region.end(at, None, None);
                ended = Some(report);
            }
            Ok(Event::End(..)) => {
                return Err(TrialError::failed("region", "the command signalled `end` without a `begin` before it"));
            }
            Ok(Event::Exit(status, at)) => {
                exit = Some((status.map_err(|error| TrialError::failed("command", error.to_string()))?, at));
                // Its last words may still be in the pipe.
                pipe.close();
            }
            // Without a listener, which a pipe that cannot be read ends, nothing more is to be read either.
            Ok(Event::Over) | Err(RecvTimeoutError::Disconnected) => {
                let Some((status, at)) = exit else { continue };
                if ended.is_none() {
                    region.end(at, status.code(), status.signal());
                }
                return Ok((status, ended.unwrap_or_default()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn spawn(words: &[String], order: &Order, pipe: &Path) -> Result<Child, TrialError> {
    let cell = order.cell;
    let clock = cell.sm_clock_mhz.map_or(String::new(), |clock| clock.to_string());
    let values = [
        cell.input_tokens.to_string(),
        cell.output_tokens.to_string(),
        cell.batch.to_string(),
        order.requests.to_string(),
        clock,
        order.seed.to_string(),
    ];
    let told: Vec<(&str, &String)> = TOLD.into_iter().zip(&values).collect();
    let fill = |word: &String| {
        told.iter().fold(word.clone(), |word, (name, value)| word.replace(&format!("{{{name}}}"), value))
    };
    let filled: Vec<String> = words.iter().map(fill).collect();
    let (name, arguments) = filled.split_first().map_or(("", &[][..]), |(name, rest)| (name.as_str(), rest));
    let mut process = Command::new(name);
    process.args(arguments).process_group(0).stdin(Stdio::null()).stdout(Stdio::from(io::stderr()));
    process.env("JOULEPLAN_REGION", pipe);
    for (name, value) in told {
        process.env(format!("JOULEPLAN_{}", name.to_ascii_uppercase()), value);
    }
    process.spawn().map_err(|error| TrialError::Fatal(format!("cannot run `{name}`: {error}")))
}

/// Reads what is written to the pipe, until we write that it is over.
fn listen(pipe: File, events: Sender<Event>) {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let at = Instant::now();
            let line = match line {
                Ok(line) => line,
                // A line that is no text is none of ours.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
                Err(_) => return,
            };
            let line = line.trim();
            let event = match line.split_once(char::is_whitespace).unwrap_or((line, "")) {
                (OVER, _) => {
                    let _ = events.send(Event::Over); // nobody may wait for it
                    return;
                }
                ("begin", _) => Event::Begin,
                ("end", report) => Event::End(at, report.to_owned()),
                _ => continue,
            };
            if events.send(event).is_err() {
                return;
            }
        }
    });
}

fn wait_in_thread(mut child: Child, events: Sender<Event>) {
    thread::spawn(move || {
        let status = child.wait();
        let _ = events.send(Event::Exit(status, Instant::now())); // nobody may care any more
    });
}

/// Asks the program to end, and ends it.
fn terminate(group: u32, received: &Receiver<Event>) {
    let Some(pid) = i32::try_from(group).ok().and_then(Pid::from_raw) else { return };
    let _ = kill_process_group(pid, Signal::TERM); // it may have ended meanwhile
    let until = Instant::now() + GRACE;
    while let Ok(event) = received.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if matches!(event, Event::Exit(..)) {
            return;
        }
    }
}

fn read_report(text: &str) -> Result<RegionReport, TrialError> {
    if text.trim().is_empty() {
        return Ok(RegionReport::default());
    }
    let report: RegionReport = serde_json::from_str(text).map_err(|error| {
        TrialError::failed("region", format!("what stands behind `end` is not understood: {error}"))
    })?;
    let figures = [report.batch_size, report.ttft_s, report.ttft_p99_s, report.tbt_p50_s, report.tbt_p99_s];
    match figures.into_iter().flatten().find(|figure| !(figure.is_finite() && *figure > 0.0)) {
        Some(figure) => {
            Err(TrialError::failed("region", format!("the command reported {figure}: unknown is left out")))
        }
        None => Ok(report),
    }
}

/// What was done must be what was asked for.
fn hold_against(order: &Order, report: &RegionReport) -> Result<(), TrialError> {
    let pairs = [
        ("wrong_input_tokens", "input tokens", order.cell.input_tokens, report.input_tokens),
        ("wrong_output_tokens", "output tokens", order.cell.output_tokens, report.output_tokens),
        ("wrong_requests", "requests", order.requests, report.requests),
    ];
    for (kind, name, asked, done) in pairs {
        if let Some(done) = done.filter(|done| *done != asked) {
            return Err(TrialError::failed(kind, format!("the command reported {done} {name}, {asked} asked")));
        }
    }
    Ok(())
}

/// Ends the thread that listens.
struct Over(File);

impl Over {
    fn close(&mut self) {
        let _ = writeln!(self.0, "\n{OVER}"); // a pipe open on both ends takes it
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whatever the program left running ends with its trial.
struct Group(u32);

impl Drop for Group {
    fn drop(&mut self) {
        end_group(self.0);
    }
}

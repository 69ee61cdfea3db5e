//! A command run under the meters: idle, the command, idle; its signals passed on, its result written down as it goes.
//!
//! Signals that would end this program go to the command instead, which decides what to do with them; the measurement ends
//! when the command does. SIGINT and SIGQUIT from a terminal reach the command anyway, as a member of the same process
//! group, and are not sent twice. With a terminal as stdin the two are taken for the terminal's, also where somebody sent them
//! to this process alone: what sent a signal is not asked.

use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::inventory::Inventory;
use super::operating_point::{self, Applied, OperatingPoint};
use super::processes::ProcessTable;
use super::refusal::Refusal;
use super::session::{EDGE, Session};
use crate::formats::meter_json::{MeterJson, State};

const PASSED_ON: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];
/// No meter needs longer than this for its next reading: slow ones are read once a second while an end is near.
const SETTLED_AFTER: Duration = Duration::from_millis(2_500);
/// How often what is known so far is written down.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// How to measure.
#[derive(Clone, Debug)]
pub struct Options {
    pub interval: Duration,
    /// Idle before and after the command.
    pub idle: Duration,
    pub node: String,
    /// The command's stdout goes to stderr, because stdout is for the result.
    pub stdout_to_stderr: bool,
    /// What to set meanwhile on every device.
    pub operating_point: OperatingPoint,
    /// Where restore files go.
    pub state_folder: PathBuf,
    /// A file to which the command appends `NAME SECONDS_SINCE_1970` where a phase of it begins.
    pub marks: Option<PathBuf>,
}

/// Why a command was not measured to its end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("cannot run `{command}`: {source}")]
    CannotRun { command: String, source: io::Error },
    #[error(transparent)]
    OperatingPoint(#[from] Refusal),
    #[error("cannot watch for signals: {0}")]
    Signals(io::Error),
}

enum Event {
    Signal(i32),
    Ended(io::Result<ExitStatus>, Instant),
}

/// Runs `command` (its name and arguments; not empty) under the meters of `inventory`. `write` gets what is known, every few
/// seconds and at the end.
///
/// # Errors
/// That the command cannot be started or signals cannot be watched. A command that fails is no error here: its exit code
/// or signal is in the result.
pub fn run(
    inventory: Inventory,
    processes: ProcessTable,
    command: &[String],
    options: &Options,
    write: &mut dyn FnMut(&MeterJson),
) -> Result<MeterJson, CommandError> {
    let (events, received) = mpsc::channel();
    let mut signals = Signals::new(PASSED_ON).map_err(CommandError::Signals)?;
    let signal_events = events.clone();
    thread::spawn(move || {
        for signal in signals.forever() {
            // Once the measurement is over a signal ends this program, as if nobody listened.
            if signal_events.send(Event::Signal(signal)).is_err() {
                let _ = signal_hook::low_level::emulate_default_handler(signal); // it fails for no signal listed here
            }
        }
    });

    // From here on no signal ends this program, so what is set now is undone below.
    let point = options.operating_point;
    let applied = match point == OperatingPoint::default() {
        true => None,
        false => Some(operating_point::apply(point, &inventory.gpus, &processes, &options.state_folder)?),
    };
    let mut session = Session::start(inventory, processes, command, &options.node, options.interval);
    session.requested = point;
    session.marks = options.marks.clone();
    if let Some(signal) = idle_before(&session, options.idle, &received) {
        let mut result = session.result();
        result.state = State::Interrupted;
        result.signal = Some(signal);
        undo(applied, &mut result);
        write(&result);
        return Ok(result);
    }
    session.begin();
    let child = spawn(command, options)?;
    let pid = child.id();
    session.family.begin(pid);
    wait_in_thread(child, events);
    write(&session.result());

    let edge_until = Instant::now() + EDGE;
    let mut next_write = Instant::now() + WRITE_EVERY;
    let mut fine = true;
    let (status, ended) = loop {
        let now = Instant::now();
        if fine && now >= edge_until {
            session.fine(false);
            fine = false;
        }
        if now >= next_write {
            write(&session.result());
            next_write = now + WRITE_EVERY;
        }
        let until = if fine { edge_until.min(next_write) } else { next_write };
        match received.recv_timeout(until.saturating_duration_since(now)) {
            Ok(Event::Signal(signal)) => pass_on(signal, pid),
            Ok(Event::Ended(status, at)) => break (status, at),
            // The sender of `Ended` lives until it has sent it.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    };
    session.fine(true);
    let status = status.ok();
    session.end(ended, status.and_then(|status| status.code()), status.and_then(|status| status.signal()));
    // First what matters, then what rounds it off: a second signal may not wait for the idle window.
    settle(&session, &received, EDGE);
    session.fine(false);
    write(&session.result());
    if pause(&received, options.idle).is_none() {
        session.close();
    }
    let mut result = session.result();
    undo(applied, &mut result);
    write(&result);
    Ok(result)
}

/// Undoes the operating point, with a warning for what could not be undone.
fn undo(applied: Option<Applied>, result: &mut MeterJson) {
    let left = applied.map(Applied::undo).unwrap_or_default();
    result.warnings.extend(left.iter().map(|refusal| format!("not restored: {refusal}")));
}

/// `Some(signal)` if one came.
fn idle_before(session: &Session, idle: Duration, received: &Receiver<Event>) -> Option<i32> {
    let fine = (2 * EDGE).min(idle.max(EDGE));
    let coarse = idle.saturating_sub(fine);
    if !coarse.is_zero() {
        session.fine(false);
        if let Some(signal) = pause(received, coarse) {
            return Some(signal);
        }
        session.fine(true);
    }
    settle(session, received, fine)
}

/// Waits for `time`, and on until all meters have read what they must; slow ones need a second, a broken one is not waited
/// for longer. `Some(signal)` if one came.
fn settle(session: &Session, received: &Receiver<Event>, time: Duration) -> Option<i32> {
    let begun = Instant::now();
    let mut signal = pause(received, time);
    while signal.is_none() && !session.is_settled() && begun.elapsed() < SETTLED_AFTER {
        signal = pause(received, Duration::from_millis(10));
    }
    signal
}

/// Waits, unless a signal that would end a program comes.
fn pause(received: &Receiver<Event>, time: Duration) -> Option<i32> {
    let until = Instant::now() + time;
    loop {
        match received.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::Signal(signal)) => return Some(signal),
            Ok(Event::Ended(..)) => {}
            Err(_) => return None,
        }
    }
}

fn spawn(command: &[String], options: &Options) -> Result<Child, CommandError> {
    let (name, arguments) = command.split_first().map_or(("", &[][..]), |(name, rest)| (name.as_str(), rest));
    let mut process = Command::new(name);
    process.args(arguments);
    if options.stdout_to_stderr {
        process.stdout(Stdio::from(io::stderr()));
    }
    process.spawn().map_err(|source| CommandError::CannotRun { command: name.to_owned(), source })
}

fn wait_in_thread(mut child: Child, events: Sender<Event>) {
    thread::spawn(move || {
        let status = child.wait();
        let _ = events.send(Event::Ended(status, Instant::now())); // the receiver outlives this, or nobody cares
    });
}

fn pass_on(signal: i32, pid: u32) {
    if matches!(signal, SIGINT | SIGQUIT) && io::stdin().is_terminal() {
        return;
    }
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(signal)) {
        let _ = kill_process(pid, signal); // it may have ended meanwhile
    }
}

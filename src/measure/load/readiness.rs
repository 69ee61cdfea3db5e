//! Whether the server answers, and what a failed request means: the request's own failure, or a server that went away.
//!
//! One thread asks while the others wait. A server that is not ready within the limit is taken for gone, and nothing more is
//! sent to it.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::client::Client;
use super::error::LoadError;
use crate::units::Seconds;

const ASK: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_millis(50);
const BETWEEN_AT_MOST: Duration = Duration::from_secs(1);
/// Unanswered in a row, the server is away.
const QUESTIONS: u32 = 3;
/// Where servers say that they are ready: most, then Ollama and others that only list their models.
const PATHS: [&str; 2] = ["/health", "/v1/models"];

/// Waits until the server is ready.
pub fn wait(client: &Client, within: Duration) -> Result<(), LoadError> {
    let begun = Instant::now();
    let mut pause = BETWEEN;
    loop {
        let Err(last) = ask(client) else { return Ok(()) };
        let left = within.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(LoadError::NotReady {
                url: client.url().to_owned(),
                waited: Seconds(within.as_secs_f64()),
                last,
            });
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(BETWEEN_AT_MOST);
    }
}

/// What keeps the server from being ready.
fn ask(client: &Client) -> Result<(), String> {
    let mut said = String::new();
    for path in PATHS {
        match client.get(path, ASK) {
            Ok((200, _)) => return Ok(()),
            Ok((404 | 405, _)) => said = format!("{path}: not found"),
            Ok((status, _)) => return Err(format!("{path}: HTTP status {status}")),
            Err(failure) => return Err(format!("{path}: {}", failure.detail)),
        }
    }
    Err(said)
}

/// Watches over a run.
#[derive(Default)]
pub struct Watch {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    restarts: u32,
    back_at: Option<Instant>,
    lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server is there: the failure was the request's.
    Ready,
    /// It was away, and is back.
    Restarted,
    /// It is away and stays so.
    Lost,
}

impl Watch {
    /// After a request that failed at `failed_at`; waits for the server.
    pub fn after_failure(&self, failed_at: Instant, client: &Client, within: Duration) -> Verdict {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.lost {
            return Verdict::Lost;
        }
        if state.back_at.is_some_and(|back_at| failed_at <= back_at) {
            return Verdict::Restarted;
        }
        // One question may meet the same fault as the request did; a restart takes longer than a few.
        for _ in 0..QUESTIONS {
            if ask(client).is_ok() {
                return Verdict::Ready;
            }
            thread::sleep(BETWEEN);
        }
        if wait(client, within).is_err() {
            state.lost = true;
            return Verdict::Lost;
        }
        state.restarts += 1;
        state.back_at = Some(Instant::now());
        Verdict::Restarted
    }

    pub fn restarts(&self) -> u32 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).restarts
    }
}

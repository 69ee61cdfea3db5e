//! The closed loop: `concurrency` threads, each sending its next request when its last one ended.

use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::error::LoadError;
use super::outcome::LoadOutcome;

/// A load of equal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadPlan {
    /// Tokens of every prompt as the server counts them, its own included.
    pub input_tokens: u32,
    pub output_tokens: u32,
    /// Requests in flight at a time.
    pub concurrency: u32,
    /// Requests in all; of fewer than `concurrency` the load is never full.
    pub requests: u32,
    /// Same seed, same prompts; take another one for each trial, or the server's prefix cache answers.
    pub seed: u64,
    /// For one request, from sending to its end.
    pub timeout: Duration,
}

/// A moment of the run, told when it is there: energy between two of them is the caller's to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub kind: MarkKind,
    pub at: Instant,
}

/// In this order; `Full` and `Draining` are left out where they do not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// Prompts are made; the first request is about to be sent.
    Started,
    /// `concurrency` requests are in flight.
    Full,
    /// A request ended and none is left to follow it.
    Draining,
    /// The last request ended.
    Ended,
}

/// Makes the prompts, sends the plan and waits for every answer. `on_mark` is called from the sending threads, so it
/// should be quick.
///
/// # Errors
/// A plan that asks for nothing or for more than the server takes, prompts that cannot be made, threads that do not start.
/// Failed requests are no error: they are in the outcome.
pub fn run(endpoint: &Endpoint, plan: &LoadPlan, on_mark: &(dyn Fn(Mark) + Sync)) -> Result<LoadOutcome, LoadError> {
    let _ = (endpoint, plan, on_mark);
    todo!()
}

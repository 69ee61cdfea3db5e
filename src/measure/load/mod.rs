//! A closed loop of requests to an OpenAI-compatible server: exactly so many tokens in, exactly so many out.
//!
//! [`Endpoint::connect`] finds out what the server can do (how a prompt of exactly N tokens reaches it, which extra fields
//! it takes); [`run`] sends a [`LoadPlan`] with `concurrency` threads, each sending its next request when its last one
//! ended, and returns what each request took. Every answer's `usage` is held against what was asked. A request that failed
//! is counted by its kind, never averaged over and never sent again; a plan with a failure has no summary. Nothing here
//! measures energy, decides on repeats or chooses cells; open-loop arrivals are left out.

mod calibrate;
mod client;
mod endpoint;
mod engine;
mod error;
mod outcome;
mod probe;
mod prompts;
mod readiness;
mod request;
mod run;
mod stream;

use std::time::Instant;

use crate::units::Seconds;

pub use endpoint::{Api, Endpoint, Options, PromptMethod};
pub use engine::Engine;
pub use error::LoadError;
pub use outcome::{Arrival, Completed, Failed, FailureKind, Gap, LoadOutcome, Steady, Summary};
pub use run::{LoadPlan, Mark, MarkKind, run};

fn seconds_between(from: Instant, to: Instant) -> Seconds {
    Seconds(to.saturating_duration_since(from).as_secs_f64())
}

//! What the requests of a plan took, what failed, and when the load was full.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use crate::stats::{mean, quantile};
use crate::units::Seconds;

/// What came of a plan: every request is in `completed`, in `failed`, or was never sent.
#[derive(Clone, Debug)]
pub struct LoadOutcome {
    /// By the order of sending.
    pub completed: Vec<Completed>,
    /// By the order of sending.
    pub failed: Vec<Failed>,
    /// Not sent, because the server went away and was not back within the endpoint's limit.
    pub unsent: u32,
    /// How often the server was away and came back.
    pub restarts: u32,
    /// When the load was full; `None` where it never was or anything failed.
    pub steady: Option<Steady>,
    /// The first request was sent, the last one ended.
    pub started_at: Instant,
    pub ended_at: Instant,
}

/// A request answered with the token counts that were asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Completed {
    /// Place in the plan, from 0.
    pub request: u32,
    pub input_tokens: u32,
    pub output_tokens: u32,
    pub sent_at: Instant,
    /// The first token was here (TTFT is `first_token_at - sent_at`).
    pub first_token_at: Instant,
    /// The last token was here.
    pub last_token_at: Instant,
    /// The answer was whole.
    pub ended_at: Instant,
    /// What came after the first token's chunk. `None` where chunks carry several tokens and the server does not say how
    /// many: then only the mean is known.
    pub gaps: Option<Vec<Gap>>,
}

/// Time between two chunks, and how many tokens the later one carries: `tokens` gaps of `seconds / tokens` each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gap {
    pub seconds: Seconds,
    pub tokens: u32,
}

/// A request that did not do what was asked of it.
#[derive(Clone, Debug)]
pub struct Failed {
    pub request: u32,
    pub kind: FailureKind,
    /// What the server or the system said.
    pub detail: String,
    pub sent_at: Instant,
    pub ended_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// No connection, or it broke before an answer began.
    Connection,
    /// No whole answer within the plan's timeout.
    Timeout,
    /// An HTTP status other than 200: 429 too many requests, 5xx the server's own.
    Status(u16),
    /// The answer began and broke off, or the server reported an error inside it.
    BrokenStream,
    /// The answer is not what the protocol says.
    Malformed,
    /// The answer does not say its token counts.
    NoUsage,
    /// The server counted another number of prompt tokens than were sent.
    WrongInputTokens { asked: u32, returned: u32 },
    /// The server made another number of tokens than asked for.
    WrongOutputTokens { asked: u32, returned: u32 },
    /// The connection failed and the server was not ready afterwards: it stopped or restarts.
    ServerGone,
}

impl FailureKind {
    /// The kind without its figures, to count by: `status_429`, `wrong_output_tokens`.
    pub fn name(self) -> String {
        match self {
            Self::Connection => "connection".to_owned(),
            Self::Timeout => "timeout".to_owned(),
            Self::Status(status) => format!("status_{status}"),
            Self::BrokenStream => "broken_stream".to_owned(),
            Self::Malformed => "malformed".to_owned(),
            Self::NoUsage => "no_usage".to_owned(),
            Self::WrongInputTokens { .. } => "wrong_input_tokens".to_owned(),
            Self::WrongOutputTokens { .. } => "wrong_output_tokens".to_owned(),
            Self::ServerGone => "server_gone".to_owned(),
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection => f.write_str("connection failed"),
            Self::Timeout => f.write_str("timed out"),
            Self::Status(status) => write!(f, "HTTP status {status}"),
            Self::BrokenStream => f.write_str("answer broke off"),
            Self::Malformed => f.write_str("answer not understood"),
            Self::NoUsage => f.write_str("answer without token counts"),
            Self::WrongInputTokens { asked, returned } => write!(f, "{returned} input tokens, {asked} asked"),
            Self::WrongOutputTokens { asked, returned } => write!(f, "{returned} output tokens, {asked} asked"),
            Self::ServerGone => f.write_str("server went away"),
        }
    }
}

/// The time in which `concurrency` requests were in flight: ramp-up before and drain after are left out.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    pub from: Instant,
    pub to: Instant,
    /// Between the first request sent and `from`.
    pub ramp_up: Seconds,
    /// Between `to` and the last request's end.
    pub drain: Seconds,
    /// Output tokens that came within, per second.
    pub output_throughput_tok_s: f64,
    /// Requests past their first token and before their last, averaged over the time. Less than the concurrency by those
    /// in prefill and those waiting in the server's queue.
    pub mean_decoding: f64,
}

impl Steady {
    pub fn seconds(&self) -> Seconds {
        seconds_between(self.from, self.to)
    }
}

/// Over all requests of a plan without failures.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub requests: u32,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// From the first request sent to the last one's end.
    pub runtime: Seconds,
    pub ttft_mean: Seconds,
    pub ttft_p99: Seconds,
    /// Mean time between tokens, which is known whatever the chunks carry. `None` where no request made two tokens.
    pub tbt_mean: Option<Seconds>,
    /// `None` where a request's gaps are not known one by one.
    pub tbt_p50: Option<Seconds>,
    pub tbt_p99: Option<Seconds>,
    pub e2e_mean: Seconds,
    pub e2e_p99: Seconds,
    /// Over the whole runtime, ramp-up and drain included.
    pub output_throughput_tok_s: f64,
    /// Requests sent and not ended, averaged over the runtime.
    pub mean_in_flight: f64,
    /// Requests between first and last token, averaged over the runtime.
    pub mean_decoding: f64,
}

impl LoadOutcome {
    /// `None` if a single request failed or was not sent: the trial is failed as a whole.
    pub fn summary(&self) -> Option<Summary> {
        todo!()
    }

    /// How many requests failed of each kind.
    pub fn failures(&self) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for failed in &self.failed {
            *counts.entry(failed.kind.name()).or_default() += 1;
        }
        counts
    }
}

fn seconds_between(from: Instant, to: Instant) -> Seconds {
    Seconds(to.saturating_duration_since(from).as_secs_f64())
}

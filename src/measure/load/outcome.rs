//! What the requests of a plan took, what failed, and when the load was full.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use super::seconds_between;
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
    /// When the load was full; `None` where it never was, anything failed, or tokens came unseen.
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
    /// The answer was whole.
    pub ended_at: Instant,
    /// `None` where no token showed: the answer's tokens are no text.
    pub arrival: Option<Arrival>,
}

/// When the tokens of an answer came, as far as its text shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// The first token was here (TTFT is `first_token_at - sent_at`).
    pub first_token_at: Instant,
    /// The last token was here.
    pub last_token_at: Instant,
    /// Mean time between tokens after the first chunk; `None` where there is no second chunk.
    pub tbt_mean: Option<Seconds>,
    /// What came after the first chunk. `None` where chunks carry several tokens and the server does not say how
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
    /// `None` where a request's first token came unseen.
    pub ttft_mean: Option<Seconds>,
    pub ttft_p99: Option<Seconds>,
    /// Mean time between tokens, which is known whatever the chunks carry. `None` where no request showed two tokens.
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
    /// Requests between first and last token, averaged over the runtime. `None` where a request's tokens came unseen.
    pub mean_decoding: Option<f64>,
}

impl Completed {
    pub fn ttft(&self) -> Option<Seconds> {
        Some(seconds_between(self.sent_at, self.arrival.as_ref()?.first_token_at))
    }

    /// End to end.
    pub fn e2e(&self) -> Seconds {
        seconds_between(self.sent_at, self.ended_at)
    }
}

impl Arrival {
    /// Tokens that came after the first chunk: estimated from the mean where chunks do not say what they carry.
    fn tokens_after_first(&self) -> f64 {
        match (&self.gaps, self.tbt_mean) {
            (Some(gaps), _) => gaps.iter().map(|gap| f64::from(gap.tokens)).sum(),
            (None, Some(tbt)) if tbt.0 > 0.0 => self.decoding() / tbt,
            (None, _) => 0.0,
        }
    }

    fn decoding(&self) -> Seconds {
        seconds_between(self.first_token_at, self.last_token_at)
    }

    /// Seconds before each token after the first chunk.
    fn token_gaps(&self) -> Option<Vec<f64>> {
        let each = |gap: &Gap| vec![gap.seconds.0 / f64::from(gap.tokens); gap.tokens as usize];
        Some(self.gaps.as_ref()?.iter().flat_map(each).collect())
    }

    /// Tokens that came in [from, to]: of chunks that do not say what they carry, evenly over the time between the first and
    /// the last.
    fn tokens_within(&self, from: Instant, to: Instant, output_tokens: u32) -> f64 {
        let within = |at: Instant| from <= at && at <= to;
        let after_first = self.tokens_after_first();
        let first = if within(self.first_token_at) { f64::from(output_tokens) - after_first } else { 0.0 };
        let Some(gaps) = &self.gaps else {
            let decoding = self.decoding();
            let share = if decoding.0 > 0.0 { self.decoding_within(from, to) / decoding } else { 0.0 };
            return first + after_first * share;
        };
        let mut at = self.first_token_at;
        let mut tokens = first;
        for gap in gaps {
            at += Duration::from_secs_f64(gap.seconds.0.max(0.0));
            tokens += if within(at) { f64::from(gap.tokens) } else { 0.0 };
        }
        tokens
    }

    fn decoding_within(&self, from: Instant, to: Instant) -> Seconds {
        seconds_between(self.first_token_at.max(from), self.last_token_at.min(to))
    }
}

impl Steady {
    /// What the requests did in [from, to], of a run in [started_at, ended_at].
    pub(super) fn of(completed: &[Completed], run: (Instant, Instant), full: (Instant, Instant)) -> Option<Self> {
        let (from, to) = full;
        let seconds = seconds_between(from, to);
        if seconds.0 <= 0.0 {
            return None;
        }
        let arrivals: Vec<(&Arrival, u32)> = completed
            .iter()
            .map(|request| Some((request.arrival.as_ref()?, request.output_tokens)))
            .collect::<Option<_>>()?;
        let tokens: f64 = arrivals.iter().map(|(arrival, output)| arrival.tokens_within(from, to, *output)).sum();
        let decoding: Seconds = arrivals.iter().map(|(arrival, _)| arrival.decoding_within(from, to)).sum();
        Some(Self {
            from,
            to,
            ramp_up: seconds_between(run.0, from),
            drain: seconds_between(to, run.1),
            output_throughput_tok_s: tokens / seconds.0,
            mean_decoding: decoding / seconds,
        })
    }
}

impl LoadOutcome {
    /// `None` if a single request failed or was not sent: the trial is failed as a whole.
    pub fn summary(&self) -> Option<Summary> {
        if !self.failed.is_empty() || self.unsent > 0 || self.completed.is_empty() {
            return None;
        }
        let e2e: Vec<f64> = self.completed.iter().map(|request| request.e2e().0).collect();
        let ttft: Option<Vec<f64>> = self.completed.iter().map(|request| Some(request.ttft()?.0)).collect();
        let arrivals = || self.completed.iter().map(|request| request.arrival.as_ref());
        let decoding: Option<Seconds> = arrivals().map(|arrival| Some(arrival?.decoding())).sum();
        // Each token after a first chunk counts once, whatever request it is of.
        let timed =
            || arrivals().flatten().filter_map(|arrival| Some((arrival.tbt_mean?.0, arrival.tokens_after_first())));
        let tokens_timed: f64 = timed().map(|(_, tokens)| tokens).sum();
        let tbt: Option<Vec<f64>> =
            arrivals().map(|arrival| arrival?.token_gaps()).collect::<Option<Vec<_>>>().map(|gaps| gaps.concat());
        let runtime = seconds_between(self.started_at, self.ended_at);
        let output_tokens: u64 = self.completed.iter().map(|request| u64::from(request.output_tokens)).sum();
        Some(Summary {
            requests: self.completed.len() as u32,
            input_tokens: self.completed.iter().map(|request| u64::from(request.input_tokens)).sum(),
            output_tokens,
            runtime,
            ttft_mean: ttft.as_deref().and_then(mean).map(Seconds),
            ttft_p99: ttft.as_deref().and_then(|ttft| quantile(ttft, 0.99)).map(Seconds),
            tbt_mean: (tokens_timed > 0.0)
                .then(|| Seconds(timed().map(|(tbt, tokens)| tbt * tokens).sum::<f64>() / tokens_timed)),
            tbt_p50: tbt.as_deref().and_then(|gaps| quantile(gaps, 0.5)).map(Seconds),
            tbt_p99: tbt.as_deref().and_then(|gaps| quantile(gaps, 0.99)).map(Seconds),
            e2e_mean: Seconds(mean(&e2e)?),
            e2e_p99: Seconds(quantile(&e2e, 0.99)?),
            output_throughput_tok_s: output_tokens as f64 / runtime.0,
            mean_in_flight: e2e.iter().sum::<f64>() / runtime.0,
            mean_decoding: decoding.map(|decoding| decoding / runtime),
        })
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

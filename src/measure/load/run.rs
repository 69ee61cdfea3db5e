//! The closed loop: `concurrency` threads, each sending its next request when its last one ended.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Once, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::client::Failure;
use super::endpoint::Endpoint;
use super::error::LoadError;
use super::outcome::{Completed, Failed, FailureKind, LoadOutcome, Steady};
use super::readiness::{Verdict, Watch};
use super::stream;

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
    plan.check(endpoint)?;
    let prompts =
        endpoint.prompts.make(&endpoint.client, endpoint.model(), plan.input_tokens, plan.requests, plan.seed)?;
    let bodies: Vec<String> =
        prompts.iter().map(|prompt| endpoint.format.streaming(prompt, plan.output_tokens)).collect();
    drop(prompts);
    let workers = plan.concurrency.min(plan.requests);
    let shared = Loop {
        endpoint,
        plan,
        bodies: &bodies,
        next: AtomicU32::new(0),
        begun: AtomicU32::new(0),
        drained: Once::new(),
        watch: Watch::default(),
        on_mark,
    };
    let started_at = shared.mark(MarkKind::Started);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for worker in 0..workers {
            let (shared, sender) = (&shared, sender.clone());
            let work = move || {
                // Fails only where the receiver is gone, which outlives the scope.
                let _ = sender.send(shared.work());
            };
            if let Err(error) = thread::Builder::new().name(format!("load-{worker}")).spawn_scoped(scope, work) {
                // Those that run find nothing more to do.
                shared.next.store(plan.requests, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    })?;
    drop(sender);
    let ended_at = shared.mark(MarkKind::Ended);
    let done: Vec<Worked> = receiver.into_iter().collect();
    Ok(outcome(plan, done, &shared.watch, (started_at, ended_at)))
}

impl LoadPlan {
    fn check(&self, endpoint: &Endpoint) -> Result<(), LoadError> {
        let sizes = [
            ("input_tokens", self.input_tokens),
            ("output_tokens", self.output_tokens),
            ("concurrency", self.concurrency),
            ("requests", self.requests),
        ];
        if let Some((what, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(LoadError::Empty { what });
        }
        let (input, output) = (self.input_tokens, self.output_tokens);
        match endpoint.max_model_len() {
            Some(limit) if u64::from(input) + u64::from(output) > u64::from(limit) => {
                Err(LoadError::TooLong { input, output, limit })
            }
            _ => Ok(()),
        }
    }
}

/// What the threads share.
struct Loop<'a> {
    endpoint: &'a Endpoint,
    plan: &'a LoadPlan,
    bodies: &'a [String],
    next: AtomicU32,
    /// Threads that sent their first request.
    begun: AtomicU32,
    drained: Once,
    watch: Watch,
    on_mark: &'a (dyn Fn(Mark) + Sync),
}

/// What one thread did.
#[derive(Default)]
struct Worked {
    completed: Vec<Completed>,
    failed: Vec<Failed>,
    first_sent_at: Option<Instant>,
    /// When its last request ended.
    done_at: Option<Instant>,
}

impl Loop<'_> {
    fn work(&self) -> Worked {
        let mut worked = Worked::default();
        loop {
            let request = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(body) = self.bodies.get(request as usize) else { break };
            if worked.first_sent_at.is_none() {
                worked.first_sent_at = Some(Instant::now());
                if self.begun.fetch_add(1, Ordering::Relaxed) + 1 == self.plan.concurrency {
                    self.mark(MarkKind::Full);
                }
            }
            let sent_at = Instant::now();
            let endpoint = self.endpoint;
            let answer = stream::request(&endpoint.client, endpoint.format.path(), body, self.plan.timeout)
                .and_then(|answer| self.held_against_plan(answer));
            let ended_at = answer.as_ref().map_or_else(|_| Instant::now(), |answer| answer.ended_at);
            worked.done_at = Some(ended_at);
            match answer {
                Ok(answer) => worked.completed.push(Completed {
                    request,
                    input_tokens: answer.usage.prompt_tokens,
                    output_tokens: answer.usage.completion_tokens,
                    sent_at,
                    ended_at,
                    arrival: answer.arrival,
                }),
                Err(failure) => {
                    let (kind, lost) = self.kind(failure.kind, ended_at);
                    worked.failed.push(Failed { request, kind, detail: failure.detail, sent_at, ended_at });
                    if lost {
                        self.next.fetch_max(self.plan.requests, Ordering::Relaxed);
                    }
                }
            }
        }
        if worked.done_at.is_some() {
            self.drained.call_once(|| {
                self.mark(MarkKind::Draining);
            });
        }
        worked
    }

    fn held_against_plan(&self, answer: stream::Answer) -> Result<stream::Answer, Failure> {
        let wrong = |kind| Err(Failure { kind, detail: String::new() });
        let (asked, returned) = (self.plan.input_tokens, answer.usage.prompt_tokens);
        if asked != returned {
            return wrong(FailureKind::WrongInputTokens { asked, returned });
        }
        let (asked, returned) = (self.plan.output_tokens, answer.usage.completion_tokens);
        if asked != returned {
            return wrong(FailureKind::WrongOutputTokens { asked, returned });
        }
        Ok(answer)
    }

    /// The failure's kind once it is known whether the server is still there, and whether it stays away.
    fn kind(&self, kind: FailureKind, failed_at: Instant) -> (FailureKind, bool) {
        let may_be_away = match kind {
            FailureKind::Connection | FailureKind::BrokenStream | FailureKind::Timeout => true,
            FailureKind::Status(status) => status >= 500,
            _ => false,
        };
        if !may_be_away {
            return (kind, false);
        }
        match self.watch.after_failure(failed_at, &self.endpoint.client, self.endpoint.ready_within) {
            Verdict::Ready => (kind, false),
            Verdict::Restarted => (FailureKind::ServerGone, false),
            Verdict::Lost => (FailureKind::ServerGone, true),
        }
    }

    fn mark(&self, kind: MarkKind) -> Instant {
        let at = Instant::now();
        (self.on_mark)(Mark { kind, at });
        at
    }
}

fn outcome(plan: &LoadPlan, done: Vec<Worked>, watch: &Watch, run: (Instant, Instant)) -> LoadOutcome {
    let is_full = done.len() == plan.concurrency as usize && done.iter().all(|worked| worked.first_sent_at.is_some());
    let full_at = done.iter().filter_map(|worked| worked.first_sent_at).max();
    let drained_at = done.iter().filter_map(|worked| worked.done_at).min();
    let mut completed = Vec::new();
    let mut failed = Vec::new();
    for worked in done {
        completed.extend(worked.completed);
        failed.extend(worked.failed);
    }
    completed.sort_by_key(|request| request.request);
    failed.sort_by_key(|request| request.request);
    let sent = completed.len() + failed.len();
    let full = full_at.zip(drained_at).filter(|_| is_full && failed.is_empty());
    LoadOutcome {
        unsent: plan.requests.saturating_sub(sent as u32),
        restarts: watch.restarts(),
        steady: full.and_then(|full| Steady::of(&completed, run, full)),
        started_at: run.0,
        ended_at: run.1,
        completed,
        failed,
    }
}

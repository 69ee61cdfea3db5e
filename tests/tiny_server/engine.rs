//! Continuous batching by a clock: each step takes `a + b * batch + c * prompt tokens that enter` and gives every running
//! request one token. Requests enter between steps, while there is room; a client that went away leaves at once.
//!
//! In a thread of its own, because an async timer has a granularity of a millisecond. The clock is absolute while there is
//! work: a late wake-up does not delay the steps after it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::stats::Stats;

/// Seconds.
#[derive(Clone, Copy)]
pub struct Clock {
    pub step: f64,
    pub per_request: f64,
    pub per_prompt_token: f64,
}

pub struct Engine {
    jobs: Sender<Job>,
}

struct Job {
    prompt_tokens: usize,
    output_tokens: u32,
    made: u32,
    /// How many tokens there are so far.
    tokens: UnboundedSender<u32>,
}

impl Engine {
    pub fn start(clock: Clock, max_num_seqs: usize, stats: Arc<Stats>) -> Self {
        let (jobs, queue) = channel();
        thread::spawn(move || work(clock, max_num_seqs.max(1), &queue, &stats));
        Self { jobs }
    }

    /// The receiver gets 1, 2, .. `output_tokens` as the tokens are made.
    pub fn submit(&self, prompt_tokens: usize, output_tokens: u32) -> UnboundedReceiver<u32> {
        let (tokens, receiver) = unbounded_channel();
        // Fails only once the thread is gone, with the process.
        drop(self.jobs.send(Job { prompt_tokens, output_tokens, made: 0, tokens }));
        receiver
    }
}

fn work(clock: Clock, max_num_seqs: usize, queue: &Receiver<Job>, stats: &Stats) {
    let mut waiting: std::collections::VecDeque<Job> = Default::default();
    let mut running: Vec<Job> = Vec::new();
    let mut now = Instant::now();
    loop {
        if running.is_empty() && waiting.is_empty() {
            let Ok(job) = queue.recv() else { return };
            waiting.push_back(job);
            now = Instant::now();
        }
        waiting.extend(queue.try_iter());
        let room = waiting.len().min(max_num_seqs - running.len());
        let entering: usize = waiting.iter().take(room).map(|job| job.prompt_tokens).sum();
        running.extend(waiting.drain(..room));

        let batch = running.len();
        let seconds = clock.step + clock.per_request * batch as f64 + clock.per_prompt_token * entering as f64;
        now += Duration::from_secs_f64(seconds.max(0.0));
        thread::sleep(now.saturating_duration_since(Instant::now()));
        stats.step(batch, seconds);
        running.retain_mut(|job| {
            job.made += 1;
            job.tokens.send(job.made).is_ok() && job.made < job.output_tokens
        });
    }
}

//! What the server did, for tests to hold against what a client says: faults by kind, the batch it ran, and how much of
//! any two prompts was the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::faults::Fault;

#[derive(Default)]
pub struct Stats {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: u64,
    faults: BTreeMap<&'static str, u64>,
    steps: u64,
    step_s: f64,
    /// Sum over steps of batch * seconds.
    batch_s: f64,
    max_running: usize,
    prompts: BTreeSet<Vec<u32>>,
    first_tokens: BTreeSet<u32>,
    longest_shared_prefix: usize,
    prompts_cached: u64,
}

impl Stats {
    pub fn step(&self, batch: usize, seconds: f64) {
        let mut counts = self.counts.lock().unwrap();
        counts.steps += 1;
        counts.step_s += seconds;
        counts.batch_s += batch as f64 * seconds;
        counts.max_running = counts.max_running.max(batch);
    }

    /// A request that is well formed, and what befalls it.
    pub fn request(&self, prompt: &[u32], may_cache: bool, fault: Fault) {
        let mut counts = self.counts.lock().unwrap();
        counts.requests += 1;
        *counts.faults.entry(fault.name()).or_default() += 1;
        counts.prompts_cached += u64::from(may_cache);
        counts.first_tokens.extend(prompt.first());
        // In lexicographic order the longest shared prefix is with a neighbour.
        let below = counts.prompts.range(..=prompt.to_vec()).next_back().map(|other| shared(other, prompt));
        let above = counts.prompts.range(prompt.to_vec()..).next().map(|other| shared(other, prompt));
        counts.longest_shared_prefix = counts.longest_shared_prefix.max(below.max(above).unwrap_or(0));
        counts.prompts.insert(prompt.to_vec());
    }

    pub fn reset(&self) {
        *self.counts.lock().unwrap() = Counts::default();
    }

    pub fn json(&self) -> Value {
        let counts = self.counts.lock().unwrap();
        json!({
            "requests": counts.requests,
            "faults": counts.faults,
            "steps": counts.steps,
            "step_s": counts.step_s,
            "mean_running": counts.batch_s / counts.step_s,
            "max_running": counts.max_running,
            "distinct_prompts": counts.prompts.len(),
            "distinct_first_tokens": counts.first_tokens.len(),
            "longest_shared_prefix": counts.longest_shared_prefix,
            "prompts_that_may_be_cached": counts.prompts_cached,
        })
    }
}

fn shared(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

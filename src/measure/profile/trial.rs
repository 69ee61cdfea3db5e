//! One trial as the study orders it, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::cell::Cell;
use crate::domain::Sample;

/// What to run once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub cell: Cell,
    /// Requests in all: the batch, or several times it where one round of it would be too short to measure.
    pub requests: u32,
    /// Another one for each trial, so that no prompt comes twice.
    pub seed: u64,
}

/// Runs trials, one at a time.
pub trait TrialRunner {
    /// Waits until the device is as idle as it was before the first trial. Whether it got there.
    fn cool_down(&mut self, stop: &Stop) -> bool;

    /// Runs one trial: a row without its number.
    ///
    /// # Errors
    /// Why there is no row.
    fn run(&mut self, order: &Order, stop: &Stop) -> Result<Sample, TrialError>;

    /// What whoever relies on the rows so far has to know of how they were measured.
    fn warnings(&self) -> Vec<String>;
}

/// Why a trial is none. Nothing of it is ever averaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrialError {
    /// Counted, and tried again later.
    #[error("{what}")]
    Failed {
        /// To count by, as `status_429` or `energy_unknown`.
        kind: String,
        what: String,
    },
    /// No trial can succeed any more.
    #[error("{0}")]
    Fatal(String),
    /// Asked to stop before it ended.
    #[error("stopped")]
    Stopped,
}

impl TrialError {
    pub fn failed(kind: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Failed { kind: kind.into(), what: what.into() }
    }
}

/// Whether somebody wants the study to end. Clones are of one wish.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicUsize>);

impl Stop {
    pub fn ask(&self) {
        self.0.store(usize::MAX, Ordering::Relaxed);
    }

    /// For a signal's handler, which writes its number; anything but 0 asks to end.
    pub fn flag(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.0)
    }

    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Sleeps, but no longer than until somebody asks. False if somebody did.
    pub fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.is_asked() || left.is_zero() {
                return !self.is_asked();
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

//! The loop over trials.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::seq::SliceRandom;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::cell::Cell;
use super::stopping::{Cost, Rule, Standing, Verdict};
use super::time::Times;
use super::trial::{Order, Stop, TrialError, TrialRunner};
use crate::domain::Sample;
use crate::formats::profile_journal::{FailedRecord, Journal, Past, Record};
use crate::formats::write::WriteError;

/// A cell that fails so often in succession is given up.
const GIVEN_UP_AFTER: u32 = 10;
/// Cells that a budget begins with, before it knows what a trial takes.
const FIRST_CELLS: usize = 3;
/// More rounds of a batch than this are no trial.
const MOST_ROUNDS: f64 = 10_000.0;
/// Streams of random numbers from here on are of prompts, those before of the order of rounds.
const PROMPTS: u64 = 1 << 32;

/// What to study.
#[derive(Clone, Debug)]
pub struct Study {
    /// The most useful first.
    pub cells: Vec<Cell>,
    pub rule: Rule,
    /// Trials before the first one of a cell, which are kept and never counted.
    pub warmup: u32,
    /// Requests are repeated until a trial lasts so long.
    pub least_time: Duration,
    /// Time for all trials together.
    pub budget: Option<Duration>,
    pub seed: u64,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// In the order of the study.
    pub cells: Vec<CellReport>,
    /// Trials of this run that are among the samples, warm-ups left out.
    pub trials: u32,
    /// Trials that began before the device was idle again.
    pub warm_starts: u32,
    /// What to know of how they were measured.
    pub warnings: Vec<String>,
    /// Why it ended before its cells were done.
    pub ended: Option<TrialError>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CellReport {
    pub cell: Cell,
    pub standing: Standing,
    /// Trials that are none, by kind.
    pub failed: BTreeMap<String, u32>,
    /// What the last of them said.
    pub last_failure: Option<String>,
}

/// What happens, for whoever watches.
#[derive(Clone, Copy, Debug)]
pub enum News<'a> {
    CoolingDown,
    /// A trial, or a warm-up, begins.
    Begins(&'a Cell),
    /// A trial is on the disk.
    Trial(&'a CellReport),
    Failed(&'a CellReport),
}

/// Told what happens, with how many cells are done and the time the others will take.
pub trait Watch {
    fn tell(&mut self, news: News<'_>, done: usize, left: Option<Duration>);
}

/// Runs the study on top of its past. `now` is the time since it began.
///
/// # Errors
/// A trial that cannot be written down. All else is in the report: failed trials are counted, and why it ended early.
pub fn run(
    study: &Study,
    past: &Past,
    journal: &mut Journal,
    runner: &mut dyn TrialRunner,
    watch: &mut dyn Watch,
    stop: &Stop,
    now: &dyn Fn() -> Duration,
) -> Result<Report, WriteError> {
    let mut loop_ = Loop::new(study, past, now);
    let ended = loop_.rounds(journal, runner, watch, stop)?;
    if ended.is_none() {
        loop_.out_of_time();
    }
    let cells = loop_.states.into_iter().map(|state| state.report).collect();
    Ok(Report { cells, trials: loop_.trials, warm_starts: loop_.warm_starts, warnings: runner.warnings(), ended })
}

struct Loop<'a> {
    study: &'a Study,
    now: &'a dyn Fn() -> Duration,
    states: Vec<State>,
    times: Times,
    trials: u32,
    warm_starts: u32,
    /// Seeds of prompts, others in each run: what a killed trial sent may still be in a server's cache.
    prompts: ChaCha8Rng,
    /// A server that was just connected to, or a resumed study, begins with a warm-up.
    is_cold: bool,
}

struct State {
    report: CellReport,
    costs: Vec<Cost>,
    /// Numbers of the next trial and warm-up.
    next: [u32; 2],
    warmups: u32,
    in_succession: u32,
    /// Runtime of one round of the batch.
    round_s: Option<f64>,
}

impl State {
    fn new(cell: Cell, rule: &Rule, past: &Past) -> Self {
        let mut report =
            CellReport { cell, standing: Standing::default(), failed: BTreeMap::new(), last_failure: None };
        for failed in past.failed.iter().filter(|failed| cell_of(failed) == cell) {
            report.count(&failed.kind, &failed.what);
        }
        let mut state = Self { report, costs: Vec::new(), next: [0; 2], warmups: 0, in_succession: 0, round_s: None };
        for sample in past.samples.iter().filter(|sample| Cell::of(sample) == Some(cell)) {
            state.take(sample);
        }
        state.report.standing = rule.look(&state.costs);
        state
    }

    /// A row of this cell.
    fn take(&mut self, sample: &Sample) {
        let next = &mut self.next[usize::from(sample.warmup)];
        *next = (*next).max(sample.trial.map_or(0, |trial| trial.saturating_add(1)));
        let rounds = sample.requests / f64::from(self.report.cell.batch);
        self.round_s = sample.runtime.map(|runtime| runtime.0 / rounds.max(1.0));
        if sample.warmup {
            self.warmups += 1;
        } else {
            self.costs.extend(Cost::of(sample));
        }
    }

    fn is_open(&self) -> bool {
        self.report.standing.verdict.is_none()
    }

    fn attempts(&self) -> u32 {
        self.report.standing.trials + self.report.failed.values().sum::<u32>()
    }
}

impl CellReport {
    fn count(&mut self, kind: &str, what: &str) {
        *self.failed.entry(kind.to_owned()).or_default() += 1;
        self.last_failure = Some(what.to_owned());
    }
}

impl<'a> Loop<'a> {
    fn new(study: &'a Study, past: &Past, now: &'a dyn Fn() -> Duration) -> Self {
        let states: Vec<State> = study.cells.iter().map(|cell| State::new(*cell, &study.rule, past)).collect();
        let mut prompts = ChaCha8Rng::seed_from_u64(study.seed);
        prompts.set_stream(PROMPTS + past.runs);
        Self {
            study,
            now,
            states,
            times: Times::default(),
            trials: 0,
            warm_starts: 0,
            prompts,
            is_cold: !past.samples.is_empty(),
        }
    }

    /// Until no cell is open: `None`; or why it ended before.
    fn rounds(
        &mut self,
        journal: &mut Journal,
        runner: &mut dyn TrialRunner,
        watch: &mut dyn Watch,
        stop: &Stop,
    ) -> Result<Option<TrialError>, WriteError> {
        loop {
            let active = self.active();
            let Some(fewest) = active.iter().map(|&index| self.states[index].attempts()).min() else {
                return Ok(None);
            };
            let mut round: Vec<usize> =
                active.into_iter().filter(|&index| self.states[index].attempts() == fewest).collect();
            let mut random = ChaCha8Rng::seed_from_u64(self.study.seed);
            random.set_stream(u64::from(fewest));
            round.shuffle(&mut random);
            for index in round {
                if !self.fits(index) {
                    continue;
                }
                match self.trial(index, journal, runner, watch, stop)? {
                    None => {}
                    ended => return Ok(ended),
                }
            }
        }
    }

    /// Open cells that a round may visit: all, or as many as the budget has time for.
    fn active(&self) -> Vec<usize> {
        let open: Vec<usize> = (0..self.states.len()).filter(|&index| self.states[index].is_open()).collect();
        let Some(left) = self.budget_left() else { return open };
        if left <= 0.0 {
            return Vec::new();
        }
        let Some(seconds) = self.times.of_trial(&self.study.cells) else {
            return open.into_iter().take(FIRST_CELLS).collect();
        };
        let is_begun = |index: &usize| self.states[*index].attempts() > 0;
        let whole = |index: usize| {
            let trials = self.times.trials_left(self.states[index].report.standing.trials, self.study.rule.max_trials);
            let warmups = if is_begun(&index) { 0 } else { self.study.warmup };
            (trials + f64::from(warmups)) * seconds[index]
        };
        let (mut chosen, new): (Vec<usize>, Vec<usize>) = open.into_iter().partition(is_begun);
        // What is begun is finished first; a new cell comes in only where it could be finished too.
        let mut promised: f64 = chosen.iter().map(|&index| whole(index)).sum();
        for index in new {
            if promised + whole(index) <= left {
                promised += whole(index);
                chosen.push(index);
            }
        }
        chosen.retain(|&index| seconds[index] <= left);
        chosen
    }

    fn budget_left(&self) -> Option<f64> {
        self.study.budget.map(|budget| budget.saturating_sub((self.now)()).as_secs_f64())
    }

    fn fits(&self, index: usize) -> bool {
        let Some(left) = self.budget_left() else { return true };
        let seconds = self.times.of_trial(&[self.study.cells[index]]);
        seconds.is_none_or(|seconds| seconds[0] <= left)
    }

    /// One trial of a cell, after the warm-ups that it still needs. `Some`: the study ends.
    fn trial(
        &mut self,
        index: usize,
        journal: &mut Journal,
        runner: &mut dyn TrialRunner,
        watch: &mut dyn Watch,
        stop: &Stop,
    ) -> Result<Option<TrialError>, WriteError> {
        let state = &self.states[index];
        let due = self.study.warmup.saturating_sub(state.warmups);
        let due = if self.is_cold { due.max(self.study.warmup.min(1)) } else { due };
        for warmup in (0..=due).map(|place| place < due) {
            if stop.is_asked() {
                return Ok(Some(TrialError::Stopped));
            }
            let begun = (self.now)();
            watch.tell(News::CoolingDown, self.done(), self.time_left());
            if !runner.cool_down(stop) && !warmup {
                self.warm_starts += 1;
            }
            watch.tell(News::Begins(&self.study.cells[index]), self.done(), self.time_left());
            let order = self.order(index);
            match runner.run(&order, stop) {
                Ok(sample) => {
                    self.is_cold = false;
                    self.keep(index, Sample { warmup, ..sample }, journal)?;
                    self.times.add(order.cell, (self.now)().saturating_sub(begun));
                }
                Err(TrialError::Failed { kind, what }) => {
                    self.fail(index, &kind, &what, journal)?;
                    watch.tell(News::Failed(&self.states[index].report), self.done(), self.time_left());
                    return Ok(None);
                }
                Err(ended) => return Ok(Some(ended)),
            }
        }
        let report = &self.states[index].report;
        if report.standing.verdict == Some(Verdict::Converged) {
            self.times.converged(report.standing.trials);
        }
        watch.tell(News::Trial(&self.states[index].report), self.done(), self.time_left());
        Ok(None)
    }

    fn order(&mut self, index: usize) -> Order {
        let state = &self.states[index];
        let cell = state.report.cell;
        let least = self.study.least_time.as_secs_f64();
        // A tenth more: the next one may be faster.
        let rounds = state.round_s.map_or(1.0, |seconds| (1.1 * least / seconds).ceil().clamp(1.0, MOST_ROUNDS));
        let requests = (f64::from(cell.batch) * rounds) as u32;
        Order { cell, requests, seed: self.prompts.next_u64() }
    }

    fn keep(&mut self, index: usize, mut sample: Sample, journal: &mut Journal) -> Result<(), WriteError> {
        let state = &mut self.states[index];
        sample.trial = Some(state.next[usize::from(sample.warmup)]);
        journal.append(&sample)?;
        state.take(&sample);
        state.in_succession = 0;
        if !sample.warmup {
            self.trials += 1;
            state.report.standing = self.study.rule.look(&state.costs);
        }
        Ok(())
    }

    fn fail(&mut self, index: usize, kind: &str, what: &str, journal: &mut Journal) -> Result<(), WriteError> {
        let state = &mut self.states[index];
        let Cell { input_tokens, output_tokens, batch, sm_clock_mhz } = state.report.cell;
        let (kind, what) = (kind.to_owned(), what.to_owned());
        let failed = FailedRecord { input_tokens, output_tokens, batch, sm_clock_mhz, kind, what };
        journal.notes.add(&Record::Failed(failed.clone()))?;
        state.report.count(&failed.kind, &failed.what);
        state.in_succession += 1;
        if state.in_succession >= GIVEN_UP_AFTER {
            state.report.standing.verdict = Some(Verdict::GivenUp);
        }
        Ok(())
    }

    /// Cells that are still open had no time.
    fn out_of_time(&mut self) {
        if self.study.budget.is_some() {
            let open = self.states.iter_mut().filter(|state| state.is_open());
            open.for_each(|state| state.report.standing.verdict = Some(Verdict::OutOfTime));
        }
    }

    fn done(&self) -> usize {
        self.states.iter().filter(|state| !state.is_open()).count()
    }

    fn time_left(&self) -> Option<Duration> {
        let seconds = self.times.of_trial(&self.study.cells)?;
        let open = self.states.iter().zip(seconds).filter(|(state, _)| state.is_open());
        let left = |(state, seconds): (&State, f64)| {
            seconds * self.times.trials_left(state.report.standing.trials, self.study.rule.max_trials)
        };
        let all: f64 = open.map(left).sum();
        let all = self.budget_left().map_or(all, |left| all.min(left));
        Duration::try_from_secs_f64(all).ok()
    }
}

fn cell_of(failed: &FailedRecord) -> Cell {
    let FailedRecord { input_tokens, output_tokens, batch, sm_clock_mhz, .. } = *failed;
    Cell { input_tokens, output_tokens, batch, sm_clock_mhz }
}

#[cfg(test)]
mod tests;

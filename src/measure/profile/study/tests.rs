//! Studies on a simulated server and clock.

use std::cell::Cell as Shared;
use std::collections::BTreeSet;
use std::path::Path;

use rand::distr::{Distribution, Open01};

use super::*;
use crate::domain::{Measurement, Moments, Provenance};
use crate::formats::samples_csv;
use crate::measure::profile::cell::Grid;
use crate::stats::normal_quantile;
use crate::units::{Joules, Seconds};

/// Trials take the time they should, with noise; some fail.
struct Simulated<'a> {
    now: &'a Shared<f64>,
    random: ChaCha8Rng,
    noise: f64,
    fails: fn(&Cell, usize) -> bool,
    orders: Vec<Order>,
    stop_after: usize,
}

fn template() -> Sample {
    Sample {
        model: "m".into(),
        precision: "bfloat16".into(),
        device: "H100".into(),
        provenance: Provenance::Measured,
        ..Sample::empty(Measurement::Trial)
    }
}

impl TrialRunner for Simulated<'_> {
    fn cool_down(&mut self, _: &Stop) -> bool {
        self.now.set(self.now.get() + 0.5);
        true
    }

    fn run(&mut self, order: &Order, stop: &Stop) -> Result<Sample, TrialError> {
        self.orders.push(*order);
        if (self.fails)(&order.cell, self.orders.len()) {
            return Err(TrialError::failed("status_429", "too many requests"));
        }
        let cell = order.cell;
        let rounds = f64::from(order.requests / cell.batch);
        let z = normal_quantile(Open01.sample(&mut self.random));
        let seconds = (0.1 + 0.01 * f64::from(cell.output_tokens)) * rounds * (1.0 + self.noise * z);
        self.now.set(self.now.get() + seconds);
        if self.orders.len() >= self.stop_after {
            stop.ask();
        }
        Ok(Sample {
            tokens: Moments::constant(f64::from(cell.input_tokens), f64::from(cell.output_tokens)),
            max_num_seqs: Some(cell.batch),
            requests: f64::from(order.requests),
            runtime: Some(Seconds(seconds)),
            gpu_energy: Some(Joules(300.0 * seconds)),
            ..template()
        })
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

struct Silent;

impl Watch for Silent {
    fn tell(&mut self, _: News<'_>, _: usize, _: Option<Duration>) {}
}

fn grid() -> Vec<Cell> {
    Grid { input_tokens: vec![8, 64, 512], output_tokens: vec![16, 256], batch: vec![1, 8], sm_clock_mhz: Vec::new() }
        .cells()
}

fn study(cells: Vec<Cell>) -> Study {
    Study { cells, rule: Rule::new(0.05, 25), warmup: 1, least_time: Duration::ZERO, budget: None, seed: 5 }
}

struct Run {
    report: Report,
    orders: Vec<Order>,
    seconds: f64,
}

fn go(path: &Path, study: &Study, fails: fn(&Cell, usize) -> bool, stop_after: usize) -> Run {
    let now = Shared::new(0.0);
    let (mut journal, past) = Journal::open(path, &template().family(), Some(study.seed), true).unwrap();
    let random = ChaCha8Rng::seed_from_u64(past.samples.len() as u64);
    let mut runner = Simulated { now: &now, random, noise: 0.02, fails, orders: Vec::new(), stop_after };
    let clock = || Duration::from_secs_f64(now.get());
    let stop = Stop::default();
    let report = run(study, &past, &mut journal, &mut runner, &mut Silent, &stop, &clock).unwrap();
    Run { report, orders: runner.orders, seconds: now.get() }
}

/// (cell, warm-up, trial) of every row, and none twice.
fn rows(path: &Path) -> Vec<(Cell, bool, u32)> {
    let samples = samples_csv::read(path).unwrap();
    let rows: Vec<_> = samples.iter().map(|s| (Cell::of(s).unwrap(), s.warmup, s.trial.unwrap())).collect();
    assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len(), "a trial stands there twice");
    rows
}

#[test]
fn rounds_visit_every_open_cell_once_in_an_order_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let study = study(grid());
    let first = go(&folder.path().join("a.csv"), &study, |_, _| false, usize::MAX);
    let again = go(&folder.path().join("b.csv"), &study, |_, _| false, usize::MAX);
    assert_eq!(first.orders, again.orders, "the seed decides");
    let counted: Vec<Cell> =
        rows(&folder.path().join("a.csv")).into_iter().filter(|row| !row.1).map(|row| row.0).collect();
    let rounds: Vec<BTreeSet<Cell>> = counted.chunks(12).take(3).map(|round| round.iter().copied().collect()).collect();
    assert!(rounds.iter().all(|round| round.len() == 12), "all cells in each of the first rounds");
    assert_ne!(counted[..12], counted[12..24], "in another order");
    assert!(first.report.cells.iter().all(|cell| cell.standing.verdict == Some(Verdict::Converged)));
    let seeds: BTreeSet<u64> = first.orders.iter().map(|order| order.seed).collect();
    assert_eq!(seeds.len(), first.orders.len(), "no prompts come twice");
    assert_eq!(first.report.trials as usize, counted.len());
    assert!(first.report.trials < 25 * 12 / 2, "{}", first.report.trials);
}

#[test]
fn a_study_that_is_stopped_again_and_again_loses_and_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.csv");
    let study = study(grid());
    let mut before = Vec::new();
    loop {
        let run = go(&path, &study, |_, _| false, 7);
        let after = rows(&path);
        assert!(after.starts_with(&before), "rows that were there stay");
        before = after;
        match run.report.ended {
            None => break,
            ended => assert_eq!(ended, Some(TrialError::Stopped)),
        }
    }
    for cell in &study.cells {
        let trials: Vec<u32> = before.iter().filter(|row| row.0 == *cell && !row.1).map(|row| row.2).collect();
        assert_eq!(trials, (0..trials.len() as u32).collect::<Vec<_>>(), "{cell}");
        assert!(trials.len() >= 3);
    }
    let idle = go(&path, &study, |_, _| false, usize::MAX);
    assert!(idle.orders.is_empty(), "nothing is left to do");
    let wider = Study { cells: [grid(), vec![Cell { input_tokens: 7, ..grid()[0] }]].concat(), ..study };
    let more = go(&path, &wider, |_, _| false, usize::MAX);
    assert!(!more.orders.is_empty() && more.orders.iter().skip(1).all(|order| order.cell.input_tokens == 7));
}

#[test]
fn failures_are_counted_and_a_cell_that_always_fails_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.csv");
    let study = study(grid());
    let fails = |cell: &Cell, order: usize| (cell.input_tokens, cell.batch) == (512, 8) || order.is_multiple_of(7);
    let run = go(&path, &study, fails, usize::MAX);
    for report in &run.report.cells {
        let given_up = (report.cell.input_tokens, report.cell.batch) == (512, 8);
        let expected = if given_up { Verdict::GivenUp } else { Verdict::Converged };
        assert_eq!(report.standing.verdict, Some(expected), "{}", report.cell);
        assert!(!given_up || report.failed == BTreeMap::from([("status_429".to_owned(), 10)]));
    }
    let failed: u32 = run.report.cells.iter().flat_map(|cell| cell.failed.values()).sum();
    assert_eq!(rows(&path).len() + failed as usize, run.orders.len());
    // Remembered, and tried again.
    let resumed = go(&path, &study, |_, _| false, usize::MAX);
    assert_eq!(resumed.report.cells.iter().flat_map(|cell| cell.failed.values()).sum::<u32>(), failed);
    assert!(resumed.report.cells.iter().all(|cell| cell.standing.verdict == Some(Verdict::Converged)));
}

#[test]
fn a_budget_takes_the_most_useful_cells_and_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.csv");
    let cells = grid();
    let whole = go(&folder.path().join("whole.csv"), &study(cells.clone()), |_, _| false, usize::MAX).seconds;
    let budget = Some(Duration::from_secs_f64(0.4 * whole));
    let run = go(&path, &Study { budget, ..study(cells) }, |_, _| false, usize::MAX);
    assert!(run.seconds <= 0.4 * whole && run.seconds > 0.2 * whole, "{} of {whole}", run.seconds);
    let verdicts: Vec<Option<Verdict>> = run.report.cells.iter().map(|cell| cell.standing.verdict).collect();
    assert_eq!(verdicts[0], Some(Verdict::Converged), "{verdicts:?}");
    assert!(verdicts.contains(&Some(Verdict::OutOfTime)) && !verdicts.contains(&None));
    let half_done = run
        .report
        .cells
        .iter()
        .filter(|cell| cell.standing.verdict == Some(Verdict::OutOfTime) && cell.standing.trials > 0);
    assert!(half_done.count() <= 3, "cells that are begun are finished first");
}

#[test]
fn short_trials_repeat_their_requests() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.csv");
    let study = Study { least_time: Duration::from_secs(1), ..study(grid()) };
    go(&path, &study, |_, _| false, usize::MAX);
    let samples = samples_csv::read(&path).unwrap();
    let counted: Vec<&Sample> = samples.iter().filter(|sample| !sample.warmup).collect();
    assert!(counted.iter().all(|sample| sample.runtime.unwrap().0 > 0.9));
    let most = counted.iter().map(|sample| sample.requests / f64::from(sample.max_num_seqs.unwrap()));
    assert_eq!(most.fold(0.0, f64::max), 5.0, "0.26 s a round");
}

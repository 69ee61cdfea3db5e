//! What a study will still take, from the trials it has run: for its budget and for whoever waits.
//!
//! The wall time of a trial, with its cooling, is a sum of non-negative shares of the features that drive it, fitted to
//! relative errors; a cell that was run is known better than that by its own trials.

use std::time::Duration;

use ndarray::{Array1, Array2};

use super::cell::Cell;
use super::stopping::LEAST_TRIALS;
use crate::stats::{mean, nnls};

/// Wall times of the trials so far.
#[derive(Clone, Debug, Default)]
pub struct Times {
    trials: Vec<(Cell, f64)>,
    /// Trials that each cell took until its intervals were narrow.
    taken: Vec<f64>,
}

impl Times {
    pub fn add(&mut self, cell: Cell, wall: Duration) {
        self.trials.push((cell, wall.as_secs_f64().max(1e-6)));
    }

    pub fn converged(&mut self, trials: u32) {
        self.taken.push(f64::from(trials));
    }

    pub fn is_empty(&self) -> bool {
        self.trials.is_empty()
    }

    /// Seconds that one trial of each cell will take; `None` before the first trial.
    pub fn of_trial(&self, cells: &[Cell]) -> Option<Vec<f64>> {
        if self.is_empty() {
            return None;
        }
        let rows = Array2::from_shape_fn((self.trials.len(), FEATURES), |(row, column)| {
            let (cell, wall) = &self.trials[row];
            features(cell)[column] / wall
        });
        let shares = nnls(&rows, &Array1::ones(self.trials.len()));
        let predict = |cell: &Cell| {
            let own: Vec<f64> = self.trials.iter().filter(|(of, _)| of == cell).map(|(_, wall)| *wall).collect();
            mean(&own).unwrap_or_else(|| features(cell).iter().zip(&shares).map(|(x, share)| x * share).sum())
        };
        Some(cells.iter().map(predict).collect())
    }

    /// Trials that a cell with `done` of them still needs, most likely.
    pub fn trials_left(&self, done: u32, most: u32) -> f64 {
        let usual = mean(&self.taken).unwrap_or_else(|| f64::from(LEAST_TRIALS + 2)).min(f64::from(most));
        (usual - f64::from(done)).max(1.0)
    }
}

const FEATURES: usize = 4;

/// A start, the steps, and the tokens of prompts and answers.
fn features(cell: &Cell) -> [f64; FEATURES] {
    let [input, output, batch] = [cell.input_tokens, cell.output_tokens, cell.batch].map(f64::from);
    [1.0, output, input * batch, output * batch]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_cells_not_run_follow_from_those_that_were() {
        let cell = |input_tokens, output_tokens, batch| Cell { input_tokens, output_tokens, batch, sm_clock_mhz: None };
        let truth = |cell: &Cell| {
            let [constant, output, input, _] = features(cell);
            0.5 * constant + 0.02 * output + 1e-4 * input
        };
        let mut times = Times::default();
        assert_eq!(times.of_trial(&[cell(8, 8, 1)]), None);
        for run in [cell(8, 8, 1), cell(2048, 8, 1), cell(8, 512, 4), cell(256, 64, 16), cell(8, 8, 64)] {
            times.add(run, Duration::from_secs_f64(truth(&run)));
        }
        let new = [cell(1024, 256, 8), cell(32, 2048, 1)];
        for (cell, predicted) in new.iter().zip(times.of_trial(&new).unwrap()) {
            assert!((predicted / truth(cell) - 1.0).abs() < 0.02, "{cell}: {predicted}");
        }
        assert_eq!(times.trials_left(1, 25), 4.0);
        times.converged(8);
        assert_eq!((times.trials_left(3, 25), times.trials_left(3, 6), times.trials_left(20, 25)), (5.0, 3.0, 1.0));
    }
}

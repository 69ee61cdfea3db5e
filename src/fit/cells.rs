//! Every sample of a family beside what a model that has not seen it predicts, for those who judge a fit by its misses.

use super::observation::Observation;
use super::quality::OutOfFold;

/// One sample, per request.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Mean input tokens; absent where not recorded.
    pub input: Option<f64>,
    pub output: f64,
    pub batch: f64,
    pub data_set: String,
    /// Joules; absent where not measured or not predicted.
    pub energy: Option<Comparison>,
    /// Instance-seconds.
    pub runtime: Option<Comparison>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    pub measured: f64,
    /// By cross-validation, so without this sample.
    pub predicted: f64,
}

impl Comparison {
    /// Predicted over measured, less 1.
    pub fn relative_error(&self) -> f64 {
        self.predicted / self.measured - 1.0
    }
}

/// One cell per row, in their order.
pub fn cells(rows: &[&Observation], energy: Option<&OutOfFold>, runtime: Option<&OutOfFold>) -> Vec<Cell> {
    let (energy, runtime) = (comparisons(rows.len(), energy), comparisons(rows.len(), runtime));
    rows.iter()
        .zip(energy.into_iter().zip(runtime))
        .map(|(row, (energy, runtime))| Cell {
            input: row.tokens.input.filter(|_| !row.input_assumed),
            output: row.tokens.output,
            batch: row.batch,
            data_set: row.data_set.clone(),
            energy,
            runtime,
        })
        .collect()
}

fn comparisons(count: usize, out_of_fold: Option<&OutOfFold>) -> Vec<Option<Comparison>> {
    let mut comparisons = vec![None; count];
    let Some(OutOfFold { rows, measured, predicted }) = out_of_fold else { return comparisons };
    for (&row, (&measured, &predicted)) in rows.iter().zip(measured.iter().zip(predicted)) {
        if let Some(slot) = comparisons.get_mut(row) {
            *slot = Some(Comparison { measured, predicted });
        }
    }
    comparisons
}

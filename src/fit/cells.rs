//! Every sample of a family beside what a model that has not seen it predicts, for those who judge a fit by its misses.

use super::observation::Observation;
use super::quality::OutOfFold;
use crate::stats::quantile;

/// Misses beyond this many robust standard deviations from the median are outliers (Iglewicz and Hoaglin, How to Detect
/// and Handle Outliers, 1993).
const OUTLIER: f64 = 3.5;
/// Median absolute deviation of a normal distribution, in standard deviations.
const MAD_OF_NORMAL: f64 = 0.6745;
/// Fewer misses have no spread worth the name.
const LEAST_MISSES: usize = 8;

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
    /// Far from the other misses of its family.
    pub outlier: bool,
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
    let errors: Vec<f64> = predicted.iter().zip(measured).map(|(p, y)| (p / y).ln()).collect();
    for (outlier, (&row, (&measured, &predicted))) in
        outliers(&errors).into_iter().zip(rows.iter().zip(measured.iter().zip(predicted)))
    {
        if let Some(slot) = comparisons.get_mut(row) {
            *slot = Some(Comparison { measured, predicted, outlier });
        }
    }
    comparisons
}

/// Which values lie far from the others, by median and median absolute deviation. A value that is no number lies far.
fn outliers(values: &[f64]) -> Vec<bool> {
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let spread = quantile(&finite, 0.5).and_then(|median| {
        let deviations: Vec<f64> = finite.iter().map(|value| (value - median).abs()).collect();
        Some((median, quantile(&deviations, 0.5)?))
    });
    let far = |value: &f64| match spread {
        _ if !value.is_finite() => true,
        Some((median, deviation)) if finite.len() >= LEAST_MISSES && deviation > 0.0 => {
            MAD_OF_NORMAL * (value - median).abs() / deviation > OUTLIER
        }
        _ => false,
    };
    values.iter().map(far).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_far_value_among_many_is_an_outlier_and_few_values_have_none() {
        let mut values: Vec<f64> = (0..20).map(|k| 0.01 * f64::from(k % 5) - 0.02).collect();
        values.push(0.4);
        let found = outliers(&values);
        assert_eq!(found.iter().filter(|outlier| **outlier).count(), 1);
        assert!(found[20]);
        assert!(outliers(&[0.0, 0.01, 0.4]).iter().all(|outlier| !outlier));
        assert_eq!(outliers(&[f64::NAN, 0.0, 0.01]), [true, false, false]);
    }
}

//! The published form, as published (Wilkins et al., arXiv 2407.04014, section 4): a*i + b*o + c*i*o by ordinary least
//! squares, unweighted, no intercept, signs free. A reference: it predicts negative energies for long prompts with short
//! answers.

use ndarray::{Array1, Array2};

use super::observation::Observation;
use crate::domain::{Feature, Provenance, Term};
use crate::stats::{LeastSquaresError, k_folds, mape, ordinary};

const FEATURES: [Feature; 3] = [Feature::Input, Feature::Output, Feature::InputOutput];

/// One target, energy or runtime, as terms with standard errors.
///
/// # Errors
/// Too few rows, collinear lengths, or inputs that are unknown in every row.
pub fn fit(
    rows: &[&Observation],
    target: impl Fn(&Observation) -> Option<f64>,
    provenance: Provenance,
) -> Result<Vec<Term>, LeastSquaresError> {
    let known: Vec<([f64; 3], f64)> =
        rows.iter().filter(|row| !row.input_assumed).filter_map(|row| Some((lengths(row)?, target(row)?))).collect();
    let x = Array2::from_shape_fn((known.len(), FEATURES.len()), |(row, column)| known[row].0[column]);
    let y: Array1<f64> = known.iter().map(|(_, value)| *value).collect();
    let solution = ordinary(&x, &y)?;
    Ok(FEATURES
        .iter()
        .enumerate()
        .map(|(k, feature)| Term {
            standard_error: solution.standard_errors.as_ref().map(|errors| errors[k]),
            ..Term::fitted(feature.clone(), solution.coefficients[k], provenance)
        })
        .collect())
}

/// Mean absolute relative error in k-fold cross-validation.
pub fn cv_mape(
    rows: &[&Observation],
    target: impl Fn(&Observation) -> Option<f64> + Copy,
    folds: usize,
    seed: u64,
) -> Option<f64> {
    let (mut measured, mut predicted) = (Vec::new(), Vec::new());
    for fold in k_folds(rows.len(), folds, seed) {
        let training: Vec<&Observation> =
            rows.iter().enumerate().filter(|(index, _)| !fold.contains(index)).map(|(_, row)| *row).collect();
        let terms = fit(&training, target, Provenance::Measured).ok()?;
        for row in fold.iter().map(|&index| rows[index]) {
            if let (Some(value), Some(guess)) = (target(row), super::quality::predict(&terms, row)) {
                measured.push(value);
                predicted.push(guess);
            }
        }
    }
    mape(&measured, &predicted)
}

fn lengths(row: &Observation) -> Option<[f64; 3]> {
    Some([row.tokens.input?, row.tokens.output, row.tokens.input_output?])
}

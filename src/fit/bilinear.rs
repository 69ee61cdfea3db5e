//! The published form, as published (Wilkins et al., arXiv 2407.04014, section 4): a*i + b*o + c*i*o by ordinary least
//! squares, unweighted, no intercept, signs free, and its analysis of variance. A reference: it predicts negative energies
//! for long prompts with short answers.

use ndarray::{Array1, Array2, Axis, concatenate};

use super::observation::Observation;
use super::quality::{self, FittedTarget, OutOfFold};
use crate::domain::{Feature, Provenance, Term};
use crate::stats::{Anova, LeastSquaresError, Summary, anova, k_folds, ordinary};

const FEATURES: [Feature; 3] = [Feature::Input, Feature::Output, Feature::InputOutput];
/// As the paper's table names them.
const TERMS: [&str; 3] = ["in", "out", "in:out"];
/// Probability that a coefficient's interval holds it.
const LEVEL: f64 = 0.95;

/// Both targets of a family.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    pub energy: Target,
    pub runtime: Target,
}

/// Energy or runtime by the published form.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub fitted: FittedTarget,
    /// Absent where rows and coefficients are equally many.
    pub summary: Option<Summary>,
    /// Type II, of the form as published and with an intercept beside it; absent where it cannot be computed.
    pub anova: Option<Anova>,
    pub anova_with_intercept: Option<Anova>,
}

impl Published {
    /// `None` where too few lengths are recorded, or they do not vary.
    pub fn new(rows: &[&Observation], provenance: Provenance, folds: usize, seed: u64) -> Option<Self> {
        Some(Self {
            energy: Target::new(rows, |row| row.energy, provenance, folds, seed)?,
            runtime: Target::new(rows, |row| row.runtime, provenance, folds, seed)?,
        })
    }
}

impl Target {
    fn new(
        rows: &[&Observation],
        target: fn(&Observation) -> Option<f64>,
        provenance: Provenance,
        folds: usize,
        seed: u64,
    ) -> Option<Self> {
        let (x, y) = design(rows, target);
        let (terms, summary) = estimate(&x, &y, provenance).ok()?;
        let ones = Array2::ones((x.nrows(), 1));
        let wider = concatenate(Axis(1), &[ones.view(), x.view()]).ok();
        let out_of_fold = out_of_fold(rows, target, folds, seed);
        let of_terms = |row: &_| quality::predict(&terms, row);
        let quality = quality::quality(rows, target, of_terms, out_of_fold.as_ref());
        Some(Self {
            fitted: FittedTarget { terms, quality, out_of_fold },
            summary,
            anova: anova::type_2(&x, &y, &TERMS, None).ok(),
            anova_with_intercept: wider.and_then(|wider| {
                let [input, output, both] = TERMS;
                anova::type_2(&wider, &y, &["1", input, output, both], None).ok()
            }),
        })
    }
}

/// One target, energy or runtime, as terms with standard errors and intervals.
///
/// # Errors
/// Too few rows, collinear lengths, or inputs that are unknown in every row.
pub fn fit(
    rows: &[&Observation],
    target: impl Fn(&Observation) -> Option<f64>,
    provenance: Provenance,
) -> Result<Vec<Term>, LeastSquaresError> {
    let (x, y) = design(rows, target);
    estimate(&x, &y, provenance).map(|(terms, _)| terms)
}

/// The terms, and the regression's summary where there are more rows than terms.
fn estimate(
    x: &Array2<f64>,
    y: &Array1<f64>,
    provenance: Provenance,
) -> Result<(Vec<Term>, Option<Summary>), LeastSquaresError> {
    let term = |k: usize, value: f64| Term::fitted(FEATURES[k].clone(), value, provenance);
    let summary = match Summary::new(x, y, None) {
        Ok(summary) => summary,
        Err(LeastSquaresError::NoResiduals { .. }) => {
            let values = ordinary(x, y)?.coefficients;
            return Ok((values.iter().enumerate().map(|(k, value)| term(k, *value)).collect(), None));
        }
        Err(error) => return Err(error),
    };
    let coefficients = summary.coefficients.iter().enumerate();
    let terms = coefficients
        .map(|(k, coefficient)| Term {
            standard_error: Some(coefficient.standard_error),
            interval: summary.interval(k, LEVEL),
            ..term(k, coefficient.value)
        })
        .collect();
    Ok((terms, Some(summary)))
}

/// Rows whose lengths and target are recorded: (i, o, i*o) and the target.
fn design(rows: &[&Observation], target: impl Fn(&Observation) -> Option<f64>) -> (Array2<f64>, Array1<f64>) {
    let known: Vec<([f64; 3], f64)> =
        rows.iter().filter(|row| !row.input_assumed).filter_map(|row| Some((lengths(row)?, target(row)?))).collect();
    let x = Array2::from_shape_fn((known.len(), FEATURES.len()), |(row, column)| known[row].0[column]);
    (x, known.iter().map(|(_, value)| *value).collect())
}

fn out_of_fold(
    rows: &[&Observation],
    target: fn(&Observation) -> Option<f64>,
    folds: usize,
    seed: u64,
) -> Option<OutOfFold> {
    let mut result = OutOfFold::default();
    for fold in k_folds(rows.len(), folds, seed) {
        let training: Vec<&Observation> =
            rows.iter().enumerate().filter(|(index, _)| !fold.contains(index)).map(|(_, row)| *row).collect();
        let terms = fit(&training, target, Provenance::Measured).ok()?;
        for index in fold {
            if let (Some(value), Some(guess)) = (target(rows[index]), quality::predict(&terms, rows[index])) {
                result.push(index, value, guess);
            }
        }
    }
    Some(result)
}

fn lengths(row: &Observation) -> Option<[f64; 3]> {
    Some([row.tokens.input?, row.tokens.output, row.tokens.input_output?])
}

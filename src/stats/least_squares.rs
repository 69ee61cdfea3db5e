//! Ordinary and weighted least squares without intercept, through linfa-linear, with the rank checked first. What the
//! coefficients are worth (standard errors, tests, intervals) is in `inference`.

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2, Axis};

use super::qr::PivotedQr;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LeastSquaresError {
    #[error("{rows} rows cannot determine {columns} coefficients")]
    TooFewRows { rows: usize, columns: usize },
    #[error("the columns are collinear: {rank} of {columns} are independent")]
    RankDeficient { rank: usize, columns: usize },
    #[error("{rows} rows and as many coefficients leave no residuals to judge them by")]
    NoResiduals { rows: usize },
    #[error("{names} names for {columns} columns")]
    Unnamed { names: usize, columns: usize },
    #[error("a value is not a finite number")]
    NotFinite,
    #[error("least squares failed: {0}")]
    Solver(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct LeastSquares {
    /// One per column.
    pub coefficients: Array1<f64>,
    /// (X'X)^-1, with weights (X'WX)^-1: the covariance of the coefficients in units of the residual variance.
    pub inverse_gram: Array2<f64>,
    /// (Weighted) sum of squared residuals.
    pub residual_sum_of_squares: f64,
}

/// Minimises |X c - y|^2. `x` has a row per observation and a column per coefficient; no intercept is added.
pub fn ordinary(x: &Array2<f64>, y: &Array1<f64>) -> Result<LeastSquares, LeastSquaresError> {
    let (rows, columns) = x.dim();
    if rows < columns || columns == 0 {
        return Err(LeastSquaresError::TooFewRows { rows, columns });
    }
    if x.iter().chain(y.iter()).any(|value| !value.is_finite()) {
        return Err(LeastSquaresError::NotFinite);
    }
    let qr = PivotedQr::new(x);
    let rank_deficient = LeastSquaresError::RankDeficient { rank: qr.rank(), columns };
    let inverse_gram = qr.inverse_gram().ok_or(rank_deficient)?;
    // Unit columns: i*o is millions of times larger than the constant.
    let lengths: Array1<f64> = x.columns().into_iter().map(|column| column.dot(&column).sqrt()).collect();
    let scaled = x / &lengths;
    let fitted = LinearRegression::default()
        .with_intercept(false)
        .fit(&Dataset::new(scaled, y.clone()))
        .map_err(|error| LeastSquaresError::Solver(error.to_string()))?;
    let coefficients = fitted.params() / &lengths;
    let residuals = y - &x.dot(&coefficients);
    Ok(LeastSquares { coefficients, inverse_gram, residual_sum_of_squares: residuals.dot(&residuals) })
}

/// Minimises sum of weights * (X c - y)^2: rows are scaled by the square root of their weight.
pub fn weighted(x: &Array2<f64>, y: &Array1<f64>, weights: &Array1<f64>) -> Result<LeastSquares, LeastSquaresError> {
    let (x, y) = scale_rows(x, y, weights);
    ordinary(&x, &y)
}

/// The ordinary problem that a weighted one is. A negative weight gives values that are no numbers.
pub(super) fn scale_rows(x: &Array2<f64>, y: &Array1<f64>, weights: &Array1<f64>) -> (Array2<f64>, Array1<f64>) {
    let roots = weights.mapv(f64::sqrt);
    (x * &roots.view().insert_axis(Axis(1)), y * &roots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn coefficients_are_those_of_the_normal_equations() {
        let x = array![[1.0, 1.0], [1.0, 2.0], [1.0, 3.0], [1.0, 4.0], [1.0, 5.0]];
        let fit = ordinary(&x, &array![2.1, 3.9, 6.2, 7.8, 10.1]).unwrap();
        assert!((fit.coefficients[0] - 0.05).abs() < 1e-12);
        assert!((fit.coefficients[1] - 1.99).abs() < 1e-12);
    }

    #[test]
    fn collinear_columns_are_refused_not_answered_with_huge_numbers() {
        let x = array![[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]];
        let error = ordinary(&x, &array![1.0, 2.0, 3.0]).unwrap_err();
        assert_eq!(error, LeastSquaresError::RankDeficient { rank: 1, columns: 2 });
    }

    #[test]
    fn a_weight_counts_like_repetition() {
        let x = array![[1.0], [2.0]];
        let y = array![1.0, 4.0];
        let twice = ordinary(&array![[1.0], [2.0], [2.0]], &array![1.0, 4.0, 4.0]).unwrap();
        let weighted = weighted(&x, &y, &array![1.0, 2.0]).unwrap();
        assert!((twice.coefficients[0] - weighted.coefficients[0]).abs() < 1e-12);
    }
}

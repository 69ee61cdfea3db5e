//! Ordinary and weighted least squares without intercept, through linfa-linear, with the rank checked first and the
//! classical standard errors after: se_k = sqrt(RSS / (n - p) * (X'X)^-1[k, k]).

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2};

use super::qr::PivotedQr;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LeastSquaresError {
    #[error("{rows} rows cannot determine {columns} coefficients")]
    TooFewRows { rows: usize, columns: usize },
    #[error("the columns are collinear: {rank} of {columns} are independent")]
    RankDeficient { rank: usize, columns: usize },
    #[error("a value is not a finite number")]
    NotFinite,
    #[error("least squares failed: {0}")]
    Solver(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct LeastSquares {
    /// One per column.
    pub coefficients: Array1<f64>,
    /// One per column; absent where rows and columns are equally many.
    pub standard_errors: Option<Array1<f64>>,
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
    if !qr.has_full_column_rank() {
        return Err(LeastSquaresError::RankDeficient { rank: qr.rank(), columns });
    }
    // Unit columns: S2 is about 1e13 times larger than the constant.
    let lengths: Array1<f64> = x.columns().into_iter().map(|column| column.dot(&column).sqrt()).collect();
    let scaled = x / &lengths;
    let fitted = LinearRegression::default()
        .with_intercept(false)
        .fit(&Dataset::new(scaled, y.clone()))
        .map_err(|error| LeastSquaresError::Solver(error.to_string()))?;
    let coefficients = fitted.params() / &lengths;
    let residuals = y - &x.dot(&coefficients);
    let residual_sum_of_squares = residuals.dot(&residuals);
    let standard_errors = (rows > columns).then_some(()).and_then(|()| {
        let variance = residual_sum_of_squares / (rows - columns) as f64;
        Some(qr.inverse_gram_diagonal()?.mapv(|diagonal| (variance * diagonal).sqrt()))
    });
    Ok(LeastSquares { coefficients, standard_errors, residual_sum_of_squares })
}

/// Minimises sum of weights * (X c - y)^2: rows are scaled by the square root of their weight.
pub fn weighted(x: &Array2<f64>, y: &Array1<f64>, weights: &Array1<f64>) -> Result<LeastSquares, LeastSquaresError> {
    let roots = weights.mapv(f64::sqrt);
    let scaled = x * &roots.view().insert_axis(ndarray::Axis(1));
    ordinary(&scaled, &(y * &roots))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    /// The textbook formula, computed independently (numpy) on the same numbers.
    #[test]
    fn coefficients_and_standard_errors_are_the_classical_ones() {
        let x = array![[1.0, 1.0], [1.0, 2.0], [1.0, 3.0], [1.0, 4.0], [1.0, 5.0]];
        let y = array![2.1, 3.9, 6.2, 7.8, 10.1];
        let fit = ordinary(&x, &y).unwrap();
        assert!((fit.coefficients[0] - 0.05).abs() < 1e-12);
        assert!((fit.coefficients[1] - 1.99).abs() < 1e-12);
        let errors = fit.standard_errors.unwrap();
        assert!((errors[0] - 0.198_074_060_223_274_67).abs() < 1e-9, "{errors}");
        assert!((errors[1] - 0.059_721_576_223_896_47).abs() < 1e-9, "{errors}");
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

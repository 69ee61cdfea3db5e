//! What least squares says besides its coefficients: covariance, standard errors, t and F tests, intervals, R2.
//!
//! Classical theory (Seber and Lee, Linear Regression Analysis, chapters 3 to 5): independent errors of one variance, or
//! of variance s^2 / weight. Verified against statsmodels (tests/statsmodels.rs). Left out: robust covariances and the
//! effect of having chosen the columns by their fit.

use ndarray::{Array1, Array2, ArrayView1, Axis, concatenate};

use super::distribution::{f_tail, t_two_sided, t_two_sided_quantile};
use super::least_squares::{LeastSquares, LeastSquaresError, ordinary, scale_rows};
use super::qr::PivotedQr;

/// A regression with its tests.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// One per column.
    pub coefficients: Vec<Coefficient>,
    /// Of the coefficients.
    pub covariance: Array2<f64>,
    pub observations: usize,
    /// Observations less coefficients, above 0.
    pub residual_df: usize,
    /// (Weighted) residual sum of squares over `residual_df`.
    pub residual_variance: f64,
    /// 1 - RSS / sum of (y - mean)^2, weighted where the fit is; absent if y does not vary.
    pub r2_centred: Option<f64>,
    /// 1 - RSS / sum of y^2; absent if y is 0 everywhere.
    pub r2_uncentred: Option<f64>,
    /// Of all columns, less the constant if the columns span one; absent if nothing else remains.
    pub f: Option<FTest>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coefficient {
    pub value: f64,
    pub standard_error: f64,
    /// value / standard error; infinite where the data are met exactly.
    pub t: f64,
    /// Two-sided, of the coefficient being 0; absent for 0 / 0.
    pub p: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FTest {
    pub f: f64,
    pub numerator_df: usize,
    pub denominator_df: usize,
    /// Absent where F is no number.
    pub p: Option<f64>,
}

impl FTest {
    /// (`sum_of_squares` / `numerator_df`) over the residual variance.
    pub fn new(sum_of_squares: f64, numerator_df: usize, residual_variance: f64, denominator_df: usize) -> Self {
        let f = sum_of_squares / numerator_df as f64 / residual_variance;
        Self { f, numerator_df, denominator_df, p: f_tail(f, numerator_df, denominator_df) }
    }
}

impl Summary {
    /// Least squares of `y` on the columns of `x`, weighted if `weights` are given (above 0, one per row). No intercept
    /// is added; R2 and F recognise a constant among the columns or in their span.
    ///
    /// # Errors
    /// As `ordinary`; `NoResiduals` if rows and columns are equally many.
    pub fn new(x: &Array2<f64>, y: &Array1<f64>, weights: Option<&Array1<f64>>) -> Result<Self, LeastSquaresError> {
        let (rows, columns) = x.dim();
        let ones = Array1::ones(rows);
        let weights = weights.unwrap_or(&ones);
        let (scaled_x, scaled_y) = scale_rows(x, y, weights);
        let LeastSquares { coefficients, inverse_gram, residual_sum_of_squares } = ordinary(&scaled_x, &scaled_y)?;
        let residual_df = rows - columns;
        if residual_df == 0 {
            return Err(LeastSquaresError::NoResiduals { rows });
        }
        let residual_variance = residual_sum_of_squares / residual_df as f64;
        let covariance = inverse_gram * residual_variance;
        let coefficients = coefficients
            .iter()
            .zip(covariance.diag())
            .map(|(&value, variance)| {
                let standard_error = variance.sqrt();
                let t = value / standard_error;
                Coefficient { value, standard_error, t, p: t_two_sided(t, residual_df) }
            })
            .collect();

        let mean = y.dot(weights) / weights.sum();
        let total = |origin: f64| y.iter().zip(weights).map(|(y, weight)| weight * (y - origin).powi(2)).sum::<f64>();
        let explained = |total: f64| (total > 0.0).then(|| 1.0 - residual_sum_of_squares / total);
        let spans_constant = spans_constant(x);
        let (total_of_f, numerator_df) =
            if spans_constant { (total(mean), columns - 1) } else { (total(0.0), columns) };
        Ok(Self {
            coefficients,
            covariance,
            observations: rows,
            residual_df,
            residual_variance,
            r2_centred: explained(total(mean)),
            r2_uncentred: explained(total(0.0)),
            f: (numerator_df > 0).then(|| {
                FTest::new(total_of_f - residual_sum_of_squares, numerator_df, residual_variance, residual_df)
            }),
        })
    }

    /// The interval that holds a column's coefficient with probability `level`; `None` for a column there is not.
    pub fn interval(&self, column: usize, level: f64) -> Option<(f64, f64)> {
        let Coefficient { value, standard_error, .. } = *self.coefficients.get(column)?;
        self.around(value, standard_error * standard_error, level)
    }

    /// Prediction at a row of the design.
    pub fn predict(&self, at: ArrayView1<f64>) -> f64 {
        self.coefficients.iter().zip(at).map(|(coefficient, value)| coefficient.value * value).sum()
    }

    /// The interval of the mean of observations at a row of the design.
    pub fn mean_interval(&self, at: ArrayView1<f64>, level: f64) -> Option<(f64, f64)> {
        self.around(self.predict(at), self.mean_variance(at), level)
    }

    /// The interval of one more observation there, of weight `weight` (1 without weights).
    pub fn observation_interval(&self, at: ArrayView1<f64>, weight: f64, level: f64) -> Option<(f64, f64)> {
        let variance = self.mean_variance(at) + self.residual_variance / weight;
        self.around(self.predict(at), variance, level)
    }

    fn mean_variance(&self, at: ArrayView1<f64>) -> f64 {
        at.dot(&self.covariance.dot(&at))
    }

    fn around(&self, value: f64, variance: f64, level: f64) -> Option<(f64, f64)> {
        let reach = t_two_sided_quantile(level, self.residual_df)? * variance.sqrt();
        reach.is_finite().then_some((value - reach, value + reach))
    }
}

/// Whether some combination of the columns is 1 everywhere.
fn spans_constant(x: &Array2<f64>) -> bool {
    let ones = Array2::ones((x.nrows(), 1));
    // The shapes agree by construction; if they did not, there would be no constant.
    concatenate(Axis(1), &[x.view(), ones.view()])
        .is_ok_and(|wider| PivotedQr::new(&wider).rank() == PivotedQr::new(x).rank())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_constant_in_the_span_counts_as_an_intercept() {
        let y = array![1.0, 2.5, 2.9, 4.2];
        let with_constant = array![[1.0, 1.0], [1.0, 2.0], [1.0, 3.0], [1.0, 4.0]];
        let hidden = array![[2.0, 1.0], [3.0, 2.0], [4.0, 3.0], [5.0, 4.0]];
        let f = |x: &Array2<f64>| Summary::new(x, &y, None).unwrap().f.unwrap();
        assert_eq!((f(&with_constant).numerator_df, f(&hidden).numerator_df), (1, 1));
        assert!((f(&with_constant).f / f(&hidden).f - 1.0).abs() < 1e-9);
        let slope_only = with_constant.select(Axis(1), &[1]);
        assert_eq!(f(&slope_only).numerator_df, 1);
        assert!(f(&slope_only).f > 2.0 * f(&with_constant).f);
    }

    #[test]
    fn exact_data_are_answered_and_no_residuals_refused() {
        let x = array![[1.0], [2.0]];
        let exact = Summary::new(&x, &array![2.0, 4.0], None).unwrap().coefficients[0];
        assert!(exact.standard_error < 1e-14 && exact.p.is_some_and(|p| p < 1e-14), "{exact:?}");
        let error = Summary::new(&array![[1.0]], &array![1.0], None).unwrap_err();
        assert_eq!(error, LeastSquaresError::NoResiduals { rows: 1 });
        let negative = Summary::new(&x, &array![2.0, 4.0], Some(&array![1.0, -1.0])).unwrap_err();
        assert_eq!(negative, LeastSquaresError::NotFinite);
    }
}

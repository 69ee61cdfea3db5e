//! Analysis of variance with numeric covariates, type II: each term is tested in the model of all terms that do not
//! contain it, against the residual variance of the whole model (Fox, Applied Regression Analysis, section 8.2).
//!
//! Terms are named as in formulas: `in:out` is the product of `in` and `out` and contains both; `1` is the intercept,
//! which every term contains and which is not tested. One column a term: categories are left out.

use std::collections::BTreeSet;

use ndarray::{Array1, Array2, Axis};

use super::inference::{FTest, Summary};
use super::least_squares::{LeastSquaresError, ordinary, scale_rows};

#[derive(Clone, Debug, PartialEq)]
pub struct Anova {
    /// In the order of the columns, the intercept left out.
    pub terms: Vec<AnovaTerm>,
    pub residual_sum_of_squares: f64,
    pub residual_df: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AnovaTerm {
    pub name: String,
    /// With one degree of freedom.
    pub sum_of_squares: f64,
    pub test: FTest,
}

/// The table of `y` on the columns of `x`, whose terms are `names`; weighted if `weights` are given.
///
/// # Errors
/// As `Summary::new`. Columns without a name are refused as `Unnamed`.
pub fn type_2(
    x: &Array2<f64>,
    y: &Array1<f64>,
    names: &[&str],
    weights: Option<&Array1<f64>>,
) -> Result<Anova, LeastSquaresError> {
    if names.len() != x.ncols() {
        return Err(LeastSquaresError::Unnamed { names: names.len(), columns: x.ncols() });
    }
    let whole = Summary::new(x, y, weights)?;
    let (scaled_x, scaled_y) = weights.map_or_else(|| (x.clone(), y.clone()), |weights| scale_rows(x, y, weights));
    let factors: Vec<BTreeSet<&str>> = names.iter().map(|name| factors(name)).collect();
    let mut terms = Vec::new();
    for (column, name) in names.iter().enumerate().filter(|(column, _)| !factors[*column].is_empty()) {
        let contains = |other: &usize| *other != column && factors[*other].is_superset(&factors[column]);
        let beside: Vec<usize> = (0..names.len()).filter(|other| !contains(other)).collect();
        let position = beside.iter().take_while(|other| **other < column).count();
        let fit = ordinary(&scaled_x.select(Axis(1), &beside), &scaled_y)?;
        // What the residual sum of squares grows by without the column, free of cancellation.
        let sum_of_squares = fit.coefficients[position].powi(2) / fit.inverse_gram[[position, position]];
        let test = FTest::new(sum_of_squares, 1, whole.residual_variance, whole.residual_df);
        terms.push(AnovaTerm { name: (*name).to_owned(), sum_of_squares, test });
    }
    Ok(Anova {
        terms,
        residual_sum_of_squares: whole.residual_variance * whole.residual_df as f64,
        residual_df: whole.residual_df,
    })
}

fn factors(name: &str) -> BTreeSet<&str> {
    name.split(':').map(str::trim).filter(|factor| *factor != "1").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    /// By the definition: residual sums of squares with and without the term.
    #[test]
    fn a_term_is_tested_beside_all_that_do_not_contain_it() {
        let lengths = [(8.0, 8.0), (8.0, 64.0), (64.0, 8.0), (64.0, 64.0), (512.0, 8.0), (512.0, 64.0)];
        let noise = [0.3, -0.2, 0.1, -0.4, 0.25, -0.05];
        let x = Array2::from_shape_fn((6, 3), |(row, column)| {
            let (i, o) = lengths[row];
            [i, o, i * o][column]
        });
        let y: Array1<f64> =
            lengths.iter().zip(noise).map(|((i, o), e)| 0.1 * i + 0.5 * o + 0.01 * i * o + e).collect();
        let table = type_2(&x, &y, &["in", "out", "in:out"], None).unwrap();
        let rss = |columns: &[usize]| ordinary(&x.select(Axis(1), columns), &y).unwrap().residual_sum_of_squares;
        let expected = [rss(&[1]) - rss(&[0, 1]), rss(&[0]) - rss(&[0, 1]), rss(&[0, 1]) - rss(&[0, 1, 2])];
        for (term, expected) in table.terms.iter().zip(expected) {
            assert!((term.sum_of_squares / expected - 1.0).abs() < 1e-6, "{term:?} {expected}");
        }
        assert_eq!(table.residual_df, 3);
    }

    #[test]
    fn names_must_match_columns() {
        let x = array![[1.0], [2.0], [3.0]];
        let error = type_2(&x, &array![1.0, 2.0, 3.5], &["in", "out"], None).unwrap_err();
        assert_eq!(error, LeastSquaresError::Unnamed { names: 2, columns: 1 });
    }
}

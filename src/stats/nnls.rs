//! Non-negative least squares: min |A x - b|^2 subject to x >= 0.
//!
//! Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23: an active set that grows by the most promising
//! coefficient and sheds those that would turn negative. Columns are scaled to unit length, so units do not matter.

use ndarray::{Array1, Array2, Axis};

use super::qr::PivotedQr;

/// Gradient below this (columns and right side of unit length) counts as optimal.
const TOLERANCE: f64 = 1e-11;

/// The minimiser, one value per column of `a`, each >= 0. Collinear columns share one non-zero value arbitrarily but
/// deterministically. Columns or right sides that are not finite give zeros.
pub fn nnls(a: &Array2<f64>, b: &Array1<f64>) -> Array1<f64> {
    let columns = a.ncols();
    let mut solution = Array1::<f64>::zeros(columns);
    let lengths: Array1<f64> = a.columns().into_iter().map(|column| column.dot(&column).sqrt()).collect();
    let target = b.dot(b).sqrt();
    if !target.is_finite() || target == 0.0 || lengths.iter().any(|length| !length.is_finite()) {
        return solution;
    }
    let unit_lengths = lengths.mapv(|length| if length > 0.0 { length } else { 1.0 });
    let unit = a / &unit_lengths;
    let right = b / target;

    let mut passive = vec![false; columns];
    // A column whose entry led nowhere (collinear with the passive ones) is not tried again before the set changes.
    let mut barred = vec![false; columns];
    for _ in 0..(10 * columns + 10) {
        let gradient = unit.t().dot(&(&right - &unit.dot(&solution)));
        let Some(entering) = (0..columns)
            .filter(|&column| !passive[column] && !barred[column] && lengths[column] > 0.0)
            .filter(|&column| gradient[column] > TOLERANCE)
            .max_by(|&p, &q| gradient[p].total_cmp(&gradient[q]))
        else {
            break;
        };
        passive[entering] = true;
        let before = solution.clone();
        shed_negative(&unit, &right, &mut passive, &mut solution);
        if passive[entering] && solution != before {
            barred.fill(false);
        } else {
            passive[entering] = false;
            solution[entering] = 0.0;
            barred[entering] = true;
        }
    }
    solution * target / &unit_lengths
}

/// Solves on the passive set and steps towards that solution until no passive coefficient is negative.
fn shed_negative(unit: &Array2<f64>, right: &Array1<f64>, passive: &mut [bool], solution: &mut Array1<f64>) {
    for _ in 0..=passive.len() {
        let chosen: Vec<usize> = (0..passive.len()).filter(|&column| passive[column]).collect();
        if chosen.is_empty() {
            return;
        }
        let goal = PivotedQr::new(&unit.select(Axis(1), &chosen)).solve(right);
        let step = chosen
            .iter()
            .zip(&goal)
            .filter(|(_, value)| **value <= 0.0)
            .map(|(&column, value)| {
                let from = solution[column];
                if from > value + f64::EPSILON { from / (from - value) } else { 0.0 }
            })
            .min_by(f64::total_cmp);
        let Some(step) = step else {
            for (&column, value) in chosen.iter().zip(&goal) {
                solution[column] = *value;
            }
            return;
        };
        for (&column, value) in chosen.iter().zip(&goal) {
            solution[column] += step * (value - solution[column]);
            if solution[column] <= TOLERANCE && *value <= 0.0 {
                solution[column] = 0.0;
                passive[column] = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use rand::Rng;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn without_a_binding_constraint_it_is_least_squares() {
        let a = array![[1.0, 0.5], [2.0, 1.5], [3.0, 1.0], [4.0, 7.0]];
        let x = nnls(&a, &a.dot(&array![2.0, 3.0]));
        assert!((x[0] - 2.0).abs() < 1e-10 && (x[1] - 3.0).abs() < 1e-10);
    }

    #[test]
    fn a_coefficient_that_wants_to_be_negative_is_zero() {
        let a = array![[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]];
        let x = nnls(&a, &array![3.0, 2.0, 1.0]);
        assert_eq!(x[1], 0.0);
        assert!((x[0] - 2.0).abs() < 1e-12);
    }

    /// Karush-Kuhn-Tucker: gradient 0 where x > 0, not promising where x = 0. This determines the optimum.
    #[test]
    fn random_problems_meet_the_optimality_conditions() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for _ in 0..200 {
            let (rows, columns) = (random.random_range(2..20), random.random_range(1..9));
            let a = Array2::from_shape_fn((rows, columns), |_| random.random_range(-1.0..1.0f64));
            let b = Array1::from_shape_fn(rows, |_| random.random_range(-1.0..1.0f64));
            let x = nnls(&a, &b);
            let gradient = a.t().dot(&(&b - &a.dot(&x)));
            for (value, slope) in x.iter().zip(&gradient) {
                assert!(*value >= 0.0);
                assert!(*slope < 1e-7, "{slope} at {value}");
                assert!(*value == 0.0 || slope.abs() < 1e-7, "{slope} at {value}");
            }
        }
    }

    #[test]
    fn collinear_columns_still_reach_the_best_fit() {
        let a = array![[1.0, 2.0, 0.0], [2.0, 4.0, 1.0], [3.0, 6.0, 0.0]];
        let b = array![2.0, 5.0, 6.0];
        let residual = &b - &a.dot(&nnls(&a, &b));
        assert!(residual.dot(&residual) < 1e-18);
    }
}

//! QR decomposition by Householder reflections with column pivoting: rank, least squares, and (X'X)^-1 for standard
//! errors. Columns are scaled to unit length first, so that rank does not depend on units.
//!
//! Golub and Van Loan, Matrix Computations, section 5.4. Small dense problems only: tens of columns.

use ndarray::{Array1, Array2};

/// A pivot shorter than this share of the first one (columns have unit length) counts as zero.
const RANK_TOLERANCE: f64 = 1e-10;

/// X (n rows, p columns) as Q * R * P', with the columns of X scaled to unit length.
#[derive(Clone, Debug)]
pub struct PivotedQr {
    /// Householder vectors below the diagonal, R on and above it.
    packed: Array2<f64>,
    /// Factor of each reflection.
    tau: Vec<f64>,
    /// Column of X at each position.
    pivots: Vec<usize>,
    /// Length of each column of X.
    scale: Vec<f64>,
    rank: usize,
}

impl PivotedQr {
    pub fn new(x: &Array2<f64>) -> Self {
        let (rows, columns) = x.dim();
        let scale: Vec<f64> = x
            .columns()
            .into_iter()
            .map(|column| {
                let length = column.dot(&column).sqrt();
                if length > 0.0 { length } else { 1.0 }
            })
            .collect();
        let mut packed = x.clone();
        for (mut column, length) in packed.columns_mut().into_iter().zip(&scale) {
            column /= *length;
        }
        let mut qr = Self { packed, tau: Vec::new(), pivots: (0..columns).collect(), scale, rank: 0 };
        for step in 0..rows.min(columns) {
            if !qr.reflect(step) {
                break;
            }
            qr.rank += 1;
        }
        qr
    }

    /// Number of linearly independent columns.
    pub fn rank(&self) -> usize {
        self.rank
    }

    pub fn has_full_column_rank(&self) -> bool {
        self.rank == self.pivots.len()
    }

    /// Coefficients that minimise |X c - y|^2, one per column of X; columns beyond the rank get 0.
    pub fn solve(&self, y: &Array1<f64>) -> Array1<f64> {
        let mut rotated = y.clone();
        for step in 0..self.rank {
            let projection = self.tau[step]
                * (rotated[step] + (step + 1..rotated.len()).map(|i| self.packed[[i, step]] * rotated[i]).sum::<f64>());
            rotated[step] -= projection;
            for i in step + 1..rotated.len() {
                rotated[i] -= projection * self.packed[[i, step]];
            }
        }
        let mut coefficients = Array1::zeros(self.pivots.len());
        let mut solved = vec![0.0; self.rank];
        for row in (0..self.rank).rev() {
            let known: f64 = (row + 1..self.rank).map(|k| self.packed[[row, k]] * solved[k]).sum();
            solved[row] = (rotated[row] - known) / self.packed[[row, row]];
        }
        for (position, value) in solved.into_iter().enumerate() {
            let column = self.pivots[position];
            coefficients[column] = value / self.scale[column];
        }
        coefficients
    }

    /// (X'X)^-1, a row and a column per column of X; `None` without full column rank.
    pub fn inverse_gram(&self) -> Option<Array2<f64>> {
        if !self.has_full_column_rank() {
            return None;
        }
        // Rows of R^-1, put where the columns of X stand: its column j solves R z = e_j.
        let mut inverse = Array2::<f64>::zeros((self.rank, self.rank));
        for j in 0..self.rank {
            let mut column = vec![0.0; self.rank];
            for row in (0..=j).rev() {
                let known: f64 = (row + 1..=j).map(|k| self.packed[[row, k]] * column[k]).sum();
                let target = if row == j { 1.0 } else { 0.0 };
                column[row] = (target - known) / self.packed[[row, row]];
            }
            for (row, value) in column.into_iter().enumerate() {
                let of = self.pivots[row];
                inverse[[of, j]] = value / self.scale[of];
            }
        }
        Some(inverse.dot(&inverse.t()))
    }

    /// One reflection on the longest remaining column; false if none is left that is not zero.
    fn reflect(&mut self, step: usize) -> bool {
        let (rows, columns) = self.packed.dim();
        let tail = |packed: &Array2<f64>, column: usize| -> f64 {
            (step..rows).map(|i| packed[[i, column]] * packed[[i, column]]).sum::<f64>().sqrt()
        };
        let Some((longest, length)) =
            (step..columns).map(|column| (column, tail(&self.packed, column))).max_by(|a, b| a.1.total_cmp(&b.1))
        else {
            return false;
        };
        if length.is_nan() || length <= RANK_TOLERANCE {
            return false;
        }
        if longest != step {
            self.pivots.swap(step, longest);
            for i in 0..rows {
                self.packed.swap([i, step], [i, longest]);
            }
        }
        let head = self.packed[[step, step]];
        let diagonal = if head > 0.0 { -length } else { length };
        self.tau.push((diagonal - head) / diagonal);
        for i in step + 1..rows {
            self.packed[[i, step]] /= head - diagonal;
        }
        self.packed[[step, step]] = diagonal;
        for column in step + 1..columns {
            let projection = self.tau[step]
                * (self.packed[[step, column]]
                    + (step + 1..rows).map(|i| self.packed[[i, step]] * self.packed[[i, column]]).sum::<f64>());
            self.packed[[step, column]] -= projection;
            for i in step + 1..rows {
                self.packed[[i, column]] -= projection * self.packed[[i, step]];
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_solvable_system_is_solved() {
        let x = array![[1.0, 2.0], [3.0, -1.0], [2.0, 5.0], [0.5, 0.25]];
        let y = x.dot(&array![0.7, -1.3]);
        let solution = PivotedQr::new(&x).solve(&y);
        assert!((solution[0] - 0.7).abs() < 1e-12 && (solution[1] + 1.3).abs() < 1e-12);
    }

    #[test]
    fn collinear_columns_lower_the_rank_whatever_their_units() {
        let x = array![[1.0, 1e9, 3.0], [2.0, 2e9, 1.0], [3.0, 3e9, 7.0], [4.0, 4e9, 2.0]];
        let qr = PivotedQr::new(&x);
        assert_eq!(qr.rank(), 2);
        assert!(qr.inverse_gram().is_none());
    }

    #[test]
    fn the_inverse_gram_matrix_is_that_of_the_normal_equations() {
        let x = array![[1.0, 2.0], [1.0, 3.0], [1.0, 5.0]];
        // X'X = [[3, 10], [10, 38]], determinant 14.
        let inverse = PivotedQr::new(&x).inverse_gram().unwrap();
        let expected = array![[38.0, -10.0], [-10.0, 3.0]] / 14.0;
        assert!((&inverse - &expected).iter().all(|difference| difference.abs() < 1e-12), "{inverse}");
    }
}

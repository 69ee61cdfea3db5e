//! Least squares, scores and splits: what the regressions need and the linear algebra crates do not offer.
//!
//! Ordinary and weighted least squares go through linfa-linear, guarded by a rank check, because linfa answers collinear
//! columns with coefficients of 1e14 and no error. Non-negative least squares (Lawson and Hanson) is written here: linfa
//! has none.

pub mod folds;
pub mod least_squares;
pub mod nnls;
pub mod qr;
pub mod score;

pub use folds::{k_folds, leave_one_out};
pub use least_squares::{LeastSquares, LeastSquaresError, ordinary, weighted};
pub use nnls::nnls;
pub use qr::PivotedQr;
pub use score::{mape, mean, quantile, r2_centred, r2_uncentred};

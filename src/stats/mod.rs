//! Least squares, scores and splits: what the regressions need and the linear algebra crates do not offer.
//!
//! Ordinary and weighted least squares go through linfa-linear, guarded by a rank check, because linfa answers collinear
//! columns with coefficients of 1e14 and no error. Written here, since linfa has none of it: non-negative least squares
//! (Lawson and Hanson), standard errors, tests and intervals, analysis of variance, the bootstrap, intervals that may be
//! looked at repeatedly, outliers among repeats. Distributions are statrs's.

pub mod anova;
pub mod bootstrap;
pub mod distribution;
pub mod esd;
pub mod folds;
pub mod inference;
pub mod least_squares;
pub mod nnls;
pub mod qr;
pub mod score;
pub mod sequential;

pub use anova::{Anova, AnovaTerm};
pub use bootstrap::Bootstrap;
pub use distribution::normal_quantile;
pub use folds::{k_folds, leave_one_out};
pub use inference::{Coefficient, FTest, Summary};
pub use least_squares::{LeastSquares, LeastSquaresError, ordinary, weighted};
pub use nnls::nnls;
pub use qr::PivotedQr;
pub use score::{mape, mean, quantile, r2_centred, r2_uncentred, ratio_interval};
pub use sequential::{Interval, RepeatedIntervals};

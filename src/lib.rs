pub mod check;
pub mod domain;
pub mod fit;
pub mod formats;
pub mod options;
pub mod plan;
pub mod stats;
pub mod units;

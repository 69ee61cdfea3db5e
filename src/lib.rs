pub mod domain;
pub mod fit;
pub mod formats;
pub mod stats;
pub mod units;

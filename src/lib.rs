pub mod check;
pub mod domain;
pub mod formats;
pub mod units;

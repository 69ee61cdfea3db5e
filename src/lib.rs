pub mod domain;
pub mod formats;
pub mod options;
pub mod plan;
pub mod slurm;
pub mod units;

pub mod domain;
pub mod formats;
pub mod slurm;
pub mod units;

//! One file per external format, read and written. Serde types live here and nowhere else.
//!
//! A reader returns domain values or every problem it found (`Problems`), never the first alone, and never panics.

pub mod hostlist;
pub mod plan_dir;
pub mod plan_json;
pub mod problems;
pub mod shards;
pub mod table;
pub mod write;

pub use problems::{Problem, Problems};

//! One file per external format, read and written. Serde types live here and nowhere else.
//!
//! A reader returns domain values or every problem it found (`Problems`), never the first alone, and never panics.

pub mod accuracy_csv;
pub mod cluster_toml;
pub mod csv_map;
pub mod data_sets_toml;
pub mod devices_toml;
pub mod doctor_json;
pub mod duration;
pub mod engines_toml;
pub mod hostlist;
pub mod jobs_toml;
pub mod meter_json;
pub mod mlenergy;
pub mod models_json;
pub mod plan_dir;
pub mod plan_json;
pub mod problems;
pub mod restore_json;
pub mod sample_row;
pub mod samples_csv;
pub mod shards;
pub mod table;
pub mod text;
pub mod toml_document;
pub mod workload;
pub mod write;

pub use problems::{Problem, Problems};

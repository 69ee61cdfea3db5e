//! One file per external format, read and written. Serde types live here and nowhere else.
//!
//! A reader returns domain values or every problem it found (`Problems`), never the first alone, and never panics.

pub mod accuracy_csv;
pub mod blocks;
pub mod cluster_edit;
pub mod cluster_toml;
pub mod completion_api;
pub mod csv_map;
pub mod data_sets_toml;
pub mod dcgm_text;
pub mod devices_toml;
pub mod doctor_json;
pub mod duration;
pub mod engines_toml;
pub mod exposition;
pub mod gpu_metrics;
pub mod gres;
pub mod hostlist;
pub mod job_scripts;
pub mod jobs_toml;
pub mod meter_json;
pub mod mlenergy;
pub mod models_json;
pub mod nvidia_smi;
pub mod options_csv;
pub mod options_plan;
pub mod plan_dir;
pub mod plan_json;
pub mod power_log;
pub mod problems;
pub mod profile_journal;
pub mod prometheus_json;
pub mod ptdaemon;
pub mod restore_json;
pub mod run_record;
pub mod sacct;
pub mod sample_row;
pub mod samples_csv;
pub mod shards;
pub mod site_csv;
pub mod slurm_jobs;
pub mod slurm_json;
pub mod slurm_nodes;
pub mod submission;
pub mod table;
pub mod telemetry_csv;
pub mod text;
pub mod timestamp;
pub mod toml_document;
pub mod trace_builder;
pub mod workload;
pub mod write;

pub use problems::{Problem, Problems};

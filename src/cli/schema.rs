//! `schema`: what our formats hold, from the very types that read and write them.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::output::Output;
use crate::formats::doctor_json::DoctorJson;
use crate::formats::meter_json::MeterJson;
use crate::formats::models_json::ModelsJson;
use crate::formats::options_csv;
use crate::formats::options_plan::OptionsPlanJson;
use crate::formats::plan_dir::{ASSIGNMENTS_HEADER, INSTANCES_HEADER, JOBS_HEADER, NODES_HEADER, SUMMARY_HEADER};
use crate::formats::plan_json::PlanJson;
use crate::formats::sample_row::{COLUMNS, REQUIRED};
use crate::formats::served_csv::SERVED_HEADER;
use crate::formats::{telemetry_csv, workload};

/// Print the JSON Schema of a format; of a CSV, its columns
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[arg(value_enum)]
    name: Name,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    Plan,
    OptionsPlan,
    Options,
    Models,
    Meter,
    Doctor,
    Samples,
    Telemetry,
    Accuracy,
    Workload,
    Instances,
    Nodes,
    Assignments,
    Jobs,
    Summary,
    Served,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    Ok(output.json(&schema(arguments.name))?)
}

fn schema(name: Name) -> Value {
    match name {
        Name::Plan => schemars::schema_for!(PlanJson).to_value(),
        Name::OptionsPlan => schemars::schema_for!(OptionsPlanJson).to_value(),
        Name::Options => columns("options CSV", &options_csv::COLUMNS, &options_csv::REQUIRED),
        Name::Models => schemars::schema_for!(ModelsJson).to_value(),
        Name::Meter => schemars::schema_for!(MeterJson).to_value(),
        Name::Doctor => schemars::schema_for!(DoctorJson).to_value(),
        Name::Samples => columns("samples CSV", &COLUMNS, &REQUIRED),
        Name::Telemetry => columns("telemetry CSV", &telemetry_csv::COLUMNS, &telemetry_csv::REQUIRED),
        Name::Accuracy => columns("accuracy CSV", &["model", "task", "accuracy"], &["model", "task", "accuracy"]),
        Name::Workload => columns("workload CSV", &workload::COLUMNS, &["input_tokens"]),
        Name::Instances => columns("instances.csv", &INSTANCES_HEADER, &INSTANCES_HEADER),
        Name::Nodes => columns("nodes.csv", &NODES_HEADER, &NODES_HEADER),
        Name::Assignments => columns("assignments.csv", &ASSIGNMENTS_HEADER, &ASSIGNMENTS_HEADER),
        Name::Jobs => columns("jobs.csv", &JOBS_HEADER, &JOBS_HEADER),
        Name::Summary => columns("summary.csv", &SUMMARY_HEADER, &SUMMARY_HEADER),
        Name::Served => columns("served.csv", &SERVED_HEADER, &SERVED_HEADER),
    }
}

fn columns(title: &str, columns: &[&str], required: &[&str]) -> Value {
    json!({"title": title, "format": "csv", "columns": columns, "required": required})
}

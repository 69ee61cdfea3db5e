//! The plan directory of a plan made from an options CSV: plan.json, assignments.csv, summary.csv. There are no instances,
//! nodes or scripts in it, because the table says nothing about them.
//!
//! `kind` in plan.json tells it from a plan on a cluster. Whether its claims are true is the checker's question.

use std::fs;
use std::io;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan_dir::{ASSIGNMENTS_CSV, OWN_STRATEGY, PLAN_JSON, SUMMARY_CSV, SUMMARY_HEADER};
use super::plan_json::{GapParts, Input, Run, SCHEMA_VERSION, Status};
use super::problems::{Collector, Problems};
use super::table::Table;
use super::write::WriteError;

/// `kind` of these plans.
pub const KIND: &str = "options";

pub const ASSIGNMENTS_HEADER: [&str; 5] = ["class_or_request", "option", "requests", "energy_j", "busy_s"];

const REMEDY: &str = "the file is damaged or was edited: make the plan again";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OptionsPlanJson {
    pub schema_version: u32,
    /// `options`
    pub kind: String,
    pub status: Status,
    /// Joules of all requests where they are assigned, as the table gives them.
    pub objective_j: f64,
    /// Proved lower bound on the joules of any assignment.
    pub bound_j: f64,
    /// (objective - bound) / objective.
    pub gap: f64,
    pub gap_parts: GapParts,
    /// Which computation gave the bound.
    pub bound_by: String,
    /// The bound that `price_j_per_s` of the options proves by itself: each request takes its priced cheapest option, less
    /// what the capacities are worth.
    pub price_bound_j: f64,
    pub requests: u64,
    pub options: Vec<OptionUse>,
    pub warnings: Vec<String>,
    pub inputs: Vec<Input>,
    pub run: Run,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OptionUse {
    pub option: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<u32>,
    pub requests: u64,
    pub energy_j: f64,
    /// Seconds of all its requests together.
    pub busy_s: f64,
    /// Absent: it has no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_s: Option<f64>,
    /// Joules that one more second of it would save, in the linear relaxation.
    pub price_j_per_s: f64,
}

/// A row of assignments.csv.
#[derive(Clone, Debug, PartialEq)]
pub struct AssignedRow {
    pub class: String,
    pub option: String,
    pub requests: u64,
    pub energy_j: f64,
    pub busy_s: f64,
}

/// Writes the files into `dir`, which exists.
///
/// # Errors
/// A file that cannot be written.
pub fn write(dir: &Path, plan: &OptionsPlanJson, rows: &[AssignedRow]) -> Result<(), WriteError> {
    let cannot = |file: &str, source: io::Error| WriteError::Cannot { path: dir.join(file), source };
    let mut json = serde_json::to_string_pretty(plan).map_err(|error| cannot(PLAN_JSON, error.into()))?;
    json.push('\n');
    fs::write(dir.join(PLAN_JSON), json).map_err(|error| cannot(PLAN_JSON, error))?;
    let mut assignments = vec![ASSIGNMENTS_HEADER.map(str::to_owned).to_vec()];
    assignments.extend(rows.iter().map(|row| {
        let AssignedRow { class, option, requests, energy_j, busy_s } = row;
        vec![class.clone(), option.clone(), requests.to_string(), energy_j.to_string(), busy_s.to_string()]
    }));
    let own = [
        OWN_STRATEGY.to_owned(),
        plan.objective_j.to_string(),
        plan.bound_j.to_string(),
        plan.gap.to_string(),
        true.to_string(),
        String::new(), // the table says nothing about when
    ];
    let summary = [SUMMARY_HEADER.map(str::to_owned).to_vec(), own.to_vec()];
    for (file, rows) in [(ASSIGNMENTS_CSV, &assignments[..]), (SUMMARY_CSV, &summary)] {
        let write = || {
            let mut csv = csv::Writer::from_path(dir.join(file))?;
            rows.iter().try_for_each(|row| csv.write_record(row))?;
            Ok(csv.flush()?)
        };
        write().map_err(|error: csv::Error| cannot(file, io::Error::other(error)))?;
    }
    Ok(())
}

/// Whether `dir` holds such a plan; a plan.json that cannot be read is none, and others say why.
pub fn is_one(dir: &Path) -> bool {
    is_kind(&fs::read(dir.join(PLAN_JSON)).unwrap_or_default())
}

/// Whether the text of a plan.json is that of such a plan.
pub fn is_kind(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Kind {
        kind: Option<String>,
    }
    serde_json::from_slice::<Kind>(text).is_ok_and(|plan| plan.kind.as_deref() == Some(KIND))
}

/// Reads plan.json and assignments.csv back.
///
/// # Errors
/// `Unreadable`, or every problem of the files.
pub fn read(dir: &Path) -> Result<(OptionsPlanJson, Vec<AssignedRow>), Problems> {
    let path = dir.join(PLAN_JSON);
    let text = fs::read(&path).map_err(|source| Problems::Unreadable { file: path.clone(), source })?;
    let mut problems = Collector::new(&path);
    let plan: OptionsPlanJson = match serde_json::from_slice(&text) {
        Ok(plan) => plan,
        Err(error) => {
            problems.add(format!("line {}, column {}", error.line(), error.column()), error.to_string(), REMEDY);
            return problems.fail();
        }
    };
    if plan.schema_version != SCHEMA_VERSION {
        let what = format!("version {} of the plan format; this jouleplan reads {SCHEMA_VERSION}", plan.schema_version);
        problems.add("schema_version", what, "make the plan again with this version of jouleplan");
    }
    problems.finish(())?;
    let mut table = Table::open(&dir.join(ASSIGNMENTS_CSV))?;
    let [class, option, requests, energy, busy] = ASSIGNMENTS_HEADER.map(|name| table.require(name));
    let mut rows = Vec::new();
    while let Some(mut row) = table.next_row() {
        let names = (row.required_text(class), row.required_text(option));
        let requests = row.required_number(requests, 0.0, 1e15).filter(|requests| requests.fract() == 0.0);
        let figures = (row.required_number(energy, f64::MIN, f64::MAX), row.required_number(busy, f64::MIN, f64::MAX));
        if let ((Some(class), Some(option)), Some(requests), (Some(energy_j), Some(busy_s))) =
            (names, requests, figures)
        {
            rows.push(AssignedRow { class, option, requests: requests as u64, energy_j, busy_s });
        } else {
            row.problem(0, "the row does not say who is served where", REMEDY);
        }
    }
    Ok((plan, table.finish(rows)?))
}

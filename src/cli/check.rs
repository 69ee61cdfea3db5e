//! `check`: the independent verdict on a plan directory, from the inputs it was made from.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::exit::{CHECK_FAILED, Failure};
use super::inputs::Inputs;
use super::output::Output;
use super::plan_options;
use super::recorded::Recorded;
use crate::check::{CheckInput, Report, check, check_option_plan};
use crate::formats::{options_plan, plan_dir};
use crate::report::claims::{of_directory, of_option_plan};
use crate::report::text::{count, energy, plain};

/// Verify a plan from first principles
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Plan directory
    dir: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Other files than those plan.json names.
#[derive(Debug, Default, clap::Args)]
pub struct Overrides {
    /// Models files instead of those the plan was made from
    #[arg(long, num_args = 1..)]
    pub models: Vec<PathBuf>,
    /// Cluster file instead of the one the plan was made from
    #[arg(long)]
    pub cluster: Option<PathBuf>,
    /// Workload files instead of those the plan was made from
    #[arg(long, num_args = 1..)]
    pub workload: Vec<PathBuf>,
    /// Jobs file instead of the one the plan was made from
    #[arg(long)]
    pub jobs: Option<PathBuf>,
    /// Accuracy table instead of the one the plan was made from
    #[arg(long)]
    pub accuracy: Option<PathBuf>,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    if options_plan::is_one(&arguments.dir) {
        return run_options(arguments, output);
    }
    let directory = plan_dir::read(&arguments.dir)?;
    let recorded = Recorded::new(&directory, &arguments.overrides)?;
    let Inputs { models, cluster, assembled, accuracy, .. } = recorded.read()?;
    let workload = &assembled.workload;
    let claims = of_directory(&directory, &cluster, &workload.requests);
    let report =
        check(&CheckInput { workload, cluster: &cluster, models: &models, accuracy: &accuracy, plan: &claims });
    let telemetry = Telemetry::of(&recorded);
    if arguments.json {
        output.json(&to_json(&report, &telemetry))?;
    } else {
        output.data(text(&report, &telemetry).as_bytes())?;
    }
    if report.is_valid() && telemetry.differences.is_empty() {
        return Ok(());
    }
    let violations = report.violation_count() + telemetry.differences.len();
    let message = format!("the check found {}", count(violations as u64, "violation"));
    Err(Failure { code: CHECK_FAILED, message }.into())
}

/// Code of what a plan says of current power against its telemetry: a rule beside those of the plan itself.
const TELEMETRY: &str = "C-TELEMETRY";

/// Whether what a plan says of current power follows from its telemetry.
#[derive(Default)]
struct Telemetry {
    differences: Vec<String>,
    /// `true` where they were compared; absent where there is none.
    compared: Option<bool>,
    why_not: Option<String>,
}

impl Telemetry {
    fn of(recorded: &Recorded) -> Self {
        match recorded.adjustment_differences() {
            Ok(None) => Self::default(),
            Ok(Some(differences)) => Self { differences, compared: Some(true), why_not: None },
            Err(why) => Self { compared: Some(false), why_not: Some(format!("{why:#}")), ..Self::default() },
        }
    }
}

/// A plan made from an options CSV.
fn run_options(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let (plan, rows) = options_plan::read(&arguments.dir)?;
    let report = check_option_plan(&plan_options::recorded(&plan)?, &of_option_plan(&plan, &rows));
    let violations = report.violations.len() + report.omitted;
    if arguments.json {
        let listed: Vec<Value> = report
            .violations
            .iter()
            .map(|found| json!({"rule": found.rule.code(), "subject": found.subject, "detail": found.detail}))
            .collect();
        output.json(&json!({
            "valid": report.is_valid(),
            "violations": listed,
            "violation_count": violations,
            "objective_j": report.objective,
            "price_bound_j": report.price_bound,
            "requests": report.requests,
        }))?;
    } else {
        let mut text: String = report.violations.iter().map(|found| plain(&found.to_string()) + "\n").collect();
        let verdict = if report.is_valid() { "valid" } else { "INVALID" };
        let (requests, objective) = (count(report.requests, "request"), energy(report.objective));
        let bound = energy(report.price_bound);
        text.push_str(&format!("{verdict}: {requests}, {objective} recomputed, no less than {bound} by its prices\n"));
        output.data(text.as_bytes())?;
    }
    if report.is_valid() {
        return Ok(());
    }
    let message = format!("the check found {}", count(violations as u64, "violation"));
    Err(Failure { code: CHECK_FAILED, message }.into())
}

fn text(report: &Report, telemetry: &Telemetry) -> String {
    let totals = &report.totals;
    let mut text = String::new();
    for violation in &report.violations {
        text.push_str(&format!("{}\n", plain(&violation.to_string())));
    }
    for difference in &telemetry.differences {
        text.push_str(&format!("{TELEMETRY} plan: {}\n", plain(difference)));
    }
    if let Some(why) = &telemetry.why_not {
        text.push_str(&format!("power_adjustment was taken as it is, for its telemetry is no more: {}\n", plain(why)));
    }
    for (rule, count) in &report.omitted {
        text.push_str(&format!("{rule}: {count} more\n"));
    }
    text.push_str(&format!(
        "{}: {} on {} and {}, {} recomputed\n",
        if report.is_valid() && telemetry.differences.is_empty() { "valid" } else { "INVALID" },
        count(totals.requests as u64, "request"),
        count(totals.instances as u64, "instance"),
        count(totals.nodes_used as u64, "node"),
        energy(totals.objective.0)
    ));
    text
}

fn to_json(report: &Report, telemetry: &Telemetry) -> Value {
    let totals = &report.totals;
    let mut violations: Vec<Value> = report
        .violations
        .iter()
        .map(|found| json!({"rule": found.rule.code(), "subject": found.subject, "detail": found.detail}))
        .collect();
    let differences = telemetry.differences.iter();
    violations.extend(differences.map(|found| json!({"rule": TELEMETRY, "subject": "plan", "detail": found})));
    let omitted: serde_json::Map<String, Value> =
        report.omitted.iter().map(|(rule, count)| (rule.code().to_owned(), json!(count))).collect();
    let jobs: Vec<Value> = totals
        .jobs
        .iter()
        .map(|job| {
            json!({
                "job": job.job,
                "requests": job.requests,
                "finish_s": job.finish.map(|time| time.0),
                "mean_accuracy": job.mean_accuracy,
                "energy_j": job.energy.0,
            })
        })
        .collect();
    let energy: serde_json::Map<String, Value> =
        totals.energy.named().into_iter().map(|(name, joules)| (name.to_owned(), json!(joules.0))).collect();
    let mut value = json!({
        "valid": report.is_valid() && telemetry.differences.is_empty(),
        "violations": violations,
        "violations_omitted": omitted,
        "violation_count": report.violation_count() + telemetry.differences.len(),
        "objective_j": totals.objective.0,
        "energy": energy,
        "requests": totals.requests,
        "instances": totals.instances,
        "nodes_used": totals.nodes_used,
        "makespan_s": totals.makespan.0,
        "jobs": jobs,
    });
    if let Some(object) = value.as_object_mut() {
        object.extend(totals.weighted.map(|objective| ("objective".to_owned(), json!(objective))));
        object.extend(telemetry.compared.map(|compared| ("telemetry_compared".to_owned(), json!(compared))));
    }
    value
}

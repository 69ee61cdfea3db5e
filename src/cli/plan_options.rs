//! `plan --options`: a plan from a table of what requests cost where, without models, cluster or deadline.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::exit::{Failure, INFEASIBLE};
use super::output::Output;
use super::progress::Line;
use crate::check::check_option_plan;
use crate::domain::OptionTable;
use crate::formats::options_csv;
use crate::formats::options_plan::{self, AssignedRow, KIND, OptionUse, OptionsPlanJson};
use crate::formats::plan_json::{GapParts, Input, Run, SCHEMA_VERSION, Status};
use crate::formats::write::{DirectoryWriter, check_target, sha256_file};
use crate::plan::Settings;
use crate::plan::generalised_assignment::{Assigned, Outcome, solve};
use crate::report::claims::of_option_plan;
use crate::report::text::{count, energy, percent, plain};

/// What of the command line matters here.
pub struct Request<'a> {
    pub options: &'a Path,
    pub out: &'a Path,
    pub gap: f64,
    pub time_limit: Duration,
    pub seed: u64,
    pub start: SystemTime,
    pub json: bool,
}

pub fn run(request: &Request<'_>, output: &Output) -> anyhow::Result<()> {
    let started = Instant::now();
    let line = Line::new(output.quiet);
    line.say("reading");
    let table = options_csv::read(request.options)?;
    let sha256 = sha256_file(request.options)?;
    check_target(request.out)?;
    let settings = Settings { gap: request.gap, time_limit: request.time_limit, baselines: false };
    let outcome = solve(&table, &settings, request.seed, &mut |progress| line.show(&progress))?;
    let run = || Run {
        jouleplan: env!("CARGO_PKG_VERSION").to_owned(),
        start: humantime::format_rfc3339_seconds(request.start).to_string(),
        wall_s: started.elapsed().as_secs_f64(),
        peak_rss_mib: super::plan::peak_rss_mib(),
    };
    let assigned = match outcome {
        Outcome::Planned(assigned) => assigned,
        Outcome::Infeasible => {
            drop(line);
            return no_plan("infeasible", &shortage(&table), &table, &run(), request, output);
        }
        Outcome::Unknown => {
            drop(line);
            let why = "neither an assignment within the capacities nor a proof that there is none was found; give it a \
                       longer --time-limit";
            return no_plan("unknown", why, &table, &run(), request, output);
        }
    };
    let rows = rows(&table, &assigned);
    let input = Input { role: "options".to_owned(), path: request.options.display().to_string(), sha256 };
    let mut plan = plan_json(&table, &assigned, &rows, input);
    line.say("checking");
    let report = check_option_plan(&table, &of_option_plan(&plan, &rows));
    if !report.is_valid() {
        let shown: Vec<String> = report.violations.iter().take(20).map(ToString::to_string).collect();
        anyhow::bail!("the plan fails its own check, so nothing was written; please report it\n{}", shown.join("\n"));
    }
    plan.run = run();
    let directory = DirectoryWriter::create(request.out)?;
    options_plan::write(directory.path(), &plan, &rows)?;
    directory.commit()?;
    drop(line);
    if request.json {
        let mut value = serde_json::to_value(&plan)?;
        if let Some(object) = value.as_object_mut() {
            for key in ["inputs", "run"] {
                object.shift_remove(key);
            }
            object.insert("wall_s".into(), json!(plan.run.wall_s));
            object.insert("peak_rss_mib".into(), json!(plan.run.peak_rss_mib));
            object.insert("out".into(), json!(request.out));
        }
        return Ok(output.json(&value)?);
    }
    output.data(text(&plan).as_bytes())?;
    let (out, wall) = (request.out.display(), plan.run.wall_s);
    output.note(&format!("\n{out} written in {wall:.1} s: plan.json, assignments.csv, summary.csv"));
    Ok(())
}

fn rows(table: &OptionTable, assigned: &Assigned) -> Vec<AssignedRow> {
    let of_class = table.classes.iter().zip(&assigned.counts).flat_map(|(class, counts)| {
        class.choices.iter().zip(counts).filter(|(_, requests)| **requests > 0).map(|(choice, &requests)| AssignedRow {
            class: class.name.clone(),
            option: table.options[choice.option].name.clone(),
            requests,
            energy_j: requests as f64 * choice.energy,
            busy_s: requests as f64 * choice.seconds,
        })
    });
    of_class.collect()
}

fn plan_json(table: &OptionTable, assigned: &Assigned, rows: &[AssignedRow], input: Input) -> OptionsPlanJson {
    let mut options: Vec<OptionUse> = table
        .options
        .iter()
        .zip(&assigned.prices)
        .map(|(option, &price)| OptionUse {
            option: option.name.clone(),
            pool: option.pool.clone(),
            devices: option.devices,
            requests: 0,
            energy_j: 0.0,
            busy_s: 0.0,
            capacity_s: option.capacity,
            price_j_per_s: price,
        })
        .collect();
    for (class, counts) in table.classes.iter().zip(&assigned.counts) {
        for (choice, &requests) in class.choices.iter().zip(counts) {
            let used = &mut options[choice.option];
            used.requests += requests;
            used.energy_j += requests as f64 * choice.energy;
            used.busy_s += requests as f64 * choice.seconds;
        }
    }
    let objective_j: f64 = rows.iter().map(|row| row.energy_j).sum();
    let bound_j = assigned.bound.min(objective_j);
    let gap = if objective_j > 0.0 { (objective_j - bound_j) / objective_j } else { 0.0 };
    OptionsPlanJson {
        schema_version: SCHEMA_VERSION,
        kind: KIND.to_owned(),
        status: if assigned.within_gap { Status::OptimalWithinGap } else { Status::Feasible },
        objective_j,
        bound_j,
        gap,
        // Classes are not merged and nothing is placed: what remains is that requests are whole.
        gap_parts: GapParts { merging: 0.0, integer: gap, placement: 0.0 },
        bound_by: assigned.bound_by.to_owned(),
        price_bound_j: assigned.price_bound,
        requests: table.requests(),
        options,
        warnings: Vec::new(),
        inputs: vec![input],
        run: Run::default(),
    }
}

/// Why shares of requests do not fit, as far as sums show it.
fn shortage(table: &OptionTable) -> String {
    let least: f64 = table
        .classes
        .iter()
        .map(|class| class.requests as f64 * class.choices.iter().map(|c| c.seconds).fold(f64::INFINITY, f64::min))
        .sum();
    let all: Option<f64> = table.options.iter().map(|option| option.capacity).sum();
    match all {
        Some(all) if least > all => format!(
            "the requests take {least} s even where each is fastest, and the options may work {all} s in all; raise \
             capacity_s"
        ),
        _ => "the requests do not fit the capacities, even where they are divided among the options that may serve them; \
              raise capacity_s, or let more options serve"
            .to_owned(),
    }
}

fn no_plan(
    status: &str,
    why: &str,
    table: &OptionTable,
    run: &Run,
    request: &Request<'_>,
    output: &Output,
) -> anyhow::Result<()> {
    if request.json {
        output.json(&json!({
            "schema_version": SCHEMA_VERSION,
            "kind": KIND,
            "status": status,
            "reason": why,
            "requests": table.requests(),
            "wall_s": run.wall_s,
            "peak_rss_mib": run.peak_rss_mib,
            "warnings": Value::Array(Vec::new()),
        }))?;
    }
    Err(Failure { code: INFEASIBLE, message: format!("{status}: {why}") }.into())
}

fn text(plan: &OptionsPlanJson) -> String {
    let served = count(plan.requests, "request");
    let mut text = format!(
        "{} for {served}; at most {} above the least possible ({})\n",
        energy(plan.objective_j),
        percent(plan.gap),
        plan.bound_by
    );
    for used in plan.options.iter().filter(|used| used.requests > 0) {
        let limit = used.capacity_s.map_or(String::new(), |capacity| format!(" of {capacity} s"));
        let (name, requests) = (plain(&used.option), count(used.requests, "request"));
        text.push_str(&format!("{name}: {requests}, {}, {:.1} s{limit}\n", energy(used.energy_j), used.busy_s));
    }
    text
}

/// The options file of a plan, unchanged since.
///
/// # Errors
/// It is gone or changed, or plan.json names none.
pub fn recorded(plan: &OptionsPlanJson) -> anyhow::Result<OptionTable> {
    let Some(input) = plan.inputs.iter().find(|input| input.role == "options") else {
        return Err(Failure::bad_data("plan.json: no options file among its inputs; make the plan again"));
    };
    let path = PathBuf::from(&input.path);
    super::recorded::unchanged(&path, &input.sha256)?;
    Ok(options_csv::read(&path)?)
}

//! `make case-study`: the reference paper's case study, and beside it what a cluster changes.
//!
//! Writes strategies.csv, steps.csv and strategies.svg into a folder and prints the essence. README.md says what is in
//! them and where models, accuracies and queries come from.

mod chart;
mod cluster;
mod study;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::{Site, Step};
use jouleplan::formats::{accuracy_csv, cluster_toml, devices_toml, models_json};
use study::{Outcome, models};

pub type Failure = Box<dyn std::error::Error>;

/// Lengths that the paper's grid covers, in and out.
const MEASURED: std::ops::RangeInclusive<u32> = 8..=2048;

#[allow(dead_code)] // a test includes this file and calls `write`
fn main() -> Result<(), Failure> {
    let out = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("target/case-study"), PathBuf::from);
    print!("{}", write(&out, &[200, 500], Duration::from_secs(20))?);
    println!("strategies.csv, steps.csv and strategies.svg are in {}", out.display());
    Ok(())
}

/// The study for queues of these sizes; returns a summary in words. `time_limit` is for each of our own plans.
pub fn write(out: &Path, queues: &[usize], time_limit: Duration) -> Result<String, Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (phase, bilinear) =
        (root.join("examples/case_study/phase.json"), root.join("examples/case_study/bilinear.json"));
    let models = models(&models_json::read(&phase)?, &models_json::read(&bilinear)?).ok_or("a model is missing")?;
    let today = models_json::read(&root.join("profiles/models.json"))?;
    let site = Site {
        cluster: cluster_toml::read(&root.join("examples/cluster.toml"), &devices_toml::builtin())?.cluster,
        models: today.into_iter().filter(|family| cluster::MODELS.contains(&family.key.model.as_str())).collect(),
        accuracy: accuracy_csv::read(&root.join("profiles/accuracy.csv"))?,
        time_limit,
    };
    let queue = queue(&root.join("workloads/azure_chat_1k.csv"))?;
    let (mut outcomes, mut steps) = (Vec::new(), Vec::new());
    for &size in queues {
        let queue = queue.get(..size).ok_or("the trace is too short")?;
        outcomes.extend(study::run(&models, queue));
        steps.extend(site.run(queue)?);
    }
    fs::create_dir_all(out)?;
    write_outcomes(&out.join("strategies.csv"), &models, &outcomes)?;
    write_steps(&out.join("steps.csv"), &steps)?;
    fs::write(out.join("strategies.svg"), chart::svg(&outcomes, queues)?)?;
    Ok(summary(&outcomes, &steps))
}

/// The requests of the trace that lie within the paper's grid, in order.
fn queue(path: &Path) -> Result<Vec<(u32, u32)>, Failure> {
    let mut queue = Vec::new();
    for row in csv::Reader::from_path(path)?.deserialize() {
        let (_, input, output): (String, u32, u32) = row?;
        if MEASURED.contains(&input) && MEASURED.contains(&output) {
            queue.push((input, output));
        }
    }
    Ok(queue)
}

fn write_outcomes(path: &Path, models: &[study::Model], outcomes: &[Outcome]) -> Result<(), Failure> {
    let mut table = csv::Writer::from_path(path)?;
    let figures =
        ["queries", "strategy", "zeta", "objective", "energy_phase_j", "energy_bilinear_j", "runtime_s", "accuracy"];
    let names = models.iter().map(|model| model.phase.key.model.as_str());
    table.write_record(figures.into_iter().chain(names))?;
    for outcome in outcomes {
        let or_empty = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        let mut row = vec![outcome.queries.to_string(), outcome.strategy.clone()];
        row.extend([or_empty(outcome.zeta), or_empty(outcome.objective)]);
        row.extend([outcome.phase_j, outcome.bilinear_j, outcome.runtime_s, outcome.accuracy].map(|v| v.to_string()));
        row.extend(outcome.counts.iter().map(usize::to_string));
        table.write_record(row)?;
    }
    Ok(table.flush()?)
}

fn write_steps(path: &Path, steps: &[Step]) -> Result<(), Failure> {
    let mut table = csv::Writer::from_path(path)?;
    table.write_record([
        "queries",
        "step",
        "formulation_j",
        "objective_j",
        "active_j",
        "starts_j",
        "idle_j",
        "gap",
        "accuracy",
        "finish_s",
        "instances",
    ])?;
    for step in steps {
        let or_empty = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        table.write_record([
            step.queries.to_string(),
            step.name.to_owned(),
            or_empty(step.formulation_j),
            step.objective_j.to_string(),
            step.active_j.to_string(),
            step.starts_j.to_string(),
            step.idle_j.to_string(),
            or_empty(step.gap),
            step.accuracy.to_string(),
            step.finish_s.to_string(),
            step.instances.to_string(),
        ])?;
    }
    Ok(table.flush()?)
}

fn summary(outcomes: &[Outcome], steps: &[Step]) -> String {
    let mut text = "the paper's case study, 4 models, one query at a time without KV cache\n".to_owned();
    text.push_str("queries  strategy                                      zeta     energy  by bilinear  accuracy\n");
    for outcome in outcomes.iter().filter(|outcome| outcome.zeta.is_none_or(|zeta| [0.0, 0.5, 1.0].contains(&zeta))) {
        let zeta = outcome.zeta.map_or("-".to_owned(), |zeta| zeta.to_string());
        text.push_str(&format!(
            "{:7}  {:44}  {zeta:>4}  {:6.0} kJ  {:8.0} kJ  {:6.2} %\n",
            outcome.queries,
            outcome.strategy,
            outcome.phase_j / 1e3,
            outcome.bilinear_j / 1e3,
            outcome.accuracy
        ));
    }
    text.push_str("\nthe same queue on examples/cluster.toml, models of today, zeta 0.5\n");
    text.push_str("queries  step                                         counted      placed  accuracy  finish\n");
    for step in steps {
        let counted = step.formulation_j.map_or("-".to_owned(), |joules| format!("{:.1} kJ", joules / 1e3));
        text.push_str(&format!(
            "{:7}  {:42}  {counted:>10}  {:7.1} kJ  {:6.2} %  {:4.0} s\n",
            step.queries,
            step.name,
            step.objective_j / 1e3,
            step.accuracy,
            step.finish_s
        ));
    }
    text
}

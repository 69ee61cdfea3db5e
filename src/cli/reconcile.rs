//! `reconcile`: what a plan took against what it said.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::output::Output;
use crate::formats::{plan_dir, samples_csv};
use crate::report::text::{Table, energy, plain, time};
use crate::slurm::reconcile::{Reconciled, Sums, reconcile};
use crate::slurm::submit;

/// Compare what a plan took with what it said: joules and seconds, each instance, job and model, with causes
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Plan directory
    dir: PathBuf,
    /// Write what was measured as samples, for `fit --update`
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let opened = submit::open(&arguments.dir)?;
    let plan = plan_dir::read(&arguments.dir)?;
    let found = reconcile(&opened, &plan.plan)?;
    for note in &found.notes {
        output.note(note);
    }
    if let Some(path) = &arguments.samples {
        let mut text = Vec::new();
        samples_csv::write(&mut text, &found.samples)?;
        output.file(path, &text)?;
        output.note(&format!("{}: {} samples", path.display(), found.samples.len()));
    }
    if arguments.json {
        return Ok(output.json(&as_json(&found))?);
    }
    Ok(output.data(text(&found).as_bytes())?)
}

fn percent(factor: Option<f64>) -> String {
    factor.map_or_else(String::new, |factor| format!("{:+.0} %", 100.0 * (factor - 1.0)))
}

fn text(found: &Reconciled) -> String {
    let header = ["", ">planned", ">measured", ">off by", ">planned", ">took", ">off by", ">runs", "why"];
    let mut table = Table::new(&header);
    for row in &found.instances {
        let mark = if row.is_estimated { "~" } else { "" };
        let ratio =
            |measured: Option<f64>, planned: f64| measured.filter(|_| planned > 0.0).map(|value| value / planned);
        table.row([
            format!("{} {}", row.instance, plain(&row.model)),
            energy(row.predicted_j),
            row.measured_j.map(|joules| format!("{mark}{}", energy(joules))).unwrap_or_default(),
            percent(ratio(row.measured_j, row.predicted_j)),
            time(row.predicted_s),
            row.seconds.map(time).unwrap_or_default(),
            percent(ratio(row.seconds, row.predicted_s)),
            row.runs.to_string(),
            plain(&row.causes.join("; ")),
        ]);
    }
    let mut text = table.render(0);
    for (name, sums) in [("job", &found.jobs), ("model", &found.models), ("deployment", &found.deployments)] {
        let mut table = Table::new(&[name, ">planned", ">measured", ">joules times", ">seconds times"]);
        for (of, sums) in sums {
            let factor = |factor: Option<f64>| factor.map_or_else(String::new, |factor| format!("{factor:.3}"));
            table.row([
                plain(of),
                energy(sums.predicted_j),
                energy(sums.measured_j),
                factor(sums.energy_factor()),
                factor(sums.time_factor()),
            ]);
        }
        text = format!("{text}\n{}", table.render(0));
    }
    text
}

fn as_json(found: &Reconciled) -> Value {
    let instances: Vec<Value> = found
        .instances
        .iter()
        .map(|row| {
            json!({
                "instance": row.instance, "deployment": row.deployment, "model": row.model, "node": row.node,
                "runs": row.runs, "requests": row.requests, "answered": row.answered, "predicted_j": row.predicted_j,
                "predicted_s": row.predicted_s, "measured_j": row.measured_j, "gross_j": row.gross_j,
                "seconds": row.seconds, "estimated": row.is_estimated, "slurm_gross_j": row.slurm_gross_j,
                "slurm_seconds": row.slurm_seconds, "causes": row.causes,
            })
        })
        .collect();
    let sums = |name: &str, sums: &BTreeMap<String, Sums>| -> Vec<Value> {
        let one = |(of, sums): (&String, &Sums)| {
            json!({
                name: of, "instances": sums.instances, "predicted_j": sums.predicted_j, "measured_j": sums.measured_j,
                "predicted_s": sums.predicted_s, "measured_s": sums.measured_s, "energy_factor": sums.energy_factor(),
                "time_factor": sums.time_factor(),
            })
        };
        sums.iter().map(one).collect()
    };
    json!({
        "schema_version": 1,
        "instances": instances,
        "jobs": sums("job", &found.jobs),
        "models": sums("model", &found.models),
        "deployments": sums("deployment", &found.deployments),
        "samples": found.samples.len(),
        "notes": found.notes,
    })
}

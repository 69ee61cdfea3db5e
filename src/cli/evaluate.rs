//! `evaluate`: how far models are off on samples they were not fitted on.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::arguments::read_samples;
use super::inputs::{Gathered, append_models};
use super::output::Output;
use crate::fit::{Evaluation, evaluate};
use crate::formats::{data_sets_toml, models_json};
use crate::report::text::{Table, percent};

/// Compare models with samples
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Models files
    #[arg(long, required = true, num_args = 1)]
    models: Vec<PathBuf>,
    /// Samples CSVs; `-` is stdin
    #[arg(required = true)]
    samples: Vec<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let mut gathered = Gathered::default();
    let mut models = Vec::new();
    for path in &arguments.models {
        let read = gathered.take(models_json::read(path)).unwrap_or_default();
        gathered.take(append_models(&mut models, read, path));
    }
    gathered.finish()?;
    let (samples, _) = read_samples(&arguments.samples)?;
    let evaluation = evaluate(&models, &samples, &data_sets_toml::builtin());
    for (family, samples) in &evaluation.without_model {
        output.warn(&format!("no model of {family}, {samples} samples left out"));
    }
    if evaluation.unpredictable > 0 {
        output.warn(&format!(
            "{} samples say too little about their lengths to predict, or are at clocks the models do not reach",
            evaluation.unpredictable
        ));
    }
    if arguments.json {
        output.json(&to_json(&evaluation))?;
    } else {
        output.data(table(&evaluation).as_bytes())?;
    }
    Ok(())
}

fn table(evaluation: &Evaluation) -> String {
    let mut table =
        Table::new(&["family", ">samples", ">energy MAPE", ">runtime MAPE", ">energy bias", ">extrapolated"]);
    let share = |figure: Option<f64>| figure.map_or("-".to_owned(), percent);
    for group in &evaluation.groups {
        table.row([
            group.family.to_string(),
            group.samples.to_string(),
            share(group.energy_mape),
            share(group.runtime_mape),
            share(group.energy_bias),
            percent(group.extrapolated_share),
        ]);
    }
    table.render(0)
}

fn to_json(evaluation: &Evaluation) -> Value {
    let groups = evaluation.groups.iter().map(|group| {
        json!({
            "family": group.family.to_string(),
            "model": group.family.model,
            "device": group.family.device,
            "n": group.samples,
            "energy_mape": group.energy_mape,
            "runtime_mape": group.runtime_mape,
            "extrapolated_share": group.extrapolated_share,
            "energy_bias": group.energy_bias,
        })
    });
    let without: Vec<Value> = evaluation
        .without_model
        .iter()
        .map(|(family, samples)| json!({"family": family.to_string(), "samples": samples}))
        .collect();
    json!({
        "groups": groups.collect::<Vec<_>>(),
        "without_model": without,
        "unpredictable": evaluation.unpredictable,
    })
}

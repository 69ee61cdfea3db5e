//! `fit`: samples to models, with how good each is.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::arguments::{is_stdin, read_engines, read_samples};
use super::exit::Failure;
use super::output::Output;
use crate::domain::{FamilyKey, FamilyModel, Quality};
use crate::fit::bilinear::Published;
use crate::fit::{Context, FitReport, FormChoice, Settings, fit};
use crate::formats::write::{WriteError, write_atomic};
use crate::formats::{data_sets_toml, devices_toml, models_json};
use crate::report::fit_quality;
use crate::report::text::{Table, count, percent, plain};

/// Fit energy and runtime models to samples
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Samples CSVs; `-` is stdin
    #[arg(required = true)]
    samples: Vec<PathBuf>,
    /// Models file to write; `-` is stdout
    #[arg(long)]
    out: PathBuf,
    /// Regression form; auto takes the best of our own
    #[arg(long, value_enum, default_value_t = Form::Auto)]
    form: Form,
    /// How models are served and built, for estimates; the bundled file if absent
    #[arg(long)]
    engines: Option<PathBuf>,
    /// Seed of the cross-validation's folds
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for a quality report: a text, and charts as SVG
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    Auto,
    Phase,
    Bilinear,
}

impl From<Form> for FormChoice {
    fn from(form: Form) -> Self {
        match form {
            Form::Auto => Self::Auto,
            Form::Phase => Self::Phase,
            Form::Bilinear => Self::Bilinear,
        }
    }
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let to_stdout = is_stdin(&arguments.out);
    if to_stdout && arguments.json {
        return Err(Failure::usage("--json and --out - would both write to stdout"));
    }
    let engines = read_engines(arguments.engines.as_deref())?;
    let (samples, files) = read_samples(&arguments.samples)?;
    let (devices, data_sets) = (devices_toml::builtin(), data_sets_toml::builtin());
    let context = Context { engines: &engines, devices: &devices, data_sets: &data_sets };
    let settings = Settings { form: arguments.form.into(), seed: arguments.seed, ..Settings::default() };
    let report = fit(&samples, &context, &settings);
    for (family, why) in &report.unfitted {
        output.warn(&format!("{family} is not fitted: {why}"));
    }
    if report.families.is_empty() {
        return Err(Failure::bad_data("no family could be fitted: give samples with energies, runtimes and lengths"));
    }
    output.file(&arguments.out, models_json::write(&report.models(), &files).as_bytes())?;
    if let Some(folder) = &arguments.report {
        write_report(folder, &report)?;
    }
    if arguments.json {
        output.json(&to_json(&report))?;
    } else if !to_stdout {
        output.data(table(&report).as_bytes())?;
        notes(&report).iter().for_each(|note| output.note(&plain(note)));
        let models = count(report.families.len() as u64, "model");
        output.note(&format!("{models} from {} samples in {}", report.samples, arguments.out.display()));
    }
    Ok(())
}

fn write_report(folder: &Path, report: &FitReport) -> anyhow::Result<()> {
    let files = fit_quality::files(report)?;
    std::fs::create_dir_all(folder).map_err(|source| WriteError::Cannot { path: folder.to_owned(), source })?;
    for file in files {
        write_atomic(&folder.join(file.name), file.content.as_bytes())?;
    }
    Ok(())
}

fn table(report: &FitReport) -> String {
    let mut table =
        Table::new(&["family", "form", ">samples", ">energy CV", ">runtime CV", ">energy R2", ">bilinear energy CV"]);
    let share = |figure: Option<f64>| figure.map_or("-".to_owned(), percent);
    for family in &report.families {
        let FamilyModel { key, form, energy_quality, runtime_quality, .. } = &family.model;
        table.row([
            key.to_string(),
            form.as_str().to_owned(),
            match (energy_quality.samples, runtime_quality.samples) {
                (energy, runtime) if energy == runtime => energy.to_string(),
                (energy, runtime) => format!("{energy} energy, {runtime} runtime"),
            },
            share(energy_quality.cv_mape),
            share(runtime_quality.cv_mape),
            energy_quality.r2.map_or("-".to_owned(), |r2| format!("{r2:.4}")),
            share(family.bilinear.as_ref().and_then(|published| published.energy.fitted.quality.cv_mape)),
        ]);
    }
    table.render(0)
}

/// What to know of the families, each remark once: most are the same for all families of a source.
fn notes(report: &FitReport) -> Vec<String> {
    let mut families: Vec<(&str, Vec<&FamilyKey>)> = Vec::new();
    for family in &report.families {
        for note in &family.notes {
            match families.iter_mut().find(|(known, _)| known == note) {
                Some((_, keys)) => keys.push(&family.model.key),
                None => families.push((note, vec![&family.model.key])),
            }
        }
    }
    let line = |(note, keys): (&str, Vec<&FamilyKey>)| match keys[..] {
        [key] => format!("{key}: {note}"),
        [first, ..] => format!("{} families, for example {first}: {note}", keys.len()),
        [] => note.to_owned(),
    };
    families.into_iter().map(line).collect()
}

fn to_json(report: &FitReport) -> Value {
    let models = report.families.iter().map(|family| {
        let model = &family.model;
        let points: Vec<Value> = model
            .batch_points
            .iter()
            .map(|point| json!({"max_num_seqs": point.max_num_seqs, "batch_size": point.batch_size}))
            .collect();
        json!({
            "family": model.key.to_string(),
            "model": model.key.model,
            "device": model.key.device,
            "operating_point": operating_point(&model.key, points),
            "energy": quality(model.form.as_str(), &model.energy_quality),
            "runtime": quality(model.form.as_str(), &model.runtime_quality),
            "bilinear": family.bilinear.as_ref().map(|Published { energy, runtime }| {
                json!({"energy": quality("bilinear", &energy.fitted.quality), "runtime": quality("bilinear", &runtime.fitted.quality)})
            }),
            "notes": family.notes,
        })
    });
    let unfitted: Vec<Value> =
        report.unfitted.iter().map(|(family, why)| json!({"family": family.to_string(), "reason": why})).collect();
    json!({
        "models": models.collect::<Vec<_>>(),
        "unfitted": unfitted,
        "samples": report.samples,
        "warmups": report.warmups,
    })
}

fn operating_point(key: &FamilyKey, batch_points: Vec<Value>) -> Value {
    json!({
        "devices": key.devices,
        "tensor_parallel": key.parallel.tensor,
        "expert_parallel": key.parallel.expert,
        "data_parallel": key.parallel.data,
        "pipeline_parallel": key.parallel.pipeline,
        "batch_points": batch_points,
    })
}

fn quality(form: &str, quality: &Quality) -> Value {
    let Quality { samples, r2, r2_uncentred, cv_mape, error_factors, negative_predictions } = *quality;
    json!({
        "form": form,
        "r2": r2,
        "r2_uncentred": r2_uncentred,
        "cv_mape": cv_mape,
        "error_factors_90": error_factors,
        "n": samples,
        "negative_predictions": negative_predictions,
    })
}

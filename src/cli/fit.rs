//! `fit`: samples to models, with how good each is; families nobody measured, and what to measure next.

mod cross_validation;
mod suggest;
mod transfer;
mod update;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::{Value, json};

use self::cross_validation::Cv;
use super::arguments::{is_stdin, read_engines, read_samples};
use super::exit::Failure;
use super::output::Output;
use crate::domain::{FamilyKey, FamilyModel, Quality};
use crate::fit::bilinear::Published;
use crate::fit::cross_validate::{FamilyErrors, cross_validate};
use crate::fit::outliers::{Compared, Outlier, OutlierKind};
use crate::fit::transfer::Transferred;
use crate::fit::{Context, FitReport, FormChoice, Settings, fit};
use crate::formats::write::{WriteError, write_atomic};
use crate::formats::{data_sets_toml, devices_toml, models_json};
use crate::report::fit_quality;
use crate::report::text::{Table, count, percent, plain};
use crate::units::Watts;

/// Fit energy and runtime models to samples
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Samples CSVs; `-` is stdin
    #[arg(required_unless_present = "suggest")]
    samples: Vec<PathBuf>,
    /// Models file to write; `-` is stdout
    #[arg(long, required_unless_present = "suggest")]
    out: Option<PathBuf>,
    /// Correct the models of this file, --out's if none is named, by what runs of them took (`reconcile --samples`): a
    /// factor on net energy and one on time for each family that the samples are of; families it lacks are fitted
    #[arg(long, value_name = "MODELS", num_args = 0..=1, require_equals = true, requires = "out",
        conflicts_with_all = ["cv", "transfer", "suggest", "report"])]
    update: Option<Option<PathBuf>>,
    /// Regression form; auto takes the best of our own
    #[arg(long, value_enum, default_value_t = Form::Auto)]
    form: Form,
    /// Show how well families are predicted without what is left out; kfold in --json if absent
    #[arg(long, value_enum, requires = "out")]
    cv: Option<Cv>,
    /// Also estimate this family, which nobody measured, from those that were: MODEL[:PRECISION]@DEVICE[xN]
    #[arg(long, value_name = "FAMILY", value_parser = transfer::target, requires = "out")]
    transfer: Vec<transfer::Target>,
    /// Name the cells most worth measuring next, for each family; without samples, for a new one
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = suggest::DEFAULT_CELLS,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    suggest: Option<u32>,
    #[command(flatten)]
    grid: suggest::GridArguments,
    /// How models are served and built, for estimates; the bundled file if absent
    #[arg(long)]
    engines: Option<PathBuf>,
    /// What one device draws while it serves, for families without measured energy: plans show it as estimated
    #[arg(long, value_name = "DEVICE=WATTS", value_parser = assumed_power, requires = "out")]
    assume_power: Vec<(String, Watts)>,
    /// Seed of the cross-validation's folds and of resampled intervals
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for a quality report: a text, and charts as SVG
    #[arg(long, value_name = "DIR", requires = "out")]
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
    let to_stdout = arguments.out.as_deref().is_some_and(is_stdin);
    if to_stdout && (arguments.json || arguments.suggest.is_some() || arguments.cv.is_some()) {
        return Err(Failure::usage(
            "two results would both go to stdout: give --out a file, or leave out --json, --suggest and --cv",
        ));
    }
    let engines = read_engines(arguments.engines.as_deref())?;
    let (samples, files) = read_samples(&arguments.samples)?;
    let suggestions = match arguments.suggest {
        Some(count) => arguments.grid.suggest(&samples, count as usize).map_err(Failure::usage)?,
        None => Vec::new(),
    };
    let (devices, data_sets) = (devices_toml::builtin(), data_sets_toml::builtin());
    let context =
        Context { engines: &engines, devices: &devices, data_sets: &data_sets, assumed_power: &arguments.assume_power };
    let settings = Settings { form: arguments.form.into(), seed: arguments.seed, ..Settings::default() };
    let Some(out) = &arguments.out else { return suggest_only(arguments, output, &suggestions) };
    if let Some(base) = &arguments.update {
        return update::run(arguments, out, base.as_deref(), (&samples, files), (&context, &settings), output);
    }
    let report = fit(&samples, &context, &settings);
    for (family, why) in &report.unfitted {
        output.warn(&format!("{family} is not fitted: {why}"));
    }
    if report.families.is_empty() {
        return Err(Failure::bad_data("no family could be fitted: give samples with runtimes and lengths"));
    }
    let mut models = report.models();
    let transferred = transfer::estimate(&arguments.transfer, &models, &context)
        .map_err(|problems| Failure::bad_data(problems.join("\n")))?;
    models.extend(transferred.iter().map(|family| family.model.clone()));
    let mode = arguments.cv.unwrap_or(Cv::Kfold).into();
    let errors = cross_validate(&samples, &report, &context, &settings, mode);
    output.file(out, models_json::write(&models, &files).as_bytes())?;
    if let Some(folder) = &arguments.report {
        write_report(folder, &report)?;
    }
    if arguments.json {
        let mut json = to_json(&report, &transferred);
        json["cv"] = cross_validation::to_json(mode, &errors);
        if arguments.suggest.is_some() {
            json["suggest"] = suggest::to_json(&suggestions);
        }
        output.json(&json)?;
    } else if !to_stdout {
        output.data(tables(arguments, &report, &errors, &suggestions).as_bytes())?;
        if arguments.cv.is_some() && errors.is_empty() {
            output
                .note("nothing could be left out: give more samples, batch sizes or families of one engine generation");
        }
        notes(&report).iter().for_each(|note| output.note(&plain(note)));
        transferred.iter().for_each(|family| output.note(&plain(&transfer::note(family))));
        suggest::notes(&suggestions).iter().for_each(|note| output.note(&plain(note)));
        let written = count(models.len() as u64, "model");
        output.note(&format!("{written} from {} samples in {}", report.samples, out.display()));
    }
    Ok(())
}

fn assumed_power(text: &str) -> Result<(String, Watts), String> {
    let (device, watts) = text.rsplit_once('=').ok_or("expected DEVICE=WATTS")?;
    let positive = |watts: &f64| *watts > 0.0 && *watts <= 1e6;
    let watts = watts.parse().ok().filter(positive).ok_or_else(|| format!("`{watts}` is no power in watts"))?;
    if device.trim().is_empty() { Err("DEVICE is empty".to_owned()) } else { Ok((device.to_owned(), Watts(watts))) }
}

fn write_report(folder: &Path, report: &FitReport) -> anyhow::Result<()> {
    let files = fit_quality::files(report)?;
    std::fs::create_dir_all(folder).map_err(|source| WriteError::Cannot { path: folder.to_owned(), source })?;
    for file in files {
        write_atomic(&folder.join(file.name), file.content.as_bytes())?;
    }
    Ok(())
}

/// Without --out nothing is fitted.
fn suggest_only(arguments: &Arguments, output: &Output, suggestions: &[suggest::Suggestion]) -> anyhow::Result<()> {
    if arguments.json {
        output.json(&json!({"suggest": suggest::to_json(suggestions)}))?;
    } else {
        output.data(suggest::table(suggestions).as_bytes())?;
        suggest::notes(suggestions).iter().for_each(|note| output.note(&plain(note)));
    }
    Ok(())
}

/// The quality of the fits, then what else was asked for.
fn tables(
    arguments: &Arguments,
    report: &FitReport,
    errors: &[FamilyErrors],
    suggestions: &[suggest::Suggestion],
) -> String {
    let mut tables = vec![table(report)];
    if arguments.cv.is_some() {
        tables.push(cross_validation::table(errors));
    }
    if arguments.suggest.is_some() {
        tables.push(suggest::table(suggestions));
    }
    tables.join("\n")
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

fn to_json(report: &FitReport, transferred: &[Transferred]) -> Value {
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
            "outliers": family.outliers.iter().map(outlier).collect::<Vec<_>>(),
            "notes": family.notes,
        })
    });
    let unfitted: Vec<Value> =
        report.unfitted.iter().map(|(family, why)| json!({"family": family.to_string(), "reason": why})).collect();
    json!({
        "models": models.collect::<Vec<_>>(),
        "transferred": transferred.iter().map(transfer::to_json).collect::<Vec<_>>(),
        "unfitted": unfitted,
        "samples": report.samples,
        "warmups": report.warmups,
    })
}

/// `sample` counts from 1, over all files.
fn outlier(outlier: &Outlier) -> Value {
    let pair = |compared: Option<Compared>| compared.map(|c| json!({"measured": c.measured, "expected": c.expected}));
    json!({
        "sample": outlier.sample.saturating_add(1),
        "cold_start": outlier.kind == OutlierKind::ColdStart,
        "input_tokens": outlier.input_tokens,
        "output_tokens": outlier.output_tokens,
        "batch_size": outlier.batch_size,
        "trial": outlier.trial,
        "energy_j": pair(outlier.energy),
        "runtime_s": pair(outlier.runtime),
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

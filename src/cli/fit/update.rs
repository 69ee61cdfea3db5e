//! `fit --update`: models of a file corrected by runs of them, usually those that `reconcile --samples` wrote down.

use std::path::Path;

use serde_json::{Value, json};

use super::super::arguments::is_stdin;
use super::super::exit::Failure;
use super::super::inputs::Gathered;
use super::super::output::Output;
use super::{Arguments, notes, to_json};
use crate::domain::Sample;
use crate::fit::update::{PointFactors, UpdateReport, update};
use crate::fit::{Context, Settings};
use crate::formats::models_json::{self, SampleFile};
use crate::report::text::{Table, count, plain};

/// Reads the models of `base`, corrects them and writes `--out`.
pub fn run(
    arguments: &Arguments,
    out: &Path,
    base: Option<&Path>,
    (samples, files): (&[Sample], Vec<SampleFile>),
    (context, settings): (&Context<'_>, &Settings),
    output: &Output,
) -> anyhow::Result<()> {
    let base = base.unwrap_or(out);
    if is_stdin(base) {
        return Err(Failure::usage(
            "there are no models at `-` to update: give --out a models file, or --update=MODELS the one to start from",
        ));
    }
    let mut gathered = Gathered::default();
    let read = gathered.take(models_json::read_with_samples(base));
    gathered.finish()?;
    let (models, mut sources) = read.unwrap_or_default();
    let report = update(&models, samples, context, settings);
    let refused = report.refused.iter().map(|(family, why)| format!("{family} is not corrected: {why}"));
    let unfitted = report
        .fitted
        .unfitted
        .iter()
        .map(|(family, why)| format!("{family} is not in {} and is not fitted: {why}", base.display()));
    let left: Vec<String> = refused.chain(unfitted).collect();
    if report.corrected.is_empty() && report.fitted.families.is_empty() {
        let why = if left.is_empty() { "there are no samples but warm-ups".to_owned() } else { left.join("\n") };
        return Err(Failure::bad_data(format!("nothing is updated:\n{why}")));
    }
    left.iter().for_each(|line| output.warn(line));
    sources.extend(files);
    sources.dedup();
    output.file(out, models_json::write(&report.models, &sources).as_bytes())?;
    if arguments.json {
        return Ok(output.json(&as_json(&report))?);
    }
    if is_stdin(out) {
        return Ok(());
    }
    output.data(table(&report).as_bytes())?;
    for family in &report.corrected {
        family.notes.iter().for_each(|note| output.note(&plain(&format!("{}: {note}", family.family))));
    }
    notes(&report.fitted).iter().for_each(|note| output.note(&plain(note)));
    output.note(&format!(
        "{} corrected, {} new, {} as they were in {}",
        count(report.corrected.len() as u64, "model"),
        report.fitted.families.len(),
        models.len() - report.corrected.len(),
        out.display()
    ));
    Ok(())
}

fn table(report: &UpdateReport) -> String {
    let mut table = Table::new(&["family", "operating point", ">samples", ">net joules times", ">seconds times"]);
    let factor = |factor: f64| format!("{factor:.3}");
    for family in &report.corrected {
        let by = family.by;
        table.row([
            family.family.to_string(),
            String::new(),
            by.samples.to_string(),
            factor(by.net_energy),
            factor(by.time),
        ]);
        for point in &family.points {
            let samples = point.samples.to_string();
            table.row([String::new(), name(point), samples, factor(point.net_energy), factor(point.time)]);
        }
    }
    for family in &report.fitted.families {
        let samples = family.model.energy_quality.samples.to_string();
        table.row([family.model.key.to_string(), "new".to_owned(), samples, String::new(), String::new()]);
    }
    table.render(0)
}

fn name(point: &PointFactors) -> String {
    let cap = point.max_num_seqs.map(|cap| format!("batch cap {cap}"));
    let clock = point.sm_clock_mhz.map(|clock| format!("{clock} MHz"));
    cap.into_iter().chain(clock).collect::<Vec<_>>().join(", ")
}

fn as_json(report: &UpdateReport) -> Value {
    let corrected = report.corrected.iter().map(|family| {
        let points = family.points.iter().map(|point| {
            json!({
                "max_num_seqs": point.max_num_seqs, "sm_clock_mhz": point.sm_clock_mhz, "n": point.samples,
                "net_energy_factor": point.net_energy, "time_factor": point.time,
            })
        });
        json!({
            "family": family.family.to_string(),
            "model": family.family.model,
            "device": family.family.device,
            "n": family.by.samples,
            "net_energy_factor": family.by.net_energy,
            "time_factor": family.by.time,
            "operating_points": points.collect::<Vec<_>>(),
            "notes": family.notes,
        })
    });
    let refused = report.refused.iter().map(|(family, why)| json!({"family": family.to_string(), "reason": why}));
    let mut json = to_json(&report.fitted, &[]);
    json["updated"] = corrected.collect();
    json["refused"] = refused.collect();
    json["warmups"] = json!(report.warmups);
    json
}

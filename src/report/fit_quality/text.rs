//! The text of the quality report: per family its errors, coefficients with intervals, the published form with its
//! analysis of variance, the samples missed by most, and the remarks of the fit.

use std::fmt::Write;

use crate::domain::{Feature, Quality, Term};
use crate::fit::bilinear::{Published, Target};
use crate::fit::cells::{Cell, Comparison};
use crate::fit::{FitReport, FittedFamily};
use crate::report::text::{Table, count, percent, plain};
use crate::stats::{Anova, Summary};

/// Samples listed of each family.
const WORST: usize = 5;

const LEGEND: &str = "\
Energies are gross joules, runtimes instance-seconds, both per request. In the names of terms: i input tokens, o output
tokens, b mean running batch, S1 = sum over k < o of (i + k), S1>n the same of what exceeds n, sum over k < o of
max(0, i + k - n); o(b) is a table over measured batches. Intervals hold a fitted coefficient with 95 %, its form taken as
given: by Student's t where a standard error stands beside them, else by
resampling, since a coefficient is not allowed below 0. A table has none. Ranges belong to estimated coefficients. Errors
are those of cross-validation: each sample is predicted by a model fitted without it. The factors that 90 % of measurements
lie between leave out the smallest and largest batch where only the batch varies: plans stay between them.
";

/// The report; `charts` names the chart of each family.
pub fn text(report: &FitReport, charts: &[String]) -> String {
    let mut text = format!(
        "{} fitted on {}, of which {} were warm-ups and not used\n\n{LEGEND}",
        count(report.families.len() as u64, "family"),
        count(report.samples as u64, "sample"),
        report.warmups
    );
    for (family, chart) in report.families.iter().zip(charts) {
        section(&mut text, family, chart);
    }
    if !report.unfitted.is_empty() {
        text.push_str("\nNot fitted\n");
        for (key, why) in &report.unfitted {
            line(&mut text, &format!("{key}: {why}"));
        }
    }
    text
}

/// A line of its own, indented; what stands in file names and data sets is shown and not obeyed.
fn line(text: &mut String, content: &str) {
    text.push_str("  ");
    text.push_str(&plain(content));
    text.push('\n');
}

fn section(text: &mut String, family: &FittedFamily, chart: &str) {
    let model = &family.model;
    let name = plain(&model.key.to_string());
    let _ = write!(text, "\n{name}\n{}\n", "-".repeat(name.chars().count()));
    line(text, &format!("form {}; charts in {chart}", model.form.as_str()));
    for data_set in data_sets(&family.cells) {
        line(text, &data_set);
    }
    text.push('\n');
    let targets =
        [("energy", &model.energy_quality, &model.energy), ("runtime", &model.runtime_quality, &model.runtime)];
    let mut scores =
        Table::new(&["", ">samples", ">R2", ">R2 uncentred", ">CV MAPE", ">90 % of measured / predicted", ">negative"]);
    for (target, quality, _) in targets {
        scores.row(scored(target, quality));
    }
    text.push_str(&scores.render(2));
    for (target, _, terms) in targets {
        let _ = write!(text, "\n  {target}\n");
        text.push_str(&coefficients(terms));
    }
    if let Some(Published { energy, runtime }) = &family.bilinear {
        for (target, published) in [("energy", energy), ("runtime", runtime)] {
            bilinear(text, target, published);
        }
    }
    worst(text, &family.cells);
    if !family.notes.is_empty() {
        text.push_str("\n  remarks\n");
        family.notes.iter().for_each(|note| line(text, &format!("  {note}")));
    }
}

/// `40 samples of mlenergy_v3/lm-arena-chat`
fn data_sets(cells: &[Cell]) -> Vec<String> {
    let mut counts = std::collections::BTreeMap::<&str, u64>::new();
    for cell in cells {
        *counts.entry(&cell.data_set).or_default() += 1;
    }
    let name = |name: &str| if name.is_empty() { "an unnamed data set".to_owned() } else { name.to_owned() };
    counts.into_iter().map(|(set, samples)| format!("{} of {}", count(samples, "sample"), name(set))).collect()
}

fn scored(target: &str, quality: &Quality) -> [String; 7] {
    let Quality { samples, r2, r2_uncentred, cv_mape, error_factors, negative_predictions } = *quality;
    let four = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.4}"));
    [
        target.to_owned(),
        samples.to_string(),
        four(r2),
        four(r2_uncentred),
        cv_mape.map_or(String::new(), percent),
        error_factors.map_or(String::new(), |(low, high)| format!("{low:.3} .. {high:.3}")),
        negative_predictions.to_string(),
    ]
}

fn coefficients(terms: &[Term]) -> String {
    let mut table =
        Table::new(&["term", ">coefficient", ">95 % interval", ">standard error", ">estimated range", "provenance"]);
    for term in terms {
        let range = (term.low != term.high).then_some((term.low, term.high));
        table.row([
            match &term.feature {
                Feature::ContextAbove(tokens) => format!("S1>{tokens}"),
                feature => feature.name().to_owned(),
            },
            figure(term.value),
            term.interval.map_or(String::new(), interval),
            term.standard_error.map_or(String::new(), figure),
            range.map_or(String::new(), interval),
            term.provenance.to_string(),
        ]);
    }
    table.render(4)
}

fn bilinear(text: &mut String, target: &str, published: &Target) {
    let _ = write!(text, "\n  {target} by the published form, a*i + b*o + c*i*o (arXiv 2407.04014)\n");
    let Quality { cv_mape, negative_predictions, .. } = published.fitted.quality;
    if let Some(error) = cv_mape {
        let below_zero = count(negative_predictions as u64, "prediction");
        line(text, &format!("  CV MAPE {}, {below_zero} below 0", percent(error)));
    }
    if let Some(summary) = &published.summary {
        regression(text, &published.fitted.terms, summary);
    }
    for (anova, with) in [(&published.anova, "as published"), (&published.anova_with_intercept, "with an intercept")] {
        if let Some(anova) = anova {
            let _ = writeln!(text, "    analysis of variance, type II, {with}");
            text.push_str(&variance(anova));
        }
    }
}

fn regression(text: &mut String, terms: &[Term], summary: &Summary) {
    let mut table = Table::new(&["term", ">coefficient", ">standard error", ">t", ">p", ">95 % interval"]);
    for (term, coefficient) in terms.iter().zip(&summary.coefficients) {
        table.row([
            term.feature.name().to_owned(),
            figure(coefficient.value),
            figure(coefficient.standard_error),
            format!("{:.2}", coefficient.t),
            coefficient.p.map_or(String::new(), probability),
            term.interval.map_or(String::new(), interval),
        ]);
    }
    text.push_str(&table.render(4));
    let r2 = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    let (centred, uncentred) = (r2(summary.r2_centred), r2(summary.r2_uncentred));
    let f = summary.f.as_ref().map_or(String::new(), |test| {
        let p = test.p.map_or(String::new(), |p| format!(", p {}", probability(p)));
        format!("; F({}, {}) = {}{p}", test.numerator_df, test.denominator_df, figure(test.f))
    });
    line(text, &format!("  R2 {centred}, uncentred {uncentred}{f}"));
}

fn variance(anova: &Anova) -> String {
    let mut table = Table::new(&["term", ">df", ">sum of squares", ">F", ">p"]);
    for term in &anova.terms {
        table.row([
            term.name.clone(),
            term.test.numerator_df.to_string(),
            figure(term.sum_of_squares),
            figure(term.test.f),
            term.test.p.map_or(String::new(), probability),
        ]);
    }
    let residual = figure(anova.residual_sum_of_squares);
    table.row(["residual".into(), anova.residual_df.to_string(), residual, String::new(), String::new()]);
    table.render(6)
}

/// The samples that cross-validation misses by most.
fn worst(text: &mut String, cells: &[Cell]) {
    let miss = |of: Option<Comparison>| of.map_or(0.0, |comparison| comparison.relative_error().abs());
    let mut missed: Vec<&Cell> = cells.iter().filter(|cell| cell.energy.is_some() || cell.runtime.is_some()).collect();
    missed.sort_by(|a, b| miss(b.energy).max(miss(b.runtime)).total_cmp(&miss(a.energy).max(miss(a.runtime))));
    if missed.is_empty() {
        return;
    }
    text.push_str("\n  missed by most\n");
    let error = |of: Option<Comparison>| of.map_or(String::new(), |comparison| percent(comparison.relative_error()));
    let measured = |of: Option<Comparison>| of.map_or(String::new(), |comparison| figure(comparison.measured));
    let mut table = Table::new(&[
        ">i",
        ">o",
        ">b",
        ">energy J",
        ">predicted off by",
        ">runtime s",
        ">predicted off by",
        "data set",
    ]);
    for cell in missed.into_iter().take(WORST) {
        table.row([
            cell.input.map_or("-".to_owned(), figure),
            figure(cell.output),
            figure(cell.batch),
            measured(cell.energy),
            error(cell.energy),
            measured(cell.runtime),
            error(cell.runtime),
            cell.data_set.clone(),
        ]);
    }
    text.push_str(&table.render(4));
}

fn interval((low, high): (f64, f64)) -> String {
    format!("{} .. {}", figure(low), figure(high))
}

/// Four digits.
fn figure(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !(1e-3..1e6).contains(&value.abs()) {
        return format!("{value:.3e}");
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    format!("{value:.digits$}")
}

fn probability(p: f64) -> String {
    if p < 1e-4 { format!("{p:.1e}") } else { format!("{p:.4}") }
}

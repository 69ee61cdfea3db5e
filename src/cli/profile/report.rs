//! What a study says while it runs, and at its end.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::output::Output;
use super::super::progress::Line;
use super::arguments::StudyArguments;
use crate::formats::profile_journal::Past;
use crate::measure::profile::stopping::LEVEL;
use crate::measure::profile::{CellReport, News, Report, Standing, Study, Verdict, Watch};
use crate::report::text::{Table, count, percent, time};
use crate::stats::Interval;
use crate::units::Watts;

/// What the paper of this method (arXiv 2407.04014) runs at most in every cell.
const FIXED_TRIALS: usize = 25;

/// A line on a terminal; a note for each cell that is done and each failure everywhere.
pub struct Progress<'a> {
    output: &'a Output,
    line: Line,
    cells: usize,
    ci: f64,
    latest: String,
}

impl<'a> Progress<'a> {
    pub fn new(output: &'a Output, cells: usize, ci: f64) -> Self {
        Self { output, line: Line::new(output.quiet), cells, ci, latest: String::new() }
    }
}

impl Watch for Progress<'_> {
    fn tell(&mut self, news: News<'_>, done: usize, left: Option<Duration>) {
        let doing = match news {
            News::CoolingDown => "cooling down".to_owned(),
            News::Begins(cell) => format!("measuring {cell}"),
            News::Trial(report) => {
                self.latest = format!("; {} {}", report.cell, intervals(&report.standing, self.ci));
                if let Some(verdict) = report.standing.verdict {
                    let trials = count(u64::from(report.standing.trials), "trial");
                    let figures = intervals(&report.standing, self.ci);
                    self.note(&format!("{}: {} after {trials}, {figures}", report.cell, words(verdict)));
                }
                return;
            }
            News::Failed(report) => {
                let why = report.last_failure.as_deref().unwrap_or_default();
                self.note(&format!("{}: failed: {why}", report.cell));
                if report.standing.verdict == Some(Verdict::GivenUp) {
                    self.note(&format!("{}: given up", report.cell));
                }
                return;
            }
        };
        let left = left.map_or(String::new(), |left| format!(", {} left", time(left.as_secs_f64())));
        self.line.say(&format!("{done}/{} cells{left}: {doing}{}", self.cells, self.latest));
    }
}

impl Progress<'_> {
    fn note(&self, text: &str) {
        self.line.above(|| self.output.note(&crate::report::text::plain(text)));
    }
}

fn intervals(standing: &Standing, ci: f64) -> String {
    let one = |name: &str, interval: Option<Interval>| {
        interval.map(|interval| format!("{name} ±{}", percent(interval.relative())))
    };
    let known: Vec<String> =
        one("energy", standing.energy).into_iter().chain(one("runtime", standing.runtime)).collect();
    if known.is_empty() {
        return format!("{} so far", count(u64::from(standing.trials), "trial"));
    }
    format!("{} of ±{}", known.join(", "), percent(ci))
}

fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Converged => "done",
        Verdict::MaxTrials => "at the most trials",
        Verdict::GivenUp => "given up",
        Verdict::OutOfTime => "out of time",
    }
}

/// The end of a study.
pub struct Summary<'a> {
    pub arguments: &'a StudyArguments,
    pub study: &'a Study,
    pub past: &'a Past,
    pub report: &'a Report,
    pub idle_power: Option<Watts>,
}

impl Summary<'_> {
    /// Trials of all cells, those of earlier runs among them.
    pub fn trials(&self) -> u32 {
        self.report.cells.iter().map(|cell| cell.standing.trials).sum()
    }

    pub fn say(&self, output: &Output) -> anyhow::Result<()> {
        for cell in self.report.cells.iter().filter(|cell| !cell.failed.is_empty()) {
            let kinds: Vec<String> = cell.failed.iter().map(|(kind, number)| format!("{number} {kind}")).collect();
            let last = cell.last_failure.as_deref().unwrap_or_default();
            output.warn(&format!(
                "{}: failed trials, none of them kept: {}; the last: {last}",
                cell.cell,
                kinds.join(", ")
            ));
        }
        if self.report.warm_starts > 0 {
            output.warn(&format!(
                "{} began before the device was idle again; give it longer with --cool-down",
                count(u64::from(self.report.warm_starts), "trial")
            ));
        }
        for warning in &self.report.warnings {
            output.warn(warning);
        }
        if self.arguments.json {
            return Ok(output.json(&self.json())?);
        }
        output.data(self.table().as_bytes())?;
        let measured = self.report.cells.iter().filter(|cell| cell.standing.trials > 0).count();
        output.note(&format!(
            "{} in {} (a fixed {FIXED_TRIALS} would be {}), in {}",
            count(u64::from(self.trials()), "trial"),
            count(measured as u64, "cell"),
            measured * FIXED_TRIALS,
            self.arguments.out.display()
        ));
        Ok(())
    }

    fn table(&self) -> String {
        let header = [
            ">input",
            ">output",
            ">batch",
            ">MHz",
            ">trials",
            ">outliers",
            ">J/request",
            ">±",
            ">s/request",
            ">±",
            ">failed",
            "state",
        ];
        let mut table = Table::new(&header);
        for CellReport { cell, standing, failed, .. } in &self.report.cells {
            let [energy, runtime] = [standing.energy, standing.runtime].map(|interval| {
                let mean = interval.map_or(String::new(), |interval| format!("{:.4}", interval.mean));
                (mean, interval.map_or(String::new(), |interval| percent(interval.relative())))
            });
            table.row([
                cell.input_tokens.to_string(),
                cell.output_tokens.to_string(),
                cell.batch.to_string(),
                cell.sm_clock_mhz.map_or(String::new(), |clock| clock.to_string()),
                standing.trials.to_string(),
                standing.outliers.len().to_string(),
                energy.0,
                energy.1,
                runtime.0,
                runtime.1,
                failed.values().sum::<u32>().to_string(),
                standing.verdict.map_or("open", words).to_owned(),
            ]);
        }
        table.render(0)
    }

    fn json(&self) -> Value {
        let interval = |interval: Option<Interval>| {
            interval
                .map(|found| json!({"mean": found.mean, "half_width": found.half_width, "relative": found.relative()}))
        };
        let cells = self.report.cells.iter().map(|CellReport { cell, standing, failed, last_failure }| {
            json!({
                "input_tokens": cell.input_tokens,
                "output_tokens": cell.output_tokens,
                "batch": cell.batch,
                "sm_clock_mhz": cell.sm_clock_mhz,
                "trials": standing.trials,
                "outliers": standing.outliers.len(),
                "energy_j_per_request": interval(standing.energy),
                "runtime_s_per_request": interval(standing.runtime),
                "state": standing.verdict.map_or("open", Verdict::as_str),
                "failed": failed,
                "last_failure": last_failure,
            })
        });
        let measured = self.report.cells.iter().filter(|cell| cell.standing.trials > 0).count();
        json!({
            "out": self.arguments.out,
            "cells": cells.collect::<Vec<Value>>(),
            "trials": self.trials(),
            "trials_before": self.past.samples.iter().filter(|sample| !sample.warmup).count(),
            "trials_of_fixed_25": measured * FIXED_TRIALS,
            "warm_starts": self.report.warm_starts,
            "warnings": self.report.warnings,
            "level": LEVEL,
            "ci": self.arguments.ci,
            "seed": self.study.seed,
            "idle_power_w": self.idle_power.map(|power| power.0),
            "complete": self.report.ended.is_none(),
        })
    }
}

//! `forecast evaluate`: every forecaster on every horizon, target and split.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::super::exit::Failure;
use super::super::output::Output;
use super::networks::{Networks, Teller};
use super::recordings::{Labels, read, too_little};
use crate::forecast::{Evaluation, Recording, Row, Score, Setting, evaluate};
use crate::report::forecast_chart;
use crate::report::text::{Table, percent};

/// Compare forecasters on recorded traces
///
/// Each learns from the first 70 % of every trace and is judged on the rest (chronological), and learns from some groups of
/// traces and is judged on the others (held_out).
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Telemetry CSVs, or logs of nvidia-smi, PTDaemon or Prometheus; `-` is stdin
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    networks: Networks,
    /// Parts that the groups are held out in, at most
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=100))]
    folds: u8,
    /// Draw held-out forecasts of the next 30 s with their band
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The trace to draw: the first whose name contains TEXT [default: the longest]
    #[arg(long, value_name = "TEXT", requires = "svg")]
    svg_trace: Option<String>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let recordings = read(&arguments.files, &arguments.labels, output)?;
    let shown = arguments.svg.as_ref().map(|_| shown(&recordings, arguments.svg_trace.as_deref())).transpose()?;
    let teller = Teller::new(output);
    let setting = Setting { folds: usize::from(arguments.folds), shown };
    let mut fold = 0;
    let evaluation = evaluate(&recordings, &setting, |windows| {
        fold += 1;
        arguments.networks.forecasters(windows, &teller.within(format!("fold {fold}")))
    })?;
    drop(teller);
    if evaluation.rows.is_empty() {
        return Err(too_little());
    }
    if let (Some(path), Some(shown)) = (&arguments.svg, shown) {
        if evaluation.shown.is_empty() {
            return Err(Failure::bad_data(
                "the trace to draw is in no held-out group; give traces of two groups or more",
            ));
        }
        let svg = forecast_chart::svg(&recordings[shown].name, &evaluation.shown)?;
        output.file(path, svg.as_bytes())?;
    }
    if arguments.json {
        output.json(&to_json(&evaluation))?;
    } else {
        output.data(tables(&evaluation).as_bytes())?;
    }
    Ok(())
}

fn shown(recordings: &[Recording], text: Option<&str>) -> anyhow::Result<usize> {
    let longest = || (0..recordings.len()).max_by_key(|at| (recordings[*at].steps(), usize::MAX - at));
    let found = match text {
        Some(text) => recordings.iter().position(|recording| recording.name.contains(text)),
        None => longest(),
    };
    found.ok_or_else(|| Failure::usage("--svg-trace: no trace has a name with this text in it"))
}

/// How a figure is printed.
type Figure = fn(&Score) -> String;

/// A figure of each forecaster, a row each horizon, target and split.
fn tables(evaluation: &Evaluation) -> String {
    let figures: [(&str, Figure); 3] = [
        ("mean absolute error, W", |score| format!("{:.2}", score.mae_w)),
        ("root mean squared error, W", |score| format!("{:.2}", score.rmse_w)),
        ("true figures within the 90 % band", |score| percent(score.coverage_90)),
    ];
    let mut text = String::new();
    for (title, figure) in figures {
        let names: Vec<String> = evaluation.names.iter().map(|name| format!(">{}", name.replace('_', " "))).collect();
        let mut header = vec!["", "split", ">horizon", "target", ">windows"];
        header.extend(names.iter().map(String::as_str));
        let mut table = Table::new(&header);
        for row in &evaluation.rows {
            let mut cells = vec![
                row.kind.to_string(),
                row.split.name().replace('_', " "),
                format!("{} s", row.output.horizon.steps()),
                row.output.target.name().to_owned(),
                row.windows.to_string(),
            ];
            let scores = evaluation.names.iter().map(|name| row.scores.get(name));
            cells.extend(scores.map(|score| score.map_or(String::new(), figure)));
            table.row(cells);
        }
        text.push_str(&format!("{title}\n{}\n", table.render(0)));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn to_json(evaluation: &Evaluation) -> Value {
    let row = |row: &Row| {
        let by_name = |figure: fn(&Score) -> f64| -> Map<String, Value> {
            row.scores.iter().map(|(name, score)| (name.clone(), json!(figure(score)))).collect()
        };
        let mut object = json!({
            "horizon_s": row.output.horizon.steps(),
            "target": row.output.target.name(),
            "split": row.split.name(),
            "scope": row.kind.scope.name(),
            "device": row.kind.device,
            "windows": row.windows,
            "mae_w": by_name(|score| score.mae_w),
            "rmse_w": by_name(|score| score.rmse_w),
            "coverage_90": by_name(|score| score.coverage_90),
        });
        if let Some(fields) = object.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        object
    };
    json!({"horizons": evaluation.rows.iter().map(row).collect::<Vec<_>>()})
}

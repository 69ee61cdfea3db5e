//! `forecast predict`: the power of the next 30 s and 60 s of every channel of some telemetry.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::super::exit::Failure;
use super::super::output::Output;
use super::networks::FromFile;
use super::recordings::{Labels, read, read_logs, too_little};
use crate::domain::{Channel, Timestamp};
use crate::forecast::{Forecast, Forecaster, HISTORY, History, Method, Output as Figure, Recording, Window, learn};
use crate::formats::timestamp;

/// Forecast the mean and the point power of the next 30 s and 60 s
///
/// A channel is forecast from its last minute, which ends with its last reading, however long ago that was.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Telemetry CSV, or a log of nvidia-smi, PTDaemon or Prometheus; `-` is stdin
    file: PathBuf,
    #[command(flatten)]
    forecaster: FromFile,
    /// Traces to learn from [default: the file itself]
    #[arg(long, value_name = "FILE", num_args = 1)]
    learn: Vec<PathBuf>,
    #[command(flatten)]
    labels: Labels,
    /// Which forecaster
    #[arg(long, value_enum, default_value = "selected")]
    method: Name,
    /// Write CSV instead of JSON
    #[arg(long)]
    csv: bool,
    /// Where to write; `-` is stdout
    #[arg(long, default_value = "-")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Name {
    LastValue,
    MovingAverage,
    ExponentialAverage,
    Ridge,
    Selected,
}

impl Name {
    fn method(self) -> Method {
        match self {
            Self::LastValue => Method::LastValue,
            Self::MovingAverage => Method::MovingAverage,
            Self::ExponentialAverage => Method::ExponentialAverage,
            Self::Ridge => Method::Ridge,
            Self::Selected => Method::Selected,
        }
    }
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let mut channels = Vec::new();
    for (name, imported) in read_logs(std::slice::from_ref(&arguments.file), output)? {
        for (channel, readings) in &imported.trace.channels {
            let kind = arguments.labels.kind(&name, channel);
            channels.push((channel.clone(), Recording::new(channel.to_string(), name.clone(), kind, readings)));
        }
    }
    let forecaster = match arguments.forecaster.read()? {
        Some(forecaster) => forecaster,
        None => learned(arguments, &channels, output)?,
    };
    let predictions = predict(forecaster.as_ref(), &channels, output);
    if predictions.is_empty() {
        return Err(Failure::bad_data(format!("no channel ends with {HISTORY} s without a gap; record some more")));
    }
    let bytes = if arguments.csv {
        to_csv(&predictions)?
    } else {
        let text = serde_json::to_string_pretty(&to_json(forecaster.name(), &predictions))?;
        format!("{text}\n").into_bytes()
    };
    output.file(&arguments.out, &bytes)
}

fn learned(
    arguments: &Arguments,
    channels: &[(Channel, Recording)],
    output: &Output,
) -> anyhow::Result<Box<dyn Forecaster>> {
    let traces = if arguments.learn.is_empty() {
        channels.iter().map(|(_, recording)| recording.clone()).collect()
    } else {
        read(&arguments.learn, &arguments.labels, output)?
    };
    let windows: Vec<Window<'_>> = traces.iter().flat_map(Recording::windows).collect();
    if windows.is_empty() {
        return Err(too_little());
    }
    Ok(Box::new(learn(arguments.method.method(), &windows)))
}

/// Of one channel, from its last reading on.
struct Prediction<'a> {
    channel: &'a Channel,
    at: Timestamp,
    forecast: Forecast,
}

fn predict<'a>(
    forecaster: &dyn Forecaster,
    channels: &'a [(Channel, Recording)],
    output: &Output,
) -> Vec<Prediction<'a>> {
    let mut ready = Vec::new();
    for (channel, recording) in channels {
        match recording.latest() {
            Some((at, history)) => ready.push((channel, at, history)),
            None => output.warn(&format!("{channel}: its last {HISTORY} s are not all known, not forecast")),
        }
    }
    let histories: Vec<History<'_>> = ready.iter().map(|(_, _, history)| *history).collect();
    let forecasts = forecaster.forecast(&histories);
    let mut predictions = Vec::new();
    for ((channel, at, history), forecast) in ready.into_iter().zip(forecasts) {
        match forecast {
            Some(forecast) => predictions.push(Prediction { channel, at, forecast }),
            None => output.warn(&format!(
                "{channel}: nothing was learned about a {}, not forecast; --device says of what type it is",
                history.kind()
            )),
        }
    }
    predictions
}

fn to_json(name: &str, predictions: &[Prediction<'_>]) -> Value {
    let rows = predictions.iter().flat_map(|prediction| {
        Figure::ALL.map(|figure| {
            let quantiles = prediction.forecast.of(figure);
            let mut object = json!({
                "node": prediction.channel.node,
                "scope": prediction.channel.scope.name(),
                "device_index": prediction.channel.index,
                "from": timestamp::format(prediction.at),
                "horizon_s": figure.horizon.steps(),
                "target": figure.target.name(),
                "p5_w": quantiles.p5.0,
                "p50_w": quantiles.p50.0,
                "p95_w": quantiles.p95.0,
            });
            if let Some(fields) = object.as_object_mut() {
                fields.retain(|_, value| !value.is_null());
            }
            object
        })
    });
    json!({"schema_version": 1, "forecaster": name, "forecasts": rows.collect::<Vec<_>>()})
}

fn to_csv(predictions: &[Prediction<'_>]) -> anyhow::Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    let header = ["node", "scope", "device_index", "from", "horizon_s", "target", "p5_w", "p50_w", "p95_w"];
    csv.write_record(header)?;
    for prediction in predictions {
        for figure in Figure::ALL {
            let quantiles = prediction.forecast.of(figure);
            csv.write_record([
                prediction.channel.node.clone().unwrap_or_default(),
                prediction.channel.scope.name().to_owned(),
                prediction.channel.index.map_or_else(String::new, |index| index.to_string()),
                timestamp::format(prediction.at),
                figure.horizon.steps().to_string(),
                figure.target.name().to_owned(),
                quantiles.p5.0.to_string(),
                quantiles.p50.0.to_string(),
                quantiles.p95.0.to_string(),
            ])?;
        }
    }
    Ok(csv.into_inner()?)
}

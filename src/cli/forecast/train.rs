//! `forecast train`: a forecaster with networks, as a safetensors file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::super::arguments::is_stdin;
use super::super::exit::Failure;
use super::super::output::Output;
use super::networks::{Given, Teller, family};
use super::recordings::{Labels, read, too_little};
use crate::forecast::network::file::{Origin, Source, to_bytes};
use crate::forecast::network::{Errors, Family, Progress, Studied, Trained, Training, Validation, train};
use crate::forecast::{Kind, Output as OutputOf, Recording, Window};
use crate::formats::write::sha256_file;
use crate::report::text::{Table, percent};

/// Train a forecaster on recorded traces
///
/// A network for each kind of channel learns what averages miss. How long it is trained, and how far it is believed
/// afterwards, is decided on groups of traces left out in turn; where nothing is gained the averages remain.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Telemetry CSVs, or logs of nvidia-smi, PTDaemon or Prometheus
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    labels: Labels,
    /// gru, lstm, transformer, s4d or spiking
    #[arg(long, default_value = "gru", value_parser = family)]
    network: Family,
    /// Numbers that a network remembers a history by, even
    #[arg(long, default_value_t = Training::default().hidden as u16, value_parser = width)]
    hidden: u16,
    /// Passes over the windows, at most
    #[arg(long, default_value_t = Training::default().most_epochs as u16, value_parser = clap::value_parser!(u16).range(1..))]
    epochs: u16,
    /// Passes without a gain on the traces left out after which training stops
    #[arg(long, default_value_t = Training::default().patience as u16, value_parser = clap::value_parser!(u16).range(1..))]
    patience: u16,
    /// Where the weights and the order of the windows come from
    #[arg(long, default_value_t = Training::default().seed)]
    seed: u64,
    #[command(flatten)]
    given: Given,
    /// The forecaster to write, as safetensors
    #[arg(long)]
    out: PathBuf,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

fn width(text: &str) -> Result<u16, String> {
    let width = text.parse().ok().filter(|width| (2..=1024).contains(width) && width % 2 == 0);
    width.ok_or_else(|| "an even number from 2 to 1024".to_owned())
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    if is_stdin(&arguments.out) {
        return Err(Failure::usage("--out: the forecaster is no text; name a file"));
    }
    if arguments.files.iter().any(|path| is_stdin(path)) {
        return Err(Failure::usage("stdin has no name to remember; name the files to train on"));
    }
    let recordings = read(&arguments.files, &arguments.labels, output)?;
    let windows: Vec<Window<'_>> = recordings.iter().flat_map(Recording::windows).collect();
    if windows.is_empty() {
        return Err(too_little());
    }
    let training = Training {
        seed: arguments.seed,
        hidden: usize::from(arguments.hidden),
        most_epochs: usize::from(arguments.epochs),
        patience: usize::from(arguments.patience),
        inputs: arguments.given.inputs(),
        ..Training::default()
    };
    let (teller, begun) = (Teller::new(output), Instant::now());
    let tell = |kind: &Kind, progress: Progress| teller.progress(arguments.network, kind, progress);
    let Studied { selected, validation, .. } = train(arguments.network, &windows, &training, &tell)?;
    drop(teller);
    let origin = Origin::new(arguments.network, &training, sources(&arguments.files)?);
    output.file(&arguments.out, &to_bytes(&selected, &origin)?)?;
    let wall_s = begun.elapsed().as_secs_f64();
    if arguments.json {
        output.json(&to_json(&selected, &validation, &windows, &origin, wall_s))?;
    } else {
        output.data(table(&selected, &windows).as_bytes())?;
    }
    Ok(())
}

fn sources(paths: &[PathBuf]) -> anyhow::Result<Vec<Source>> {
    let one = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Source { name, sha256: sha256_file(path)? })
    };
    paths.iter().map(one).collect()
}

fn count(windows: &[Window<'_>], kind: &Kind) -> usize {
    windows.iter().filter(|window| window.history.kind() == kind).count()
}

fn table(trained: &Trained, windows: &[Window<'_>]) -> String {
    let shares = OutputOf::ALL.map(|of| format!(">{} {} s", of.target.name(), of.horizon.steps()));
    let mut header = vec!["share of the network", ">windows", ">epochs"];
    header.extend(shares.iter().map(String::as_str));
    let mut table = Table::new(&header);
    for kind in trained.kinds() {
        let epochs =
            trained.networks().find(|(of, _)| *of == kind).map_or(String::new(), |(_, epochs)| epochs.to_string());
        let mut cells = vec![kind.to_string(), count(windows, kind).to_string(), epochs];
        cells.extend(trained.network_shares(kind).map(percent));
        table.row(cells);
    }
    table.render(0)
}

/// By output.
fn shares(trained: &Trained, kind: &Kind) -> Value {
    let of = |(output, share): (OutputOf, f64)| json!({"horizon_s": output.horizon.steps(), "target": output.target.name(), "share": share});
    OutputOf::ALL.into_iter().zip(trained.network_shares(kind)).map(of).collect()
}

/// By output, of groups of traces and of the ends of traces left out.
fn validation_mae(validation: &Validation) -> Value {
    let of = |output: OutputOf| {
        let mae = |errors: &Errors| {
            let at = output.index();
            json!({"averages": errors.averages_w[at], "network": errors.network_w[at]})
        };
        json!({
            "horizon_s": output.horizon.steps(),
            "target": output.target.name(),
            "groups_mae_w": mae(&validation.groups),
            "later_mae_w": mae(&validation.later),
        })
    };
    OutputOf::ALL.into_iter().map(of).collect()
}

fn to_json(
    trained: &Trained,
    validation: &BTreeMap<Kind, Validation>,
    windows: &[Window<'_>],
    origin: &Origin,
    wall_s: f64,
) -> Value {
    let kind = |kind: &Kind| {
        let mut object = json!({
            "scope": kind.scope.name(),
            "device": kind.device,
            "windows": count(windows, kind),
            "epochs": trained.networks().find(|(of, _)| *of == kind).map(|(_, epochs)| epochs),
            "network_shares": shares(trained, kind),
            "validation": validation.get(kind).map(validation_mae),
        });
        if let Some(fields) = object.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        object
    };
    json!({
        "schema_version": 1,
        "network": origin.family,
        "seed": origin.seed,
        "kinds": trained.kinds().map(kind).collect::<Vec<_>>(),
        "wall_s": wall_s,
    })
}

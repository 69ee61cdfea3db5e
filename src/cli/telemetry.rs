//! `telemetry`: power over time, recorded here or taken from the logs of others.

mod import;
mod record;

use clap::Subcommand;
use serde_json::{Value, json};

use super::output::Output;
use crate::domain::Channel;
use crate::report::text::{Table, energy, time};
use crate::telemetry::Totals;

/// Record the power of this node, or turn logs of power into one format
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Record(record::Arguments),
    Import(import::Arguments),
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    match &arguments.action {
        Action::Record(arguments) => record::run(arguments, output),
        Action::Import(arguments) => import::run(arguments, output),
    }
}

/// What each channel drew, as people read it. Unknown figures are empty.
fn table(totals: &[(Channel, Totals)]) -> String {
    let header = ["", ">rows", ">time", ">mean W", ">max W", ">energy", ">gaps", ">time in gaps"];
    let mut table = Table::new(&header);
    for (channel, of) in totals {
        let watts =
            |power: Option<crate::units::Watts>| power.map_or_else(String::new, |power| format!("{:.1}", power.0));
        table.row([
            channel.to_string(),
            of.rows.to_string(),
            time(of.covered.0),
            watts(of.mean_power),
            watts(of.max_power),
            of.energy.map_or_else(String::new, |joules| energy(joules.0)),
            of.gaps.len().to_string(),
            if of.gaps.is_empty() { String::new() } else { time(of.missing().0) },
        ]);
    }
    table.render(0)
}

/// As `table`, for programs. Unknown figures are absent.
fn as_json(totals: &[(Channel, Totals)]) -> Value {
    let one = |(channel, of): &(Channel, Totals)| {
        let mut object = json!({
            "node": channel.node,
            "scope": channel.scope.name(),
            "device_index": channel.index,
            "rows": of.rows,
            "rows_without_power": of.rows_without_power,
            "seconds": of.covered.0,
            "mean_power_w": of.mean_power.map(|power| power.0),
            "max_power_w": of.max_power.map(|power| power.0),
            "energy_j": of.energy.map(|energy| energy.0),
            "gaps": of.gaps.len(),
            "gap_s": of.missing().0,
        });
        if let Some(fields) = object.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        object
    };
    totals.iter().map(one).collect()
}

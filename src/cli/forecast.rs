//! `forecast`: the power of the next minute, and how far forecasters are off.

mod evaluate;
mod predict;
mod recordings;

use clap::Subcommand;

use super::output::Output;

/// Forecast power from telemetry, or compare forecasters on recorded traces
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Evaluate(evaluate::Arguments),
    Predict(predict::Arguments),
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    match &arguments.action {
        Action::Evaluate(arguments) => evaluate::run(arguments, output),
        Action::Predict(arguments) => predict::run(arguments, output),
    }
}

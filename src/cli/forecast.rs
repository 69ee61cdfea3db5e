//! `forecast`: the power of the next minute, and how far forecasters are off.

mod evaluate;
pub mod networks;
mod predict;
mod recordings;
#[cfg(feature = "networks")]
mod train;

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
    #[cfg(feature = "networks")]
    Train(train::Arguments),
    Evaluate(evaluate::Arguments),
    Predict(predict::Arguments),
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    match &arguments.action {
        #[cfg(feature = "networks")]
        Action::Train(arguments) => train::run(arguments, output),
        Action::Evaluate(arguments) => evaluate::run(arguments, output),
        Action::Predict(arguments) => predict::run(arguments, output),
    }
}

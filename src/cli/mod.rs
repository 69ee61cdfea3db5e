//! The command line: one file per verb, and the only place that prints or exits.
//!
//! Data go to stdout, everything else to stderr; `--json` puts exactly one JSON object on stdout. A reader that closes the
//! pipe early is content: that is exit 0. Flags are parsed into low-level arguments by clap, which each verb turns into the
//! library's own types before any work begins.

mod arguments;
mod check;
mod collect;
mod completions;
mod doctor;
mod evaluate;
mod exit;
mod explain;
mod fit;
mod forecast;
mod import;
mod incumbent;
mod inputs;
mod inventory;
mod man;
mod meter;
mod output;
mod plan;
mod plan_options;
mod profile;
mod progress;
mod reconcile;
mod recorded;
mod schema;
mod status;
mod submit;
mod telemetry;
mod zeta;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::output::Output;

/// An offline, energy-optimal planner for batch LLM inference on heterogeneous clusters.
#[derive(Debug, Parser)]
#[command(name = "jouleplan", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// Say nothing but results and errors
    #[arg(long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 unexpected, 2 usage, 3 infeasible or unknown, 4 check failed, 65 bad data,\n\
                          66 missing input, 69 no meter, 73 cannot write, 77 permission denied.";

#[derive(Debug, Subcommand)]
enum Verb {
    Import(import::Arguments),
    Fit(fit::Arguments),
    Evaluate(evaluate::Arguments),
    Plan(Box<plan::Arguments>),
    Check(check::Arguments),
    Explain(explain::Arguments),
    Inventory(inventory::Arguments),
    Submit(submit::Arguments),
    Status(status::Arguments),
    Cancel(submit::Cancel),
    Collect(collect::Arguments),
    Reconcile(reconcile::Arguments),
    Meter(meter::Arguments),
    Profile(Box<profile::Arguments>),
    Doctor(doctor::Arguments),
    Telemetry(telemetry::Arguments),
    Forecast(forecast::Arguments),
    Schema(schema::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

/// Runs the program on its own arguments.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` come this way too; a closed pipe is no error for them either.
            let _ = error.print();
            return exit::exit_code(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE));
        }
    };
    let output = Output { quiet: cli.quiet };
    let done = match cli.verb {
        Verb::Import(arguments) => import::run(&arguments, &output),
        Verb::Fit(arguments) => fit::run(&arguments, &output),
        Verb::Evaluate(arguments) => evaluate::run(&arguments, &output),
        Verb::Plan(arguments) => plan::run(&arguments, &output),
        Verb::Check(arguments) => check::run(&arguments, &output),
        Verb::Explain(arguments) => explain::run(&arguments, &output),
        Verb::Inventory(arguments) => inventory::run(&arguments, &output),
        Verb::Submit(arguments) => submit::run(&arguments, &output),
        Verb::Status(arguments) => status::run(&arguments, &output),
        Verb::Collect(arguments) => collect::run(&arguments, &output),
        Verb::Reconcile(arguments) => reconcile::run(&arguments, &output),
        Verb::Cancel(arguments) => submit::cancel(&arguments, &output),
        Verb::Meter(arguments) => meter::run(&arguments, &output),
        Verb::Profile(arguments) => profile::run(&arguments, &output),
        Verb::Doctor(arguments) => doctor::run(&arguments, &output),
        Verb::Telemetry(arguments) => telemetry::run(&arguments, &output),
        Verb::Forecast(arguments) => forecast::run(&arguments, &output),
        Verb::Schema(arguments) => schema::run(&arguments, &output),
        Verb::Completions(arguments) => completions::run(&arguments, &output),
        Verb::Man(arguments) => man::run(&arguments, &output),
    };
    match done {
        Ok(()) => exit::exit_code(exit::DONE),
        Err(error) => {
            let code = exit::code_of(&error);
            if code != exit::DONE {
                output.error(&error);
            }
            exit::exit_code(code)
        }
    }
}

//! `completions`: for the shell, from the same definitions as the command line itself.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use super::output::Output;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "jouleplan", &mut script);
    Ok(output.data(&script)?)
}

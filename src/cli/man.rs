//! `man`: the manual page, from the same definitions as the command line itself.

use clap::CommandFactory;

use super::Cli;
use super::exit::Failure;
use super::output::Output;

/// Print the manual page of jouleplan or of one verb
#[derive(Debug, clap::Args)]
pub struct Arguments {
    verb: Option<String>,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let command = Cli::command();
    let command = match &arguments.verb {
        None => command,
        Some(verb) => command
            .find_subcommand(verb)
            .cloned()
            .ok_or_else(|| Failure::usage(format!("there is no verb `{verb}`; see jouleplan --help")))?,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(output.data(&page)?)
}

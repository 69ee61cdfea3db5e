//! `submit`, `cancel`: a plan's jobs on their way into Slurm and out of it, or run here.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::ValueEnum;
use serde_json::json;

use super::exit::{Failure, UNEXPECTED};
use super::output::Output;
use crate::slurm::submit::{self, Opened, Placement, Prepared, Request, local};

/// Hand a plan to Slurm; a dry run unless --yes
///
/// Every script goes through `sbatch --test-only` first. What is answered, or with Slurm already, is not submitted again.
/// Jobs meter themselves with this program, which must be on storage that the nodes share; the environment variable
/// JOULEPLAN_BIN names another one.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Plan directory
    dir: PathBuf,
    /// Submit; without it Slurm is asked whether it could run the plan
    #[arg(long)]
    yes: bool,
    /// Submit what was submitted before and has neither answers nor a living job
    #[arg(long)]
    resume: bool,
    /// Run the plan on this machine, without Slurm
    #[arg(long)]
    local: bool,
    /// On the nodes the plan chose, or on any of their pool
    #[arg(long, value_enum, default_value_t = Where::Node)]
    placement: Where,
    /// Let no other job on the nodes
    #[arg(long)]
    exclusive: bool,
    /// Do not let Slurm drop jobs that cannot end by their deadline
    #[arg(long)]
    no_deadline: bool,
    /// Do not wait for the plan's times, only for what uses the same devices before
    #[arg(long)]
    asap: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Where {
    Node,
    Pool,
}

/// End the jobs of a plan that Slurm has
#[derive(Debug, clap::Args)]
pub struct Cancel {
    /// Plan directory
    dir: PathBuf,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let opened = submit::open(&arguments.dir)?;
    let request = Request {
        placement: match arguments.placement {
            Where::Node => Placement::Node,
            Where::Pool => Placement::Pool,
        },
        exclusive: arguments.exclusive,
        deadlines: !arguments.no_deadline,
        asap: arguments.asap,
        program: program()?,
    };
    if arguments.local {
        return run_here(arguments, &opened, &request, output);
    }
    if opened.submission.is_some() && !arguments.resume {
        let alive = opened.queued()?.values().filter(|job| job.is_alive()).count();
        output.note(&format!(
            "{} was submitted before and Slurm has {alive} jobs of it: nothing to do; --resume submits what is neither answered \
             nor alive",
            opened.dir.display()
        ));
        return tell(arguments, &Prepared { alive, ..Prepared::default() }, false, output);
    }
    let now = SystemTime::now();
    let prepared = submit::prepare(&opened, &request, now)?;
    submit::test(&opened, &prepared, &request)?;
    if arguments.yes {
        submit::submit(&opened, &prepared, &request, now)?;
    }
    tell(arguments, &prepared, arguments.yes, output)
}

/// The program that jobs run: this one, unless the environment names one that runs on the nodes.
fn program() -> anyhow::Result<PathBuf> {
    match std::env::var_os("JOULEPLAN_BIN").filter(|value| !value.is_empty()) {
        Some(path) => Ok(PathBuf::from(path)),
        None => Ok(std::env::current_exe()?),
    }
}

fn tell(arguments: &Arguments, prepared: &Prepared<'_>, done: bool, output: &Output) -> anyhow::Result<()> {
    let arrays = prepared.batches.iter().filter(|batch| batch.is_array()).count();
    if arguments.json {
        return Ok(output.json(&json!({
            "schema_version": 1, "submitted": done, "instances": prepared.instances(), "jobs": prepared.batches.len(),
            "arrays": arrays, "cancelled": prepared.cancel.len(), "alive": prepared.alive, "complete": prepared.complete,
        }))?);
    }
    let mut text = String::new();
    for batch in &prepared.batches {
        let tasks = batch.tasks.len();
        let nodes = match &batch.tasks[..] {
            [one] => one.node.clone().unwrap_or_else(|| "any node of its pool".to_owned()),
            _ => format!("array of {tasks}"),
        };
        text.push_str(&format!("{}  {nodes}\n", batch.script.file));
    }
    output.data(text.as_bytes())?;
    let (verb, hint) = match (done, prepared.batches.is_empty()) {
        (_, true) => ("nothing to submit", ""),
        (true, false) => ("submitted", ""),
        (false, false) => ("Slurm can run it; nothing was submitted", "; --yes submits"),
    };
    output.note(&format!(
        "{verb}: {} instances in {} jobs ({arrays} arrays), {} with Slurm already, {} answered{hint}",
        prepared.instances(),
        prepared.batches.len(),
        prepared.alive,
        prepared.complete
    ));
    Ok(())
}

fn run_here(arguments: &Arguments, opened: &Opened, request: &Request, output: &Output) -> anyhow::Result<()> {
    if !arguments.yes {
        let text =
            format!("{} instances would run on this machine; --yes runs them", opened.scripts.instances().count());
        output.note(&text);
        return Ok(());
    }
    let ended = local::run(opened, request, &mut |ended| {
        let how = ended.code.map_or_else(|| "was ended by a signal".to_owned(), |code| format!("ended with {code}"));
        output.note(&format!("{} {how}", ended.instance));
    })?;
    let failed: Vec<&str> = ended.iter().filter(|end| end.code != Some(0)).map(|end| end.instance.as_str()).collect();
    if arguments.json {
        output.json(&json!({"schema_version": 1, "instances": ended.len(), "failed": failed}))?;
    }
    if failed.is_empty() {
        return Ok(());
    }
    let message =
        format!("{} failed; results/*.local.log say why, and another run goes on with what is left", failed.join(", "));
    Err(Failure { code: UNEXPECTED, message }.into())
}

pub fn cancel(arguments: &Cancel, output: &Output) -> anyhow::Result<()> {
    let opened = submit::open(&arguments.dir)?;
    let ended = submit::cancel(&opened)?;
    output.note(&format!("{ended} jobs cancelled; `submit --resume` goes on with what has no answer"));
    Ok(())
}

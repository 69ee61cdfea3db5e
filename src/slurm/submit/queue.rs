//! What Slurm has of a submission: its jobs by the tag in their names, and nodes that take none.

use std::collections::{BTreeMap, BTreeSet};

use super::super::inventory::is_unusable;
use super::super::tools::{self, ToolError};
use crate::formats::slurm_json;

/// A job, or a task of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// `PENDING`, `RUNNING`, ...
    pub state: String,
    /// Why it waits.
    pub reason: String,
    /// As squeue prints it; local time, `N/A` where it is not known.
    pub start: String,
    pub node: String,
    pub name: String,
}

impl Queued {
    /// Whether it will run, runs, or is being ended.
    pub fn is_alive(&self) -> bool {
        [
            "PENDING",
            "RUNNING",
            "SUSPENDED",
            "CONFIGURING",
            "COMPLETING",
            "STOPPED",
            "REQUEUED",
            "SIGNALING",
            "STAGE_OUT",
        ]
        .contains(&self.state.as_str())
    }

    /// Held: by a submission that was cut short, or by Slurm after a launch that failed.
    pub fn is_held(&self) -> bool {
        self.state == "PENDING" && self.reason.to_ascii_lowercase().contains("held")
    }
}

/// The jobs of a submission that Slurm remembers, ended ones included, by id.
///
/// # Errors
/// squeue's.
pub fn jobs(user: &str, tag: &str) -> Result<BTreeMap<String, Queued>, ToolError> {
    let user = format!("--user={user}");
    let format = "--format=%F|%K|%T|%S|%N|%j|%r";
    let said = tools::run("squeue", &["--noheader", "--array", "--states=all", &user, format])?;
    let prefix = name_prefix(tag);
    let row = |line: &str| {
        let cells: Vec<&str> = line.splitn(7, '|').collect();
        let [job, task, state, start, node, name, reason] = cells[..] else { return None };
        let id = if task.chars().all(|c| c.is_ascii_digit()) { format!("{job}_{task}") } else { job.to_owned() };
        let text = |cell: &str| cell.trim().to_owned();
        let queued =
            Queued { state: text(state), reason: text(reason), start: text(start), node: text(node), name: text(name) };
        name.starts_with(&prefix).then_some((id, queued))
    };
    Ok(said.stdout.lines().filter_map(row).collect())
}

/// How the names of a submission's jobs begin.
pub fn name_prefix(tag: &str) -> String {
    format!("jp-{tag}-")
}

/// Nodes that take no new job.
///
/// # Errors
/// sinfo's.
pub fn unusable_nodes() -> Result<BTreeSet<String>, ToolError> {
    let said = tools::run("sinfo", &["--noheader", "--Node", "--format=%N|%T"])?;
    let row = |line: &str| {
        let (node, state) = line.split_once('|')?;
        is_unusable(&slurm_json::states([state.trim()])).then(|| node.trim().to_owned())
    };
    Ok(said.stdout.lines().filter_map(row).collect())
}

/// Most tasks of an array, as Slurm is configured.
pub fn most_tasks() -> usize {
    let said = tools::run("scontrol", &["show", "config"]).unwrap_or_default();
    let line = said.stdout.lines().find_map(|line| line.strip_prefix("MaxArraySize")?.split('=').nth(1));
    // One more than the largest index.
    line.and_then(|number| number.trim().parse::<usize>().ok()).unwrap_or(1001).saturating_sub(1).max(1)
}

/// Ends jobs; those that ended meanwhile are no error.
///
/// # Errors
/// That scancel cannot be run.
pub fn cancel<'a>(jobs: impl IntoIterator<Item = &'a str>) -> Result<(), ToolError> {
    let jobs: BTreeSet<&str> = jobs.into_iter().collect();
    let jobs: Vec<&str> = jobs.into_iter().collect();
    for some in jobs.chunks(200) {
        match tools::run("scancel", some) {
            Ok(_) | Err(ToolError::Failed { .. }) => {}
            Err(absent) => return Err(absent),
        }
    }
    Ok(())
}

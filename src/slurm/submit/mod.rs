//! A plan handed to Slurm: what is still to do, whether Slurm can ever run it, and then the jobs.
//!
//! Every job carries its submission's tag in its name and is on disk before the next one is handed over (`hand_over`), so a
//! submission that was cut short is found again: `resume` submits what is neither answered nor alive, elsewhere where the
//! planned node takes no jobs, and nothing twice. Alike instances go as arrays (`batch`).

mod batch;
mod hand_over;
pub mod local;
pub mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::tools::ToolError;
use super::{FOLDER, shard_state};
use crate::formats::duration::parse_instant;
use crate::formats::hostlist;
use crate::formats::job_scripts::{self, InstanceScript, JobScript, JobScripts};
use crate::formats::plan_dir::PLAN_JSON;
use crate::formats::problems::{Collector, Problems};
use crate::formats::submission::{self, Submission, Submitted};
use crate::formats::write::{WriteError, sha256_file};

pub use batch::{Batch, Task};
pub use hand_over::{submit, test};

use queue::Queued;

#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error(transparent)]
    Input(#[from] Problems),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("cannot read what {instance} has done: {source}")]
    State { instance: String, source: io::Error },
    #[error("Slurm cannot run this plan, so nothing was submitted:\n{}", refusals(.0))]
    Refused(Vec<Refusal>),
}

/// A script that Slurm will never run as it is to be submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub script: String,
    pub node: Option<String>,
    pub why: String,
}

fn refusals(refused: &[Refusal]) -> String {
    const SHOWN: usize = 20;
    let line = |refusal: &Refusal| {
        let node = refusal.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
        format!("{}{node}: {}", refusal.script, refusal.why)
    };
    let mut lines: Vec<String> = refused.iter().take(SHOWN).map(line).collect();
    if refused.len() > SHOWN {
        lines.push(format!("... and {} more", refused.len() - SHOWN));
    }
    lines.join("\n")
}

/// Where instances may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// On the nodes that the plan chose.
    #[default]
    Node,
    /// On any node of the pool.
    Pool,
}

/// What the submitter wants.
#[derive(Clone, Debug)]
pub struct Request {
    pub placement: Placement,
    /// No other job on the nodes.
    pub exclusive: bool,
    /// Tell Slurm to drop what cannot be done by its deadline.
    pub deadlines: bool,
    /// Start as soon as predecessors and nodes allow, whatever the plan's times.
    pub asap: bool,
    /// The program that jobs meter themselves with.
    pub program: PathBuf,
}

/// A plan directory with scripts, and its submission if it had one.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Absolute.
    pub dir: PathBuf,
    pub scripts: JobScripts,
    pub submission: Option<Submission>,
    /// The latest job of each instance.
    pub jobs: BTreeMap<String, Submitted>,
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub struct Prepared<'a> {
    pub batches: Vec<Batch<'a>>,
    /// Instances of which every request is answered, and those that Slurm has.
    pub complete: usize,
    pub alive: usize,
    /// Jobs that stand in the way.
    pub cancel: Vec<String>,
    /// Seconds since second 0 of the plan.
    pub elapsed: f64,
}

impl Prepared<'_> {
    pub fn instances(&self) -> usize {
        self.batches.iter().map(|batch| batch.tasks.len()).sum()
    }
}

/// Reads a plan directory that is to be submitted, or was.
///
/// # Errors
/// What is missing or damaged, and a plan that is another than the one that was submitted.
pub fn open(dir: &Path) -> Result<Opened, SubmitError> {
    let unreadable = |source| Problems::Unreadable { file: dir.to_owned(), source };
    let dir = std::fs::canonicalize(dir).map_err(unreadable)?;
    let scripts = job_scripts::read(&dir.join(FOLDER).join(job_scripts::FILE))?;
    let submission = submission::read(&dir)?;
    if let Some(submission) = &submission
        && sha256_file(&dir.join(PLAN_JSON))? != submission.plan_sha256
    {
        let mut problems = Collector::new(&dir.join(PLAN_JSON));
        problems.add("", "it changed since it was submitted", "put the old plan back, or submit the new one elsewhere");
        return Err(problems.into_error().into());
    }
    let jobs = submission::read_jobs(&dir)?;
    Ok(Opened { dir, scripts, submission, jobs })
}

impl Opened {
    /// Seconds since second 0 of the plan; 0 before it was submitted.
    pub fn elapsed(&self, now: SystemTime) -> f64 {
        let zero = self.submission.as_ref().and_then(|submission| parse_instant(&submission.second_zero).ok());
        zero.and_then(|zero| now.duration_since(zero).ok()).map_or(0.0, |since| since.as_secs_f64())
    }

    /// What Slurm has of this submission.
    ///
    /// # Errors
    /// squeue's.
    pub fn queued(&self) -> Result<BTreeMap<String, Queued>, ToolError> {
        match &self.submission {
            Some(submission) => queue::jobs(&submission.user, &submission.tag),
            None => Ok(BTreeMap::new()),
        }
    }

    /// How far an instance is.
    ///
    /// # Errors
    /// Shards or answers that cannot be read.
    pub fn state(&self, instance: &InstanceScript) -> Result<shard_state::ShardState, SubmitError> {
        shard_state::of(&self.dir, instance)
            .map_err(|source| SubmitError::State { instance: instance.instance.clone(), source })
    }
}

/// What is neither answered nor with Slurm.
///
/// # Errors
/// Slurm's tools; answers that cannot be read.
pub fn prepare<'a>(opened: &'a Opened, request: &Request, now: SystemTime) -> Result<Prepared<'a>, SubmitError> {
    let queued = opened.queued()?;
    let again = opened.submission.is_some();
    let unusable = if again { queue::unusable_nodes()? } else { BTreeSet::new() };
    let mut prepared = Prepared { elapsed: opened.elapsed(now), ..Prepared::default() };
    let mut waiting: BTreeSet<&str> = BTreeSet::new();
    let mut wanted: Vec<(&JobScript, usize, Option<String>)> = Vec::new();
    for script in &opened.scripts.scripts {
        let elsewhere =
            hostlist::expand(&script.nodes).is_ok_and(|nodes| nodes.iter().any(|node| !unusable.contains(node)));
        for (index, instance) in script.instances.iter().enumerate() {
            if opened.state(instance)?.is_complete() {
                prepared.complete += 1;
                continue;
            }
            waiting.insert(&instance.instance);
            let job = opened.jobs.get(&instance.instance);
            let live = job.and_then(|job| Some((job, queued.get(&job.slurm_job)?))).filter(|(_, live)| live.is_alive());
            if let Some((job, live)) = live {
                let stuck = live.state == "PENDING" && unusable.contains(&job.node) && elsewhere;
                if !live.is_held() && !stuck {
                    prepared.alive += 1;
                    continue;
                }
                prepared.cancel.push(job.slurm_job.clone());
            }
            let pinned = request.placement == Placement::Node && !(unusable.contains(&instance.node) && elsewhere);
            wanted.push((script, index, pinned.then(|| instance.node.clone())));
        }
    }
    // Jobs of this submission that it does not know: it was cut short before it could write them down.
    let known: BTreeSet<&str> = opened.jobs.values().map(|job| job.slurm_job.as_str()).collect();
    let unknown = queued.iter().filter(|(id, live)| live.is_alive() && !known.contains(id.as_str()));
    prepared.cancel.extend(unknown.map(|(id, _)| id.clone()));
    let most = queue::most_tasks();
    let mut by_script: Vec<(&JobScript, Vec<Task>)> = Vec::new();
    for (script, index, node) in wanted {
        let instance = &script.instances[index];
        // Without a node of one's own there is no device to wait for.
        let after = instance.after.iter().filter(|before| node.is_some() && waiting.contains(before.as_str()));
        let begin = if request.asap { 0.0 } else { (instance.begin_s - prepared.elapsed).max(0.0) };
        let task = Task { index, instance, after: after.cloned().collect(), node, begin_s: begin.floor() as u64 };
        match by_script.last_mut().filter(|(last, _)| std::ptr::eq(*last, script)) {
            Some((_, tasks)) => tasks.push(task),
            None => by_script.push((script, vec![task])),
        }
    }
    for (script, tasks) in by_script {
        // Tasks with and without a node of their own exclude different nodes.
        let (pinned, free): (Vec<Task>, Vec<Task>) = tasks.into_iter().partition(|task| task.node.is_some());
        for tasks in [pinned, free] {
            prepared.batches.extend(Batch::of(script, tasks, most));
        }
    }
    Ok(prepared)
}

/// Ends every job of the submission that Slurm has; how many those were.
///
/// # Errors
/// Slurm's tools.
pub fn cancel(opened: &Opened) -> Result<usize, SubmitError> {
    let queued = opened.queued()?;
    let alive = || queued.iter().filter(|(_, live)| live.is_alive());
    // Whole arrays: one by one their tasks take as long as submitting them did.
    queue::cancel(alive().map(|(id, _)| id.split('_').next().unwrap_or(id)))?;
    Ok(alive().count())
}

//! A plan handed to Slurm: what is still to do, whether Slurm can ever run it, and then the jobs.
//!
//! Alike instances go as arrays. Where tasks of an array differ (node, begin, predecessors) the array is submitted held, its
//! tasks are told apart through one scontrol, and then released. Every job is on disk before the next one is submitted, and
//! carries the submission's tag in its name, so a submission that was cut short is found again: `resume` submits what is
//! neither answered nor alive, elsewhere where the planned node takes no jobs, and nothing twice.

mod batch;
pub mod local;
pub mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::tools::{self, ToolError};
use super::{FOLDER, RESULTS, shard_state};
use crate::formats::duration::parse_instant;
use crate::formats::hostlist;
use crate::formats::job_scripts::{self, InstanceScript, JobScript, JobScripts};
use crate::formats::plan_dir::PLAN_JSON;
use crate::formats::problems::{Collector, Problems};
use crate::formats::submission::{self, SUBMISSION, Submission, Submitted};
use crate::formats::write::{WriteError, sha256, sha256_file, write_atomic};

pub use batch::{Batch, Task};

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

/// Asks Slurm whether each script could ever run where it is to.
///
/// # Errors
/// `Refused`; that sbatch cannot be run.
pub fn test(opened: &Opened, prepared: &Prepared<'_>, request: &Request) -> Result<(), SubmitError> {
    let mut refused = Vec::new();
    for batch in &prepared.batches {
        let nodes: BTreeSet<&Option<String>> = batch.tasks.iter().map(|task| &task.node).collect();
        for node in nodes {
            let one = Batch {
                script: batch.script,
                offset: batch.offset,
                tasks: batch.tasks.iter().filter(|task| task.node == *node).take(1).cloned().collect(),
            };
            let mut options = vec!["--test-only".to_owned()];
            options.extend(common(opened, &one, request, prepared.elapsed));
            options.retain(|option| option != "--hold");
            match sbatch(opened, &one, request, &options) {
                Ok(_) => {}
                Err(ToolError::Failed { said, .. }) => {
                    let why = said.lines().last().unwrap_or_default().trim_start_matches("sbatch: error: ").to_owned();
                    refused.push(Refusal { script: batch.script.file.clone(), node: node.clone(), why });
                }
                Err(absent) => return Err(absent.into()),
            }
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(SubmitError::Refused(refused)) }
}

/// Hands all batches to Slurm. Where that fails midway, what was handed over is taken back.
///
/// # Errors
/// Slurm's tools; files that cannot be written.
pub fn submit(opened: &Opened, prepared: &Prepared<'_>, request: &Request, now: SystemTime) -> Result<(), SubmitError> {
    let results = opened.dir.join(RESULTS);
    std::fs::create_dir_all(&results).map_err(|source| WriteError::Cannot { path: results.clone(), source })?;
    let submission = match &opened.submission {
        Some(submission) => submission.clone(),
        None => begin(opened, now)?,
    };
    queue::cancel(prepared.cancel.iter().map(String::as_str))?;
    let mut handed: Vec<String> = Vec::new();
    let done = hand_over(opened, prepared, request, &submission, &mut handed);
    if done.is_err() {
        // The error that is told is the first.
        let _ = queue::cancel(handed.iter().map(String::as_str));
    }
    done
}

fn begin(opened: &Opened, now: SystemTime) -> Result<Submission, SubmitError> {
    let plan_sha256 = sha256_file(&opened.dir.join(PLAN_JSON))?;
    let nanos = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut tag = sha256(format!("{plan_sha256} {nanos} {}", std::process::id()).as_bytes());
    tag.truncate(8);
    let submission = Submission {
        schema_version: submission::SCHEMA_VERSION,
        tag,
        second_zero: humantime::format_rfc3339_seconds(now).to_string(),
        plan_sha256,
        user: rustix::process::getuid().as_raw().to_string(),
    };
    let path = opened.dir.join(SUBMISSION);
    let text = serde_json::to_string_pretty(&submission).map_err(io::Error::from);
    let text = text.map_err(|source| WriteError::Cannot { path: path.clone(), source })?;
    write_atomic(&path, text.as_bytes())?;
    Ok(submission)
}

fn hand_over(
    opened: &Opened,
    prepared: &Prepared<'_>,
    request: &Request,
    submission: &Submission,
    handed: &mut Vec<String>,
) -> Result<(), SubmitError> {
    let mut jobs = opened.jobs.clone();
    let mut ids = Vec::new();
    for batch in &prepared.batches {
        let name = batch.script.file.rsplit('/').next().unwrap_or_default().trim_end_matches(".sbatch");
        let mut options = vec![
            "--parsable".to_owned(),
            format!("--job-name={}{name}", queue::name_prefix(&submission.tag)),
            // Given up where a predecessor can never end, rather than waiting for ever.
            "--kill-on-invalid-dep=yes".to_owned(),
        ];
        options.extend(common(opened, batch, request, prepared.elapsed));
        let said = sbatch(opened, batch, request, &options)?;
        let id = said.trim().split(';').next().unwrap_or_default().to_owned();
        handed.push(id.clone());
        let row = |task: &Task| {
            let node = task.node.clone().unwrap_or_default();
            (task.instance.instance.clone(), Submitted { slurm_job: batch.job_id(&id, task), node })
        };
        let rows: Vec<(String, Submitted)> = batch.tasks.iter().map(row).collect();
        submission::append(&opened.dir, &rows)?;
        jobs.extend(rows);
        ids.push(id);
    }
    let job = |instance: &str| jobs.get(instance).map(|job| job.slurm_job.clone());
    let mut commands = String::new();
    // First all tasks become jobs of their own: until then one that waits for another of its array would wait for itself.
    for (batch, id) in prepared.batches.iter().zip(&ids) {
        batch.apart(id).iter().for_each(|command| commands.push_str(&format!("{command}\n")));
    }
    for (batch, id) in prepared.batches.iter().zip(&ids) {
        batch.dependencies(id, job).iter().for_each(|command| commands.push_str(&format!("{command}\n")));
    }
    for (batch, id) in prepared.batches.iter().zip(&ids) {
        if batch.is_held() {
            commands.push_str(&format!("release {id}\n"));
        }
    }
    if commands.is_empty() {
        return Ok(());
    }
    let said = tools::run_with("scontrol", &[], &[], &commands)?;
    // scontrol goes on after a command that failed and says so on stderr alone.
    let failed = said.stderr.lines().find(|line| !line.trim().is_empty());
    match failed {
        Some(line) => Err(ToolError::Failed { command: "scontrol".to_owned(), said: line.to_owned() }.into()),
        None => Ok(()),
    }
}

/// Options that a test and a submission have in common.
fn common(opened: &Opened, batch: &Batch<'_>, request: &Request, elapsed: f64) -> Vec<String> {
    let mut options = vec!["--export=ALL".to_owned(), format!("--chdir={}", opened.dir.display())];
    options.extend(batch.options());
    if request.exclusive {
        options.push("--exclusive".to_owned());
    }
    options
        .extend(deadline(batch, elapsed).filter(|_| request.deadlines).map(|at| format!("--deadline=now+{at}seconds")));
    options
}

/// Seconds from now after which Slurm may drop the batch. Slurm compares the deadline with start and time limit, and the
/// limit holds the wait for a slow load, so that comes on top. What is late already is not dropped.
fn deadline(batch: &Batch<'_>, elapsed: f64) -> Option<u64> {
    let wanted = batch.script.deadline_s?;
    let limit = |task: &Task| task.instance.time_limit_min as f64 * 60.0;
    let slack = batch.tasks.iter().map(|task| limit(task) - (task.instance.end_s - task.instance.start_s));
    let slack = slack.max_by(f64::total_cmp).unwrap_or(0.0).max(0.0);
    let earliest =
        batch.tasks.iter().map(|task| task.begin_s as f64 + limit(task)).max_by(f64::total_cmp).unwrap_or(0.0);
    let at = wanted - elapsed + slack + 60.0;
    (at >= earliest + 60.0).then(|| at.ceil() as u64)
}

fn sbatch(opened: &Opened, batch: &Batch<'_>, request: &Request, options: &[String]) -> Result<String, ToolError> {
    let script = opened.dir.join(&batch.script.file);
    let (dir, program, script) =
        (opened.dir.to_string_lossy(), request.program.to_string_lossy(), script.to_string_lossy());
    let offset = batch.script_offset().to_string();
    let environment =
        [("JOULEPLAN_DIR", dir.as_ref()), ("JOULEPLAN_BIN", program.as_ref()), ("JOULEPLAN_OFFSET", offset.as_str())];
    let mut words: Vec<&str> = options.iter().map(String::as_str).collect();
    words.push(&script);
    tools::run_with("sbatch", &words, &environment, "").map(|said| said.stdout)
}

/// Ends every job of the submission that Slurm has; how many those were.
///
/// # Errors
/// Slurm's tools.
pub fn cancel(opened: &Opened) -> Result<usize, SubmitError> {
    let queued = opened.queued()?;
    let alive: Vec<&str> = queued.iter().filter(|(_, live)| live.is_alive()).map(|(id, _)| id.as_str()).collect();
    queue::cancel(alive.iter().copied())?;
    Ok(alive.len())
}

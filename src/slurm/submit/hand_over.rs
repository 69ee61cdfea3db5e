//! Batches on their way into Slurm: asked about first, then submitted one by one.
//!
//! Where the tasks of an array differ (node, begin, predecessors) the array is submitted held, its tasks are told apart
//! through one scontrol for all batches, and then it is released. What fails midway is taken back.

use std::collections::BTreeSet;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::RESULTS;
use super::super::tools::{self, ToolError};
use super::{Batch, Opened, Prepared, Refusal, Request, SubmitError, Task, queue};
use crate::formats::plan_dir::PLAN_JSON;
use crate::formats::submission::{self, SUBMISSION, Submission, Submitted};
use crate::formats::write::{WriteError, sha256, sha256_file, write_atomic};

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

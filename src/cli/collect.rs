//! `collect`: one result file a job, in the caller's format, with the caller's ids in the caller's order.

use std::path::PathBuf;

use serde_json::json;

use super::check::Overrides;
use super::exit::{Failure, MISSING_INPUT};
use super::output::Output;
use super::recorded::Recorded;
use crate::formats::plan_dir;
use crate::slurm::collect::{Asked, collect};
use crate::slurm::submit;

/// Put the answers of a plan together: one file a job, with the caller's ids in the caller's order
///
/// Requests of OpenAI batch files become JSON lines in the same format. Rows of CSV files keep their columns, behind a
/// request_id if they have none, and are followed by those of what the model's command wrote to {output}: CSV with a
/// header and a row for each row of {shard}, in its order or under its request_id.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Plan directory
    dir: PathBuf,
    /// Folder of the files [default: DIR/collected]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Be content with less than all answers
    #[arg(long)]
    partial: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: Overrides,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let opened = submit::open(&arguments.dir)?;
    let plan = plan_dir::read(&arguments.dir)?;
    let inputs = Recorded::new(&plan, &arguments.overrides)?.read()?;
    let workload = &inputs.assembled.workload;
    let names: Vec<String> = workload.jobs.iter().map(|job| job.name.clone()).collect();
    let job: Vec<usize> = workload.requests.group.iter().map(|&group| workload.groups[group as usize].job).collect();
    let id: Vec<String> = plan.assignments.iter().map(|(id, _)| id.to_owned()).collect();
    let instance: Vec<String> =
        plan.assignments.iter().map(|(_, instance)| plan.instances[instance as usize].id.clone()).collect();
    // Requests that the plan before serves have no instance here.
    let by_row = |names: &[String]| -> Vec<String> {
        inputs.assembled.by_row(names).into_iter().map(Option::unwrap_or_default).collect()
    };
    let (id, instance) = (by_row(&id), by_row(&instance));
    let job: Vec<usize> = inputs.assembled.by_row(&job).into_iter().map(Option::unwrap_or_default).collect();
    let asked = Asked { files: &inputs.assembled.files, jobs: &names, job: &job, id: &id, instance: &instance };
    let out = arguments.out.clone().unwrap_or_else(|| opened.dir.join("collected"));
    let collected = collect(&opened.dir, &opened.scripts, &asked, &out)?;
    let requests: u64 = collected.iter().map(|job| job.requests - job.elsewhere).sum();
    let answered: u64 = collected.iter().map(|job| job.answered).sum();
    if arguments.json {
        let jobs: Vec<_> = collected.iter().map(|job| json!({
            "job": job.job, "file": job.files.first(), "files": job.files, "requests": job.requests, "answered": job.answered,
            "elsewhere": job.elsewhere,
        })).collect();
        output.json(&json!({"schema_version": 1, "requests": requests, "answered": answered, "jobs": jobs}))?;
    }
    for job in &collected {
        if job.elsewhere > 0 {
            output.note(&format!(
                "{}: the command has done {} requests and wrote no {{output}}: their answers are where it put them",
                job.job, job.elsewhere
            ));
        }
        for file in &job.files {
            let asked = job.requests - job.elsewhere;
            output.note(&format!("{}: {} of {asked} answers in {}", job.job, job.answered, file.display()));
        }
    }
    if answered < requests && !arguments.partial {
        let message = format!(
            "{} of {requests} requests have no answer: `submit --resume` asks them again, `--partial` is content with the others",
            requests - answered
        );
        return Err(Failure { code: MISSING_INPUT, message }.into());
    }
    Ok(())
}

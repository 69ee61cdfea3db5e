//! `status`: a live table of a submitted plan.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::arguments;
use super::output::Output;
use crate::report::text::{Table, energy, plain, time};
use crate::slurm::progress::{Progress, progress};
use crate::slurm::submit;

/// Say how far a submitted plan is: requests, joules against the plan's, deadlines
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Plan directory
    dir: PathBuf,
    /// Print again every so often, until nothing is alive
    #[arg(long, value_name = "TIME", value_parser = arguments::duration, conflicts_with = "json")]
    watch: Option<Duration>,
    /// A row for each instance, too
    #[arg(long)]
    instances: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    loop {
        let opened = submit::open(&arguments.dir)?;
        let found = progress(&opened, SystemTime::now())?;
        if arguments.json {
            return Ok(output.json(&as_json(&found))?);
        }
        output.data(text(&found, arguments.instances).as_bytes())?;
        let alive = found
            .instances
            .iter()
            .any(|instance| instance.answered < instance.requests && instance.expected_finish_s.is_some());
        match arguments.watch.filter(|_| alive) {
            Some(pause) => std::thread::sleep(pause.max(Duration::from_secs(1))),
            None => return Ok(()),
        }
    }
}

fn text(found: &Progress, each: bool) -> String {
    let mut jobs = Table::new(&["job", ">done", ">requests", ">expected finish", ">deadline", ""]);
    for job in &found.jobs {
        let (late, finish) = match job.expected_finish_s {
            Some(finish) => (if job.is_late() { "late" } else { "" }, time(finish)),
            None => ("stands still: `submit --resume`", String::new()),
        };
        let cells = [
            plain(&job.job),
            job.done.to_string(),
            job.requests.to_string(),
            finish,
            time(job.deadline_s),
            late.to_owned(),
        ];
        jobs.row(cells);
    }
    let mut text = jobs.render(0);
    if each {
        let mut table =
            Table::new(&["instance", "node", "state", ">done", ">requests", ">joules", ">planned", ">expected finish"]);
        for one in &found.instances {
            table.row([
                one.instance.clone(),
                plain(&one.node),
                plain(&one.state),
                one.answered.to_string(),
                one.requests.to_string(),
                one.measured_j.map(energy).unwrap_or_default(),
                energy(one.planned_j),
                one.expected_finish_s.map(time).unwrap_or_default(),
            ]);
        }
        text = format!("{text}\n{}", table.render(0));
    }
    let done: u64 = found.instances.iter().map(|one| one.answered).sum();
    let all: u64 = found.instances.iter().map(|one| one.requests).sum();
    // Of what was measured, against what the plan says of as many requests.
    let known = found
        .instances
        .iter()
        .filter_map(|one| Some((one.measured_j?, one.planned_j * one.answered as f64 / one.requests.max(1) as f64)));
    let (measured, planned) = known.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    format!(
        "{text}\nafter {}: {done} of {all} requests, {} measured above idle where the plan has {}\n",
        time(found.elapsed_s),
        energy(measured),
        energy(planned)
    )
}

fn as_json(found: &Progress) -> serde_json::Value {
    let instances: Vec<_> = found.instances.iter().map(|one| json!({
        "instance": one.instance, "node": one.node, "state": one.state, "slurm_job": one.slurm_job,
        "requests": one.requests, "answered": one.answered, "planned_j": one.planned_j, "measured_j": one.measured_j,
        "expected_finish_s": one.expected_finish_s,
    })).collect();
    let jobs: Vec<_> = found
        .jobs
        .iter()
        .map(|job| {
            json!({
                "job": job.job, "requests": job.requests, "done": job.done, "deadline_s": job.deadline_s,
                "expected_finish_s": job.expected_finish_s, "late": job.is_late(),
            })
        })
        .collect();
    json!({"schema_version": 1, "elapsed_s": found.elapsed_s, "jobs": jobs, "instances": instances})
}

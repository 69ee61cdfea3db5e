//! `squeue --json` and the text of `scontrol show job`: who holds which devices of which nodes until when, and where a waiting
//! job is expected to start.
//!
//! Times in the text are local to a machine that it does not name, so they count only as seconds since 1970, which
//! `SLURM_TIME_FORMAT=%s` makes of them.

use std::path::Path;

use serde_json::Value;

use super::problems::{Collector, Problems};
use super::slurm_json::{number_of, small_of, states, text_of, texts_of};
use super::{gres, hostlist};
use crate::domain::SlurmJob;

/// The jobs in `text`; `path` names it in messages.
///
/// # Errors
/// What is no JSON, or has no jobs.
pub fn parse(text: &str, path: &Path) -> Result<Vec<SlurmJob>, Problems> {
    let mut problems = Collector::new(path);
    let remedy = "give what `squeue --json` or `scontrol -d show job` printed";
    if !text.trim_start().starts_with(['{', '[']) {
        let jobs = blocks(text);
        if jobs.is_empty() && !text.contains("No jobs in the system") {
            problems.add("", "there is no `JobId=` in it", remedy);
        }
        return problems.finish(jobs);
    }
    let document: Value = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(error) => {
            problems.add(format!("line {}, column {}", error.line(), error.column()), error.to_string(), remedy);
            return problems.fail();
        }
    };
    match document.get("jobs").and_then(Value::as_array) {
        Some(jobs) => problems.finish(jobs.iter().map(job).collect()),
        None => {
            problems.add("", "it has no list of jobs", remedy);
            problems.fail()
        }
    }
}

fn job(job: &Value) -> SlurmJob {
    let said = texts_of(job, "job_state");
    // A waiting job has no nodes; what the scheduler has chosen for it stands elsewhere.
    let list = text_of(job, "nodes").or_else(|| text_of(job, "scheduled_nodes")).unwrap_or_default();
    // Times of 0 are not known yet.
    let instant = |name: &str| number_of(job, name).filter(|seconds| *seconds > 0);
    SlurmJob {
        id: number_of(job, "job_id").map(|id| id.to_string()).unwrap_or_default(),
        states: states(said.iter().map(String::as_str)),
        nodes: hostlist::expand(list).unwrap_or_default(),
        gres: texts_of(job, "gres_detail").iter().map(|held| gres::parse(held)).collect(),
        cpus: small_of(job, "cpus"),
        start: instant("start_time"),
        end: instant("end_time"),
    }
}

/// The jobs of `scontrol show job`; with `-d` also the devices they hold on each node.
fn blocks(text: &str) -> Vec<SlurmJob> {
    let mut found: Vec<SlurmJob> = Vec::new();
    let mut on_node = String::new();
    for (key, value) in text.split_whitespace().filter_map(|word| word.split_once('=')) {
        if key == "JobId" {
            found.push(SlurmJob { id: value.to_owned(), ..SlurmJob::default() });
        }
        let Some(job) = found.last_mut() else { continue };
        let instant = || value.parse::<u64>().ok().filter(|seconds| *seconds > 0);
        match key {
            "JobState" if job.states.is_empty() => job.states = states([value]),
            "NodeList" | "SchedNodeList" if job.nodes.is_empty() => {
                job.nodes = hostlist::expand(value).unwrap_or_default()
            }
            "NumCPUs" => job.cpus = job.cpus.or_else(|| value.parse().ok()),
            "StartTime" => job.start = job.start.or_else(instant),
            "EndTime" => job.end = job.end.or_else(instant),
            // `Nodes=n[1-2] CPU_IDs=0-3 Mem=1000 GRES=gpu:h100:2(IDX:0-1)`
            "Nodes" => on_node = value.to_owned(),
            "GRES" => {
                job.gres.resize(job.nodes.len(), Vec::new());
                for node in hostlist::expand(&on_node).unwrap_or_default() {
                    if let Some(place) = job.nodes.iter().position(|known| *known == node) {
                        job.gres[place] = gres::parse(value);
                    }
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_devices_and_ends_in_both_spellings() {
        let old = r#"{"jobs": [{"job_id": 7, "job_state": "RUNNING", "nodes": "n[1-2]", "cpus": 4, "start_time": 100,
            "end_time": 900, "gres_detail": ["gpu:h100:2(IDX:0-1)", "gpu:h100:2(IDX:2-3)"]}]}"#;
        let new = r#"{"jobs": [{"job_id": 7, "job_state": ["RUNNING"], "nodes": "n[1-2]",
            "cpus": {"set": true, "infinite": false, "number": 4}, "start_time": {"set": true, "number": 100},
            "end_time": {"set": true, "infinite": false, "number": 900},
            "gres_detail": ["gpu:h100:2(IDX:0-1)", "gpu:h100:2(IDX:2-3)"]}]}"#;
        let read = |text: &str| parse(text, Path::new("jobs")).unwrap().remove(0);
        let job = read(old);
        assert_eq!((job.id.as_str(), job.nodes.len(), job.end), ("7", 2, Some(900)));
        assert_eq!(job.gres[1][0].indices, Some(vec![2, 3]));
        assert_eq!(read(new), job);
        let text = "JobId=7 JobName=x\n JobState=RUNNING Reason=None StartTime=100 EndTime=900 NodeList=n[1-2] NumCPUs=4\n \
            Nodes=n1 CPU_IDs=0 Mem=1 GRES=gpu:h100:2(IDX:0-1)\n Nodes=n2 CPU_IDs=0 Mem=1 GRES=gpu:h100:2(IDX:2-3)\n";
        assert_eq!(read(text), job);
        let local = read("JobId=7 JobState=PENDING StartTime=2020-12-15T16:44:08 EndTime=Unknown NodeList=(null)\n");
        assert_eq!((local.start, local.end, local.nodes.len()), (None, None, 0));
        assert!(parse("No jobs in the system\n", Path::new("x")).unwrap().is_empty());
        assert!(parse("{}", Path::new("x")).is_err() && parse("no", Path::new("x")).is_err());
        assert_eq!(read(r#"{"jobs": [{"end_time": 0, "nodes": "$(x)"}]}"#), SlurmJob::default());
    }
}

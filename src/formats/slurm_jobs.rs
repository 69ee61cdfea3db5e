//! `squeue --json`: who holds which devices of which nodes until when, and where a waiting job is expected to start.

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
    let remedy = "give what `squeue --json` printed";
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
        assert!(parse("{}", Path::new("x")).is_err() && parse("no", Path::new("x")).is_err());
        assert_eq!(read(r#"{"jobs": [{"end_time": 0, "nodes": "$(x)"}]}"#), SlurmJob::default());
    }
}

//! What Slurm accounts for a job: `sacct --parsable2` with the columns of `FORMAT`, and `sacct --json`.
//!
//! Energy is that of the whole node, counted for steps alone. Blanks, zeros and sentinels are absent: Slurm writes each of
//! them where it does not know. A job that was requeued has rows for every run.

use std::path::Path;

use serde_json::Value;

use super::problems::{Collector, Problems};
use super::slurm_json::{number, number_of, states, text_of, texts_of};

/// For `--format`.
pub const FORMAT: &str = "JobID,State,ElapsedRaw,ConsumedEnergyRaw,NodeList";

/// A job, or a task of an array, over all its runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Accounted {
    /// `12`, or `12_3`.
    pub id: String,
    /// Of the last run, in upper case.
    pub state: String,
    pub nodes: String,
    /// Of its steps with a number, together.
    pub step_seconds: Option<f64>,
    pub step_energy_j: Option<f64>,
}

/// Jobs by the rows of `sacct --parsable2 --noheader --duplicates --format=FORMAT`, in order of appearance.
pub fn parse_rows(text: &str) -> Vec<Accounted> {
    let mut found: Vec<Accounted> = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [id, state, seconds, joules, nodes] = cells[..] else { continue };
        let (job, step) = id.split_once('.').unwrap_or((id, ""));
        let place = found.iter().position(|known| known.id == job).unwrap_or_else(|| {
            found.push(Accounted { id: job.to_owned(), ..Accounted::default() });
            found.len() - 1
        });
        let known = &mut found[place];
        if step.is_empty() {
            // `CANCELLED by 0`
            known.state = state.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            known.nodes = nodes.to_owned();
        } else if step.chars().all(|c| c.is_ascii_digit()) {
            let of = |text: &str| number(&Value::from(text)).filter(|number| *number > 0).map(|number| number as f64);
            add(&mut known.step_seconds, of(seconds));
            add(&mut known.step_energy_j, of(joules));
        }
    }
    found
}

/// What is known of several steps is the sum of what is known of each.
fn add(sum: &mut Option<f64>, more: Option<f64>) {
    if let Some(more) = more {
        *sum = Some(sum.unwrap_or(0.0) + more);
    }
}

/// Jobs of `sacct --json`.
///
/// # Errors
/// What is no JSON, or has no jobs.
pub fn parse_json(text: &str, path: &Path) -> Result<Vec<Accounted>, Problems> {
    let mut problems = Collector::new(path);
    let jobs = serde_json::from_str::<Value>(text).ok();
    let Some(jobs) = jobs.as_ref().and_then(|document| document.get("jobs")).and_then(Value::as_array) else {
        problems.add("", "it has no list of jobs", "give what `sacct --json` printed");
        return problems.fail();
    };
    problems.finish(jobs.iter().map(job).collect())
}

fn job(job: &Value) -> Accounted {
    let empty = Value::Null;
    let part = |object: &'_ Value, name: &str| object.get(name).cloned().unwrap_or(Value::Null);
    let array = part(job, "array");
    let id = match (number_of(&array, "job_id").filter(|id| *id > 0), number_of(&array, "task_id")) {
        (Some(id), Some(task)) => format!("{id}_{task}"),
        _ => number_of(job, "job_id").map(|id| id.to_string()).unwrap_or_default(),
    };
    let said = texts_of(job.get("state").unwrap_or(&empty), "current");
    let mut accounted = Accounted {
        id,
        state: states(said.iter().map(String::as_str)).into_iter().next().unwrap_or_default(),
        nodes: text_of(job, "nodes").unwrap_or_default().to_owned(),
        ..Accounted::default()
    };
    let steps = job.get("steps").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for step in steps {
        let id = part(&part(step, "step"), "id");
        let id = id.as_str().map(str::to_owned).unwrap_or_else(|| id.to_string());
        if !id.rsplit('.').next().is_some_and(|last| !last.is_empty() && last.chars().all(|c| c.is_ascii_digit())) {
            continue;
        }
        let positive = |number: Option<u64>| number.filter(|number| *number > 0).map(|number| number as f64);
        add(&mut accounted.step_seconds, positive(number_of(&part(step, "time"), "elapsed")));
        let energy = part(&part(step, "statistics"), "energy");
        add(&mut accounted.step_energy_j, positive(number_of(&energy, "consumed")));
    }
    accounted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_zeros_and_sentinels_are_absent_and_runs_add_up() {
        let text = "7_0|COMPLETED|10|4000|n1\n7_0.batch|COMPLETED|10|4100|n1\n7_0.0|COMPLETED|9|3600|n1\n7_0.extern|COMPLETED|10||n1\n\
            8|CANCELLED by 0|0||n2\n8.0|CANCELLED|3|18446744073709551614|n2\n9|FAILED|1|0|n1\n9.0|FAILED|1|0|n1\n\
            10|REQUEUED|5||n1\n10.0|CANCELLED|5|100|n1\n10|COMPLETED|6||n3\n10.0|COMPLETED|6|200|n3\nnonsense\n";
        let rows = parse_rows(text);
        let line = |row: &Accounted| {
            format!("{} {} {} {:?} {:?}", row.id, row.state, row.nodes, row.step_seconds, row.step_energy_j)
        };
        assert_eq!(
            rows.iter().map(line).collect::<Vec<_>>(),
            [
                "7_0 COMPLETED n1 Some(9.0) Some(3600.0)",
                "8 CANCELLED n2 Some(3.0) None",
                "9 FAILED n1 Some(1.0) None",
                "10 COMPLETED n3 Some(11.0) Some(300.0)",
            ]
        );
    }

    #[test]
    fn json_of_old_and_new_releases() {
        let old = r#"{"jobs": [{"job_id": 20, "array": {"job_id": 2, "task_id": 0}, "state": {"current": "COMPLETED"}, "nodes": "n1",
            "steps": [{"step": {"id": "2.batch"}, "time": {"elapsed": 9}},
                      {"step": {"id": "2.0"}, "time": {"elapsed": 8}, "statistics": {"energy": {"consumed": 500}}}]}]}"#;
        let new = r#"{"jobs": [{"job_id": 20, "array": {"job_id": 2, "task_id": {"set": true, "infinite": false, "number": 0}},
            "state": {"current": ["COMPLETED"]}, "nodes": "n1",
            "steps": [{"step": {"id": "2.0"}, "time": {"elapsed": 8},
                       "statistics": {"energy": {"consumed": {"set": true, "infinite": false, "number": 500}}}}]}]}"#;
        let read = |text: &str| parse_json(text, Path::new("x")).unwrap().remove(0);
        assert_eq!(read(old), read(new));
        assert_eq!(
            (read(old).id.as_str(), read(old).step_energy_j, read(old).step_seconds),
            ("2_0", Some(500.0), Some(8.0))
        );
        assert!(parse_json("{}", Path::new("x")).is_err());
    }
}

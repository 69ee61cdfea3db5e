//! What was handed to Slurm: `submission.json` once, and `submitted.csv`, appended to and flushed to disk with every job.
//!
//! The last row of an instance is the one that counts. A row that a crash cut off is no row: jobs also carry the
//! submission's tag in their names, by which those without a row are found.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::problems::{Collector, Problems};
use super::text::read_text;
use super::write::WriteError;

pub const SUBMISSION: &str = "submission.json";
pub const SUBMITTED: &str = "submitted.csv";
pub const SCHEMA_VERSION: u32 = 1;

const HEADER: &str = "instance,slurm_job,node\n";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    pub schema_version: u32,
    /// In the name of every job.
    pub tag: String,
    /// RFC 3339; second 0 of the plan.
    pub second_zero: String,
    pub plan_sha256: String,
    /// The submitter's user, whose jobs are looked for.
    pub user: String,
}

/// An instance's latest job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// `123`, or `123_4` for a task of an array.
    pub slurm_job: String,
    /// Empty where any node of the pool will do.
    pub node: String,
}

/// The submission of a plan directory, if it was ever submitted.
///
/// # Errors
/// A file that cannot be read or understood.
pub fn read(dir: &Path) -> Result<Option<Submission>, Problems> {
    let path = dir.join(SUBMISSION);
    if !path.exists() {
        return Ok(None);
    }
    let text = read_text(&path)?;
    let mut problems = Collector::new(&path);
    match serde_json::from_str::<Submission>(&text) {
        Ok(submission) if submission.schema_version == SCHEMA_VERSION => problems.finish(Some(submission)),
        Ok(_) => {
            problems.add("schema_version", "another version's", "go on with the jouleplan that submitted it");
            problems.fail()
        }
        Err(error) => {
            problems.add("", error.to_string(), "it is damaged: cancel the jobs, remove it, and submit again");
            problems.fail()
        }
    }
}

/// The latest job of each instance.
///
/// # Errors
/// A file that is there and cannot be read.
pub fn read_jobs(dir: &Path) -> Result<BTreeMap<String, Submitted>, Problems> {
    let path = dir.join(SUBMITTED);
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let text = read_text(&path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let row = |line: &str| {
        let mut cells = line.split(',');
        let (instance, job, node) = (cells.next()?, cells.next()?, cells.next()?);
        Some((instance.to_owned(), Submitted { slurm_job: job.to_owned(), node: node.to_owned() }))
    };
    Ok(whole.lines().skip(1).filter_map(row).collect())
}

/// Appends rows and waits until they are on disk.
///
/// # Errors
/// What cannot be written.
pub fn append(dir: &Path, rows: &[(String, Submitted)]) -> Result<(), WriteError> {
    let path = dir.join(SUBMITTED);
    let append = || -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        let held = fs::read(&path)?;
        let mut text = String::new();
        if held.is_empty() {
            text.push_str(HEADER);
        } else if held.last() != Some(&b'\n') {
            // What a crash cut off stays a line of its own.
            text.push('\n');
        }
        for (instance, submitted) in rows {
            text.push_str(&format!("{instance},{},{}\n", submitted.slurm_job, submitted.node));
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    append().map_err(|source| WriteError::Cannot { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_row_counts() {
        let dir = tempfile::tempdir().unwrap();
        let row = |instance: &str, job: &str| {
            (instance.to_owned(), Submitted { slurm_job: job.to_owned(), node: String::new() })
        };
        assert!(read_jobs(dir.path()).unwrap().is_empty());
        append(dir.path(), &[row("i0001", "7_0"), row("i0002", "7_1")]).unwrap();
        append(dir.path(), &[row("i0001", "9")]).unwrap();
        let mut file = OpenOptions::new().append(true).open(dir.path().join(SUBMITTED)).unwrap();
        file.write_all(b"i0002,1").unwrap();
        let jobs =
            |dir: &Path| -> Vec<String> { read_jobs(dir).unwrap().into_values().map(|job| job.slurm_job).collect() };
        assert_eq!(jobs(dir.path()), ["9", "7_1"]);
        append(dir.path(), &[row("i0003", "11")]).unwrap();
        assert_eq!(jobs(dir.path()), ["9", "7_1", "11"]);
    }
}

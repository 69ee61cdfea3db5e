//! Shards: each instance's part of the workload, as its engine reads it, in the order in which it is to be served.
//!
//! The caller's files are read once more rather than kept: a JSONL line passes through with the value of `body.model`
//! replaced and no other byte changed, a CSV row with the header, a class-table row once per request. Rows wait in
//! memory and are appended shard by shard (`sink`), so the files may be far larger than memory. Files with lengths only
//! become CSV, because there is no text to send.

mod csv;
mod jsonl;
mod sink;

use std::fs;
use std::path::Path;

pub use self::csv::{Columns, append_record, for_each_row};
use self::sink::Sink;
use super::problems::{Collector, Problems};
use super::table::Table;
use super::workload::{Format, WorkloadFile};
use super::write::WriteError;

/// Folder of the shards in a plan directory.
pub const FOLDER: &str = "shards";

/// The column of a class table that says how many requests a row stands for.
const COUNT: &str = "count";

#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    #[error(transparent)]
    Source(#[from] Problems),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// In the place of an instance: the request is served by another plan and is in no shard of this one.
pub const NOT_HERE: u32 = u32::MAX;

/// Which request goes where.
#[derive(Clone, Copy, Debug)]
pub struct Split<'a> {
    /// The instance of each request, or `NOT_HERE`.
    pub assignment: &'a [u32],
    /// The name that each instance's engine answers to.
    pub served_names: &'a [&'a str],
    /// The position of each request in the service order of its instance, as the plan's finish times assume it; `None`
    /// keeps the order of the requests.
    pub rank: Option<&'a [u32]>,
}

/// Writes `shards/<instance>.jsonl` and `.csv` under `dir` and returns, for each instance, the names of its files
/// (none without requests; two if its requests come from both kinds of file).
///
/// # Errors
/// `Source` if a file no longer holds the requests that were planned; `Write`.
pub fn write(dir: &Path, files: &[WorkloadFile], split: &Split<'_>) -> Result<Vec<Vec<String>>, ShardError> {
    let folder = dir.join(FOLDER);
    fs::create_dir_all(&folder).map_err(|source| WriteError::Cannot { path: folder.clone(), source })?;
    let header = columns(files)?;
    let mut header_line = Vec::new();
    if !header.is_empty() {
        csv::append_record(&mut header_line, || header.iter().map(String::as_bytes));
    }
    let instances = split.served_names.len();
    let mut lines = Sink::new(&folder, "jsonl", instances, Vec::new(), split.rank);
    let mut rows = Sink::new(&folder, "csv", instances, header_line, split.rank);
    for file in files {
        let end = file.first_request.saturating_add(file.requests).min(split.assignment.len());
        let planned = Planned {
            path: &file.path,
            first: file.first_request,
            instances: split.assignment.get(file.first_request..end).unwrap_or_default(),
            served: 0,
        };
        match file.format {
            Format::OpenaiBatch => jsonl::split(planned, split.served_names, &mut lines)?,
            Format::Csv | Format::Azure => csv::split(planned, None, &header, &mut rows)?,
            Format::ClassTable => csv::split(planned, Some(COUNT), &header, &mut rows)?,
        }
    }
    let (lines, rows) = (lines.finish()?, rows.finish()?);
    Ok(lines.into_iter().zip(rows).map(|(lines, rows)| lines.into_iter().chain(rows).collect()).collect())
}

/// The columns of all CSV files together, in order of appearance: with one file, its own. How many requests a class
/// stands for has no meaning in a row of one request and is left out.
pub fn columns(files: &[WorkloadFile]) -> Result<Vec<String>, Problems> {
    let mut header: Vec<String> = Vec::new();
    for file in files.iter().filter(|file| file.format != Format::OpenaiBatch) {
        for column in Table::open(&file.path)?.header() {
            let dropped = file.format == Format::ClassTable && column == COUNT;
            if !dropped && !header.contains(column) {
                header.push(column.clone());
            }
        }
    }
    Ok(header)
}

/// The requests of one file that have not had their rows yet.
struct Planned<'a> {
    path: &'a Path,
    /// The file's first request.
    first: usize,
    /// The instance of each.
    instances: &'a [u32],
    served: usize,
}

impl Planned<'_> {
    fn left(&self) -> usize {
        self.instances.len() - self.served
    }

    /// Appends what `write` does to the shard of the next request, of which there must be one; `write` is told the
    /// instance.
    fn serve(&mut self, shards: &mut Sink, write: impl FnOnce(&mut Vec<u8>, usize)) -> Result<(), ShardError> {
        let Some(&instance) = self.instances.get(self.served) else { return Ok(()) };
        if instance == NOT_HERE {
            self.served += 1;
            return Ok(());
        }
        write(shards.row(self.first + self.served, instance, self.path)?, instance as usize);
        shards.row_is_whole()?;
        self.served += 1;
        Ok(())
    }
}

/// Notes that a file has more or fewer rows than there were requests.
fn changed(problems: &mut Collector) {
    problems.add("", "the file holds other requests than were planned", "it changed meanwhile: make the plan again");
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn source(path: PathBuf, format: Format, first_request: usize, requests: usize) -> WorkloadFile {
        WorkloadFile { path, format, first_request, requests }
    }

    fn split<'a>(assignment: &'a [u32], served_names: &'a [&'a str]) -> Split<'a> {
        Split { assignment, served_names, rank: None }
    }

    fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn each_request_reaches_its_instance_once_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let lines: Vec<String> =
            (0..6).map(|k| format!(r#"{{"custom_id":"r{k}","body":{{"model":"any"}}}}"#)).collect();
        let jsonl =
            file(dir.path(), "w.jsonl", &format!("\u{feff}{}\r\n\n{}", lines[..3].join("\r\n"), lines[3..].join("\n")));
        let csv = file(dir.path(), "w.csv", "input_tokens,note\n1,\"a,b\"\n2,\n");
        let azure = file(dir.path(), "z.csv", "TIMESTAMP,input_tokens\nnow,3\n");
        let sources = [
            source(jsonl, Format::OpenaiBatch, 0, 6),
            source(csv, Format::Csv, 6, 2),
            source(azure, Format::Azure, 8, 1),
        ];
        let names =
            write(dir.path(), &sources, &split(&[0, 1, 0, 1, 0, 0, 2, 0, 2], &["m0", "m1", "m2", "m3"])).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(names[0], ["shards/i0001.jsonl", "shards/i0001.csv"]);
        assert_eq!(names[1], ["shards/i0002.jsonl"]);
        assert_eq!((names[2].as_slice(), names[3].len()), (&["shards/i0003.csv".to_owned()][..], 0));
        let expected = |instance: usize, model: &str| -> String {
            let of = [[0, 2, 4, 5].as_slice(), &[1, 3]][instance];
            of.iter().map(|&k: &usize| lines[k].replace("any", model) + "\n").collect()
        };
        assert_eq!(read("shards/i0001.jsonl"), expected(0, "m0"));
        assert_eq!(read("shards/i0002.jsonl"), expected(1, "m1"));
        assert_eq!(read("shards/i0001.csv"), "input_tokens,note,TIMESTAMP\n2,,\n");
        assert_eq!(read("shards/i0003.csv"), "input_tokens,note,TIMESTAMP\n1,\"a,b\",\n3,,now\n");
    }

    #[test]
    fn requests_of_another_plan_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let csv = file(dir.path(), "w.csv", "input_tokens\n1\n2\n3\n");
        let jsonl = file(dir.path(), "w.jsonl", "{\"body\":{},\"k\":1}\n{\"body\":{},\"k\":2}\n");
        let files = [source(csv, Format::Csv, 0, 3), source(jsonl, Format::OpenaiBatch, 3, 2)];
        let names = write(dir.path(), &files, &split(&[NOT_HERE, 0, NOT_HERE, NOT_HERE, 0], &["m"])).unwrap();
        assert_eq!(names[0].len(), 2);
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("shards/i0001.csv"), "input_tokens\n2\n");
        assert!(read("shards/i0001.jsonl").contains("\"k\":2") && read("shards/i0001.jsonl").lines().count() == 1);
    }

    #[test]
    fn classes_become_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "c.csv", "input_tokens,count,output_tokens\n10,3,20\n7,1,8\n");
        let files = [source(path, Format::ClassTable, 0, 4)];
        write(dir.path(), &files, &split(&[0, 0, 1, 1], &["a", "b"])).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("shards/i0001.csv"), "input_tokens,output_tokens\n10,20\n10,20\n");
        assert_eq!(read("shards/i0002.csv"), "input_tokens,output_tokens\n10,20\n7,8\n");
    }

    #[test]
    fn a_workload_that_changed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let csv = file(dir.path(), "w.csv", "input_tokens\n1\n2\n");
        let jsonl = file(dir.path(), "w.jsonl", "{\"body\":{}}\n{\"body\":{}}\n");
        for (path, rows) in [(csv, Format::Csv), (jsonl, Format::OpenaiBatch)] {
            for planned in [1, 3] {
                let sources = [source(path.clone(), rows, 0, planned)];
                let error = write(dir.path(), &sources, &split(&vec![0; planned], &["a"])).unwrap_err().to_string();
                assert!(error.contains("other requests than were planned"), "{error}");
            }
        }
        let gone = [source("gone.csv".into(), Format::Csv, 0, 1)];
        assert!(matches!(write(dir.path(), &gone, &split(&[0], &["a"])), Err(ShardError::Source(_))));
    }

    #[test]
    fn shards_larger_than_the_buffer_keep_the_order_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let padding = "x".repeat(3 << 20);
        let line = |k: u32| format!("{{\"custom_id\":{k},\"body\":{{}},\"p\":\"{padding}\"}}\n");
        let path = file(dir.path(), "w.jsonl", &(0..60).map(line).collect::<String>());
        let csv = file(dir.path(), "w.csv", &(0..60).fold("row\n".to_owned(), |text, k| format!("{text}{k}\n")));
        let files = [source(path, Format::OpenaiBatch, 0, 60), source(csv, Format::Csv, 60, 60)];
        let assignment: Vec<u32> = (0..120).map(|k| k % 2).collect();
        let ids = |name: &str| -> Vec<u64> {
            let text = fs::read_to_string(dir.path().join(name)).unwrap();
            let id =
                |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["custom_id"].as_u64().unwrap();
            text.lines().map(id).collect()
        };
        let rows = |name: &str| -> Vec<String> {
            fs::read_to_string(dir.path().join(name)).unwrap().lines().map(str::to_owned).collect()
        };
        let forwards: Vec<u64> = (0..30).map(|k| 2 * k + 1).collect();
        write(dir.path(), &files, &split(&assignment, &["m", "m"])).unwrap();
        assert_eq!(ids("shards/i0002.jsonl"), forwards);
        assert_eq!(rows("shards/i0002.csv")[..3], ["row", "1", "3"]);

        fs::remove_dir_all(dir.path().join(FOLDER)).unwrap();
        let rank: Vec<u32> = (0..120).map(|request| 1000 - request).collect();
        write(dir.path(), &files, &Split { rank: Some(&rank), ..split(&assignment, &["m", "m"]) }).unwrap();
        assert_eq!(ids("shards/i0002.jsonl"), forwards.iter().rev().copied().collect::<Vec<_>>());
        let reversed = rows("shards/i0002.csv");
        assert_eq!((reversed.len(), &reversed[..3]), (31, &["row".to_owned(), "59".into(), "57".into()][..]));
        assert_eq!(fs::read_dir(dir.path().join(FOLDER)).unwrap().count(), 4, "nothing else is left there");
    }
}

//! Shards: each instance's part of the workload, as its engine reads it, in the order in which it is to be served.
//!
//! The caller's files are read once more rather than kept: a JSONL line passes through with the value of `body.model`
//! replaced and no other byte changed, a CSV row with the header, a class-table row once per request. Rows wait in
//! memory and are appended shard by shard (`sink`), so the files may be far larger than memory. Files with lengths only
//! become CSV, because there is no text to send.

mod sink;

use std::fs;
use std::io::BufRead;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use self::sink::Sink;
use super::problems::{Collector, Problems};
use super::table::Table;
use super::text::open_text;
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

/// Which request goes where.
#[derive(Clone, Copy, Debug)]
pub struct Split<'a> {
    /// The instance of each request.
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
    let header = csv_header(files)?;
    let mut header_line = Vec::new();
    if !header.is_empty() {
        append_record(&mut header_line, header.iter().map(String::as_bytes));
    }
    let instances = split.served_names.len();
    let mut jsonl = Sink::new(&folder, "jsonl", instances, Vec::new(), split.rank);
    let mut csv = Sink::new(&folder, "csv", instances, header_line, split.rank);
    for file in files {
        let end = file.first_request.saturating_add(file.requests).min(split.assignment.len());
        let planned = split.assignment.get(file.first_request..end).unwrap_or_default();
        let planned = (file.first_request..).zip(planned.iter().copied());
        match file.format {
            Format::OpenaiBatch => split_jsonl(&file.path, planned, split.served_names, &mut jsonl)?,
            Format::Csv | Format::Azure => split_csv(&file.path, planned, None, &header, &mut csv)?,
            Format::ClassTable => split_csv(&file.path, planned, Some(COUNT), &header, &mut csv)?,
        }
    }
    let (jsonl, csv) = (jsonl.finish()?, csv.finish()?);
    Ok(jsonl.into_iter().zip(csv).map(|(jsonl, csv)| jsonl.into_iter().chain(csv).collect()).collect())
}

/// The columns of all CSV files together, in order of appearance: with one file, its own. How many requests a class
/// stands for has no meaning in a row of one request and is left out.
fn csv_header(files: &[WorkloadFile]) -> Result<Vec<String>, Problems> {
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

fn split_csv(
    path: &Path,
    mut planned: impl Iterator<Item = (usize, u32)>,
    count: Option<&str>,
    header: &[String],
    sink: &mut Sink,
) -> Result<(), ShardError> {
    let mut table = Table::open(path)?;
    let columns: Vec<Option<usize>> = header.iter().map(|name| table.column(name)).collect();
    let count = count.map(|name| table.column(name));
    let mut surplus = false;
    while let Some(mut row) = table.next_row() {
        let times = match count {
            Some(column) => row.whole(column, 0, u32::MAX).unwrap_or(0),
            None => 1,
        };
        for _ in 0..times {
            let Some((request, instance)) = planned.next() else {
                surplus = true;
                break;
            };
            let cells = columns.iter().map(|column| column.map_or(&[][..], |column| row.raw(column)));
            append_record(sink.row(request, instance, path)?, cells);
            sink.row_is_whole()?;
        }
    }
    if surplus || planned.next().is_some() {
        changed(&mut table.problems);
    }
    Ok(table.finish(())?)
}

fn append_record<'a>(buffer: &mut Vec<u8>, cells: impl Iterator<Item = &'a [u8]>) {
    let mut writer = csv::WriterBuilder::new().buffer_capacity(256).from_writer(buffer);
    // Writing to memory does not fail, and records of one header are equally long.
    let _ = writer.write_record(cells);
}

fn split_jsonl(
    path: &Path,
    mut planned: impl Iterator<Item = (usize, u32)>,
    served_names: &[&str],
    sink: &mut Sink,
) -> Result<(), ShardError> {
    let names: Vec<String> = served_names.iter().map(|name| serde_json::Value::from(*name).to_string()).collect();
    let mut problems = Collector::new(path);
    let mut input = open_text(path)?;
    let mut line = Vec::new();
    let mut number = 0u64;
    loop {
        line.clear();
        let unreadable = |source| Problems::Unreadable { file: path.to_owned(), source };
        if input.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            break;
        }
        number += 1;
        let text = if number == 1 { line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line) } else { &line };
        let text = text.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let Some((request, instance)) = planned.next() else {
            changed(&mut problems);
            break;
        };
        let buffer = sink.row(request, instance, path)?;
        let name = names.get(instance as usize).map_or("", String::as_str);
        if let Err(what) = append_with_model(buffer, text, name) {
            problems.add(format!("line {number}"), what, "each line is one request in OpenAI's batch format");
        }
        sink.row_is_whole()?;
    }
    if planned.next().is_some() {
        changed(&mut problems);
    }
    Ok(problems.finish(())?)
}

fn changed(problems: &mut Collector) {
    problems.add("", "the file holds other requests than were planned", "it changed meanwhile: make the plan again");
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    body: &'a RawValue,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, deserialize_with = "as_written")]
    model: Option<&'a RawValue>,
}

/// `null` is a value like any other here: it has a place in the text and is replaced there.
fn as_written<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

/// Appends the line with `body.model` replaced by `name`, a JSON string; a body without a model gets one.
fn append_with_model(buffer: &mut Vec<u8>, line: &[u8], name: &str) -> Result<(), String> {
    let text = std::str::from_utf8(line).map_err(|_| "not UTF-8 text")?;
    let body = serde_json::from_str::<Line<'_>>(text).map_err(|error| error.to_string())?.body.get();
    let body_at = body.as_ptr() as usize - text.as_ptr() as usize;
    if !body.starts_with('{') {
        return Err("`body` is not an object".into());
    }
    let model = serde_json::from_str::<Body<'_>>(body).map_err(|error| format!("in `body`: {error}"))?.model;
    let (from, to, value) = match model {
        Some(model) => {
            let at = body_at + (model.get().as_ptr() as usize - body.as_ptr() as usize);
            (at, at + model.get().len(), name.to_owned())
        }
        None => {
            let comma = if body[1..].trim_start().starts_with('}') { "" } else { "," };
            (body_at + 1, body_at + 1, format!("\"model\":{name}{comma}"))
        }
    };
    for part in [&text[..from], &value, &text[to..], "\n"] {
        buffer.extend_from_slice(part.as_bytes());
    }
    Ok(())
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
    fn only_the_model_of_a_line_changes() {
        let rewritten = |line: &str| {
            let mut buffer = Vec::new();
            append_with_model(&mut buffer, line.as_bytes(), r#""se\"rved""#)
                .map(|()| String::from_utf8(buffer).unwrap())
        };
        let line = r#"{ "custom_id":"\u00e9 $(x)", "body" : {"seed":123456789012345678901234567890,"model" :"gpt-4","t":1e-7, "messages":[{"model":"no"}]},"model":"top" }"#;
        assert_eq!(rewritten(line).unwrap(), line.replace(r#""gpt-4""#, r#""se\"rved""#) + "\n");
        let nothing = r#"{"body":{"model":null}}"#;
        assert_eq!(rewritten(nothing).unwrap(), nothing.replace("null", r#""se\"rved""#) + "\n");
        assert_eq!(rewritten(r#"{"body":{"a":1}}"#).unwrap(), "{\"body\":{\"model\":\"se\\\"rved\",\"a\":1}}\n");
        assert_eq!(rewritten(r#"{"body":{ }}"#).unwrap(), "{\"body\":{\"model\":\"se\\\"rved\" }}\n");
        for broken in ["{}", "[]", "{\"body\":3}", "{\"body\":{}", "{\"body\":{\"model\":1,\"model\":2}}"] {
            assert!(rewritten(broken).is_err(), "{broken}");
        }
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
        let padding = "x".repeat(1 << 20);
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

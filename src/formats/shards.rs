//! Shards: each instance's part of the workload, as its engine reads it, in the order of the requests.
//!
//! The caller's files are read once more rather than kept: a JSONL line passes through with the value of `body.model`
//! replaced and no other byte changed, a CSV row with the header, a class-table row once per request. Rows wait in
//! memory up to `SPILL_AT` bytes and are then appended shard by shard, so one file is open at a time however many
//! instances there are. Files with lengths only become CSV, because there is no text to send.

use std::fs::{self, File};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::plan_dir::instance_id;
use super::problems::{Collector, Problems};
use super::table::{Table, open_text};
use super::write::WriteError;

/// Folder of the shards in a plan directory.
pub const FOLDER: &str = "shards";

const SPILL_AT: usize = 32 << 20;

/// Where the requests of a workload file are: its rows, in order, are `first_request` and those after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSource {
    pub path: PathBuf,
    pub rows: SourceRows,
    pub first_request: usize,
    pub requests: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceRows {
    /// OpenAI batch lines.
    Jsonl,
    /// One CSV row a request, whatever its columns.
    Csv,
    /// One CSV row for as many requests as this column says.
    Classes { count: String },
}

#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    #[error(transparent)]
    Source(#[from] Problems),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Writes `shards/<instance>.jsonl` and `.csv` under `dir` and returns, for each instance, the names of its files
/// (none without requests; two if its requests come from both kinds of file).
///
/// `assignment` is the instance of each request, `served_names` the name each instance's engine answers to.
///
/// # Errors
/// `Source` if a file no longer holds the requests that were planned; `Write`.
pub fn write(
    dir: &Path,
    sources: &[ShardSource],
    assignment: &[u32],
    served_names: &[&str],
) -> Result<Vec<Vec<String>>, ShardError> {
    let folder = dir.join(FOLDER);
    fs::create_dir_all(&folder).map_err(|source| WriteError::Cannot { path: folder.clone(), source })?;
    let header = csv_header(sources)?;
    let mut jsonl = Sink::new(&folder, "jsonl", served_names.len(), &[]);
    let mut csv = Sink::new(&folder, "csv", served_names.len(), &header);
    for source in sources {
        let end = source.first_request.saturating_add(source.requests).min(assignment.len());
        let planned = assignment.get(source.first_request..end).unwrap_or_default();
        match &source.rows {
            SourceRows::Jsonl => split_jsonl(&source.path, planned, served_names, &mut jsonl)?,
            SourceRows::Csv => split_csv(&source.path, planned, None, &header, &mut csv)?,
            SourceRows::Classes { count } => split_csv(&source.path, planned, Some(count), &header, &mut csv)?,
        }
    }
    let (jsonl, csv) = (jsonl.finish()?, csv.finish()?);
    Ok(jsonl.into_iter().zip(csv).map(|(jsonl, csv)| jsonl.into_iter().chain(csv).collect()).collect())
}

/// The columns of all CSV files together, in order of appearance: with one file, its own. A column that says how many
/// requests a row stands for has no meaning in a row of one request and is left out.
fn csv_header(sources: &[ShardSource]) -> Result<Vec<String>, Problems> {
    let mut header: Vec<String> = Vec::new();
    for source in sources {
        let count = match &source.rows {
            SourceRows::Jsonl => continue,
            SourceRows::Csv => None,
            SourceRows::Classes { count } => Some(count),
        };
        for column in Table::open(&source.path)?.header() {
            if Some(column) != count && !header.contains(column) {
                header.push(column.clone());
            }
        }
    }
    Ok(header)
}

fn split_csv(
    path: &Path,
    planned: &[u32],
    count: Option<&str>,
    header: &[String],
    sink: &mut Sink,
) -> Result<(), ShardError> {
    let mut table = Table::open(path)?;
    let columns: Vec<Option<usize>> = header.iter().map(|name| table.column(name)).collect();
    let count = count.map(|name| table.column(name));
    let mut planned = planned.iter();
    let mut surplus = false;
    while let Some(mut row) = table.next_row() {
        let times = match count {
            Some(column) => row.whole(column, 0, u32::MAX).unwrap_or(0),
            None => 1,
        };
        for _ in 0..times {
            let Some(&instance) = planned.next() else {
                surplus = true;
                break;
            };
            let buffer = sink.buffer(instance, path)?;
            append_record(buffer, columns.iter().map(|column| column.map_or(&[][..], |column| row.raw(column))));
            sink.spill_if_full()?;
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

fn split_jsonl(path: &Path, planned: &[u32], served_names: &[&str], sink: &mut Sink) -> Result<(), ShardError> {
    let names: Vec<String> = served_names.iter().map(|name| serde_json::Value::from(*name).to_string()).collect();
    let mut problems = Collector::new(path);
    let mut input = open_text(path)?;
    let mut line = Vec::new();
    let mut planned = planned.iter();
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
        let Some(&instance) = planned.next() else {
            changed(&mut problems);
            break;
        };
        let buffer = sink.buffer(instance, path)?;
        let name = names.get(instance as usize).map_or("", String::as_str);
        if let Err(what) = append_with_model(buffer, text, name) {
            problems.add(format!("line {number}"), what, "each line is one request in OpenAI's batch format");
        }
        sink.spill_if_full()?;
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

/// Rows on their way to the shards of one kind.
struct Sink {
    folder: PathBuf,
    extension: &'static str,
    header: Vec<u8>,
    waiting: Vec<Vec<u8>>,
    started: Vec<bool>,
    /// Bytes in `waiting` after the last row, and before it.
    total: usize,
    before: usize,
    current: usize,
}

impl Sink {
    fn new(folder: &Path, extension: &'static str, instances: usize, header: &[String]) -> Self {
        let mut line = Vec::new();
        if !header.is_empty() {
            append_record(&mut line, header.iter().map(String::as_bytes));
        }
        Self {
            folder: folder.to_owned(),
            extension,
            header: line,
            waiting: vec![Vec::new(); instances],
            started: vec![false; instances],
            total: 0,
            before: 0,
            current: 0,
        }
    }

    /// Where to append the next row of `instance`.
    fn buffer(&mut self, instance: u32, source: &Path) -> Result<&mut Vec<u8>, Problems> {
        self.current = instance as usize;
        let Some(buffer) = self.waiting.get_mut(self.current) else {
            let mut problems = Collector::new(source);
            problems.add("", format!("a request is assigned to instance {instance}, which is not there"), "");
            return problems.fail();
        };
        self.before = buffer.len();
        if !self.started[self.current] {
            self.started[self.current] = true;
            buffer.extend_from_slice(&self.header);
        }
        Ok(buffer)
    }

    fn spill_if_full(&mut self) -> Result<(), WriteError> {
        self.total += self.waiting[self.current].len() - self.before;
        if self.total >= SPILL_AT { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<(), WriteError> {
        for (instance, rows) in self.waiting.iter_mut().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let path = self.folder.join(format!("{}.{}", instance_id(instance), self.extension));
            let append = |path: &Path| -> io::Result<()> {
                File::options().create(true).append(true).open(path)?.write_all(rows)
            };
            append(&path).map_err(|source| WriteError::Cannot { path: path.clone(), source })?;
            *rows = Vec::new();
        }
        self.total = 0;
        Ok(())
    }

    /// The name of each instance's file, if it has rows.
    fn finish(mut self) -> Result<Vec<Option<String>>, WriteError> {
        self.spill()?;
        let name = |(instance, started): (usize, &bool)| {
            started.then(|| format!("{FOLDER}/{}.{}", instance_id(instance), self.extension))
        };
        Ok(self.started.iter().enumerate().map(name).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: PathBuf, rows: SourceRows, first_request: usize, requests: usize) -> ShardSource {
        ShardSource { path, rows, first_request, requests }
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
            source(jsonl, SourceRows::Jsonl, 0, 6),
            source(csv, SourceRows::Csv, 6, 2),
            source(azure, SourceRows::Csv, 8, 1),
        ];
        let names = write(dir.path(), &sources, &[0, 1, 0, 1, 0, 0, 2, 0, 2], &["m0", "m1", "m2", "m3"]).unwrap();
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
        let path = file(dir.path(), "c.csv", "input_tokens,output_tokens,requests\n10,20,3\n5,6,0\n7,8,1\n");
        let rows = SourceRows::Classes { count: "requests".into() };
        write(dir.path(), &[source(path, rows, 0, 4)], &[0, 0, 1, 1], &["a", "b"]).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("shards/i0001.csv"), "input_tokens,output_tokens\n10,20\n10,20\n");
        assert_eq!(read("shards/i0002.csv"), "input_tokens,output_tokens\n10,20\n7,8\n");
    }

    #[test]
    fn a_workload_that_changed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let csv = file(dir.path(), "w.csv", "input_tokens\n1\n2\n");
        let jsonl = file(dir.path(), "w.jsonl", "{\"body\":{}}\n{\"body\":{}}\n");
        for (path, rows) in [(csv, SourceRows::Csv), (jsonl, SourceRows::Jsonl)] {
            for planned in [1, 3] {
                let sources = [source(path.clone(), rows.clone(), 0, planned)];
                let error = write(dir.path(), &sources, &vec![0; planned], &["a"]).unwrap_err().to_string();
                assert!(error.contains("other requests than were planned"), "{error}");
            }
        }
        let gone = [source("gone.csv".into(), SourceRows::Csv, 0, 1)];
        assert!(matches!(write(dir.path(), &gone, &[0], &["a"]), Err(ShardError::Source(_))));
    }

    #[test]
    fn more_than_the_buffer_is_spilled_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let text: String = (0..60)
            .map(|k| format!("{{\"custom_id\":{k},\"body\":{{}},\"p\":\"{}\"}}\n", "x".repeat(1 << 20)))
            .collect();
        let path = file(dir.path(), "w.jsonl", &text);
        let assignment: Vec<u32> = (0..60).map(|k| k % 2).collect();
        write(dir.path(), &[source(path, SourceRows::Jsonl, 0, 60)], &assignment, &["m", "m"]).unwrap();
        let shard = fs::read_to_string(dir.path().join("shards/i0002.jsonl")).unwrap();
        let ids: Vec<u64> = shard
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["custom_id"].as_u64().unwrap())
            .collect();
        assert_eq!(ids, (0..30).map(|k| 2 * k + 1).collect::<Vec<_>>());
    }
}

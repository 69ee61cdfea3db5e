//! `input_tokens, output_tokens [, request_id, job, model, min_accuracy, deadline_s, release_s, max_tokens]`, a row a
//! request; with a `count` (see `class_table`), a row for several.
//!
//! An empty `output_tokens` is bounded by `max_tokens` and makes the outputs of the file estimated. Other columns are
//! the caller's and are ignored, with a note, so that a misspelt one does not pass unseen.

use std::path::Path;

use super::own_ids::Layout;
use super::rows::{Reading, RowKey, Rows};
use super::{MAX_REQUESTS, MAX_TOKENS};
use crate::domain::Provenance;
use crate::formats::duration::MAX_SECONDS;
use crate::formats::problems::Problems;
use crate::formats::table::{Row, Table};
use crate::units::Seconds;

/// Columns of the workload CSV; `output_tokens` or `max_tokens` is needed besides `input_tokens`.
pub const COLUMNS: [&str; 9] = [
    "input_tokens",
    "output_tokens",
    "request_id",
    "job",
    "model",
    "min_accuracy",
    "deadline_s",
    "release_s",
    "max_tokens",
];

pub(super) fn read(path: &Path, reading: Reading) -> Result<(Rows, Option<Layout>), Problems> {
    let mut table = Table::open(path)?;
    if table.column("count").is_some() {
        table.problems.add("line 1", "a `count` column in a file read as csv", "read it with --format class-table");
    }
    let layout = table.column("request_id").map(|column| Layout::Csv { header: table.header().to_vec(), column });
    Ok((read_table(path, table, None, reading)?, layout))
}

/// `count`: the column that says for how many requests a row stands.
pub(super) fn read_table(
    path: &Path,
    mut table: Table<'_>,
    count: Option<usize>,
    reading: Reading,
) -> Result<Rows, Problems> {
    let columns = Columns::of(&mut table, count);
    let mut rows = Rows::new(columns.id.map(|_| reading.ids(path)));
    let ignored: Vec<&str> =
        table.header().iter().map(String::as_str).filter(|name| !COLUMNS.contains(name) && *name != "count").collect();
    if !ignored.is_empty() {
        rows.warnings.push(format!("columns not used: {}", ignored.join(", ")));
    }
    let mut rows = rows.read(path, table, reading, |table, rows| columns.read(table, rows))?;
    if !rows.bounded.is_empty() {
        rows.output_provenance = Provenance::Estimated;
        let count = rows.bounded.len();
        rows.warnings.push(format!("output tokens of {count} requests are unknown and bounded by max_tokens"));
    }
    Ok(rows)
}

struct Columns {
    input: Option<usize>,
    output: Option<usize>,
    max_tokens: Option<usize>,
    id: Option<usize>,
    count: Option<usize>,
    /// job, model, min_accuracy, deadline_s, release_s
    key: [Option<usize>; 5],
}

impl Columns {
    fn of(table: &mut Table<'_>, count: Option<usize>) -> Self {
        let max_tokens = table.column("max_tokens");
        Self {
            input: table.require("input_tokens"),
            output: if max_tokens.is_some() { table.column("output_tokens") } else { table.require("output_tokens") },
            max_tokens,
            id: table.column("request_id"),
            count,
            key: ["job", "model", "min_accuracy", "deadline_s", "release_s"].map(|name| table.column(name)),
        }
    }

    /// Reads all rows of the table.
    fn read(&self, table: &mut Table<'_>, rows: &mut Rows) {
        while let Some(mut row) = table.next_row() {
            let input_tokens = row.required_whole(self.input, 0, MAX_TOKENS);
            let (output_tokens, from_bound) = read_output(&mut row, self.output, self.max_tokens);
            let key = self.key(&mut row, rows);
            let copies = self.count.map_or(Some(1), |count| row.required_whole(Some(count), 1, MAX_REQUESTS as u32));
            let offset = row.offset();
            if let (Some(ids), Some(id)) = (&mut rows.ids, row.required_str(self.id)) {
                ids.push(id, offset);
            }
            let (Some(input_tokens), Some(output_tokens), Some(copies)) = (input_tokens, output_tokens, copies) else {
                continue;
            };
            if rows.len() + copies as usize > MAX_REQUESTS {
                let what = format!("more than {MAX_REQUESTS} requests");
                row.problem(self.count.or(self.input).unwrap_or(0), what, "split the workload");
                break;
            }
            for _ in 0..copies {
                if from_bound {
                    rows.bounded.push(rows.len() as u32); // at most MAX_REQUESTS
                }
                rows.push(input_tokens, output_tokens, key);
            }
        }
    }

    fn key(&self, row: &mut Row, rows: &mut Rows) -> u32 {
        let cells = self.key.map(|column| row.bytes(column));
        let [job, model, min_accuracy, deadline, release] = self.key;
        rows.intern(cells, || RowKey {
            job: row.text(job),
            model: row.text(model),
            min_accuracy: row.number(min_accuracy, 0.0, 100.0),
            deadline: row.number(deadline, f64::MIN_POSITIVE, MAX_SECONDS).map(Seconds),
            release: row.number(release, 0.0, MAX_SECONDS).map(Seconds),
            instant: None,
            line: row.line(),
        })
    }
}

/// Output tokens and whether they are only the bound.
fn read_output(row: &mut Row, output: Option<usize>, max_tokens: Option<usize>) -> (Option<u32>, bool) {
    let bound = row.whole(max_tokens, 1, MAX_TOKENS);
    if row.bytes(output).is_empty() && !row.bytes(max_tokens).is_empty() {
        return (bound, true);
    }
    let tokens = row.required_whole(output.or(max_tokens), 1, MAX_TOKENS);
    if let (Some(tokens), Some(bound), Some(column)) = (tokens, bound, output)
        && tokens > bound
    {
        row.problem(column, format!("{tokens} is more than max_tokens ({bound})"), "correct one of the two");
    }
    (tokens, false)
}

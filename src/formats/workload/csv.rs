//! `input_tokens, output_tokens [, request_id, job, model, min_accuracy, deadline_s, release_s, max_tokens]`, a row a
//! request; with a `count` (see `class_table`), a row for several.
//!
//! An empty `output_tokens` is taken from `max_tokens` and makes the outputs of the file estimated. Other columns are
//! the caller's and are ignored, with a note, so that a misspelt one does not pass unseen.

use std::path::Path;

use super::rows::{Interner, RowKey, Rows};
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

pub(super) fn read(path: &Path) -> Result<Rows, Problems> {
    let mut table = Table::open(path)?;
    if table.column("count").is_some() {
        table.problems.add("line 1", "a `count` column in a file read as csv", "read it with --format class-table");
    }
    read_table(table, None)
}

/// `count`: the column that says for how many requests a row stands.
pub(super) fn read_table(mut table: Table, count: Option<usize>) -> Result<Rows, Problems> {
    let input = table.require("input_tokens");
    let max_tokens = table.column("max_tokens");
    let output = if max_tokens.is_some() { table.column("output_tokens") } else { table.require("output_tokens") };
    let id = table.column("request_id");
    let keys = KeyColumns::of(&table);
    let mut interner = Interner::default();
    let mut rows = Rows::new(id.is_some());
    let ignored: Vec<&str> =
        table.header().iter().map(String::as_str).filter(|name| !COLUMNS.contains(name) && *name != "count").collect();
    if !ignored.is_empty() {
        rows.warnings.push(format!("columns not used: {}", ignored.join(", ")));
    }
    let mut bounded = 0_usize;
    while let Some(mut row) = table.next_row() {
        let input_tokens = row.required_whole(input, 0, MAX_TOKENS);
        let (output_tokens, from_bound) = read_output(&mut row, output, max_tokens);
        let key = keys.index(&mut row, &mut interner, &mut rows.keys);
        let copies = count.map_or(Some(1), |count| row.required_whole(Some(count), 1, MAX_REQUESTS as u32));
        if let (Some(ids), Some(name)) = (&mut rows.ids, row.required_text(id)) {
            ids.push(name);
        }
        let (Some(input_tokens), Some(output_tokens), Some(copies)) = (input_tokens, output_tokens, copies) else {
            continue;
        };
        if rows.len() + copies as usize > MAX_REQUESTS {
            let what = format!("more than {MAX_REQUESTS} requests");
            row.problem(count.or(input).unwrap_or(0), what, "split the workload");
            break;
        }
        bounded += if from_bound { copies as usize } else { 0 };
        for _ in 0..copies {
            rows.push(input_tokens, output_tokens, key);
        }
    }
    if bounded > 0 {
        rows.output_provenance = Provenance::Estimated;
        rows.warnings.push(format!("output tokens of {bounded} requests taken from max_tokens, an upper estimate"));
    }
    table.finish(rows)
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

struct KeyColumns {
    job: Option<usize>,
    model: Option<usize>,
    min_accuracy: Option<usize>,
    deadline: Option<usize>,
    release: Option<usize>,
}

impl KeyColumns {
    fn of(table: &Table) -> Self {
        Self {
            job: table.column("job"),
            model: table.column("model"),
            min_accuracy: table.column("min_accuracy"),
            deadline: table.column("deadline_s"),
            release: table.column("release_s"),
        }
    }

    fn index(&self, row: &mut Row, interner: &mut Interner, keys: &mut Vec<RowKey>) -> u32 {
        interner.start();
        for column in [self.job, self.model, self.min_accuracy, self.deadline, self.release] {
            interner.add(row.bytes(column));
        }
        interner.index(keys, || RowKey {
            job: row.text(self.job),
            model: row.text(self.model),
            min_accuracy: row.number(self.min_accuracy, 0.0, 100.0),
            deadline: row.number(self.deadline, f64::MIN_POSITIVE, MAX_SECONDS).map(Seconds),
            release: row.number(self.release, 0.0, MAX_SECONDS).map(Seconds),
            line: row.line(),
        })
    }
}

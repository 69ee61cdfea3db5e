//! An aggregated workload: `input_tokens, output_tokens, count [, job, ...]`, expanded to `count` requests a row.
//!
//! Lengths are those of every request of the class, whole numbers; a class table of means is not one. Its requests have
//! no ids of their own.

use std::path::Path;

use super::csv;
use super::rows::{Reading, Rows};
use crate::formats::problems::Problems;
use crate::formats::table::Table;

pub(super) fn read(path: &Path, reading: Reading) -> Result<Rows, Problems> {
    let mut table = Table::open(path)?;
    let count = table.require("count");
    if table.column("request_id").is_some() {
        table.problems.add("line 1", "a class of requests cannot have a `request_id`", "remove that column");
    }
    // A few rows may stand for all the requests there can be: side by side, blocks of them would fill the memory.
    csv::read_table(path, table, count, Reading { block_bytes: 0, ..reading })
}

//! The Azure LLM inference traces: `TIMESTAMP, ContextTokens, GeneratedTokens` (AzurePublicDataset, CC-BY-4.0).
//!
//! A plan takes the requests as a queue that is ready now, so the timestamp is not even read, unless releases are asked
//! for: then each request is released as long after the start as it came after the first one of the trace.

use std::path::Path;
use std::time::SystemTime;

use super::MAX_TOKENS;
use super::rows::{Reading, RowKey, Rows};
use crate::formats::duration::{TimeError, parse_instant};
use crate::formats::problems::Problems;
use crate::formats::table::{Row, Table};
use crate::units::Seconds;

pub(super) fn read(path: &Path, releases: bool, reading: Reading) -> Result<Rows, Problems> {
    let mut table = Table::open(path)?;
    let (input, output) = (table.require("ContextTokens"), table.require("GeneratedTokens"));
    let timestamp = if releases { table.require("TIMESTAMP") } else { None };
    let mut rows = Rows::new(None).read(path, table, reading, |table, rows| {
        while let Some(mut row) = table.next_row() {
            let input_tokens = row.required_whole(input, 0, MAX_TOKENS);
            let output_tokens = row.required_whole(output, 1, MAX_TOKENS);
            let key = rows.intern([row.bytes(timestamp)], || RowKey {
                instant: timestamp.and_then(|column| read_instant(&mut row, column)),
                line: row.line(),
                ..RowKey::default()
            });
            if let (Some(input_tokens), Some(output_tokens)) = (input_tokens, output_tokens) {
                rows.push(input_tokens, output_tokens, key);
            }
        }
    })?;
    if let Some(first) = rows.keys.iter().filter_map(|key| key.instant).min() {
        for key in &mut rows.keys {
            let since = key.instant.and_then(|instant| instant.duration_since(first).ok());
            key.release = since.map(|time| Seconds(time.as_secs_f64()));
        }
    }
    Ok(rows)
}

/// The 2023 trace names no zone, the 2024 one does; only differences count.
fn read_instant(row: &mut Row, column: usize) -> Option<SystemTime> {
    let text = row.required_text(Some(column))?;
    let instant = match parse_instant(&text) {
        Err(TimeError::NoZone(_)) => parse_instant(&format!("{text}Z")),
        other => other,
    };
    instant.map_err(|error| row.problem(column, error.to_string(), "")).ok()
}

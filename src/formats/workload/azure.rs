//! The Azure LLM inference traces: `TIMESTAMP, ContextTokens, GeneratedTokens` (AzurePublicDataset, CC-BY-4.0).
//!
//! A plan takes the requests as a queue that is ready now, so the timestamp is not even read, unless releases are asked
//! for: then each request is released as long after the start as it came after the first one of the trace.

use std::path::Path;
use std::time::SystemTime;

use super::MAX_TOKENS;
use super::rows::{Interner, RowKey, Rows};
use crate::formats::duration::{TimeError, parse_instant};
use crate::formats::problems::Problems;
use crate::formats::table::{Row, Table};
use crate::units::Seconds;

pub(super) fn read(path: &Path, releases: bool) -> Result<Rows, Problems> {
    let mut table = Table::open(path)?;
    let (input, output) = (table.require("ContextTokens"), table.require("GeneratedTokens"));
    let timestamp = if releases { table.require("TIMESTAMP") } else { None };
    let mut rows = Rows::new(false);
    let mut interner = Interner::default();
    let mut instants: Vec<Option<SystemTime>> = Vec::new();
    while let Some(mut row) = table.next_row() {
        let input_tokens = row.required_whole(input, 0, MAX_TOKENS);
        let output_tokens = row.required_whole(output, 1, MAX_TOKENS);
        interner.start();
        interner.add(row.bytes(timestamp));
        let key = interner.index(&mut rows.keys, || {
            instants.push(timestamp.and_then(|column| read_instant(&mut row, column)));
            RowKey { line: row.line(), ..RowKey::default() }
        });
        if let (Some(input_tokens), Some(output_tokens)) = (input_tokens, output_tokens) {
            rows.push(input_tokens, output_tokens, key);
        }
    }
    if let Some(first) = instants.iter().flatten().min() {
        for (key, instant) in rows.keys.iter_mut().zip(&instants) {
            key.release =
                instant.and_then(|instant| instant.duration_since(*first).ok()).map(|t| Seconds(t.as_secs_f64()));
        }
    }
    table.finish(rows)
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

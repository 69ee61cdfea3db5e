//! `fit --suggest N`: the cells to measure next, for every family of the samples, or for one that has none.

use serde_json::{Value, json};

use crate::domain::{FamilyKey, Sample};
use crate::fit::suggest::{self, Cell, Grid, suggest};
use crate::report::text::Table;

/// Cells for a new family, if no number is given.
pub const DEFAULT_CELLS: &str = "9";
/// Largest grid: every cell is weighed against every other.
const MOST_CELLS: usize = 4096;
/// Batches of a family that has no samples.
const BATCHES: [f64; 4] = [1.0, 8.0, 64.0, 256.0];

/// Where to look, as far as the command line says.
#[derive(Debug, clap::Args)]
pub struct GridArguments {
    /// Input lengths that --suggest may name
    #[arg(long, value_name = "TOKENS,..", value_delimiter = ',', value_parser = tokens,
        default_values_t = powers_of_two(), hide_default_value = true, requires = "suggest")]
    grid_input: Vec<f64>,
    /// Output lengths that --suggest may name
    #[arg(long, value_name = "TOKENS,..", value_delimiter = ',', value_parser = tokens,
        default_values_t = powers_of_two(), hide_default_value = true, requires = "suggest")]
    grid_output: Vec<f64>,
    /// Batch sizes that --suggest may name; those of a family's samples if absent, 1, 8, 64 and 256 without samples
    #[arg(long, value_name = "REQUESTS,..", value_delimiter = ',', value_parser = tokens, requires = "suggest")]
    grid_batch: Vec<f64>,
}

/// What to measure next.
pub struct Suggestion {
    /// `None`: a family without samples.
    pub family: Option<FamilyKey>,
    pub cells: Vec<Cell>,
    /// Samples whose lengths are unknown, which say nothing of a cell.
    pub without_lengths: usize,
}

impl GridArguments {
    /// Up to `count` cells for each family of `samples`, or for a new one.
    ///
    /// # Errors
    /// The grid is too large.
    pub fn suggest(&self, samples: &[Sample], count: usize) -> Result<Vec<Suggestion>, String> {
        let mut families: std::collections::BTreeMap<FamilyKey, Vec<&Sample>> = std::collections::BTreeMap::new();
        for sample in samples.iter().filter(|sample| !sample.warmup) {
            families.entry(sample.family()).or_default().push(sample);
        }
        if families.is_empty() {
            return Ok(vec![self.of_family(None, &[], count)?]);
        }
        families.into_iter().map(|(key, rows)| self.of_family(Some(key), &rows, count)).collect()
    }

    fn of_family(&self, family: Option<FamilyKey>, rows: &[&Sample], count: usize) -> Result<Suggestion, String> {
        let measured: Vec<Cell> = rows
            .iter()
            .filter_map(|row| {
                Some(Cell {
                    input_tokens: row.tokens.input?,
                    output_tokens: row.tokens.output,
                    batch_size: row.batch_size,
                })
            })
            .filter(|cell| cell.input_tokens > 0.0 && cell.output_tokens > 0.0 && cell.batch_size > 0.0)
            .collect();
        let without_lengths = rows.len() - measured.len();
        let measured = suggest::distinct(&measured);
        let batch_size = if !self.grid_batch.is_empty() {
            self.grid_batch.clone()
        } else if rows.is_empty() {
            BATCHES.to_vec()
        } else {
            distinct(rows.iter().map(|row| row.batch_size.max(1.0).round()))
        };
        let grid = Grid { input_tokens: self.grid_input.clone(), output_tokens: self.grid_output.clone(), batch_size };
        let size = grid.input_tokens.len() * grid.output_tokens.len() * grid.batch_size.len();
        if size + measured.len() > MOST_CELLS {
            return Err(format!(
                "{size} cells and {} that are measured are more than {MOST_CELLS}: give fewer with --grid-input, --grid-output and \
                 --grid-batch",
                measured.len()
            ));
        }
        let cells = grid.cells();
        let kv_cache = family.as_ref().is_none_or(|key| key.kv_cache);
        let chosen = suggest(&cells, &measured, kv_cache, count).into_iter().map(|index| cells[index]).collect();
        Ok(Suggestion { family, cells: chosen, without_lengths })
    }
}

/// A row a cell, the most useful first.
pub fn table(suggestions: &[Suggestion]) -> String {
    let mut table = Table::new(&["measure next", ">input tokens", ">output tokens", ">batch"]);
    for suggestion in suggestions {
        for cell in &suggestion.cells {
            table.row([
                name(suggestion),
                cell.input_tokens.to_string(),
                cell.output_tokens.to_string(),
                cell.batch_size.to_string(),
            ]);
        }
    }
    table.render(0)
}

pub fn to_json(suggestions: &[Suggestion]) -> Value {
    let cell = |cell: &Cell| json!({"input_tokens": cell.input_tokens, "output_tokens": cell.output_tokens, "batch_size": cell.batch_size});
    let families = suggestions.iter().map(|suggestion| {
        json!({
            "family": suggestion.family.as_ref().map(ToString::to_string),
            "cells": suggestion.cells.iter().map(cell).collect::<Vec<_>>(),
        })
    });
    families.collect()
}

pub fn notes(suggestions: &[Suggestion]) -> Vec<String> {
    let blind = suggestions.iter().filter(|suggestion| suggestion.without_lengths > 0);
    blind
        .map(|suggestion| {
            format!(
                "{}: {} samples without input lengths tell --suggest nothing",
                name(suggestion),
                suggestion.without_lengths
            )
        })
        .collect()
}

fn name(suggestion: &Suggestion) -> String {
    suggestion.family.as_ref().map_or("a new family".to_owned(), ToString::to_string)
}

/// A count of tokens or requests: 1 to 10 million.
fn tokens(text: &str) -> Result<f64, String> {
    let value: u32 = text.trim().parse().map_err(|_| "not a whole number".to_owned())?;
    if (1..=10_000_000).contains(&value) { Ok(f64::from(value)) } else { Err("not between 1 and 10000000".to_owned()) }
}

/// 8, 16, .. 2048
fn powers_of_two() -> Vec<f64> {
    (3..=11).map(|exponent| f64::from(exponent).exp2()).collect()
}

fn distinct(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

//! How many tokens a text has: by a tokenizer.json, by a table of counts, or estimated from its characters.
//!
//! Four characters a token is the usual rule of thumb for English; it is marked estimated wherever it is used. What a
//! chat template adds around messages is not counted: it depends on the model that will serve them.

use std::collections::HashMap;
use std::path::Path;

use tokenizers::Tokenizer;

use super::MAX_TOKENS;
use crate::domain::Provenance;
use crate::formats::problems::{Collector, Problems};
use crate::formats::table::Table;

const CHARACTERS_PER_TOKEN: usize = 4;

pub(super) enum TokenCounter {
    Tokenizer(Box<Tokenizer>),
    Characters,
}

impl TokenCounter {
    /// Reads a tokenizer.json, if one is given.
    pub fn open(path: Option<&Path>) -> Result<Self, Problems> {
        let Some(path) = path else { return Ok(Self::Characters) };
        let bytes = std::fs::read(path).map_err(|source| Problems::Unreadable { file: path.to_owned(), source })?;
        Tokenizer::from_bytes(&bytes).map(|tokenizer| Self::Tokenizer(Box::new(tokenizer))).map_err(|error| {
            let mut problems = Collector::new(path);
            problems.add("", format!("no tokenizer: {error}"), "give the tokenizer.json that comes with the model");
            problems.into_error()
        })
    }

    pub fn provenance(&self) -> Provenance {
        match self {
            Self::Tokenizer(_) => Provenance::Imported,
            Self::Characters => Provenance::Estimated,
        }
    }

    /// Tokens of a text; 0 for the empty one.
    pub fn count(&self, text: &str) -> Result<usize, String> {
        match self {
            Self::Tokenizer(tokenizer) => {
                tokenizer.encode_fast(text, false).map(|encoding| encoding.len()).map_err(|error| error.to_string())
            }
            Self::Characters => Ok(text.chars().count().div_ceil(CHARACTERS_PER_TOKEN)),
        }
    }
}

/// Token counts by `custom_id`; either may be unknown.
pub(super) type Sidecar = HashMap<String, (Option<u32>, Option<u32>)>;

/// Reads `custom_id, input_tokens, output_tokens`; one of the two counts may be absent.
pub(super) fn read_sidecar(path: &Path) -> Result<Sidecar, Problems> {
    let mut table = Table::open(path)?;
    let id = table.require("custom_id");
    let (input, output) = (table.column("input_tokens"), table.column("output_tokens"));
    if input.or(output).is_none() {
        table.problems.add("line 1", "no column of counts", "add input_tokens, output_tokens or both");
    }
    let mut counts = Sidecar::new();
    while let Some(mut row) = table.next_row() {
        let tokens = (row.whole(input, 0, MAX_TOKENS), row.whole(output, 1, MAX_TOKENS));
        if let Some(name) = row.required_text(id)
            && counts.insert(name, tokens).is_some()
        {
            row.problem(id.unwrap_or(0), "the id occurs twice", "keep one of the two rows");
        }
    }
    table.finish(counts)
}

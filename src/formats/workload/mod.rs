//! The queue: workload files in any of their formats, put together with the jobs file and the flags.
//!
//! One file per format reads rows as they stand (`rows::Rows`); `assemble` alone knows which of request, jobs file and
//! flag wins. Unknown outputs are taken from `max_tokens`, or predicted by `lengths`, and marked estimated.

mod assemble;
mod azure;
mod class_table;
mod csv;
mod ids;
mod jobs;
mod lengths;
mod openai_batch;
mod own_ids;
mod paths;
mod rows;
#[cfg(test)]
mod tests;
mod tokens;

use std::fmt;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::problems::{Collector, Problems};
use super::table::Table;
use super::text::open_text;
use crate::domain::Workload;
use crate::units::Seconds;

pub use assemble::assemble;
pub use csv::COLUMNS;
pub use paths::expand;

/// More tokens than any model takes; a larger number is a mistake.
pub const MAX_TOKENS: u32 = 10_000_000;

/// More requests than a plan can hold in memory; a larger number is a mistake in a `count`.
pub const MAX_REQUESTS: usize = 50_000_000;

/// How a workload file is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// `input_tokens, output_tokens` and optional columns, a row a request.
    Csv,
    /// `TIMESTAMP, ContextTokens, GeneratedTokens`: the header of the Azure LLM inference traces.
    Azure,
    /// OpenAI batch input: one JSON object a line.
    OpenaiBatch,
    /// As `Csv`, with a `count` column: a row stands for so many requests.
    ClassTable,
}

impl Format {
    pub const ALL: [Self; 4] = [Self::Csv, Self::Azure, Self::OpenaiBatch, Self::ClassTable];

    /// The word for `--format`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Azure => "azure",
            Self::OpenaiBatch => "openai-batch",
            Self::ClassTable => "class-table",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|format| format.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is none of csv, azure, openai-batch, class-table"))
    }
}

/// What the model a request names means (`--model-policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModelPolicy {
    /// Nothing.
    #[default]
    Any,
    /// That model and no other serves it.
    Pin,
    /// The models that `[map]` in the jobs file lists for it.
    Map,
}

impl ModelPolicy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Pin => "pin",
            Self::Map => "map",
        }
    }
}

impl FromStr for ModelPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = [Self::Any, Self::Pin, Self::Map].into_iter().find(|policy| policy.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is none of any, pin, map"))
    }
}

/// What flags say: used where neither request nor jobs file does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defaults {
    pub deadline: Option<Seconds>,
    /// Percent.
    pub min_accuracy: Option<f64>,
    pub task: Option<String>,
    pub model_policy: ModelPolicy,
    /// Take the timestamps of an Azure trace as releases, counted from its first request.
    pub releases: bool,
    /// A tokenizer.json, for text.
    pub tokenizer: Option<PathBuf>,
    /// CSV `custom_id, input_tokens, output_tokens`, for text.
    pub sidecar: Option<PathBuf>,
    /// Predict outputs that are only bounded, and keep each deadline with this confidence, between 0 and 1.
    pub confidence: Option<f64>,
    /// Instead of looking at each file.
    pub format: Option<Format>,
}

/// Where the requests of a file stand in the workload: what is needed to cut shards from it by reading it again. A row
/// of a class table stands for `count` requests in a row; blank lines are no rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadFile {
    pub path: PathBuf,
    pub format: Format,
    /// Index of its first request.
    pub first_request: usize,
    pub requests: usize,
}

/// A workload, where it came from, and what its user should know.
#[derive(Clone, Debug, PartialEq)]
pub struct Assembled {
    pub workload: Workload,
    pub files: Vec<WorkloadFile>,
    /// Where each request of the workload stands among those of the files, ascending; `None` where it has them all.
    pub rows: Option<Vec<u32>>,
    pub warnings: Vec<String>,
}

impl Assembled {
    /// Requests of all files.
    pub fn rows_in_files(&self) -> usize {
        self.files.iter().map(|file| file.requests).sum()
    }

    /// For each request of the files what there is for it in the workload; `None` for those it does not have.
    pub fn by_row<T: Clone>(&self, values: &[T]) -> Vec<Option<T>> {
        let Some(rows) = &self.rows else { return values.iter().cloned().map(Some).collect() };
        let mut all = vec![None; self.rows_in_files()];
        for (&row, value) in rows.iter().zip(values) {
            if let Some(place) = all.get_mut(row as usize) {
                *place = Some(value.clone());
            }
        }
        all
    }
}

/// The format of a file, by its first line.
pub fn detect(path: &Path) -> Result<Format, Problems> {
    let mut file = open_text(path)?;
    let start = file.fill_buf().map_err(|source| Problems::Unreadable { file: path.to_owned(), source })?;
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let mut problems = Collector::new(path);
    match start.first() {
        Some(b'{') => return Ok(Format::OpenaiBatch),
        Some(b'[') => problems.add("line 1", "a JSON array", "write one JSON object a line (OpenAI batch input)"),
        None => problems.add("line 1", "the file is empty", "a workload has at least one request"),
        Some(_) => {
            let table = Table::open(path)?;
            let has = |name| table.column(name).is_some();
            if has("ContextTokens") && has("GeneratedTokens") {
                return Ok(Format::Azure);
            }
            if has("input_tokens") || has("output_tokens") {
                return Ok(if has("count") { Format::ClassTable } else { Format::Csv });
            }
            let what = format!("the columns `{}` are those of no workload format", table.header().join(", "));
            let remedy = "name them input_tokens and output_tokens, or TIMESTAMP, ContextTokens and GeneratedTokens";
            problems.add("line 1", what, remedy);
        }
    }
    problems.fail()
}

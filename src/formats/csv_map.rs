//! `import csv --map MAP.toml`: any table of measurements to samples, by a declared map instead of a script.
//!
//! The map says for each of our columns where it comes from: a constant, a column, the difference of two, scaled, or
//! translated by a table. Rows can be filtered, and rows of different kinds (sweeps over input or output) told apart by
//! cases. More arithmetic than that is deliberately absent: what needs it is better published as a samples CSV. Every row
//! then passes the same gate as a row of the samples CSV.
//!
//! ```toml
//! [constants]
//! engine = "transformers"
//! [columns]
//! runtime_s = "seconds"
//! ttft_s = { column = "ttft_ms", scale = 0.001 }
//! output_tokens = { column = "total_tokens", minus = "input_tokens" }
//! device = { column = "host", values = { "node with V100" = "V100" } }
//! [[filter]]                     # a row must pass all
//! column = "model"
//! one_of = ["a", "b"]
//! [[case]]                       # the first that matches adds its columns; without `column` it always matches
//! column = "sweep"
//! one_of = ["input"]
//! columns = { input_tokens = "tokens" }
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::problems::{Collector, Problem, Problems};
use super::sample_row::{COLUMNS, REQUIRED, read_row};
use super::table::Table;
use super::text::{open_text, read_text};
use super::toml_document;
use crate::domain::Sample;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Map {
    #[serde(default)]
    constants: BTreeMap<String, Constant>,
    #[serde(default)]
    columns: BTreeMap<String, Source>,
    #[serde(default)]
    filter: Vec<Condition>,
    #[serde(default)]
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Constant {
    Text(String),
    Flag(bool),
    Count(i64),
    Number(f64),
}

impl Constant {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Flag(flag) => flag.to_string(),
            Self::Count(count) => count.to_string(),
            Self::Number(number) => number.to_string(),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Source {
    Column(String),
    Made(Made),
}

/// A cell made from others: translated by `values`, or (column - minus) * scale.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    column: String,
    minus: Option<String>,
    scale: Option<f64>,
    values: Option<BTreeMap<String, String>>,
}

/// Holds where the cell, as text, is one of these.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    column: String,
    one_of: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    column: Option<String>,
    #[serde(default)]
    one_of: Vec<String>,
    columns: BTreeMap<String, Source>,
}

/// Reads `files` through the map at `map_path`, rows in order.
///
/// # Errors
/// `Unreadable`, every problem of the map, or every problem of every file at once.
pub fn import(map_path: &Path, files: &[PathBuf]) -> Result<Vec<Sample>, Problems> {
    let map = read_map(map_path)?;
    let mut samples = Vec::new();
    let mut problems: Vec<Problem> = Vec::new();
    for path in files {
        match map.import_file(path) {
            Ok(more) => samples.extend(more),
            Err(Problems::BadData(more)) => problems.extend(more),
            Err(unreadable) => return Err(unreadable),
        }
    }
    if problems.is_empty() { Ok(samples) } else { Err(Problems::BadData(problems)) }
}

fn read_map(path: &Path) -> Result<Map, Problems> {
    let text = read_text(path)?;
    let mut problems = Collector::new(path);
    // Its keys are the user's, so it is read by type and not, as our other TOML, key by key: the first slip ends it.
    let map: Map = match toml::from_str(&text) {
        Ok(map) => map,
        Err(error) => {
            let (line, column) = toml_document::position(&text, error.span().map_or(0, |span| span.start));
            let what = error.message().trim().replace('\n', " ");
            problems.add(
                format!("line {line}, column {column}"),
                what,
                "the keys are constants, columns, filter, case",
            );
            return problems.fail();
        }
    };
    let fields = || map.columns.keys().chain(map.case.iter().flat_map(|case| case.columns.keys()));
    for field in map.constants.keys().chain(fields()) {
        if !COLUMNS.contains(&field.as_str()) {
            problems.add(field, format!("`{field}` is no column of the samples CSV"), COLUMNS.join(", "));
        }
    }
    for field in fields().filter(|field| map.constants.contains_key(*field)) {
        problems.add(field, format!("`{field}` is both a constant and a column"), "keep one of the two");
    }
    for field in REQUIRED {
        let in_cases = !map.case.is_empty() && map.case.iter().all(|case| case.columns.contains_key(field));
        if !map.constants.contains_key(field) && !map.columns.contains_key(field) && !in_cases {
            problems.add(
                field,
                format!("nothing gives `{field}`"),
                "every sample needs it: add a constant or a column",
            );
        }
    }
    for source in map.columns.values().chain(map.case.iter().flat_map(|case| case.columns.values())) {
        if let Source::Made(Made { column, minus, scale, values }) = source {
            if values.is_some() && (minus.is_some() || scale.is_some()) {
                problems.add(column, "a cell is translated or computed, not both", "drop `values`, or the arithmetic");
            }
            if scale.is_some_and(|scale| !scale.is_finite()) {
                problems.add(column, "the scale is not finite", "write a number");
            }
        }
    }
    problems.finish(map)
}

impl Map {
    fn import_file(&self, path: &Path) -> Result<Vec<Sample>, Problems> {
        let mut table = Table::foreign(path, open_text(path)?)?;
        let header = table.header().to_vec();
        let mut absent: Vec<&str> = self.named_columns().filter(|name| position(&header, name).is_none()).collect();
        absent.sort_unstable();
        absent.dedup();
        for name in &absent {
            let remedy = "the map names it: is this the right file?";
            table.problems.add("line 1", format!("column {name} is missing"), remedy);
        }
        if !absent.is_empty() {
            return table.problems.fail();
        }
        let constants: BTreeMap<&str, String> =
            self.constants.iter().map(|(field, constant)| (field.as_str(), constant.text())).collect();
        let mut samples = Vec::new();
        while let Some(row) = table.next_row() {
            let Some((cells, line, problems)) = row.into_texts() else { continue };
            let row = SourceRow { line, header: &header, cells };
            if !self.filter.iter().all(|condition| row.is_one_of(&condition.column, &condition.one_of)) {
                continue;
            }
            let mut cells = constants.clone();
            let mut sound = true;
            let case = self
                .case
                .iter()
                .find(|case| case.column.as_ref().is_none_or(|column| row.is_one_of(column, &case.one_of)));
            for (field, source) in self.columns.iter().chain(case.iter().flat_map(|case| &case.columns)) {
                match row.make(source) {
                    Ok(text) => {
                        cells.insert(field, text);
                    }
                    Err((what, remedy)) => {
                        problems.add(row.place(field), what, remedy);
                        sound = false;
                    }
                }
            }
            if sound {
                let cell = |field: &str| cells.get(field).map(String::as_str);
                samples.extend(read_row(&cell, &|field| row.place(field), problems));
            }
        }
        if samples.is_empty() && table.problems.is_empty() {
            table.problems.add("", "no row passes the filters of the map", "is this the right file for it?");
        }
        table.finish(samples)
    }

    /// Columns of the source that the map speaks of.
    fn named_columns(&self) -> impl Iterator<Item = &str> {
        let sources = self.columns.values().chain(self.case.iter().flat_map(|case| case.columns.values()));
        let conditions = self.filter.iter().map(|condition| &condition.column);
        sources
            .flat_map(|source| match source {
                Source::Column(column) => [Some(column), None],
                Source::Made(made) => [Some(&made.column), made.minus.as_ref()],
            })
            .flatten()
            .chain(conditions)
            .chain(self.case.iter().filter_map(|case| case.column.as_ref()))
            .map(String::as_str)
    }
}

fn position(header: &[String], name: &str) -> Option<usize> {
    header.iter().position(|column| column == name)
}

struct SourceRow<'a> {
    line: u64,
    header: &'a [String],
    cells: Vec<&'a str>,
}

impl SourceRow<'_> {
    fn place(&self, field: &str) -> String {
        format!("line {} ({field})", self.line)
    }

    fn cell(&self, column: &str) -> &str {
        position(self.header, column).and_then(|at| self.cells.get(at)).copied().unwrap_or("")
    }

    fn is_one_of(&self, column: &str, values: &[String]) -> bool {
        values.iter().any(|value| value == self.cell(column))
    }

    /// The cell that a source gives; an empty one stays empty.
    fn make(&self, source: &Source) -> Result<String, (String, &'static str)> {
        let Made { column, minus, scale, values } = match source {
            Source::Column(column) => return Ok(self.cell(column).to_owned()),
            Source::Made(made) => made,
        };
        let text = self.cell(column);
        if text.is_empty() {
            return Ok(String::new());
        }
        if let Some(values) = values {
            return values.get(text).cloned().ok_or_else(|| {
                (
                    format!("column {column} holds `{text}`, which the map does not translate"),
                    "add it to `values`, or filter it",
                )
            });
        }
        if minus.is_none() && scale.is_none() {
            return Ok(text.to_owned());
        }
        let minuend = self.number(column)?;
        let subtrahend = match minus {
            Some(minus) if self.cell(minus).is_empty() => return Ok(String::new()),
            Some(minus) => self.number(minus)?,
            None => 0.0,
        };
        Ok(((minuend - subtrahend) * scale.unwrap_or(1.0)).to_string())
    }

    fn number(&self, column: &str) -> Result<f64, (String, &'static str)> {
        let text = self.cell(column);
        let value: Option<f64> = text.parse().ok().filter(|value: &f64| value.is_finite());
        value.ok_or_else(|| (format!("column {column} holds `{text}`, which is no number"), "the map computes with it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Moments;

    const MAP: &str = r#"
        [constants]
        precision = "float16"
        devices = 1
        tensor_parallel = 1
        batch_size = 1.0
        requests = 1
        measurement = "trial"
        provenance = "imported"
        kv_cache = false
        [columns]
        model = { column = "m", values = { "L2" = "meta/llama-2" } }
        device = "gpu"
        runtime_s = { column = "ms", scale = 0.001 }
        [[filter]]
        column = "gpu"
        one_of = ["A100", "V100"]
        [[case]]
        column = "sweep"
        one_of = ["out"]
        columns = { input_tokens = "fixed", output_tokens = { column = "total", minus = "fixed" } }
        [[case]]
        columns = { input_tokens = { column = "total", minus = "fixed" }, output_tokens = "fixed" }
    "#;

    fn import_texts(map: &str, table: &str) -> Result<Vec<Sample>, Problems> {
        let folder = tempfile::tempdir().expect("a folder");
        let (map_path, table_path) = (folder.path().join("map.toml"), folder.path().join("t.csv"));
        std::fs::write(&map_path, map).expect("written");
        std::fs::write(&table_path, table).expect("written");
        import(&map_path, &[table_path])
    }

    #[test]
    fn constants_columns_filters_and_cases_make_samples() {
        let table = "m,gpu,ms,sweep,fixed,total\nL2,A100,1500,out,38,102\nL2,M1,1,out,38,102\nL2,V100,,in,32,41\n";
        let error = import_texts(MAP, table).expect_err("the third row measures nothing").to_string();
        assert!(error.contains("line 4 (runtime_s)"), "{error}");
        let samples = import_texts(MAP, &table.replace(",V100,,", ",V100,20,")).expect("sound");
        assert_eq!(samples.len(), 2);
        assert_eq!(samples[0].model, "meta/llama-2");
        assert_eq!(samples[0].tokens, Moments::constant(38.0, 64.0));
        assert_eq!(samples[0].runtime.map(|time| time.0), Some(1.5));
        assert_eq!(samples[1].tokens, Moments::constant(9.0, 32.0));
        assert!(!samples[1].kv_cache);
    }

    #[test]
    fn a_map_that_cannot_work_is_refused_before_any_row() {
        for (from, to, complaint) in [
            ("devices = 1\n", "devics = 1\n", "`devics` is no column"),
            ("requests = 1\n", "", "nothing gives `requests`"),
            ("device = \"gpu\"", "device = \"gpu\"\nkv_cache = \"x\"", "both a constant and a column"),
            ("scale = 0.001", "scale = nan", "not finite"),
            ("device = \"gpu\"", "device = \"gpu", "map.toml: line"),
            ("device = \"gpu\"", "device = \"card\"", "column card is missing"),
        ] {
            let error = import_texts(&MAP.replace(from, to), "m,gpu,ms,sweep,fixed,total\nL2,A100,1,out,3,9\n");
            let error = error.expect_err(complaint).to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn every_bad_row_is_named_with_its_line() {
        let table = "m,gpu,ms,sweep,fixed,total\nL3,A100,1,out,3,9\nL2,A100,x,out,3,9\nL2,A100,1,out,9,9\n";
        let Err(Problems::BadData(problems)) = import_texts(MAP, table) else { panic!("accepted") };
        let places: Vec<&str> = problems.iter().map(|problem| problem.place.as_str()).collect();
        assert_eq!(places, ["line 2 (model)", "line 3 (runtime_s)", "line 4 (output_tokens)"]);
        assert!(import_texts(MAP, "m,gpu,ms,sweep,fixed,total\nL2,T4,1,out,3,9\n").is_err());
    }
}

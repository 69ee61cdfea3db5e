//! Mean prompt lengths of benchmark data sets whose measurements record no input lengths (`profiles/data_sets.toml`,
//! built in). Only means with a range: whoever needs a distribution has to measure it.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use super::problems::{Collector, Problems};
use super::toml_text;
use crate::domain::{DataSetPrompts, Provenance};

const BUILTIN: &str = include_str!("../../profiles/data_sets.toml");

/// The table that comes with jouleplan.
pub fn builtin() -> Vec<DataSetPrompts> {
    // A test parses the file; were it broken, an empty table leaves every input length unknown.
    parse(BUILTIN, Path::new("data_sets.toml")).unwrap_or_default()
}

/// Reads a table of data sets.
///
/// # Errors
/// `Unreadable`, or every problem at once.
pub fn read(path: &Path) -> Result<Vec<DataSetPrompts>, Problems> {
    parse(&toml_text::load(path)?, path)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    data_set: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name_prefix: String,
    mean_input_tokens: f64,
    low: f64,
    high: f64,
    provenance: String,
    source: String,
}

fn parse(text: &str, path: &Path) -> Result<Vec<DataSetPrompts>, Problems> {
    let file: File = toml_text::parse(text, path)?;
    let mut problems = Collector::new(path);
    let mut seen = BTreeSet::new();
    let mut table = Vec::new();
    for (index, entry) in file.data_set.into_iter().enumerate() {
        let at = |field: &str| format!("data_set[{index}].{field}");
        if !seen.insert(entry.name_prefix.clone()) {
            problems.add(at("name_prefix"), format!("`{}` stands twice", entry.name_prefix), "keep one of the two");
        }
        let ordered = entry.low <= entry.mean_input_tokens && entry.mean_input_tokens <= entry.high;
        if !(entry.low > 0.0 && ordered && entry.high <= 1e7) {
            problems.add(at("mean_input_tokens"), "the figures are no range", "0 < low <= mean <= high <= 1e7");
        }
        let provenance = entry.provenance.parse().unwrap_or_else(|what: String| {
            problems.add(at("provenance"), what, "say where the mean comes from");
            Provenance::Missing
        });
        table.push(DataSetPrompts {
            name_prefix: entry.name_prefix,
            mean_input_tokens: entry.mean_input_tokens,
            low: entry.low,
            high: entry.high,
            provenance,
            source: entry.source,
        });
    }
    problems.finish(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_table_is_sound_and_the_longest_prefix_decides() {
        let mut table = parse(BUILTIN, Path::new("data_sets.toml")).expect("profiles/data_sets.toml is sound");
        let mean = |table: &[DataSetPrompts], name| DataSetPrompts::find(table, name).map(|e| e.mean_input_tokens);
        assert_eq!(mean(&table, "mlenergy_v3/gpqa"), Some(210.0));
        assert_eq!(mean(&table, "my-own"), None);
        table.push(DataSetPrompts { name_prefix: "mlenergy".into(), mean_input_tokens: 1.0, ..table[0].clone() });
        assert_eq!(mean(&table, "mlenergy_v3/gpqa"), Some(210.0));
        assert_eq!(mean(&table, "mlenergy_v4/x"), Some(1.0));
    }

    #[test]
    fn a_range_upside_down_and_a_double_are_both_named() {
        let entry = "[[data_set]]\nname_prefix = \"a\"\nmean_input_tokens = 5\nlow = 9\nhigh = 7\n\
                     provenance = \"estimated\"\nsource = \"s\"\n";
        let error = parse(&entry.repeat(2), Path::new("d.toml")).unwrap_err().to_string();
        assert!(error.contains("data_set[0].mean_input_tokens") && error.contains("stands twice"), "{error}");
    }
}

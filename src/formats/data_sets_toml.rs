//! Mean prompt lengths of benchmark data sets whose measurements record no input lengths (`profiles/data_sets.toml`,
//! built in), and how far off estimated rows may be. Only means with a range: whoever needs a distribution has to measure
//! it.

use std::collections::BTreeSet;
use std::path::Path;

use super::problems::Problems;
use super::text::read_text;
use super::toml_document::{Section, read_document};
use crate::domain::{DataSetPrompts, Provenance};

const BUILTIN: &str = include_str!("../../profiles/data_sets.toml");
const MAX_TOKENS: f64 = 1e7;

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
    parse(&read_text(path)?, path)
}

fn parse(text: &str, path: &Path) -> Result<Vec<DataSetPrompts>, Problems> {
    read_document(path, text, |root| {
        let mut seen = BTreeSet::new();
        root.sections("data_set").into_iter().filter_map(|section| entry(section, &mut seen)).collect()
    })
}

fn entry(mut section: Section<'_>, seen: &mut BTreeSet<String>) -> Option<DataSetPrompts> {
    for (key, remedy) in [
        ("name_prefix", "say which data sets it speaks of"),
        ("mean_input_tokens", "the mean length of a prompt"),
        ("low", "the least that the mean may be"),
        ("high", "the most that the mean may be"),
        ("provenance", "say where the mean comes from"),
        ("source", "say who published it"),
    ] {
        section.require(key, remedy);
    }
    let name_prefix = section.text("name_prefix");
    if let Some(name) = name_prefix.as_ref().filter(|name| !seen.insert(name.to_string())) {
        section.problem("name_prefix", format!("`{name}` stands twice"), "keep one of the two");
    }
    let [mean, low, high] =
        ["mean_input_tokens", "low", "high"].map(|key| section.number(key, f64::MIN_POSITIVE, MAX_TOKENS));
    let (provenance, source) = (section.parsed("provenance", str::parse::<Provenance>), section.text("source"));
    let (estimate_low, estimate_high) =
        (section.number("estimate_low", 0.01, 1.0), section.number("estimate_high", 1.0, 100.0));
    section.note_unknown_keys();
    let (mean_input_tokens, low, high) = (mean?, low?, high?);
    if !(low <= mean_input_tokens && mean_input_tokens <= high) {
        section.problem("mean_input_tokens", "the figures are no range", "low <= mean <= high");
    }
    if estimate_low.is_some() != estimate_high.is_some() {
        section.problem("estimate_low", "only one end of the range is given", "give estimate_low and estimate_high");
    }
    Some(DataSetPrompts {
        name_prefix: name_prefix?,
        mean_input_tokens,
        low,
        high,
        provenance: provenance?,
        source: source?,
        estimate_range: estimate_low.zip(estimate_high),
    })
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
        let range = |name| DataSetPrompts::find(&table, name).and_then(|entry| entry.estimate_range);
        assert_eq!((range("mlenergy_v3/gpqa"), range("mlenergy_v3-carried/lm-arena-chat")), (None, Some((0.7, 1.4))));
        table.push(DataSetPrompts { name_prefix: "mlenergy".into(), mean_input_tokens: 1.0, ..table[0].clone() });
        assert_eq!(mean(&table, "mlenergy_v3/gpqa"), Some(210.0));
        assert_eq!(mean(&table, "mlenergy_v4/x"), Some(1.0));
    }

    #[test]
    fn a_range_upside_down_and_a_double_are_both_named() {
        let entry = "[[data_set]]\nname_prefix = \"a\"\nmean_input_tokens = 5\nlow = 9\nhigh = 7\n\
                     provenance = \"estimated\"\nsource = \"s\"\n";
        let error = parse(&entry.repeat(2), Path::new("d.toml")).unwrap_err().to_string();
        assert!(
            error.contains("line 3, column 21 (data_set[1].mean_input_tokens)") && error.contains("stands twice"),
            "{error}"
        );
    }
}

//! The quality report of a fit: a text, and per family charts of what was measured against what a model that had not
//! seen it predicted.
//!
//! Everything stands in the `FitReport`; nothing is fitted here and nothing is written to disk.

mod charts;
mod text;

use std::collections::BTreeSet;

use super::chart::ChartError;
use crate::fit::FitReport;

/// Longest stem of a chart's name, so that any file system takes it.
const LONGEST_NAME: usize = 120;

/// A file of the report: its name, without a folder, and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFile {
    pub name: String,
    pub content: String,
}

/// `report.txt`, `all.svg` and an SVG per family.
///
/// # Errors
/// As `chart::svg`.
pub fn files(report: &FitReport) -> Result<Vec<ReportFile>, ChartError> {
    let mut taken = BTreeSet::from(["all.svg".to_owned()]);
    let names: Vec<String> =
        report.families.iter().map(|family| chart_name(&family.model.key.to_string(), &mut taken)).collect();
    let mut files = vec![
        ReportFile { name: "report.txt".into(), content: text::text(report, &names) },
        ReportFile { name: "all.svg".into(), content: charts::all(report)? },
    ];
    for (family, name) in report.families.iter().zip(names) {
        files.push(ReportFile { name, content: charts::family(family)? });
    }
    Ok(files)
}

/// Letters, digits, `.`, `_` and `-` of a family's name; numbered where two come out the same.
fn chart_name(family: &str, taken: &mut BTreeSet<String>) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let stem: String = family.chars().map(safe).take(LONGEST_NAME).collect();
    let stem = stem.trim_start_matches('.');
    let mut name = format!("{stem}.svg");
    for number in 2.. {
        if taken.insert(name.to_lowercase()) {
            break;
        }
        name = format!("{stem}-{number}.svg");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_charts_are_safe_and_differ() {
        let mut taken = BTreeSet::new();
        let names: Vec<String> = ["a/b c", "a-b-c", "../x\u{0}", &"y".repeat(500)]
            .iter()
            .map(|family| chart_name(family, &mut taken))
            .collect();
        assert_eq!(&names[..3], ["a-b-c.svg", "a-b-c-2.svg", "-x-.svg"]);
        assert_eq!(names[3].len(), LONGEST_NAME + 4);
    }
}

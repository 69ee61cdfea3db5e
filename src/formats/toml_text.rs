//! TOML into serde types, with the line of whatever does not fit.
//!
//! Every TOML format of ours is read through here, so that a slip is reported alike. What a value may be is checked by
//! the format itself, all of it at once; a syntax error or a wrong type ends the reading.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::problems::{Collector, Problems};

/// The text of a file.
///
/// # Errors
/// `Unreadable`, or `BadData` if it is not UTF-8.
pub fn load(path: &Path) -> Result<String, Problems> {
    let bytes = std::fs::read(path).map_err(|source| Problems::Unreadable { file: path.to_owned(), source })?;
    String::from_utf8(bytes).or_else(|_| {
        let mut problems = Collector::new(path);
        problems.add("", "the file is not UTF-8", "save it as UTF-8");
        problems.fail()
    })
}

/// Parses `text`; `path` names it in messages.
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, Problems> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    toml::from_str(text).or_else(|error| {
        let line = error.span().map(|span| 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count());
        let mut problems = Collector::new(path);
        problems.add(
            line.map_or_else(String::new, |line| format!("line {line}")),
            error.message().trim().replace('\n', " "),
            "see the schema of this file",
        );
        problems.fail()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_reported_with_its_line() {
        let result: Result<std::collections::BTreeMap<String, u32>, _> =
            parse("a = 1\nb = \"x\"\n", Path::new("t.toml"));
        assert!(result.is_err_and(|error| error.to_string().starts_with("t.toml: line 2: ")));
    }
}

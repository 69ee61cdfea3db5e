//! Patterns such as `queue/*.csv` for those whose shell leaves them as they are.

use std::io;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, glob_with};

use crate::formats::problems::Problems;

/// The files that `paths` name: each path itself, or, where there is no such file, what it matches as a pattern, sorted.
///
/// # Errors
/// A pattern that nothing matches.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Problems> {
    let mut all = Vec::with_capacity(paths.len());
    for path in paths {
        let found = matching(path);
        if found.is_empty() {
            let source = io::Error::new(io::ErrorKind::NotFound, "no file matches this pattern");
            return Err(Problems::Unreadable { file: path.clone(), source });
        }
        all.extend(found);
    }
    Ok(all)
}

/// The path itself if it is no pattern, else what it matches.
pub(super) fn matching(path: &Path) -> Vec<PathBuf> {
    let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
    let pattern = path.to_str().filter(|text| text.contains(['*', '?', '[']) && !path.exists());
    match pattern.map(|pattern| glob_with(pattern, options)) {
        Some(Ok(found)) => found.flatten().filter(|path| path.is_file()).collect(),
        _ => vec![path.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_the_files_they_match_and_files_stay_themselves() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.csv", "a.csv", "c[1].csv", ".d.csv", "e.jsonl"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let expanded = |name: &str| -> Vec<String> {
            let found = expand(&[folder.path().join(name)]).unwrap();
            found.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(expanded("*.csv"), ["a.csv", "b.csv", "c[1].csv"]);
        assert_eq!(expanded("c[1].csv"), ["c[1].csv"]);
        assert_eq!(expanded("missing.csv"), ["missing.csv"], "said by whoever opens it");
        let none = expand(&[folder.path().join("*.zst")]).unwrap_err();
        assert!(none.to_string().contains("no file matches"));
    }
}

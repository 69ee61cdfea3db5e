//! What is wrong with an input: place, cause and remedy, all of them at once.

use std::fmt;
use std::path::{Path, PathBuf};

/// One defect. `place` narrows the file down: `line 3, column 2 (input_tokens)`, `pool[1].nodes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    pub place: String,
    pub what: String,
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if !self.place.is_empty() {
            write!(f, ": {}", self.place)?;
        }
        write!(f, ": {}", self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Why an input cannot be used. Decides the exit code: missing input 66, bad data 65, permission 77.
#[derive(Debug, thiserror::Error)]
pub enum Problems {
    #[error("cannot read {}: {source}", file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("{}", render(.0))]
    BadData(Vec<Problem>),
}

/// At most this many defects are printed; the rest are counted.
const SHOWN: usize = 20;

fn render(problems: &[Problem]) -> String {
    let mut lines: Vec<String> = problems.iter().take(SHOWN).map(Problem::to_string).collect();
    if problems.len() > SHOWN {
        lines.push(format!("... and {} more", problems.len() - SHOWN));
    }
    lines.join("\n")
}

/// Collects defects of one file while it is read.
#[derive(Debug)]
pub struct Collector {
    file: PathBuf,
    problems: Vec<Problem>,
}

impl Collector {
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), problems: Vec::new() }
    }

    pub fn add(&mut self, place: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem {
            file: self.file.clone(),
            place: place.into(),
            what: what.into(),
            remedy: remedy.into(),
        });
    }

    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// `value` if nothing was wrong.
    pub fn finish<T>(self, value: T) -> Result<T, Problems> {
        if self.problems.is_empty() { Ok(value) } else { Err(Problems::BadData(self.problems)) }
    }

    /// Everything wrong so far as an error.
    pub fn fail<T>(self) -> Result<T, Problems> {
        Err(self.into_error())
    }

    /// Everything wrong so far.
    pub fn into_error(self) -> Problems {
        Problems::BadData(self.problems)
    }

    /// Adds the problems of another file's reader to these; its value if there were none. A file that cannot be read at
    /// all ends the whole.
    pub fn absorb<T>(&mut self, read: Result<T, Problems>) -> Result<Option<T>, Problems> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(Problems::BadData(problems)) => {
                self.problems.extend(problems);
                Ok(None)
            }
            Err(unreadable) => Err(unreadable),
        }
    }
}

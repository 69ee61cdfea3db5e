//! Files as UTF-8 text. UTF-16, which spreadsheets like to write, is named and refused rather than read as nonsense.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::problems::{Collector, Problems};

/// Opens a file for reading as UTF-8 text; refuses UTF-16 by name.
pub fn open_text(path: &Path) -> Result<Box<dyn BufRead>, Problems> {
    let file = File::open(path).map_err(|source| Problems::Unreadable { file: path.to_owned(), source })?;
    checked_text(path, file)
}

/// As `open_text`, from a reader; `path` only names it.
pub fn checked_text(path: &Path, source: impl Read + 'static) -> Result<Box<dyn BufRead>, Problems> {
    let mut file = BufReader::with_capacity(1 << 17, source);
    let start = file.fill_buf().map_err(|source| Problems::Unreadable { file: path.to_owned(), source })?;
    let start = &start[..start.len().min(64)];
    if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) || start.contains(&0) {
        let mut problems = Collector::new(path);
        let remedy = "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW";
        problems.add("line 1", "not UTF-8 text (it looks like UTF-16 or binary)", remedy);
        return problems.fail();
    }
    Ok(Box::new(file))
}

/// A whole UTF-8 text file, without a byte order mark.
pub fn read_text(path: &Path) -> Result<String, Problems> {
    whole_text(path, open_text(path)?)
}

/// As `read_text`, from a reader; `path` only names it.
pub fn whole_text(path: &Path, mut source: impl Read) -> Result<String, Problems> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).map_err(|source| Problems::Unreadable { file: path.to_owned(), source })?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        let mut problems = Collector::new(path);
        problems.add(format!("line {line}"), "not UTF-8 text", "save the file as UTF-8");
        problems.into_error()
    })?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

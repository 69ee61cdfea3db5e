//! Reads a CSV that jouleplan itself wrote: a known header, every cell checked, every problem with its line and column.
//!
//! Stricter than a reader of other people's files: no cell is optional unless the caller says so, numbers are finite,
//! and the last line must be complete, because a file that was cut off inside a number still parses.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::problems::{Collector, Problems};

const REMEDY: &str = "the file is damaged or was edited: make the plan again";

/// Reads `path`, calls `row` for every record, and returns every problem at once.
///
/// # Errors
/// `Unreadable` if the file cannot be opened; `BadData` for a wrong header, ragged or non-UTF-8 rows, and whatever `row`
/// reports through its `Row`.
pub fn read(path: &Path, header: &[&str], row: impl FnMut(&mut Row<'_>)) -> Result<(), Problems> {
    let mut file = File::open(path).map_err(|source| Problems::Unreadable { file: path.to_owned(), source })?;
    let complete =
        ends_with_newline(&mut file).map_err(|source| Problems::Unreadable { file: path.to_owned(), source })?;
    let mut problems = Collector::new(path);
    if !complete {
        problems.add("last line", "the line is not complete: no newline at its end", REMEDY);
    }
    read_rows(BufReader::with_capacity(1 << 20, file), header, row, &mut problems);
    problems.finish(())
}

fn read_rows(reader: impl Read, header: &[&str], mut row: impl FnMut(&mut Row<'_>), problems: &mut Collector) {
    let mut csv = csv::ReaderBuilder::new().flexible(true).from_reader(reader);
    let columns = match csv.headers() {
        Ok(columns) => columns.clone(),
        Err(error) => return problems.add("line 1", format!("the header cannot be read: {error}"), REMEDY),
    };
    let mut at = Vec::with_capacity(header.len());
    for &name in header {
        match columns.iter().position(|column| column == name) {
            Some(column) => at.push(column),
            None => problems.add("line 1", format!("column {name} is missing"), REMEDY),
        }
    }
    if at.len() < header.len() {
        return;
    }
    let mut record = csv::StringRecord::new();
    loop {
        match csv.read_record(&mut record) {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => {
                let line = error.position().map_or_else(String::new, |position| format!("line {}", position.line()));
                problems.add(line, format!("the row cannot be read: {error}"), REMEDY);
                if error.is_io_error() {
                    return;
                }
                continue;
            }
        }
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != columns.len() {
            let what = format!("{} cells under a header of {}", record.len(), columns.len());
            problems.add(format!("line {line}"), what, REMEDY);
            continue;
        }
        row(&mut Row { record: &record, header, at: &at, line, problems });
    }
}

fn ends_with_newline(file: &mut File) -> std::io::Result<bool> {
    let mut last = [0u8];
    let length = file.seek(SeekFrom::End(0))?;
    if length > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        file.seek(SeekFrom::Start(0))?;
    }
    Ok(length == 0 || last[0] == b'\n')
}

/// One record. The getters take the position of a column in the caller's header; `None` means that a problem was noted
/// (`optional` ones: or that the cell is empty).
pub struct Row<'a> {
    record: &'a csv::StringRecord,
    header: &'a [&'a str],
    at: &'a [usize],
    line: u64,
    problems: &'a mut Collector,
}

impl<'a> Row<'a> {
    /// The cell as it is; may be empty.
    pub fn cell(&self, column: usize) -> &'a str {
        // Every record was found to be as long as the header that `at` points into.
        &self.record[self.at[column]]
    }

    pub fn refuse(&mut self, column: usize, what: impl Into<String>) {
        let place = format!("line {}, column {} ({})", self.line, self.at[column] + 1, self.header[column]);
        self.problems.add(place, what, REMEDY);
    }

    pub fn text(&mut self, column: usize) -> Option<&'a str> {
        let cell = self.cell(column);
        if cell.is_empty() {
            self.refuse(column, "the cell is empty");
            return None;
        }
        Some(cell)
    }

    /// A finite number.
    pub fn number(&mut self, column: usize) -> Option<f64> {
        let cell = self.text(column)?;
        match cell.parse::<f64>() {
            Ok(value) if value.is_finite() => Some(value),
            _ => {
                self.refuse(column, format!("`{cell}` is not a finite number"));
                None
            }
        }
    }

    /// A finite number, or nothing where the cell is empty. The outer `None` says that a problem was noted.
    pub fn optional_number(&mut self, column: usize) -> Option<Option<f64>> {
        if self.cell(column).is_empty() { Some(None) } else { self.number(column).map(Some) }
    }

    /// Anything that parses: whole numbers, provenance, `true` and `false`.
    pub fn parsed<T: std::str::FromStr>(&mut self, column: usize, expected: &str) -> Option<T> {
        let cell = self.text(column)?;
        match cell.parse() {
            Ok(value) => Some(value),
            Err(_) => {
                self.refuse(column, format!("`{cell}` is not {expected}"));
                None
            }
        }
    }
}

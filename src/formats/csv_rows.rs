//! A small CSV file as text cells with their lines: what samples and mapped imports are read through.
//!
//! Whole files are held in memory; measurements have thousands of rows, never millions.

use std::io::Read;

use csv::StringRecord;

use super::problems::Collector;

pub struct Rows {
    pub header: StringRecord,
    /// (line in the file, as many cells as the header)
    pub rows: Vec<(u64, StringRecord)>,
}

/// Reads everything, cells trimmed; rows that cannot be read are noted and skipped. `None` if there is no header.
pub fn load<R: Read>(reader: R, problems: &mut Collector) -> Option<Rows> {
    let mut csv = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(reader);
    let header = match csv.headers() {
        Ok(header) => header.clone(),
        Err(error) => {
            problems.add("line 1", format!("the header cannot be read: {error}"), "write comma-separated UTF-8");
            return None;
        }
    };
    if header.is_empty() {
        problems.add("line 1", "the file is empty", "its first line must name the columns");
        return None;
    }
    let mut rows = Vec::new();
    let mut found = false;
    for record in csv.records() {
        found = true;
        match record {
            Ok(record) => {
                let line = record.position().map_or(0, csv::Position::line);
                if record.len() == header.len() {
                    rows.push((line, record));
                } else {
                    problems.add(
                        format!("line {line}"),
                        format!("{} cells under a header of {}", record.len(), header.len()),
                        "quote cells that hold commas; write empty cells out",
                    );
                }
            }
            Err(error) => {
                let line = error.position().map_or_else(String::new, |position| format!("line {}", position.line()));
                problems.add(line, format!("the row cannot be read: {error}"), "write comma-separated UTF-8");
                if error.is_io_error() {
                    break;
                }
            }
        }
    }
    if !found {
        problems.add("line 2", "there are no rows under the header", "was the file cut off?");
    }
    Some(Rows { header, rows })
}

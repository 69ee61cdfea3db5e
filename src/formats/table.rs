//! CSV files with a header, read cell by cell, every defect noted with its line and column.
//!
//! Rows are byte records that are reused, so reading allocates nothing per row. Unknown columns are the reader's business
//! (`header`); numbers are checked for range where they are read. UTF-8 only; a byte order mark is skipped.

use std::io::{BufRead, Read};
use std::path::Path;
use std::str;

use csv::ByteRecord;

use super::problems::{Collector, Problems};
use super::text::{Source, open_text};

/// After so many defects no more are looked for in a file.
pub const MAX_PROBLEMS: usize = 100;

/// A CSV file being read. Problems gather in `problems`; `finish` returns them.
pub struct Table<'a> {
    pub problems: Collector,
    reader: csv::Reader<Box<dyn Read + 'a>>,
    header: Vec<String>,
    record: ByteRecord,
    /// Where in the file the reader started.
    origin: Place,
    /// Line of the last record if its last cell ends with a line break: at the end of the file, an open quote.
    open_quote: Option<u64>,
}

/// A place in a file, unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Bytes before it.
    pub offset: u64,
    /// Lines before it.
    pub lines: u64,
}

impl<'a> Table<'a> {
    /// Opens a file and reads its header, trimmed. A doubled or empty column name is noted as a problem.
    ///
    /// # Errors
    /// The file cannot be read, is empty or is not UTF-8.
    pub fn open(path: &Path) -> Result<Self, Problems> {
        Self::new(path, open_text(path)?)
    }

    /// As `open`, from a reader; `path` only names it.
    pub fn new(path: &Path, source: Source) -> Result<Self, Problems> {
        let mut table = Self::foreign(path, source)?;
        for (index, name) in table.header.iter().enumerate() {
            let place = format!("line 1, column {}", index + 1);
            if name.is_empty() && table.header.len() > 1 {
                table.problems.add(place, "the column has no name", "name or remove it");
            } else if !name.is_empty() && table.header[..index].contains(name) {
                table.problems.add(place, format!("column `{name}` occurs twice"), "remove one");
            }
        }
        if table.problems.is_empty() { Ok(table) } else { table.problems.fail() }
    }

    /// As `new`, for a table others made: columns that nobody asks for may lack a name or share one.
    pub fn foreign(path: &Path, source: Source) -> Result<Self, Problems> {
        let mut problems = Collector::new(path);
        let mut reader = reader_of(source);
        let mut record = ByteRecord::new();
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => problems.add("line 1", "the file is empty", "its first line must name the columns"),
            Err(error) => problems.add(place_of(&error), describe(&error), ""),
        }
        let mut header: Vec<String> = Vec::with_capacity(record.len());
        for (index, cell) in record.iter().enumerate() {
            let name = String::from_utf8_lossy(cell).trim().to_owned();
            if name.contains(char::REPLACEMENT_CHARACTER) || name.contains('\0') {
                let place = format!("line 1, column {}", index + 1);
                problems.add(place, "the name of the column is not UTF-8 text", "save the file as UTF-8");
            }
            header.push(name);
        }
        if problems.is_empty() {
            Ok(Self { problems, reader, header, record, origin: Place::default(), open_quote: None })
        } else {
            problems.fail()
        }
    }

    /// The rows of the same file from `place` on, where a row begins behind the header; `source` reads from there.
    pub fn part(path: &Path, header: &[String], source: impl BufRead + 'a, place: Place) -> Self {
        // Behind a line break no byte order mark is skipped: only the one that opens the file is none of its text.
        let reader = reader_of((&b"\n"[..]).chain(source));
        let origin = Place { offset: place.offset.saturating_sub(1), lines: place.lines.saturating_sub(1) };
        let problems = Collector::new(path);
        Self { problems, reader, header: header.to_vec(), record: ByteRecord::new(), origin, open_quote: None }
    }

    /// Behind the row read last, or the header.
    pub fn place(&self) -> Place {
        let position = self.reader.position();
        Place { offset: self.origin.offset + position.byte(), lines: self.origin.lines + position.line() - 1 }
    }

    /// Column names, in order.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    pub fn into_header(self) -> Vec<String> {
        self.header
    }

    /// Index of a column, if the file has it.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    /// Index of a column; a missing one is noted as a problem.
    pub fn require(&mut self, name: &str) -> Option<usize> {
        let found = self.column(name);
        if found.is_none() {
            let there = self.header.join(", ");
            self.problems.add("line 1", format!("column `{name}` is missing"), format!("the columns are: {there}"));
        }
        found
    }

    /// The next row with as many cells as the header; rows with another number are noted and skipped. `None` at the end
    /// or when too much is wrong to go on. Empty lines are no rows.
    pub fn next_row(&mut self) -> Option<Row<'_>> {
        loop {
            if self.problems.len() >= MAX_PROBLEMS {
                let line = self.place().lines + 1;
                self.problems.add(format!("line {line}"), "reading stopped here: too many problems", "");
                return None;
            }
            match self.reader.read_byte_record(&mut self.record) {
                Ok(true) => {}
                Ok(false) => {
                    if let Some(line) = self.open_quote.take() {
                        self.problems.add(format!("line {line}"), "a quote is not closed", "close it or remove it");
                    }
                    return None;
                }
                Err(error) => {
                    self.problems.add(format!("line {}", self.place().lines + 1), describe(&error), "");
                    return None;
                }
            }
            let line = line_of(&self.record, self.place().lines + 1);
            self.open_quote = self.record.as_slice().ends_with(b"\n").then_some(line);
            if self.record.len() == 1 && self.record[0].trim_ascii().is_empty() {
                continue;
            }
            if self.record.len() == self.header.len() {
                break;
            }
            let (cells, columns) = (self.record.len(), self.header.len());
            self.problems.add(
                format!("line {line}"),
                format!("{cells} cells where the header has {columns}"),
                "the line may be cut off, or a comma may lack quotes",
            );
        }
        let end = self.place().lines + 1;
        let offset = self.origin.offset + self.record.position().map_or(0, csv::Position::byte);
        Some(Row { record: &self.record, header: &self.header, problems: &mut self.problems, end, offset })
    }

    /// `value` if nothing was wrong.
    pub fn finish<T>(self, value: T) -> Result<T, Problems> {
        self.problems.finish(value)
    }
}

fn reader_of<'a>(source: impl BufRead + 'a) -> csv::Reader<Box<dyn Read + 'a>> {
    // Lines end with LF here and a CR is trimmed with the blanks, and the last line is ended for sure: so the line of a
    // record follows from where the reader stands behind it, which with CRLF or skipped empty lines it would not.
    let ended: Box<dyn Read + 'a> = Box::new(source.chain(&b"\n"[..]));
    csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .terminator(csv::Terminator::Any(b'\n'))
        .from_reader(ended)
}

/// One row. A cell that is wrong is noted and reads as `None`; an empty cell is `None` without a note, unless required.
pub struct Row<'a> {
    record: &'a ByteRecord,
    header: &'a [String],
    problems: &'a mut Collector,
    /// Line behind the row.
    end: u64,
    offset: u64,
}

impl<'a> Row<'a> {
    /// The cells as text, as many as the header has, without surrounding blanks; with the line and where to note what is
    /// wrong with them. `None` if one is not UTF-8, which is then noted.
    pub fn into_texts(mut self) -> Option<(Vec<&'a str>, u64, &'a mut Collector)> {
        let record = self.record;
        let mut texts = Vec::with_capacity(record.len());
        for (column, cell) in record.iter().enumerate() {
            match str::from_utf8(cell.trim_ascii()) {
                Ok(text) => texts.push(text),
                Err(_) => self.not_utf8(column),
            }
        }
        (texts.len() == record.len()).then(|| (texts, self.line(), self.problems))
    }

    /// 1-based line in the file.
    pub fn line(&self) -> u64 {
        line_of(self.record, self.end)
    }

    /// A place in the file, in bytes, from which this row is the next.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Notes a defect of a cell.
    pub fn problem(&mut self, column: usize, what: impl Into<String>, remedy: impl Into<String>) {
        let name = self.header.get(column).map_or("", String::as_str);
        let place = format!("line {}, column {} ({name})", self.line(), column + 1);
        self.problems.add(place, what, remedy);
    }

    /// The cell without surrounding blanks; empty if the column is absent.
    pub fn bytes(&self, column: Option<usize>) -> &'a [u8] {
        let record = self.record;
        column.and_then(|column| record.get(column)).unwrap_or_default().trim_ascii()
    }

    /// The cell as it is, blanks included: for names that must read back exactly as they were written.
    pub fn raw(&self, column: usize) -> &[u8] {
        self.record.get(column).unwrap_or_default()
    }

    /// Text of a cell, `None` if empty or absent.
    pub fn text(&mut self, column: Option<usize>) -> Option<String> {
        self.str(column).map(str::to_owned)
    }

    /// As `text`, without a copy.
    pub fn str(&mut self, column: Option<usize>) -> Option<&str> {
        if str::from_utf8(self.bytes(column)).is_err() {
            self.not_utf8(column.unwrap_or(0));
        }
        str::from_utf8(self.bytes(column)).ok().filter(|text| !text.is_empty())
    }

    /// Text that must be there.
    pub fn required_text(&mut self, column: Option<usize>) -> Option<String> {
        self.required_str(column).map(str::to_owned)
    }

    /// As `required_text`, without a copy.
    pub fn required_str(&mut self, column: Option<usize>) -> Option<&str> {
        self.note_missing(column);
        self.str(column)
    }

    /// A finite number in `low..=high`, `None` if empty or absent.
    pub fn number(&mut self, column: Option<usize>, low: f64, high: f64) -> Option<f64> {
        let bytes = self.bytes(column);
        if bytes.is_empty() {
            return None;
        }
        let parsed =
            str::from_utf8(bytes).ok().and_then(|text| text.parse::<f64>().ok()).filter(|value| !value.is_nan());
        match parsed {
            Some(value) if (low..=high).contains(&value) => Some(value),
            Some(value) => {
                self.problem(column.unwrap_or(0), format!("{value} is out of range"), range(low, high));
                None
            }
            None => {
                let what = format!("`{}` is no number", String::from_utf8_lossy(bytes));
                self.problem(column.unwrap_or(0), what, range(low, high));
                None
            }
        }
    }

    /// A number that must be there.
    pub fn required_number(&mut self, column: Option<usize>, low: f64, high: f64) -> Option<f64> {
        self.note_missing(column);
        self.number(column, low, high)
    }

    /// A whole number in `low..=high` (`374` or `374.0`), `None` if empty or absent.
    pub fn whole(&mut self, column: Option<usize>, low: u32, high: u32) -> Option<u32> {
        // The usual case is a few digits; everything else takes the careful way.
        let bytes = self.bytes(column);
        if !bytes.is_empty() && bytes.len() <= 9 && bytes.iter().all(u8::is_ascii_digit) {
            let value = bytes.iter().fold(0, |value: u32, digit| value * 10 + u32::from(digit - b'0'));
            if (low..=high).contains(&value) {
                return Some(value);
            }
        }
        let value = self.number(column, f64::from(low), f64::from(high))?;
        if value.fract() == 0.0 {
            return Some(value as u32);
        }
        self.problem(column.unwrap_or(0), format!("{value} is not whole"), range(f64::from(low), f64::from(high)));
        None
    }

    /// A whole number that must be there.
    pub fn required_whole(&mut self, column: Option<usize>, low: u32, high: u32) -> Option<u32> {
        self.note_missing(column);
        self.whole(column, low, high)
    }

    fn not_utf8(&mut self, column: usize) {
        self.problem(column, "not UTF-8 text", "save the file as UTF-8");
    }

    fn note_missing(&mut self, column: Option<usize>) {
        // A column that is missing as a whole has been noted once, by `require`.
        if let Some(index) = column
            && self.bytes(column).is_empty()
        {
            self.problem(index, "the cell is empty", "fill it in or remove the row");
        }
    }
}

/// The remedy for a number that is out of its range.
pub fn range(low: f64, high: f64) -> String {
    match (low.is_finite(), high.is_finite()) {
        // The least positive number itself has 324 digits.
        (true, true) if low == f64::MIN_POSITIVE => format!("give a number above 0 and at most {high}"),
        (true, true) => format!("give a number from {low} to {high}"),
        (true, false) => format!("give a finite number of at least {low}"),
        _ => "give a finite number".to_owned(),
    }
}

/// First line of a record that ended before line `end`; quoted cells may span lines. A last cell that ends with a line
/// break is taken for one whose quote is not closed, so that no line break follows it.
fn line_of(record: &ByteRecord, end: u64) -> u64 {
    let inside = record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
    let behind = u64::from(!record.as_slice().ends_with(b"\n"));
    end.saturating_sub(behind + inside).max(1)
}

fn place_of(error: &csv::Error) -> String {
    error.position().map_or_else(|| "line 1".to_owned(), |position| format!("line {}", position.line()))
}

fn describe(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Io(error) => format!("reading failed: {error}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<Table<'static>, Problems> {
        Table::new(Path::new("t.csv"), Box::new(std::io::Cursor::new(text.as_bytes().to_vec())))
    }

    #[test]
    fn bom_crlf_blanks_and_empty_lines_are_read() {
        let mut table = table("\u{feff}a, b\r\n1 , x\r\n\r\n2,\"y\nz\"\r\n\n3,").unwrap();
        let (a, b) = (table.require("a"), table.require("b"));
        let mut row = table.next_row().unwrap();
        assert_eq!((row.whole(a, 0, 9), row.text(b), row.line()), (Some(1), Some("x".to_owned()), 2));
        let mut row = table.next_row().unwrap();
        assert_eq!((row.whole(a, 0, 9), row.text(b), row.line()), (Some(2), Some("y\nz".to_owned()), 4));
        let mut row = table.next_row().unwrap();
        assert_eq!((row.whole(a, 0, 9), row.text(b), row.line()), (Some(3), None, 7));
        assert!(table.next_row().is_none());
        table.finish(()).unwrap();
    }

    #[test]
    fn every_defect_has_its_place() {
        let mut table = table("a,b\n1\nnan,2\n1e300,3\n1.5,4\n,5\n").unwrap();
        let (a, c) = (table.require("a"), table.require("c"));
        assert_eq!(c, None);
        while let Some(mut row) = table.next_row() {
            row.required_whole(a, 0, 9);
        }
        let message = table.finish(()).unwrap_err().to_string();
        let lines: Vec<&str> = message.lines().collect();
        assert_eq!(lines.len(), 6, "{message}");
        assert!(lines[0].starts_with("t.csv: line 1: column `c` is missing"));
        assert!(lines[1].starts_with("t.csv: line 2: 1 cells"));
        assert!(lines[2].starts_with("t.csv: line 3, column 1 (a): `nan` is no number"));
        assert!(lines[3].contains("line 4, column 1 (a)") && lines[3].contains("out of range"));
        assert!(lines[4].contains("1.5 is not whole"));
        assert!(lines[5].contains("the cell is empty"));
    }

    #[test]
    fn a_file_full_of_errors_is_not_read_to_its_end() {
        let mut table = table(&format!("a\n{}", "x\n".repeat(10_000))).unwrap();
        let a = table.require("a");
        while let Some(mut row) = table.next_row() {
            row.number(a, 0.0, 1.0);
        }
        assert_eq!(table.problems.len(), MAX_PROBLEMS + 1);
    }

    #[test]
    fn headers_must_name_each_column_once() {
        assert!(table("").is_err());
        assert!(table("a,a\n").is_err());
        assert!(table("a,,b\n").is_err());
        let source = |text: &'static str| Box::new(text.as_bytes());
        let mut foreign = Table::foreign(Path::new("t.csv"), source(",a,a\n0, 1 ,2\n")).unwrap();
        let (texts, line, _) = foreign.next_row().and_then(Row::into_texts).unwrap();
        assert_eq!((texts, line), (vec!["0", "1", "2"], 2));
        assert!(Table::foreign(Path::new("t.csv"), source("")).is_err());
    }
}

//! The telemetry CSV: one row a reading of a device, package or node.
//!
//! Missing is an empty cell; an empty `power_w` is a gap. Columns behind `power_w` may be absent and unknown ones are
//! ignored. A recorder that was killed leaves half a line at the end: that line is left out, with a note.

use std::io::{self, Cursor, Write};
use std::path::Path;

use super::problems::Problems;
use super::table::{Row, Table};
use super::text::read_text;
use super::timestamp;
use super::trace_builder::{Imported, MAX_POWER_W, TraceBuilder};
use crate::domain::{Channel, Reading, Scope, Trace};
use crate::units::Watts;

pub const COLUMNS: [&str; 10] = [
    "timestamp",
    "node",
    "scope",
    "device_index",
    "power_w",
    "utilization_pct",
    "memory_used_mib",
    "sm_clock_mhz",
    "temperature_c",
    "phase",
];

pub const REQUIRED: [&str; 3] = ["timestamp", "scope", "power_w"];

/// Reads a telemetry CSV.
///
/// # Errors
/// `Unreadable` if the file cannot be opened; else every problem of every row at once.
pub fn read(path: &Path) -> Result<Imported, Problems> {
    parse(&read_text(path)?, path)
}

/// As `read`, from what a file holds; `path` names it in messages.
pub fn parse(text: &str, path: &Path) -> Result<Imported, Problems> {
    let mut builder = TraceBuilder::new(path);
    let whole = match text.rfind('\n') {
        Some(end) if end + 1 < text.len() => {
            let line = text[..end].matches('\n').count() + 2;
            builder.note(&format!("line {line}"), "cut off before its end, left out");
            &text[..=end]
        }
        _ => text,
    };
    let mut table = Table::foreign(path, Box::new(Cursor::new(whole.to_owned().into_bytes())))?;
    let mut at = [None; COLUMNS.len()];
    for (column, name) in COLUMNS.iter().enumerate() {
        at[column] = if REQUIRED.contains(name) { table.require(name) } else { table.column(name) };
        if table.header().iter().filter(|other| *other == name).count() > 1 {
            table.problems.add("line 1", format!("column `{name}` occurs twice"), "keep one of them");
        }
    }
    if !table.problems.is_empty() {
        return table.finish(Imported::default());
    }
    while let Some(mut row) = table.next_row() {
        let line = row.line();
        if let Some((channel, reading)) = read_row(&mut row, &at) {
            builder.push(&format!("line {line}"), &channel, reading);
        }
    }
    let mut problems = table.problems;
    // What is wrong with the rows comes first; a trace of what is left says no more.
    let imported = if problems.is_empty() { problems.absorb(builder.finish())? } else { None };
    problems.finish(imported.unwrap_or_default())
}

fn read_row(row: &mut Row<'_>, at: &[Option<usize>; COLUMNS.len()]) -> Option<(Channel, Reading)> {
    let [time, node, scope, index, power, utilization, memory, clock, temperature, phase] = *at;
    let when = row.required_text(time).and_then(|text| {
        let parsed = timestamp::parse_zoned(&text);
        if parsed.is_none() {
            let what = format!("`{text}` is no instant with a zone");
            row.problem(time.unwrap_or(0), what, "write for example `2026-11-21T08:00:00.250Z`");
        }
        parsed
    });
    let of = row.required_text(scope).and_then(|text| {
        let known = Scope::ALL.into_iter().find(|known| known.name() == text);
        if known.is_none() {
            row.problem(scope.unwrap_or(0), format!("`{text}` is no scope"), "write node, package or device");
        }
        known
    });
    let number = row.whole(index, 0, 1_000_000);
    if of.is_some_and(|of| of != Scope::Node) && number.is_none() && row.bytes(index).is_empty() {
        let column = index.or(scope).unwrap_or(0);
        row.problem(column, "no device_index says which device or package", "fill it in, counted from 0 in the node");
    }
    let mut reading = Reading::at(when?);
    reading.power = row.number(power, 0.0, MAX_POWER_W).map(Watts);
    reading.utilization_pct = row.number(utilization, 0.0, 100.0);
    reading.memory_used_mib = row.number(memory, 0.0, f64::MAX);
    reading.sm_clock_mhz = row.number(clock, 0.0, f64::MAX);
    reading.temperature_c = row.number(temperature, -273.15, f64::MAX);
    reading.phase = row.text(phase);
    let channel = Channel { node: row.text(node), scope: of?, index: number };
    Some((channel, reading))
}

/// Writes all columns of a trace, rows by time, numbers in the fewest digits that read back equal.
///
/// # Errors
/// Those of `out`.
pub fn write<W: Write>(out: W, trace: &Trace) -> io::Result<()> {
    let mut writer = Writer::new(out)?;
    for (channel, reading) in trace.by_time() {
        writer.row(channel, reading)?;
    }
    writer.flush()
}

/// Writes row by row, for traces that are still being recorded.
#[derive(Debug)]
pub struct Writer<W: Write>(csv::Writer<W>);

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// Those of `out`, here and below.
    pub fn new(out: W) -> io::Result<Self> {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(COLUMNS).map_err(io::Error::other)?;
        Ok(Self(csv))
    }

    pub fn row(&mut self, channel: &Channel, reading: &Reading) -> io::Result<()> {
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let cells = [
            timestamp::format(reading.at),
            channel.node.clone().unwrap_or_default(),
            channel.scope.name().to_owned(),
            channel.index.map_or_else(String::new, |index| index.to_string()),
            number(reading.power.map(|power| power.0)),
            number(reading.utilization_pct),
            number(reading.memory_used_mib),
            number(reading.sm_clock_mhz),
            number(reading.temperature_c),
            reading.phase.clone().unwrap_or_default(),
        ];
        self.0.write_record(cells).map_err(io::Error::other)
    }

    /// Hands all rows so far to the system.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn parse_rows(rows: &str) -> Result<Imported, Problems> {
        parse(&format!("timestamp,node,scope,device_index,power_w\n{rows}"), Path::new("t.csv"))
    }

    #[test]
    fn what_is_written_reads_back_equal() {
        let at = |micros| Timestamp::from_micros(micros).unwrap();
        let full = Reading {
            power: Some(Watts(123.456)),
            utilization_pct: Some(97.0),
            memory_used_mib: Some(40_536.0),
            sm_clock_mhz: Some(1980.0),
            temperature_c: Some(45.0),
            phase: Some("load, \"warm\"".into()),
            ..Reading::at(at(1_000_001))
        };
        let device = Channel { node: Some("n1".into()), scope: Scope::Device, index: Some(3) };
        let node = Channel { node: None, scope: Scope::Node, index: None };
        let trace = Trace {
            channels: [(device, vec![full, Reading::at(at(2_000_000))]), (node, vec![Reading::at(at(1_500_000))])]
                .into(),
        };
        let mut text = Vec::new();
        write(&mut text, &trace).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("1970-01-01T00:00:01.500Z,,node,,,,,,,\n"), "{text}");
        assert_eq!(parse(&text, Path::new("t.csv")).unwrap().trace, trace);
    }

    #[test]
    fn half_a_line_at_the_end_is_noted() {
        let read = parse_rows("2026-01-01T00:00:00Z,n,device,0,50\n2026-01-01T00:00:01Z,n,device,0,5").unwrap();
        assert_eq!((read.trace.rows(), read.notes.len()), (1, 1));
        assert!(read.notes[0].starts_with("t.csv: line 3: cut off"), "{:?}", read.notes);
    }

    #[test]
    fn every_defect_has_its_place() {
        let rows =
            "2026-01-01 00:00:00,n,device,0,1\n2026-01-01T00:00:00Z,n,rack,0,1\n2026-01-01T00:00:00Z,n,device,,-1\n";
        let message = parse_rows(rows).unwrap_err().to_string();
        let places = [
            "line 2, column 1 (timestamp)",
            "line 3, column 3 (scope)",
            "line 4, column 4 (device_index)",
            "line 4, column 5",
        ];
        assert!(places.iter().all(|place| message.contains(place)), "{message}");
        assert!(parse_rows("").unwrap_err().to_string().contains("no readings"));
        assert!(parse("", Path::new("t.csv")).unwrap_err().to_string().contains("empty"));
        assert!(parse("a,power_w\n1,2\n", Path::new("t")).unwrap_err().to_string().contains("`scope` is missing"));
    }
}

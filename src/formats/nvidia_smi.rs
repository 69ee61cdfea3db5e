//! CSV of `nvidia-smi --query-gpu=timestamp,power.draw,.. --format=csv[,nounits] --loop-ms=..`.
//!
//! The timestamps are local time without a zone. A device is told by `index`, else by its UUID, bus id or serial number in
//! order of first appearance, else by its place in each sample (`samples`). A line that its writer could not finish is left
//! out: a cut number would be another number. `N/A`, `[Not Supported]` and their like are readings that are not there.

mod samples;

use std::collections::BTreeMap;
use std::path::Path;

use super::problems::Problems;
use super::timestamp;
use super::trace_builder::{Assumed, Imported, MAX_POWER_W, TraceBuilder, lines};
use crate::domain::{Channel, Reading, Scope, Timestamp};
use crate::units::Watts;

/// Reads what a file holds; `path` names it in messages.
///
/// # Errors
/// Every problem of every row.
pub fn parse(text: &str, path: &Path, assumed: &Assumed) -> Result<Imported, Problems> {
    let mut builder = TraceBuilder::new(path);
    let (lines, unended) = lines(text);
    let Some(((first, header), rest)) = lines.split_first() else {
        builder.problems.add("line 1", "the file is empty", "record some samples, or leave the file out");
        return builder.finish();
    };
    let Some(columns) = Columns::find(header, *first, &mut builder) else { return builder.finish() };
    let mut rows = Vec::with_capacity(rest.len());
    for (position, (line, text)) in rest.iter().enumerate() {
        let is_last = position + 1 == rest.len();
        if *text == *header || builder.is_hopeless() {
            continue; // a log that was appended to
        }
        let place = format!("line {line}");
        let cells: Vec<&str> = text.split(',').map(str::trim).collect();
        let is_cut = if is_last {
            cells.len() < columns.names.len() || (unended && columns.may_be_cut(&cells))
        } else {
            text.ends_with(header)
        };
        if is_cut {
            builder.note(&place, "cut off before its end, left out");
        } else if cells.len() == columns.names.len() {
            rows.extend(columns.row(*line, &cells, assumed, &mut builder));
        } else {
            let what = format!("{} cells where the header has {}", cells.len(), columns.names.len());
            builder.problems.add(place, what, "the line is cut off or no row: remove it");
        }
    }
    if builder.problems.is_empty() {
        place_devices(rows, assumed, &mut builder);
    }
    builder.finish()
}

/// A row of one device.
struct DeviceRow {
    line: usize,
    reading: Reading,
    device: Device,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Device {
    Index(u32),
    /// A name that stays the same.
    Name(String),
    ByPlace,
}

/// Gives each row its device and hands it to the trace.
fn place_devices(rows: Vec<DeviceRow>, assumed: &Assumed, builder: &mut TraceBuilder) {
    let times: Vec<Timestamp> = rows.iter().map(|row| row.reading.at).collect();
    let by_place = rows.iter().any(|row| row.device == Device::ByPlace);
    let places = match by_place.then(|| samples::places(&times)).transpose() {
        Ok(places) => places.unwrap_or_default(),
        Err(samples::Unclear) => {
            let remedy = "record again with `index` in --query-gpu";
            builder.problems.add(
                "",
                "no column names the device, and the rows of one sample cannot be told apart",
                remedy,
            );
            return;
        }
    };
    let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
    let mut unplaced = 0;
    for (position, DeviceRow { line, reading, device }) in rows.into_iter().enumerate() {
        let index = match device {
            Device::Index(index) => Some(index),
            Device::Name(name) => {
                let next = numbers.len() as u32; // fewer devices than rows of a text
                Some(*numbers.entry(name).or_insert(next))
            }
            Device::ByPlace => places.get(position).copied().flatten(),
        };
        let Some(index) = index else {
            unplaced += 1;
            continue;
        };
        let channel = Channel { node: assumed.node.clone(), scope: Scope::Device, index: Some(index) };
        builder.push(&format!("line {line}"), &channel, reading);
    }
    let devices = places.iter().flatten().max().map_or(0, |last| last + 1);
    if devices > 1 {
        builder.note("", &format!("no column names the device: {devices} devices by their order in each sample"));
    }
    if unplaced > 0 {
        builder.note("", &format!("{unplaced} rows left out: their sample is incomplete, so their device is unknown"));
    }
}

/// Where the figures stand. Names are those of the header without their units.
struct Columns {
    names: Vec<String>,
    timestamp: usize,
    power: usize,
    index: Option<usize>,
    /// UUID, bus id or serial number.
    identity: Option<usize>,
    utilization: Option<usize>,
    memory: Option<usize>,
    clock: Option<usize>,
    temperature: Option<usize>,
}

impl Columns {
    fn find(header: &str, line: usize, builder: &mut TraceBuilder) -> Option<Self> {
        let name = |cell: &str| cell.split('[').next().unwrap_or_default().trim().to_owned();
        let names: Vec<String> = header.split(',').map(name).collect();
        // Of several names the first that is there; of several power draws, the one that nvidia-smi itself averages.
        let find = |wanted: &[&str]| wanted.iter().find_map(|wanted| names.iter().position(|name| name == wanted));
        let timestamp = find(&["timestamp"]);
        let power = find(&["power.draw", "power.draw.average", "power.draw.instant"]);
        for (column, name) in [(timestamp, "timestamp"), (power, "power.draw")] {
            if column.is_none() {
                let what = format!("the header has no `{name}`");
                let remedy = "record with --query-gpu=timestamp,index,power.draw,.. --format=csv, without noheader";
                builder.problems.add(format!("line {line}"), what, remedy);
            }
        }
        Some(Self {
            timestamp: timestamp?,
            power: power?,
            index: find(&["index"]),
            identity: find(&["uuid", "gpu_uuid", "pci.bus_id", "gpu_bus_id", "serial", "gpu_serial"]),
            utilization: find(&["utilization.gpu"]),
            memory: find(&["memory.used"]),
            clock: find(&["clocks.current.sm", "clocks.sm"]),
            temperature: find(&["temperature.gpu"]),
            names,
        })
    }

    /// Whether the last cell of the last line, behind which no line end stands, may lack its end: only a unit or a bracket
    /// tells a whole figure from half of one.
    fn may_be_cut(&self, cells: &[&str]) -> bool {
        let ends = ["W", "%", "MiB", "MHz", "]"];
        !cells.last().is_some_and(|cell| ends.iter().any(|end| cell.ends_with(end)))
    }

    fn row(&self, line: usize, cells: &[&str], assumed: &Assumed, builder: &mut TraceBuilder) -> Option<DeviceRow> {
        let mut row = Cells { names: &self.names, cells, line, builder };
        let time = cells.get(self.timestamp).copied().unwrap_or_default();
        let at = timestamp::parse(time, assumed.utc_offset_minutes);
        if at.is_none() {
            row.problem(self.timestamp, "no date and time", "expected for example `2024/04/05 06:17:19.635`");
        }
        let device = match (self.index, self.identity) {
            (Some(column), _) => match cells.get(column).and_then(|cell| cell.parse::<u32>().ok()) {
                Some(index) => Some(Device::Index(index)),
                None => {
                    row.problem(column, "no device index", "expected a whole number");
                    None
                }
            },
            (None, Some(column)) => cells.get(column).map(|cell| Device::Name((*cell).to_owned())),
            (None, None) => Some(Device::ByPlace),
        };
        let power = row.figure(Some(self.power), "W", MAX_POWER_W).map(Watts);
        let utilization_pct = row.figure(self.utilization, "%", 100.0);
        let memory_used_mib = row.figure(self.memory, "MiB", f64::MAX);
        let sm_clock_mhz = row.figure(self.clock, "MHz", f64::MAX);
        let temperature_c = row.figure(self.temperature, "C", f64::MAX);
        let (at, device) = (at?, device?);
        let reading =
            Reading { power, utilization_pct, memory_used_mib, sm_clock_mhz, temperature_c, ..Reading::at(at) };
        Some(DeviceRow { line, reading, device })
    }
}

struct Cells<'a> {
    names: &'a [String],
    cells: &'a [&'a str],
    line: usize,
    builder: &'a mut TraceBuilder,
}

impl Cells<'_> {
    /// A number of at least 0, with its unit or without; `None` where nvidia-smi could not tell it.
    fn figure(&mut self, column: Option<usize>, unit: &str, high: f64) -> Option<f64> {
        let (column, cell) = (column?, *self.cells.get(column?)?);
        if is_missing(cell) {
            return None;
        }
        let number = cell.strip_suffix(unit).unwrap_or(cell).trim_end();
        let figure = number.parse::<f64>().ok().filter(|figure| (0.0..=high).contains(figure));
        if figure.is_none() {
            self.problem(column, "no figure in its range", &format!("expected a number of {unit}, or N/A"));
        }
        figure
    }

    fn problem(&mut self, column: usize, what: &str, remedy: &str) {
        let (name, cell) = (&self.names[column], self.cells.get(column).copied().unwrap_or_default());
        let place = format!("line {}, column {} ({name})", self.line, column + 1);
        self.builder.problems.add(place, format!("`{cell}`: {what}"), remedy);
    }
}

/// `N/A`, `[Not Supported]`, `[GPU is lost]`, `[Unknown Error]`, ...: nvidia-smi writes why a figure is missing in brackets.
fn is_missing(cell: &str) -> bool {
    cell.is_empty()
        || (cell.starts_with('[') && cell.ends_with(']'))
        || ["N/A", "Not Supported", "Unknown Error", "ERR!"].contains(&cell)
}

#[cfg(test)]
mod tests;

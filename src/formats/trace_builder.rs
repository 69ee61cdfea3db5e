//! Readings of others' logs on their way to a trace: what every importer has to see to, once.
//!
//! Time must go on in each channel. A clock that is set back by up to a second costs the rows in between and a note; by
//! more, the file is refused, because rows of two hours in one would count no energy right.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::problems::{Collector, Problems};
use super::table::MAX_PROBLEMS;
use crate::domain::{Channel, Reading, Timestamp, Trace};
use crate::units::{Seconds, Watts};

/// No device or node draws more; what a meter says beyond is a sentinel or another unit.
pub const MAX_POWER_W: f64 = 1e6;

/// What a log does not say itself.
#[derive(Clone, Debug, Default)]
pub struct Assumed {
    /// The node, where the log names none.
    pub node: Option<String>,
    /// Minutes by which times without a zone are ahead of UTC.
    pub utc_offset_minutes: i32,
    /// When the first scrape was made, for scrapes without times.
    pub start: Option<Timestamp>,
    /// Time between two scrapes, likewise.
    pub interval: Option<Seconds>,
}

/// A log as a trace, with what had to be left out or assumed.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    pub trace: Trace,
    pub notes: Vec<String>,
}

/// Collects the readings of one file.
#[derive(Debug)]
pub struct TraceBuilder {
    pub problems: Collector,
    file: PathBuf,
    notes: Vec<String>,
    trace: Trace,
    set_back: usize,
    repeated: usize,
}

/// Larger steps back are refused.
const TOLERATED_STEP_BACK: Seconds = Seconds(1.0);

impl TraceBuilder {
    pub fn new(file: &Path) -> Self {
        Self {
            problems: Collector::new(file),
            file: file.to_owned(),
            notes: Vec::new(),
            trace: Trace::default(),
            set_back: 0,
            repeated: 0,
        }
    }

    /// Something the reader of the trace should know; `place` may be empty.
    pub fn note(&mut self, place: &str, what: &str) {
        let colon = if place.is_empty() { "" } else { ": " };
        self.notes.push(format!("{}{colon}{place}: {what}", self.file.display()));
    }

    /// Whether so much is wrong that reading on is no use.
    pub fn is_hopeless(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    /// Adds a reading, which `place` (`line 3`) gave.
    pub fn push(&mut self, place: &str, channel: &Channel, reading: Reading) {
        let readings = match self.trace.channels.get_mut(channel) {
            Some(readings) => readings,
            None => self.trace.channels.entry(channel.clone()).or_default(),
        };
        let back = readings.last().map_or(Seconds(f64::NEG_INFINITY), |last| last.at.since(reading.at));
        if back > TOLERATED_STEP_BACK {
            let what = format!("the time of {channel} goes back by {:.3} s", back.0);
            self.problems.add(place, what, "split the file before this line and import the parts one by one");
        } else if back > Seconds::ZERO {
            self.set_back += 1;
        } else if back == Seconds::ZERO {
            self.repeated += 1;
        } else {
            readings.push(reading);
        }
    }

    /// The trace, unless something was wrong, nothing was read, or nothing in it is a power.
    pub fn finish(mut self) -> Result<Imported, Problems> {
        if self.problems.is_empty() && self.trace.rows() == 0 {
            self.problems.add("", "there are no readings in the file", "record some, or leave the file out");
        } else if self.problems.is_empty() && self.trace.channels.values().flatten().all(|row| row.power.is_none()) {
            let what = format!("none of the {} readings says a power", self.trace.rows());
            self.problems.add("", what, "ask for the power when recording; some devices (vGPU, MIG) do not tell it");
        }
        if self.set_back > 0 {
            self.note("", &format!("{} rows left out where the clock had been set back", self.set_back));
        }
        if self.repeated > 0 {
            self.note("", &format!("{} rows left out that repeat the time of the row before", self.repeated));
        }
        let zero = |reading: &&Reading| reading.power == Some(Watts::ZERO);
        match self.trace.channels.values().flatten().filter(zero).count() {
            0 => {}
            rows => self.note("", &format!("{rows} rows say 0 W, which nothing that runs draws; they are kept")),
        }
        let imported = Imported { trace: self.trace, notes: self.notes };
        self.problems.finish(imported)
    }
}

/// The traces of several files as one. Files may follow each other on a channel, in any order; they must not overlap.
///
/// # Errors
/// Every overlap.
pub fn join(parts: Vec<(PathBuf, Imported)>) -> Result<Imported, Problems> {
    let mut joined = Imported::default();
    let mut by_channel: BTreeMap<Channel, Vec<(PathBuf, Vec<Reading>)>> = BTreeMap::new();
    for (path, part) in parts {
        joined.notes.extend(part.notes);
        for (channel, readings) in part.trace.channels {
            by_channel.entry(channel).or_default().push((path.clone(), readings));
        }
    }
    let mut problems: Vec<super::Problem> = Vec::new();
    for (channel, mut parts) in by_channel {
        parts.sort_by_key(|(_, readings)| readings.first().map(|reading| reading.at));
        let mut whole: Vec<Reading> = Vec::new();
        let mut before: Option<PathBuf> = None;
        for (path, readings) in parts {
            let overlaps = |last: &Reading| readings.first().is_some_and(|first| first.at <= last.at);
            if let (Some(before), true) = (&before, whole.last().is_some_and(overlaps)) {
                problems.push(super::Problem {
                    file: path.clone(),
                    place: channel.to_string(),
                    what: format!("its time overlaps with that in {}", before.display()),
                    remedy: "import the files of each node by themselves, with --node".to_owned(),
                });
            }
            whole.extend(readings);
            before = Some(path);
        }
        joined.trace.channels.insert(channel, whole);
    }
    if problems.is_empty() { Ok(joined) } else { Err(Problems::BadData(problems)) }
}

/// Lines with their 1-based numbers, without line ends and surrounding blanks, empty ones left out; and whether the last
/// of them had no line end behind it, as when its writer was stopped.
pub fn lines(text: &str) -> (Vec<(usize, &str)>, bool) {
    let rows = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    (rows.filter(|(_, line)| !line.is_empty()).collect(), !text.ends_with('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Scope;

    fn device() -> Channel {
        Channel { node: None, scope: Scope::Device, index: Some(0) }
    }

    fn reading(second: f64, watts: f64) -> Reading {
        Reading { power: Some(Watts(watts)), ..Reading::at(Timestamp::from_seconds(second).unwrap()) }
    }

    fn read(rows: &[(f64, f64)]) -> Result<Imported, Problems> {
        let mut builder = TraceBuilder::new(Path::new("t"));
        for (line, (second, watts)) in rows.iter().enumerate() {
            builder.push(&format!("line {}", line + 1), &device(), reading(*second, *watts));
        }
        builder.finish()
    }

    #[test]
    fn a_clock_set_back_costs_rows_or_the_file() {
        let read_back = read(&[(10.0, 1.0), (9.5, 2.0), (10.0, 3.0), (11.0, 4.0), (12.0, 0.0)]).unwrap();
        assert_eq!(read_back.trace.channels[&device()].len(), 3);
        assert_eq!(read_back.notes.len(), 3, "{:?}", read_back.notes);
        let refused = read(&[(10.0, 1.0), (8.9, 2.0)]).unwrap_err().to_string();
        assert!(refused.starts_with("t: line 2: the time of device 0 goes back by 1.100 s; split"), "{refused}");
    }

    #[test]
    fn nothing_is_no_trace() {
        assert!(read(&[]).unwrap_err().to_string().contains("no readings"));
        let mut builder = TraceBuilder::new(Path::new("t"));
        builder.push("line 1", &device(), Reading::at(Timestamp::from_micros(0).unwrap()));
        assert!(builder.finish().unwrap_err().to_string().contains("none of the 1 readings says a power"));
    }

    #[test]
    fn files_follow_each_other_and_do_not_overlap() {
        let part = |name: &str, rows: &[(f64, f64)]| (PathBuf::from(name), read(rows).unwrap());
        let (late, early) = (part("b", &[(5.0, 1.0), (6.0, 1.0)]), part("a", &[(1.0, 1.0), (2.0, 1.0)]));
        let joined = join(vec![late.clone(), early]).unwrap();
        let seconds: Vec<i64> = joined.trace.channels[&device()].iter().map(|r| r.at.micros() / 1_000_000).collect();
        assert_eq!(seconds, [1, 2, 5, 6]);
        let refused = join(vec![late, part("c", &[(6.0, 1.0)])]).unwrap_err().to_string();
        assert!(refused.starts_with("c: device 0: its time overlaps with that in b; import"), "{refused}");
    }
}

//! A recorded trace played back as a meter, in the time it was recorded in: for tests and demonstrations without hardware.
//!
//! The trace is a CSV of `seconds` and `power_w` (between two rows power changes linearly) or `energy_j` (a counter, which
//! holds each row's value until the next). Its figures are imported, not measured.

use std::path::Path;
use std::time::Instant;

use super::meter::{Identity, Meter, Method, Reading, Scope};
use super::refusal::{Refusal, RefusalKind};
use crate::domain::Provenance;
use crate::units::{Joules, Seconds, Watts};

/// A trace is from any hardware: no rise of its counter is too fast.
const MAX_POWER: Watts = Watts(f64::MAX);

/// Plays `file` from now on.
///
/// # Errors
/// A file that cannot be read, or that is no trace.
pub fn meter(file: &Path) -> Result<Box<dyn Meter>, Refusal> {
    let wrong = |what: String| {
        let remedy = "a trace has the columns seconds and power_w, or seconds and energy_j, with rising seconds";
        Refusal::new(RefusalKind::Unreadable, format!("{}: {what}", file.display()), remedy)
    };
    let text = std::fs::read(file).map_err(|error| Refusal::of_io(&file.display().to_string(), &error, ""))?;
    let mut table = csv::Reader::from_reader(text.as_slice());
    let header = table.headers().map_err(|error| wrong(error.to_string()))?.clone();
    let column = |name: &str| header.iter().position(|column| column.trim() == name);
    let seconds = column("seconds").ok_or_else(|| wrong("no column seconds".into()))?;
    let (value, counts) = match (column("power_w"), column("energy_j")) {
        (Some(power), _) => (power, false),
        (None, Some(energy)) => (energy, true),
        (None, None) => return Err(wrong("neither power_w nor energy_j".into())),
    };
    let mut rows: Vec<(f64, f64)> = Vec::new();
    for (index, record) in table.records().enumerate() {
        let record = record.map_err(|error| wrong(error.to_string()))?;
        let number = |column: usize| record.get(column)?.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        match (number(seconds), number(value)) {
            (Some(at), Some(value)) if rows.last().is_none_or(|(before, _)| at > *before) => rows.push((at, value)),
            _ => return Err(wrong(format!("line {}: no rising seconds with a value", index + 2))),
        }
    }
    if rows.is_empty() {
        return Err(wrong("no rows".into()));
    }
    let method = if counts {
        Method::Counter { wraps_at: None, max_power: MAX_POWER }
    } else {
        Method::Integrated { averaged_over: Seconds::ZERO }
    };
    let identity = Identity {
        name: "replay".to_owned(),
        source: "replay",
        scope: Scope::Node,
        method,
        resolution: 0.0,
        provenance: Provenance::Imported,
    };
    Ok(Box::new(Replay { identity, rows, counts, begun: None }))
}

struct Replay {
    identity: Identity,
    rows: Vec<(f64, f64)>,
    counts: bool,
    begun: Option<Instant>,
}

impl Meter for Replay {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn read(&mut self) -> Result<Reading, Refusal> {
        let elapsed = self.begun.get_or_insert_with(Instant::now).elapsed().as_secs_f64();
        let at = self.rows.first().map_or(0.0, |(first, _)| first + elapsed);
        let after = self.rows.partition_point(|(seconds, _)| *seconds <= at);
        let length = self.rows.last().zip(self.rows.first()).map_or(0.0, |(last, first)| last.0 - first.0);
        let ended = || Refusal::new(RefusalKind::Lost, format!("the trace ends after {length:.1} s"), "");
        let (from, value) = after.checked_sub(1).and_then(|index| self.rows.get(index)).copied().ok_or_else(ended)?;
        if self.counts {
            return if after < self.rows.len() { Ok(Reading::Counter(Joules(value))) } else { Err(ended()) };
        }
        let (to, next) = self.rows.get(after).copied().ok_or_else(ended)?;
        Ok(Reading::Power(Watts(value + (next - value) * (at - from) / (to - from))))
    }
}

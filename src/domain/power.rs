//! A power trace: what the meters of some nodes read over time.
//!
//! A reading that a meter did not give is absent, never 0, and time nobody watched stays a gap: whoever sums or resamples
//! decides how far two readings may lie apart (`telemetry::energy`). Cumulative energy counters are left out; they belong
//! to the measurement of one run.

use std::collections::BTreeMap;
use std::fmt;

use crate::units::{Seconds, Watts};

/// A point in time, in microseconds since 1970 UTC and before the year 10000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Last microsecond of the year 9999.
    const MAX: i64 = 253_402_300_799_999_999;

    /// `None` before 1970 and after 9999.
    pub fn from_micros(micros: i64) -> Option<Self> {
        (0..=Self::MAX).contains(&micros).then_some(Self(micros))
    }

    /// From seconds since 1970 UTC, to the nearest microsecond.
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        let micros = (seconds * 1e6).round();
        // The range lies within what an i64 holds; NaN is in no range.
        if (0.0..=Self::MAX as f64).contains(&micros) { Self::from_micros(micros as i64) } else { None }
    }

    pub fn micros(self) -> i64 {
        self.0
    }

    /// Time since `earlier`; negative if that is later.
    pub fn since(self, earlier: Self) -> Seconds {
        // Both lie in 1970..=9999, so the difference cannot overflow.
        Seconds((self.0 - earlier.0) as f64 / 1e6)
    }

    /// This and so much later, held to the range.
    pub fn plus(self, time: Seconds) -> Self {
        // A float beyond i64 saturates, NaN adds nothing.
        Self(self.0.saturating_add((time.0 * 1e6).round() as i64).clamp(0, Self::MAX))
    }
}

/// What a figure of a trace is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The whole node at the wall or at its power supplies.
    Node,
    /// A CPU socket, without its memory.
    Package,
    /// An accelerator.
    Device,
}

impl Scope {
    pub const ALL: [Self; 3] = [Self::Node, Self::Package, Self::Device];

    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Package => "package",
            Self::Device => "device",
        }
    }
}

/// Where readings come from: one device, package or node. Each has its own row of readings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Channel {
    /// `None` where the source does not say.
    pub node: Option<String>,
    pub scope: Scope,
    /// Of the device or package in its node; `None` for a node.
    pub index: Option<u32>,
}

impl fmt::Display for Channel {
    /// `n1 device 0`, `device 0`, `node`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.node {
            write!(f, "{node} ")?;
        }
        f.write_str(self.scope.name())?;
        self.index.map_or(Ok(()), |index| write!(f, " {index}"))
    }
}

/// What a meter read at one moment. Absent is unknown.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub at: Timestamp,
    pub power: Option<Watts>,
    /// Share of time in which the device ran a kernel, in percent.
    pub utilization_pct: Option<f64>,
    pub memory_used_mib: Option<f64>,
    pub sm_clock_mhz: Option<f64>,
    pub temperature_c: Option<f64>,
    /// What ran meanwhile, in the source's words: `idle`, `load`, the mark of a run.
    pub phase: Option<String>,
}

impl Reading {
    /// A reading of nothing yet.
    pub fn at(at: Timestamp) -> Self {
        Self {
            at,
            power: None,
            utilization_pct: None,
            memory_used_mib: None,
            sm_clock_mhz: None,
            temperature_c: None,
            phase: None,
        }
    }
}

/// Readings by channel, each in order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    pub channels: BTreeMap<Channel, Vec<Reading>>,
}

impl Trace {
    /// Number of readings.
    pub fn rows(&self) -> usize {
        self.channels.values().map(Vec::len).sum()
    }

    /// All readings by time, those of one moment by channel.
    pub fn by_time(&self) -> Vec<(&Channel, &Reading)> {
        let of = |(channel, readings)| (readings as &Vec<Reading>).iter().map(move |reading| (channel, reading));
        let mut rows: Vec<(&Channel, &Reading)> = self.channels.iter().flat_map(of).collect();
        rows.sort_by_key(|(_, reading)| reading.at);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_stay_in_their_range() {
        let at = Timestamp::from_seconds(1.5).unwrap();
        assert_eq!((at.micros(), at.plus(Seconds(0.25)).since(at)), (1_500_000, Seconds(0.25)));
        assert_eq!(at.since(at.plus(Seconds(2.0))), Seconds(-2.0));
        for none in [-1.0, f64::NAN, f64::INFINITY, 1e18] {
            assert_eq!(Timestamp::from_seconds(none), None, "{none}");
        }
        assert_eq!(at.plus(Seconds(-9.0)).micros(), 0);
        assert_eq!(at.plus(Seconds(f64::INFINITY)), Timestamp::from_micros(Timestamp::MAX).unwrap());
        assert_eq!(at.plus(Seconds(f64::NAN)), at);
    }

    #[test]
    fn rows_of_one_moment_are_ordered_by_channel() {
        let channel = |index| Channel { node: Some("n1".into()), scope: Scope::Device, index: Some(index) };
        let reading = |second: f64| Reading::at(Timestamp::from_seconds(second).unwrap());
        let channels = [(channel(1), vec![reading(0.0), reading(1.0)]), (channel(0), vec![reading(0.0), reading(2.0)])];
        let trace = Trace { channels: channels.into() };
        let order: Vec<(String, i64)> =
            trace.by_time().iter().map(|(c, r)| (c.to_string(), r.at.micros() / 1_000_000)).collect();
        let of = |index, second| (format!("n1 device {index}"), second);
        assert_eq!(order, [of(0, 0), of(1, 0), of(1, 1), of(0, 2)]);
    }
}

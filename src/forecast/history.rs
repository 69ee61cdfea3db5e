//! Telemetry as forecasters see it: runs of steps without a gap, and the windows in them.
//!
//! A step that nobody measured takes the power of the step before, for a few seconds at most: a scrape is lost now and
//! then. What is longer is a gap, and a gap ends a run. Steps made up so are never what a forecast is judged by.

use std::fmt;

use super::forecaster::{HISTORY, LONGEST, OUTPUTS, Output, STEP};
use crate::domain::{Reading, Scope, Timestamp};
use crate::telemetry::{gap_limit, resample};

/// Steps without a reading that are bridged.
const BRIDGED: usize = 5;

/// What channels a forecaster treats alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub scope: Scope,
    /// Type of the device or node, as `H100-80GB`, where it is known.
    pub device: Option<String>,
}

impl fmt::Display for Kind {
    /// `device`, `node 8xH200`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scope.name())?;
        self.device.as_ref().map_or(Ok(()), |device| write!(f, " {device}"))
    }
}

/// What telemetry may hold beside power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    Utilization,
    MemoryUsed,
    SmClock,
    Temperature,
}

pub const FIGURES: usize = 4;

impl Figure {
    /// In the order in which steps hold them.
    pub const ALL: [Self; FIGURES] = [Self::Utilization, Self::MemoryUsed, Self::SmClock, Self::Temperature];

    /// As the columns of telemetry are called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Utilization => "utilization_pct",
            Self::MemoryUsed => "memory_used_mib",
            Self::SmClock => "sm_clock_mhz",
            Self::Temperature => "temperature_c",
        }
    }

    fn of(self, reading: &Reading) -> Option<f64> {
        match self {
            Self::Utilization => reading.utilization_pct,
            Self::MemoryUsed => reading.memory_used_mib,
            Self::SmClock => reading.sm_clock_mhz,
            Self::Temperature => reading.temperature_c,
        }
    }
}

/// A second of a channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Mean over the step.
    pub power_w: f64,
    /// Whether the power was measured, not bridged.
    pub is_measured: bool,
    /// Means over the step in the order of `Figure::ALL`, where they are known. Narrow, for there are many steps.
    pub figures: [Option<f32>; FIGURES],
}

impl Step {
    /// A step of which nothing but the power is known.
    pub fn measured(power_w: f64) -> Self {
        Self { power_w, is_measured: true, figures: [None; FIGURES] }
    }
}

/// What one channel drew, at `STEP`.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Who it is, for people: `gptj_run_1.txt node`.
    pub name: String,
    /// Recordings that are held out together: those of one file, or of one workload.
    pub group: String,
    pub kind: Kind,
    /// Each with the time its first step begins.
    pub runs: Vec<(Timestamp, Vec<Step>)>,
}

impl Recording {
    /// The readings of a channel, in order of time, brought to steps.
    pub fn new(name: String, group: String, kind: Kind, readings: &[Reading]) -> Self {
        let mut runs: Vec<(Timestamp, Vec<Step>)> = Vec::new();
        let mut last: Option<Timestamp> = None;
        for reading in resample(readings, STEP, gap_limit(readings)) {
            let Some(power) = reading.power else { continue };
            let figures = Figure::ALL.map(|figure| figure.of(&reading).map(|value| value as f32));
            let step = Step { figures, ..Step::measured(power.0) };
            let missing = last.map(|last| (reading.at.since(last) / STEP).round() as usize - 1);
            match (missing, runs.last_mut()) {
                (Some(missing), Some((_, run))) if missing <= BRIDGED => {
                    if let Some(before) = run.last().copied() {
                        let bridge = Step { is_measured: false, figures: [None; FIGURES], ..before };
                        run.extend(std::iter::repeat_n(bridge, missing));
                    }
                    run.push(step);
                }
                _ => runs.push((reading.at, vec![step])),
            }
            last = Some(reading.at);
        }
        Self { name, group, kind, runs }
    }

    /// Steps in all runs.
    pub fn steps(&self) -> usize {
        self.runs.iter().map(|(_, run)| run.len()).sum()
    }

    /// The last minute, with the time it ends at; `None` if less than that is known without a gap.
    pub fn latest(&self) -> Option<(Timestamp, History<'_>)> {
        let (start, run) = self.runs.last()?;
        let steps = &run[run.len().checked_sub(HISTORY)?..];
        Some((start.plus(STEP * run.len() as f64), History { kind: &self.kind, steps }))
    }

    /// Every minute of history with the known minute after it.
    pub fn windows(&self) -> impl Iterator<Item = Window<'_>> {
        let offsets = self.runs.iter().scan(0, |steps, (_, run)| {
            *steps += run.len();
            Some((*steps - run.len(), run))
        });
        offsets.flat_map(move |(offset, run)| {
            let ends = HISTORY..(run.len() + 1).saturating_sub(LONGEST).max(HISTORY);
            ends.filter_map(move |end| {
                let future = &run[end..end + LONGEST];
                let watts: Vec<f64> = future.iter().map(|step| step.power_w).collect();
                future.iter().all(|step| step.is_measured).then(|| Window {
                    recording: self,
                    now: offset + end,
                    history: History { kind: &self.kind, steps: &run[end - HISTORY..end] },
                    truth: Output::ALL.map(|output| output.of(&watts)),
                })
            })
        })
    }
}

/// The last minute of a channel: `HISTORY` steps, the latest last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct History<'a> {
    kind: &'a Kind,
    steps: &'a [Step],
}

impl<'a> History<'a> {
    /// `None` unless there are exactly `HISTORY` steps, each of a finite power.
    pub fn new(kind: &'a Kind, steps: &'a [Step]) -> Option<Self> {
        let is_whole = steps.len() == HISTORY && steps.iter().all(|step| step.power_w.is_finite());
        is_whole.then_some(Self { kind, steps })
    }

    pub fn kind(&self) -> &'a Kind {
        self.kind
    }

    /// Watts, the latest last.
    pub fn powers(&self) -> impl Iterator<Item = f64> + 'a {
        self.steps.iter().map(|step| step.power_w)
    }

    /// One figure of each step, the latest last.
    pub fn figures(&self, figure: Figure) -> impl Iterator<Item = Option<f64>> + 'a {
        self.steps.iter().map(move |step| step.figures[figure as usize].map(f64::from))
    }

    /// Watts of the latest step.
    pub fn last(&self) -> f64 {
        self.steps[HISTORY - 1].power_w
    }

    /// Standard deviation over the minute, in watts.
    pub fn spread(&self) -> f64 {
        let mean = self.powers().sum::<f64>() / HISTORY as f64;
        (self.powers().map(|power| (power - mean).powi(2)).sum::<f64>() / HISTORY as f64).sqrt()
    }
}

/// A history whose future is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window<'a> {
    pub recording: &'a Recording,
    /// Steps of the recording before the forecast.
    pub now: usize,
    pub history: History<'a>,
    /// Watts, in the order of `Output::ALL`.
    pub truth: [f64; OUTPUTS],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Watts;

    fn recording(powers: &[(f64, f64)]) -> Recording {
        let reading = |(second, watts): &(f64, f64)| Reading {
            power: Some(Watts(*watts)),
            ..Reading::at(Timestamp::from_seconds(*second).unwrap())
        };
        let readings: Vec<Reading> = powers.iter().map(reading).collect();
        Recording::new("r".into(), "g".into(), Kind { scope: Scope::Node, device: None }, &readings)
    }

    #[test]
    fn windows_are_a_minute_before_and_a_minute_after() {
        let ramp: Vec<(f64, f64)> = (0..=125).map(|second| (f64::from(second), f64::from(second))).collect();
        let recording = recording(&ramp);
        let windows: Vec<Window<'_>> = recording.windows().collect();
        // 125 whole seconds; means over a second of a ramp lie at its half.
        assert_eq!((recording.steps(), windows.len(), windows[0].now), (125, 6, 60));
        assert_eq!(windows[0].truth, [75.0, 89.5, 90.0, 119.5]);
        assert_eq!((windows[5].history.last(), windows[5].truth[3]), (64.5, 124.5));
        let (end, latest) = recording.latest().unwrap();
        assert_eq!((end.micros(), latest.last()), (125_000_000, 124.5));
    }

    #[test]
    fn a_short_hole_is_bridged_a_long_one_ends_the_run() {
        // Readings every half second; three seconds are missing, then ten. A gap is five intervals.
        let at = |from: f64, to: f64| (0..).map(move |k| from + 0.5 * f64::from(k)).take_while(move |t| *t <= to);
        let times = at(0.0, 70.0).chain(at(73.0, 200.0)).chain(at(210.0, 300.0));
        let recording = recording(&times.map(|time| (time, 50.0)).collect::<Vec<_>>());
        assert_eq!(recording.runs.iter().map(|(_, run)| run.len()).collect::<Vec<_>>(), [200, 90]);
        assert_eq!(recording.runs[0].1.iter().filter(|step| !step.is_measured).count(), 3);
        // No window is judged by the hole: those that end in 70 at first or begin behind 73.
        let nows: Vec<usize> = recording.windows().map(|window| window.now).collect();
        assert_eq!((nows[0], nows.len()), (73, 68));
        assert!(self::recording(&[(0.0, 1.0), (1.0, 2.0)]).latest().is_none());
        assert_eq!(self::recording(&[]).windows().count(), 0);
    }
}

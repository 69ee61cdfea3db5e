//! When a cell has been measured enough: the interval of its mean energy *and* of its mean runtime is narrow.
//!
//! Both are per request, at 95 %, and hold although they are looked at after every trial
//! ([`RepeatedIntervals`]). Trials that a normal sample would show once in a thousand times are outliers in either quantity
//! ([`esd`]): they stay among the samples and count as trials, and the intervals do without them. Where there is no meter,
//! runtime alone decides.

use crate::domain::Sample;
use crate::stats::{Interval, RepeatedIntervals, esd};

/// Of every interval.
pub const LEVEL: f64 = 0.95;
/// Trials before the first look.
pub const LEAST_TRIALS: u32 = 3;
/// A normal sample shows an outlier with this probability.
const SIGNIFICANCE: f64 = 0.001;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Half width of both intervals over their means.
    pub ci: f64,
    /// A cell gets no more trials than this.
    pub max_trials: u32,
    intervals: RepeatedIntervals,
}

/// What is known of a cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    pub trials: u32,
    /// Places among the cell's trials.
    pub outliers: Vec<usize>,
    /// Joules per request, gross.
    pub energy: Option<Interval>,
    /// Instance-seconds per request.
    pub runtime: Option<Interval>,
    pub verdict: Option<Verdict>,
}

/// Why a cell gets no more trials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both intervals are narrow enough.
    Converged,
    MaxTrials,
    /// Too many failures in succession.
    GivenUp,
    /// The budget has no time for (more of) it.
    OutOfTime,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::MaxTrials => "max_trials",
            Self::GivenUp => "given_up",
            Self::OutOfTime => "out_of_time",
        }
    }
}

/// What one trial cost per request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    pub energy: Option<f64>,
    pub runtime: f64,
}

impl Cost {
    /// `None` of a row without a runtime.
    pub fn of(sample: &Sample) -> Option<Self> {
        let energy = sample.energy_per_request().or(sample.node_energy.map(|energy| energy / sample.requests));
        Some(Self { energy: energy.map(|joules| joules.0), runtime: sample.runtime_per_request()?.0 })
    }
}

impl Rule {
    pub fn new(ci: f64, max_trials: u32) -> Self {
        let intervals = RepeatedIntervals::new(LEVEL, LEAST_TRIALS as usize, max_trials as usize);
        Self { ci, max_trials, intervals }
    }

    /// Where a cell with these trials stands.
    pub fn look(&self, costs: &[Cost]) -> Standing {
        let energies: Option<Vec<f64>> = costs.iter().map(|cost| cost.energy).collect();
        let runtimes: Vec<f64> = costs.iter().map(|cost| cost.runtime).collect();
        let mut outliers = esd::outliers(&runtimes, SIGNIFICANCE);
        outliers.extend(energies.iter().flat_map(|energies| esd::outliers(energies, SIGNIFICANCE)));
        outliers.sort_unstable();
        outliers.dedup();
        let kept = |values: &[f64]| -> Vec<f64> {
            let inside = values.iter().enumerate().filter(|(place, _)| !outliers.contains(place));
            inside.map(|(_, value)| *value).collect()
        };
        let runtime = self.intervals.interval(&kept(&runtimes));
        let energy = energies.as_ref().and_then(|energies| self.intervals.interval(&kept(energies)));
        let is_narrow = |interval: Option<Interval>| interval.is_some_and(|interval| interval.relative() <= self.ci);
        let trials = u32::try_from(costs.len()).unwrap_or(u32::MAX);
        let verdict = if is_narrow(runtime) && (energies.is_none() || is_narrow(energy)) {
            Some(Verdict::Converged)
        } else {
            (trials >= self.max_trials).then_some(Verdict::MaxTrials)
        };
        Standing { trials, outliers, energy, runtime, verdict }
    }
}

#[cfg(test)]
mod tests;

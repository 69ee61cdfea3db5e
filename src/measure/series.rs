//! Energy over time as one meter saw it: readings in, joules between two instants out.
//!
//! A counter contributes a point each time it changes: between two changes it has not counted yet, so energy is
//! interpolated there. Powers are joined by trapezoids. What a reset, a lost device or a missing sample hides is kept as a
//! break, and energy across a break is refused. Points older than a minute are thinned to one a second, except beside pinned
//! instants, so that a day of samples stays small.

use super::meter::{Method, Reading, SLOWEST_STEP};
use super::refusal::{Refusal, RefusalKind};
use crate::units::{Joules, Seconds, Watts};

/// Points younger than this are all kept.
const RECENT: f64 = 60.0;
const THINNED_TO: f64 = 1.0;
/// Around a pinned instant all points are kept.
const AROUND_PIN: f64 = 2.0;
/// The sampler reads finely this long on either side of a pinned instant.
const FINE_AROUND_PIN: f64 = 0.25;
/// Integrating over a hole longer than this many intervals, and longer than a second, would be a guess.
const GAP_INTERVALS: f64 = 5.0;
const GAP_LEAST: f64 = 1.0;
/// A region needs this many updates of the meter inside it.
const LEAST_UPDATES: f64 = 2.0;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    at: f64,
    joules: f64,
}

#[derive(Clone, Debug)]
struct Break {
    from: f64,
    to: f64,
    refusal: Refusal,
}

/// Energy of a region.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Energy {
    pub joules: Joules,
    /// What one update of the meter at either end may hide.
    pub uncertainty: Joules,
}

#[derive(Clone, Debug)]
pub struct Series {
    method: Method,
    interval: f64,
    points: Vec<Point>,
    /// Points before this index are thinned.
    thinned: usize,
    pins: Vec<f64>,
    last: Option<(f64, f64)>,
    /// Whether the latest point of a counter is a step that was seen, with nothing unknown since.
    is_anchored: bool,
    /// Whether the latest reading of a counter was the same as the one before.
    stood_still: bool,
    breaks: Vec<Break>,
    samples: usize,
}

impl Series {
    /// `interval` is the longest regular time between two readings.
    pub fn new(method: Method, interval: Seconds) -> Self {
        Self {
            method,
            interval: interval.0,
            points: Vec::new(),
            thinned: 0,
            pins: Vec::new(),
            last: None,
            is_anchored: false,
            stood_still: false,
            breaks: Vec::new(),
            samples: 0,
        }
    }

    /// A reading at `at`; times never go back.
    pub fn add(&mut self, at: Seconds, reading: Reading) {
        let at = at.0;
        let value = match reading {
            Reading::Counter(joules) => joules.0,
            Reading::Power(watts) => watts.0,
        };
        if !value.is_finite() || value < 0.0 {
            return self
                .fail(Seconds(at), Refusal::new(RefusalKind::Unreadable, format!("the meter said {value}"), ""));
        }
        self.samples += 1;
        let Some((before, old)) = self.last.replace((at, value)) else {
            // A power is of now; a counter's value is as old as its last step, so its first change is the first point.
            if matches!(self.method, Method::Integrated { .. }) {
                self.points.push(Point { at, joules: 0.0 });
            }
            return;
        };
        let total = self.points.last().map_or(0.0, |point| point.joules);
        match self.method {
            Method::Counter { .. } => {
                if let Some(added) = self.counted(before, old, at, value)
                    && added > 0.0
                {
                    let joules = if self.is_anchored { total + added } else { total };
                    // A change after a reading without one came somewhere between the two; where each reading brings one,
                    // steps are finer than readings.
                    let at = if self.stood_still { 0.5 * (before + at) } else { at };
                    self.points.push(Point { at, joules });
                    if !self.is_anchored
                        && let Some(hidden) = self.breaks.last_mut()
                    {
                        hidden.to = at;
                    }
                    self.is_anchored = true;
                }
                self.stood_still = value == old;
            }
            Method::Integrated { .. } => {
                if at - before > GAP_LEAST.max(GAP_INTERVALS * self.interval) {
                    let what = format!("no sample for {:.1} s", at - before);
                    self.push_break(before, at, Refusal::new(RefusalKind::Gap, what, ""));
                }
                self.points.push(Point { at, joules: total + 0.5 * (old + value) * (at - before) });
            }
        }
        self.thin(at);
    }

    /// No reading at `at`, and why. A lost device ends the series; other failures only make a gap.
    pub fn fail(&mut self, at: Seconds, refusal: Refusal) {
        if matches!(refusal.kind, RefusalKind::Lost | RefusalKind::Permission | RefusalKind::Unsupported) {
            let from = self.last.take().map_or(at.0, |(before, _)| before);
            match self.breaks.last_mut() {
                Some(last) if last.refusal.kind == refusal.kind && last.to >= from => last.to = f64::INFINITY,
                _ => self.push_break(from, f64::INFINITY, refusal),
            }
        }
    }

    /// Keeps all points around `at`.
    pub fn pin(&mut self, at: Seconds) {
        self.pins.push(at.0);
    }

    /// When the first reading came.
    pub fn first(&self) -> Option<Seconds> {
        self.points.first().map(|point| Seconds(point.at))
    }

    /// Until when energy is known.
    pub fn until(&self) -> Option<Seconds> {
        self.points.last().map(|point| Seconds(point.at))
    }

    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The median time between two updates where readings are finest: around pinned instants. `None` before three of them.
    pub fn update_interval(&self) -> Option<Seconds> {
        let near = |at: f64| self.pins.iter().any(|pin| (at - pin).abs() <= FINE_AROUND_PIN);
        let pairs = self.points.windows(2).filter(|pair| near(pair[0].at) && near(pair[1].at));
        let mut gaps: Vec<f64> = pairs.map(|pair| pair[1].at - pair[0].at).collect();
        if gaps.len() < 2 {
            return None;
        }
        gaps.sort_by(f64::total_cmp);
        Some(Seconds(gaps[gaps.len() / 2]))
    }

    /// Energy from `from` to `to`.
    ///
    /// # Errors
    /// What hides it: a break inside, no points around it, or fewer than two updates inside it.
    pub fn energy(&self, from: Seconds, to: Seconds) -> Result<Energy, Refusal> {
        let (from, to) = (from.0, to.0);
        if let Some(found) = self.breaks.iter().find(|hidden| hidden.from < to && hidden.to > from) {
            return Err(found.refusal.clone());
        }
        let inside = self.index_after(to).saturating_sub(self.index_after(from));
        let step = self.step_around(from, to);
        let least = match self.method {
            Method::Counter { .. } => LEAST_UPDATES * step.unwrap_or(0.0),
            Method::Integrated { averaged_over } => LEAST_UPDATES * step.unwrap_or(0.0).max(averaged_over.0),
        };
        if inside < LEAST_UPDATES as usize || to - from < least {
            let what = match step.map(|step| step.max(least / LEAST_UPDATES)) {
                Some(step) => format!(
                    "{:.0} ms hold {inside} updates of this meter, which come every {:.0} ms",
                    1e3 * (to - from),
                    1e3 * step
                ),
                None => format!("{:.0} ms hold {inside} updates of this meter", 1e3 * (to - from)),
            };
            let remedy = "measure for longer, for example by repeating the command";
            return Err(Refusal::new(RefusalKind::TooShort, what, remedy));
        }
        let known = match self.method {
            // A step in the making is part of the uncertainty.
            Method::Counter { .. } => self.points.last().map(|last| last.at + LEAST_UPDATES * step.unwrap_or(0.0)),
            Method::Integrated { .. } => self.points.last().map(|last| last.at),
        };
        if known.is_none_or(|known| to > known) {
            return Err(Refusal::new(RefusalKind::Gap, "no reading since the region ended", "measure again"));
        }
        let (start, end) = (self.at(from), self.at(to));
        match (start, end) {
            (Some(start), Some(end)) => {
                let joules = (end - start).max(0.0);
                let power = joules / (to - from);
                let uncertainty = Joules(power * step.unwrap_or(0.0));
                Ok(Energy { joules: Joules(joules), uncertainty })
            }
            _ => Err(Refusal::new(RefusalKind::Gap, "no reading before the region began", "")),
        }
    }

    /// Mean power between `from` and `to`, over the updates wholly inside: the one that straddles an end has seen what comes
    /// before or after, too.
    ///
    /// # Errors
    /// As `energy`.
    pub fn mean_power(&self, from: Seconds, to: Seconds) -> Result<Watts, Refusal> {
        let inside = |point: &&Point| point.at >= from.0 && point.at <= to.0;
        let first = self.points.iter().find(inside).map_or(from, |point| Seconds(point.at));
        let last = self.points.iter().rev().find(inside).map_or(to, |point| Seconds(point.at));
        Ok(self.energy(first, last)?.joules / (last - first))
    }

    /// What a counter added since the reading at `before`; where that is unknown, a break.
    fn counted(&mut self, before: f64, old: f64, at: f64, value: f64) -> Option<f64> {
        // The older value may have waited a step to be read.
        let time = Seconds(at - before).max(SLOWEST_STEP);
        match self.method.added(Joules(old), Joules(value), time) {
            Ok(added) => Some(added.0),
            Err(refusal) => {
                // Until the next step, which is the first that is known whole.
                self.push_break(before, f64::INFINITY, refusal);
                self.is_anchored = false;
                None
            }
        }
    }

    fn push_break(&mut self, from: f64, to: f64, refusal: Refusal) {
        self.breaks.push(Break { from, to, refusal });
    }

    /// Cumulative energy at `t`, or `None` before the first point. After the last it is the last: a counter's next step is
    /// not known yet.
    fn at(&self, t: f64) -> Option<f64> {
        let after = self.index_after(t);
        let left = self.points.get(after.checked_sub(1)?)?;
        let Some(right) = self.points.get(after) else { return Some(left.joules) };
        let share = (t - left.at) / (right.at - left.at);
        Some(left.joules + share * (right.joules - left.joules))
    }

    /// How far apart points are at the ends of a region.
    fn step_around(&self, from: f64, to: f64) -> Option<f64> {
        let gap = |t: f64| {
            let after = self.index_after(t).min(self.points.len().checked_sub(1)?);
            Some(self.points.get(after)?.at - self.points.get(after.checked_sub(1)?)?.at)
        };
        match (gap(from), gap(to)) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        }
    }

    fn index_after(&self, t: f64) -> usize {
        self.points.partition_point(|point| point.at <= t)
    }

    fn thin(&mut self, now: f64) {
        // In batches, so that the cost per reading stays small.
        let old_until = self.index_after(now - RECENT);
        if old_until < self.thinned + 4_096 {
            return;
        }
        let mut kept: Vec<Point> = self.points[..self.thinned].to_vec();
        for (index, point) in self.points[self.thinned..old_until].iter().enumerate() {
            let near_pin = self.pins.iter().any(|pin| (point.at - pin).abs() < AROUND_PIN);
            let last = index + 1 == old_until - self.thinned;
            if near_pin || last || kept.last().is_none_or(|k| point.at - k.at >= THINNED_TO) {
                kept.push(*point);
            }
        }
        let thinned = kept.len();
        kept.extend_from_slice(&self.points[old_until..]);
        self.points = kept;
        self.thinned = thinned;
    }
}

#[cfg(test)]
mod tests;

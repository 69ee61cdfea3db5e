//! A quantity that holds from each instant until the next: carbon intensity, price, a power cap. In plan seconds.
//!
//! What lies before the start of the plan is left out, and neighbours of equal value are one step.

/// Never empty; ascending; the first value also holds before its second.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    /// (second from which it holds, value)
    steps: Vec<(f64, f64)>,
    /// Integral from the first step to each.
    integrals: Vec<f64>,
    /// Until when the last value is known to hold.
    until: f64,
    /// Intervals without a value of their own, in which the one before stands in.
    gaps: Vec<(f64, f64)>,
}

impl Steps {
    /// The same value throughout.
    pub fn constant(value: f64) -> Self {
        Self { steps: vec![(0.0, value)], integrals: vec![0.0], until: f64::INFINITY, gaps: Vec::new() }
    }

    /// `steps`: (second, value), ascending; `None` if there are none.
    pub fn new(steps: &[(f64, f64)], until: f64) -> Option<Self> {
        let first = steps.iter().rposition(|(second, _)| *second <= 0.0).unwrap_or(0);
        let mut kept: Vec<(f64, f64)> = Vec::new();
        for &(second, value) in steps.get(first..)? {
            if kept.last().is_none_or(|(_, last)| *last != value) {
                kept.push((second, value));
            }
        }
        let (mut integrals, mut total) = (Vec::with_capacity(kept.len()), 0.0);
        for (index, &(second, _)) in kept.iter().enumerate() {
            if let Some((before, value)) = index.checked_sub(1).map(|last| kept[last]) {
                total += value * (second - before);
            }
            integrals.push(total);
        }
        (!kept.is_empty()).then_some(Self { steps: kept, integrals, until, gaps: Vec::new() })
    }

    /// With intervals that have no value of their own.
    pub fn with_gaps(self, gaps: Vec<(f64, f64)>) -> Self {
        Self { gaps, ..self }
    }

    /// The first interval between 0 and `horizon` in which there is no value.
    pub fn missing(&self, horizon: f64) -> Option<(f64, f64)> {
        let before = (0.0, self.steps[0].0);
        let behind = (self.until, horizon);
        let gaps = [before].into_iter().chain(self.gaps.iter().copied()).chain([behind]);
        gaps.map(|(from, to)| (from.max(0.0), to.min(horizon))).find(|(from, to)| from < to)
    }

    /// (second from which it holds, value), ascending.
    pub fn iter(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.steps.iter().copied()
    }

    /// The step that holds at a second.
    fn index(&self, second: f64) -> usize {
        self.steps.partition_point(|(from, _)| *from <= second).saturating_sub(1)
    }

    pub fn at(&self, second: f64) -> f64 {
        self.steps[self.index(second)].1
    }

    /// Integral from the first step to `second`.
    fn integral_to(&self, second: f64) -> f64 {
        let index = self.index(second);
        self.integrals[index] + self.steps[index].1 * (second - self.steps[index].0)
    }

    /// Mean over `[from, to]`; the value at `from` where that is no time at all.
    pub fn mean(&self, from: f64, to: f64) -> f64 {
        let index = self.index(from);
        // Inside one step exactly its value, whatever the rounding of a difference of integrals.
        if to <= from || self.steps.get(index + 1).is_none_or(|(next, _)| to <= *next) {
            return self.steps[index].1;
        }
        (self.integral_to(to) - self.integral_to(from)) / (to - from)
    }

    /// Values that hold at some instant of `[from, to)`; at `from` where that is no time at all.
    fn during(&self, from: f64, to: f64) -> impl Iterator<Item = f64> + '_ {
        let first = self.index(from);
        let end = self.steps.partition_point(|(second, _)| *second < to).max(first + 1);
        self.steps[first..end].iter().map(|(_, value)| *value)
    }

    pub fn least(&self, from: f64, to: f64) -> f64 {
        self.during(from, to).fold(f64::INFINITY, f64::min)
    }

    pub fn most(&self, from: f64, to: f64) -> f64 {
        self.during(from, to).fold(f64::NEG_INFINITY, f64::max)
    }

    /// Least mean over an interval of `length` that begins in `[from, to]`.
    pub fn least_mean(&self, from: f64, to: f64, length: f64) -> f64 {
        // The mean is piecewise linear in the start, so it is least where one end of the interval meets a step.
        let starts = self.aligned(from, to, length).into_iter().chain([from, to]);
        starts.map(|start| self.mean(start, start + length)).fold(f64::INFINITY, f64::min)
    }

    /// Starts in `[from, to]` at which an interval of `length` begins or ends with a step.
    pub fn aligned(&self, from: f64, to: f64, length: f64) -> Vec<f64> {
        let seconds = self.steps.iter().flat_map(|(second, _)| [*second, second - length]);
        seconds.filter(|second| (from..=to).contains(second)).collect()
    }

    /// The first step at or after a second.
    pub fn next_step(&self, second: f64) -> Option<f64> {
        let next = self.steps.partition_point(|(from, _)| *from < second);
        self.steps.get(next).map(|(from, _)| *from)
    }

    /// Every value less by so much.
    pub fn lowered(&self, by: f64) -> Self {
        let lower: Vec<(f64, f64)> = self.steps.iter().map(|(second, value)| (*second, value - by)).collect();
        Self::new(&lower, self.until).map_or_else(|| Self::constant(0.0), |steps| steps.with_gaps(self.gaps.clone()))
    }

    /// At each instant a value of both.
    pub fn with(&self, other: &Self, of: impl Fn(f64, f64) -> f64) -> Self {
        let mut seconds: Vec<f64> = self.iter().chain(other.iter()).map(|(second, _)| second).collect();
        seconds.sort_by(f64::total_cmp);
        seconds.dedup();
        let both = |second: f64| (second, of(self.at(second), other.at(second)));
        let steps: Vec<(f64, f64)> = seconds.into_iter().map(both).collect();
        let until = self.until.min(other.until);
        let gaps = self.gaps.iter().chain(&other.gaps).copied().collect();
        Self::new(&steps, until).map_or_else(|| self.clone(), |steps| steps.with_gaps(gaps))
    }

    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            steps: self.steps.iter().map(|(second, value)| (*second, value * factor)).collect(),
            integrals: self.integrals.iter().map(|integral| integral * factor).collect(),
            until: self.until,
            gaps: self.gaps.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> Steps {
        Steps::new(&[(-50.0, 9.0), (-10.0, 4.0), (100.0, 2.0), (150.0, 2.0), (200.0, 6.0)], 300.0).unwrap()
    }

    #[test]
    fn values_hold_until_the_next_step() {
        let steps = steps();
        assert_eq!(steps.iter().collect::<Vec<_>>(), [(-10.0, 4.0), (100.0, 2.0), (200.0, 6.0)]);
        assert_eq!(
            [0.0, 99.9, 100.0, 199.0, 200.0, 999.0].map(|second| steps.at(second)),
            [4.0, 4.0, 2.0, 2.0, 6.0, 6.0]
        );
        assert_eq!((steps.missing(300.0), steps.missing(301.0)), (None, Some((300.0, 301.0))));
        assert_eq!(Steps::new(&[(1.0, 4.0)], 9.0).unwrap().missing(5.0), Some((0.0, 1.0)));
        let gaps = steps.with_gaps(vec![(-9.0, -3.0), (20.0, 30.0)]);
        assert_eq!((gaps.missing(20.0), gaps.missing(25.0)), (None, Some((20.0, 25.0))));
        assert_eq!(Steps::new(&[], 9.0), None);
    }

    #[test]
    fn two_series_meet_at_every_step_of_either() {
        let other = Steps::new(&[(0.0, 1.0), (50.0, 3.0), (200.0, 0.0)], 250.0).unwrap();
        let less = steps().with(&other, |a, b| a - b);
        assert_eq!(less.iter().collect::<Vec<_>>(), [(0.0, 3.0), (50.0, 1.0), (100.0, -1.0), (200.0, 6.0)]);
        assert_eq!((less.missing(250.0), less.missing(260.0)), (None, Some((250.0, 260.0))));
    }

    #[test]
    fn means_and_extremes_over_intervals() {
        let steps = steps();
        assert_eq!(steps.mean(50.0, 150.0), 3.0);
        assert_eq!((steps.mean(0.0, 250.0) * 250.0).round(), 900.0);
        assert_eq!((steps.mean(120.0, 120.0), steps.mean(100.0, 200.0)), (2.0, 2.0));
        assert_eq!((steps.least(0.0, 100.0), steps.least(0.0, 101.0), steps.most(150.0, 201.0)), (4.0, 2.0, 6.0));
        assert_eq!((steps.least(100.0, 100.0), steps.scaled(2.0).mean(50.0, 150.0)), (2.0, 6.0));
        // Begins in the first step and reaches as far into the second as it can.
        assert_eq!(steps.least_mean(0.0, 90.0, 20.0), 3.0);
        assert_eq!((steps.least_mean(0.0, 300.0, 20.0), steps.least_mean(190.0, 300.0, 40.0)), (2.0, 5.0));
    }
}

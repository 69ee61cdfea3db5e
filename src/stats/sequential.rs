//! Confidence intervals of a mean that may be looked at after every value.
//!
//! Who repeats until an interval is narrow enough stops where the spread happens to look small, and plain t intervals then
//! miss too often. These are repeated confidence intervals (Jennison and Turnbull 1989): a t interval at each look, all at
//! one nominal level, chosen so that *all* of them together cover the mean of normal values with the level asked for. So
//! they hold whenever one stops and for whatever reason. The nominal level is the quantile of the smallest p-value on the
//! way, which for normal values depends on nothing but the looks: it is drawn by a fixed seed. Drift widens them, since the
//! spread about the mean contains it. Values that follow each other closely (autocorrelation) are not allowed for.

use rand::SeedableRng;
use rand::distr::{Distribution, Open01};
use rand_chacha::ChaCha8Rng;

use super::distribution::{normal_quantile, t_two_sided, t_two_sided_quantile};

/// Draws of a whole series: they hold the level to a tenth of a percent.
const SERIES: usize = 40_000;
const SEED: u64 = 1;
/// No p-value above this is the smallest of a series that matters.
const UNINTERESTING_T: f64 = 1.5;

/// A mean and how far from it the truth may lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub mean: f64,
    pub half_width: f64,
}

impl Interval {
    /// Half width over mean; infinite for a mean of 0.
    pub fn relative(&self) -> f64 {
        self.half_width / self.mean.abs()
    }

    pub fn covers(&self, truth: f64) -> bool {
        (truth - self.mean).abs() <= self.half_width
    }
}

/// The rule of a series of looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RepeatedIntervals {
    least: usize,
    /// Each look's interval is a t interval at this level.
    nominal: f64,
}

impl RepeatedIntervals {
    /// Intervals that together cover with probability `level` (0..1), looked at after `least` values (2 or more) and after
    /// each further one up to `most`.
    pub fn new(level: f64, least: usize, most: usize) -> Self {
        let least = least.max(2);
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let mut smallest: Vec<f64> = (0..SERIES).map(|_| smallest_p(least, most.max(least), &mut random)).collect();
        smallest.sort_by(f64::total_cmp);
        let rank = ((SERIES as f64) * (1.0 - level)) as usize;
        Self { least, nominal: 1.0 - smallest.get(rank).copied().unwrap_or(0.0) }
    }

    /// Level of the t interval at each look.
    pub fn nominal(&self) -> f64 {
        self.nominal
    }

    /// The interval after these values; `None` before the first look.
    pub fn interval(&self, values: &[f64]) -> Option<Interval> {
        if values.len() < self.least {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let t = t_two_sided_quantile(self.nominal, values.len() - 1)?;
        Some(Interval { mean, half_width: t * (variance / count).sqrt() }).filter(|found| found.half_width.is_finite())
    }
}

/// The smallest two-sided p-value of a series of standard normal values, over the looks; 1 where none is below a sixth.
fn smallest_p(least: usize, most: usize, random: &mut ChaCha8Rng) -> f64 {
    let (mut mean, mut squares, mut smallest) = (0.0, 0.0, 1.0f64);
    for count in 1..=most {
        let value = normal_quantile(Open01.sample(random));
        let away = value - mean;
        mean += away / count as f64;
        squares += away * (value - mean);
        if count < least {
            continue;
        }
        let t = mean.abs() * (count as f64 * (count - 1) as f64 / squares).sqrt();
        if t > UNINTERESTING_T {
            smallest = smallest.min(t_two_sided(t, count - 1).unwrap_or(1.0));
        }
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two looks at independent halves would need 1 - sqrt(0.95) = 2.53 %; dependent ones need less, and more than 2.5 %.
    #[test]
    fn one_look_is_a_t_interval_and_more_looks_are_wider() {
        let one = RepeatedIntervals::new(0.95, 10, 10);
        assert!((one.nominal() - 0.95).abs() < 0.004, "{}", one.nominal());
        let (few, many) = (RepeatedIntervals::new(0.95, 3, 10), RepeatedIntervals::new(0.95, 3, 25));
        assert!(one.nominal() < few.nominal() && few.nominal() < many.nominal());
        assert!(many.nominal() < 1.0 - 0.05 / 23.0, "{}: no wider than Bonferroni's", many.nominal());
        assert_eq!(few, RepeatedIntervals::new(0.95, 3, 10), "the same on every run");
        assert_eq!(few.interval(&[1.0, 2.0]), None);
        assert_eq!(few.interval(&[2.0; 3]), Some(Interval { mean: 2.0, half_width: 0.0 }));
    }

    /// Other draws than those that set the level.
    #[test]
    fn all_looks_together_cover() {
        let rule = RepeatedIntervals::new(0.95, 3, 25);
        let mut random = ChaCha8Rng::seed_from_u64(99);
        let rounds = 2000;
        let covered = (0..rounds).filter(|_| {
            let values: Vec<f64> = (0..25).map(|_| 7.0 + normal_quantile(Open01.sample(&mut random))).collect();
            (3..=25).all(|count| rule.interval(&values[..count]).unwrap().covers(7.0))
        });
        let share = covered.count() as f64 / f64::from(rounds);
        assert!((0.935..0.965).contains(&share), "{share}");
    }
}

//! Percentile intervals by resampling cases (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 9 and
//! 13): for estimates whose distribution no formula gives, as where non-negativity binds.
//!
//! Each replicate has its own stream of one seeded generator, so that the result depends neither on threads nor on the
//! platform. Left out: bias correction, which needs a point estimate inside the bounds of its replicates.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::score::quantile;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    pub replicates: usize,
    pub seed: u64,
    /// Probability that an interval is meant to hold, 0..1.
    pub level: f64,
}

impl Bootstrap {
    /// An interval per number that `statistic` computes from cases drawn with replacement from 0..cases. Replicates in
    /// which it is `None` are left out; `None` if that is more than half of them.
    pub fn intervals(
        &self,
        cases: usize,
        statistic: impl Fn(&[usize]) -> Option<Vec<f64>> + Sync,
    ) -> Option<Vec<(f64, f64)>> {
        if cases == 0 {
            return None;
        }
        let replicates: Vec<Vec<f64>> = (0..self.replicates)
            .into_par_iter()
            .filter_map(|replicate| statistic(&self.draw(cases, replicate)))
            .collect();
        if replicates.is_empty() || 2 * replicates.len() < self.replicates {
            return None;
        }
        let tail = (1.0 - self.level) / 2.0;
        let width = replicates.iter().map(Vec::len).min()?;
        (0..width)
            .map(|k| {
                let values: Vec<f64> = replicates.iter().map(|values| values[k]).collect();
                Some((quantile(&values, tail)?, quantile(&values, 1.0 - tail)?))
            })
            .collect()
    }

    fn draw(&self, cases: usize, replicate: usize) -> Vec<usize> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(replicate as u64);
        (0..cases).map(|_| random.random_range(0..cases)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Bootstrap = Bootstrap { replicates: 2000, seed: 3, level: 0.95 };

    /// The mean of 0..n - 1: its standard error is known, and the percentile interval is near mean +/- 1.96 of them.
    #[test]
    fn the_interval_of_a_mean_is_that_of_its_standard_error() {
        let count = 200usize;
        let mean = |cases: &[usize]| Some(vec![cases.iter().sum::<usize>() as f64 / cases.len() as f64]);
        let (low, high) = PLAN.intervals(count, mean).unwrap()[0];
        let centre = (count - 1) as f64 / 2.0;
        let reach = 1.96 * ((count * count - 1) as f64 / 12.0 / count as f64).sqrt();
        assert!((low - (centre - reach)).abs() < 0.12 * reach && (high - (centre + reach)).abs() < 0.12 * reach);
        assert_eq!(PLAN.intervals(count, mean).unwrap()[0], (low, high));
    }

    #[test]
    fn replicates_that_fail_are_left_out_unless_they_are_most() {
        let often = |share: usize| move |cases: &[usize]| (cases[0] % 10 < share).then(|| vec![1.0]);
        assert_eq!(PLAN.intervals(100, often(8)), Some(vec![(1.0, 1.0)]));
        assert_eq!(PLAN.intervals(100, often(2)), None);
        assert_eq!(PLAN.intervals(0, |_| Some(vec![1.0])), None);
    }
}

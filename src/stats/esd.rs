//! Outliers among repeats: the generalised extreme Studentised deviate test.
//!
//! Takes away, one after another, the value farthest from the mean of the rest and asks each time whether a normal sample
//! of that size would show it: Grubbs's test made safe against outliers that hide each other (Rosner, Technometrics 25,
//! 1983; NIST handbook 1.3.5.17.3). Few repeats make it careful by themselves: of four, a value must stand a hundred
//! deviations of the others away. It knows nothing of time: drift is no outlier.

use super::distribution::t_two_sided_quantile;

/// Fewer values cannot outvote one of them.
const LEAST: usize = 4;
/// No more than one in so many is taken out, but one always may be.
const ONE_IN: usize = 5;

/// Indices of the outliers among `values`, ascending: at most a fifth of them, each so far out that a normal sample shows
/// one with probability `significance` (0..1) at most. None of fewer than four values.
pub fn outliers(values: &[f64], significance: f64) -> Vec<usize> {
    if values.len() < LEAST || values.iter().any(|value| !value.is_finite()) {
        return Vec::new();
    }
    let mut left: Vec<usize> = (0..values.len()).collect();
    let mut taken = Vec::new();
    let mut significant = 0;
    for _ in 0..(values.len() / ONE_IN).max(1) {
        let Some((place, deviate)) = farthest(values, &left) else { break };
        let Some(critical) = critical(left.len(), significance) else { break };
        taken.push(left.remove(place));
        // A later one that is significant takes those before it along: they hid each other.
        if deviate > critical {
            significant = taken.len();
        }
    }
    taken.truncate(significant);
    taken.sort_unstable();
    taken
}

/// The place in `left` farthest from the mean, in standard deviations; `None` if all are equal.
fn farthest(values: &[f64], left: &[usize]) -> Option<(usize, f64)> {
    let count = left.len() as f64;
    let mean = left.iter().map(|&index| values[index]).sum::<f64>() / count;
    let square = left.iter().map(|&index| (values[index] - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let deviation = square.sqrt();
    let deviates = left.iter().map(|&index| (values[index] - mean).abs() / deviation).enumerate();
    deviates.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, deviate)| deviate.is_finite())
}

/// What the largest deviate of `count` normal values stays below, but for `significance`.
fn critical(count: usize, significance: f64) -> Option<f64> {
    let n = count as f64;
    let t = t_two_sided_quantile(1.0 - significance / n, count.checked_sub(2)?)?;
    Some((n - 1.0) * t / ((n - 2.0 + t * t) * n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::distr::{Distribution, Open01};
    use rand_chacha::ChaCha8Rng;

    use crate::stats::normal_quantile;

    /// The data of Rosner's paper, as in the NIST handbook: three outliers at 5 %, critical values 3.159, 3.151, 3.144.
    #[test]
    fn rosners_example() {
        let values = [
            -0.25, 0.68, 0.94, 1.15, 1.20, 1.26, 1.26, 1.34, 1.38, 1.43, 1.49, 1.49, 1.55, 1.56, 1.58, 1.65, 1.69,
            1.70, 1.76, 1.77, 1.81, 1.91, 1.94, 1.96, 1.99, 2.06, 2.09, 2.10, 2.14, 2.15, 2.23, 2.24, 2.26, 2.35, 2.37,
            2.40, 2.47, 2.54, 2.62, 2.64, 2.90, 2.92, 2.92, 2.93, 3.21, 3.26, 3.30, 3.59, 3.68, 4.30, 4.64, 5.34, 5.42,
            6.01,
        ];
        assert_eq!(outliers(&values, 0.05), [51, 52, 53]);
        for (count, tabulated) in [(54, 3.159), (53, 3.151), (52, 3.144)] {
            assert!((critical(count, 0.05).unwrap() - tabulated).abs() < 6e-4, "{count}");
        }
    }

    #[test]
    fn a_gross_slip_among_few_is_found_and_noise_is_not() {
        assert_eq!(outliers(&[1.0, 1.01, 3.0, 0.99], 0.001), [2]);
        assert_eq!(outliers(&[1.0, 1.05, 1.1, 0.95], 0.001), Vec::<usize>::new());
        assert_eq!(outliers(&[1.0, 1.0, 9.0], 0.001), Vec::<usize>::new(), "three cannot tell");
        assert_eq!(outliers(&[2.0; 8], 0.001), Vec::<usize>::new());
        assert_eq!(outliers(&[1.0, f64::NAN, 1.0, 1.0, 1.0], 0.001), Vec::<usize>::new());
    }

    #[test]
    fn normal_samples_lose_a_value_as_rarely_as_was_asked() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for count in [4, 8, 25] {
            let rounds = 4000;
            let lost = (0..rounds).filter(|_| {
                let sample: Vec<f64> = (0..count).map(|_| normal_quantile(Open01.sample(&mut random))).collect();
                !outliers(&sample, 0.05).is_empty()
            });
            let share = lost.count() as f64 / f64::from(rounds);
            assert!((0.03..0.07).contains(&share), "{count}: {share}");
        }
    }
}

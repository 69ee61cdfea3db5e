//! How well predictions meet measurements.

use super::distribution::t_two_sided_quantile;

/// 1 - RSS / sum of (y - mean)^2. `None` if the measurements do not vary or there are none.
pub fn r2_centred(measured: &[f64], predicted: &[f64]) -> Option<f64> {
    let mean = mean(measured)?;
    share_explained(measured, predicted, mean)
}

/// 1 - RSS / sum of y^2, what regressions without intercept are usually quoted with (as in arXiv 2407.04014). It is the
/// kinder of the two.
pub fn r2_uncentred(measured: &[f64], predicted: &[f64]) -> Option<f64> {
    share_explained(measured, predicted, 0.0)
}

/// Mean of |predicted / measured - 1|, a fraction. Pairs with a measurement of 0 are left out; `None` if none remain.
pub fn mape(measured: &[f64], predicted: &[f64]) -> Option<f64> {
    let errors: Vec<f64> = measured
        .iter()
        .zip(predicted)
        .filter(|(measured, _)| **measured != 0.0)
        .map(|(measured, predicted)| (predicted / measured - 1.0).abs())
        .collect();
    mean(&errors)
}

pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The `share` quantile (0..=1), linear between order statistics; `None` of nothing.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let position = share.clamp(0.0, 1.0) * (sorted.len().checked_sub(1)?) as f64;
    let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    Some(below + (above - below) * position.fract())
}

/// Ratios measured / predicted between which a further one lies with probability `level`, as far as these are like it.
///
/// Order statistics where there are enough of them for both tails (19 for 90 %), at ranks (n + 1) * tail, which holds
/// whatever the distribution; below, the prediction interval of a normal logarithm, by Student's t, which widens as the
/// ratios get few. `None` of fewer than three ratios above 0.
pub fn ratio_interval(measured: &[f64], predicted: &[f64], level: f64) -> Option<(f64, f64)> {
    let mut logs: Vec<f64> =
        measured.iter().zip(predicted).map(|(y, p)| (y / p).ln()).filter(|log| log.is_finite()).collect();
    logs.sort_by(f64::total_cmp);
    let count = logs.len();
    if count < 3 {
        return None;
    }
    // A hair more, since 20 * (1 - 0.9) / 2 falls just short of 1.
    let rank = ((count + 1) as f64 * (1.0 - level) / 2.0 + 1e-9).floor() as usize;
    if rank >= 1 {
        return finite(logs[rank - 1].exp(), logs[count - rank].exp());
    }
    let centre = mean(&logs)?;
    let variance = logs.iter().map(|log| (log - centre).powi(2)).sum::<f64>() / (count - 1) as f64;
    let reach = t_two_sided_quantile(level, count - 1)? * (variance * (1.0 + 1.0 / count as f64)).sqrt();
    finite((centre - reach).exp(), (centre + reach).exp())
}

fn finite(low: f64, high: f64) -> Option<(f64, f64)> {
    high.is_finite().then_some((low, high))
}

fn share_explained(measured: &[f64], predicted: &[f64], origin: f64) -> Option<f64> {
    let total: f64 = measured.iter().map(|value| (value - origin).powi(2)).sum();
    let residual: f64 = measured.iter().zip(predicted).map(|(y, p)| (y - p).powi(2)).sum();
    (total > 0.0).then(|| 1.0 - residual / total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn scores_of_known_numbers() {
        let (measured, predicted) = ([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]);
        assert!((r2_centred(&measured, &predicted).unwrap() - 0.5).abs() < 1e-12);
        assert!((r2_uncentred(&measured, &predicted).unwrap() - (1.0 - 1.0 / 14.0)).abs() < 1e-12);
        assert!((mape(&measured, &predicted).unwrap() - 1.0 / 9.0).abs() < 1e-12);
        assert_eq!(r2_centred(&[2.0, 2.0], &[2.0, 2.0]), None);
    }

    /// Ranks 1 and 19 of 19; a tenth of what follows may lie outside. Fewer ratios give a wider interval, by t.
    #[test]
    fn ratios_bound_the_next_one_wider_the_fewer_they_are() {
        let measured: Vec<f64> = (1..=19).map(|k| 0.9 + 0.01 * f64::from(k)).collect();
        let (low, high) = ratio_interval(&measured, &[1.0; 19], 0.9).unwrap();
        assert!((low - 0.91).abs() < 1e-12 && (high - 1.09).abs() < 1e-12);
        // Logarithms -0.1, 0, 0.1: standard deviation 0.1, t of 2 degrees of freedom at 90 % 2.9200.
        let few = [(-0.1f64).exp(), 1.0, 0.1f64.exp()];
        let (low, high) = ratio_interval(&few, &[1.0; 3], 0.9).unwrap();
        let reach = 2.919_985_580_4 * 0.1 * (4.0f64 / 3.0).sqrt();
        assert!((high.ln() - reach).abs() < 1e-9 && (low.ln() + reach).abs() < 1e-9);
        assert_eq!(ratio_interval(&few[1..], &[1.0; 2], 0.9), None);
        assert_eq!(ratio_interval(&[1.0, 1.0, 1.0], &[1.0, -1.0, 0.0], 0.9), None);
    }

    /// Logarithms near normal (sums of twelve uniforms), by t and by order statistics.
    #[test]
    fn nine_of_ten_further_ratios_lie_within() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        for count in [4, 10, 40, 100] {
            let mut ratio = || (0.05 * ((0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0) + 0.02).exp();
            let rounds = 4000;
            let covered = (0..rounds).filter(|_| {
                let measured: Vec<f64> = (0..count).map(|_| ratio()).collect();
                let (low, high) = ratio_interval(&measured, &vec![1.0; count], 0.9).unwrap();
                (low..=high).contains(&ratio())
            });
            let share = covered.count() as f64 / f64::from(rounds);
            assert!((0.88..0.94).contains(&share), "{count}: {share}");
        }
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[4.0, 1.0, 3.0, 2.0], 0.5), Some(2.5));
        assert_eq!(quantile(&[5.0], 0.9), Some(5.0));
        assert_eq!(quantile(&[], 0.9), None);
    }
}

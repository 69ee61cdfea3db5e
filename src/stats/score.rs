//! How well predictions meet measurements.

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

fn share_explained(measured: &[f64], predicted: &[f64], origin: f64) -> Option<f64> {
    let total: f64 = measured.iter().map(|value| (value - origin).powi(2)).sum();
    let residual: f64 = measured.iter().zip(predicted).map(|(y, p)| (y - p).powi(2)).sum();
    (total > 0.0).then(|| 1.0 - residual / total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_known_numbers() {
        let (measured, predicted) = ([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]);
        assert!((r2_centred(&measured, &predicted).unwrap() - 0.5).abs() < 1e-12);
        assert!((r2_uncentred(&measured, &predicted).unwrap() - (1.0 - 1.0 / 14.0)).abs() < 1e-12);
        assert!((mape(&measured, &predicted).unwrap() - 1.0 / 9.0).abs() < 1e-12);
        assert_eq!(r2_centred(&[2.0, 2.0], &[2.0, 2.0]), None);
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[4.0, 1.0, 3.0, 2.0], 0.5), Some(2.5));
        assert_eq!(quantile(&[5.0], 0.9), Some(5.0));
        assert_eq!(quantile(&[], 0.9), None);
    }
}

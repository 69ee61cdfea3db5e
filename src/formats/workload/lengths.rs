//! Outputs that nobody knows yet: predicted from the known outputs of the same job, where `--confidence` asks for it.
//!
//! A request of at most m tokens gets the mean and variance of min(L, m) over the job's known outputs L, its own history;
//! the mean counts, rounded up, and the variance goes into the margins of deadlines. With fewer known outputs than
//! `LEAST_HISTORY` the bound itself is taken, which needs no margin. Outputs of other jobs say nothing about this one.

use std::collections::BTreeMap;

use crate::domain::OutputSpread;

/// Known outputs of a job from which its others may be predicted.
const LEAST_HISTORY: usize = 30;

/// Predicts the outputs of the requests numbered in `bounded`, which hold their bounds; `job` is the job of a request.
/// The spread, unless nothing is predicted, and a warning for each job of `names` concerned.
pub(super) fn predict(
    confidence: f64,
    output_tokens: &mut [u32],
    bounded: &[u32],
    job: impl Fn(usize) -> usize,
    names: &[String],
) -> (Option<OutputSpread>, Vec<String>) {
    let mut unknown = vec![false; output_tokens.len()];
    bounded.iter().for_each(|&request| unknown[request as usize] = true);
    let mut known: Vec<Vec<u32>> = vec![Vec::new(); names.len()];
    for (request, &output) in output_tokens.iter().enumerate() {
        if !unknown[request] {
            known[job(request)].push(output);
        }
    }
    let history: Vec<Option<History>> = known.into_iter().map(History::new).collect();
    let mut spread = OutputSpread {
        confidence,
        variance: vec![0.0; output_tokens.len()],
        mean_error: vec![0.0; output_tokens.len()],
        most: output_tokens.to_vec(),
    };
    let mut predicted: BTreeMap<usize, usize> = BTreeMap::new();
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    for &request in bounded {
        let (request, job) = (request as usize, job(request as usize));
        let Some(history) = &history[job] else {
            *taken.entry(job).or_default() += 1;
            continue;
        };
        let (mean, variance) = history.capped(output_tokens[request]);
        output_tokens[request] = mean.ceil().clamp(1.0, f64::from(output_tokens[request])) as u32;
        spread.variance[request] = variance as f32;
        spread.mean_error[request] = (variance / history.count()).sqrt() as f32;
        *predicted.entry(job).or_default() += 1;
    }
    let mut warnings = Vec::new();
    for (job, count) in &predicted {
        let known = history[*job].as_ref().map_or(0.0, History::count);
        warnings.push(format!("job {}: {count} outputs are predicted from its {known} known ones", names[*job]));
    }
    for (job, count) in &taken {
        warnings.push(format!(
            "job {}: {count} outputs are taken from max_tokens: fewer than {LEAST_HISTORY} of its outputs are known",
            names[*job]
        ));
    }
    ((!predicted.is_empty()).then_some(spread), warnings)
}

/// Known outputs, ascending, with the sums of all up to each and of their squares.
struct History {
    lengths: Vec<u32>,
    sums: Vec<(f64, f64)>,
}

impl History {
    fn new(mut lengths: Vec<u32>) -> Option<Self> {
        if lengths.len() < LEAST_HISTORY {
            return None;
        }
        lengths.sort_unstable();
        let (mut sum, mut square) = (0.0, 0.0);
        let mut sums = vec![(0.0, 0.0)];
        for &length in &lengths {
            let length = f64::from(length);
            (sum, square) = (sum + length, square + length * length);
            sums.push((sum, square));
        }
        Some(Self { lengths, sums })
    }

    fn count(&self) -> f64 {
        self.lengths.len() as f64
    }

    /// Mean and variance (of a sample) of min(L, most).
    fn capped(&self, most: u32) -> (f64, f64) {
        let below = self.lengths.partition_point(|&length| length <= most);
        let (count, most, above) = (self.count(), f64::from(most), (self.lengths.len() - below) as f64);
        let (sum, square) = self.sums[below];
        let mean = (sum + above * most) / count;
        let variance = (square + above * most * most - count * mean * mean) / (count - 1.0);
        (mean, variance.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_capped_history() {
        let history = History::new((1..=40).collect()).unwrap();
        for most in [1, 7, 40, 1000] {
            let capped: Vec<f64> = (1..=40).map(|length: u32| f64::from(length.min(most))).collect();
            let mean = capped.iter().sum::<f64>() / 40.0;
            let variance = capped.iter().map(|length| (length - mean).powi(2)).sum::<f64>() / 39.0;
            let found = history.capped(most);
            assert!((found.0 - mean).abs() < 1e-9 && (found.1 - variance).abs() < 1e-9, "{most}");
        }
    }

    #[test]
    fn a_job_without_history_keeps_its_bounds() {
        let names = ["a".to_owned(), "b".to_owned()];
        // Job a: 40 known outputs and one of at most 1,000; job b: one of at most 500 and 5 known.
        let mut output: Vec<u32> = (1..=40).chain([1000, 500, 9, 9, 9, 9, 9]).collect();
        let (spread, warnings) = predict(0.9, &mut output, &[40, 41], |request| usize::from(request > 40), &names);
        let spread = spread.unwrap();
        assert_eq!(&output[40..42], &[21, 500]);
        assert_eq!((spread.most[40], spread.variance[41], spread.variance[3]), (1000, 0.0, 0.0));
        assert!((f64::from(spread.variance[40]) - 136.666_666).abs() < 1e-3);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        let (none, _) = predict(0.9, &mut [5, 7], &[1], |_| 0, &names);
        assert_eq!(none, None);
    }
}

//! Splits for cross-validation, seeded: the same on every platform.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// `folds` disjoint sets of indices that together are 0..count, sizes within one of each other. Fewer indices than
/// folds give one set an index.
pub fn k_folds(count: usize, folds: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let folds = folds.clamp(1, count.max(1));
    (0..folds).map(|fold| order.iter().copied().skip(fold).step_by(folds).collect()).collect()
}

/// Every index alone.
pub fn leave_one_out(count: usize) -> Vec<Vec<usize>> {
    (0..count).map(|index| vec![index]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_partition_the_indices_and_repeat_with_the_seed() {
        let folds = k_folds(23, 5, 1);
        let mut all: Vec<usize> = folds.iter().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..23).collect::<Vec<_>>());
        assert!(folds.iter().all(|fold| fold.len() == 4 || fold.len() == 5));
        assert_eq!(folds, k_folds(23, 5, 1));
        assert_ne!(folds, k_folds(23, 5, 2));
    }

    #[test]
    fn more_folds_than_rows_leave_one_out() {
        assert_eq!(k_folds(3, 5, 0).len(), 3);
    }
}

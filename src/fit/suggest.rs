//! The cells (input x output x batch) most worth measuring next.
//!
//! Each new cell is the one that lowers the mean variance of relative predictions over the whole grid most, given what is
//! measured already (I-optimal design, chosen greedily and then exchanged; Fedorov 1972). Costs are a sum of the features
//! of `phase`, whose shares are taken to be alike in the middle of the grid, so that neither hardware nor architecture need
//! be known; and a smooth departure from that sum, since no form is exact, without which a design repeats a few extreme
//! cells (Sacks et al. 1989). Not looked at: how long a cell takes, and whether it fits the memory.

use ndarray::{Array1, Array2};

use crate::domain::Feature;

/// In units of the spread of a measurement: what a term may be off by before anything is measured, large enough to matter
/// little once it is; and how far costs depart from the form, about as much as trials scatter.
const TERM_SPREAD: f64 = 10.0;
const DEPARTURE_SPREAD: f64 = 1.0;
/// Factor on a length or the batch over which such a departure is much the same.
const DEPARTURE_REACH: f64 = 4.0;
/// Rounds of exchanging a chosen cell for a better one.
const EXCHANGES: usize = 10;

/// A request's lengths at a mean running batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    pub input_tokens: f64,
    pub output_tokens: f64,
    pub batch_size: f64,
}

/// Cells one may measure: every combination.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    pub input_tokens: Vec<f64>,
    pub output_tokens: Vec<f64>,
    pub batch_size: Vec<f64>,
}

impl Grid {
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for &batch_size in &self.batch_size {
            for &input_tokens in &self.input_tokens {
                cells.extend(self.output_tokens.iter().map(|&output_tokens| Cell {
                    input_tokens,
                    output_tokens,
                    batch_size,
                }));
            }
        }
        cells
    }
}

/// Indices of up to `count` of `candidates`, the most useful first; none of the `measured` ones.
pub fn suggest(candidates: &[Cell], measured: &[Cell], kv_cache: bool, count: usize) -> Vec<usize> {
    let known = distinct(measured);
    let cells: Vec<Cell> = candidates.iter().chain(&known).copied().collect();
    let mut design = Design::new(&cells, candidates.len(), kv_cache);
    (candidates.len()..cells.len()).for_each(|index| design.add(index));

    let is_new = |index: &usize| !known.iter().any(|known| is_same(known, &candidates[*index]));
    let open: Vec<usize> = (0..candidates.len()).filter(is_new).collect();
    let mut chosen: Vec<usize> = Vec::new();
    while chosen.len() < count.min(open.len()) {
        let Some(best) = design.best(&open, &chosen) else { break };
        design.add(best);
        chosen.push(best);
    }
    exchange(&mut design, &open, &mut chosen);
    chosen
}

/// Replaces chosen cells, one at a time, as long as that lowers the mean variance.
fn exchange(design: &mut Design, open: &[usize], chosen: &mut [usize]) {
    for _ in 0..EXCHANGES {
        let mut changed = false;
        for place in 0..chosen.len() {
            let old = chosen[place];
            design.remove(old);
            let others: Vec<usize> = chosen.iter().copied().filter(|index| *index != old).collect();
            let new = design.best(open, &others).unwrap_or(old);
            let better = design.gain(new) > design.gain(old) * (1.0 + 1e-9);
            chosen[place] = if better { new } else { old };
            design.add(chosen[place]);
            changed |= better;
        }
        if !changed {
            return;
        }
    }
}

/// Covariance of the relative costs of all cells, given what is measured, in squares of a measurement's spread.
struct Design {
    covariance: Array2<f64>,
    /// The first cells are those whose variance counts.
    counted: usize,
}

impl Design {
    fn new(cells: &[Cell], counted: usize, kv_cache: bool) -> Self {
        let one_batch = cells.iter().all(|cell| Some(cell.batch_size) == cells.first().map(|first| first.batch_size));
        let features = features(kv_cache, one_batch);
        let scales = scales(&cells[..counted], &features);
        let rows: Vec<Array1<f64>> = cells.iter().map(|cell| relative_row(cell, &features, &scales)).collect();
        let covariance = Array2::from_shape_fn((cells.len(), cells.len()), |(a, b)| {
            TERM_SPREAD.powi(2) * rows[a].dot(&rows[b]) + DEPARTURE_SPREAD.powi(2) * nearness(&cells[a], &cells[b])
        });
        Self { covariance, counted }
    }

    fn add(&mut self, index: usize) {
        self.update(index, -1.0 / (1.0 + self.covariance[(index, index)]));
    }

    fn remove(&mut self, index: usize) {
        // Once measured, the variance is below that of the measurement, which is 1.
        self.update(index, 1.0 / (1.0 - self.covariance[(index, index)]).max(1e-9));
    }

    fn update(&mut self, index: usize, factor: f64) {
        let along = self.covariance.row(index).to_owned();
        for (row, mut values) in self.covariance.rows_mut().into_iter().enumerate() {
            values.scaled_add(factor * along[row], &along);
        }
    }

    /// By how much a measurement lowers the sum of the variances that count.
    fn gain(&self, index: usize) -> f64 {
        let along = self.covariance.row(index);
        let along = along.slice(ndarray::s![..self.counted]);
        along.dot(&along) / (1.0 + self.covariance[(index, index)])
    }

    /// The cell of largest gain that is not taken; of equals the first.
    fn best(&self, open: &[usize], taken: &[usize]) -> Option<usize> {
        let mut best: Option<(f64, usize)> = None;
        for &index in open.iter().filter(|index| !taken.contains(index)) {
            let gain = self.gain(index);
            if best.is_none_or(|(most, _)| gain > most * (1.0 + 1e-9)) {
                best = Some((gain, index));
            }
        }
        best.map(|(_, index)| index)
    }
}

/// 1 for the same cell, less the further lengths and batch lie apart.
fn nearness(a: &Cell, b: &Cell) -> f64 {
    let apart = |a: f64, b: f64| ((a / b).ln() / DEPARTURE_REACH.ln()).powi(2);
    let squared = apart(a.input_tokens, b.input_tokens)
        + apart(a.output_tokens, b.output_tokens)
        + apart(a.batch_size, b.batch_size);
    (-0.5 * squared).exp()
}

/// The largest form that `select` may take, less the bends without KV cache: where they matter is not known beforehand,
/// and the departure stands for them.
fn features(kv_cache: bool, one_batch: bool) -> Vec<Feature> {
    let batch = if one_batch {
        vec![Feature::Output]
    } else {
        vec![Feature::OutputPerBatch, Feature::OutputPerSqrtBatch, Feature::Output]
    };
    let lengths = if kv_cache {
        vec![Feature::Constant, Feature::ContextRead, Feature::Input, Feature::InputSquared]
    } else {
        vec![Feature::Constant, Feature::ContextRead, Feature::Input]
    };
    batch.into_iter().chain(lengths).collect()
}

/// Geometric mean of each feature over the grid.
fn scales(cells: &[Cell], features: &[Feature]) -> Vec<f64> {
    let mean_log = |feature: &Feature| {
        let sum: f64 = cells.iter().map(|cell| value(feature, cell).max(f64::MIN_POSITIVE).ln()).sum();
        (sum / cells.len().max(1) as f64).exp()
    };
    features.iter().map(mean_log).collect()
}

/// Features over their scales, over the cost of the cell: what a relative error sees.
fn relative_row(cell: &Cell, features: &[Feature], scales: &[f64]) -> Array1<f64> {
    let row: Array1<f64> = features.iter().zip(scales).map(|(feature, scale)| value(feature, cell) / scale).collect();
    let cost = row.sum();
    row / cost.max(f64::MIN_POSITIVE)
}

fn value(feature: &Feature, cell: &Cell) -> f64 {
    feature.value(cell.input_tokens, cell.output_tokens, cell.batch_size)
}

/// The cells, repeats left out.
pub fn distinct(cells: &[Cell]) -> Vec<Cell> {
    let mut known: Vec<Cell> = Vec::new();
    for cell in cells {
        if !known.iter().any(|other| is_same(other, cell)) {
            known.push(*cell);
        }
    }
    known
}

/// Token counts as run differ a little from those asked for.
fn is_same(a: &Cell, b: &Cell) -> bool {
    let near = |a: f64, b: f64, slack: f64| (a / b).ln().abs() < 0.1 || (a - b).abs() <= slack;
    near(a.input_tokens, b.input_tokens, 2.0)
        && near(a.output_tokens, b.output_tokens, 2.0)
        // A grid holds the mean batches of samples, rounded.
        && near(a.batch_size, b.batch_size, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(batches: &[f64]) -> Grid {
        let lengths: Vec<f64> = (3..=11).map(|exponent| f64::from(exponent).exp2()).collect();
        Grid { input_tokens: lengths.clone(), output_tokens: lengths, batch_size: batches.to_vec() }
    }

    fn kinds(values: impl Iterator<Item = f64>) -> usize {
        values.map(f64::to_bits).collect::<std::collections::BTreeSet<_>>().len()
    }

    #[test]
    fn nine_cells_of_a_new_family_span_the_grid() {
        for kv_cache in [true, false] {
            let cells = grid(&[1.0]).cells();
            let chosen: Vec<Cell> = suggest(&cells, &[], kv_cache, 9).into_iter().map(|k| cells[k]).collect();
            assert_eq!(chosen.len(), 9);
            let (short, long) = (|tokens: f64| tokens <= 16.0, |tokens: f64| tokens >= 1024.0);
            assert!(chosen.iter().any(|c| short(c.input_tokens) && long(c.output_tokens)), "{chosen:?}");
            assert!(chosen.iter().any(|c| long(c.input_tokens) && short(c.output_tokens)), "{chosen:?}");
            assert!(kinds(chosen.iter().map(|cell| cell.output_tokens)) >= 3, "{chosen:?}");
            assert!(kinds(chosen.iter().map(|cell| cell.input_tokens)) >= 3, "{chosen:?}");
        }
    }

    #[test]
    fn what_is_measured_is_not_suggested_again_and_moves_the_rest() {
        let cells = grid(&[1.0]).cells();
        let short: Vec<Cell> =
            cells.iter().copied().filter(|c| c.input_tokens <= 64.0 && c.output_tokens <= 64.0).collect();
        let chosen: Vec<Cell> = suggest(&cells, &short, true, 4).into_iter().map(|k| cells[k]).collect();
        assert!(chosen.iter().all(|cell| !short.contains(cell)), "{chosen:?}");
        assert!(
            chosen.iter().any(|cell| cell.input_tokens >= 1024.0) && chosen.iter().any(|c| c.output_tokens >= 1024.0)
        );
        assert_eq!(suggest(&short, &short, true, 4), Vec::<usize>::new());
    }

    #[test]
    fn a_cell_measured_at_one_batch_is_open_at_the_next() {
        let (one, two) = (grid(&[1.0]).cells(), grid(&[2.0]).cells());
        let cells: Vec<Cell> = one.iter().chain(&two).copied().collect();
        let chosen = suggest(&cells, &one, true, two.len());
        assert_eq!(chosen.len(), two.len());
        assert!(chosen.iter().all(|k| cells[*k].batch_size == 2.0));
    }

    #[test]
    fn several_batches_are_all_visited() {
        let cells = grid(&[1.0, 8.0, 64.0]).cells();
        let chosen = suggest(&cells, &[], true, 9);
        assert_eq!(kinds(chosen.iter().map(|k| cells[*k].batch_size)), 3);
        assert_eq!(suggest(&cells, &[], true, 9), chosen);
    }
}

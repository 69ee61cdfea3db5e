//! The pass may leave out only options that are the cheapest nowhere in a cell: nine control points see to that, its four
//! corners alone do not.

use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::plan::cells::{self, Cells};

#[test]
fn only_lines_that_are_lowest_somewhere_are_kept() {
    let lines = [(3.0, 0.0), (2.0, 1.0), (1.0, 5.0), (2.5, 3.0), (1.0, 6.0)];
    assert_eq!(lower_envelope(&lines, 0.0, 10.0), [(3.0, 0.0), (2.0, 1.0), (1.0, 5.0)]);
    assert_eq!(lower_envelope(&lines, 2.0, 3.0), [(2.0, 1.0)]);
    assert_eq!(lower_envelope(&lines, 2.0, f64::INFINITY), [(2.0, 1.0), (1.0, 5.0)]);
    assert_eq!(lower_envelope(&lines, f64::INFINITY, f64::INFINITY), [(1.0, 5.0)]);
}

/// As many options as a small cluster has, priced at random: positive coefficients of every feature, less what accuracy
/// is worth.
fn table(rng: &mut ChaCha8Rng) -> CohortTable {
    let options = rng.random_range(2..=12);
    let mut table = CohortTable { options: Vec::new(), coefficients: Default::default() };
    // About as much from each feature, for lengths of some hundred tokens.
    let typical: Features = [50.0, 0.2, 0.2, 1e-3, 1e-3, 1e-3];
    for deployment in 0..options {
        table.options.push(PricedOption {
            deployment,
            index: deployment,
            open: true,
            max_tokens: f64::INFINITY,
            tight: false,
        });
        for (column, typical) in table.coefficients.iter_mut().zip(typical) {
            column.push(if rng.random_bool(0.4) { 0.0 } else { typical * rng.random_range(0.0..2.0) });
        }
        table.coefficients[0][deployment] -= rng.random_range(0.0..100.0);
    }
    table
}

/// Sums over all requests of the cells of the least cost among the options that are kept.
fn total(cells: &Cells, kept: impl Fn(&Cell) -> CohortTable) -> f64 {
    let mut total = CompensatedSum::default();
    for cell in &cells.list {
        let kept = kept(cell);
        for &(input, output) in &cells.lengths[cell.first..cell.first + cell.count] {
            let phi = crate::domain::features(f64::from(input), f64::from(output));
            let cost = |k: usize| (0..6).map(|f| kept.coefficients[f][k] * phi[f]).sum::<f64>();
            total.add((0..kept.options.len()).map(cost).fold(f64::INFINITY, f64::min));
        }
    }
    total.value()
}

/// How many of 400 random problems have a sum above the true one, which makes a bound that is none.
fn wrong(points: impl Fn(&Cell) -> Vec<Features>) -> usize {
    let wrong = |seed: u64| {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let table = table(rng);
        let lengths: Vec<(u32, u32)> =
            (0..500).map(|_| (rng.random_range(100..2000), rng.random_range(100..2000))).collect();
        let mut cells = Cells::new(cells::RATIO, lengths.len(), |_| 0, |request| lengths[request]);
        // One wide box: in a narrow one the corners rarely err.
        let range = |side: fn(&(u32, u32)) -> u32| {
            let sides = || lengths.iter().map(side);
            (sides().min().unwrap(), sides().max().unwrap())
        };
        let (input, output) = (range(|lengths| lengths.0), range(|lengths| lengths.1));
        cells.list = vec![Cell { key: cells.list[0].key, first: 0, count: lengths.len(), input, output }];
        let truth =
            total(&cells, |_| CohortTable { options: table.options.clone(), coefficients: table.coefficients.clone() });
        let pass = total(&cells, |cell| table.kept_at(&points(cell), cell, |_| false));
        assert!(pass >= truth - 1e-9 * truth.abs(), "seed {seed}: {pass} below {truth}");
        pass > truth + 1e-9 * truth.abs()
    };
    (0..400).filter(|&seed| wrong(seed)).count()
}

#[test]
fn nine_control_points_leave_out_no_option_that_is_the_cheapest() {
    assert_eq!(wrong(|cell| cell.control_points().to_vec()), 0);
}

#[test]
fn four_corners_do_so_that_their_sum_is_no_bound() {
    let corners = |cell: &Cell| {
        let points = cell.control_points();
        [0, 2, 6, 8].map(|corner| points[corner]).map(|[one, i, o, _, _, _]| [one, i, o, i * o, i * i, o * o]).to_vec()
    };
    // Were this 0, the test above could not fail.
    assert!(wrong(corners) >= 5, "{} of 400", wrong(corners));
}

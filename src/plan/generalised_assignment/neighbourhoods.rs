//! Large neighbourhood search: a part of the requests is set free, the others stay where they are, and branch and bound
//! looks for anything cheaper (Shaw 1998), or first for anything within the capacities. Two parts without an option in
//! common are searched side by side.
//!
//! How much is set free follows whether branch and bound came to its end within its nodes.

use std::time::Instant;

use rand::Rng;
use rayon::prelude::*;

use super::Guide;
use super::local_search::State;
use super::part::{Part, Searched, of_classes, of_options};
use super::relaxation::Stop;
use crate::plan::PlanError;

/// Classes set free at first, and at least.
const FIRST: f64 = 25.0;
const FEWEST: f64 = 6.0;
/// Rounds without success after which no more are made, when cheaper is looked for and when overload is repaired.
const PATIENCE: usize = 150;
const REPAIR_PATIENCE: usize = 30;
/// The most nodes of one search.
const NODES: i32 = 200;
/// Parts of options searched side by side.
const SIDE_BY_SIDE: usize = 2;
/// Of so many rounds one frees classes, not options.
const TURN: usize = 4;

/// The best found from `best` on, until `until`, `enough` says so, or nothing has helped for long; `show` is told.
///
/// # Errors
/// Those of the solver.
pub fn search<'a>(
    guide: &Guide<'a, '_>,
    mut best: State<'a>,
    enough: &dyn Fn(&State<'_>) -> bool,
    until: Instant,
    random: &mut impl Rng,
    show: &mut dyn FnMut(&State<'_>),
) -> Result<State<'a>, PlanError> {
    let (mut size, mut failures, mut round) = (FIRST, 0, 0);
    while !enough(&best) {
        let repair = !best.is_feasible();
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || failures >= if repair { REPAIR_PATIENCE } else { PATIENCE } {
            break;
        }
        round += 1;
        let parts = if repair || round % TURN > 0 {
            of_options(guide, &best, SIDE_BY_SIDE, size as usize, random)
        } else {
            vec![of_classes(guide, &best, size as usize, random)]
        };
        let stop = Stop { time: left, nodes: Some(NODES) };
        let found: Vec<Searched> = parts.par_iter().map(|part| part.search(stop, repair)).collect::<Result<_, _>>()?;
        let before = (best.overload(), best.energy());
        let decided = found.iter().all(|found| found.decided);
        for (part, counts) in parts.iter().zip(found).filter_map(|(part, found)| Some((part, found.counts?))) {
            best = place(guide, best, part, &counts);
        }
        let improved = (best.overload(), best.energy()) < before;
        failures = if improved { 0 } else { failures + 1 };
        size *= match (improved, decided) {
            (false, true) if repair => 1.2,
            (_, true) => 1.03,
            (true, false) => 1.0,
            (false, false) => 0.93,
        };
        size = size.clamp(FEWEST, (guide.table.classes.len() as f64).max(FEWEST));
        if improved {
            show(&best);
        }
    }
    Ok(best)
}

fn place<'a>(guide: &Guide<'a, '_>, best: State<'a>, part: &Part, found: &[Vec<u64>]) -> State<'a> {
    let moved = State::new(guide.table, part.placed(best.counts(), found));
    best.better_of(moved)
}

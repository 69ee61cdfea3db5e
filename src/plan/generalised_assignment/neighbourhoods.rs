//! Large neighbourhood search: some classes are set free, the others stay where they are, and branch and bound looks for
//! anything cheaper (Shaw 1998). Freed are in turn the classes of whole options that waste most at the prices, and single
//! classes, those far from their priced cheapest choice more often.
//!
//! How many are freed follows how fast the last ones were decided.

use std::time::{Duration, Instant};

use rand::Rng;

use super::local_search::State;
use super::relaxation::{Limits, integer};
use super::{Proof, regrets};
use crate::domain::OptionTable;
use crate::plan::PlanError;

/// Choices per class set free, cheapest at the prices first over all of them.
const CHOICES: usize = 4;
/// Classes set free at first, and at least.
const FIRST: f64 = 25.0;
const FEWEST: f64 = 6.0;
/// Searches without success after which no more are made.
const PATIENCE: usize = 150;
/// The longest that one search may take.
const SEARCH: Duration = Duration::from_millis(700);

/// The best found from `best` on, until `until`, the gap is reached, or nothing has helped for long; `show` is told.
///
/// # Errors
/// Those of the solver.
pub fn search<'a>(
    table: &'a OptionTable,
    proof: &Proof,
    mut best: State<'a>,
    gap: f64,
    until: Instant,
    random: &mut impl Rng,
    show: &mut dyn FnMut(&State<'_>),
) -> Result<State<'a>, PlanError> {
    let regrets = regrets(table, &proof.prices);
    let (mut size, mut failures, mut whole_options) = (FIRST, 0, true);
    while failures < PATIENCE && !proof.is_within(&best, gap) {
        let started = Instant::now();
        let left = until.saturating_duration_since(started);
        if left < SEARCH / 10 {
            break;
        }
        let wanted = (size as usize).min(table.classes.len());
        let freed = if whole_options {
            classes_of_options(table, &proof.prices, &regrets, &best, wanted, random)
        } else {
            classes_with_regret(&regrets, &best, wanted, random)
        };
        whole_options = !whole_options;
        let kept = kept(&regrets, &best, &freed);
        let limits = Limits { time: SEARCH.min(left), gap: 1e-6, cutoff: Some(best.energy() * (1.0 - 1e-7)) };
        let found = integer(table, &kept, &limits)?;
        let before = best.energy();
        if let Some(counts) = found.counts {
            best = best.better_of(State::new(table, counts));
        }
        let improved = best.energy() < before;
        failures = if improved { 0 } else { failures + 1 };
        let took = started.elapsed();
        if took > SEARCH.mul_f64(0.9) && !improved {
            size *= 0.93;
        } else if took < SEARCH / 2 {
            size *= 1.03;
        }
        size = size.clamp(FEWEST, (table.classes.len() as f64).max(FEWEST));
        if improved {
            show(&best);
        }
    }
    Ok(best)
}

/// All choices in use; of the classes set free also those that lead over the least regret.
fn kept(regrets: &[Vec<f64>], best: &State<'_>, freed: &[bool]) -> Vec<Vec<bool>> {
    let free = || regrets.iter().zip(freed).filter(|(_, free)| **free).map(|(regrets, _)| regrets);
    let mut order: Vec<f64> = free().flatten().copied().collect();
    order.sort_by(f64::total_cmp);
    let most = order.get(CHOICES * free().count()).copied().unwrap_or(f64::INFINITY);
    let class = |(index, regrets): (usize, &Vec<f64>)| {
        let used = best.counts_of(index);
        regrets.iter().zip(used).map(|(regret, used)| *used > 0 || (freed[index] && *regret <= most)).collect()
    };
    regrets.iter().enumerate().map(class).collect()
}

fn classes_of_options(
    table: &OptionTable,
    prices: &[f64],
    regrets: &[Vec<f64>],
    best: &State<'_>,
    wanted: usize,
    random: &mut impl Rng,
) -> Vec<bool> {
    let even = best.energy() * 1e-3 / table.options.len() as f64;
    let mut waste: Vec<f64> =
        (0..table.options.len()).map(|option| prices[option] * best.slack(option) + even).collect();
    for (index, class) in table.classes.iter().enumerate() {
        for ((choice, regret), used) in class.choices.iter().zip(&regrets[index]).zip(best.counts_of(index)) {
            waste[choice.option] += regret * *used as f64;
        }
    }
    let mut freed = vec![false; table.classes.len()];
    let mut count = 0;
    while count < wanted && waste.iter().any(|waste| *waste > 0.0) {
        let option = draw(&waste, random);
        waste[option] = 0.0;
        for (index, class) in table.classes.iter().enumerate() {
            let here = class.choices.iter().zip(best.counts_of(index)).any(|(c, used)| c.option == option && *used > 0);
            count += usize::from(here && !freed[index]);
            freed[index] |= here;
        }
    }
    freed
}

fn classes_with_regret(regrets: &[Vec<f64>], best: &State<'_>, wanted: usize, random: &mut impl Rng) -> Vec<bool> {
    let regret = |(index, regrets): (usize, &Vec<f64>)| {
        regrets.iter().zip(best.counts_of(index)).map(|(regret, used)| regret * *used as f64).sum::<f64>()
    };
    let mut weights: Vec<f64> = regrets.iter().enumerate().map(regret).collect();
    // Half of the draws are of any class.
    let even = (weights.iter().sum::<f64>() / weights.len() as f64).max(f64::MIN_POSITIVE);
    weights.iter_mut().for_each(|weight| *weight += even);
    let mut freed = vec![false; weights.len()];
    for _ in 0..wanted {
        let class = draw(&weights, random);
        (freed[class], weights[class]) = (true, 0.0);
    }
    freed
}

/// An index with a chance in proportion to its weight; there is a weight above 0.
fn draw(weights: &[f64], random: &mut impl Rng) -> usize {
    let mut left = random.random::<f64>() * weights.iter().sum::<f64>();
    let found = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0 && *weight > 0.0
    });
    found.or_else(|| weights.iter().rposition(|weight| *weight > 0.0)).unwrap_or(0)
}

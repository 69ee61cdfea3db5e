//! A bound that knows whole requests: each option serves what pays it best within its capacity, at a price per request,
//! and what requests are served too often or too seldom moves their prices. Lagrangian relaxation of "each request once"
//! (Fisher 1981): at its best it is the bound of column generation, above that of the linear programme.
//!
//! Prices follow the subgradient with Polyak's step, shorter whenever the bound has not risen for long. The average of
//! what was served is close to fractional shares of the best bound (Barahona and Anbil 2000).

use std::time::Instant;

use super::knapsack::{Item, Packed, pack};
use super::local_search::SLACK;
use crate::domain::{OptionClass, OptionTable, ServiceOption};

/// Share of the way to the target that the first steps take.
const FIRST_STEP: f64 = 1.0;
/// Steps without a better bound after which they are halved.
const PATIENCE: usize = 15;
/// Share of the bound by which it has to rise to count as better.
const RISE: f64 = 1e-6;
/// No steps below this share.
const LAST_STEP: f64 = 1e-3;
/// Share of the bound that knapsacks need not settle.
const TOLERANCE: f64 = 5e-6;
/// Weight of the latest step in the average.
const LATEST: f64 = 0.06;

pub struct RequestPrices<'a> {
    table: &'a OptionTable,
    /// Joules per request of each class at the best bound so far, and where the steps have come to.
    best: Vec<f64>,
    current: Vec<f64>,
    bound: f64,
    step: f64,
    failures: usize,
    /// Requests on each choice of each class, averaged over steps.
    average: Option<Vec<Vec<f64>>>,
}

/// What the options would do at some prices.
struct Served {
    bound: f64,
    counts: Vec<Vec<u64>>,
}

impl<'a> RequestPrices<'a> {
    /// From what each request costs at capacity prices.
    pub fn from_capacity(table: &'a OptionTable, capacity_prices: &[f64]) -> Self {
        let least = |class: &OptionClass| {
            let priced = class.choices.iter().map(|c| c.energy + capacity_prices[c.option] * c.seconds);
            priced.min_by(f64::total_cmp).unwrap_or(0.0)
        };
        Self::new(table, table.classes.iter().map(least).collect())
    }

    pub fn new(table: &'a OptionTable, prices: Vec<f64>) -> Self {
        let best = prices.clone();
        Self { table, best, current: prices, bound: f64::NEG_INFINITY, step: FIRST_STEP, failures: 0, average: None }
    }

    pub fn bound(&self) -> f64 {
        self.bound
    }

    /// The prices of the best bound.
    pub fn prices(&self) -> &[f64] {
        &self.best
    }

    /// Requests on each choice of each class, averaged over steps; nothing before the first.
    pub fn shares(&self) -> &[Vec<f64>] {
        self.average.as_deref().unwrap_or_default()
    }

    /// Takes up to `steps` steps, towards `above` times the bound more than it; fewer when they have become short.
    pub fn ascend(&mut self, above: f64, steps: usize, until: Instant) {
        for _ in 0..steps {
            if self.step < LAST_STEP || Instant::now() >= until {
                break;
            }
            let served = self.serve();
            self.failures = if served.bound > self.bound + RISE * served.bound.abs() { 0 } else { self.failures + 1 };
            if served.bound > self.bound {
                self.bound = served.bound;
                self.best.clone_from(&self.current);
            }
            self.remember(&served.counts);
            if self.failures >= PATIENCE {
                self.step /= 2.0;
                self.failures = 0;
                self.current.clone_from(&self.best);
                continue;
            }
            let missing = |(class, counts): (&OptionClass, &Vec<u64>)| {
                class.requests as f64 - counts.iter().map(|count| *count as f64).sum::<f64>()
            };
            let missing: Vec<f64> = self.table.classes.iter().zip(&served.counts).map(missing).collect();
            let square: f64 = missing.iter().map(|missing| missing * missing).sum();
            if square == 0.0 {
                self.step = 0.0; // an assignment of this cost: no prices prove more
                break;
            }
            let target = self.bound + above * self.bound.abs();
            let step = self.step * (target - served.bound) / square;
            self.current.iter_mut().zip(&missing).for_each(|(price, missing)| *price += step * missing);
        }
    }

    fn remember(&mut self, counts: &[Vec<u64>]) {
        match &mut self.average {
            Some(average) => {
                for (average, count) in average.iter_mut().flatten().zip(counts.iter().flatten()) {
                    *average += LATEST * (*count as f64 - *average);
                }
            }
            None => {
                let floats = |counts: &Vec<u64>| counts.iter().map(|count| *count as f64).collect();
                self.average = Some(counts.iter().map(floats).collect());
            }
        }
    }

    fn serve(&self) -> Served {
        let classes = || self.table.classes.iter().zip(&self.current);
        let size: f64 = classes().map(|(class, price)| class.requests as f64 * price.abs()).sum();
        let tolerance = TOLERANCE * size / self.table.options.len() as f64;
        // Class and choice behind each tag.
        let mut origin = Vec::new();
        let mut items: Vec<Vec<Item>> = vec![Vec::new(); self.table.options.len()];
        for (index, (class, price)) in classes().enumerate() {
            for (at, choice) in class.choices.iter().enumerate().filter(|(_, choice)| choice.energy < *price) {
                items[choice.option].push(Item {
                    tag: origin.len(),
                    reward: price - choice.energy,
                    weight: choice.seconds,
                    most: class.requests,
                });
                origin.push((index, at));
            }
        }
        let mut counts: Vec<Vec<u64>> = self.table.classes.iter().map(|class| vec![0; class.choices.len()]).collect();
        let mut bound: f64 = classes().map(|(class, price)| class.requests as f64 * price).sum();
        let mut size = size;
        let of_option = |(items, option): (&Vec<Item>, &ServiceOption)| match option.capacity {
            Some(capacity) => pack(items, capacity * (1.0 + SLACK), tolerance),
            None => all(items),
        };
        let packed: Vec<Packed> = items.iter().zip(&self.table.options).map(of_option).collect();
        for packed in packed {
            bound -= packed.value;
            size += packed.value;
            for (tag, many) in packed.taken {
                let (class, at) = origin[tag];
                counts[class][at] += many;
            }
        }
        // Outward by the most that rounding can have done, here and within the knapsacks.
        let terms = (origin.len() + self.table.classes.len() + self.table.options.len()) as f64;
        Served { bound: bound - size * (terms + 4.0) * f64::EPSILON, counts }
    }
}

fn all(items: &[Item]) -> Packed {
    let value = items.iter().map(|item| item.most as f64 * item.reward).sum();
    Packed { value, taken: items.iter().map(|item| (item.tag, item.most)).collect() }
}

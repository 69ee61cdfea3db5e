//! Requests to models at least cost, each model with at least its share of them: the reference paper's problem (arXiv
//! 2407.04014, section 5) solved exactly, without a solver.
//!
//! Without capacity it is a transportation problem. Each request begins at its cheapest model; then shortest augmenting
//! paths over the models, each moving one request per step, fill the shares (successive shortest paths with potentials:
//! Ahuja, Magnanti, Orlin, *Network Flows*, section 9.7). The potentials are the prices of the shares and prove the
//! result: `bound` is the dual at those prices, one pass over the requests. Deadlines and devices are left out, as there.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ordered_float::OrderedFloat;

/// What every request costs on every model, row by row; infinite where it may not go.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    models: usize,
    values: Vec<f64>,
}

impl Costs {
    /// `values`: a row of `models` costs for each request.
    pub fn new(models: usize, values: Vec<f64>) -> Self {
        Self { models: models.max(1), values }
    }

    pub fn requests(&self) -> usize {
        self.values.len() / self.models
    }

    fn row(&self, request: usize) -> &[f64] {
        &self.values[request * self.models..][..self.models]
    }
}

/// An optimal assignment and its proof.
#[derive(Clone, Debug, PartialEq)]
pub struct Partition {
    /// Model of each request.
    pub model: Vec<u32>,
    pub cost: f64,
    /// No assignment that gives every model its share costs less.
    pub bound: f64,
    /// By model: what one more request in its share costs.
    pub prices: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    #[error("request {0} may go to no model")]
    Unservable(usize),
    #[error("too few requests may go to model {0} to fill its share beside the others'")]
    Share(usize),
}

/// The cheapest assignment in which model k gets at least `least[k]` requests. Costs are finite or positive infinity.
///
/// # Errors
/// A request without a model, or shares that cannot be filled.
pub fn partition(costs: &Costs, least: &[usize]) -> Result<Partition, PartitionError> {
    let mut model = Vec::with_capacity(costs.requests());
    let mut count = vec![0usize; costs.models];
    for request in 0..costs.requests() {
        let cheapest = costs.row(request).iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
        let Some((cheapest, _)) = cheapest.filter(|(_, cost)| cost.is_finite()) else {
            return Err(PartitionError::Unservable(request));
        };
        model.push(cheapest as u32);
        count[cheapest] += 1;
    }
    let least: Vec<usize> = (0..costs.models).map(|k| least.get(k).copied().unwrap_or(0)).collect();
    let mut prices = vec![0.0; costs.models];
    if count.iter().zip(&least).any(|(count, least)| count < least) {
        let mut flow = Flow { costs, least: &least, moves: Moves::new(costs, &model), model, count, prices };
        while let Some(short) = (0..costs.models).find(|&k| flow.count[k] < least[k]) {
            flow.augment().ok_or(PartitionError::Share(short))?;
        }
        (model, prices) = (flow.model, flow.prices);
    }
    let cost = model.iter().enumerate().map(|(request, &k)| costs.row(request)[k as usize]).sum();
    let bound = dual(costs, &least, &prices);
    // Above it only by rounding.
    Ok(Partition { model, cost, bound: bound.min(cost), prices })
}

/// Sum over requests of the cheapest priced cost, plus what the shares are worth; rounded down.
fn dual(costs: &Costs, least: &[usize], prices: &[f64]) -> f64 {
    let (mut total, mut size) = (0.0, 0.0);
    let mut add = |value: f64| {
        total += value;
        size += value.abs();
    };
    for request in 0..costs.requests() {
        add(costs.row(request).iter().zip(prices).map(|(cost, price)| cost - price).fold(f64::INFINITY, f64::min));
    }
    for (&least, price) in least.iter().zip(prices) {
        add(least as f64 * price);
    }
    total - size * f64::EPSILON * (costs.requests() + 4) as f64
}

struct Flow<'a> {
    costs: &'a Costs,
    least: &'a [usize],
    model: Vec<u32>,
    count: Vec<usize>,
    /// Potentials: no request on j would rather be on k, `c_rj - prices[j] <= c_rk - prices[k]`.
    prices: Vec<f64>,
    moves: Moves,
}

impl Flow<'_> {
    /// Moves one request more to a model below its share, along the cheapest path from any model above its own; `None` if
    /// there is no path.
    fn augment(&mut self) -> Option<()> {
        let models = self.costs.models;
        let mut distance: Vec<f64> =
            (0..models).map(|k| if self.count[k] > self.least[k] { 0.0 } else { f64::INFINITY }).collect();
        let mut from: Vec<Option<(usize, u32)>> = vec![None; models];
        let mut done = vec![false; models];
        let target = loop {
            let open = (0..models).filter(|&k| !done[k] && distance[k].is_finite());
            let near = open.min_by(|&a, &b| distance[a].total_cmp(&distance[b]))?;
            if self.count[near] < self.least[near] {
                break near;
            }
            done[near] = true;
            for to in (0..models).filter(|&to| !done[to]) {
                let Some((cost, request)) = self.moves.cheapest(near, to, &self.model) else { continue };
                // Never negative but for rounding.
                let step = distance[near] + (cost + self.prices[near] - self.prices[to]).max(0.0);
                if step < distance[to] {
                    (distance[to], from[to]) = (step, Some((near, request)));
                }
            }
        };
        let reached = distance[target];
        for (price, distance) in self.prices.iter_mut().zip(&distance) {
            *price += distance.min(reached);
        }
        let mut to = target;
        while let Some((near, request)) = from[to] {
            self.model[request as usize] = to as u32;
            self.moves.add(self.costs, request, to);
            to = near;
        }
        self.count[target] += 1;
        self.count[to] -= 1;
        Some(())
    }
}

/// For each pair of models the requests on the first, by what moving to the second costs. A request that has left stays
/// in the heaps of its old model until it comes to their top.
struct Moves {
    models: usize,
    /// By (from, to).
    heaps: Vec<BinaryHeap<Reverse<Move>>>,
}

/// What moving a request costs, and which it is.
type Move = (OrderedFloat<f64>, u32);

impl Moves {
    fn new(costs: &Costs, model: &[u32]) -> Self {
        let mut entries = vec![Vec::new(); costs.models * costs.models];
        for (request, &from) in model.iter().enumerate() {
            for (to, key) in keys(costs, request as u32, from as usize) {
                entries[from as usize * costs.models + to].push(Reverse((key, request as u32)));
            }
        }
        Self { models: costs.models, heaps: entries.into_iter().map(BinaryHeap::from).collect() }
    }

    fn add(&mut self, costs: &Costs, request: u32, from: usize) {
        for (to, key) in keys(costs, request, from) {
            self.heaps[from * self.models + to].push(Reverse((key, request)));
        }
    }

    /// The least cost of moving a request, and which.
    fn cheapest(&mut self, from: usize, to: usize, model: &[u32]) -> Option<(f64, u32)> {
        let heap = &mut self.heaps[from * self.models + to];
        while let Some(&Reverse((key, request))) = heap.peek() {
            if model[request as usize] as usize == from {
                return Some((key.0, request));
            }
            heap.pop();
        }
        None
    }
}

/// Where a request on `from` may move, and at what cost.
fn keys(costs: &Costs, request: u32, from: usize) -> impl Iterator<Item = (usize, OrderedFloat<f64>)> + '_ {
    let row = costs.row(request as usize);
    let possible = row.iter().enumerate().filter(move |(to, cost)| *to != from && cost.is_finite());
    possible.map(move |(to, cost)| (to, OrderedFloat(cost - row[from])))
}

#[cfg(test)]
mod tests {
    use rand::prelude::*;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// The least cost over all assignments that keep the shares.
    fn enumerated(costs: &Costs, least: &[usize]) -> Option<f64> {
        let (n, m) = (costs.requests(), costs.models);
        let all = (0..m.pow(n as u32)).filter_map(|code| {
            let models: Vec<usize> = (0..n).map(|r| code / m.pow(r as u32) % m).collect();
            let kept = (0..m).all(|k| models.iter().filter(|&&model| model == k).count() >= least[k]);
            let cost: f64 = models.iter().enumerate().map(|(r, &k)| costs.row(r)[k]).sum();
            (kept && cost.is_finite()).then_some(cost)
        });
        all.min_by(f64::total_cmp)
    }

    #[test]
    fn it_finds_the_optimum_and_proves_it() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (mut solved, mut impossible, mut shared) = (0, 0, 0);
        for case in 0..600 {
            let (n, m) = (rng.random_range(1..=7), rng.random_range(1..=4));
            // Few distinct costs make ties, many none; some requests may not go everywhere.
            let cost = |rng: &mut ChaCha8Rng| match rng.random_range(0..8) {
                0 => f64::INFINITY,
                1 | 2 => f64::from(rng.random_range(-2..3)),
                _ => rng.random_range(-1.0..1.0),
            };
            let costs = Costs::new(m, (0..n * m).map(|_| cost(&mut rng)).collect());
            let least: Vec<usize> = (0..m).map(|_| rng.random_range(0..=n.div_ceil(m))).collect();
            match (partition(&costs, &least), enumerated(&costs, &least)) {
                (Ok(found), Some(optimum)) => {
                    assert!((found.cost - optimum).abs() < 1e-9, "case {case}: {} for {optimum}", found.cost);
                    assert!(found.bound <= optimum + 1e-12 && optimum - found.bound < 1e-9, "case {case}");
                    assert!((0..m).all(|k| found.model.iter().filter(|&&model| model == k as u32).count() >= least[k]));
                    solved += 1;
                    shared += usize::from(found.prices.iter().any(|price| *price > 0.0));
                }
                (Err(_), None) => impossible += 1,
                (found, optimum) => panic!("case {case}: {found:?} for {optimum:?}"),
            }
        }
        assert!(solved > 150 && impossible > 50 && shared > 50, "{solved} {impossible} {shared}");
    }

    #[test]
    fn what_cannot_be_is_named() {
        let costs = Costs::new(2, vec![1.0, f64::INFINITY, f64::INFINITY, f64::INFINITY]);
        assert_eq!(partition(&costs, &[0, 0]), Err(PartitionError::Unservable(1)));
        let costs = Costs::new(2, vec![1.0, f64::INFINITY, 2.0, 3.0]);
        assert_eq!(partition(&costs, &[0, 2]), Err(PartitionError::Share(1)));
        assert_eq!(partition(&costs, &[0, 1]).map(|found| found.model), Ok(vec![0, 1]));
    }

    #[test]
    fn shares_of_a_long_queue_are_filled_at_the_same_proof() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let (n, m) = (20_000, 7);
        let costs = Costs::new(m, (0..n * m).map(|_| rng.random_range(-1.0..1.0)).collect());
        let found = partition(&costs, &[6000, 5000, 4000, 2000, 1000, 1000, 1000]).unwrap();
        assert!((found.cost - found.bound) <= 1e-9 * found.cost.abs());
    }
}

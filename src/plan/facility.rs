//! What starts and requests cost at least within a budget of seconds: facility location at request level.
//!
//! Each instance pays its start and serves some requests. For prices pi_m of what a range has room for, lambda of
//! device-seconds and mu of percent points, all >= 0, and for levels u_r of the requests,
//!
//! ```text
//! cost >= sum_r u_r - lambda D tau + sum_j mu_j f_j N_j   where for every range m of k_m devices
//! sum_r (u_r - e_m(r) - pi_m t_m(r) - lambda k_m T_m(r) + mu alpha_m)+  <=  J_m + lambda k_m A_m - pi_m c_m
//! ```
//!
//! For an instance of m whose requests are S has sum_S t_m <= c_m, where t counts them and c is the most there are in its
//! range, or else t = T and c = tau - A_m; and all instances together have sum of k (A + sum_S T) <= D tau. So it pays for
//! the levels of S, however many instances there are. The levels come from dual ascent (D. Erlenkotter, "A dual-based
//! procedure for uncapacitated facility location", Operations Research 26, 1978): each is raised to the next cost of its
//! request as long as all ranges it would pay for have something left.

mod choose;

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::budget::{Offer, Sites};
use super::prices::Prices;
use super::problem::PlanProblem;
pub use choose::choose;

/// Taken off what each range may be paid, so that no rounding of the sums exceeds it.
const OUTWARD: f64 = 1e-9;
/// Times levels are let down part of the way and raised again, and how far.
const REPEATS: usize = 3;
/// Cheapest ranges of a request that its level may reach.
const REACH: usize = 48;
const LET_DOWN: f64 = 0.6;
/// A range is paid for if less than this share of its start is left.
const PAID: f64 = 1e-6;

/// Prices of what is scarce.
#[derive(Clone, Debug, PartialEq)]
pub struct Scarcity {
    /// By range: the share of a start that its seconds pay for, 0 to 1.
    shares: Vec<f64>,
    /// lambda
    pub device_second: f64,
    /// mu, by job.
    pub points: Vec<f64>,
}

impl Scarcity {
    /// What requests pay at these prices.
    pub fn of_requests(&self, problem: &PlanProblem) -> Prices {
        let mut prices = Prices { accuracy: self.points.clone(), ..Prices::zero(problem) };
        for (deployment, row) in problem.deployments().iter().zip(&mut prices.seconds) {
            row.fill(self.device_second * f64::from(deployment.devices));
        }
        prices
    }
}

/// A bound and what it says about plans.
#[derive(Clone, Debug)]
pub struct Location {
    pub bound: f64,
    /// Ranges that are paid for.
    pub open: Vec<usize>,
    /// The cheapest of those, for each request.
    pub serving: Vec<u32>,
    /// By range: joules of a start that nothing pays for yet.
    pub unpaid: Vec<f64>,
    pub prices: Scarcity,
}

/// The highest bound found, beginning with the prices of another budget, no further than `enough`.
pub fn locate(sites: &Sites, known: Option<&Scarcity>, rounds: usize, enough: f64) -> Location {
    let problem = sites.problem;
    let jobs = problem.workload.jobs.len();
    let mut prices = known.cloned().unwrap_or_else(|| Scarcity {
        shares: first_shares(sites),
        device_second: sites.least_second,
        points: vec![0.0; jobs],
    });
    let mut brackets = Brackets { device_second: FREE, points: vec![FREE; jobs] };
    let mut best = ascend(sites, &prices);
    let mut step = STEP;
    let mut last = best.clone();
    for _ in 1..rounds {
        let next = moved(sites, &last, &mut brackets, step);
        if best.bound >= enough || next == prices {
            break;
        }
        prices = next;
        last = ascend(sites, &prices);
        if last.bound > best.bound {
            best = last.clone();
        } else {
            step *= 0.7;
        }
    }
    best
}

/// Of the way that prices of seconds are moved at first.
const STEP: f64 = 0.5;

/// The more instances all requests of a range would fill, the more of a start its seconds pay for.
fn first_shares(sites: &Sites) -> Vec<f64> {
    let mut taken = vec![0.0; sites.ranges.count()];
    sites.offers.iter().flatten().for_each(|offer| taken[offer.range as usize] += sites.taken(offer));
    let share = |(m, &taken): (usize, &f64)| 0.5 * (1.0 - sites.capacity(m) / f64::max(taken, 1e-9)).clamp(0.0, 1.0);
    taken.iter().enumerate().map(share).collect()
}

/// Where the best price of something lies, as far as is known.
type Bracket = (f64, f64);
const FREE: Bracket = (0.0, f64::INFINITY);

struct Brackets {
    device_second: Bracket,
    points: Vec<Bracket>,
}

/// The next price to try, `first` of all, given whether too much is asked for at `price`.
fn next_price(price: f64, bracket: &mut Bracket, too_much: bool, first: f64) -> f64 {
    *(if too_much { &mut bracket.0 } else { &mut bracket.1 }) = price;
    if bracket.0 > bracket.1 {
        // Other prices have moved the best one out of the bracket.
        *bracket = if too_much { (price, f64::INFINITY) } else { (0.0, price) };
    }
    match *bracket {
        (_, 0.0) => 0.0,
        (low, f64::INFINITY) => (2.0 * low).max(first),
        (low, high) => 0.5 * (low + high),
    }
}

/// Costs of a request at the prices, cheapest first.
type Costs = Vec<(f64, u32)>;

fn ascend(sites: &Sites, prices: &Scarcity) -> Location {
    let Sites { problem, ranges, budget, offers, .. } = sites;
    let devices = f64::from(problem.cluster.pools[0].devices_per_node);
    let of = |range: usize| &problem.deployments()[ranges.deployment(range)];
    // pi, lambda k, and what a start costs at the prices.
    let (mut unit, mut second, mut start) = (Vec::new(), Vec::new(), Vec::new());
    for range in 0..ranges.count() {
        let deployment = of(range);
        let (k, load) = (f64::from(deployment.devices), deployment.load_time.0);
        let joules = deployment.start_energy().0 + prices.device_second * k * load;
        unit.push(prices.shares[range] * joules / sites.capacity(range));
        second.push(prices.device_second * k);
        start.push((joules * (1.0 - prices.shares[range])).max(0.0) * (1.0 - OUTWARD));
    }
    let costs: Vec<Costs> = offers
        .par_iter()
        .enumerate()
        .map(|(r, offers)| {
            let job = problem.workload.groups[problem.workload.requests.group[r] as usize].job;
            let mu = prices.points[job];
            let cost = |offer: &Offer| {
                let m = offer.range as usize;
                let points = if mu > 0.0 {
                    mu * problem.options.accuracy[job][ranges.deployment(m)].unwrap_or(0.0)
                } else {
                    0.0
                };
                (offer.energy + unit[m] * sites.taken(offer) + second[m] * offer.seconds - points, offer.range)
            };
            let mut costs: Costs = offers.iter().map(cost).collect();
            let order = |a: &(f64, u32), b: &(f64, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
            if costs.len() > REACH {
                costs.select_nth_unstable_by(REACH, order);
                costs.truncate(REACH + 1);
            }
            costs.sort_unstable_by(order);
            costs
        })
        .collect();
    let mut levels: Vec<f64> = costs.iter().map(|costs| costs.first().map_or(0.0, |cost| cost.0)).collect();
    let (mut best_levels, mut best_sum, mut best_left) = (Vec::new(), f64::NEG_INFINITY, Vec::new());
    for repeat in 0..REPEATS {
        let left = raise(&costs, &mut levels, &start, repeat % 2 == 1);
        let sum: f64 = levels.iter().sum();
        if sum > best_sum {
            (best_levels, best_sum, best_left) = (levels.clone(), sum, left);
        }
        for (level, costs) in levels.iter_mut().zip(&costs) {
            let base = costs.first().map_or(0.0, |cost| cost.0);
            *level = base + LET_DOWN * (*level - base);
        }
    }
    let magnitude: f64 = best_levels.iter().map(|level| level.abs()).sum();
    let floors: f64 = prices.points.iter().zip(&problem.floor_points).map(|(mu, f)| mu * f.unwrap_or(0.0)).sum();
    let bound = best_sum - 1e-12 * magnitude - prices.device_second * devices * budget + floors;
    let paid: BTreeSet<usize> = (0..ranges.count()).filter(|&m| best_left[m] <= PAID * start[m].max(1.0)).collect();
    let serving = costs.iter().map(|costs| {
        let first = costs.iter().find(|(_, range)| paid.contains(&(*range as usize)));
        first.or(costs.first()).map_or(0, |(_, range)| *range)
    });
    Location {
        bound,
        serving: serving.collect(),
        unpaid: best_left,
        open: paid.into_iter().collect(),
        prices: prices.clone(),
    }
}

/// Raises levels as far as what ranges may be paid allows, one cost at a time; returns what is left of each range.
fn raise(costs: &[Costs], levels: &mut [f64], start: &[f64], backwards: bool) -> Vec<f64> {
    let mut left = start.to_vec();
    // Costs at or below the level.
    let mut below: Vec<usize> = Vec::with_capacity(costs.len());
    for (costs, &level) in costs.iter().zip(&*levels) {
        let count = costs.partition_point(|(cost, _)| *cost <= level);
        costs[..count].iter().for_each(|(cost, range)| left[*range as usize] -= level - cost);
        below.push(count);
    }
    let mut raisable: Vec<usize> = (0..costs.len()).filter(|&r| !costs[r].is_empty()).collect();
    if backwards {
        raisable.reverse();
    }
    while !raisable.is_empty() {
        raisable.retain(|&r| {
            let (costs, level) = (&costs[r], levels[r]);
            let paying = &costs[..below[r]];
            let most = paying.iter().map(|(_, range)| left[*range as usize]).fold(f64::INFINITY, f64::min).max(0.0);
            if below[r] > REACH {
                return false;
            }
            let next = costs.get(below[r]).map_or(f64::INFINITY, |(cost, _)| cost - level);
            let more = most.min(next);
            if !more.is_finite() {
                return false;
            }
            paying.iter().for_each(|(_, range)| left[*range as usize] -= more);
            if next <= most {
                levels[r] = costs[below[r]].0;
                below[r] += costs[below[r]..].partition_point(|(cost, _)| *cost <= levels[r]);
                true
            } else {
                levels[r] += more;
                false
            }
        });
    }
    left
}

/// Prices where what is asked of scarce things says they should go.
fn moved(sites: &Sites, found: &Location, brackets: &mut Brackets, step: f64) -> Scarcity {
    let Sites { problem, ranges, budget, offers, .. } = sites;
    let devices = f64::from(problem.cluster.pools[0].devices_per_node);
    let mut prices = found.prices.clone();
    let (mut seconds, mut taken) = (vec![0.0; ranges.count()], vec![0.0; ranges.count()]);
    let mut points = vec![0.0; problem.workload.jobs.len()];
    for (r, &range) in found.serving.iter().enumerate() {
        let job = problem.workload.groups[problem.workload.requests.group[r] as usize].job;
        let offer = offers[r].iter().find(|offer| offer.range == range);
        seconds[range as usize] += offer.map_or(0.0, |offer| offer.seconds);
        taken[range as usize] += offer.map_or(0.0, |offer| sites.taken(offer));
        points[job] += problem.options.accuracy[job][ranges.deployment(range as usize)].unwrap_or(0.0);
    }
    let mut used = 0.0;
    for (m, &seconds) in seconds.iter().enumerate() {
        let deployment = &problem.deployments()[ranges.deployment(m)];
        let instances = taken[m] / sites.capacity(m);
        if seconds > 0.0 {
            used += f64::from(deployment.devices) * (seconds + instances.max(1.0) * deployment.load_time.0);
        }
        // More of its start by the second where more than one is asked for, more of it at once where less.
        let share = &mut prices.shares[m];
        if instances > 1.0 {
            *share += step * (instances - 1.0).min(1.0) * (1.0 - *share);
        } else if seconds > 0.0 {
            *share -= 0.5 * step * (1.0 - instances) * *share;
        }
    }
    let joules = found.bound.abs().max(1.0);
    let room = devices * budget;
    let second = &mut prices.device_second;
    *second = next_price(*second, &mut brackets.device_second, used > room, problem.billed_power(0) / devices);
    *second = second.max(sites.least_second);
    for (job, (price, bracket)) in prices.points.iter_mut().zip(&mut brackets.points).enumerate() {
        let Some(floor) = problem.floor_points[job] else { continue };
        let first = 0.02 * joules / problem.requests_of_job[job].max(1) as f64;
        *price = next_price(*price, bracket, points[job] < floor, first);
    }
    prices
}

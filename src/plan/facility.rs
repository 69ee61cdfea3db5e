//! What starts and requests cost at least within a budget of seconds: facility location at request level.
//!
//! Each instance pays its start and serves some requests. For prices lambda of device-seconds, mu of percent points and
//! pi_m of what a range m has room for, all >= 0 and start_m >= 0, and for any levels u_r of the requests,
//!
//! ```text
//! cost >= sum_r u_r - lambda D tau + sum_j mu_j f_j N_j - sum_m (paid_m - start_m)+
//!   paid_m  = sum_r (u_r - e_m(r) - pi_m t_m(r) - lambda k_m T_m(r) + mu alpha_m)+
//!   start_m = J_m + lambda k_m A_m - pi_m c_m
//! ```
//!
//! For an instance of m whose requests are S has sum_S t_m <= c_m, where t counts them and c is the most there are in its
//! range, or else t = T and c = tau - A_m; and all instances together have sum of k (A + sum_S T) <= D tau. Instances of one
//! range share its requests, and each pays a start. Where at least one range of a group is open ([`Restriction`]) and none
//! is paid for, the least that is missing of a start comes on top.
//!
//! Requests of like lengths have one level while these rise, as if all were of their mean lengths. Then it is told what each
//! of them pays at a level that differs as its cost does where it is served (`value::over_requests`): a true bound, and hardly
//! lower.
//!
//! Levels and prices rise by the volume algorithm (F. Barahona, R. Anbil, Mathematical Programming 87, 2000), a subgradient
//! method whose averaged direction also tells how far each range is open.

mod choose;
mod multipliers;
mod restriction;
mod share_out;
mod value;

use std::collections::BTreeMap;
use std::time::Instant;

use rayon::prelude::*;

use self::multipliers::{Metric, norm, project};
use self::value::{Costs, evaluate, over_requests};
use super::budget::{Offer, Ranges, Sites};
pub use choose::{Search, instances_of, starts};
pub use multipliers::Multipliers;
pub use restriction::{Branch, Restriction};
pub use share_out::{Shared, share_out};

/// A bound and what it says about plans.
#[derive(Clone, Debug)]
pub struct Location {
    pub bound: f64,
    pub multipliers: Multipliers,
    /// By range: joules of a start that nothing pays for.
    pub unpaid: Vec<f64>,
    /// By range: how far it is open, 0 to 1, about.
    pub open: Vec<f64>,
    /// By range: instances that the requests it serves fill, about.
    pub instances: Vec<f64>,
}

impl Location {
    /// Ranges that are rather open than closed.
    pub fn mostly_open(&self) -> Vec<usize> {
        (0..self.open.len()).filter(|&m| self.open[m] > 0.5).collect()
    }
}

/// Ranges with how many instances of each, ascending.
pub type Instances = Vec<(usize, usize)>;

/// Instances, and the deployment of each request.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub instances: Instances,
    pub assignment: Vec<u16>,
}

impl Choice {
    /// Instances by deployment.
    pub fn lanes(&self, ranges: &Ranges) -> BTreeMap<usize, usize> {
        let mut lanes = BTreeMap::new();
        for &(m, count) in &self.instances {
            *lanes.entry(ranges.deployment(m)).or_insert(0) += count;
        }
        lanes
    }
}

/// The ranges that are rather open than closed in `found`, as many instances as are filled, and each request where it costs
/// least at the prices; `None` if some request has none.
pub fn taken_over(sites: &Sites, found: &Location) -> Option<Choice> {
    let costs = Costs::new(sites, &found.multipliers);
    let open = found.mostly_open();
    let cheapest = |request: usize| {
        let once = &costs.once[sites.job_of(request)];
        let offers = open.iter().filter_map(|&m| sites.offer(m, request));
        let least = offers.min_by(|a, b| costs.of(once, a).total_cmp(&costs.of(once, b)))?;
        Some(sites.ranges.deployment(least.range as usize) as u16)
    };
    let requests = sites.problem.workload.requests.len();
    let assignment = (0..requests).into_par_iter().map(cheapest).collect::<Option<Vec<u16>>>()?;
    let whole = |m: usize| (m, (found.instances[m].round() as usize).max(1));
    Some(Choice { instances: open.into_iter().map(whole).collect(), assignment })
}

/// Of the volume algorithm: share of the newest direction, least and most; the step, how it shrinks and grows, and after
/// how many steps that gain nothing.
const NEWEST: (f64, f64) = (0.01, 0.12);
const STEP: f64 = 0.5;
const SHRINKING: f64 = 0.66;
const GROWING: f64 = 1.1;
const PATIENCE: usize = 8;
/// Share of all levels by which the best is taken to be beyond the bound at most.
const FURTHEST: f64 = 0.1;
/// Share of the bound below which a step gains nothing, and the least step.
const GAIN: f64 = 1e-6;
const LEAST_STEP: f64 = 1e-3;
/// Times what taking requests for alike lost, by which the bound over cells then has to be higher.
const BEYOND_LOSS: f64 = 1.2;

/// The highest bound found for what `restriction` leaves, beginning with known multipliers, in so many steps at most, no
/// further than `enough` and no longer than `until`; `None` where nothing is left.
pub fn locate(
    sites: &Sites,
    restriction: &Restriction,
    known: Option<&Multipliers>,
    steps: usize,
    enough: f64,
    until: Instant,
) -> Option<Location> {
    if !restriction.leaves_all_servable(sites) {
        return None;
    }
    let open = |offers: &Vec<Offer>| {
        offers.iter().copied().filter(|offer| !restriction.is_closed(offer.range as usize)).collect()
    };
    let offers: Vec<Vec<Offer>> = sites.offers.par_iter().map(open).collect();
    let metric = Metric::new(sites, &offers);
    let mut center = known.cloned().unwrap_or_else(|| Multipliers::first(sites));
    project(sites, restriction, &mut center);
    let mut best = evaluate(sites, &offers, restriction, &center);
    let (mut direction, mut open, mut taken) = (best.asked.clone(), best.open.clone(), best.taken.clone());
    let (mut step, mut in_vain) = (STEP, 0);
    // What the bound over cells has to reach for that over requests to be enough.
    let mut aim = enough;
    for _ in 1..steps {
        if best.bound >= aim {
            let reached = over_requests(sites, &offers, restriction, &center, &open).total;
            if reached >= enough {
                break;
            }
            aim = enough + BEYOND_LOSS * (best.bound - reached);
        }
        if step < LEAST_STEP || Instant::now() >= until {
            break;
        }
        let above = (aim + 0.01 * aim.abs()).min(best.bound + FURTHEST * center.of_all(&metric));
        let norm = norm(&direction, &direction, &metric);
        if norm <= 0.0 {
            break;
        }
        let length = step * (above - best.bound).max(1e-3 * best.bound.abs()) / norm;
        let mut next = center.clone();
        next.zip(&direction, &metric, |value, along, weight| *value += length * weight * along);
        project(sites, restriction, &mut next);
        let value = evaluate(sites, &offers, restriction, &next);
        let share = newest_share(&direction, &value.asked, &metric);
        direction.zip(&value.asked, &metric, |old, new, _| *old += share * (new - *old));
        let average = |old: &mut [f64], new: &[f64]| {
            old.iter_mut().zip(new).for_each(|(old, new)| *old += share * (new - *old));
        };
        average(&mut open, &value.open);
        average(&mut taken, &value.taken);
        if value.bound > best.bound {
            let gained = value.bound - best.bound;
            (best, center) = (value, next);
            step *= GROWING;
            in_vain = if gained > GAIN * best.bound.abs() { 0 } else { in_vain + 1 };
        } else {
            in_vain += 1;
        }
        if in_vain >= PATIENCE {
            (step, in_vain) = (step * SHRINKING, 0);
        }
    }
    let instances = taken.iter().enumerate().map(|(m, taken)| taken / sites.capacity(m)).collect();
    let single = over_requests(sites, &offers, restriction, &center, &open);
    Some(Location { bound: single.total, multipliers: center, unpaid: single.unpaid, open, instances })
}

/// Share of the newest direction at which the average is shortest.
fn newest_share(old: &Multipliers, new: &Multipliers, metric: &Metric) -> f64 {
    let (oo, nn, on) = (norm(old, old, metric), norm(new, new, metric), norm(old, new, metric));
    let curvature = oo + nn - 2.0 * on;
    if curvature <= 0.0 { NEWEST.1 } else { ((oo - on) / curvature).clamp(NEWEST.0, NEWEST.1) }
}

impl Sites<'_> {
    /// D
    fn all_devices(&self) -> f64 {
        f64::from(self.problem.cluster.pools[0].devices_per_node)
    }

    fn load(&self, range: usize) -> f64 {
        self.problem.deployments()[self.ranges.deployment(range)].load_time.0
    }

    fn start_energy(&self, range: usize) -> f64 {
        self.problem.deployments()[self.ranges.deployment(range)].start_energy().0
    }

    /// A start with the device-seconds it loads for.
    fn start(&self, range: usize, device_second: f64) -> f64 {
        self.start_energy(range) + device_second * self.devices(range) * self.load(range)
    }
}

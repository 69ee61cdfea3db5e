//! The bound at some multipliers.

use rayon::prelude::*;

use super::{Multipliers, Restriction};
use crate::plan::budget::{Offer, Sites};

/// Share of what the sums are made of that their rounding may take.
const ROUNDING: f64 = 1e-12;
/// Requests summed at once: sums do not depend on the number of threads.
const AT_ONCE: usize = 256;

/// What an offer costs at some multipliers, the level left out: its energy, so much a second, and so much at once.
pub(super) struct Costs {
    second: Vec<f64>,
    /// By job and range.
    pub(super) once: Vec<Vec<f64>>,
}

impl Costs {
    pub(super) fn new(sites: &Sites, multipliers: &Multipliers) -> Self {
        let ranges = 0..sites.ranges.count();
        let counts = |m: usize| sites.ranges.most(m).is_some();
        let second =
            |m: usize| multipliers.device_second * sites.devices(m) + if counts(m) { 0.0 } else { multipliers.room[m] };
        let room = |m: usize| if counts(m) { multipliers.room[m] } else { 0.0 };
        let row = |(row, mu): (&Vec<f64>, &f64)| ranges.clone().map(|m| room(m) - mu * row[m]).collect();
        Self {
            once: sites.accuracy.iter().zip(&multipliers.points).map(row).collect(),
            second: ranges.clone().map(second).collect(),
        }
    }

    #[inline]
    pub(super) fn of(&self, once: &[f64], offer: &Offer) -> f64 {
        let m = offer.range as usize;
        offer.energy + self.second[m] * offer.seconds + once[m]
    }
}

/// A bound at some multipliers, and what is asked for beyond what there is: a direction in which it rises.
pub(super) struct Value {
    pub(super) bound: f64,
    pub(super) unpaid: Vec<f64>,
    pub(super) open: Vec<f64>,
    /// By range: what its requests take.
    pub(super) taken: Vec<f64>,
    pub(super) asked: Multipliers,
}

/// The bound at these multipliers; `offers` are those of ranges that are not closed.
pub(super) fn evaluate(
    sites: &Sites,
    offers: &[Vec<Offer>],
    restriction: &Restriction,
    multipliers: &Multipliers,
) -> Value {
    let problem = sites.problem;
    let count = sites.ranges.count();
    let costs = Costs::new(sites, multipliers);
    let levels = &multipliers.levels;
    let chunks = || offers.par_chunks(AT_ONCE).enumerate();
    let paid: Vec<Vec<f64>> = chunks()
        .map(|(chunk, offers)| {
            let mut paid = vec![0.0; count];
            for (r, offers) in (chunk * AT_ONCE..).zip(offers) {
                let once = &costs.once[sites.job(r)];
                for offer in offers {
                    paid[offer.range as usize] += (levels[r] - costs.of(once, offer)).max(0.0);
                }
            }
            paid
        })
        .collect();
    let start = |m: usize| {
        let start = sites.start(m, multipliers.device_second) - multipliers.room[m] * sites.capacity(m);
        if restriction.counts(m).1 < f64::INFINITY { start } else { start.max(0.0) }
    };
    let starts: Vec<f64> = (0..count).map(start).collect();
    // Those that cost least where it is open.
    let instances = |m: usize| {
        let (least, most) = restriction.counts(m);
        if starts[m] < 0.0 { most } else { least }
    };
    let mut unpaid: Vec<f64> = (0..count).map(|m| instances(m) * starts[m]).collect();
    for paid in &paid {
        unpaid.iter_mut().zip(paid).for_each(|(unpaid, paid)| *unpaid -= paid);
    }
    let open = restriction.cheapest(&unpaid);
    let missing: f64 = open.iter().zip(&unpaid).filter(|(open, _)| **open).map(|(_, unpaid)| unpaid).sum();
    let served: Vec<Served> = chunks()
        .map(|(chunk, offers)| {
            let mut served = Served::none(count, problem.workload.jobs.len());
            for (r, offers) in (chunk * AT_ONCE..).zip(offers) {
                let job = sites.job(r);
                let mut times = 0.0;
                for offer in offers.iter().filter(|offer| open[offer.range as usize]) {
                    if levels[r] > costs.of(&costs.once[job], offer) {
                        times += 1.0;
                        served.count(sites, job, offer);
                    }
                }
                served.missed.push(1.0 - times);
            }
            served
        })
        .collect();
    let floors = |j: usize| problem.floor_points[j].unwrap_or(0.0);
    let devices = f64::from(problem.cluster.pools[0].devices_per_node);
    let mut asked = Multipliers {
        levels: Vec::with_capacity(levels.len()),
        room: (0..count).map(|m| if open[m] { -instances(m) * sites.capacity(m) } else { 0.0 }).collect(),
        device_second: -devices * sites.budget
            + (0..count).filter(|&m| open[m]).map(|m| instances(m) * sites.devices(m) * sites.load(m)).sum::<f64>(),
        points: (0..problem.workload.jobs.len()).map(floors).collect(),
    };
    let mut taken = vec![0.0; count];
    for served in served {
        asked.levels.extend(served.missed);
        taken.iter_mut().zip(&served.taken).for_each(|(sum, taken)| *sum += taken);
        asked.points.iter_mut().zip(&served.points).for_each(|(asked, points)| *asked -= points);
        asked.device_second += served.work;
    }
    asked.room.iter_mut().zip(&taken).for_each(|(asked, taken)| *asked += taken);
    let points: f64 = multipliers.points.iter().enumerate().map(|(j, mu)| mu * floors(j)).sum();
    let magnitude: f64 = levels.iter().map(|level| level.abs()).sum::<f64>() + missing.abs() + points;
    let sum = levels.iter().sum::<f64>() + missing - multipliers.device_second * devices * sites.budget + points;
    quieten(multipliers, sites, &mut asked);
    let open = open.iter().map(|&open| if open { 1.0 } else { 0.0 }).collect();
    Value { bound: sum - ROUNDING * (magnitude + 1.0), unpaid, open, taken, asked }
}

/// Prices at their least are not asked to fall.
fn quieten(multipliers: &Multipliers, sites: &Sites, asked: &mut Multipliers) {
    let lowest = |price: f64, least: f64, asked: &mut f64| {
        if price <= least {
            *asked = asked.max(0.0);
        }
    };
    multipliers.room.iter().zip(&mut asked.room).for_each(|(&price, asked)| lowest(price, 0.0, asked));
    multipliers.points.iter().zip(&mut asked.points).for_each(|(&price, asked)| lowest(price, 0.0, asked));
    lowest(multipliers.device_second, sites.least_second, &mut asked.device_second);
}

/// What some requests take at some multipliers.
struct Served {
    /// By request: 1 less the times it is served.
    missed: Vec<f64>,
    taken: Vec<f64>,
    work: f64,
    points: Vec<f64>,
}

impl Served {
    fn none(ranges: usize, jobs: usize) -> Self {
        Self { missed: Vec::new(), taken: vec![0.0; ranges], work: 0.0, points: vec![0.0; jobs] }
    }

    fn count(&mut self, sites: &Sites, job: usize, offer: &Offer) {
        let m = offer.range as usize;
        self.taken[m] += sites.taken(offer);
        self.work += sites.devices(m) * offer.seconds;
        self.points[job] += sites.accuracy[job][m];
    }
}

//! The bound at some multipliers: over cells, whose requests are taken to be all alike, or over each of them.

use rayon::prelude::*;

use super::{Multipliers, Restriction};
use crate::domain::{Features, dot, features};
use crate::plan::budget::{Offer, Sites};

/// Share of what the sums are made of that their rounding may take.
const ROUNDING: f64 = 1e-12;
/// Cells summed at once: sums do not depend on the number of threads.
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

    /// How the cost of a range grows with the features of a request.
    fn growth(&self, sites: &Sites, range: usize) -> Features {
        let rates = sites.ranges.rates(range);
        std::array::from_fn(|f| rates.net_energy[f] + self.second[range] * rates.busy_time[f])
    }
}

/// A bound, what nothing pays for of the starts of each range, and the ranges open at least cost.
pub(super) struct Bound {
    pub(super) total: f64,
    pub(super) unpaid: Vec<f64>,
    open: Vec<bool>,
}

impl Bound {
    /// `paid`: by range, what requests pay at these multipliers.
    fn new(sites: &Sites, restriction: &Restriction, multipliers: &Multipliers, paid: &[f64]) -> Self {
        let unpaid: Vec<f64> = (0..paid.len())
            .map(|m| {
                instances(sites, restriction, multipliers, m) * start(sites, restriction, multipliers, m) - paid[m]
            })
            .collect();
        let open = restriction.cheapest(&unpaid);
        let missing: f64 = open.iter().zip(&unpaid).filter(|(open, _)| **open).map(|(_, unpaid)| unpaid).sum();
        let floors = sites.problem.floor_points.iter().map(|floor| floor.unwrap_or(0.0));
        let points: f64 = multipliers.points.iter().zip(floors).map(|(mu, floor)| mu * floor).sum();
        let levels = || multipliers.levels.iter().enumerate().map(|(c, level)| sites.count(c) * level);
        let magnitude: f64 = levels().map(f64::abs).sum::<f64>() + missing.abs() + points;
        let seconds = multipliers.device_second * sites.all_devices() * sites.budget;
        let total = levels().sum::<f64>() + missing - seconds + points;
        Self { total: total - ROUNDING * (magnitude + 1.0), unpaid, open }
    }
}

/// A start less what its room is worth.
fn start(sites: &Sites, restriction: &Restriction, multipliers: &Multipliers, m: usize) -> f64 {
    let start = sites.start(m, multipliers.device_second) - multipliers.room[m] * sites.capacity(m);
    if restriction.counts(m).1 < f64::INFINITY { start } else { start.max(0.0) }
}

/// Those that cost least where a range is open.
fn instances(sites: &Sites, restriction: &Restriction, multipliers: &Multipliers, m: usize) -> f64 {
    let (least, most) = restriction.counts(m);
    if start(sites, restriction, multipliers, m) < 0.0 { most } else { least }
}

/// A bound at some multipliers, and what is asked for beyond what there is: a direction in which it rises.
pub(super) struct Value {
    pub(super) bound: f64,
    pub(super) open: Vec<f64>,
    /// By range: what its requests take.
    pub(super) taken: Vec<f64>,
    pub(super) asked: Multipliers,
}

/// The bound at these multipliers over cells; `offers` are those of ranges that are not closed.
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
    let paid = chunks().map(|(chunk, offers)| {
        let mut paid = vec![0.0; count];
        for (c, offers) in (chunk * AT_ONCE..).zip(offers) {
            let (once, requests) = (&costs.once[sites.job(c)], sites.count(c));
            for offer in offers {
                paid[offer.range as usize] += requests * (levels[c] - costs.of(once, offer)).max(0.0);
            }
        }
        paid
    });
    let paid = sums(paid.collect(), count);
    let Bound { total, open, .. } = Bound::new(sites, restriction, multipliers, &paid);
    let served: Vec<Served> = chunks()
        .map(|(chunk, offers)| {
            let mut served = Served::none(count, problem.workload.jobs.len());
            for (c, offers) in (chunk * AT_ONCE..).zip(offers) {
                let (job, requests) = (sites.job(c), sites.count(c));
                let mut times = 0.0;
                for offer in offers.iter().filter(|offer| open[offer.range as usize]) {
                    if levels[c] > costs.of(&costs.once[job], offer) {
                        times += 1.0;
                        served.count(sites, job, offer, requests);
                    }
                }
                served.missed.push(1.0 - times);
            }
            served
        })
        .collect();
    let number = |m: usize| instances(sites, restriction, multipliers, m);
    let mut asked = Multipliers {
        levels: Vec::with_capacity(levels.len()),
        room: (0..count).map(|m| if open[m] { -number(m) * sites.capacity(m) } else { 0.0 }).collect(),
        device_second: -sites.all_devices() * sites.budget
            + (0..count).filter(|&m| open[m]).map(|m| number(m) * sites.devices(m) * sites.load(m)).sum::<f64>(),
        points: problem.floor_points.iter().map(|floor| floor.unwrap_or(0.0)).collect(),
    };
    let mut taken = vec![0.0; count];
    for served in served {
        asked.levels.extend(served.missed);
        taken.iter_mut().zip(&served.taken).for_each(|(sum, taken)| *sum += taken);
        asked.points.iter_mut().zip(&served.points).for_each(|(asked, points)| *asked -= points);
        asked.device_second += served.work;
    }
    asked.room.iter_mut().zip(&taken).for_each(|(asked, taken)| *asked += taken);
    quieten(multipliers, sites, &mut asked);
    let open = open.iter().map(|&open| if open { 1.0 } else { 0.0 }).collect();
    Value { bound: total, open, taken, asked }
}

/// The bound at these multipliers over single requests. The levels of a cell's requests differ as what they cost does where
/// they are served, `open` saying how far each range is open: their sum is that of the cell, and a range that they all pay
/// gets no more of them than if they were alike.
pub(super) fn over_requests(
    sites: &Sites,
    offers: &[Vec<Offer>],
    restriction: &Restriction,
    multipliers: &Multipliers,
    open: &[f64],
) -> Bound {
    let count = sites.ranges.count();
    let costs = Costs::new(sites, multipliers);
    let growths: Vec<Features> = (0..count).map(|m| costs.growth(sites, m)).collect();
    let paid = offers.par_chunks(AT_ONCE).enumerate().map(|(chunk, offers)| {
        let mut paid = vec![0.0; count];
        for (c, offers) in (chunk * AT_ONCE..).zip(offers) {
            let once = &costs.once[sites.job(c)];
            let gain = |offer: &Offer| multipliers.levels[c] - costs.of(once, offer);
            let (cell, mean) = (&sites.ranges.cells()[c], &sites.ranges.means()[c]);
            let along = growth_where_served(offers, &growths, open, gain);
            for offer in offers {
                let (m, gain) = (offer.range as usize, gain(offer));
                let slope: Features = std::array::from_fn(|f| along[f] - growths[m][f]);
                let least = gain - dot(&slope, mean);
                let at = |phi: &Features| least + dot(&slope, phi);
                let corners = cell.control_points().map(|phi| at(&phi));
                paid[m] += if corners.iter().all(|&gain| gain <= 0.0) {
                    0.0
                } else if corners.iter().all(|&gain| gain >= 0.0) {
                    sites.count(c) * gain
                } else {
                    let each = sites.ranges.lengths(cell).iter();
                    each.map(|&(i, o)| at(&features(f64::from(i), f64::from(o))).max(0.0)).sum()
                };
            }
        }
        paid
    });
    Bound::new(sites, restriction, multipliers, &sums(paid.collect(), count))
}

/// How the cost of a cell's requests grows with their features where they are served: in the ranges that they pay, as far as
/// these are open, or else in the cheapest one.
fn growth_where_served(offers: &[Offer], growths: &[Features], open: &[f64], gain: impl Fn(&Offer) -> f64) -> Features {
    let weight = |offer: &Offer| open[offer.range as usize];
    let mut serving: Vec<(&Offer, f64)> = offers
        .iter()
        .filter(|offer| gain(offer) > 0.0 && weight(offer) > 0.0)
        .map(|offer| (offer, weight(offer)))
        .collect();
    if serving.is_empty() {
        let cheapest = offers.iter().max_by(|a, b| gain(a).total_cmp(&gain(b)));
        serving.extend(cheapest.map(|offer| (offer, 1.0)));
    }
    let all: f64 = serving.iter().map(|(_, weight)| weight).sum();
    std::array::from_fn(|f| serving.iter().map(|(offer, weight)| weight / all * growths[offer.range as usize][f]).sum())
}

/// Sums by range, in the same order whatever the number of threads.
fn sums(parts: Vec<Vec<f64>>, count: usize) -> Vec<f64> {
    let mut sums = vec![0.0; count];
    parts.iter().for_each(|part| sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part));
    sums
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
    /// By cell: 1 less the times a request is served.
    missed: Vec<f64>,
    taken: Vec<f64>,
    work: f64,
    points: Vec<f64>,
}

impl Served {
    fn none(ranges: usize, jobs: usize) -> Self {
        Self { missed: Vec::new(), taken: vec![0.0; ranges], work: 0.0, points: vec![0.0; jobs] }
    }

    fn count(&mut self, sites: &Sites, job: usize, offer: &Offer, requests: f64) {
        let m = offer.range as usize;
        self.taken[m] += requests * sites.taken(offer);
        self.work += requests * sites.devices(m) * offer.seconds;
        self.points[job] += requests * sites.accuracy[job][m];
    }
}

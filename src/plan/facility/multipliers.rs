//! The multipliers of a bound, and how far a step moves each of them.

use rayon::prelude::*;

use super::Restriction;
use crate::plan::budget::{Offer, Sites};
use crate::plan::prices::Prices;
use crate::plan::problem::PlanProblem;

/// Levels of requests and prices of what is scarce.
#[derive(Clone, Debug, PartialEq)]
pub struct Multipliers {
    /// u, of a request of each cell.
    pub(super) levels: Vec<f64>,
    /// pi, by range.
    pub(super) room: Vec<f64>,
    /// lambda
    pub device_second: f64,
    /// mu, by job.
    pub points: Vec<f64>,
}

impl Multipliers {
    /// What requests pay at these prices.
    pub fn of_requests(&self, problem: &PlanProblem) -> Prices {
        let mut prices = Prices { accuracy: self.points.clone(), ..Prices::zero(problem) };
        for (deployment, row) in problem.deployments().iter().zip(&mut prices.seconds) {
            row.fill(self.device_second * f64::from(deployment.devices));
        }
        prices
    }

    /// The levels of all requests, summed.
    pub(super) fn of_all(&self, metric: &Metric) -> f64 {
        self.levels.iter().zip(&metric.requests).map(|(level, requests)| level * requests).sum()
    }

    /// Every request at its cheapest and its share of a start.
    pub(super) fn first(sites: &Sites) -> Self {
        let requests = sites.problem.workload.requests.len() as f64;
        let level = |offers: &Vec<Offer>| {
            let cost = |offer: &Offer| {
                let range = offer.range as usize;
                let start = sites.start_energy(range) / requests;
                offer.energy + start + sites.least_second * sites.devices(range) * offer.seconds
            };
            offers.iter().map(cost).fold(f64::INFINITY, f64::min)
        };
        Self {
            levels: sites.offers.par_iter().map(level).collect(),
            room: vec![0.0; sites.ranges.count()],
            device_second: sites.least_second,
            points: vec![0.0; sites.problem.workload.jobs.len()],
        }
    }

    /// Each number after what is done to it and its partners.
    pub(super) fn zip(&mut self, other: &Self, metric: &Metric, mut then: impl FnMut(&mut f64, f64, f64)) {
        self.levels.iter_mut().zip(&other.levels).for_each(|(a, b)| then(a, *b, 1.0));
        self.room.iter_mut().zip(&other.room).zip(&metric.room).for_each(|((a, b), w)| then(a, *b, *w));
        self.points.iter_mut().zip(&other.points).zip(&metric.points).for_each(|((a, b), w)| then(a, *b, *w));
        then(&mut self.device_second, other.device_second, metric.device_second);
    }
}

/// Weights under which a step means about as much to a price as to the levels.
pub(super) struct Metric {
    /// By cell: its requests, whose levels are one.
    requests: Vec<f64>,
    room: Vec<f64>,
    device_second: f64,
    points: Vec<f64>,
}

impl Metric {
    pub(super) fn new(sites: &Sites, offers: &[Vec<Offer>]) -> Self {
        let mut room = vec![0.0; sites.ranges.count()];
        let mut points = vec![0.0; sites.problem.workload.jobs.len()];
        let mut device_second = 0.0;
        for (c, offers) in offers.iter().enumerate() {
            let (job, requests) = (sites.job(c), sites.count(c));
            let (mut least, mut most, mut work) = (f64::INFINITY, 0.0f64, f64::INFINITY);
            for offer in offers {
                let range = offer.range as usize;
                room[range] += requests * sites.taken(offer).powi(2);
                let accuracy = sites.accuracy[job][range];
                (least, most) = (least.min(accuracy), most.max(accuracy));
                work = work.min(sites.devices(range) * offer.seconds);
            }
            points[job] += requests * (most - least).powi(2);
            device_second += requests * work.powi(2);
        }
        let inverse = |sum: f64| if sum > 0.0 { 1.0 / sum } else { 0.0 };
        Self {
            requests: (0..offers.len()).map(|c| sites.count(c)).collect(),
            room: room.into_iter().map(inverse).collect(),
            device_second: inverse(device_second),
            points: points.into_iter().map(inverse).collect(),
        }
    }
}

/// Product under the metric.
pub(super) fn norm(a: &Multipliers, b: &Multipliers, metric: &Metric) -> f64 {
    let weighted = |a: &[f64], b: &[f64], weights: &[f64]| -> f64 {
        a.iter().zip(b).zip(weights).map(|((a, b), w)| a * b * w).sum()
    };
    weighted(&a.levels, &b.levels, &metric.requests)
        + weighted(&a.room, &b.room, &metric.room)
        + weighted(&a.points, &b.points, &metric.points)
        + a.device_second * b.device_second * metric.device_second
}

/// Prices brought back to where the bound holds.
pub(super) fn project(sites: &Sites, restriction: &Restriction, multipliers: &mut Multipliers) {
    multipliers.device_second = multipliers.device_second.max(sites.least_second);
    for (job, points) in multipliers.points.iter_mut().enumerate() {
        *points = if sites.problem.floor_points[job].is_some() { points.max(0.0) } else { 0.0 };
    }
    for range in 0..multipliers.room.len() {
        // Beyond, more instances would cost less.
        let limited = restriction.counts(range).1 < f64::INFINITY;
        let most =
            if limited { f64::INFINITY } else { sites.start(range, multipliers.device_second) / sites.capacity(range) };
        multipliers.room[range] = multipliers.room[range].clamp(0.0, most);
    }
}

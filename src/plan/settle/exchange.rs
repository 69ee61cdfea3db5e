//! Requests that found no room in their own deployment, placed where that costs least.
//!
//! Either another deployment has room, or a request that is served elsewhere for little more leaves its slot to one that is
//! not: what is left over by dealing may be the one request that nothing else can serve.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use ordered_float::OrderedFloat;
use rayon::prelude::*;

use super::Filling;
use crate::plan::prices::Prices;

/// Requests of a deployment that may leave it for others, by deadline.
type Leaving = BTreeMap<(usize, usize), Leavers>;

/// How often the one that leaves at least cost is looked for again, since its other place is gone.
const MOST_TRIES: usize = 16;

/// Leavers priced for all requests without room, about, of each deployment; of these for one, at least and at most.
const MOST_PRICED: usize = 4096;
const FEW: (usize, usize) = (4, 256);

struct Leavers {
    /// Those not priced yet, with the seconds they hold their slot; the longest last.
    unpriced: Vec<(OrderedFloat<f64>, u32)>,
    /// Those for which others were priced that hold theirs for hardly longer than was needed.
    passed_over: Vec<(OrderedFloat<f64>, u32)>,
    /// What leaving costs.
    priced: BinaryHeap<Reverse<(OrderedFloat<f64>, u32)>>,
}

/// Where a request without room goes.
enum Way {
    /// To an instance that has room.
    Room(usize),
    /// To the slot of a request, which goes to another instance.
    Slot { leaver: usize, its_place: usize },
}

impl Filling<'_> {
    /// Requests without room to the place that costs least, accuracy at its price and the start of an instance that has no
    /// request yet included. The longest go first, so that others of almost their length fill the rounds they begin.
    pub(super) fn exchange_overflow(&mut self, prices: &Prices, mut overflow: Vec<usize>) -> Option<()> {
        overflow.sort_by_cached_key(|&request| {
            let (input, output) = self.problem.lengths(request);
            Reverse((output, input, request))
        });
        let mut leaving = Leaving::new();
        let few = (MOST_PRICED / overflow.len().max(1)).clamp(FEW.0, FEW.1);
        for request in overflow {
            let room = self.cheapest_place(prices, request).map(|(cost, j)| (cost, Way::Room(j)));
            let mut slot = self.cheapest_slot(prices, request, &mut leaving, few);
            if room.is_none() && slot.is_none() {
                slot = self.cheapest_slot(prices, request, &mut leaving, usize::MAX);
            }
            let (_, way) = room.into_iter().chain(slot).min_by(|a, b| a.0.total_cmp(&b.0))?;
            match way {
                Way::Room(j) => self.put(j, request),
                Way::Slot { leaver, its_place } => {
                    let j = self.place[leaver] as usize;
                    self.take_away(leaver);
                    self.put(its_place, leaver);
                    self.put(j, request);
                }
            }
        }
        Some(())
    }

    /// Joules on instance `j`, with a start that it asks for, less what accuracy is worth.
    pub(super) fn worth(&self, prices: &Prices, j: usize, request: usize) -> f64 {
        let kind = &self.problem.kinds[self.problem.kind_of(request)];
        let points = kind.mean_job.map_or(0.0, |job| prices.accuracy[job] * self.accuracy(request, j));
        self.cost(j, request) - points
    }

    fn cheapest_place(&self, prices: &Prices, request: usize) -> Option<(f64, usize)> {
        let places = self.places(request).into_iter().map(|(_, j)| (self.worth(prices, j, request), j));
        places.min_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// What it costs that a request leaves its place for the best other one, and that one.
    fn leaving(&self, prices: &Prices, request: usize) -> Option<(f64, usize)> {
        let now = self.place[request] as usize;
        let own = self.instances[now].deployment;
        let others = self.places(request).into_iter().map(|(_, j)| j).filter(|&j| self.instances[j].deployment != own);
        let (cost, j) = others.map(|j| (self.worth(prices, j, request), j)).min_by(|a, b| a.0.total_cmp(&b.0))?;
        Some((cost - self.worth(prices, now, request), j))
    }

    /// `few`: how many more leavers are priced of each deployment, those whose slots are hardly longer than is needed.
    fn cheapest_slot(&self, prices: &Prices, request: usize, leaving: &mut Leaving, few: usize) -> Option<(f64, Way)> {
        let kind = &self.problem.kinds[self.problem.kind_of(request)];
        let (input, output) = self.problem.lengths(request);
        let due = self.due(request);
        let mut best: Option<(f64, Way)> = None;
        for &option in &self.open_options[self.problem.cohort_of(request)] {
            let v = kind.options[option];
            let Some(&first) = self.of_deployment[v].first() else { continue };
            if !self.problem.can_serve(kind, option, input, output) {
                continue;
            }
            let own = self.worth(prices, first, request);
            let leavers = leaving.entry((v, due)).or_insert_with(|| self.leavers(v, due));
            let seconds = self.slot_seconds(first, request);
            let most = best.as_ref().map_or(f64::INFINITY, |(cost, _)| cost - own);
            self.price(prices, seconds, leavers, few);
            if let Some((cost, leaver, its_place)) = self.cheapest_leaver(prices, v, seconds, leavers, most) {
                best = Some((own + cost, Way::Slot { leaver, its_place }));
            }
        }
        best
    }

    fn leavers(&self, v: usize, due: usize) -> Leavers {
        let requests =
            self.of_deployment[v].iter().flat_map(|&j| self.queues[j].iter().map(move |&request| (j, request)));
        let here = requests
            .filter(|&(j, request)| self.place[request as usize] == j as u32 && self.due(request as usize) == due);
        let mut unpriced: Vec<(OrderedFloat<f64>, u32)> =
            here.map(|(j, request)| (OrderedFloat(self.slot_seconds(j, request as usize)), request)).collect();
        unpriced.sort_unstable();
        Leavers { unpriced, passed_over: Vec::new(), priced: BinaryHeap::new() }
    }

    /// Prices a few of those that hold a slot for `seconds` at least.
    fn price(&self, prices: &Prices, seconds: f64, leavers: &mut Leavers, few: usize) {
        let shorter = leavers.unpriced.partition_point(|(held, _)| held.0 < seconds);
        let mut chosen = leavers.unpriced.split_off(shorter);
        if few < chosen.len() {
            leavers.passed_over.append(&mut chosen.split_off(few));
        } else if few == usize::MAX {
            chosen.append(&mut leavers.passed_over);
        }
        let price = |&(_, leaver): &(OrderedFloat<f64>, u32)| {
            let (cost, _) = self.leaving(prices, leaver as usize)?;
            Some(Reverse((OrderedFloat(cost), leaver)))
        };
        leavers.priced.par_extend(chosen.par_iter().filter_map(price));
    }

    /// The request at deployment `v` that holds a slot for `seconds` at least and leaves it at least cost, below `most`; with
    /// its other place.
    fn cheapest_leaver(
        &self,
        prices: &Prices,
        v: usize,
        seconds: f64,
        leavers: &mut Leavers,
        most: f64,
    ) -> Option<(f64, usize, usize)> {
        for _ in 0..MOST_TRIES {
            let Reverse((known, leaver)) = leavers.priced.pop()?;
            let request = leaver as usize;
            if known.0 >= most {
                leavers.priced.push(Reverse((known, leaver)));
                return None;
            }
            let now = self.place[request] as usize;
            if self.instances[now].deployment != v || self.slot_seconds(now, request) < seconds {
                continue;
            }
            let Some((cost, its_place)) = self.leaving(prices, request) else { continue };
            leavers.priced.push(Reverse((OrderedFloat(cost), leaver)));
            if cost <= known.0 {
                return Some((cost, request, its_place));
            }
        }
        None
    }
}

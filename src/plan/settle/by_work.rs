//! Room counted in seconds of work, as if all slots of an instance ended together: where few requests follow each other in a
//! slot, rounds would leave too many slots empty.
//!
//! Instances then finish late by up to what one request takes. What is late is moved again (`punctual`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ordered_float::OrderedFloat;

use super::Filling;
use super::deal::{Dealt, Filled};
use crate::plan::list_schedule;
use crate::plan::prices::Prices;

impl Filling<'_> {
    pub(super) fn work(&self, j: usize, request: usize) -> f64 {
        let (input, output) = self.problem.lengths(request);
        self.rates[j].seconds(input, output)
    }

    pub(super) fn fits_by_work(&self, j: usize, request: usize) -> bool {
        let due = self.due(request);
        self.left(j, due) >= self.work(j, request)
            && self.longest_now(j, &self.room[j], due) >= self.slot_seconds(j, request)
    }

    /// Longest a request due by deadline number `due` may hold a slot of instance `j`: what is due sooner comes first.
    fn longest_now(&self, j: usize, room: &[f64], due: usize) -> f64 {
        let before = due.checked_sub(1).map_or(0.0, |before| self.open[j][before] - room[before]);
        self.open[j][due] - before
    }

    /// Whether a request is sure to be in time on instance `j`: whatever the order, none of its slots ends later than all
    /// would together by more than what one request holds it for (Graham's bound).
    fn surely_fits(&self, j: usize, request: usize) -> bool {
        self.left(j, self.due(request)) >= self.slot_seconds(j, request)
    }

    /// The requests of one deployment on its instances: by deadline, longest first, each to the one with most room.
    pub(super) fn filled_by_work(&self, v: usize, mut requests: Vec<u32>) -> Filled {
        let rates = &self.problem.deployments()[v].rates;
        list_schedule::sort(self.problem, rates, &mut requests);
        let mut filled = Filled::new(self, v);
        // Most room first, then the first instance. A request takes as much off all deadlines from its own on, so that
        // room for one deadline changes by its seconds alone.
        let mut heap: BinaryHeap<(OrderedFloat<f64>, Reverse<usize>)> = BinaryHeap::new();
        let mut due = usize::MAX;
        for request in requests {
            let Filled { by_instance, left_over, .. } = &mut filled;
            if self.due(request as usize) != due {
                due = self.due(request as usize);
                let least = |room: &[f64]| OrderedFloat(room[due..].iter().copied().fold(f64::INFINITY, f64::min));
                heap = by_instance.iter().enumerate().map(|(k, dealt)| (least(&dealt.room), Reverse(k))).collect();
            }
            let (input, output) = self.problem.lengths(request as usize);
            let seconds = rates.seconds(input, output);
            let fits = |k: usize| {
                let Dealt { instance, room, .. } = &by_instance[k];
                self.longest_now(*instance, room, due) >= rates.slot_seconds(input, output)
            };
            match heap.peek_mut().filter(|top| top.0.0 >= seconds && fits(top.1.0)) {
                Some(mut top) => {
                    let Dealt { room, queue, .. } = &mut by_instance[top.1.0];
                    room[due..].iter_mut().for_each(|room| *room -= seconds);
                    queue.push(request);
                    top.0.0 -= seconds;
                }
                None => left_over.push(request as usize),
            }
        }
        filled
    }

    /// Requests without room to the place that costs least; rather to one where they are `sure` to be in time.
    pub(super) fn move_overflow_by_work(&mut self, prices: &Prices, overflow: Vec<usize>, sure: bool) -> Option<()> {
        for request in overflow {
            let places: Vec<usize> = self.places(request).into_iter().map(|(_, j)| j).collect();
            let safe = places.iter().copied().filter(|&j| sure && self.surely_fits(j, request));
            let cheapest = |places: &mut dyn Iterator<Item = usize>| {
                places.min_by(|&a, &b| self.worth(prices, a, request).total_cmp(&self.worth(prices, b, request)))
            };
            let j = cheapest(&mut safe.into_iter()).or_else(|| cheapest(&mut places.iter().copied()))?;
            self.put(j, request);
        }
        Some(())
    }
}

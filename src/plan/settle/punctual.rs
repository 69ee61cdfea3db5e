//! Requests that list scheduling shows to be late leave their instance for another, until none is late.
//!
//! Room is counted in seconds of work. That all slots end together is not: how far they do not, only the list schedule
//! says.

use rayon::prelude::*;

use super::Filling;
use crate::plan::list_schedule;
use crate::plan::prices::Prices;

/// Rounds of "measure lateness, move the late ones".
const MOST_ROUNDS: usize = 40;
/// Seconds that lateness may be rounding.
const TOLERANCE: f64 = 1e-6;

/// An instance that is late, and what it must give away.
struct Late {
    instance: usize,
    /// By how much the latest request is.
    seconds: f64,
    evicted: Vec<usize>,
}

impl Filling<'_> {
    /// Moves requests away from instances on which list scheduling shows them to be late, until none is.
    pub(super) fn make_punctual(&mut self, prices: &Prices, limits: &[f64]) -> Option<()> {
        for round in 0..MOST_ROUNDS {
            let late = self.late(limits);
            if late.is_empty() {
                return Some(());
            }
            if round == 0 {
                for late in &late {
                    let most = self.lacking.entry(self.instances[late.instance].deployment).or_insert(0.0);
                    *most = most.max(late.seconds);
                }
            }
            for late in &late {
                self.evict(late);
            }
            self.move_overflow(prices, late.into_iter().flat_map(|late| late.evicted).collect(), true)?;
            self.keep_floors()?;
        }
        None
    }

    /// Instances that miss a deadline or their own limit, among those that have changed.
    fn late(&mut self, limits: &[f64]) -> Vec<Late> {
        let (problem, place) = (self.problem, &self.place);
        let late: Vec<Option<Late>> = self
            .queues
            .par_iter_mut()
            .zip(&self.changed)
            .enumerate()
            .filter(|(_, (_, changed))| **changed)
            .map(|(j, (queue, _))| {
                let instance = &self.instances[j];
                queue.retain(|&request| place[request as usize] == j as u32);
                let load = problem.deployments()[instance.deployment].load_time.0;
                let rates = problem.rates_for(instance.deployment, queue.len());
                list_schedule::sort(problem, &rates, queue);
                // A request that left and came back is there twice.
                queue.dedup();
                let mut late: Vec<(f64, usize)> = Vec::new();
                let opening = instance.start.0 + load;
                let finish = list_schedule::run(problem, &rates, queue, opening, |request, finish| {
                    let deadline = problem.kinds[problem.kind_of(request as usize)].deadline.min(limits[j]);
                    if finish - deadline > TOLERANCE {
                        late.push((finish - deadline, request as usize));
                    }
                });
                let unsure = finish.lateness.max(finish.secured - limits[j]);
                if late.is_empty() && unsure > TOLERANCE {
                    // Late only with the confidence asked for: the last of the list share it.
                    let last = queue.iter().rev().take(rates.slots());
                    late.extend(last.map(|&request| (unsure, request as usize)));
                }
                late.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                let most = late.first().map_or(0.0, |(seconds, _)| *seconds);
                // The latest go, until the slots they held would have covered what all were late by.
                let mut seconds: f64 = late.iter().map(|(seconds, _)| seconds).sum();
                let mut evicted = Vec::new();
                for (_, request) in late {
                    if seconds <= 0.0 {
                        break;
                    }
                    let (input, output) = problem.lengths(request);
                    seconds -= rates.slot_seconds(input, output);
                    evicted.push(request);
                }
                (!evicted.is_empty()).then_some(Late { instance: j, seconds: most, evicted })
            })
            .collect();
        self.changed.fill(false);
        late.into_iter().flatten().collect()
    }

    /// Takes the late requests away; nothing due as soon as they are comes to that instance again.
    fn evict(&mut self, late: &Late) {
        for &request in &late.evicted {
            self.take_away(request);
        }
        let due = late.evicted.iter().map(|&request| self.due(request)).max().unwrap_or(0);
        self.room[late.instance][..=due].iter_mut().for_each(|room| *room = room.min(0.0));
        self.has_less_room(late.instance);
    }
}

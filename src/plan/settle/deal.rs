//! Requests to the instances of the deployment they were given, in rounds, and which of them go elsewhere where there are too
//! many.

use rayon::prelude::*;

use super::rounds::{self, EmptySlots};
use super::{Counting, Filling};
use crate::plan::list_schedule;
use crate::plan::prices::{NONE, Prices};

/// Share of the time there is above which it is scarce.
const SCARCE: f64 = 0.9;
/// Share of scarce time that cannot be filled.
const UNFILLED: f64 = 2e-3;

/// What dealing made of one deployment.
pub(super) struct Filled {
    pub by_instance: Vec<Dealt>,
    pub left_over: Vec<usize>,
    /// Seconds that each instance lacks for what is left over.
    lacking: f64,
}

/// An instance and its requests so far.
pub(super) struct Dealt {
    pub instance: usize,
    /// Seconds between its opening and each deadline, at most until it must be gone.
    open: Vec<f64>,
    /// Seconds of each slot that are taken.
    loads: Vec<f64>,
    /// Seconds left for what is due by each deadline.
    pub room: Vec<f64>,
    /// Of the last deadline it has requests of.
    empty: Option<(usize, EmptySlots)>,
    pub queue: Vec<u32>,
}

impl Filling<'_> {
    /// Requests to the instances of their own deployment; returns those that found no room.
    pub(super) fn own_deployment(&mut self, prices: &Prices, assignment: &[u16]) -> Vec<usize> {
        let mut requests_of: Vec<Vec<u32>> = vec![Vec::new(); self.of_deployment.len()];
        let mut overflow = Vec::new();
        for (request, &v) in assignment.iter().enumerate() {
            match requests_of.get_mut(v as usize).filter(|_| v != NONE) {
                Some(requests) => requests.push(request as u32),
                None => overflow.push(request),
            }
        }
        let this = &*self;
        let deal = |(v, requests): (usize, Vec<u32>)| match this.counting {
            Counting::Work => this.filled_by_work(v, requests),
            Counting::Rounds => this.filled_by_rounds(prices, v, requests),
        };
        let filled: Vec<Filled> = requests_of.into_par_iter().enumerate().map(deal).collect();
        for (v, Filled { by_instance, left_over, lacking }) in filled.into_iter().enumerate() {
            for Dealt { instance: j, room, empty, queue, .. } in by_instance {
                for &request in &queue {
                    self.place[request as usize] = j as u32;
                }
                self.room[j] = room;
                empty.into_iter().for_each(|(due, slots)| self.empty[j][due] = slots);
                self.queues[j] = queue;
            }
            if lacking > 0.0 {
                self.lacking.insert(v, lacking);
            }
            overflow.extend(left_over);
        }
        (0..self.of_deployment.len()).for_each(|v| self.find_most_room(v));
        overflow
    }

    /// The requests of one deployment on its instances: by deadline, in rounds.
    fn filled_by_rounds(&self, prices: &Prices, v: usize, mut requests: Vec<u32>) -> Filled {
        let own = &self.of_deployment[v];
        list_schedule::sort(self.problem, &self.problem.deployments()[v].rates, &mut requests);
        let mut filled = Filled::new(self, v);
        for requests in requests.chunk_by(|&a, &b| self.due(a as usize) == self.due(b as usize)) {
            let due = self.due(requests[0] as usize);
            let supply: f64 = filled.by_instance.iter().map(|dealt| dealt.left(due).max(0.0)).sum();
            let before = filled.left_over.len();
            if self.work_on(v, requests) <= SCARCE * supply {
                self.deal_rounds(v, due, requests, rounds::level, &mut filled);
            } else {
                let (requests, surplus) = self.without_surplus(prices, v, requests, supply);
                filled.left_over.extend(surplus.into_iter().map(|request| request as usize));
                self.deal_scarce(v, due, &requests, &mut filled);
            }
            let left_over: Vec<u32> = filled.left_over[before..].iter().map(|&request| request as u32).collect();
            filled.lacking = filled.lacking.max(self.work_on(v, &left_over) / own.len().max(1) as f64);
        }
        filled
    }

    /// Instance-seconds of requests on `v`.
    fn work_on(&self, v: usize, requests: &[u32]) -> f64 {
        let rates = &self.problem.deployments()[v].rates;
        let lengths = requests.iter().map(|&request| self.problem.lengths(request as usize));
        lengths.map(|(input, output)| rates.seconds(input, output)).sum()
    }

    /// Deals requests, longest first, in rounds.
    fn deal_rounds(
        &self,
        v: usize,
        due: usize,
        requests: &[u32],
        deal: fn(&[f64], &mut [f64]) -> Vec<Option<usize>>,
        filled: &mut Filled,
    ) {
        let seconds = self.slot_seconds_on(v, requests);
        let slots = self.problem.deployments()[v].rates.slots();
        let longest: Vec<f64> = seconds.chunks(slots).map(|round| round[0]).collect();
        let mut room: Vec<f64> = filled.by_instance.iter().map(|dealt| dealt.left(due)).collect();
        let places = deal(&longest, &mut room);
        for ((round, seconds), place) in requests.chunks(slots).zip(seconds.chunks(slots)).zip(places) {
            match place {
                Some(place) => filled.by_instance[place].take_round(round, seconds),
                None => filled.left_over.extend(round.iter().map(|&request| request as usize)),
            }
        }
        filled.by_instance.iter_mut().for_each(|dealt| dealt.close(due));
    }

    fn slot_seconds_on(&self, v: usize, requests: &[u32]) -> Vec<f64> {
        let rates = &self.problem.deployments()[v].rates;
        let lengths = requests.iter().map(|&request| self.problem.lengths(request as usize));
        lengths.map(|(input, output)| rates.slot_seconds(input, output)).collect()
    }

    /// Deals requests in rounds or one by one, whichever finds room for more. Rounds waste less where all requests are long.
    fn deal_scarce(&self, v: usize, due: usize, requests: &[u32], filled: &mut Filled) {
        let seconds = self.slot_seconds_on(v, requests);
        let slots = self.problem.deployments()[v].rates.slots();
        let open: Vec<f64> = filled.by_instance.iter().map(|dealt| dealt.open[due]).collect();
        let mut loads: Vec<Vec<f64>> = filled.by_instance.iter().map(|dealt| dealt.loads.clone()).collect();
        let places = rounds::one_by_one(&seconds, &mut loads, &open);
        let placed: f64 = seconds.iter().zip(&places).filter(|(_, place)| place.is_some()).map(|(s, _)| s).sum();
        let longest: Vec<f64> = seconds.chunks(slots).map(|round| round[0]).collect();
        let mut room: Vec<f64> = filled.by_instance.iter().map(|dealt| dealt.left(due)).collect();
        let in_rounds = rounds::fill(&longest, &mut room);
        let rounds = in_rounds.iter().zip(seconds.chunks(slots)).filter(|(place, _)| place.is_some());
        let placed_in_rounds: f64 = rounds.map(|(_, round)| round.iter().sum::<f64>()).sum();
        if placed_in_rounds > placed {
            self.deal_rounds(v, due, requests, rounds::fill, filled);
            return;
        }
        for (&request, place) in requests.iter().zip(places) {
            match place {
                Some(place) => filled.by_instance[place].queue.push(request),
                None => filled.left_over.push(request as usize),
            }
        }
        for (dealt, loads) in filled.by_instance.iter_mut().zip(loads) {
            dealt.loads = loads;
            dealt.close(due);
        }
    }

    /// Requests without those for which there is no room and that lose least a second if they are served elsewhere, and
    /// these.
    fn without_surplus(&self, prices: &Prices, v: usize, requests: &[u32], supply: f64) -> (Vec<u32>, Vec<u32>) {
        let rates = &self.problem.deployments()[v].rates;
        let mut left = self.work_on(v, requests) - (1.0 - UNFILLED) * supply;
        if left <= 0.0 {
            return (requests.to_vec(), Vec::new());
        }
        let mut by_loss: Vec<(f64, u32, f64)> = requests
            .iter()
            .map(|&request| {
                let (input, output) = self.problem.lengths(request as usize);
                let seconds = rates.seconds(input, output);
                (self.loss_elsewhere(prices, v, request as usize) / seconds.max(f64::MIN_POSITIVE), request, seconds)
            })
            .collect();
        by_loss.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let (mut kept, mut surplus) = (Vec::new(), Vec::new());
        for (loss, request, seconds) in by_loss {
            if left > 0.0 && loss < f64::INFINITY {
                left -= seconds;
                surplus.push(request);
            } else {
                kept.push(request);
            }
        }
        list_schedule::sort(self.problem, rates, &mut kept);
        (kept, surplus)
    }

    /// What a request costs at least on another deployment that has instances, beyond what it costs on `v`.
    fn loss_elsewhere(&self, prices: &Prices, v: usize, request: usize) -> f64 {
        let kind = &self.problem.kinds[self.problem.kind_of(request)];
        let (input, output) = self.problem.lengths(request);
        let cost = |option: usize| {
            let rates = &self.problem.deployments()[kind.options[option]].rates;
            let (energy, seconds) = (rates.energy(input, output), rates.seconds(input, output));
            let points = kind.mean_job.map_or(0.0, |job| prices.accuracy[job] * kind.accuracy[option]);
            prices.cheapest(self.problem, kind.options[option], kind, energy, seconds) - points
        };
        let open = self.open_options[self.problem.cohort_of(request)].iter().copied();
        let (mut own, mut least) = (0.0, f64::INFINITY);
        for option in open {
            if kind.options[option] == v {
                own = cost(option);
            } else if self.problem.can_serve(kind, option, input, output) {
                least = least.min(cost(option));
            }
        }
        least - own
    }
}

impl Filled {
    /// The instances of `v`, without requests yet.
    pub fn new(filling: &Filling, v: usize) -> Self {
        let slots = filling.problem.deployments()[v].rates.slots();
        let dealt = |&j: &usize| Dealt {
            instance: j,
            open: filling.room[j].clone(),
            loads: vec![0.0; if filling.counting == Counting::Rounds { slots } else { 0 }],
            room: filling.room[j].clone(),
            empty: None,
            queue: Vec::new(),
        };
        let by_instance = filling.of_deployment[v].iter().map(dealt).collect();
        Self { by_instance, left_over: Vec::new(), lacking: 0.0 }
    }
}

impl Dealt {
    /// Seconds left for rounds due by deadline number `due`, on top of the slot that ends last.
    fn left(&self, due: usize) -> f64 {
        self.open[due] - self.most_loaded()
    }

    fn most_loaded(&self) -> f64 {
        self.loads.iter().copied().fold(0.0, f64::max)
    }

    /// Takes a round, longest first: each of its requests to the slot that is free first.
    fn take_round(&mut self, round: &[u32], seconds: &[f64]) {
        self.loads.sort_by(f64::total_cmp);
        self.loads.iter_mut().zip(seconds).for_each(|(load, seconds)| *load += seconds);
        self.queue.extend(round);
    }

    /// No more requests due by deadline number `due` are dealt.
    fn close(&mut self, due: usize) {
        let most = self.most_loaded();
        self.room[due..].iter_mut().zip(&self.open[due..]).for_each(|(room, open)| *room = open - most);
        let mut empty = EmptySlots::default();
        self.loads.iter().filter(|&&load| load < most).for_each(|load| empty.add(most - load, 1));
        self.empty = Some((due, empty));
    }
}

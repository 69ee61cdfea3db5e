//! Requests onto instances that already have their place: those that do not fit their deployment's instances move to
//! others by least regret, floors are kept, and what time is left goes to whoever saves most by it.
//!
//! Where devices are scarce the relaxation's shares cannot all be placed. Rather than plan again with less, this fills
//! what was placed, by deadline, and lets list scheduling say how full is full.

use rayon::prelude::*;

use super::list_schedule;
use super::power::within_cap;
use super::price::{self, Priced};
use super::prices::{NONE, Prices};
use super::problem::PlanProblem;
use crate::domain::{Instance, Rates, Schedule};

/// Rounds of "measure lateness, leave that much more room".
const MOST_ROUNDS: usize = 8;

/// Fills `instances`, which must be gone by `limits`, starting from the deployments in `assignment`. `None` if some
/// request finds no room, or a floor cannot be kept.
pub fn settle(
    problem: &PlanProblem,
    prices: &Prices,
    instances: &[Instance],
    limits: &[f64],
    assignment: &[u16],
) -> Option<Priced> {
    if distinct_deadlines(problem).len() > MOST_DEADLINES {
        return None;
    }
    let mut reserve = vec![0.0; instances.len()];
    for _ in 0..MOST_ROUNDS {
        let mut filling = Filling::new(problem, instances, limits, &reserve);
        let overflow = filling.own_deployment(assignment);
        filling.move_overflow(prices, overflow)?;
        filling.keep_floors()?;
        filling.use_what_is_left();
        let late = filling.lateness(limits);
        if late.iter().all(|&late| late <= 1e-6) {
            return Some(filling.priced()).filter(|priced| within_cap(problem, &priced.schedule));
        }
        for (reserve, late) in reserve.iter_mut().zip(late) {
            if late > 1e-6 {
                *reserve = (1.5 * *reserve).max(*reserve + 1.1 * late + 0.01);
            }
        }
    }
    None
}

/// Time is counted by every deadline: with more of them than this it takes too long.
const MOST_DEADLINES: usize = 64;

fn distinct_deadlines(problem: &PlanProblem) -> Vec<f64> {
    let mut deadlines: Vec<f64> = problem.kinds.iter().map(|kind| kind.deadline).collect();
    deadlines.sort_by(f64::total_cmp);
    deadlines.dedup();
    deadlines
}

struct Filling<'a> {
    problem: &'a PlanProblem<'a>,
    instances: &'a [Instance],
    rates: Vec<Rates>,
    /// Mean weight of a joule while each instance serves.
    weights: Vec<f64>,
    /// Distinct deadlines, ascending, and the index of each kind's.
    deadlines: Vec<f64>,
    deadline_of: Vec<usize>,
    /// Seconds for requests due by each deadline, and how many of them are taken, by instance.
    room: Vec<Vec<f64>>,
    taken: Vec<Vec<f64>>,
    /// Longest a request may hold a slot, by instance and deadline.
    longest: Vec<Vec<f64>>,
    /// Instances of each deployment.
    of_deployment: Vec<Vec<usize>>,
    /// Instance of each request.
    place: Vec<u32>,
}

const NOWHERE: u32 = u32::MAX;

impl<'a> Filling<'a> {
    fn new(problem: &'a PlanProblem<'a>, instances: &'a [Instance], limits: &[f64], reserve: &[f64]) -> Self {
        let deadlines = distinct_deadlines(problem);
        let index = |deadline: f64| deadlines.partition_point(|&known| known < deadline);
        let deadline_of = problem.kinds.iter().map(|kind| index(kind.deadline)).collect();
        let mut of_deployment = vec![Vec::new(); problem.deployments().len()];
        let (mut room, mut longest, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for (j, instance) in instances.iter().enumerate() {
            of_deployment[instance.deployment].push(j);
            let open = instance.start.0 + problem.deployments()[instance.deployment].load_time.0;
            weights.push(problem.mean_weight(open, limits[j]));
            let until = |deadline: &f64| deadline.min(limits[j]) - open;
            longest.push(deadlines.iter().map(until).collect());
            room.push(deadlines.iter().map(|deadline| until(deadline) - reserve[j]).collect());
        }
        Self {
            problem,
            instances,
            rates: instances.iter().map(|instance| problem.deployments()[instance.deployment].rates).collect(),
            weights,
            taken: vec![vec![0.0; deadlines.len()]; instances.len()],
            deadlines,
            deadline_of,
            room,
            longest,
            of_deployment,
            place: vec![NOWHERE; problem.workload.requests.len()],
        }
    }

    fn due(&self, request: usize) -> usize {
        self.deadline_of[self.problem.kind_of(request)]
    }

    /// Seconds left on instance `j` for requests due by deadline number `due`: later ones must still fit.
    fn left(&self, j: usize, due: usize) -> f64 {
        (due..self.deadlines.len()).map(|d| self.room[j][d] - self.taken[j][d]).fold(f64::INFINITY, f64::min)
    }

    fn fits(&self, j: usize, request: usize) -> bool {
        let (input, output) = self.problem.lengths(request);
        let due = self.due(request);
        self.left(j, due) >= self.rates[j].seconds(input, output)
            && self.longest[j][due] >= self.rates[j].slot_seconds(input, output)
    }

    fn put(&mut self, j: usize, request: usize) {
        self.change(j, request, 1.0);
        self.place[request] = j as u32;
    }

    fn take_away(&mut self, request: usize) {
        self.change(self.place[request] as usize, request, -1.0);
        self.place[request] = NOWHERE;
    }

    fn change(&mut self, j: usize, request: usize, sign: f64) {
        let (input, output) = self.problem.lengths(request);
        let seconds = sign * self.rates[j].seconds(input, output);
        for d in self.due(request)..self.deadlines.len() {
            self.taken[j][d] += seconds;
        }
    }

    /// The instance of `v` with most room for the request, if it fits there.
    fn roomiest(&self, v: usize, request: usize) -> Option<usize> {
        let due = self.due(request);
        let most =
            self.of_deployment[v].iter().copied().max_by(|&a, &b| self.left(a, due).total_cmp(&self.left(b, due)));
        most.filter(|&j| self.fits(j, request))
    }

    /// Requests to the instances of their own deployment; returns those that found no room.
    fn own_deployment(&mut self, assignment: &[u16]) -> Vec<usize> {
        let problem = self.problem;
        let mut order: Vec<usize> = (0..assignment.len()).collect();
        let seconds = |request: usize| {
            let (input, output) = problem.lengths(request);
            assignment
                .get(request)
                .filter(|&&v| v != NONE)
                .map_or(0.0, |&v| problem.deployments()[v as usize].rates.seconds(input, output))
        };
        order
            .sort_by_cached_key(|&request| (self.due(request), std::cmp::Reverse(seconds(request).to_bits()), request));
        let mut overflow = Vec::new();
        for request in order {
            let v = assignment[request];
            match (v != NONE).then(|| self.roomiest(v as usize, request)).flatten() {
                Some(j) => self.put(j, request),
                None => overflow.push(request),
            }
        }
        overflow
    }

    /// Options of a request with an instance that has room, as (option of its kind, instance).
    fn places(&self, request: usize) -> Vec<(usize, usize)> {
        let kind = &self.problem.kinds[self.problem.kind_of(request)];
        let (input, output) = self.problem.lengths(request);
        (0..kind.options.len())
            .filter(|&option| !self.of_deployment[kind.options[option]].is_empty())
            .filter(|&option| self.problem.can_serve(kind, option, input, output))
            .filter_map(|option| Some((option, self.roomiest(kind.options[option], request)?)))
            .collect()
    }

    fn energy(&self, j: usize, request: usize) -> f64 {
        let (input, output) = self.problem.lengths(request);
        self.rates[j].energy(input, output) * self.weights[j]
    }

    /// Requests without room to the place that costs least, accuracy at its price included.
    fn move_overflow(&mut self, prices: &Prices, overflow: Vec<usize>) -> Option<()> {
        for request in overflow {
            let kind = &self.problem.kinds[self.problem.kind_of(request)];
            let cost = |&(option, j): &(usize, usize)| {
                let points = kind.mean_job.map_or(0.0, |job| prices.accuracy[job] * kind.accuracy[option]);
                self.energy(j, request) - points
            };
            let (_, j) = self.places(request).into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
            self.put(j, request);
        }
        Some(())
    }

    fn accuracy(&self, request: usize, j: usize) -> f64 {
        let job = self.problem.workload.groups[self.problem.workload.requests.group[request] as usize].job;
        self.problem.options.accuracy[job][self.instances[j].deployment].unwrap_or(0.0)
    }

    /// Percent points each job has beyond its floor; infinite without one.
    fn spare_points(&self) -> Vec<f64> {
        let workload = &self.problem.workload;
        let mut points = vec![0.0; workload.jobs.len()];
        for (request, &j) in self.place.iter().enumerate() {
            points[workload.groups[workload.requests.group[request] as usize].job] +=
                self.accuracy(request, j as usize);
        }
        let floors = self.problem.floor_points.iter();
        floors.zip(points).map(|(floor, points)| floor.map_or(f64::INFINITY, |f| points - f * (1.0 + 1e-12))).collect()
    }

    /// Moves requests to more accurate places, least joules a point first, until the floors hold.
    fn keep_floors(&mut self) -> Option<()> {
        let mut spare = self.spare_points();
        if spare.iter().all(|&spare| spare >= 0.0) {
            return Some(());
        }
        let mut moves: Vec<(f64, usize)> = Vec::new();
        for request in 0..self.place.len() {
            let kind = &self.problem.kinds[self.problem.kind_of(request)];
            if kind.mean_job.is_none_or(|job| spare[job] >= 0.0) {
                continue;
            }
            let now = self.place[request] as usize;
            let rate = |&(_, j): &(usize, usize)| {
                let gain = self.accuracy(request, j) - self.accuracy(request, now);
                (gain > 0.0).then(|| (self.energy(j, request) - self.energy(now, request)) / gain)
            };
            let best = self.places(request).iter().filter_map(rate).min_by(f64::total_cmp);
            moves.extend(best.map(|rate| (rate, request)));
        }
        moves.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for (_, request) in moves {
            let kind = &self.problem.kinds[self.problem.kind_of(request)];
            let Some(job) = kind.mean_job.filter(|&job| spare[job] < 0.0) else { continue };
            let now = self.place[request] as usize;
            let gain = |j: usize| self.accuracy(request, j) - self.accuracy(request, now);
            let rate = |j: usize| (self.energy(j, request) - self.energy(now, request)) / gain(j);
            let places = self.places(request).into_iter().map(|(_, j)| j).filter(|&j| gain(j) > 0.0);
            let Some(j) = places.min_by(|&a, &b| rate(a).total_cmp(&rate(b))) else { continue };
            spare[job] += gain(j);
            self.take_away(request);
            self.put(j, request);
        }
        spare.iter().all(|&spare| spare >= 0.0).then_some(())
    }

    /// Moves requests to cheaper places while there is room and no floor breaks, most joules a second first.
    fn use_what_is_left(&mut self) {
        let mut spare = self.spare_points();
        let gain = |filling: &Self, request: usize, j: usize| {
            filling.energy(filling.place[request] as usize, request) - filling.energy(j, request)
        };
        let this = &*self;
        let mut moves: Vec<(f64, usize)> = (0..this.place.len())
            .into_par_iter()
            .filter_map(|request| {
                let (input, output) = this.problem.lengths(request);
                let rate =
                    |(_, j): (usize, usize)| gain(this, request, j) / this.rates[j].seconds(input, output).max(1e-9);
                let best = this.places(request).into_iter().map(rate).max_by(f64::total_cmp)?;
                (best > 0.0).then_some((best, request))
            })
            .collect();
        moves.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, request) in moves {
            let now = self.place[request] as usize;
            let job = self.problem.workload.groups[self.problem.workload.requests.group[request] as usize].job;
            let loss = |j: usize| self.accuracy(request, now) - self.accuracy(request, j);
            let places = self.places(request).into_iter().map(|(_, j)| j);
            let allowed = places.filter(|&j| gain(self, request, j) > 0.0 && loss(j) <= spare[job]);
            let Some(j) = allowed.max_by(|&a, &b| gain(self, request, a).total_cmp(&gain(self, request, b))) else {
                continue;
            };
            if spare[job].is_finite() {
                spare[job] -= loss(j);
            }
            self.take_away(request);
            self.put(j, request);
        }
    }

    fn queues(&self) -> Vec<Vec<u32>> {
        let mut queues = vec![Vec::new(); self.instances.len()];
        for (request, &j) in self.place.iter().enumerate() {
            queues[j as usize].push(request as u32);
        }
        queues
    }

    /// Seconds by which each instance misses a deadline or its own limit.
    fn lateness(&self, limits: &[f64]) -> Vec<f64> {
        let run = |(j, mut queue): (usize, Vec<u32>)| {
            let instance = &self.instances[j];
            let load = self.problem.deployments()[instance.deployment].load_time.0;
            let rates = self.problem.rates_for(instance.deployment, queue.len());
            list_schedule::sort(self.problem, &rates, &mut queue);
            let finish = list_schedule::run(self.problem, &rates, &queue, instance.start.0 + load, |_, _| {});
            finish.lateness.max(finish.end - limits[j]).max(0.0)
        };
        self.queues().into_par_iter().enumerate().map(run).collect()
    }

    /// The schedule, without instances that serve nothing.
    fn priced(self) -> Priced {
        let mut number = vec![NOWHERE; self.instances.len()];
        let mut schedule = Schedule::default();
        for (j, _) in self.queues().iter().enumerate().filter(|(_, queue)| !queue.is_empty()) {
            number[j] = schedule.instances.len() as u32;
            schedule.instances.push(self.instances[j].clone());
        }
        schedule.assignment = self.place.iter().map(|&j| number[j as usize]).collect();
        price::price(self.problem, schedule)
    }
}

//! Requests onto instances that already have their place: those that do not fit their deployment's instances move to
//! others by least regret, floors are kept, and what time is left goes to whoever saves most by it.
//!
//! Where devices are scarce the relaxation's shares cannot all be placed. Rather than plan again with less, this fills
//! what was placed, by deadline, and lets list scheduling say how full is full.

mod punctual;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use ordered_float::OrderedFloat;
use rayon::prelude::*;

use super::list_schedule;
use super::power::within_cap;
use super::price::{self, Priced};
use super::prices::{NONE, Prices};
use super::problem::PlanProblem;
use crate::domain::{Instance, Rates, Schedule};

/// Seconds by which instances finish late once all that has room on them is there: the most of any, by deployment.
pub type Lateness = BTreeMap<usize, f64>;

#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// `None` if some request finds no room, or a floor or the power cap cannot be kept.
    pub priced: Option<Priced>,
    /// What had to be mended.
    pub lateness: Lateness,
}

/// Fills `instances`, which must be gone by `limits`, starting from the deployments in `assignment`. From number `planned`
/// on they are spare: started only for requests that find no room elsewhere. What is then left over goes to whoever saves most
/// by it if `saving`, which takes as long again.
pub fn settle(
    problem: &PlanProblem,
    prices: &Prices,
    instances: &[Instance],
    planned: usize,
    limits: &[f64],
    assignment: &[u16],
    saving: bool,
) -> Settled {
    if distinct_deadlines(problem).len() > MOST_DEADLINES {
        return Settled::default();
    }
    let mut filling = Filling::new(problem, instances, planned, limits);
    if filling.fill(prices, limits, assignment).is_none() {
        return Settled { priced: None, lateness: filling.lateness };
    }
    // What is gained by filling the gaps may be lost again where instances then finish late.
    if saving {
        let mut fuller = filling.clone();
        fuller.use_what_is_left();
        if fuller.make_punctual(prices, limits).is_some() && fuller.active_energy() < filling.active_energy() {
            filling = fuller;
        }
    }
    let lateness = std::mem::take(&mut filling.lateness);
    let priced = Some(filling.priced()).filter(|priced| within_cap(problem, &priced.schedule));
    Settled { priced, lateness }
}

/// Time is counted by every deadline: with more of them than this it takes too long.
const MOST_DEADLINES: usize = 64;

fn distinct_deadlines(problem: &PlanProblem) -> Vec<f64> {
    let mut deadlines: Vec<f64> = problem.kinds.iter().map(|kind| kind.deadline).collect();
    deadlines.sort_by(f64::total_cmp);
    deadlines.dedup();
    deadlines
}

#[derive(Clone)]
struct Filling<'a> {
    problem: &'a PlanProblem<'a>,
    instances: &'a [Instance],
    rates: Vec<Rates>,
    /// Mean weight of a joule while each instance serves.
    weights: Vec<f64>,
    /// Of each kind's deadline among the distinct ones, ascending.
    deadline_of: Vec<usize>,
    /// Seconds for requests due by each deadline that are left on each instance.
    room: Vec<Vec<f64>>,
    /// Longest a request may hold a slot, by instance and deadline.
    longest: Vec<Vec<f64>>,
    /// Instances of each deployment.
    of_deployment: Vec<Vec<usize>>,
    /// Spare instances of each deployment that serve nothing yet.
    spare: Vec<Vec<usize>>,
    /// Options of each cohort that have an instance.
    open_options: Vec<Vec<usize>>,
    /// Instance of each request.
    place: Vec<u32>,
    /// Requests of each instance, in list order but for those that came later.
    queues: Vec<Vec<u32>>,
    /// Instances whose requests have changed since their lateness was last measured.
    changed: Vec<bool>,
    /// When it was first measured.
    lateness: Lateness,
}

const NOWHERE: u32 = u32::MAX;

impl<'a> Filling<'a> {
    fn new(problem: &'a PlanProblem<'a>, instances: &'a [Instance], planned: usize, limits: &[f64]) -> Self {
        let deadlines = distinct_deadlines(problem);
        let index = |deadline: f64| deadlines.partition_point(|&known| known < deadline);
        let deadline_of = problem.kinds.iter().map(|kind| index(kind.deadline)).collect();
        let mut of_deployment = vec![Vec::new(); problem.deployments().len()];
        let mut spare = of_deployment.clone();
        let (mut room, mut weights): (Vec<Vec<f64>>, _) = (Vec::new(), Vec::new());
        for (j, instance) in instances.iter().enumerate() {
            let known = if j < planned { &mut of_deployment } else { &mut spare };
            known[instance.deployment].push(j);
            let open = instance.start.0 + problem.deployments()[instance.deployment].load_time.0;
            weights.push(problem.mean_weight(open, limits[j]));
            room.push(deadlines.iter().map(|deadline| deadline.min(limits[j]) - open).collect());
        }
        let open_options = problem.cohorts.iter().map(|cohort| {
            let options = problem.kinds[cohort.kind].options.iter().enumerate();
            options
                .filter(|(_, v)| !of_deployment[**v].is_empty() || !spare[**v].is_empty())
                .map(|(option, _)| option)
                .collect()
        });
        Self {
            problem,
            instances,
            open_options: open_options.collect(),
            rates: instances.iter().map(|instance| problem.deployments()[instance.deployment].rates).collect(),
            weights,
            deadline_of,
            longest: room.clone(),
            room,
            of_deployment,
            spare,
            place: vec![NOWHERE; problem.workload.requests.len()],
            queues: vec![Vec::new(); instances.len()],
            changed: vec![true; instances.len()],
            lateness: Lateness::new(),
        }
    }

    /// Every request to an instance where it is in time, none with regard to what is left over then.
    fn fill(&mut self, prices: &Prices, limits: &[f64], assignment: &[u16]) -> Option<()> {
        let overflow = self.own_deployment(assignment);
        self.move_overflow(prices, overflow, false)?;
        self.keep_floors()?;
        self.make_punctual(prices, limits)
    }

    fn due(&self, request: usize) -> usize {
        self.deadline_of[self.problem.kind_of(request)]
    }

    /// Seconds left on instance `j` for requests due by deadline number `due`: later ones must still fit.
    fn left(&self, j: usize, due: usize) -> f64 {
        self.room[j][due..].iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn fits(&self, j: usize, request: usize) -> bool {
        let (input, output) = self.problem.lengths(request);
        let due = self.due(request);
        self.left(j, due) >= self.rates[j].seconds(input, output)
            && self.longest_now(j, &self.room[j], due) >= self.rates[j].slot_seconds(input, output)
    }

    /// Longest a request due by deadline number `due` may hold a slot of instance `j`: what is due sooner comes first.
    fn longest_now(&self, j: usize, room: &[f64], due: usize) -> f64 {
        let before = due.checked_sub(1).map_or(0.0, |before| self.longest[j][before] - room[before]);
        self.longest[j][due] - before
    }

    fn put(&mut self, j: usize, request: usize) {
        self.occupy(j, request, 1.0);
        self.place[request] = j as u32;
        self.queues[j].push(request as u32);
        let v = self.instances[j].deployment;
        if let Some(at) = self.spare[v].iter().position(|&spare| spare == j) {
            self.of_deployment[v].push(self.spare[v].remove(at));
        }
    }

    /// Takes a request from its instance; its queue keeps the number until it is read next.
    fn take_away(&mut self, request: usize) {
        self.occupy(self.place[request] as usize, request, -1.0);
        self.place[request] = NOWHERE;
    }

    fn occupy(&mut self, j: usize, request: usize, sign: f64) {
        let (input, output) = self.problem.lengths(request);
        let seconds = sign * self.rates[j].seconds(input, output);
        let due = self.due(request);
        self.room[j][due..].iter_mut().for_each(|room| *room -= seconds);
        self.changed[j] = true;
    }

    /// The instance of `v` with most room for the request, if it fits there; else a spare one.
    fn roomiest(&self, v: usize, request: usize) -> Option<usize> {
        let due = self.due(request);
        let most =
            self.of_deployment[v].iter().copied().max_by(|&a, &b| self.left(a, due).total_cmp(&self.left(b, due)));
        most.into_iter().chain(self.spare[v].first().copied()).find(|&j| self.fits(j, request))
    }

    /// Requests to the instances of their own deployment; returns those that found no room.
    fn own_deployment(&mut self, assignment: &[u16]) -> Vec<usize> {
        let mut requests_of: Vec<Vec<u32>> = vec![Vec::new(); self.of_deployment.len()];
        let mut overflow = Vec::new();
        for (request, &v) in assignment.iter().enumerate() {
            match requests_of.get_mut(v as usize).filter(|_| v != NONE) {
                Some(requests) => requests.push(request as u32),
                None => overflow.push(request),
            }
        }
        let this = &*self;
        let filled: Vec<Filled> =
            requests_of.into_par_iter().enumerate().map(|(v, requests)| this.filled(v, requests)).collect();
        for Filled { by_instance, left_over } in filled {
            for (j, room, queue) in by_instance {
                for &request in &queue {
                    self.place[request as usize] = j as u32;
                }
                self.room[j] = room;
                self.queues[j] = queue;
            }
            overflow.extend(left_over);
        }
        overflow
    }

    /// The requests of one deployment on its instances: by deadline, longest first, each to the one with most room.
    fn filled(&self, v: usize, mut requests: Vec<u32>) -> Filled {
        let own = &self.of_deployment[v];
        let rates = &self.problem.deployments()[v].rates;
        list_schedule::sort(self.problem, rates, &mut requests);
        let mut by_instance: Vec<(usize, Vec<f64>, Vec<u32>)> =
            own.iter().map(|&j| (j, self.room[j].clone(), Vec::new())).collect();
        let mut left_over = Vec::new();
        // Most room first, then the first instance. A request takes as much off all deadlines from its own on, so that
        // room for one deadline changes by its seconds alone.
        let mut heap: BinaryHeap<(OrderedFloat<f64>, Reverse<usize>)> = BinaryHeap::new();
        let mut due = usize::MAX;
        for request in requests {
            if self.due(request as usize) != due {
                due = self.due(request as usize);
                let least = |room: &[f64]| OrderedFloat(room[due..].iter().copied().fold(f64::INFINITY, f64::min));
                heap = by_instance.iter().enumerate().map(|(k, (_, room, _))| (least(room), Reverse(k))).collect();
            }
            let (input, output) = self.problem.lengths(request as usize);
            let seconds = rates.seconds(input, output);
            match heap.peek_mut() {
                Some(mut top)
                    if top.0.0 >= seconds && {
                        let (j, room, _) = &by_instance[top.1.0];
                        self.longest_now(*j, room, due) >= rates.slot_seconds(input, output)
                    } =>
                {
                    let (_, room, queue) = &mut by_instance[top.1.0];
                    room[due..].iter_mut().for_each(|room| *room -= seconds);
                    queue.push(request);
                    top.0.0 -= seconds;
                }
                _ => left_over.push(request as usize),
            }
        }
        Filled { by_instance, left_over }
    }

    /// Options of a request with an instance that has room, as (option of its kind, instance).
    fn places(&self, request: usize) -> Vec<(usize, usize)> {
        let kind = &self.problem.kinds[self.problem.kind_of(request)];
        let (input, output) = self.problem.lengths(request);
        self.open_options[self.problem.cohort_of(request)]
            .iter()
            .copied()
            .filter(|&option| self.problem.can_serve(kind, option, input, output))
            .filter_map(|option| Some((option, self.roomiest(kind.options[option], request)?)))
            .collect()
    }

    /// What a request costs on instance `j`, with its start where that is still spare.
    fn cost(&self, j: usize, request: usize) -> f64 {
        let v = self.instances[j].deployment;
        let starts = self.spare[v].contains(&j);
        let start = if starts { self.problem.deployments()[v].start_energy().0 * self.weights[j] } else { 0.0 };
        self.energy(j, request) + start
    }

    fn energy(&self, j: usize, request: usize) -> f64 {
        let (input, output) = self.problem.lengths(request);
        self.rates[j].energy(input, output) * self.weights[j]
    }

    /// Whether a request is sure to be in time on instance `j`: whatever the order, none of its slots ends later than all
    /// would together by more than what one request holds it for (Graham's bound).
    fn surely_fits(&self, j: usize, request: usize) -> bool {
        let (input, output) = self.problem.lengths(request);
        self.left(j, self.due(request)) >= self.rates[j].slot_seconds(input, output)
    }

    /// Requests without room to the place that costs least, accuracy at its price and the start of an instance that has no
    /// request yet included; rather to one where they are `sure` to be in time.
    fn move_overflow(&mut self, prices: &Prices, overflow: Vec<usize>, sure: bool) -> Option<()> {
        for request in overflow {
            let kind = &self.problem.kinds[self.problem.kind_of(request)];
            let cost = |&(option, j): &(usize, usize)| {
                let points = kind.mean_job.map_or(0.0, |job| prices.accuracy[job] * kind.accuracy[option]);
                self.cost(j, request) - points
            };
            let places = self.places(request);
            let safe = places.iter().filter(|place| sure && self.surely_fits(place.1, request));
            let cheapest = |places: &mut dyn Iterator<Item = &(usize, usize)>| {
                places.min_by(|a, b| cost(a).total_cmp(&cost(b))).map(|place| place.1)
            };
            let j = cheapest(&mut safe.into_iter()).or_else(|| cheapest(&mut places.iter()))?;
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
                (gain > 0.0).then(|| (self.cost(j, request) - self.energy(now, request)) / gain)
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
            let rate = |j: usize| (self.cost(j, request) - self.energy(now, request)) / gain(j);
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
            filling.energy(filling.place[request] as usize, request) - filling.cost(j, request)
        };
        let this = &*self;
        let lightest = this.weights.iter().copied().fold(f64::INFINITY, f64::min);
        let mut moves: Vec<(f64, usize)> = (0..this.place.len())
            .into_par_iter()
            .filter_map(|request| {
                let kind = &this.problem.kinds[this.problem.kind_of(request)];
                let (input, output) = this.problem.lengths(request);
                let now = this.energy(this.place[request] as usize, request);
                let rate = |&option: &usize| {
                    let v = kind.options[option];
                    let rates = &this.problem.deployments()[v].rates;
                    let most = now - rates.energy(input, output) * lightest;
                    let served = most > 0.0 && this.problem.can_serve(kind, option, input, output);
                    let j = if served { this.roomiest(v, request)? } else { return None };
                    let gain = now - this.cost(j, request);
                    (gain > 0.0).then(|| gain / rates.seconds(input, output).max(1e-9))
                };
                let options = &this.open_options[this.problem.cohort_of(request)];
                let best = options.iter().filter_map(rate).max_by(f64::total_cmp)?;
                Some((best, request))
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

    fn active_energy(&self) -> f64 {
        let energy = |(request, &j): (usize, &u32)| self.energy(j as usize, request);
        self.place.par_iter().enumerate().map(energy).sum()
    }

    /// The schedule, without instances that serve nothing.
    fn priced(self) -> Priced {
        let mut number = vec![NOWHERE; self.instances.len()];
        let mut schedule = Schedule::default();
        for (j, _) in self.queues.iter().enumerate().filter(|(_, queue)| !queue.is_empty()) {
            number[j] = schedule.instances.len() as u32;
            schedule.instances.push(self.instances[j].clone());
        }
        schedule.assignment = self.place.iter().map(|&j| number[j as usize]).collect();
        price::price(self.problem, schedule)
    }
}

/// What `filled` made of one deployment.
struct Filled {
    /// Instance, what room it has left, and its requests in list order.
    by_instance: Vec<(usize, Vec<f64>, Vec<u32>)>,
    left_over: Vec<usize>,
}

//! Requests onto instances that already have their place: dealt to those of their own deployment (`deal`, `rounds`), moved to
//! others by least regret where they find no room (`exchange`), until floors hold and none is late (`punctual`); what time is
//! left then goes to whoever saves most by it.
//!
//! Where devices are scarce the relaxation's shares cannot all be placed. Rather than plan again with less, this fills
//! what was placed, by deadline, and lets list scheduling say how full is full.

mod by_work;
mod deal;
mod exchange;
mod punctual;
mod rounds;

use std::collections::BTreeMap;

use rayon::prelude::*;

use self::rounds::EmptySlots;
use super::power::within_cap;
use super::price::{self, Priced};
use super::prices::Prices;
use super::problem::PlanProblem;
use crate::domain::{Instance, Rates, Schedule};

/// Seconds that each instance of a deployment lacks for the requests it was given: they found no room, or finish late.
pub type Lacking = BTreeMap<usize, f64>;

#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// `None` if some request finds no room, or a floor or the power cap cannot be kept.
    pub priced: Option<Priced>,
    /// What had to be mended.
    pub lacking: Lacking,
}

/// How room is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// In seconds of work.
    Work,
    /// In rounds: exact where many requests follow each other in a slot.
    Rounds,
}

/// Fills `instances`, which must be gone by `limits`, starting from the deployments in `assignment`. From number `planned`
/// on they are spare: started only for requests that find no room elsewhere.
pub fn settle(
    problem: &PlanProblem,
    prices: &Prices,
    instances: &[Instance],
    planned: usize,
    limits: &[f64],
    assignment: &[u16],
    counting: Counting,
) -> Settled {
    if distinct_deadlines(problem).len() > MOST_DEADLINES {
        return Settled::default();
    }
    let mut filling = Filling::new(problem, instances, planned, limits, counting);
    if filling.fill(prices, limits, assignment).is_none() {
        return Settled { priced: None, lacking: filling.lacking };
    }
    // What is gained by filling the gaps may be lost again where instances then finish late.
    let mut fuller = filling.clone();
    fuller.use_what_is_left();
    if fuller.make_punctual(prices, limits).is_some() && fuller.active_energy() < filling.active_energy() {
        filling = fuller;
    }
    let lacking = std::mem::take(&mut filling.lacking);
    let priced = Some(filling.priced()).filter(|priced| within_cap(problem, &priced.schedule));
    Settled { priced, lacking }
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
    counting: Counting,
    /// Seconds between the opening of each instance and each deadline, at most until it must be gone.
    open: Vec<Vec<f64>>,
    /// Of these, what is left for work or rounds due by each deadline.
    room: Vec<Vec<f64>>,
    /// Slots that rounds leave empty, and for how long, by instance and deadline.
    empty: Vec<Vec<EmptySlots>>,
    /// Instance with most room, by deployment and deadline.
    most_room: Vec<Vec<Option<usize>>>,
    /// Instance that took a request last, likewise.
    latest: Vec<Vec<Option<usize>>>,
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
    /// As first measured.
    lacking: Lacking,
}

const NOWHERE: u32 = u32::MAX;

impl<'a> Filling<'a> {
    fn new(
        problem: &'a PlanProblem<'a>,
        instances: &'a [Instance],
        planned: usize,
        limits: &[f64],
        counting: Counting,
    ) -> Self {
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
            counting,
            open: room.clone(),
            empty: room.iter().map(|room| vec![EmptySlots::default(); room.len()]).collect(),
            most_room: vec![vec![None; deadlines.len()]; of_deployment.len()],
            latest: vec![vec![None; deadlines.len()]; of_deployment.len()],
            room,
            of_deployment,
            spare,
            place: vec![NOWHERE; problem.workload.requests.len()],
            queues: vec![Vec::new(); instances.len()],
            changed: vec![true; instances.len()],
            lacking: Lacking::new(),
        }
    }

    /// Every request to an instance where it is in time, none with regard to what is left over then.
    fn fill(&mut self, prices: &Prices, limits: &[f64], assignment: &[u16]) -> Option<()> {
        let overflow = self.own_deployment(prices, assignment);
        self.move_overflow(prices, overflow, false)?;
        self.keep_floors()?;
        self.make_punctual(prices, limits)
    }

    /// Requests without room to other places; rather to those where they are `sure` to be in time.
    fn move_overflow(&mut self, prices: &Prices, overflow: Vec<usize>, sure: bool) -> Option<()> {
        match self.counting {
            Counting::Work => self.move_overflow_by_work(prices, overflow, sure),
            Counting::Rounds => self.exchange_overflow(prices, overflow),
        }
    }

    fn due(&self, request: usize) -> usize {
        self.deadline_of[self.problem.kind_of(request)]
    }

    /// Seconds left on instance `j` for requests due by deadline number `due`: later ones must still fit.
    fn left(&self, j: usize, due: usize) -> f64 {
        self.room[j][due..].iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Seconds by which a request makes the rounds of instance `j` longer.
    fn lengthens(&self, j: usize, request: usize) -> f64 {
        self.empty[j][self.due(request)].lengthened(self.slot_seconds(j, request))
    }

    fn slot_seconds(&self, j: usize, request: usize) -> f64 {
        let (input, output) = self.problem.lengths(request);
        self.rates[j].slot_seconds(input, output)
    }

    fn fits(&self, j: usize, request: usize) -> bool {
        match self.counting {
            Counting::Work => self.fits_by_work(j, request),
            Counting::Rounds => self.left(j, self.due(request)) >= self.lengthens(j, request),
        }
    }

    fn put(&mut self, j: usize, request: usize) {
        let (due, seconds) = (self.due(request), self.slot_seconds(j, request));
        let longer = match self.counting {
            Counting::Work => self.work(j, request),
            Counting::Rounds => self.empty[j][due].fill(seconds, self.rates[j].slots()),
        };
        self.room[j][due..].iter_mut().for_each(|room| *room -= longer);
        self.changed[j] = true;
        self.place[request] = j as u32;
        self.queues[j].push(request as u32);
        let v = self.instances[j].deployment;
        self.latest[v][due] = Some(j);
        if let Some(at) = self.spare[v].iter().position(|&spare| spare == j) {
            self.of_deployment[v].push(self.spare[v].remove(at));
            self.find_most_room(v);
        }
        self.has_less_room(j);
    }

    /// Finds the instance of `v` with most room anew where it was `j`, which has less now.
    fn has_less_room(&mut self, j: usize) {
        let v = self.instances[j].deployment;
        if self.most_room[v].contains(&Some(j)) {
            self.find_most_room(v);
        }
    }

    fn find_most_room(&mut self, v: usize) {
        for due in 0..self.most_room[v].len() {
            let own = self.of_deployment[v].iter().copied();
            self.most_room[v][due] = own.max_by(|&a, &b| self.left(a, due).total_cmp(&self.left(b, due)));
        }
    }

    /// Takes a request from its instance; its queue keeps the number until it is read next.
    fn take_away(&mut self, request: usize) {
        let j = self.place[request] as usize;
        let (due, seconds) = (self.due(request), self.slot_seconds(j, request));
        match self.counting {
            Counting::Work => {
                let work = self.work(j, request);
                self.room[j][due..].iter_mut().for_each(|room| *room += work);
                self.find_most_room(self.instances[j].deployment);
            }
            Counting::Rounds => self.empty[j][due].add(seconds, 1),
        }
        self.changed[j] = true;
        self.place[request] = NOWHERE;
    }

    /// The instance of `v` where the request fits: the one that took the last of its deadline, the one with most room, or
    /// else a spare one.
    fn roomiest(&self, v: usize, request: usize) -> Option<usize> {
        let due = self.due(request);
        // One whose last round has slots left.
        let latest = self.latest[v][due].filter(|_| self.counting == Counting::Rounds);
        let known = latest.into_iter().chain(self.most_room[v][due]);
        known.chain(self.spare[v].first().copied()).find(|&j| self.fits(j, request))
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

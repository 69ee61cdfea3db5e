//! The planning problem as the solver sees it: windows, kinds of requests, and what each kind may use.
//!
//! A kind is a set of groups with the same deadline, release, mean-floor job and allowed deployments.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::cells::{self, Cell, Cells};
use super::held;
use super::power::{cap_steps, power_room, room_beside_nodes};
use super::windows::{Window, windows};
use crate::domain::{
    AccuracyRule, Cluster, Deployment, FamilyModel, Features, Goal, Rates, Steps, Workload, dot, features,
};
use crate::options::Options;

/// Joules in a kWh.
const KWH: f64 = 3.6e6;

/// Share of a mean floor that rounding may take: it may be the accuracy of the very model that serves all. `check` allows as much.
const FLOOR_SLACK: f64 = 1e-11;

/// Requests that differ in length only.
#[derive(Clone, Debug)]
pub struct Kind {
    pub deadline: f64,
    pub release: f64,
    /// Windows its work may be done in: `first_window..end_window`.
    pub first_window: usize,
    pub end_window: usize,
    /// The job whose mean floor its accuracy counts towards.
    pub mean_job: Option<usize>,
    /// Allowed deployments, ascending.
    pub options: Vec<usize>,
    /// For each option: deadline less release or readiness, the longest a request may hold its slot.
    pub slot_limit: Vec<f64>,
    /// For each option: accuracy in percent where `mean_job` is set, else 0.
    pub accuracy: Vec<f64>,
    pub requests: usize,
    pub max_input: u32,
    pub max_output: u32,
}

/// Kinds with the same windows, mean-floor job and options.
#[derive(Clone, Debug)]
pub struct Cohort {
    /// A kind of it, for what they share.
    pub kind: usize,
    /// For each option: the least slot limit among its kinds.
    pub slot_limit: Vec<f64>,
    pub max_input: u32,
    pub max_output: u32,
}

pub struct PlanProblem<'a> {
    pub workload: &'a Workload,
    pub cluster: &'a Cluster,
    pub options: &'a Options,
    pub models: &'a [FamilyModel],
    pub safety: f64,
    pub goal: Goal,
    /// g: what a joule costs over time, in units of the goal; `None` where the joules themselves are minimised.
    pub weights: Option<Steps>,
    pub windows: Vec<Window>,
    /// g_w: the least weight in each window.
    pub(super) window_weights: Vec<f64>,
    pub kinds: Vec<Kind>,
    /// Kind of each group.
    pub kind_of_group: Vec<u32>,
    /// Kinds that differ only in times the windows do not tell apart, by their first kind: the relaxation sees one.
    pub cohorts: Vec<Cohort>,
    /// Cohort of each kind.
    pub cohort_of_kind: Vec<u32>,
    /// Watts the power cap leaves beside nodes that never sleep and what others draw; `None` without a cap.
    pub(super) power_room: Option<Steps>,
    /// Earliest second an instance of each deployment can start.
    pub(super) earliest: Vec<f64>,
    /// f_j * N_j by job, less what rounding may take; `None` without a mean floor.
    pub floor_points: Vec<Option<f64>>,
    pub requests_of_job: Vec<usize>,
    pub cells: Cells,
    /// Least input and least output tokens of any request.
    pub shortest: (u32, u32),
}

impl<'a> PlanProblem<'a> {
    pub fn new(
        workload: &'a Workload,
        cluster: &'a Cluster,
        models: &'a [FamilyModel],
        options: &'a Options,
        safety: f64,
    ) -> Self {
        Self::with_goal(workload, cluster, models, options, safety, Goal::Energy)
    }

    /// As `new`, for another goal than energy. A series that the site lacks weighs every joule as 1.
    pub fn with_goal(
        workload: &'a Workload,
        cluster: &'a Cluster,
        models: &'a [FamilyModel],
        options: &'a Options,
        safety: f64,
        goal: Goal,
    ) -> Self {
        let weights = weights(cluster, goal);
        let room = power_room(cluster);
        let windows = windows(workload, cluster, [weights.as_ref(), cap_steps(cluster, &room)]);
        Self::over(windows, weights, room, workload, cluster, models, options, safety, goal)
    }

    /// The same problem with all of the cap, as if others drew nothing; `None` where that is the problem itself.
    pub fn without_background(&self) -> Option<Self> {
        let Self { workload, cluster, options, models, safety, goal, .. } = *self;
        let site = &cluster.site;
        site.background.as_ref().filter(|_| site.power_cap.is_some())?;
        let room = room_beside_nodes(cluster);
        let windows = windows(workload, cluster, [self.weights.as_ref(), cap_steps(cluster, &room)]);
        Some(Self::over(windows, self.weights.clone(), room, workload, cluster, models, options, safety, goal))
    }

    /// The same problem over windows that know no steps of the weights, where that makes a difference: a relaxation.
    pub fn without_steps(&self) -> Option<Self> {
        let Self { workload, cluster, options, models, safety, goal, .. } = *self;
        let room = self.power_room.clone();
        let windows = windows(workload, cluster, [None, cap_steps(cluster, &room)]);
        let fewer = self.is_weighted() && windows.len() < self.windows.len();
        fewer.then(|| Self::over(windows, self.weights.clone(), room, workload, cluster, models, options, safety, goal))
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the problem, from two constructors")]
    fn over(
        windows: Vec<Window>,
        weights: Option<Steps>,
        power_room: Option<Steps>,
        workload: &'a Workload,
        cluster: &'a Cluster,
        models: &'a [FamilyModel],
        options: &'a Options,
        safety: f64,
        goal: Goal,
    ) -> Self {
        let least = |window: &Window| weights.as_ref().map_or(1.0, |weights| weights.least(window.start, window.end));
        let window_weights = windows.iter().map(least).collect();
        let mut requests_of_group = vec![0usize; workload.groups.len()];
        let mut longest = vec![(0u32, 0u32); workload.groups.len()];
        let requests = &workload.requests;
        for (r, &group) in requests.group.iter().enumerate() {
            let group = group as usize;
            requests_of_group[group] += 1;
            longest[group].0 = longest[group].0.max(requests.input_tokens[r]);
            longest[group].1 = longest[group].1.max(requests.output_tokens[r]);
        }
        let mut requests_of_job = vec![0; workload.jobs.len()];
        for (group, count) in workload.groups.iter().zip(&requests_of_group) {
            requests_of_job[group.job] += count;
        }
        let floor_points = workload
            .jobs
            .iter()
            .zip(&requests_of_job)
            .map(|(job, &count)| {
                let mean = job.floor.filter(|f| f.rule == AccuracyRule::Mean)?;
                Some((1.0 - FLOOR_SLACK) * mean.percent * count as f64)
            })
            .collect::<Vec<_>>();

        let least = |tokens: &[u32]| tokens.iter().copied().min().unwrap_or(0);
        let shortest = (least(&requests.input_tokens), least(&requests.output_tokens));

        let mut problem = Self {
            workload,
            cluster,
            options,
            models,
            safety,
            goal,
            weights,
            windows,
            window_weights,
            kinds: Vec::new(),
            kind_of_group: Vec::new(),
            cohorts: Vec::new(),
            cohort_of_kind: Vec::new(),
            power_room,
            earliest: Vec::new(),
            floor_points,
            requests_of_job,
            cells: Cells::default(),
            shortest,
        };
        problem.earliest = problem.earliest_starts();
        let mut known: BTreeMap<(u64, u64, Option<usize>, Vec<usize>), usize> = BTreeMap::new();
        for (g, group) in workload.groups.iter().enumerate() {
            let allowed: Vec<usize> =
                options.allowed[g].iter().enumerate().filter(|(_, allowed)| **allowed).map(|(v, _)| v).collect();
            let mean_job = problem.floor_points[group.job].map(|_| group.job);
            let key = (group.deadline.0.to_bits(), group.release.0.to_bits(), mean_job, allowed);
            let kind = *known.entry(key).or_insert_with_key(|(_, _, _, allowed)| {
                problem.kinds.push(problem.kind(group.deadline.0, group.release.0, mean_job, allowed));
                problem.kinds.len() - 1
            });
            problem.kind_of_group.push(kind as u32);
            let kind = &mut problem.kinds[kind];
            kind.requests += requests_of_group[g];
            kind.max_input = kind.max_input.max(longest[g].0);
            kind.max_output = kind.max_output.max(longest[g].1);
        }
        problem.gather_cohorts();
        problem.cells = Cells::new(
            cells::RATIO,
            requests.len(),
            |request| problem.cohort_of(request),
            |request| problem.lengths(request),
        );
        problem
    }

    fn gather_cohorts(&mut self) {
        let mut known = BTreeMap::new();
        let mut cohorts: Vec<Cohort> = Vec::new();
        for (index, kind) in self.kinds.iter().enumerate() {
            let key = (kind.first_window, kind.end_window, kind.mean_job, &kind.options[..]);
            let cohort = *known.entry(key).or_insert_with(|| {
                let slot_limit = kind.slot_limit.clone();
                cohorts.push(Cohort { kind: index, slot_limit, max_input: 0, max_output: 0 });
                cohorts.len() - 1
            });
            self.cohort_of_kind.push(cohort as u32);
            let cohort = &mut cohorts[cohort];
            cohort.max_input = cohort.max_input.max(kind.max_input);
            cohort.max_output = cohort.max_output.max(kind.max_output);
            for (least, &limit) in cohort.slot_limit.iter_mut().zip(&kind.slot_limit) {
                *least = least.min(limit);
            }
        }
        self.cohorts = cohorts;
    }

    fn kind(&self, deadline: f64, release: f64, mean_job: Option<usize>, allowed: &[usize]) -> Kind {
        let slot_limit = allowed.iter().map(|&v| deadline - release.max(self.ready(v))).collect();
        let accuracy =
            allowed.iter().map(|&v| mean_job.and_then(|job| self.options.accuracy[job][v]).unwrap_or(0.0)).collect();
        // Rounded outwards where events were dropped. A release past the deadline leaves no time: its slot limits say so.
        let first_window = self.windows.iter().rposition(|w| w.start <= release).unwrap_or(0);
        let last_window = self.windows.iter().position(|w| w.end >= deadline).unwrap_or(self.windows.len() - 1);
        Kind {
            deadline,
            release,
            first_window,
            end_window: last_window.max(first_window) + 1,
            mean_job,
            options: allowed.to_vec(),
            slot_limit,
            accuracy,
            requests: 0,
            max_input: 0,
            max_output: 0,
        }
    }

    pub fn deployments(&self) -> &'a [Deployment] {
        &self.options.deployments
    }

    /// Earliest second an instance of `v` can serve: wake of its node, or devices that others hold, and load.
    pub fn ready(&self, v: usize) -> f64 {
        self.earliest(v) + self.deployments()[v].load_time.0
    }

    /// Whether others hold devices at the start.
    pub fn others_hold(&self) -> bool {
        self.cluster.pools.iter().any(|pool| !pool.devices_held.is_empty())
    }

    /// Earliest second an instance of `v` can start.
    pub fn earliest(&self, v: usize) -> f64 {
        self.earliest[v]
    }

    fn earliest_starts(&self) -> Vec<f64> {
        let of = |deployment: &Deployment| {
            let pool = &self.cluster.pools[deployment.pool];
            self.wake(deployment.pool).max(held::earliest(pool, deployment.devices))
        };
        self.deployments().iter().map(of).collect()
    }

    /// Seconds before an instance can start in a pool: its nodes sleep until the plan wakes them.
    pub fn wake(&self, pool: usize) -> f64 {
        let pool = &self.cluster.pools[pool];
        if pool.suspend { pool.wake_time.0 } else { 0.0 }
    }

    /// g_w: what a joule costs in a window, at least.
    pub fn weight(&self, window: usize) -> f64 {
        self.window_weights[window]
    }

    pub fn is_weighted(&self) -> bool {
        self.weights.is_some()
    }

    /// Mean weight of a joule over an interval.
    pub fn mean_weight(&self, from: f64, to: f64) -> f64 {
        self.weights.as_ref().map_or(1.0, |weights| weights.mean(from, to))
    }

    /// The cheapest window for work of `energy` joules and `seconds` at prices of a second by window: weight times
    /// energy and price times seconds, least; the last of several.
    pub fn cheapest_window(&self, kind: &Kind, energy: f64, seconds: f64, price: &[f64]) -> Option<(usize, f64)> {
        let cost = |w: usize| self.weight(w) * energy + price[w] * seconds;
        let windows = (kind.first_window..kind.end_window).rev().map(|w| (w, cost(w)));
        windows.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// What a start of `v` in a window costs at least: its load begins there, its tail comes later.
    pub fn start_cost(&self, v: usize, window: usize) -> f64 {
        let deployment = &self.deployments()[v];
        let Some(weights) = &self.weights else { return deployment.start_energy().0 };
        let Window { start, end } = self.windows[window];
        deployment.load_energy.0 * weights.least_mean(start, end, deployment.load_time.0)
            + deployment.tail_energy.0 * weights.least(start, self.horizon())
    }

    /// What any start of `v` costs at least.
    pub fn least_start_cost(&self, v: usize) -> f64 {
        (0..self.windows.len()).map(|w| self.start_cost(v, w)).fold(f64::INFINITY, f64::min)
    }

    /// What a wake that begins in a window costs at least.
    pub fn wake_cost(&self, pool: usize, window: usize) -> f64 {
        let energy = self.net_wake_energy(pool);
        let Some(weights) = &self.weights else { return energy };
        energy * weights.least_mean(self.windows[window].start, self.windows[window].end, self.wake(pool))
    }

    /// B_p: watts billed per powered node; 0 if it cannot sleep.
    pub fn billed_power(&self, pool: usize) -> f64 {
        let pool = &self.cluster.pools[pool];
        if pool.suspend { pool.standing_power().map_or(0.0, |power| power.0) } else { 0.0 }
    }

    /// Omega_p net of what is billed meanwhile.
    pub fn net_wake_energy(&self, p: usize) -> f64 {
        let pool = &self.cluster.pools[p];
        if pool.suspend { (pool.wake_energy.0 - self.billed_power(p) * pool.wake_time.0).max(0.0) } else { 0.0 }
    }

    /// Whether everything that may be done in window `w + 1` may as well be done in `w`, at the same cost.
    pub fn carries(&self, w: usize) -> bool {
        w + 1 < self.windows.len()
            && self.weight(w) == self.weight(w + 1)
            && self.power_room.is_none()
            && self.cluster.pools.iter().all(|pool| held::is_free(pool, self.windows[w].start))
            && self.cohorts.iter().all(|cohort| self.kinds[cohort.kind].first_window != w + 1)
    }

    /// Watts the power cap leaves beside nodes that never sleep and what others draw, over time; `None` without a cap.
    pub fn power_room(&self) -> Option<&Steps> {
        self.power_room.as_ref()
    }

    /// The most of it in a window.
    pub fn window_room(&self, window: usize) -> Option<f64> {
        let Window { start, end } = self.windows[window];
        Some(self.power_room.as_ref()?.most(start, end))
    }

    /// Watts of a waking node beyond its standing power.
    pub fn waking_power(&self, pool: usize) -> f64 {
        let wake = self.wake(pool);
        if wake > 0.0 { self.net_wake_energy(pool) / wake } else { 0.0 }
    }

    pub fn horizon(&self) -> f64 {
        self.windows.last().map_or(0.0, |window| window.end)
    }

    pub fn kind_of(&self, request: usize) -> usize {
        self.kind_of_group[self.workload.requests.group[request] as usize] as usize
    }

    pub fn cohort_of(&self, request: usize) -> usize {
        self.cohort_of_kind[self.kind_of(request)] as usize
    }

    pub fn lengths(&self, request: usize) -> (u32, u32) {
        let requests = &self.workload.requests;
        (requests.input_tokens[request], requests.output_tokens[request])
    }

    /// Whether deployment number `option` of `kind` can serve a request of these lengths.
    pub fn can_serve(&self, kind: &Kind, option: usize, input: u32, output: u32) -> bool {
        let deployment = &self.deployments()[kind.options[option]];
        deployment.fits(input, output) && deployment.rates.slot_seconds(input, output) <= kind.slot_limit[option]
    }

    /// Rates of an instance of `v` that serves `count` requests.
    pub fn rates_for(&self, v: usize, count: usize) -> Rates {
        self.deployments()[v].rates_for(&self.models[self.options.model[v]], count, self.safety)
    }

    /// S: seconds of all the work each deployment could be given, whatever the others do.
    pub fn total_work(&self) -> Vec<f64> {
        let of_cells: Vec<Features> = self.cells.list.par_iter().map(|cell| self.sums(cell, |_| true)).collect();
        (0..self.deployments().len())
            .into_par_iter()
            .map(|v| {
                let deployment = &self.deployments()[v];
                let allows = |kind: &Kind| kind.options.binary_search(&v).is_ok();
                let allowed: Vec<bool> = self.cohorts.iter().map(|cohort| allows(&self.kinds[cohort.kind])).collect();
                let mut sums = [0.0; 6];
                for (cell, of_cell) in self.cells.list.iter().zip(&of_cells) {
                    if !allowed[cell.key.cohort()] || !deployment.fits(cell.input.0, cell.output.0) {
                        continue;
                    }
                    let all_fit = deployment.fits(cell.input.1, cell.output.1);
                    let fitting = |lengths: (u32, u32)| deployment.fits(lengths.0, lengths.1);
                    let of_cell = if all_fit { *of_cell } else { self.sums(cell, fitting) };
                    sums.iter_mut().zip(of_cell).for_each(|(sum, value)| *sum += value);
                }
                // Never less than the true sum, whatever the rounding.
                dot(&deployment.rates.busy_time, &sums) * (1.0 + 1e-9)
            })
            .collect()
    }

    /// Sums of the features of those requests of a cell whose lengths are `counted`.
    fn sums(&self, cell: &Cell, counted: impl Fn((u32, u32)) -> bool) -> Features {
        let mut sums = [0.0; 6];
        let members = self.cells.lengths[cell.first..cell.first + cell.count].iter();
        for &(input, output) in members.filter(|lengths| counted(**lengths)) {
            let of_request = features(f64::from(input), f64::from(output));
            sums.iter_mut().zip(of_request).for_each(|(sum, value)| *sum += value);
        }
        sums
    }

    /// Deployments that some kind may use and some node can hold.
    pub fn offered(&self) -> Vec<bool> {
        (0..self.deployments().len())
            .map(|v| {
                let allows = |cohort: &Cohort| self.kinds[cohort.kind].options.binary_search(&v).is_ok();
                (0..self.windows.len()).any(|w| self.most_alive(v, w) > 0) && self.cohorts.iter().any(allows)
            })
            .collect()
    }

    /// Least seconds that any instance of `v` lives: its load and the shortest request, alone in its batch.
    pub fn shortest_use(&self, v: usize) -> f64 {
        let (input, output) = self.shortest;
        self.deployments()[v].load_time.0 + self.rates_for(v, 1).slot_seconds(input, output)
    }

    /// Most instances of `v` at once in a window: what devices and the power cap allow.
    pub fn most_alive(&self, v: usize, window: usize) -> usize {
        let deployment = &self.deployments()[v];
        let pool = &self.cluster.pools[deployment.pool];
        let most = held::most(pool, deployment.devices, self.windows[window].end);
        let Some(room) = self.window_room(window) else { return most };
        let share = f64::from(deployment.devices) / f64::from(pool.devices_per_node);
        let power = deployment.net_peak_power() + share * self.billed_power(deployment.pool);
        if power * most as f64 <= room { most } else { (room.max(0.0) / power + 1e-9) as usize }
    }

    /// Most instances of `v` at once, whenever that is.
    pub fn most_instances(&self, v: usize) -> usize {
        let deployment = &self.deployments()[v];
        held::most(&self.cluster.pools[deployment.pool], deployment.devices, f64::INFINITY)
    }
}

/// Grams or money per joule over time.
fn weights(cluster: &Cluster, goal: Goal) -> Option<Steps> {
    let site = &cluster.site;
    let per_kwh = match goal {
        Goal::Energy => return None,
        Goal::Carbon => site.carbon.as_ref(),
        Goal::Cost => site.price.as_ref(),
    };
    per_kwh.map(|per_kwh| per_kwh.scaled(site.pue.unwrap_or(1.0) / KWH))
}

//! Small problems solved exactly: the bound never lies above the optimum, the plan never below it, and the plan keeps
//! the gap it reports.
//!
//! The optimum is found by enumeration at request level: every assignment of requests to deployments, every partition
//! into instances, every order of starting them and every choice of nodes, each instance as early as its devices allow.
//!
//! Under a power cap, or where grams are minimised, instances also wait: for power, or for a start at which something of
//! them begins or ends with a step of the carbon intensity. Waiting in chains is left out, so that the best found is then
//! an upper end of the optimum; its lower end is each instance at its own best time, whatever the others do.

#[path = "plan_brute_force/like_lengths.rs"]
mod like_lengths;
#[path = "plan_brute_force/limits.rs"]
mod limits;
#[path = "plan_brute_force/loosening.rs"]
mod loosening;
#[path = "plan_brute_force/straddling.rs"]
mod straddling;

use std::collections::BTreeMap;
use std::time::Duration;

use jouleplan::check::{CheckInput, check};
use jouleplan::domain::{
    AccuracyRule, AccuracyTable, BatchPoint, Box2, Cluster, Deployment, DeviceKind, FamilyKey, FamilyModel, Feature,
    Figure, Floor, Form, Goal, Group, Job, Parallel, Pool, Provenance, Quality, RequestIds, Requests, Site,
    SlurmTarget, Steps, Term, Workload,
};
use jouleplan::options::{Options, OptionsInput, build};
use jouleplan::plan::{PlanProblem, Settings, Verdict, solve};
use jouleplan::report::claims::{Proof, of_schedule};
use jouleplan::units::{Bytes, Joules, Seconds, Watts};
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

const CASES: u64 = 125;

#[test]
fn the_bound_is_below_and_the_plan_above_the_optimum() {
    compare(|_, _| {});
}

#[test]
fn and_on_one_node_that_sleeps() {
    compare(|small, _| small.let_one_node_sleep());
}

#[test]
fn and_where_grams_of_two_windows_count() {
    compare(|small, rng| small.weigh(rng));
}

#[test]
fn and_under_a_power_cap() {
    compare(|small, rng| small.cap(rng));
}

#[test]
fn and_under_a_power_cap_where_grams_count() {
    compare(|small, rng| {
        small.weigh(rng);
        small.cap(rng);
    });
}

fn compare(change: impl Fn(&mut Small, &mut ChaCha8Rng)) {
    let (mut planned, mut infeasible, mut unknown) = (0, 0, 0);
    for seed in 0..CASES {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut small = Small::new(&mut rng);
        change(&mut small, &mut rng);
        let options = small.options();
        let Small { workload, cluster, models, accuracy, .. } = &small;
        let problem = PlanProblem::with_goal(workload, cluster, models, &options, 0.0, small.goal());
        let (lower, optimum) = Enumeration::new(&small, &options).optimum();
        let settings = Settings { gap: 1e-4, time_limit: Duration::from_secs(1), ..Settings::default() };
        let verdict =
            solve(&problem, &settings, None, &mut |_| {}).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        if let Verdict::Planned(plan) = &verdict {
            let claims = of_schedule(&problem, &plan.priced, Proof::of(plan));
            let report = check(&CheckInput { workload, cluster, models, accuracy, plan: &claims });
            assert!(report.is_valid(), "seed {seed}: {:#?}", report.violations);
        }
        match (verdict, optimum) {
            (Verdict::Planned(plan), Some(optimum)) => {
                let objective = plan.priced.objective();
                assert!(plan.bound <= optimum * (1.0 + 1e-9), "seed {seed}: bound {} above {optimum}", plan.bound);
                assert!(objective >= lower * (1.0 - 1e-9), "seed {seed}: plan {objective} below {lower}");
                assert!(objective * (1.0 - plan.gap) <= optimum * (1.0 + 1e-9), "seed {seed}: outside its own gap");
                planned += 1;
            }
            (Verdict::Planned(plan), None) => {
                panic!("seed {seed}: {} for what cannot be done", plan.priced.objective())
            }
            (Verdict::Infeasible(why), Some(optimum)) => panic!("seed {seed}: {why:?}, yet {optimum} do it"),
            (Verdict::Infeasible(_), None) => infeasible += 1,
            (Verdict::Unknown(_), _) => unknown += 1,
        }
    }
    assert!(planned > CASES / 2 && infeasible > 0, "{planned} planned, {infeasible} infeasible, {unknown} unknown");
    // Waiting for power is bin packing, too.
    assert!(unknown <= CASES / 8, "{unknown} of {CASES} unknown");
}

struct Small {
    workload: Workload,
    cluster: Cluster,
    models: Vec<FamilyModel>,
    accuracy: AccuracyTable,
}

impl Small {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        let pools: Vec<Pool> = (0..rng.random_range(1..=2)).map(|index| pool(rng, index)).collect();
        let models: Vec<FamilyModel> = pools
            .iter()
            .flat_map(|pool| (0..2).map(|m| (pool.clone(), m)).collect::<Vec<_>>())
            .map(|(p, m)| family(rng, &p, m))
            .collect();
        let jobs: Vec<Job> = (0..rng.random_range(1..=2)).map(|index| job(rng, index)).collect();
        let groups = jobs.iter().enumerate().map(|(index, job)| Group {
            job: index,
            deadline: job.deadline,
            release: job.release,
            own_floor: None,
            pinned_models: None,
        });
        let groups: Vec<Group> = groups.collect();
        let n = rng.random_range(2..=4);
        let requests = Requests {
            input_tokens: (0..n).map(|_| rng.random_range(0..500)).collect(),
            output_tokens: (0..n).map(|_| rng.random_range(1..300)).collect(),
            group: (0..n).map(|r| (r % groups.len()) as u32).collect(),
            ids: RequestIds::Rows(vec![(String::new(), 0)]),
        };
        let mut accuracy = AccuracyTable::default();
        for (model, percent) in [("model0", 50.0), ("model1", 80.0)] {
            accuracy.percent.insert((model.into(), "task".into()), percent);
        }
        let workload = Workload {
            jobs,
            groups,
            requests,
            input_provenance: Provenance::Imported,
            output_provenance: Provenance::Imported,
            output_spread: None,
        };
        Self { workload, cluster: Cluster { pools, site: Site::default() }, models, accuracy }
    }

    /// Two carbon intensities, the second cheaper more often than not.
    fn weigh(&mut self, rng: &mut ChaCha8Rng) {
        let (first, second) = (rng.random_range(150.0..400.0), rng.random_range(50.0..350.0));
        self.cluster.site.carbon = Steps::new(&[(0.0, first), (rng.random_range(5.0..40.0), second)], f64::INFINITY);
        self.cluster.site.pue = Some(1.25);
    }

    /// Nothing but one node of the first pool, which can sleep.
    fn let_one_node_sleep(&mut self) {
        self.cluster.pools.truncate(1);
        let pool = &mut self.cluster.pools[0];
        pool.nodes.truncate(1);
        if !pool.suspend {
            (pool.suspend, pool.wake_time, pool.wake_energy) = (true, Seconds(5.0), Joules(3000.0));
        }
    }

    /// Room for some of what the devices could draw, and for more or less later.
    fn cap(&mut self, rng: &mut ChaCha8Rng) {
        let mut cap = |pools: &[Pool]| -> f64 {
            let standing = pools.iter().map(|pool| pool.standing_power().unwrap().0 * pool.nodes.len() as f64);
            let devices: usize = pools.iter().map(|pool| pool.nodes.len() * pool.devices_per_node as usize).sum();
            standing.sum::<f64>() + 450.0 * devices as f64 * rng.random_range(0.4..1.1)
        };
        let (first, second) = (cap(&self.cluster.pools), cap(&self.cluster.pools));
        self.cluster.site.power_cap = Steps::new(&[(0.0, first), (rng.random_range(5.0..40.0), second)], f64::INFINITY);
    }

    fn goal(&self) -> Goal {
        match &self.cluster.site {
            Site { carbon: Some(_), .. } => Goal::Carbon,
            Site { price: Some(_), .. } => Goal::Cost,
            _ => Goal::Energy,
        }
    }

    fn options(&self) -> Options {
        build(&OptionsInput {
            workload: &self.workload,
            cluster: &self.cluster,
            models: &self.models,
            accuracy: &self.accuracy,
            safety: 0.0,
        })
        .expect("few deployments")
    }
}

fn pool(rng: &mut ChaCha8Rng, index: usize) -> Pool {
    let suspend = rng.random_bool(0.4);
    Pool {
        name: format!("pool{index}"),
        nodes: (0..rng.random_range(1..=2)).map(|node| format!("p{index}n{node}")).collect(),
        device: format!("device{index}"),
        kind: DeviceKind::Gpu,
        devices_per_node: rng.random_range(1..=2),
        devices_busy: BTreeMap::new(),
        devices_held: BTreeMap::new(),
        device_memory: Bytes::from_gib(40.0),
        host_memory: None,
        cpus_per_device: None,
        idle_power: Figure::estimated(Watts(50.0)),
        base_power: Some(Watts(rng.random_range(100.0..300.0))),
        suspend,
        wake_time: Seconds(if suspend { rng.random_range(0.0..20.0) } else { 0.0 }),
        wake_energy: Joules(if suspend { rng.random_range(0.0..9000.0) } else { 0.0 }),
        clock_control: false,
        storage_gib_per_s: None,
        slurm: SlurmTarget::default(),
    }
}

fn family(rng: &mut ChaCha8Rng, pool: &Pool, model: usize) -> FamilyModel {
    let devices = rng.random_range(1..=pool.devices_per_node);
    let idle = 50.0 * f64::from(devices);
    let dearer = 1.0 + 2.0 * model as f64;
    let mut term = |feature: Feature, seconds: f64| {
        let seconds = seconds * dearer * rng.random_range(0.5..1.5);
        let watts = idle + rng.random_range(100.0..400.0);
        let fitted = |value| Term::fitted(feature.clone(), value, Provenance::Imported);
        (fitted(seconds * watts), fitted(seconds))
    };
    let terms = [term(Feature::OutputPerBatch, 0.02), term(Feature::Output, 0.004), term(Feature::Input, 0.001)];
    let quality = Quality {
        samples: 3,
        r2: None,
        r2_uncentred: None,
        cv_mape: None,
        error_factors: None,
        negative_predictions: 0,
    };
    let caps: &[u32] = if rng.random_bool(0.5) { &[1] } else { &[1, 3] };
    FamilyModel {
        key: FamilyKey {
            model: format!("model{model}"),
            precision: "bfloat16".into(),
            device: pool.device.clone(),
            devices,
            parallel: Parallel::tensor(devices),
            kv_cache: true,
            engine: "engine".into(),
        },
        form: Form::Phase,
        energy: terms.iter().map(|(energy, _)| energy.clone()).collect(),
        runtime: terms.iter().map(|(_, runtime)| runtime.clone()).collect(),
        energy_quality: quality,
        runtime_quality: quality,
        support: Box2::default(),
        clocks: None,
        batch_points: caps
            .iter()
            .map(|&cap| BatchPoint {
                max_num_seqs: cap,
                batch_size: (f64::from(cap) - 0.4).max(1.0),
                ttft_p99: None,
                tbt_p50: None,
                tbt_p99: None,
            })
            .collect(),
        idle_power: Figure::estimated(Watts(idle)),
        load_time: Figure::estimated(Seconds(rng.random_range(1.0..10.0))),
        load_power: Figure::estimated(Watts(idle * 1.5)),
        weights: Some(Figure::estimated(Bytes::from_gib(10.0))),
        kv_bytes_per_token: Some(Figure::estimated(Bytes(1e5))),
        correction: None,
    }
}

fn job(rng: &mut ChaCha8Rng, index: usize) -> Job {
    Job {
        name: format!("job{index}"),
        task: Some("task".into()),
        floor: rng.random_bool(0.5).then(|| Floor { percent: rng.random_range(45.0..82.0), rule: AccuracyRule::Mean }),
        deadline: Seconds(rng.random_range(15.0..80.0)),
        release: Seconds(0.0),
        models: None,
        pools: None,
        max_ttft: None,
        max_tbt: None,
    }
}

/// An instance to be: its deployment and its requests.
type Block = (usize, Vec<usize>);

struct Enumeration<'a> {
    small: &'a Small,
    options: &'a Options,
    /// (second, grams per joule from then on); one step of 1 where joules count.
    weights: Vec<(f64, f64)>,
    best: Option<f64>,
    /// Least over all assignments of what each instance costs by itself.
    least: f64,
}

/// What a block does when started at 0: (begin, end, joules).
type Course = Vec<(f64, f64, f64)>;

impl<'a> Enumeration<'a> {
    fn new(small: &'a Small, options: &'a Options) -> Self {
        let site = &small.cluster.site;
        let weights = match &site.carbon {
            Some(carbon) => carbon.iter().map(|(second, grams)| (second, 1.25 * grams / 3.6e6)).collect(),
            None => vec![(0.0, 1.0)],
        };
        Self { small, options, weights, best: None, least: f64::INFINITY }
    }

    /// The optimum lies between the two; they are one where neither cap nor weights ask for waiting.
    fn optimum(mut self) -> (f64, Option<f64>) {
        self.add_request(0, &mut Vec::new());
        let site = &self.small.cluster.site;
        match self.best {
            Some(best) if site.carbon.is_none() && site.power_cap.is_none() => (best, Some(best)),
            best => (self.least, best),
        }
    }

    /// Request `r` joins each instance so far, or begins one of each deployment.
    fn add_request(&mut self, r: usize, blocks: &mut Vec<Block>) {
        if r == self.small.workload.requests.len() {
            if self.floors_hold(blocks) {
                let costs: Vec<Option<f64>> = blocks.iter().map(|block| self.cost_alone(block)).collect();
                let Some(costs) = costs.into_iter().collect::<Option<Vec<f64>>>() else { return };
                let total: f64 = costs.iter().sum();
                self.least = self.least.min(total);
                self.start_next(0.0, &costs, blocks, &mut vec![false; blocks.len()], &mut Vec::new());
            }
            return;
        }
        for index in 0..blocks.len() {
            if self.may_serve(r, blocks[index].0) {
                blocks[index].1.push(r);
                self.add_request(r + 1, blocks);
                blocks[index].1.pop();
            }
        }
        for v in 0..self.options.deployments.len() {
            if self.may_serve(r, v) {
                blocks.push((v, vec![r]));
                self.add_request(r + 1, blocks);
                blocks.pop();
            }
        }
    }

    fn deployment(&self, v: usize) -> &'a Deployment {
        &self.options.deployments[v]
    }

    fn lengths(&self, r: usize) -> (u32, u32) {
        let requests = &self.small.workload.requests;
        (requests.input_tokens[r], requests.output_tokens[r])
    }

    fn deadline(&self, r: usize) -> f64 {
        let workload = &self.small.workload;
        workload.groups[workload.requests.group[r] as usize].deadline.0
    }

    fn wake(&self, pool: usize) -> f64 {
        let pool = &self.small.cluster.pools[pool];
        if pool.suspend { pool.wake_time.0 } else { 0.0 }
    }

    /// Allowed, fitting memory, and in time at the full batch.
    fn may_serve(&self, r: usize, v: usize) -> bool {
        let group = self.small.workload.requests.group[r] as usize;
        let (input, output) = self.lengths(r);
        let deployment = self.deployment(v);
        let ready = self.wake(deployment.pool) + deployment.load_time.0;
        self.options.allowed[group][v]
            && deployment.fits(input, output)
            && ready + deployment.rates.slot_seconds(input, output) <= self.deadline(r)
    }

    fn floors_hold(&self, blocks: &[Block]) -> bool {
        let workload = &self.small.workload;
        workload.jobs.iter().enumerate().all(|(index, job)| {
            let Some(floor) = job.floor else { return true };
            let of_job = |r: &&usize| workload.groups[workload.requests.group[**r] as usize].job == index;
            let percents: Vec<f64> = blocks
                .iter()
                .flat_map(|(v, requests)| {
                    requests.iter().filter(of_job).map(|_| self.options.accuracy[index][*v].unwrap())
                })
                .collect();
            percents.is_empty() || percents.iter().sum::<f64>() / percents.len() as f64 >= floor.percent
        })
    }

    /// What a block does when started at 0, its drain last, and the latest start that keeps its deadlines.
    fn course(&self, block: &Block) -> (Course, f64) {
        let deployment = self.deployment(block.0);
        let rates = deployment.rates_for(&self.small.models[self.options.model[block.0]], block.1.len(), 0.0);
        let seconds = |r: usize| rates.slot_seconds(self.lengths(r).0, self.lengths(r).1);
        let mut order = block.1.clone();
        order.sort_by(|&a, &b| {
            (self.deadline(a).total_cmp(&self.deadline(b))).then(seconds(b).total_cmp(&seconds(a))).then(a.cmp(&b))
        });
        let load = deployment.load_time.0;
        let mut course = vec![(0.0, load, deployment.load_energy.0)];
        let mut slots = vec![load; rates.slots()];
        let mut latest = f64::INFINITY;
        for r in order {
            let slot = (0..slots.len()).min_by(|&a, &b| slots[a].total_cmp(&slots[b])).unwrap();
            let begin = slots[slot];
            slots[slot] += seconds(r);
            latest = f64::min(latest, self.deadline(r) - slots[slot]);
            course.push((begin, slots[slot], rates.energy(self.lengths(r).0, self.lengths(r).1)));
        }
        let end = slots.into_iter().fold(0.0, f64::max);
        course.push((f64::max(load, end - deployment.tail_time.0), end, deployment.tail_energy.0));
        (course, latest)
    }

    /// Mean weight over an interval.
    fn weight(&self, from: f64, to: f64) -> f64 {
        let until = |index: usize| self.weights.get(index + 1).map_or(f64::INFINITY, |next| next.0);
        if to <= from {
            let steps = self.weights.iter().take_while(|(second, _)| *second <= from);
            return steps.last().map_or(self.weights[0].1, |(_, weight)| *weight);
        }
        let part = |(index, &(second, weight)): (usize, &(f64, f64))| {
            weight * (until(index).min(to) - if index == 0 { from } else { second.max(from) }).max(0.0)
        };
        self.weights.iter().enumerate().map(part).sum::<f64>() / (to - from)
    }

    fn cost(&self, course: &Course, start: f64) -> f64 {
        course.iter().map(|&(from, to, joules)| joules * self.weight(start + from, start + to)).sum()
    }

    /// Starts at which something of a block begins or ends with a step of the weights.
    fn aligned(&self, course: &Course) -> Vec<f64> {
        let breaks = course.iter().flat_map(|&(from, to, _)| [from, to]);
        breaks.flat_map(|at| self.weights.iter().skip(1).map(move |(second, _)| second - at)).collect()
    }

    /// At its best time, whatever the others do; `None` if it cannot be in time at all.
    fn cost_alone(&self, block: &Block) -> Option<f64> {
        let (course, latest) = self.course(block);
        let wake = self.wake(self.deployment(block.0).pool);
        let mut starts = self.aligned(&course);
        starts.extend([wake, latest]);
        let starts = starts.into_iter().filter(|start| (wake..=latest + 1e-9).contains(start));
        starts.map(|start| self.cost(&course, start)).min_by(f64::total_cmp)
    }

    /// Starts each instance not yet started next, on each node, at each time that may be best.
    fn start_next(
        &mut self,
        cost: f64,
        alone: &[f64],
        blocks: &[Block],
        started: &mut [bool],
        placed: &mut Vec<Placed>,
    ) {
        let rest: f64 = (0..blocks.len()).filter(|&index| !started[index]).map(|index| alone[index]).sum();
        if self.best.is_some_and(|best| cost + rest >= best) {
            return;
        }
        if placed.len() == blocks.len() {
            let total = cost + self.standing(placed);
            if self.best.is_none_or(|best| total < best) && self.within_cap(placed) {
                self.best = Some(total);
            }
            return;
        }
        for index in 0..blocks.len() {
            if started[index] {
                continue;
            }
            let pool = self.deployment(blocks[index].0).pool;
            for node in 0..self.small.cluster.pools[pool].nodes.len() {
                for (more, next) in self.places(&blocks[index], pool, node, placed) {
                    started[index] = true;
                    placed.push(next);
                    self.start_next(cost + more, alone, blocks, started, placed);
                    placed.pop();
                    started[index] = false;
                }
            }
        }
    }

    /// Cheapest first: as early as devices and power allow, and where grams count every aligned start.
    fn places(&self, block: &Block, pool: usize, node: usize, placed: &[Placed]) -> Vec<(f64, Placed)> {
        let deployment = self.deployment(block.0);
        let (course, latest) = self.course(block);
        let length = course.last().unwrap().1;
        let wake = self.wake(pool);
        let (site, room) = (&self.small.cluster.site, self.small.cluster.pools[pool].devices_per_node);
        let mut starts: Vec<f64> = placed.iter().map(|p| p.end).chain([wake]).collect();
        if let Some(cap) = &site.power_cap {
            starts.extend(cap.iter().map(|(second, _)| second));
            starts.extend(placed.iter().map(|p| p.end + wake));
        }
        if site.carbon.is_some() {
            starts.extend(self.aligned(&course));
        }
        starts.retain(|start| (wake..=latest + 1e-9).contains(start));
        starts.sort_by(f64::total_cmp);
        starts.dedup();
        let here: Vec<&Placed> = placed.iter().filter(|p| p.pool == pool && p.node == node).collect();
        let fits = |start: f64| {
            let end = start + length;
            let used = |at: f64| -> u32 {
                here.iter().filter(|p| p.start <= at + 1e-9 && at + 1e-9 < p.end).map(|p| p.devices).sum()
            };
            let inside = here.iter().map(|p| p.start).filter(|&at| at > start && at < end - 1e-9);
            std::iter::once(start).chain(inside).all(|at| used(at) + deployment.devices <= room)
        };
        let place = |start: f64| Placed {
            pool,
            node,
            devices: deployment.devices,
            peak: deployment.peak_power.map_or(0.0, |peak| peak.0 - deployment.idle_power.0),
            start,
            end: start + length,
        };
        let fitting = starts.into_iter().filter(|&start| fits(start)).map(place);
        let mut places: Vec<(f64, Placed)> = if site.carbon.is_none() && site.power_cap.is_none() {
            fitting.take(1).map(|place| (self.cost(&course, place.start), place)).collect()
        } else {
            fitting.map(|place| (self.cost(&course, place.start), place)).collect()
        };
        places.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.start.total_cmp(&b.1.start)));
        places
    }

    /// When nodes that can sleep are powered: (pool, wake, off), asleep in between where that saves joules.
    fn powered(&self, placed: &[Placed]) -> Vec<(usize, f64, f64)> {
        let mut spans: BTreeMap<(usize, usize), Vec<(f64, f64)>> = BTreeMap::new();
        for p in placed.iter().filter(|p| self.small.cluster.pools[p.pool].suspend) {
            spans.entry((p.pool, p.node)).or_default().push((p.start, p.end));
        }
        let mut powered = Vec::new();
        for ((index, _), mut spans) in spans {
            spans.sort_by(|a, b| a.0.total_cmp(&b.0));
            let pool = &self.small.cluster.pools[index];
            let (power, wake) = (pool.standing_power().unwrap().0, pool.wake_time.0);
            let waking = (pool.wake_energy.0 - power * wake).max(0.0);
            let mut merged: Vec<(f64, f64)> = Vec::new();
            for (start, end) in spans {
                match merged.last_mut() {
                    Some(last) if start - last.1 <= wake || power * (start - last.1 - wake) <= waking => {
                        last.1 = last.1.max(end);
                    }
                    _ => merged.push((start, end)),
                }
            }
            powered.extend(merged.into_iter().map(|(start, end)| (index, start - wake, end)));
        }
        powered
    }

    /// Idle, base and wake energy of nodes that can sleep.
    fn standing(&self, placed: &[Placed]) -> f64 {
        let cost = |(pool, wake, off): (usize, f64, f64)| {
            let pool = &self.small.cluster.pools[pool];
            let (power, seconds) = (pool.standing_power().unwrap().0, pool.wake_time.0);
            let waking = (pool.wake_energy.0 - power * seconds).max(0.0);
            power * (off - wake) * self.weight(wake, off) + waking * self.weight(wake, wake + seconds)
        };
        self.powered(placed).into_iter().map(cost).sum()
    }

    fn within_cap(&self, placed: &[Placed]) -> bool {
        let Some(cap) = &self.small.cluster.site.power_cap else { return true };
        let pools = &self.small.cluster.pools;
        let always = pools.iter().filter(|pool| !pool.suspend);
        let always: f64 = always.map(|pool| pool.standing_power().unwrap().0 * pool.nodes.len() as f64).sum();
        let mut draws: Vec<(f64, f64, f64)> = placed.iter().map(|p| (p.start, p.end, p.peak)).collect();
        for (index, wake, off) in self.powered(placed) {
            let (standing, seconds) = (pools[index].standing_power().unwrap().0, pools[index].wake_time.0);
            draws.push((wake, off, standing));
            if seconds > 0.0 {
                let waking = (pools[index].wake_energy.0 - standing * seconds).max(0.0);
                draws.push((wake, wake + seconds, waking / seconds));
            }
        }
        let limit = |at: f64| cap.iter().take_while(|(second, _)| *second <= at + 1e-9).last().unwrap().1;
        let drawn = |at: f64| -> f64 {
            draws.iter().filter(|(from, to, _)| *from <= at + 1e-9 && at + 1e-9 < *to).map(|(_, _, watts)| watts).sum()
        };
        let instants = draws.iter().map(|(from, _, _)| *from).chain(cap.iter().map(|(second, _)| second));
        instants.into_iter().all(|at| always + drawn(at) <= limit(at) + 1e-6)
    }
}

#[derive(Clone, Copy)]
struct Placed {
    pool: usize,
    node: usize,
    devices: u32,
    /// Beyond the idle power of its devices.
    peak: f64,
    start: f64,
    end: f64,
}

//! Small problems solved exactly: the bound never lies above the optimum, the plan never below it, and the plan keeps
//! the gap it reports.
//!
//! The optimum is found by enumeration at request level: every assignment of requests to deployments, every partition
//! into instances, every order of starting them and every choice of nodes, each instance as early as its devices allow.

#[path = "plan_brute_force/limits.rs"]
mod limits;

use std::collections::BTreeMap;
use std::time::Duration;

use jouleplan::domain::{
    AccuracyRule, AccuracyTable, BatchPoint, Box2, Cluster, Deployment, DeviceKind, FamilyKey, FamilyModel, Feature,
    Figure, Floor, Form, Group, Job, Parallel, Pool, Provenance, Quality, RequestIds, Requests, Site, SlurmTarget,
    Term, Workload,
};
use jouleplan::options::{Options, OptionsInput, build};
use jouleplan::plan::{PlanProblem, Settings, Verdict, solve};
use jouleplan::units::{Bytes, Joules, Seconds, Watts};
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

const CASES: u64 = 150;

#[test]
fn the_bound_is_below_and_the_plan_above_the_optimum() {
    let (mut planned, mut infeasible, mut unknown) = (0, 0, 0);
    for seed in 0..CASES {
        let small = Small::new(&mut ChaCha8Rng::seed_from_u64(seed));
        let options = small.options();
        let problem = PlanProblem::new(&small.workload, &small.cluster, &small.models, &options, 0.0);
        let optimum = Enumeration::new(&small, &options).optimum();
        let settings = Settings { gap: 1e-4, time_limit: Duration::from_secs(3), ..Settings::default() };
        match (solve(&problem, &settings, None, &mut |_| {}).unwrap(), optimum) {
            (Verdict::Planned(plan), Some(optimum)) => {
                let objective = plan.priced.objective();
                assert!(plan.bound <= optimum * (1.0 + 1e-9), "seed {seed}: bound {} above {optimum}", plan.bound);
                assert!(objective >= optimum * (1.0 - 1e-9), "seed {seed}: plan {objective} below {optimum}");
                assert!(objective * (1.0 - plan.gap) <= optimum * (1.0 + 1e-9), "seed {seed}: outside its own gap");
                planned += 1;
            }
            (Verdict::Planned(plan), None) => {
                panic!("seed {seed}: {} for what cannot be done", plan.priced.objective())
            }
            (Verdict::Infeasible(why), Some(optimum)) => panic!("seed {seed}: {why:?}, yet {optimum} J do it"),
            (Verdict::Infeasible(_), None) => infeasible += 1,
            (Verdict::Unknown(_), _) => unknown += 1,
        }
    }
    assert!(planned > CASES / 2 && infeasible > 0, "{planned} planned, {infeasible} infeasible, {unknown} unknown");
    assert!(unknown <= CASES / 10, "{unknown} of {CASES} unknown");
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
        Self { workload, cluster: Cluster { pools, site: Site { pue: None } }, models, accuracy }
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
    best: Option<f64>,
}

impl<'a> Enumeration<'a> {
    fn new(small: &'a Small, options: &'a Options) -> Self {
        Self { small, options, best: None }
    }

    fn optimum(mut self) -> Option<f64> {
        self.add_request(0, &mut Vec::new());
        self.best
    }

    /// Request `r` joins each instance so far, or begins one of each deployment.
    fn add_request(&mut self, r: usize, blocks: &mut Vec<Block>) {
        if r == self.small.workload.requests.len() {
            if self.floors_hold(blocks) {
                let energy: f64 = blocks.iter().map(|block| self.block_energy(block)).sum();
                if self.best.is_none_or(|best| energy < best) {
                    self.start_next(energy, blocks, &mut vec![false; blocks.len()], &mut Vec::new());
                }
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

    fn rates(&self, block: &Block) -> jouleplan::domain::Rates {
        let model = &self.small.models[self.options.model[block.0]];
        self.deployment(block.0).rates_for(model, block.1.len(), 0.0)
    }

    fn block_energy(&self, block: &Block) -> f64 {
        let rates = self.rates(block);
        let active: f64 = block.1.iter().map(|&r| rates.energy(self.lengths(r).0, self.lengths(r).1)).sum();
        active + self.deployment(block.0).start_energy().0
    }

    /// Seconds from start to end, or `None` if a deadline is missed when starting at `start`.
    fn run(&self, block: &Block, start: f64) -> Option<f64> {
        let rates = self.rates(block);
        let seconds = |r: usize| rates.slot_seconds(self.lengths(r).0, self.lengths(r).1);
        let mut order = block.1.clone();
        order.sort_by(|&a, &b| {
            (self.deadline(a).total_cmp(&self.deadline(b))).then(seconds(b).total_cmp(&seconds(a))).then(a.cmp(&b))
        });
        let mut slots = vec![start + self.deployment(block.0).load_time.0; rates.slots()];
        for r in order {
            let slot = (0..slots.len()).min_by(|&a, &b| slots[a].total_cmp(&slots[b])).unwrap();
            slots[slot] += seconds(r);
            if slots[slot] > self.deadline(r) + 1e-9 {
                return None;
            }
        }
        Some(slots.into_iter().fold(0.0, f64::max))
    }

    /// Starts each instance not yet started next, on each node, as early as the devices allow.
    fn start_next(&mut self, energy: f64, blocks: &[Block], started: &mut [bool], placed: &mut Vec<Placed>) {
        if placed.len() == blocks.len() {
            let total = energy + self.standing(placed);
            if self.best.is_none_or(|best| total < best) {
                self.best = Some(total);
            }
            return;
        }
        for index in 0..blocks.len() {
            if started[index] {
                continue;
            }
            let deployment = self.deployment(blocks[index].0);
            for node in 0..self.small.cluster.pools[deployment.pool].nodes.len() {
                let Some(next) = self.earliest(&blocks[index], deployment.pool, node, placed) else { continue };
                started[index] = true;
                placed.push(next);
                self.start_next(energy, blocks, started, placed);
                placed.pop();
                started[index] = false;
            }
        }
    }

    fn earliest(&self, block: &Block, pool: usize, node: usize, placed: &[Placed]) -> Option<Placed> {
        let devices = self.deployment(block.0).devices;
        let room = self.small.cluster.pools[pool].devices_per_node;
        let here: Vec<&Placed> = placed.iter().filter(|p| p.pool == pool && p.node == node).collect();
        let mut starts: Vec<f64> = here.iter().map(|p| p.end).chain([self.wake(pool)]).collect();
        starts.sort_by(f64::total_cmp);
        starts.into_iter().find_map(|start| {
            let end = self.run(block, start)?;
            let used = |at: f64| -> u32 {
                here.iter().filter(|p| p.start <= at + 1e-9 && at + 1e-9 < p.end).map(|p| p.devices).sum()
            };
            let inside = here.iter().map(|p| p.start).filter(|&at| at > start && at < end - 1e-9);
            let fits = std::iter::once(start).chain(inside).all(|at| used(at) + devices <= room);
            fits.then_some(Placed { pool, node, devices, start, end })
        })
    }

    /// Idle, base and wake energy of nodes that can sleep: one powered interval a node, for nothing waits for a release.
    fn standing(&self, placed: &[Placed]) -> f64 {
        let mut off: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        for p in placed.iter().filter(|p| self.small.cluster.pools[p.pool].suspend) {
            let end = off.entry((p.pool, p.node)).or_insert(0.0);
            *end = end.max(p.end);
        }
        off.into_iter()
            .map(|((pool, _), off)| {
                let pool = &self.small.cluster.pools[pool];
                let power = pool.standing_power().unwrap().0;
                power * off + (pool.wake_energy.0 - power * pool.wake_time.0).max(0.0)
            })
            .sum()
    }
}

#[derive(Clone, Copy)]
struct Placed {
    pool: usize,
    node: usize,
    devices: u32,
    start: f64,
    end: f64,
}

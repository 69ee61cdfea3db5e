//! Random small problems and plans for them that are valid by construction: constraints are drawn first, each request
//! goes to a random deployment that satisfies them, instances follow each other on their devices, and deadlines are
//! stretched until the list schedules keep them.

use std::collections::BTreeMap;

use jouleplan::check::{AssignmentRow, ClaimedGapParts, ClaimedInstance, ClaimedPlan, ClaimedPowered};
use jouleplan::domain::features::BatchCurve;
use jouleplan::domain::{
    AccuracyRule, AccuracyTable, BatchPoint, Box2, ClockPoint, ClockTable, Cluster, Deployment, DeviceKind, FamilyKey,
    FamilyModel, Feature, Figure, Floor, Form, Goal, Group, Job, Parallel, PhaseFactors, Pool, Provenance, Quality,
    RequestIds, Requests, Site, SlurmTarget, Steps, Term, Workload,
};
use jouleplan::units::{Bytes, Joules, Seconds, Watts};
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::Case;
use super::restate::{deployment, schedule};

const MODELS: [&str; 3] = ["small", "medium", "large"];
/// A low clock and the default, of every second family.
const CLOCKS: [u32; 2] = [900, 1800];
const TASKS: [&str; 2] = ["answers", "summaries"];

/// A valid case; the same seed gives the same one.
pub fn valid_case(seed: u64) -> Case {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Constraints may leave a request without any deployment: then draw again.
    (0..1000).find_map(|_| attempt(&mut rng)).expect("some draw is feasible")
}

fn attempt(rng: &mut ChaCha8Rng) -> Option<Case> {
    let mut cluster = cluster(rng);
    // From a copy, so that all else is drawn as it would be without.
    hold_devices(&mut rng.clone(), &mut cluster);
    let models = models(rng, &cluster);
    let accuracy = accuracy(rng);
    let workload = workload(rng, &cluster, &accuracy);
    let safety = *[0.0, 0.1].choose(rng)?;
    let mut deployments = Vec::new();
    for model in &models {
        for point in &model.batch_points {
            for pool in 0..cluster.pools.len() {
                for clock in [None, Some(CLOCKS[0]), Some(CLOCKS[1])] {
                    deployments.extend(deployment(model, point, clock, pool, &cluster, &workload, safety));
                }
            }
        }
    }
    let plan = ClaimedPlan { deployments, safety, ..Default::default() };
    let mut case = Case { workload, cluster, models, accuracy, plan };
    assign(rng, &mut case)?;
    stretch_deadlines(&mut case)?;
    place(rng, &mut case);
    stretch_deadlines(&mut case)?;
    set_mean_floors(&mut case);
    set_site(rng, &mut case);
    case.restate();
    let bound = rng.random_range(0.85..0.999);
    case.plan.bound = case.plan.objective * bound;
    case.plan.goal_bound = case.plan.goal_objective.map(|objective| objective * bound);
    case.plan.gap_parts = ClaimedGapParts { merging: rng.random_range(0.0..0.02), integer: -0.001, placement: 0.0 };
    case.restate_gap();
    Some(case)
}

pub fn cluster(rng: &mut ChaCha8Rng) -> Cluster {
    let devices = ["H100", "A100", "Xeon"];
    let pool = |(p, device): (usize, &str), rng: &mut ChaCha8Rng| {
        let suspend = rng.random_bool(0.5);
        let devices_per_node: u32 = *[1, 2, 4].choose(rng).expect("not empty");
        let mut devices_busy = BTreeMap::new();
        if devices_per_node > 1 && rng.random_bool(0.5) {
            devices_busy.insert(0, vec![rng.random_range(0..devices_per_node)]);
        }
        Pool {
            name: format!("pool{p}"),
            nodes: (0..rng.random_range(1..=3)).map(|n| format!("{}{n}", device.to_lowercase())).collect(),
            device: device.to_owned(),
            kind: if device == "Xeon" { DeviceKind::Cpu } else { DeviceKind::Gpu },
            devices_per_node,
            devices_busy,
            devices_held: BTreeMap::new(),
            device_memory: Bytes::from_gib(*[40.0, 80.0].choose(rng).expect("not empty")),
            host_memory: None,
            cpus_per_device: None,
            idle_power: Figure::new(Watts(rng.random_range(40.0..90.0)), Provenance::Imported),
            base_power: (suspend || rng.random_bool(0.5)).then(|| Watts(rng.random_range(100.0..500.0))),
            suspend,
            wake_time: Seconds(if suspend { rng.random_range(30.0..120.0) } else { 0.0 }),
            wake_energy: Joules(if suspend { rng.random_range(0.0..200_000.0) } else { 0.0 }),
            clock_control: p.is_multiple_of(2),
            storage_gib_per_s: rng.random_bool(0.5).then(|| rng.random_range(0.1..4.0)),
            slurm: SlurmTarget::default(),
        }
    };
    let count = rng.random_range(1..=3);
    let mut pools: Vec<Pool> = devices.into_iter().enumerate().take(count).map(|named| pool(named, rng)).collect();
    let mut site = Site::default();
    if rng.random_bool(0.5) {
        // What it is follows once the plan stands; that there is one makes peaks count.
        site.power_cap = Some(Steps::constant(1e9));
        for pool in &mut pools {
            pool.base_power.get_or_insert(Watts(300.0));
        }
    }
    Cluster { pools, site }
}

/// Now and then others hold some devices of a node at first.
fn hold_devices(rng: &mut ChaCha8Rng, cluster: &mut Cluster) {
    for pool in &mut cluster.pools {
        let share = if rng.random_bool(0.4) { rng.random_range(0.1..0.6) } else { 0.0 };
        for node in 0..pool.nodes.len() {
            let free = Seconds(rng.random_range(20.0..600.0));
            let held = (0..pool.devices_per_node).filter(|_| rng.random_bool(share));
            pool.devices_held.extend(held.map(|device| ((node, device), free)));
        }
    }
}

fn models(rng: &mut ChaCha8Rng, cluster: &Cluster) -> Vec<FamilyModel> {
    (0..rng.random_range(2..=4)).map(|index| family(rng, cluster, index)).collect()
}

pub fn family(rng: &mut ChaCha8Rng, cluster: &Cluster, index: usize) -> FamilyModel {
    let pool = cluster.pools.choose(rng).expect("not empty");
    let devices = if pool.devices_per_node >= 2 && rng.random_bool(0.4) { 2 } else { 1 };
    let idle = pool.idle_power.value.0 * f64::from(devices);
    let scale = rng.random_range(0.5..3.0);
    let curve = BatchCurve { points: vec![(1.0, 0.03 * scale), (8.0, 0.006 * scale), (48.0, 0.0015 * scale)] };
    let seconds = [
        (Feature::Constant, 2e-3 * scale),
        (Feature::Input, 2e-5 * scale),
        (Feature::InputSquared, 1e-9 * scale),
        (Feature::ContextRead, 4e-9 * scale),
    ];
    let decode = if rng.random_bool(0.5) {
        vec![(Feature::OutputAtBatch(curve), 1.0)]
    } else {
        let step = 0.02 * scale;
        vec![
            (Feature::OutputPerBatch, step),
            (Feature::OutputPerSqrtBatch, step / 50.0),
            (Feature::Output, step / 90.0),
        ]
    };
    let (mut energy, mut runtime) = (Vec::new(), Vec::new());
    for (feature, value) in seconds.into_iter().chain(decode) {
        let joules = value * (idle + rng.random_range(150.0..500.0));
        if feature == Feature::Input {
            energy.push(Term::estimated(feature.clone(), joules, joules * 0.95, joules * 1.6));
            runtime.push(Term::estimated(feature, value, value, value));
        } else {
            energy.push(Term::fitted(feature.clone(), joules, Provenance::Imported));
            runtime.push(Term::fitted(feature, value, Provenance::Imported));
        }
    }
    let quality = Quality {
        samples: 8,
        r2: None,
        r2_uncentred: None,
        cv_mape: None,
        error_factors: None,
        negative_predictions: 0,
    };
    let latency =
        |rng: &mut ChaCha8Rng, low: f64| rng.random_bool(0.9).then(|| Seconds(rng.random_range(low..low * 5.0)));
    let mut batch_points = Vec::new();
    for (max_num_seqs, batch_size) in [(8, 6.4), (64, 44.7)] {
        if max_num_seqs == 8 || rng.random_bool(0.6) {
            let (ttft_p99, tbt_p99) = (latency(rng, 0.2), latency(rng, 0.02));
            batch_points.push(BatchPoint { max_num_seqs, batch_size, ttft_p99, tbt_p50: None, tbt_p99 });
        }
    }
    let memory = f64::from(devices) * pool.device_memory.0;
    FamilyModel {
        key: FamilyKey {
            model: MODELS.choose(rng).expect("not empty").to_string(),
            precision: "bfloat16".to_owned(),
            device: pool.device.clone(),
            devices,
            parallel: Parallel::tensor(devices),
            kv_cache: true,
            engine: format!("vllm@0.{index}"),
        },
        form: Form::Phase,
        energy,
        runtime,
        energy_quality: quality,
        runtime_quality: quality,
        support: Box2::default(),
        batch_points,
        clocks: index.is_multiple_of(2).then(clocks),
        idle_power: Figure::new(Watts(idle), Provenance::Imported),
        load_time: Figure::estimated(Seconds(rng.random_range(20.0..90.0))),
        load_power: Figure::estimated(Watts(idle * rng.random_range(0.9..2.0))),
        weights: rng.random_bool(0.8).then(|| Figure::estimated(Bytes(memory * rng.random_range(0.1..0.5)))),
        // Between 1,000 and 4,000 tokens at batch 44.7: the longest requests do not fit everywhere.
        kv_bytes_per_token: rng
            .random_bool(0.8)
            .then(|| Figure::estimated(Bytes(memory * 0.6 / 44.7 / rng.random_range(1000.0..4000.0)))),
        correction: None,
    }
}

fn clocks() -> ClockTable {
    let point = |sm_clock_mhz, prefill: (f64, f64), decode: (f64, f64)| {
        let factors = |(net_energy, time)| PhaseFactors { net_energy, time, provenance: Provenance::Imported };
        let (prefill, decode) = (factors(prefill), factors(decode));
        ClockPoint { sm_clock_mhz, prefill, decode, batch_size: (6.0, 45.0) }
    };
    let points = vec![point(CLOCKS[0], (0.6, 1.9), (0.7, 1.2)), point(CLOCKS[1], (1.0, 1.0), (1.0, 1.0))];
    ClockTable { default_mhz: Some(CLOCKS[1]), points }
}

fn accuracy(rng: &mut ChaCha8Rng) -> AccuracyTable {
    let mut percent = BTreeMap::new();
    for model in MODELS {
        for task in TASKS {
            if rng.random_bool(0.9) {
                percent.insert((model.to_owned(), task.to_owned()), rng.random_range(40.0..90.0_f64).round());
            }
        }
    }
    AccuracyTable { percent }
}

fn workload(rng: &mut ChaCha8Rng, cluster: &Cluster, accuracy: &AccuracyTable) -> Workload {
    let (mut jobs, mut groups) = (Vec::new(), Vec::new());
    for index in 0..rng.random_range(1..=4) {
        let task = TASKS.choose(rng).expect("not empty").to_string();
        let known: Vec<f64> = MODELS.iter().filter_map(|model| accuracy.get(model, &task)).collect();
        let floor = match (rng.random_range(0..3), known.choose(rng)) {
            (0, Some(percent)) => Some(Floor { percent: percent - 0.5, rule: AccuracyRule::Every }),
            // The percentage follows once requests are assigned.
            (1, Some(_)) => Some(Floor { percent: 0.0, rule: AccuracyRule::Mean }),
            _ => None,
        };
        let every = floor.filter(|floor| floor.rule == AccuracyRule::Every).map(|floor| floor.percent);
        let base = rng.random_range(500.0..3000.0);
        for _ in 0..rng.random_range(1..=3) {
            let own = known.choose(rng).filter(|_| rng.random_bool(0.3)).copied();
            groups.push(Group {
                job: index,
                deadline: Seconds(base * rng.random_range(1.0..2.0)),
                release: Seconds(if rng.random_bool(0.4) { rng.random_range(0.0..400.0) } else { 0.0 }),
                own_floor: own.or(every),
                pinned_models: rng.random_bool(0.15).then(|| vec![MODELS.choose(rng).expect("not empty").to_string()]),
            });
        }
        let pools = cluster.pools.iter().map(|pool| pool.name.clone());
        jobs.push(Job {
            name: format!("job {index}"),
            task: (floor.is_some() || rng.random_bool(0.7)).then_some(task),
            floor,
            deadline: Seconds(base),
            release: Seconds::ZERO,
            models: rng.random_bool(0.3).then(|| MODELS.iter().map(|name| name.to_string()).skip(1).collect()),
            pools: rng.random_bool(0.3).then(|| pools.take(2).collect()),
            max_ttft: rng.random_bool(0.2).then_some(Seconds(0.8)),
            max_tbt: rng.random_bool(0.2).then_some(Seconds(0.08)),
        });
    }
    // Groups with a floor of their own need the task, too.
    for group in groups.iter().filter(|group: &&Group| group.own_floor.is_some()) {
        jobs[group.job].task.get_or_insert_with(|| TASKS[0].to_owned());
    }
    let n = rng.random_range(10..=150);
    let mut column = |most: u32| (0..n).map(|_| rng.random_range(1..=most)).collect::<Vec<u32>>();
    let (input_tokens, output_tokens) = (column(2000), column(700));
    let group = (0..n).map(|_| rng.random_range(0..groups.len() as u32)).collect();
    let ids = RequestIds::Named((0..n).map(|r| format!("r{r}")).collect());
    Workload {
        jobs,
        groups,
        requests: Requests { input_tokens, output_tokens, group, ids },
        input_provenance: Provenance::Imported,
        output_provenance: Provenance::Imported,
        output_spread: None,
    }
}

/// All constraints but time.
fn eligible(case: &Case, request: usize, deployment: &Deployment) -> bool {
    let requests = &case.workload.requests;
    let group = &case.workload.groups[requests.group[request] as usize];
    let job = &case.workload.jobs[group.job];
    let model = &deployment.family.model;
    let percent = job.task.as_ref().and_then(|task| case.accuracy.get(model, task));
    let pool = &case.cluster.pools[deployment.pool];
    let within =
        |limit: Option<Seconds>, p99: Option<Seconds>| limit.is_none_or(|limit| p99.is_some_and(|p| p <= limit));
    job.models.as_ref().is_none_or(|models| models.contains(model))
        && job.pools.as_ref().is_none_or(|pools| pools.contains(&pool.name))
        && group.pinned_models.as_ref().is_none_or(|models| models.contains(model))
        && (job.floor.is_none() && group.own_floor.is_none() || percent.is_some())
        && group.own_floor.is_none_or(|floor| percent.is_some_and(|percent| percent >= floor))
        && within(job.max_ttft, deployment.ttft_p99)
        && within(job.max_tbt, deployment.tbt_p99)
        && deployment.fits(requests.input_tokens[request], requests.output_tokens[request])
        && (0..pool.nodes.len()).any(|node| pool.free_devices(node).len() >= deployment.devices as usize)
}

/// Each request to the first or second instance of a random eligible deployment.
fn assign(rng: &mut ChaCha8Rng, case: &mut Case) -> Option<()> {
    let mut numbers: BTreeMap<(usize, usize), u32> = BTreeMap::new();
    for request in 0..case.workload.requests.len() {
        let options: Vec<usize> =
            (0..case.plan.deployments.len()).filter(|&v| eligible(case, request, &case.plan.deployments[v])).collect();
        let copy = usize::from(rng.random_bool(0.25));
        let key = (*options.choose(rng)?, copy);
        let next = numbers.len() as u32;
        let instance = *numbers.entry(key).or_insert(next);
        if instance == next {
            let deployment = &case.plan.deployments[key.0];
            case.plan.instances.push(ClaimedInstance {
                id: format!("i{next}"),
                deployment: deployment.id.clone(),
                pool: case.cluster.pools[deployment.pool].name.clone(),
                node: String::new(),
                device_indices: vec![],
                start: Seconds::ZERO,
                end: Seconds::ZERO,
                requests: 0,
                energy: Joules::ZERO,
                load: Joules::ZERO,
            });
        }
        case.plan.assignments.push(AssignmentRow { request: request as u32, instance });
    }
    case.plan.assignments.shuffle(rng);
    Some(())
}

/// Instances one after the other onto random devices, each as soon as those are free; now and then after a pause, and on
/// nodes that can sleep now and then after a sleep.
fn place(rng: &mut ChaCha8Rng, case: &mut Case) {
    let mut free_from: BTreeMap<(usize, usize, u32), f64> = BTreeMap::new();
    let mut order: Vec<usize> = (0..case.plan.instances.len()).collect();
    order.shuffle(rng);
    for index in order {
        let deployment = super::restate::deployment_of(&case.plan, index);
        let (p, k) = (deployment.pool, deployment.devices as usize);
        let pool = &case.cluster.pools[p];
        let roomy: Vec<usize> = (0..pool.nodes.len()).filter(|&n| pool.free_devices(n).len() >= k).collect();
        let node = *roomy.choose(rng).expect("eligible deployments have room");
        let mut devices: Vec<u32> = pool.free_devices(node).into_iter().choose_multiple(rng, k);
        devices.sort_unstable();
        let held = |d: u32| pool.devices_held.get(&(node, d)).map_or(0.0, |free| free.0);
        let free = devices.iter().map(|&d| free_from.get(&(p, node, d)).copied().unwrap_or(held(d)));
        let mut start = free.fold(0.0, f64::max);
        if rng.random_bool(0.3) {
            start += rng.random_range(0.0..60.0);
        }
        let mut interval = None;
        if pool.suspend {
            let rows = case.plan.powered.iter().enumerate();
            let last = rows.filter(|(_, row)| row.node == pool.nodes[node]).map(|(row, _)| row).next_back();
            let sleep = rng.random_bool(0.3);
            let row = last.filter(|_| !sleep).unwrap_or_else(|| {
                let wake = last.map_or(0.0, |row| case.plan.powered[row].off.0) + rng.random_range(0.0..50.0);
                case.plan.powered.push(ClaimedPowered {
                    pool: pool.name.clone(),
                    node: pool.nodes[node].clone(),
                    wake: Seconds(wake),
                    on: Seconds(wake) + pool.wake_time,
                    off: Seconds(wake),
                    idle: Joules::ZERO,
                    wake_energy: Joules::ZERO,
                });
                case.plan.powered.len() - 1
            });
            start = start.max(case.plan.powered[row].on.0);
            interval = Some(row);
        }
        let instance = &mut case.plan.instances[index];
        instance.node = pool.nodes[node].clone();
        instance.device_indices = devices.clone();
        instance.start = Seconds(start);
        let end = schedule(case, index).iter().fold(start, |end, &(_, finish, _)| end.max(finish));
        for device in devices {
            free_from.insert((p, node, device), end);
        }
        if let Some(row) = interval {
            let off = &mut case.plan.powered[row].off;
            *off = off.max(Seconds(end));
        }
    }
}

/// All deadlines by one factor, which changes no order, until every request is 5 % early and its deployment eligible.
pub fn stretch_deadlines(case: &mut Case) -> Option<()> {
    let mut factor = 0.0_f64;
    for index in 0..case.plan.instances.len() {
        let deployment = super::restate::deployment_of(&case.plan, index);
        let pool = &case.cluster.pools[deployment.pool];
        // Whatever is held is free by then.
        let held = pool.devices_held.values().fold(0.0, |most: f64, free| most.max(free.0));
        let ready = (if pool.suspend { pool.wake_time.0 } else { 0.0 }).max(held) + deployment.load_time.0;
        for (request, finish, _) in schedule(case, index) {
            let requests = &case.workload.requests;
            let group = &case.workload.groups[requests.group[request] as usize];
            let slot = deployment.rates.slot_seconds(requests.input_tokens[request], requests.output_tokens[request]);
            let earliest = group.release.0.max(ready) + slot;
            factor = factor.max(1.05 * finish.max(earliest) / group.deadline.0);
        }
    }
    let far = |deadline: Seconds| deadline.0.is_finite() && deadline.0 < 1e6;
    for group in &mut case.workload.groups {
        group.deadline = group.deadline * factor;
    }
    for job in &mut case.workload.jobs {
        job.deadline = job.deadline * factor;
    }
    case.workload.groups.iter().all(|group| far(group.deadline)).then_some(())
}

/// Now and then grams to be minimised, and a cap, if there is one, just above what is drawn.
fn set_site(rng: &mut ChaCha8Rng, case: &mut Case) {
    case.restate();
    if rng.random_bool(0.5) {
        let intensity = super::site::intensity(rng, case.plan.makespan.0);
        case.cluster.site.carbon = Steps::new(&intensity, f64::INFINITY);
        case.cluster.site.pue = rng.random_bool(0.7).then(|| rng.random_range(1.1..1.6));
        case.plan.goal = Goal::Carbon;
        case.plan.goal_unit = Some(Goal::Carbon.unit().to_owned());
    }
    if case.cluster.site.power_cap.is_some() {
        let (at, watts) = super::site::peak(case);
        let later = super::site::rises(case).into_iter().filter(|second| *second > at + 20.0);
        let later = later.chain([at + 20.0]).map(|second| super::site::drawn(case, second)).fold(0.0, f64::max);
        let (mut first, mut second) = (1.001 * watts, 1.001 * later);
        if rng.random_bool(0.5) {
            // Others draw something, less after a while.
            let others = [rng.random_range(100.0..2000.0), rng.random_range(0.0..100.0)];
            let falls = rng.random_range(10.0..at + 20.0);
            (first, second) = (first + others[0], second + others[0]);
            case.cluster.site.background =
                Steps::new(&[(0.0, others[0]), (at + 20.0 + falls, others[1])], f64::INFINITY);
        }
        case.cluster.site.power_cap = Steps::new(&[(0.0, first), (at + 20.0, second)], f64::INFINITY);
    }
}

/// Mean floors just below what the assignment reaches: less than one request to the next worse model would cost.
fn set_mean_floors(case: &mut Case) {
    case.restate_instances();
    for (index, job) in case.workload.jobs.iter_mut().enumerate() {
        if let (Some(floor), Some(mean)) = (&mut job.floor, case.plan.jobs[index].mean_accuracy)
            && floor.rule == AccuracyRule::Mean
        {
            floor.percent = mean - 0.25 / case.plan.jobs[index].requests as f64;
        }
    }
}

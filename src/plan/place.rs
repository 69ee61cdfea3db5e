//! From a deployment for every request to instances on devices with real finish times.
//!
//! Work by deadline gives pieces, pieces are packed onto nodes, requests are dealt to the instances of their deployment,
//! and list scheduling shows when they finish. Where something is late, the deployment gets more time and all is done
//! again; where devices run out, the shortage is reported so that the caller can plan with less.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use ordered_float::OrderedFloat;
use rayon::prelude::*;

use super::list_schedule;
use super::pack::{self, Placement, Shortage};
use super::pieces::{self, Due, Piece};
use super::power::{PowerProfile, within_cap};
use super::price::{self, Priced};
use super::prices::{NONE, Prices};
use super::problem::PlanProblem;
use super::settle::{Counting, Settled, settle};
use crate::domain::{Instance, Rates, Schedule};
use crate::units::Seconds;

/// Rounds of "measure lateness, grant time, place again".
const MOST_ROUNDS: usize = 8;
/// Spare instances of a deployment, at most.
const MOST_SPARES: usize = 3;

/// Why an assignment could not be placed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unplaced {
    #[error("request {0} has no deployment")]
    Unassigned(usize),
    #[error("deployment {0} cannot meet its deadlines with all devices of its pool")]
    TooSlow(String),
    #[error("the power cap leaves no room for {joules:.0} J that instances may draw")]
    NoPower { joules: f64, shortages: Vec<Shortage> },
    #[error("what waking nodes draw exceeds the power cap")]
    OverCap,
    #[error("pool {pool} lacks {device_seconds:.0} device-seconds")]
    NoRoom { pool: String, device_seconds: f64, shortages: Vec<Shortage> },
    #[error("requests find no room on the instances that were placed")]
    Crowded,
    #[error("requests on {0} finish up to {1:.1} s late")]
    Late(String, f64),
}

/// Instances at least, by deployment: more than the work needs where finishing sooner lets nodes sleep.
pub type Lanes = BTreeMap<usize, usize>;

/// How the instances of a deployment are shaped.
#[derive(Clone, Copy, Debug)]
pub enum Shape<'a> {
    /// As few as the work needs, or as many as `Lanes` says.
    Lanes(&'a Lanes),
    /// As the relaxation loads them, seconds by (deployment, window).
    Staircase(&'a [Vec<f64>]),
    /// Exactly these instances, by (deployment, window), whatever the work; for a fraction, one for part of the window.
    Whole(&'a [Vec<f64>]),
}

/// Places `assignment` (a deployment for each request) and prices the result.
pub fn place(problem: &PlanProblem, assignment: &[u16], shape: Shape) -> Result<Priced, Unplaced> {
    let mut queues: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for (request, &v) in assignment.iter().enumerate() {
        if v == NONE {
            return Err(Unplaced::Unassigned(request));
        }
        queues.entry(v as usize).or_default().push(request as u32);
    }
    // Seconds of each instance that are left unplanned, by deployment, learnt from lateness.
    let mut reserve: BTreeMap<usize, f64> = queues.keys().map(|&v| (v, 0.0)).collect();
    let mut worst = None;
    for _ in 0..MOST_ROUNDS {
        let Packed { instances, shortages, .. } = packed(problem, &queues, &reserve, shape)?;
        if let Some(lacking) = lacking(problem, shortages) {
            return Err(lacking);
        }
        let dealt = deal(problem, &queues, instances);
        let mut late = Vec::new();
        let mut schedule = Schedule { assignment: vec![0; assignment.len()], ..Schedule::default() };
        for Dealt { mut instance, requests, end, overrun, .. } in dealt {
            if requests.is_empty() {
                continue;
            }
            if overrun > 1e-6 {
                late.push((instance.deployment, overrun));
            }
            instance.end = Seconds(end);
            for &request in &requests {
                schedule.assignment[request as usize] = schedule.instances.len() as u32;
            }
            schedule.instances.push(instance);
        }
        if late.is_empty() {
            let priced = price::price(problem, schedule);
            return if within_cap(problem, &priced.schedule) { Ok(priced) } else { Err(Unplaced::OverCap) };
        }
        let mut most: BTreeMap<usize, f64> = BTreeMap::new();
        for (v, overrun) in late {
            let entry = most.entry(v).or_insert(0.0);
            *entry = entry.max(overrun);
        }
        for (v, overrun) in most {
            worst = Some((v, overrun));
            if let Some(reserve) = reserve.get_mut(&v) {
                // Growing fast: where the first instances are full, a little more changes nothing.
                *reserve = (2.0 * *reserve).max(*reserve + 1.1 * overrun + 0.01);
            }
        }
    }
    let (v, overrun) = worst.unwrap_or((0, 0.0));
    Err(Unplaced::Late(problem.deployments()[v].id.clone(), overrun))
}

struct Packed {
    instances: Vec<Instance>,
    /// Of which so many are planned; the others are spare.
    planned: usize,
    shortages: Vec<Shortage>,
}

fn packed(
    problem: &PlanProblem,
    queues: &BTreeMap<usize, Vec<u32>>,
    reserve: &BTreeMap<usize, f64>,
    shape: Shape,
) -> Result<Packed, Unplaced> {
    let pools = problem.cluster.pools.len();
    let (mut by_pool, mut spares): (Vec<Vec<Piece>>, Vec<Vec<Piece>>) =
        (vec![Vec::new(); pools], vec![Vec::new(); pools]);
    for (&v, requests) in queues {
        let deployment = &problem.deployments()[v];
        let pieces = deployment_pieces(problem, v, requests, reserve[&v], shape)
            .ok_or_else(|| Unplaced::TooSlow(deployment.id.clone()))?;
        let longest = pieces.iter().max_by(|a, b| a.duration.total_cmp(&b.duration));
        if let (Shape::Whole(_), Some(piece)) = (shape, longest) {
            let earliest = problem.earliest(v);
            let duration = problem.horizon() - earliest;
            spares[deployment.pool].push(Piece { earliest, latest: earliest, duration, ..*piece });
        }
        by_pool[deployment.pool].extend(pieces);
    }
    let (mut instances, mut spare, mut shortages) = (Vec::new(), Vec::new(), Vec::new());
    let mut power = PowerProfile::new(problem);
    for (pool, (pieces, spares)) in
        by_pool.iter().zip(&spares).enumerate().filter(|(_, (pieces, _))| !pieces.is_empty())
    {
        let spares = spares.repeat(MOST_SPARES);
        let packed = pack::pack(problem, pool, pieces, &spares, power.as_mut());
        let planned = packed.placements.len();
        let placements: Vec<Placement> = packed.placements.into_iter().chain(packed.spares).collect();
        let mut of_pool = pack::instances(problem, pool, &placements);
        spare.extend(of_pool.drain(planned..));
        instances.extend(of_pool);
        shortages.extend(packed.shortages);
    }
    let planned = instances.len();
    instances.extend(spare);
    Ok(Packed { instances, planned, shortages })
}

/// Places what fits of `assignment` and settles every request on the instances that were placed; with those that were not.
pub fn place_and_settle(
    problem: &PlanProblem,
    prices: &Prices,
    assignment: &[u16],
    shape: Shape,
    counting: Counting,
) -> Result<(Settled, Vec<Shortage>), Unplaced> {
    let mut queues: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for (request, &v) in assignment.iter().enumerate().filter(|(_, v)| **v != NONE) {
        queues.entry(v as usize).or_default().push(request as u32);
    }
    let reserve: BTreeMap<usize, f64> = queues.keys().map(|&v| (v, 0.0)).collect();
    let Packed { instances, planned, shortages } = packed(problem, &queues, &reserve, shape)?;
    let settled = settle(problem, prices, &instances, planned, &limits(problem, &instances), assignment, counting);
    Ok((settled, shortages))
}

/// What the shortages say, if there are any.
pub fn lacking(problem: &PlanProblem, shortages: Vec<Shortage>) -> Option<Unplaced> {
    let first = shortages.first()?;
    let joules: f64 = shortages.iter().map(|shortage| shortage.power_joules).sum();
    if joules > 0.0 {
        return Some(Unplaced::NoPower { joules, shortages });
    }
    Some(Unplaced::NoRoom {
        pool: problem.cluster.pools[first.pool].name.clone(),
        device_seconds: shortages.iter().map(|shortage| shortage.device_seconds).sum(),
        shortages,
    })
}

/// Pieces for the requests of one deployment. Small queues run at the batch they reach, which changes how many
/// instances they need: the count settles in a few rounds.
fn deployment_pieces(
    problem: &PlanProblem,
    v: usize,
    requests: &[u32],
    reserve: f64,
    shape: Shape,
) -> Option<Vec<Piece>> {
    let deployment = &problem.deployments()[v];
    let most = problem.most_instances(v);
    let lanes = match shape {
        Shape::Lanes(lanes) => lanes.get(&v).copied(),
        Shape::Staircase(_) | Shape::Whole(_) => None,
    };
    let mut count = lanes.unwrap_or(1).clamp(1, most.max(1));
    let mut pieces = None;
    for _ in 0..4 {
        let rates = problem.rates_for(v, requests.len().div_ceil(count));
        let dues = dues(problem, &rates, requests);
        let slot = |&request: &u32| {
            let (input, output) = problem.lengths(request as usize);
            rates.slot_seconds(input, output)
        };
        let longest = requests.iter().map(slot).fold(0.0, f64::max);
        let need = pieces::Need {
            longest,
            deployment: v,
            devices: deployment.devices,
            earliest: problem.earliest(v),
            load: deployment.load_time.0 + reserve,
            most,
            least: lanes,
            watts: if problem.is_weighted() { mean_power(problem, &rates, requests) } else { 0.0 },
            peak: deployment.net_peak_power(),
            weights: problem.weights.as_ref(),
        };
        let shaped = match shape {
            Shape::Lanes(_) => None,
            Shape::Staircase(loaded) => Some(pieces::staircase(&need, &problem.windows, &loaded[v], &dues)),
            // Requests that none of these has room for go elsewhere.
            Shape::Whole(instances) => return Some(pieces::whole(&need, &problem.windows, &instances[v])),
        };
        if let Some(found) = shaped {
            return (!found.is_empty()).then_some(found);
        }
        let found = pieces::pieces(&need, &dues)?;
        let settled = found.len() == count;
        count = found.len();
        pieces = Some(found);
        if settled {
            break;
        }
    }
    pieces
}

/// Joules over instance-seconds of requests.
fn mean_power(problem: &PlanProblem, rates: &Rates, requests: &[u32]) -> f64 {
    let of = |value: fn(&Rates, u32, u32) -> f64| -> f64 {
        let lengths = requests.iter().map(|&request| problem.lengths(request as usize));
        lengths.map(|(input, output)| value(rates, input, output)).sum()
    };
    of(Rates::energy) / of(Rates::seconds).max(f64::MIN_POSITIVE)
}

fn dues(problem: &PlanProblem, rates: &Rates, requests: &[u32]) -> Vec<Due> {
    // No request ends sooner than its own slot time, however many slots there are.
    let mut by_deadline: BTreeMap<u64, (f64, f64, f64)> = BTreeMap::new();
    for &request in requests {
        let kind = &problem.kinds[problem.kind_of(request as usize)];
        let (input, output) = problem.lengths(request as usize);
        let entry = by_deadline.entry(kind.deadline.to_bits()).or_insert((0.0, f64::INFINITY, 0.0));
        entry.0 += rates.seconds(input, output);
        entry.1 = entry.1.min(kind.release);
        entry.2 = entry.2.max(rates.slot_seconds(input, output));
    }
    let mut total = 0.0;
    let mut longest = 0.0f64;
    by_deadline
        .into_iter()
        .map(|(deadline, (work, release, slot))| {
            total += work;
            longest = longest.max(slot);
            Due { deadline: f64::from_bits(deadline), work: total.max(longest), release }
        })
        .collect()
}

/// An instance with its requests in list order.
struct Dealt {
    instance: Instance,
    requests: Vec<u32>,
    end: f64,
    /// Seconds past a deadline or past the time the devices are needed again.
    overrun: f64,
}

/// Deals each deployment's requests to its instances, earliest deadline and longest first, to the one with most time
/// left, and runs the list schedules.
fn deal(problem: &PlanProblem, queues: &BTreeMap<usize, Vec<u32>>, instances: Vec<Instance>) -> Vec<Dealt> {
    let limits = limits(problem, &instances);
    let mut of_deployment: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, instance) in instances.iter().enumerate() {
        of_deployment.entry(instance.deployment).or_default().push(index);
    }
    let mut requests_of: Vec<Vec<u32>> = vec![Vec::new(); instances.len()];
    let shares: Vec<(Vec<usize>, Vec<Vec<u32>>)> = of_deployment
        .into_par_iter()
        .map(|(v, indices)| {
            let dealt = deal_one(problem, v, &queues[&v], &instances, &indices);
            (indices, dealt)
        })
        .collect();
    for (indices, dealt) in shares {
        for (index, requests) in indices.into_iter().zip(dealt) {
            requests_of[index] = requests;
        }
    }
    instances
        .into_par_iter()
        .zip(requests_of)
        .zip(limits)
        .map(|((instance, mut requests), limit)| {
            let load = problem.deployments()[instance.deployment].load_time.0;
            let rates = problem.rates_for(instance.deployment, requests.len());
            list_schedule::sort(problem, &rates, &mut requests);
            let finish = list_schedule::run(problem, &rates, &requests, instance.start.0 + load, |_, _| {});
            let overrun = finish.lateness.max(finish.secured - limit);
            Dealt { instance, requests, end: finish.end, overrun }
        })
        .collect()
}

fn deal_one(
    problem: &PlanProblem,
    v: usize,
    queue: &[u32],
    instances: &[Instance],
    indices: &[usize],
) -> Vec<Vec<u32>> {
    if indices.len() == 1 {
        return vec![queue.to_vec()];
    }
    if problem.is_weighted() {
        return deal_by_weight(problem, v, queue, instances, indices);
    }
    let rates = problem.rates_for(v, queue.len().div_ceil(indices.len()));
    let load = problem.deployments()[v].load_time.0;
    let mut queue = queue.to_vec();
    list_schedule::sort(problem, &rates, &mut queue);
    let mut given = vec![0.0; indices.len()];
    let mut dealt: Vec<Vec<u32>> = vec![Vec::new(); indices.len()];
    let mut heap = BinaryHeap::new();
    let mut deadline = f64::NEG_INFINITY;
    let left = |j: usize, deadline: f64, given: &[f64]| {
        let instance = &instances[indices[j]];
        let seconds = instance.end.0.min(deadline) - instance.start.0 - load - given[j];
        (OrderedFloat(seconds), Reverse(j))
    };
    for request in queue {
        let kind = &problem.kinds[problem.kind_of(request as usize)];
        if kind.deadline != deadline {
            deadline = kind.deadline;
            heap = (0..indices.len()).map(|j| left(j, deadline, &given)).collect();
        }
        let Some((_, Reverse(j))) = heap.pop() else { break };
        let (input, output) = problem.lengths(request as usize);
        given[j] += rates.seconds(input, output);
        dealt[j].push(request);
        heap.push(left(j, deadline, &given));
    }
    dealt
}

/// As `deal_one`, where joules are weighted: to the instances of least weight that have room, and among those to the one
/// with most time left. Of requests due together those that draw most come first.
fn deal_by_weight(
    problem: &PlanProblem,
    v: usize,
    queue: &[u32],
    instances: &[Instance],
    indices: &[usize],
) -> Vec<Vec<u32>> {
    let rates = problem.rates_for(v, queue.len().div_ceil(indices.len()));
    let load = problem.deployments()[v].load_time.0;
    let deadline = |request: u32| problem.kinds[problem.kind_of(request as usize)].deadline;
    let drawn = |request: u32| {
        let (input, output) = problem.lengths(request as usize);
        rates.energy(input, output) / rates.seconds(input, output).max(f64::MIN_POSITIVE)
    };
    let mut queue = queue.to_vec();
    queue.sort_by_cached_key(|&request| (deadline(request).to_bits(), Reverse(drawn(request).to_bits()), request));
    // Places in `indices` with equal weights together, least weight first.
    let weight = |j: usize| {
        let instance = &instances[indices[j]];
        problem.mean_weight(instance.start.0 + load, instance.end.0)
    };
    let mut order: Vec<(f64, usize)> = (0..indices.len()).map(|j| (weight(j), j)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let groups: Vec<&[(f64, usize)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
    let mut given = vec![0.0; indices.len()];
    let mut dealt: Vec<Vec<u32>> = vec![Vec::new(); indices.len()];
    let mut heaps: Vec<BinaryHeap<(OrderedFloat<f64>, Reverse<usize>)>> = Vec::new();
    let mut due = f64::NEG_INFINITY;
    let left = |j: usize, due: f64, given: &[f64]| {
        let instance = &instances[indices[j]];
        instance.end.0.min(due) - instance.start.0 - load - given[j]
    };
    for request in queue {
        if deadline(request) != due {
            due = deadline(request);
            let heap = |group: &&[(f64, usize)]| {
                group.iter().map(|&(_, j)| (OrderedFloat(left(j, due, &given)), Reverse(j))).collect()
            };
            heaps = groups.iter().map(heap).collect();
        }
        let (input, output) = problem.lengths(request as usize);
        let seconds = rates.seconds(input, output);
        let roomy = heaps.iter().position(|heap| heap.peek().is_some_and(|top| top.0 >= OrderedFloat(seconds)));
        let Some(group) = roomy.or_else(|| (0..heaps.len()).max_by_key(|&group| heaps[group].peek().copied())) else {
            break;
        };
        let Some((_, Reverse(j))) = heaps[group].pop() else { break };
        given[j] += seconds;
        dealt[j].push(request);
        heaps[group].push((OrderedFloat(left(j, due, &given)), Reverse(j)));
    }
    dealt
}

/// The same instances with their requests dealt anew: what list scheduling left over is used.
pub fn resettle(problem: &PlanProblem, prices: &Prices, priced: &Priced) -> Option<Priced> {
    let schedule = &priced.schedule;
    let assignment: Vec<u16> =
        schedule.assignment.iter().map(|&j| schedule.instances[j as usize].deployment as u16).collect();
    let instances = &schedule.instances;
    let limits = limits(problem, instances);
    settle(problem, prices, instances, instances.len(), &limits, &assignment, Counting::Work).priced
}

/// When each instance must be gone: the start of the next one on any of its devices; where joules are weighted, also the
/// end of the hour it was meant for, and under a power cap its own end.
fn limits(problem: &PlanProblem, instances: &[Instance]) -> Vec<f64> {
    let mut next: BTreeMap<(usize, usize, u32), Vec<(f64, usize)>> = BTreeMap::new();
    for (index, instance) in instances.iter().enumerate() {
        for &device in &instance.device_indices {
            next.entry((instance.pool, instance.node, device)).or_default().push((instance.start.0, index));
        }
    }
    let mut limits = vec![problem.horizon(); instances.len()];
    for starts in next.values_mut() {
        starts.sort_by(|a, b| a.0.total_cmp(&b.0));
        for pair in starts.windows(2) {
            limits[pair[0].1] = limits[pair[0].1].min(pair[1].0);
        }
    }
    for (limit, instance) in limits.iter_mut().zip(instances) {
        let end = instance.end.0;
        let step = problem.weights.as_ref().and_then(|weights| weights.next_step(end - 1e-6));
        *limit = limit.min(step.map_or(f64::INFINITY, |step| step.max(end)));
        if problem.power_room().is_some() {
            *limit = limit.min(end);
        }
    }
    limits
}

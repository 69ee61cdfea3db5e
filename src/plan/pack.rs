//! Pieces onto nodes: first fit by start and width, each at the earliest time it fits, split in two where no gap is long enough.
//!
//! A node's devices are interchangeable, so a piece fits wherever enough of them are free throughout; device indices are
//! chosen afterwards, in order of start, which never fails for intervals whose overlaps stay within the node. What others
//! hold at the start is such an interval, too, and comes before all others.

use std::cmp::Reverse;

use super::pieces::Piece;
use super::power::PowerProfile;
use super::problem::PlanProblem;
use crate::domain::{Instance, PoweredInterval};
use crate::units::Seconds;

/// Device-seconds that found no place, and when they were wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shortage {
    pub pool: usize,
    pub device_seconds: f64,
    /// Joules under the power cap, where that and no lack of devices was in the way; else 0.
    pub power_joules: f64,
    pub from: f64,
    pub to: f64,
}

/// A piece on a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    pub piece: Piece,
    pub node: usize,
    pub start: f64,
}

impl Placement {
    pub fn end(&self) -> f64 {
        self.start + self.piece.duration
    }
}

/// Splits of one piece before it is given up.
const MOST_SPLITS: usize = 8;

struct Node {
    index: usize,
    free: u32,
    /// When each of its devices that others hold at the start is free.
    held: Vec<f64>,
    taken: Vec<(f64, f64, u32)>,
}

impl Node {
    /// Whether `devices` are free throughout `[start, end)`.
    fn fits(&self, start: f64, end: f64, devices: u32) -> bool {
        // Overlaps only grow at a start: check the interval's own start and those inside it.
        let inside = |at: f64| -> u32 {
            let held = self.held.iter().filter(|&&until| at < until).count() as u32;
            held + self.taken.iter().filter(|(from, to, _)| *from <= at && at < *to).map(|(_, _, k)| k).sum::<u32>()
        };
        let starts = self.taken.iter().map(|(from, _, _)| *from).filter(|&from| from > start && from < end);
        std::iter::once(start).chain(starts).all(|at| inside(at) + devices <= self.free)
    }

    /// Times at which a piece might start: its earliest, whenever something ends, and `others`.
    fn candidates(&self, piece: &Piece, others: &[f64]) -> Vec<f64> {
        let ends = self.taken.iter().map(|(_, to, _)| *to).chain(self.held.iter().copied());
        let ends = ends.filter(|&to| to > piece.earliest && to <= piece.latest);
        let mut times: Vec<f64> = std::iter::once(piece.earliest).chain(ends).chain(others.iter().copied()).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    fn powered_until(&self) -> f64 {
        self.taken.iter().map(|(_, to, _)| *to).fold(0.0, f64::max)
    }

    /// Intervals in which a node that can sleep must be powered for an instance in `[start, end)`, beyond those it is.
    fn newly_powered(&self, problem: &PlanProblem, pool: usize, start: f64, end: f64) -> Vec<PoweredInterval> {
        if !problem.cluster.pools[pool].suspend {
            return Vec::new();
        }
        let wake = problem.wake(pool);
        let interval = |wake: f64, on: f64, off: f64| {
            let node = self.index;
            PoweredInterval { pool, node, wake: Seconds(wake), on: Seconds(on), off: Seconds(off) }
        };
        if self.taken.is_empty() {
            return vec![interval(start - wake, start, end)];
        }
        let first = self.taken.iter().map(|(from, _, _)| *from).fold(f64::INFINITY, f64::min);
        let last = self.powered_until();
        let before = (start < first).then(|| interval(start - wake, start, first));
        let behind = (end > last).then(|| interval(last, last, end));
        before.into_iter().chain(behind).collect()
    }
}

/// What decides between places besides devices.
struct Site<'a> {
    problem: &'a PlanProblem<'a>,
    pool: usize,
    power: Option<&'a mut PowerProfile>,
}

impl Site<'_> {
    /// Instants besides ends of others at which a piece might best start.
    fn starts(&self, piece: &Piece) -> Vec<f64> {
        let mut starts = Vec::new();
        if let Some(weights) = &self.problem.weights {
            starts = weights.aligned(piece.earliest, piece.latest, piece.duration);
            starts.push(piece.latest);
        }
        starts.extend(self.power.iter().flat_map(|power| power.relieved(piece.earliest, piece.latest)));
        starts
    }

    /// Whether the power cap has room for a piece there.
    fn has_power(&self, node: &Node, piece: &Piece, start: f64, end: f64) -> bool {
        let Some(power) = &self.power else { return true };
        let powered = node.newly_powered(self.problem, self.pool, start, end);
        let standing = powered.iter().map(|interval| {
            let waking = if interval.on > interval.wake { self.problem.waking_power(self.pool) } else { 0.0 };
            self.problem.billed_power(self.pool) + waking
        });
        let from = powered.first().map_or(start, |interval| interval.wake.0.min(start));
        power.blocked(from, end, piece.peak + standing.fold(0.0, f64::max)).is_none()
    }

    fn take(&mut self, node: &mut Node, piece: &Piece, start: f64, end: f64) {
        let powered = node.newly_powered(self.problem, self.pool, start, end);
        node.taken.push((start, end, piece.devices));
        let Some(power) = &mut self.power else { return };
        power.add(start, end, piece.peak);
        for interval in &powered {
            power.add_powered(self.problem, interval);
        }
    }

    /// Of two places the one with the lower key is taken: the earliest; where nodes can sleep, the one that keeps them on
    /// for the least additional time; where joules are weighted, the one where they cost least.
    fn key(&self, node: &Node, piece: &Piece, start: f64) -> (f64, f64) {
        let end = start + piece.duration;
        if self.problem.is_weighted() {
            let problem = self.problem;
            let powered = node.newly_powered(problem, self.pool, start, end).into_iter().map(|interval| {
                let (wake, on, off) = (interval.wake.0, interval.on.0, interval.off.0);
                let waking = if on > wake { problem.net_wake_energy(self.pool) } else { 0.0 };
                problem.billed_power(self.pool) * (off - wake) * problem.mean_weight(wake, off)
                    + waking * problem.mean_weight(wake, on)
            });
            return (piece.watts * piece.duration * problem.mean_weight(start, end) + powered.sum::<f64>(), start);
        }
        if !self.suspends() {
            return (start, 0.0);
        }
        (if node.taken.is_empty() { end } else { (end - node.powered_until()).max(0.0) }, start)
    }

    /// Whether the first place found on a node is its best.
    fn first_is_best(&self) -> bool {
        !self.suspends() && !self.problem.is_weighted()
    }

    fn suspends(&self) -> bool {
        self.problem.cluster.pools[self.pool].suspend
    }
}

/// What became of the pieces of one pool.
#[derive(Debug)]
pub struct Packed {
    pub placements: Vec<Placement>,
    /// Where there was still room for what may be needed.
    pub spares: Vec<Placement>,
    pub shortages: Vec<Shortage>,
}

impl Packed {
    fn device_seconds_short(&self) -> f64 {
        self.shortages.iter().map(|shortage| shortage.device_seconds).sum()
    }
}

/// Places the pieces of one pool, then `spares` as far as there is room. `power`: what other pools draw under the cap, to
/// which this one's is added.
///
/// By their start, and where that leaves some without a place, those of many devices before all others: a whole node is
/// rarely free later on, while those of few can be moved on.
pub fn pack(
    problem: &PlanProblem,
    pool: usize,
    pieces: &[Piece],
    spares: &[Piece],
    power: Option<&mut PowerProfile>,
) -> Packed {
    let mut order: Vec<Piece> = pieces.to_vec();
    let flexible = |piece: &Piece| piece.latest > piece.earliest + 1e-9;
    order.sort_by(|a, b| {
        (flexible(a).cmp(&flexible(b)))
            .then(a.earliest.total_cmp(&b.earliest))
            .then(b.devices.cmp(&a.devices))
            .then(b.duration.total_cmp(&a.duration))
            .then(a.deployment.cmp(&b.deployment))
    });
    if power.is_some() {
        return pack_in_order(Site { problem, pool, power }, &order, spares);
    }
    let in_order = |order: &[Piece]| pack_in_order(Site { problem, pool, power: None }, order, spares);
    let by_start = in_order(&order);
    if by_start.shortages.is_empty() || order.iter().all(|piece| piece.devices == order[0].devices) {
        return by_start;
    }
    order.sort_by_key(|piece| (flexible(piece), Reverse(piece.devices)));
    let by_width = in_order(&order);
    if by_width.device_seconds_short() < by_start.device_seconds_short() { by_width } else { by_start }
}

fn pack_in_order(mut site: Site, pieces: &[Piece], spares: &[Piece]) -> Packed {
    let (problem, pool) = (site.problem, site.pool);
    let cluster_pool = &problem.cluster.pools[pool];
    let node = |index: usize| {
        let free = cluster_pool.free_devices(index);
        let held = free.iter().map(|&device| cluster_pool.free_from(index, device).0).filter(|until| *until > 0.0);
        Node { index, free: free.len() as u32, held: held.collect(), taken: Vec::new() }
    };
    let mut nodes: Vec<Node> = (0..cluster_pool.nodes.len()).map(node).collect();
    let mut placements = Vec::with_capacity(pieces.len());
    let mut shortages = Vec::new();
    for &piece in pieces {
        let mut left = piece;
        let mut splits = 0;
        loop {
            if let Some((node, start)) = best_place(&nodes, &left, &site) {
                site.take(&mut nodes[node], &left, start, start + left.duration);
                placements.push(Placement { piece: left, node, start });
                break;
            }
            let gap = longest_gap(&nodes, &left, &site);
            let useful = gap.filter(|gap| gap.2 - gap.1 >= left.minimum && splits < MOST_SPLITS);
            let Some((node, start, end)) = useful else {
                let device_seconds = left.duration * f64::from(left.devices);
                let unlimited = Site { problem, pool, power: None };
                let lacks_power = site.power.is_some() && best_place(&nodes, &left, &unlimited).is_some();
                let power_joules = if lacks_power { left.peak * left.duration } else { 0.0 };
                let (from, to) = (left.earliest, left.latest + left.duration);
                shortages.push(Shortage { pool, device_seconds, power_joules, from, to });
                break;
            };
            splits += 1;
            let part = Piece { earliest: start, latest: start, duration: end - start, ..left };
            site.take(&mut nodes[node], &part, start, end);
            placements.push(Placement { piece: part, node, start });
            // The rest may run whenever there is room before the end of the piece's own time.
            let end_by = left.latest + left.duration;
            left.duration = (left.duration - (part.duration - left.load)).max(left.minimum);
            left.latest = (end_by - left.duration).max(left.earliest);
        }
    }
    let spares = spares.iter().filter_map(|&piece| {
        let (node, start) = best_place(&nodes, &piece, &site)?;
        site.take(&mut nodes[node], &piece, start, start + piece.duration);
        Some(Placement { piece, node, start })
    });
    let spares = spares.collect();
    Packed { placements, spares, shortages }
}

/// The fit of the lowest key.
fn best_place(nodes: &[Node], piece: &Piece, site: &Site) -> Option<(usize, f64)> {
    let mut best: Option<((f64, f64), usize, f64)> = None;
    let others = site.starts(piece);
    for (index, node) in nodes.iter().enumerate() {
        for start in node.candidates(piece, &others) {
            let end = start + piece.duration;
            if !node.fits(start, end, piece.devices) || !site.has_power(node, piece, start, end) {
                continue;
            }
            let key = site.key(node, piece, start);
            let better =
                best.as_ref().is_none_or(|(known, _, _)| key.0 < known.0 || (key.0 == known.0 && key.1 < known.1));
            if better {
                best = Some((key, index, start));
            }
            if site.first_is_best() {
                break;
            }
        }
    }
    best.map(|(_, node, start)| (node, start))
}

/// The longest interval, no longer than the piece, in which its devices are free on some node.
fn longest_gap(nodes: &[Node], piece: &Piece, site: &Site) -> Option<(usize, f64, f64)> {
    let horizon = piece.latest + piece.duration;
    let mut best: Option<(usize, f64, f64)> = None;
    for (index, node) in nodes.iter().enumerate() {
        let stretch = Piece { latest: horizon, ..*piece };
        for start in node.candidates(&stretch, &site.starts(&stretch)) {
            let limit = horizon.min(start + piece.duration);
            let mut end = limit;
            for &(from, _, _) in node.taken.iter().filter(|(from, _, _)| *from > start && *from < limit) {
                if from < end && !node.fits(start, from + 1e-9, piece.devices) {
                    end = from;
                }
            }
            if let Some(power) = &site.power {
                end = power.blocked(start, end, piece.peak).unwrap_or(end);
            }
            if end > start
                && site.has_power(node, piece, start, end)
                && node.fits(start, end, piece.devices)
                && best.is_none_or(|(_, from, to)| end - start > to - from)
            {
                best = Some((index, start, end));
            }
        }
    }
    best
}

/// Concrete device indices, lowest free first, in order of start.
pub fn instances(problem: &PlanProblem, pool: usize, placements: &[Placement]) -> Vec<Instance> {
    let cluster_pool = &problem.cluster.pools[pool];
    let mut order: Vec<usize> = (0..placements.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (&placements[a], &placements[b]);
        a.node.cmp(&b.node).then(a.start.total_cmp(&b.start)).then(a.piece.deployment.cmp(&b.piece.deployment))
    });
    let mut instances: Vec<Option<Instance>> = vec![None; placements.len()];
    let mut node = usize::MAX;
    let mut free_at: Vec<(u32, f64)> = Vec::new();
    for index in order {
        let placement = &placements[index];
        if placement.node != node {
            node = placement.node;
            let free = cluster_pool.free_devices(node).into_iter();
            free_at = free.map(|device| (device, cluster_pool.free_from(node, device).0)).collect();
        }
        let mut device_indices = Vec::new();
        for (device, busy_until) in &mut free_at {
            if device_indices.len() < placement.piece.devices as usize && *busy_until <= placement.start + 1e-9 {
                device_indices.push(*device);
                *busy_until = placement.end();
            }
        }
        instances[index] = Some(Instance {
            deployment: placement.piece.deployment,
            pool,
            node,
            device_indices,
            start: Seconds(placement.start),
            end: Seconds(placement.end()),
        });
    }
    instances.into_iter().flatten().collect()
}

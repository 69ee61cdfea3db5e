//! Pieces onto nodes: first fit by width, each at the earliest time it fits, split in two where no gap is long enough.
//!
//! A node's devices are interchangeable, so a piece fits wherever enough of them are free throughout; device indices are
//! chosen afterwards, in order of start, which never fails for intervals whose overlaps stay within the node.

use super::pieces::Piece;
use super::problem::PlanProblem;
use crate::domain::Instance;
use crate::units::Seconds;

/// Device-seconds that found no place, and when they were wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shortage {
    pub pool: usize,
    pub device_seconds: f64,
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
    free: u32,
    taken: Vec<(f64, f64, u32)>,
}

impl Node {
    /// Whether `devices` are free throughout `[start, end)`.
    fn fits(&self, start: f64, end: f64, devices: u32) -> bool {
        // Overlaps only grow at a start: check the interval's own start and those inside it.
        let inside = |at: f64| -> u32 {
            self.taken.iter().filter(|(from, to, _)| *from <= at && at < *to).map(|(_, _, k)| k).sum()
        };
        let starts = self.taken.iter().map(|(from, _, _)| *from).filter(|&from| from > start && from < end);
        std::iter::once(start).chain(starts).all(|at| inside(at) + devices <= self.free)
    }

    /// Times at which a piece might start: its earliest, and whenever something ends.
    fn candidates(&self, piece: &Piece) -> Vec<f64> {
        let ends = self.taken.iter().map(|(_, to, _)| *to).filter(|&to| to > piece.earliest && to <= piece.latest);
        let mut times: Vec<f64> = std::iter::once(piece.earliest).chain(ends).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    fn powered_until(&self) -> f64 {
        self.taken.iter().map(|(_, to, _)| *to).fold(0.0, f64::max)
    }
}

/// Places the pieces of one pool; returns those that found a place and what the others lacked.
pub fn pack(problem: &PlanProblem, pool: usize, pieces: &[Piece]) -> (Vec<Placement>, Vec<Shortage>) {
    let cluster_pool = &problem.cluster.pools[pool];
    let mut nodes: Vec<Node> = (0..cluster_pool.nodes.len())
        .map(|node| Node { free: cluster_pool.free_devices(node).len() as u32, taken: Vec::new() })
        .collect();
    let mut order: Vec<Piece> = pieces.to_vec();
    let flexible = |piece: &Piece| piece.latest > piece.earliest + 1e-9;
    order.sort_by(|a, b| {
        (flexible(a).cmp(&flexible(b)))
            .then(a.earliest.total_cmp(&b.earliest))
            .then(b.devices.cmp(&a.devices))
            .then(b.duration.total_cmp(&a.duration))
            .then(a.deployment.cmp(&b.deployment))
    });
    let mut placements = Vec::with_capacity(order.len());
    let mut shortages = Vec::new();
    for piece in order {
        let mut left = piece;
        let mut splits = 0;
        loop {
            if let Some((node, start)) = best_place(&nodes, &left, cluster_pool.suspend) {
                nodes[node].taken.push((start, start + left.duration, left.devices));
                placements.push(Placement { piece: left, node, start });
                break;
            }
            let gap = longest_gap(&nodes, &left);
            let useful = gap.filter(|gap| gap.2 - gap.1 >= left.minimum && splits < MOST_SPLITS);
            let Some((node, start, end)) = useful else {
                let device_seconds = left.duration * f64::from(left.devices);
                shortages.push(Shortage { pool, device_seconds, from: left.earliest, to: left.latest + left.duration });
                break;
            };
            splits += 1;
            let part = Piece { earliest: start, latest: start, duration: end - start, ..left };
            nodes[node].taken.push((start, end, left.devices));
            placements.push(Placement { piece: part, node, start });
            // The rest may run whenever there is room before the end of the piece's own time.
            let end_by = left.latest + left.duration;
            left.duration = (left.duration - (part.duration - left.load)).max(left.minimum);
            left.latest = (end_by - left.duration).max(left.earliest);
        }
    }
    (placements, shortages)
}

/// The earliest fit; where nodes can sleep, the one that keeps them on for the least additional time.
fn best_place(nodes: &[Node], piece: &Piece, suspend: bool) -> Option<(usize, f64)> {
    let mut best: Option<((f64, f64), usize, f64)> = None;
    for (index, node) in nodes.iter().enumerate() {
        for start in node.candidates(piece) {
            if !node.fits(start, start + piece.duration, piece.devices) {
                continue;
            }
            let end = start + piece.duration;
            let extra = if node.taken.is_empty() { end } else { (end - node.powered_until()).max(0.0) };
            let key = if suspend { (extra, start) } else { (start, 0.0) };
            let better =
                best.as_ref().is_none_or(|(known, _, _)| key.0 < known.0 || (key.0 == known.0 && key.1 < known.1));
            if better {
                best = Some((key, index, start));
            }
            if !suspend {
                break;
            }
        }
    }
    best.map(|(_, node, start)| (node, start))
}

/// The longest interval, no longer than the piece, in which its devices are free on some node.
fn longest_gap(nodes: &[Node], piece: &Piece) -> Option<(usize, f64, f64)> {
    let horizon = piece.latest + piece.duration;
    let mut best: Option<(usize, f64, f64)> = None;
    for (index, node) in nodes.iter().enumerate() {
        let stretch = Piece { latest: horizon, ..*piece };
        for start in node.candidates(&stretch) {
            let limit = horizon.min(start + piece.duration);
            let mut end = limit;
            for &(from, _, _) in node.taken.iter().filter(|(from, _, _)| *from > start && *from < limit) {
                if from < end && !node.fits(start, from + 1e-9, piece.devices) {
                    end = from;
                }
            }
            if end > start
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
            free_at = cluster_pool.free_devices(node).into_iter().map(|device| (device, 0.0)).collect();
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

//! A set of deployments for a plan within a budget of seconds, where the bound says which starts are worth paying.

use std::collections::BTreeMap;
use std::time::Instant;

use rayon::prelude::*;

use super::{Choice, Location};
use crate::plan::budget::Sites;

/// Moves of the search for a set.
const MOST_MOVES: usize = 12;
/// Deployments looked at: those whose starts are paid for best.
const MOST_CANDIDATES: usize = 40;
/// Open ranges from which it begins.
const MOST_OPEN: usize = 4;

/// A good set of deployments at full batches, found by adding, dropping and exchanging one at a time from those that are
/// open in `found`.
pub fn choose(sites: &Sites, found: &Location, until: Instant) -> Option<Choice> {
    let Sites { problem, ranges, budget, offers, .. } = sites;
    let mut candidates: Vec<usize> = (0..ranges.count()).filter(|&m| ranges.is_full(m)).collect();
    candidates.sort_by(|&a, &b| found.unpaid[a].total_cmp(&found.unpaid[b]).then(a.cmp(&b)));
    candidates.truncate(MOST_CANDIDATES);
    let index: BTreeMap<usize, usize> = candidates.iter().enumerate().map(|(c, &m)| (m, c)).collect();
    let prices = &found.multipliers;
    let mut costs = vec![vec![f64::INFINITY; offers.len()]; candidates.len()];
    let mut seconds = vec![vec![0.0; offers.len()]; candidates.len()];
    for (r, offers) in offers.iter().enumerate() {
        for offer in offers {
            let Some(&c) = index.get(&(offer.range as usize)) else { continue };
            costs[c][r] = offer.energy + prices.device_second * sites.devices(offer.range as usize) * offer.seconds;
            seconds[c][r] = offer.seconds;
        }
    }
    let deployment = |c: usize| &problem.deployments()[ranges.deployment(candidates[c])];
    let serving = |c: usize| (budget - deployment(c).load_time.0).max(1e-9);
    let start = |c: usize| {
        let deployment = deployment(c);
        deployment.start_energy().0 + prices.device_second * f64::from(deployment.devices) * deployment.load_time.0
    };
    let assigned = |open: &[usize]| -> Option<Vec<usize>> {
        let least = |r: usize| open.iter().copied().min_by(|&a, &b| costs[a][r].total_cmp(&costs[b][r])).unwrap_or(0);
        let mut assigned: Vec<usize> = (0..offers.len()).map(least).collect();
        let accuracy = |r: usize, c: usize| sites.accuracy[sites.job(r)][candidates[c]];
        keep_floors(sites, open, &costs, &accuracy, &mut assigned).then_some(assigned)
    };
    let evaluate = |open: &[usize]| -> (f64, Vec<usize>) {
        let Some(assigned) = assigned(open) else { return (f64::INFINITY, Vec::new()) };
        let mut busy = vec![0.0; candidates.len()];
        let mut total = 0.0;
        for (r, &c) in assigned.iter().enumerate() {
            total += costs[c][r];
            busy[c] += seconds[c][r];
        }
        let counts: Vec<usize> = open.iter().map(|&c| ((busy[c] / serving(c)).ceil() as usize).max(1)).collect();
        total += open.iter().zip(&counts).map(|(&c, &count)| count as f64 * start(c)).sum::<f64>();
        (total, counts)
    };
    let mut open: Vec<usize> = Vec::new();
    let mostly_open = found.mostly_open();
    for &m in mostly_open.iter().filter(|_| mostly_open.len() <= MOST_OPEN) {
        let v = ranges.deployment(m);
        let full = (0..candidates.len()).find(|&c| ranges.deployment(candidates[c]) == v);
        open.extend(full.filter(|c| !open.contains(c)).into_iter().collect::<Vec<_>>());
    }
    if open.is_empty() {
        let alone = (0..candidates.len()).into_par_iter().map(|c| (evaluate(&[c]).0, c));
        open.extend(alone.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))).map(|(_, c)| c));
    }
    // Requests that only others can serve.
    while let Some(r) = (0..offers.len()).find(|&r| open.iter().all(|&c| costs[c][r] == f64::INFINITY)) {
        let best = (0..candidates.len()).filter(|&c| costs[c][r] < f64::INFINITY);
        open.push(best.min_by(|&a, &b| start(a).total_cmp(&start(b)))?);
    }
    let mut best = evaluate(&open);
    for _ in 0..MOST_MOVES {
        if Instant::now() >= until {
            break;
        }
        let mut moves: Vec<Vec<usize>> = Vec::new();
        for gone in 0..open.len() {
            let rest: Vec<usize> = open.iter().copied().filter(|&c| c != open[gone]).collect();
            moves.extend((!rest.is_empty()).then(|| rest.clone()));
            let others = (0..candidates.len()).filter(|c| !open.contains(c));
            moves.extend(others.map(|c| rest.iter().copied().chain([c]).collect()));
        }
        let others = (0..candidates.len()).filter(|c| !open.contains(c));
        moves.extend(others.map(|c| open.iter().copied().chain([c]).collect()));
        let evaluated = moves.into_par_iter().map(|open| (evaluate(&open), open));
        let next = evaluated.min_by(|a, b| a.0.0.total_cmp(&b.0.0).then_with(|| a.1.cmp(&b.1)));
        match next {
            Some((better, set)) if better.0 < best.0 * (1.0 - 1e-9) => (best, open) = (better, set),
            _ => break,
        }
    }
    let deployments: Vec<usize> = open.iter().map(|&c| ranges.deployment(candidates[c])).collect();
    let instances = deployments.iter().copied().zip(best.1).collect();
    let assignment = assigned(&open)?.into_iter().map(|c| ranges.deployment(candidates[c]) as u16).collect();
    (best.0 < f64::INFINITY).then_some(Choice { instances, assignment })
}

/// Moves requests to more accurate deployments, least joules a point first, until the floors hold; `false` if they cannot.
fn keep_floors(
    sites: &Sites,
    open: &[usize],
    costs: &[Vec<f64>],
    accuracy: &dyn Fn(usize, usize) -> f64,
    assigned: &mut [usize],
) -> bool {
    let floors = &sites.problem.floor_points;
    let mut missing: Vec<f64> = floors.iter().map(|floor| floor.map_or(0.0, |floor| floor * (1.0 + 1e-12))).collect();
    assigned.iter().enumerate().for_each(|(r, &c)| missing[sites.job(r)] -= accuracy(r, c));
    while missing.iter().zip(floors).any(|(missing, floor)| floor.is_some() && *missing > 0.0) {
        let short = |r: &usize| floors[sites.job(*r)].is_some() && missing[sites.job(*r)] > 0.0;
        let best = |r: usize| {
            let now = assigned[r];
            let better = open.iter().filter(|&&c| accuracy(r, c) > accuracy(r, now) && costs[c][r] < f64::INFINITY);
            let rated = better.map(|&c| ((costs[c][r] - costs[now][r]) / (accuracy(r, c) - accuracy(r, now)), r, c));
            rated.min_by(|a, b| a.0.total_cmp(&b.0).then(a.2.cmp(&b.2)))
        };
        let mut moves: Vec<(f64, usize, usize)> = (0..assigned.len()).filter(short).filter_map(best).collect();
        if moves.is_empty() {
            return false;
        }
        moves.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for (_, r, c) in moves {
            let missing = &mut missing[sites.job(r)];
            if *missing > 0.0 {
                *missing -= accuracy(r, c) - accuracy(r, assigned[r]);
                assigned[r] = c;
            }
        }
    }
    true
}

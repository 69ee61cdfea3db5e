//! A set of deployments for a plan within a budget of seconds, where the bound says which starts are worth paying.

use std::collections::BTreeMap;
use std::time::Instant;

use rayon::prelude::*;

use super::{Choice, Location};
use crate::plan::assign::repair_floors;
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
    let of_requests = prices.of_requests(problem);
    let deployment = |c: usize| ranges.deployment(candidates[c]);
    let candidate: BTreeMap<usize, usize> = (0..candidates.len()).map(|c| (deployment(c), c)).collect();
    let serving = |c: usize| (budget - sites.load(candidates[c])).max(1e-9);
    let start = |c: usize| sites.start(candidates[c], prices.device_second);
    let assigned = |open: &[usize]| -> Option<Vec<u16>> {
        let least = |r: usize| open.iter().copied().min_by(|&a, &b| costs[a][r].total_cmp(&costs[b][r])).unwrap_or(0);
        let mut assigned: Vec<u16> = (0..offers.len()).map(|r| deployment(least(r)) as u16).collect();
        let mut used = vec![false; problem.deployments().len()];
        open.iter().for_each(|&c| used[deployment(c)] = true);
        repair_floors(problem, &of_requests, &used, &mut assigned).then_some(assigned)
    };
    let evaluate = |open: &[usize]| -> (f64, Vec<usize>) {
        let Some(assigned) = assigned(open) else { return (f64::INFINITY, Vec::new()) };
        let mut busy = vec![0.0; candidates.len()];
        let mut total = 0.0;
        for (r, v) in assigned.iter().enumerate() {
            let c = candidate[&usize::from(*v)];
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
        let full = candidate.get(&ranges.deployment(m)).copied();
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
    let instances = open.iter().map(|&c| deployment(c)).zip(best.1).collect();
    let assignment = assigned(&open)?;
    (best.0 < f64::INFINITY).then_some(Choice { instances, assignment })
}

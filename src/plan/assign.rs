//! From shares of classes to whole requests: which deployment each request uses, before any instance exists.

use std::collections::BTreeMap;

use super::classes::Classes;
use super::prices::{NONE, Prices};
use super::problem::{Kind, PlanProblem};
use super::relaxation::ClassSolution;

/// Deployment of each request, in the proportions of `solution`; within a class those members move first that lose
/// least by it at `prices`.
pub fn from_shares(problem: &PlanProblem, classes: &Classes, solution: &ClassSolution, prices: &Prices) -> Vec<u16> {
    let mut by_class: Vec<BTreeMap<u16, f64>> = vec![BTreeMap::new(); classes.list.len()];
    for (column, share) in &solution.shares {
        *by_class[column.class].entry(column.option).or_insert(0.0) += share;
    }
    let mut assignment = vec![NONE; problem.workload.requests.len()];
    for (class, shares) in classes.list.iter().zip(by_class) {
        let kind = &problem.kinds[class.kind];
        let mut left: Vec<u32> = classes.members(class).to_vec();
        let mut counts = whole_counts(&shares, class.count);
        // Largest share last: it takes what the others leave.
        counts.sort_by_key(|&(option, count)| (count, option));
        while let Some((option, count)) = (counts.len() > 1).then(|| counts.remove(0)) {
            let others: Vec<u16> = counts.iter().map(|&(option, _)| option).collect();
            let regret = |request: u32| {
                let mine = priced(problem, prices, kind, option, request);
                let best =
                    others.iter().map(|&o| priced(problem, prices, kind, o, request)).fold(f64::INFINITY, f64::min);
                mine - best
            };
            let mut ranked: Vec<(f64, u32)> = left.iter().map(|&request| (regret(request), request)).collect();
            ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            for &(_, request) in &ranked[..count] {
                assignment[request as usize] = kind.options[option as usize] as u16;
            }
            left = ranked[count..].iter().map(|&(_, request)| request).collect();
        }
        if let Some(&(option, _)) = counts.first() {
            for request in left {
                assignment[request as usize] = kind.options[option as usize] as u16;
            }
        }
    }
    assignment
}

/// Cost of a request at the prices: g e + pi T - mu alpha.
fn priced(problem: &PlanProblem, prices: &Prices, kind: &Kind, option: u16, request: u32) -> f64 {
    let points = kind.mean_job.map_or(0.0, |job| prices.accuracy[job] * kind.accuracy[option as usize]);
    joules_and_time(problem, prices, kind, option, request) - points
}

/// g e + pi T in the cheapest window.
fn joules_and_time(problem: &PlanProblem, prices: &Prices, kind: &Kind, option: u16, request: u32) -> f64 {
    let v = kind.options[option as usize];
    let (input, output) = problem.lengths(request as usize);
    let rates = &problem.deployments()[v].rates;
    prices.cheapest(problem, v, kind, rates.energy(input, output), rates.seconds(input, output))
}

/// Whole numbers in proportion to the shares that sum to `total` (largest remainder).
fn whole_counts(shares: &BTreeMap<u16, f64>, total: usize) -> Vec<(u16, usize)> {
    let sum: f64 = shares.values().sum();
    if sum <= 0.0 {
        return Vec::new();
    }
    let mut counts: Vec<(u16, usize, f64)> = shares
        .iter()
        .map(|(&option, &share)| {
            let exact = share / sum * total as f64;
            (option, exact.floor() as usize, exact.fract())
        })
        .collect();
    let given: usize = counts.iter().map(|entry| entry.1).sum();
    counts.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
    for entry in counts.iter_mut().take(total.saturating_sub(given)) {
        entry.1 += 1;
    }
    counts.into_iter().filter(|entry| entry.1 > 0).map(|(option, count, _)| (option, count)).collect()
}

/// Gives every request that has none an open deployment, then moves requests to more accurate open deployments, least
/// joules a percent point first, until every mean floor holds. `false` if the open deployments cannot reach a floor.
pub fn repair_floors(problem: &PlanProblem, prices: &Prices, open: &[bool], assignment: &mut [u16]) -> bool {
    let mut points = vec![0.0; problem.workload.jobs.len()];
    for (request, &v) in assignment.iter().enumerate() {
        let job = problem.workload.groups[problem.workload.requests.group[request] as usize].job;
        if v != NONE && problem.floor_points[job].is_some() {
            points[job] += problem.options.accuracy[job][v as usize].unwrap_or(0.0);
        }
    }
    let mut missing: Vec<f64> = problem
        .floor_points
        .iter()
        .zip(&points)
        // A hair above the floor, so that the mean recomputed in another order still reaches it.
        .map(|(floor, points)| floor.map_or(0.0, |floor| floor * (1.0 + 1e-12) - points))
        .collect();
    if missing.iter().all(|&missing| missing <= 0.0) {
        return true;
    }
    let mut moves: Vec<(f64, u32, u16, f64)> = Vec::new();
    for (request, &v) in assignment.iter().enumerate() {
        let kind = &problem.kinds[problem.kind_of(request)];
        if kind.mean_job.is_none_or(|job| missing[job] <= 0.0) {
            continue;
        }
        let (input, output) = problem.lengths(request);
        let now = kind.options.iter().position(|&option| option == v as usize);
        let Some(now) = now else { continue };
        let cost_now = joules_and_time(problem, prices, kind, now as u16, request as u32);
        for (option, &target) in kind.options.iter().enumerate() {
            let gain = kind.accuracy[option] - kind.accuracy[now];
            if open[target] && gain > 0.0 && problem.can_serve(kind, option, input, output) {
                let cost = joules_and_time(problem, prices, kind, option as u16, request as u32);
                moves.push(((cost - cost_now) / gain, request as u32, target as u16, gain));
            }
        }
    }
    moves.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut gained: BTreeMap<u32, f64> = BTreeMap::new();
    for (_, request, target, gain) in moves {
        let job = problem.workload.groups[problem.workload.requests.group[request as usize] as usize].job;
        let before = gained.get(&request).copied().unwrap_or(0.0);
        if missing[job] <= 0.0 || gain <= before {
            continue;
        }
        gained.insert(request, gain);
        missing[job] -= gain - before;
        assignment[request as usize] = target;
    }
    missing.iter().all(|&missing| missing <= 0.0)
}

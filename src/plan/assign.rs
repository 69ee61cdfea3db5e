//! From shares of classes to whole requests: which deployment each request uses, before any instance exists.

use std::collections::BTreeMap;

use super::classes::Classes;
use super::prices::{NONE, Prices};
use super::problem::{Kind, PlanProblem};
use super::relaxation::ClassSolution;

/// Deployment of each request, in the proportions of `solution`. The members of a class are dealt by length, so that each
/// deployment gets its share of the requests and of the work alike.
pub fn from_shares(problem: &PlanProblem, classes: &Classes, solution: &ClassSolution) -> Vec<u16> {
    let mut by_class: Vec<BTreeMap<u16, f64>> = vec![BTreeMap::new(); classes.list.len()];
    for (column, share) in &solution.shares {
        *by_class[column.class].entry(column.option).or_insert(0.0) += share;
    }
    let mut assignment = vec![NONE; problem.workload.requests.len()];
    for (class, shares) in classes.list.iter().zip(by_class) {
        let options = &problem.kinds[class.kind].options;
        let members = classes.members(class);
        if let [(&option, _)] = shares.iter().collect::<Vec<_>>()[..] {
            for &request in members {
                assignment[request as usize] = options[option as usize] as u16;
            }
            continue;
        }
        let mut members = members.to_vec();
        members.sort_by_cached_key(|&request| {
            let (input, output) = problem.lengths(request as usize);
            (output, input, request)
        });
        let total: f64 = shares.values().sum();
        let mut owed: Vec<(u16, f64, f64)> =
            shares.into_iter().map(|(option, share)| (option, share / total, 0.0)).collect();
        for request in members {
            let Some(option) = next_in_turn(&mut owed, |_| true) else { break };
            assignment[request as usize] = options[option as usize] as u16;
        }
    }
    assignment
}

/// Who of those that may is owed most once each is given its share of one more; `owed`: who, share, and what is owed so far.
pub fn next_in_turn<T: Copy>(owed: &mut [(T, f64, f64)], may: impl Fn(T) -> bool) -> Option<T> {
    owed.iter_mut().for_each(|(_, share, owed)| *owed += *share);
    let next = owed.iter_mut().filter(|(who, ..)| may(*who)).max_by(|a, b| a.2.total_cmp(&b.2))?;
    next.2 -= 1.0;
    Some(next.0)
}

/// g e + pi T in the cheapest window.
fn joules_and_time(problem: &PlanProblem, prices: &Prices, kind: &Kind, option: u16, request: u32) -> f64 {
    let v = kind.options[option as usize];
    let (input, output) = problem.lengths(request as usize);
    let rates = &problem.deployments()[v].rates;
    prices.cheapest(problem, v, kind, rates.energy(input, output), rates.seconds(input, output))
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

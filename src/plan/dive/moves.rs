//! Changes of whole instances, one at a time: of one deployment one more or one less over a run of windows, or one more in
//! exchange for those of another in the same pool.
//!
//! With the instances fixed, the least cost is a convex function of how many there are: what a change can gain is at most what
//! reduced costs say. The most promising ones are tried until several in a row gain nothing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::{TOLERANCE, is_whole, nearest, served};
use crate::plan::PlanError;
use crate::plan::problem::PlanProblem;
use crate::plan::relaxation::{ClassProblem, ClassSolution};

/// Changes in a row that gain nothing before no other is tried; where that is quick, more of them.
const MOST_IN_VAIN: usize = 6;
const QUICK: Duration = Duration::from_millis(200);
/// Changes tried of one deployment, those that promise most.
const OF_ONE: usize = 3;

/// New rows of one or two deployments, and what they gain at most.
struct Move {
    gain: f64,
    rows: Vec<(usize, Vec<f64>)>,
}

/// Makes changes to a solution that serves all as long as that pays more than `worth`.
pub(super) fn improve(
    problem: &PlanProblem,
    class_problem: &mut ClassProblem,
    mut solution: ClassSolution,
    worth: f64,
    deadline: Instant,
) -> Result<ClassSolution, PlanError> {
    loop {
        let whole: Vec<Vec<f64>> =
            solution.instances.iter().map(|row| if is_whole(row) { nearest(row) } else { row.clone() }).collect();
        let mut moves = moves(problem, &whole, &solution.instance_costs);
        moves.retain(|change| change.gain > worth);
        moves.sort_by(|a, b| b.gain.total_cmp(&a.gain));
        let mut tried: BTreeMap<usize, usize> = BTreeMap::new();
        moves.retain(|change| {
            let count = tried.entry(change.rows[0].0).or_insert(0);
            *count += 1;
            *count <= OF_ONE
        });
        let mut better = None;
        let begun = Instant::now();
        for (in_vain, change) in moves.iter().enumerate() {
            let now = Instant::now();
            if now >= deadline || (in_vain >= MOST_IN_VAIN && now > begun + QUICK) {
                break;
            }
            for (v, row) in &change.rows {
                class_problem.fix(*v, row)?;
            }
            let next = class_problem.solve(deadline)?;
            better = next.filter(|next| served(next) && next.objective < solution.objective);
            if better.is_some() {
                break;
            }
            for (v, _) in &change.rows {
                class_problem.fix(*v, &whole[*v])?;
            }
        }
        let Some(next) = better else { return Ok(solution) };
        solution = next;
    }
}

/// Changes that may gain something. `costs`: joules that one more instance costs, by (deployment, window).
fn moves(problem: &PlanProblem, whole: &[Vec<f64>], costs: &[Vec<f64>]) -> Vec<Move> {
    let windows = problem.windows.len();
    let mut moves = Vec::new();
    for (pool_index, pool) in problem.cluster.pools.iter().enumerate() {
        let of_pool = |v: &usize| problem.deployments()[*v].pool == pool_index && whole[*v].len() == windows;
        let members: Vec<usize> = (0..whole.len()).filter(of_pool).collect();
        let devices = pool.free_device_count();
        let width = |v: usize| f64::from(problem.deployments()[v].devices);
        let free = |w: usize| devices as f64 - members.iter().map(|&v| width(v) * whole[v][w]).sum::<f64>();
        let free: Vec<f64> = (0..windows).map(free).collect();
        let changed = |v: usize, range: &Range<usize>, by: f64| {
            let mut row = whole[v].clone();
            row[range.clone()].iter_mut().for_each(|n| *n = (*n + by).max(0.0));
            (v, row)
        };
        for &v in members.iter().filter(|&&v| is_whole(&whole[v])) {
            let gains: Vec<f64> = costs[v].iter().map(|cost| -cost).collect();
            let most = |w: usize| whole[v][w] < problem.most_alive(v, w) as f64;
            for range in runs(&gains, most) {
                let gain = gains[range.clone()].iter().sum::<f64>();
                if free[range.clone()].iter().all(|&free| free >= width(v)) {
                    moves.push(Move { gain, rows: vec![changed(v, &range, 1.0)] });
                }
                if gain <= 0.0 {
                    continue;
                }
                for &other in members.iter().filter(|&&other| other != v && is_whole(&whole[other])) {
                    let count = (width(v) / width(other)).ceil();
                    if range.clone().all(|w| whole[other][w] >= count) {
                        let gain = gain + count * costs[other][range.clone()].iter().sum::<f64>();
                        let rows = vec![changed(v, &range, 1.0), changed(other, &range, -count)];
                        moves.push(Move { gain, rows });
                    }
                }
            }
            for range in runs(&costs[v], |w| whole[v][w] > TOLERANCE) {
                let gain = costs[v][range.clone()].iter().sum();
                moves.push(Move { gain, rows: vec![changed(v, &range, -1.0)] });
            }
        }
    }
    moves
}

/// The run of windows that gains most among those allowed, each single window of it that gains, and the longest around it.
fn runs(gains: &[f64], allowed: impl Fn(usize) -> bool) -> Vec<Range<usize>> {
    let mut best: Option<(f64, Range<usize>)> = None;
    let (mut start, mut sum) = (0, 0.0);
    for (w, gain) in gains.iter().enumerate() {
        if !allowed(w) {
            (start, sum) = (w + 1, 0.0);
            continue;
        }
        if sum <= 0.0 {
            (start, sum) = (w, 0.0);
        }
        sum += gain;
        if best.as_ref().is_none_or(|(most, _)| sum > *most) {
            best = Some((sum, start..w + 1));
        }
    }
    let Some((_, best)) = best else { return Vec::new() };
    let single = best.clone().filter(|&w| gains[w] > 0.0).map(|w| w..w + 1);
    let first = (0..best.start).rev().take_while(|&w| allowed(w)).last().unwrap_or(best.start);
    let last = (best.end..gains.len()).take_while(|&w| allowed(w)).last().map_or(best.end, |w| w + 1);
    let mut runs: Vec<Range<usize>> = single.chain([best, first..last]).collect();
    runs.sort_by_key(|run| (run.start, run.end));
    runs.dedup();
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_gain_most_where_changes_are_allowed() {
        let gains = [1.0, -2.0, 3.0, -1.0, 2.0, -5.0];
        assert_eq!(runs(&gains, |_| true), vec![0..6, 2..3, 2..5, 4..5]);
        assert_eq!(runs(&gains, |w| w != 3), [0..3, 2..3]);
        assert!(runs(&gains, |_| false).is_empty());
        // Nothing gains: the least loss, and the longest run around it.
        assert_eq!(runs(&[-2.0, -1.0], |_| true), [0..2, 1..2]);
    }
}

//! What one step of a solve tells the next: deployments in use, windows to plan with less of, and instances at their peak.

use super::pack::Shortage;
use super::price::Priced;
use super::problem::{PlanProblem, Window};

pub fn used(problem: &PlanProblem, assignment: &[u16]) -> Vec<bool> {
    let mut used = vec![false; problem.deployments().len()];
    for &v in assignment {
        if let Some(used) = used.get_mut(v as usize) {
            *used = true;
        }
    }
    used
}

/// Takes shortages off the windows they were wanted in.
pub fn tighten(problem: &PlanProblem, usable: &mut [Vec<f64>], shortages: &[Shortage]) {
    for (pool_index, (pool, shares)) in problem.cluster.pools.iter().zip(usable).enumerate() {
        let devices: usize = (0..pool.nodes.len()).map(|node| pool.free_devices(node).len()).sum();
        let mut missing = vec![0.0; problem.windows.len()];
        for shortage in shortages.iter().filter(|shortage| shortage.pool == pool_index) {
            let wanted = |window: &Window| (window.end.min(shortage.to) - window.start.max(shortage.from)).max(0.0);
            let span: f64 = problem.windows.iter().map(wanted).sum();
            for (missing, window) in missing.iter_mut().zip(&problem.windows).filter(|_| span > 0.0) {
                *missing += wanted(window) / span * shortage.device_seconds;
            }
        }
        for ((share, missing), window) in shares.iter_mut().zip(missing).zip(&problem.windows) {
            if missing > 0.0 && devices > 0 {
                *share *= 1.0 - (missing / (devices as f64 * window.length())).clamp(0.003, 0.1);
            }
        }
    }
}

/// Most instances alive at once by (deployment, window) of a schedule.
pub fn peak_instances(problem: &PlanProblem, priced: &Priced) -> Vec<Vec<f64>> {
    let mut peaks = vec![vec![0.0; problem.windows.len()]; problem.deployments().len()];
    for (v, row) in peaks.iter_mut().enumerate() {
        let own: Vec<(f64, f64)> = priced
            .schedule
            .instances
            .iter()
            .filter(|instance| instance.deployment == v)
            .map(|instance| (instance.start.0, instance.end.0))
            .collect();
        for (peak, window) in row.iter_mut().zip(&problem.windows) {
            let alive = |at: f64| own.iter().filter(|(from, to)| *from <= at && at < *to).count();
            let starts = own.iter().map(|(from, _)| *from).filter(|from| (window.start..window.end).contains(from));
            *peak = std::iter::once(window.start).chain(starts).map(alive).max().unwrap_or(0) as f64;
        }
    }
    peaks
}

//! What one step of a solve tells the next: deployments in use, windows to plan with less of, and instances at their peak.

use super::pack::Shortage;
use super::price::Priced;
use super::problem::PlanProblem;
use super::windows::Window;

pub fn used(problem: &PlanProblem, assignment: &[u16]) -> Vec<bool> {
    let mut used = vec![false; problem.deployments().len()];
    for &v in assignment {
        if let Some(used) = used.get_mut(v as usize) {
            *used = true;
        }
    }
    used
}

/// Takes shortages off the windows they were wanted in: of power off the cap, of devices off their pool.
pub fn tighten(problem: &PlanProblem, usable: &mut [Vec<f64>], shortages: &[Shortage]) {
    tighten_cap(problem, usable, shortages);
    for (pool_index, (pool, shares)) in problem.cluster.pools.iter().zip(usable).enumerate() {
        let devices = pool.free_device_count();
        let mut missing = vec![0.0; problem.windows.len()];
        for shortage in shortages.iter().filter(|s| s.pool == pool_index && s.power_joules == 0.0) {
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

fn tighten_cap(problem: &PlanProblem, usable: &mut [Vec<f64>], shortages: &[Shortage]) {
    let Some(shares) = usable.last_mut() else { return };
    for shortage in shortages.iter().filter(|shortage| shortage.power_joules > 0.0) {
        let wanted = |window: &Window| (window.end.min(shortage.to) - window.start.max(shortage.from)).max(0.0);
        let span: f64 = problem.windows.iter().map(wanted).sum();
        for (w, window) in problem.windows.iter().enumerate().filter(|(_, window)| wanted(window) > 0.0) {
            let room = problem.window_room(w).unwrap_or(0.0) * window.length();
            let missing = wanted(window) / span * shortage.power_joules;
            shares[w] *= 1.0 - (missing / room.max(f64::MIN_POSITIVE)).clamp(0.003, 0.1);
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

//! Windows of time: between successive deadlines, releases, ends of what others hold, and steps of the site's carbon intensity,
//! price and power cap.
//!
//! The relaxation knows no finer time; placement always uses exact times. Where there are too many events, releases are
//! rounded down and deadlines up, and of the steps the smallest are merged: a window then counts with its least weight and
//! its highest cap.

use crate::domain::{Cluster, Steps, Workload};

/// Deadlines and releases kept exactly by the relaxation.
const MAX_WINDOWS: usize = 24;
/// Seconds at which held devices are free that are kept exactly.
const MAX_FREED: usize = 6;
/// Steps of a series kept exactly by the relaxation: three days of hours.
const MAX_STEPS: usize = 72;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    pub start: f64,
    pub end: f64,
}

impl Window {
    pub fn length(&self) -> f64 {
        self.end - self.start
    }
}

/// `series`: weights and room under the cap, where there are any.
pub fn windows(workload: &Workload, cluster: &Cluster, series: [Option<&Steps>; 2]) -> Vec<Window> {
    let mut deadlines: Vec<f64> = workload.groups.iter().map(|group| group.deadline.0).collect();
    let mut releases: Vec<f64> = workload.groups.iter().map(|group| group.release.0).collect();
    let horizon = deadlines.iter().copied().fold(0.0, f64::max);
    thin(&mut deadlines, MAX_WINDOWS / 2);
    thin(&mut releases, MAX_WINDOWS / 2);
    let steps = series.into_iter().flatten().flat_map(|steps| largest_steps(steps, horizon));
    let mut freed: Vec<f64> =
        cluster.pools.iter().flat_map(|pool| pool.devices_held.values()).map(|free| free.0).collect();
    thin(&mut freed, MAX_FREED);
    let events = deadlines.into_iter().chain(releases).chain(freed);
    let mut events: Vec<f64> = events.chain([0.0, horizon]).chain(steps).collect();
    events.retain(|&event| (0.0..=horizon).contains(&event));
    events.sort_by(f64::total_cmp);
    events.dedup();
    let windows: Vec<Window> = events.windows(2).map(|pair| Window { start: pair[0], end: pair[1] }).collect();
    // Never empty, so that every kind has a window even where there is no time at all.
    if windows.is_empty() { vec![Window { start: 0.0, end: horizon.max(1.0) }] } else { windows }
}

/// Seconds of the largest steps within the horizon.
fn largest_steps(steps: &Steps, horizon: f64) -> Vec<f64> {
    let values: Vec<(f64, f64)> = steps.iter().collect();
    let inside = values.windows(2).filter(|pair| (0.0..horizon).contains(&pair[1].0));
    let mut jumps: Vec<(f64, f64)> = inside.map(|pair| ((pair[1].1 - pair[0].1).abs(), pair[1].0)).collect();
    jumps.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.total_cmp(&b.1)));
    jumps.into_iter().take(MAX_STEPS).map(|(_, second)| second).collect()
}

/// Sorted, distinct, and at most `most` of them, evenly by rank.
fn thin(events: &mut Vec<f64>, most: usize) {
    events.sort_by(f64::total_cmp);
    events.dedup();
    if events.len() > most {
        let step = events.len().div_ceil(most);
        *events = events.chunks(step).map(|chunk| chunk[0]).collect();
    }
}

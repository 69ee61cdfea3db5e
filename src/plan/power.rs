//! What all nodes together draw over time, against the site's power cap.
//!
//! Nodes that never sleep draw their standing power throughout; a node that can sleep draws it from wake to off, and while
//! it wakes what that takes beyond; an instance draws its peak power beyond the idle power of its devices for as long as
//! it lives. Staying under the cap by peaks leaves nothing to how requests happen to overlap.

use super::problem::PlanProblem;
use crate::domain::{Cluster, PoweredInterval, Schedule, Steps};

/// Watts by which a sum may exceed the cap: rounding.
const ROUNDING: f64 = 1e-6;

/// The draw of what has been placed so far.
#[derive(Clone, Debug)]
pub struct PowerProfile {
    /// Watts for everything but nodes that never sleep.
    room: Steps,
    /// (second, watts from then on), ascending; nothing is drawn before.
    drawn: Vec<(f64, f64)>,
}

impl PowerProfile {
    /// Nothing placed yet. `None` where there is no cap.
    pub fn new(problem: &PlanProblem) -> Option<Self> {
        let room = problem.power_room()?;
        Some(Self { room: room.clone(), drawn: Vec::new() })
    }

    fn drawn_at(&self, second: f64) -> f64 {
        let next = self.drawn.partition_point(|(from, _)| *from <= second);
        next.checked_sub(1).map_or(0.0, |index| self.drawn[index].1)
    }

    /// The first instant of `[from, to)` at which there is no room for `watts` more.
    pub fn blocked(&self, from: f64, to: f64, watts: f64) -> Option<f64> {
        let full = |second: f64| self.drawn_at(second) + watts > self.room.at(second) + ROUNDING;
        if full(from) {
            return Some(from);
        }
        let first = self.drawn.partition_point(|(second, _)| *second <= from);
        let rises = self.drawn[first..].iter().map(|(second, _)| *second);
        let falls = self.room.iter().map(|(second, _)| second).filter(|second| *second > from);
        let earliest = |seconds: &mut dyn Iterator<Item = f64>| {
            seconds.take_while(|second| *second < to).find(|second| full(*second)).unwrap_or(f64::INFINITY)
        };
        let blocked = earliest(&mut rises.into_iter()).min(earliest(&mut falls.into_iter()));
        blocked.is_finite().then_some(blocked)
    }

    /// Instants of `(from, to]` from which there is more room than before.
    pub fn relieved(&self, from: f64, to: f64) -> Vec<f64> {
        let inside = |second: f64| second > from && second <= to;
        let falls = self.drawn.windows(2).filter(|pair| pair[1].1 < pair[0].1).map(|pair| pair[1].0);
        let caps: Vec<(f64, f64)> = self.room.iter().collect();
        let rises = caps.windows(2).filter(|pair| pair[1].1 > pair[0].1).map(|pair| pair[1].0);
        falls.chain(rises).filter(|second| inside(*second)).collect()
    }

    pub fn add(&mut self, from: f64, to: f64, watts: f64) {
        if from >= to || watts == 0.0 {
            return;
        }
        for second in [from, to] {
            let index = self.drawn.partition_point(|(known, _)| *known < second);
            if self.drawn.get(index).is_none_or(|(known, _)| *known != second) {
                let before = index.checked_sub(1).map_or(0.0, |index| self.drawn[index].1);
                self.drawn.insert(index, (second, before));
            }
        }
        let first = self.drawn.partition_point(|(known, _)| *known < from);
        for (_, drawn) in self.drawn[first..].iter_mut().take_while(|(second, _)| *second < to) {
            *drawn += watts;
        }
    }

    fn add_schedule(&mut self, problem: &PlanProblem, schedule: &Schedule) {
        for instance in &schedule.instances {
            let peak = problem.deployments()[instance.deployment].net_peak_power();
            self.add(instance.start.0, instance.end.0, peak);
        }
        for interval in &schedule.powered {
            self.add_powered(problem, interval);
        }
    }

    /// A node that can sleep: its powered interval.
    pub fn add_powered(&mut self, problem: &PlanProblem, interval: &PoweredInterval) {
        let PoweredInterval { pool, wake, on, off, .. } = *interval;
        self.add(wake.0, off.0, problem.billed_power(pool));
        self.add(wake.0, on.0, problem.waking_power(pool));
    }
}

/// Watts for this plan. What others draw takes all that there is and no more: what they exceed the cap by is not the
/// plan's to save, but it starts nothing meanwhile.
pub(super) fn power_room(cluster: &Cluster) -> Option<Steps> {
    let room = room_beside_nodes(cluster)?;
    let Some(background) = &cluster.site.background else { return Some(room) };
    Some(room.with(background, |room, background| (room - background).max(room.min(0.0))))
}

/// As `power_room` for another cluster, if others drew what `problem` minds of it.
pub(super) fn power_room_as(problem: &PlanProblem, cluster: &Cluster) -> Option<Steps> {
    let alone = problem.power_room() == room_beside_nodes(problem.cluster).as_ref();
    if alone { room_beside_nodes(cluster) } else { power_room(cluster) }
}

/// What has the steps of `room`: the cap itself, unless what others draw was taken off it.
pub(super) fn cap_steps<'a>(cluster: &'a Cluster, room: &'a Option<Steps>) -> Option<&'a Steps> {
    if *room == room_beside_nodes(cluster) { cluster.site.power_cap.as_ref() } else { room.as_ref() }
}

/// As `power_room`, if others drew nothing.
pub(super) fn room_beside_nodes(cluster: &Cluster) -> Option<Steps> {
    let cap = cluster.site.power_cap.as_ref()?;
    Some(cap.lowered(power_of_awake(cluster)))
}

/// Watts of all nodes that never sleep.
fn power_of_awake(cluster: &Cluster) -> f64 {
    let awake = cluster.pools.iter().filter(|pool| !pool.suspend);
    awake.map(|pool| pool.standing_power().map_or(0.0, |power| power.0) * pool.nodes.len() as f64).sum()
}

/// Whether a whole schedule stays under the cap at every instant.
pub fn within_cap(problem: &PlanProblem, schedule: &Schedule) -> bool {
    let Some(mut profile) = PowerProfile::new(problem) else { return true };
    profile.add_schedule(problem, schedule);
    profile.blocked(0.0, problem.horizon(), 0.0).is_none()
}

/// By how many watts a schedule exceeds `cap` where it does so most; negative where it leaves some at every instant.
pub fn most_over(problem: &PlanProblem, schedule: &Schedule, cap: &Steps) -> f64 {
    let room = cap.lowered(power_of_awake(problem.cluster));
    let mut profile = PowerProfile { room, drawn: Vec::new() };
    profile.add_schedule(problem, schedule);
    let changes = profile.drawn.iter().map(|(second, _)| *second).chain(profile.room.iter().map(|(second, _)| second));
    let instants = changes.map(|second| second.max(0.0)).filter(|second| *second < problem.horizon());
    instants.chain([0.0]).map(|second| profile.drawn_at(second) - profile.room.at(second)).fold(f64::MIN, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(room: &[(f64, f64)]) -> PowerProfile {
        PowerProfile { room: Steps::new(room, f64::INFINITY).unwrap(), drawn: Vec::new() }
    }

    #[test]
    fn room_is_what_the_cap_leaves_at_every_instant() {
        let mut profile = profile(&[(0.0, 100.0), (50.0, 40.0), (80.0, 90.0)]);
        profile.add(10.0, 60.0, 30.0);
        profile.add(20.0, 30.0, 30.0);
        assert_eq!(profile.blocked(0.0, 20.0, 70.0), None);
        assert_eq!(profile.blocked(0.0, 20.0, 70.1), Some(10.0));
        assert_eq!(profile.blocked(0.0, 90.0, 50.0), Some(20.0));
        assert_eq!(profile.blocked(30.0, 90.0, 20.0), Some(50.0));
        assert_eq!(profile.blocked(60.0, 90.0, 40.0), None);
        assert_eq!(profile.relieved(0.0, 80.0), [30.0, 60.0, 80.0]);
    }
}

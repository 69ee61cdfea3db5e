//! What idle devices of a pool draw: of each device that is not busy the low quantile of its last minutes, and of those the
//! middle one.
//!
//! Low, because a device that is not busy may still have done a little. A figure within what the meters of devices promise
//! (5 W or 5 %) of the stated one says nothing against it, and then the stated one stays.

use super::channels::{Channels, Seen};
use super::{Level, Place};
use crate::domain::Cluster;
use crate::stats::quantile;
use crate::units::Watts;

/// Steps at the end of a channel that are looked at, and of them the quantile.
const MINUTES: usize = 300;
const LOW: f64 = 0.10;
/// What the meters of devices promise.
const ACCURACY_SHARE: f64 = 0.05;
const ACCURACY_W: f64 = 5.0;
/// Rounds of "who is busy" and "what do the others draw", each of which decides the other.
const MOST_ROUNDS: usize = 4;

/// Idle power of the devices of a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeasuredIdle {
    pub pool: usize,
    /// Per device, as the cluster file or the device table says.
    pub stated: Watts,
    pub measured: Watts,
    /// Devices it was measured on.
    pub devices: usize,
    /// Whether it differs by more than meters do, and so takes the place of the stated one.
    pub differs: bool,
}

/// Watts to take as idle by pool, and what was measured.
pub(super) fn measure(cluster: &Cluster, channels: &Channels, levels: &[Level]) -> (Vec<f64>, Vec<MeasuredIdle>) {
    let stated: Vec<f64> = cluster.pools.iter().map(|pool| pool.idle_power.value.0).collect();
    let mut idle = stated.clone();
    let mut found = Vec::new();
    for _ in 0..MOST_ROUNDS {
        found = (0..cluster.pools.len()).filter_map(|pool| of_pool(pool, &stated, &idle, channels, levels)).collect();
        let mut next = stated.clone();
        for measured in found.iter().filter(|measured: &&MeasuredIdle| measured.differs) {
            next[measured.pool] = measured.measured.0;
        }
        if next == idle {
            break;
        }
        idle = next;
    }
    (idle, found)
}

fn of_pool(pool: usize, stated: &[f64], idle: &[f64], channels: &Channels, levels: &[Level]) -> Option<MeasuredIdle> {
    let of_device = |place: &Place| channels.devices.get(place).and_then(low);
    let calm = levels.iter().filter(|level| level.place.pool == pool && !level.is_busy(idle[pool]));
    let powers: Vec<f64> = calm.filter_map(|level| of_device(&level.place)).collect();
    // To the tenth of a watt: meters say no more.
    let measured = (10.0 * quantile(&powers, 0.5)?).round() / 10.0;
    let differs = (measured - stated[pool]).abs() > (ACCURACY_SHARE * stated[pool]).max(ACCURACY_W);
    Some(MeasuredIdle { pool, stated: Watts(stated[pool]), measured: Watts(measured), devices: powers.len(), differs })
}

fn low(seen: &Seen) -> Option<f64> {
    let (_, run) = seen.recording.runs.last()?;
    let last = &run[run.len().saturating_sub(MINUTES)..];
    quantile(&last.iter().map(|step| step.power_w).collect::<Vec<_>>(), LOW)
}

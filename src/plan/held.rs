//! Devices that others hold when the plan starts: how many there are at once, and from when.
//!
//! A device is held from before second 0 until it is free, and never again, so that there are only ever more. Figures for the
//! bound are rounded outward. Devices that are in use throughout (`devices_busy`) do not exist for a plan and are not meant
//! here.

use super::windows::Window;
use crate::domain::Pool;

/// By how much figures of the bound are rounded outward.
const OUTWARD: f64 = 1e-9;

/// The first second at which `devices` devices of one node of a pool are free at once: 0 where none are held, or where no
/// node ever has so many.
pub fn earliest(pool: &Pool, devices: u32) -> f64 {
    if pool.devices_held.is_empty() {
        return 0.0;
    }
    let of_node = |node: usize| {
        let mut free: Vec<f64> =
            pool.free_devices(node).into_iter().map(|device| pool.free_from(node, device).0).collect();
        free.sort_by(f64::total_cmp);
        free.get((devices as usize).checked_sub(1)?).copied()
    };
    let first = (0..pool.nodes.len()).filter_map(of_node).min_by(f64::total_cmp);
    first.unwrap_or(0.0)
}

/// Whether others hold nothing any more.
pub fn is_free(pool: &Pool, second: f64) -> bool {
    pool.devices_held.values().all(|free| free.0 <= second)
}

/// Most groups of `devices` devices, each of one node, that are free at some instant before `second`.
pub fn most(pool: &Pool, devices: u32, second: f64) -> usize {
    let free = |node: usize| {
        let devices = pool.free_devices(node);
        if pool.devices_held.is_empty() {
            return devices.len();
        }
        devices.into_iter().filter(|&device| pool.free_from(node, device).0 < second).count()
    };
    (0..pool.nodes.len()).map(|node| free(node) / devices as usize).sum()
}

/// The mean over a window of how many groups of `devices` devices of one node are free, at least.
pub fn mean(pool: &Pool, devices: u32, window: &Window) -> f64 {
    let all = most(pool, devices, f64::INFINITY) as f64;
    let mut ends: Vec<f64> = pool.devices_held.values().map(|free| free.0).collect();
    ends.retain(|end| *end > window.start);
    if ends.is_empty() {
        return all;
    }
    ends.push(window.end);
    ends.sort_by(f64::total_cmp);
    ends.dedup();
    let (mut from, mut sum) = (window.start, 0.0);
    for to in ends.into_iter().map(|end| end.min(window.end)) {
        // Before the next device gets free.
        sum += most(pool, devices, to) as f64 * (to - from).max(0.0);
        from = to;
    }
    all.min(sum / window.length() * (1.0 + OUTWARD))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::{DeviceKind, Figure, SlurmTarget};
    use crate::units::{Bytes, Joules, Seconds, Watts};

    /// Two nodes of four; on the first one device is in use throughout, and others are held.
    fn pool(held: &[(usize, u32, f64)]) -> Pool {
        Pool {
            name: "p".into(),
            nodes: vec!["a".into(), "b".into()],
            device: "H100".into(),
            kind: DeviceKind::Gpu,
            devices_per_node: 4,
            devices_busy: BTreeMap::from([(0, vec![0])]),
            devices_held: held.iter().map(|&(node, device, free)| ((node, device), Seconds(free))).collect(),
            device_memory: Bytes::from_gib(80.0),
            host_memory: None,
            cpus_per_device: None,
            idle_power: Figure::estimated(Watts(70.0)),
            base_power: None,
            suspend: false,
            wake_time: Seconds::ZERO,
            wake_energy: Joules::ZERO,
            storage_gib_per_s: None,
            clock_control: false,
            slurm: SlurmTarget::default(),
        }
    }

    #[test]
    fn devices_come_back_one_after_the_other() {
        let free = pool(&[]);
        let window = Window { start: 0.0, end: 100.0 };
        assert_eq!((earliest(&free, 2), most(&free, 2, 0.0), mean(&free, 2, &window)), (0.0, 3, 3.0));
        // Node a has one free of three until 50, two from then on; b none until 20, all four from 80 on.
        let held = pool(&[(0, 1, 50.0), (0, 2, 90.0), (1, 0, 20.0), (1, 1, 20.0), (1, 2, 80.0), (1, 3, 80.0)]);
        assert_eq!((earliest(&held, 1), earliest(&held, 2), earliest(&held, 4)), (0.0, 20.0, 80.0));
        assert_eq!(earliest(&held, 5), 0.0);
        assert_eq!((most(&held, 2, 20.0), most(&held, 2, 21.0), most(&held, 2, 100.0)), (0, 1, 3));
        // Pairs: none until 20, one until 50, two until 80, three behind.
        let pairs = mean(&held, 2, &window);
        assert!((pairs - (30.0 + 2.0 * 30.0 + 3.0 * 20.0) / 100.0).abs() < 1e-8, "{pairs}");
        assert!(mean(&held, 2, &Window { start: 20.0, end: 50.0 }) >= 1.0);
        assert_eq!(mean(&held, 2, &Window { start: 90.0, end: 95.0 }), 3.0);
    }
}

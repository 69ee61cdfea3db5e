use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::domain::{Channel, DeviceKind, Figure, Pool, Reading, Scope, Site, SlurmTarget};
use crate::forecast::{Forecast, History, OUTPUTS, Quantiles};
use crate::units::{Bytes, Joules};

/// Seconds of history before the plan starts.
const PAST: u32 = 900;

/// Two nodes of two devices that idle at 70 W, and hosts of 500 W.
fn cluster(suspend: bool) -> Cluster {
    let pool = Pool {
        name: "gpu".into(),
        nodes: vec!["a".into(), "b".into()],
        device: "H100".into(),
        kind: DeviceKind::Gpu,
        devices_per_node: 2,
        devices_busy: BTreeMap::new(),
        devices_held: BTreeMap::new(),
        device_memory: Bytes::from_gib(80.0),
        host_memory: None,
        cpus_per_device: None,
        idle_power: Figure::estimated(Watts(70.0)),
        base_power: Some(Watts(500.0)),
        suspend,
        wake_time: Seconds::ZERO,
        wake_energy: Joules::ZERO,
        storage_gib_per_s: None,
        clock_control: false,
        slurm: SlurmTarget::default(),
    };
    Cluster { pools: vec![pool], site: Site::default() }
}

fn now() -> Timestamp {
    Timestamp::from_seconds(1_000_000.0).unwrap()
}

/// Noise of one watt that repeats every few seconds.
fn noise(second: u32) -> f64 {
    f64::from(second * 7 % 5) / 2.0 - 1.0
}

/// Readings from the past until `age` seconds before now.
fn readings(age: u32, power: impl Fn(u32) -> f64) -> Vec<Reading> {
    let reading = |second: u32| Reading {
        power: Some(Watts(power(second))),
        ..Reading::at(now().plus(Seconds(f64::from(second) - f64::from(PAST))))
    };
    (0..=PAST - age).map(reading).collect()
}

fn device(node: &str, index: u32) -> Channel {
    Channel { node: Some(node.into()), scope: Scope::Device, index: Some(index) }
}

fn node(node: &str) -> Channel {
    Channel { node: Some(node.into()), scope: Scope::Node, index: None }
}

/// All devices idle.
fn idle_trace() -> Trace {
    let all = [("a", 0), ("a", 1), ("b", 0), ("b", 1)];
    let channels = all.map(|(node, index)| (device(node, index), readings(0, |second| 70.0 + noise(second))));
    Trace { channels: channels.into() }
}

fn ask(cluster: &Cluster, trace: &Trace) -> Current {
    ask_beside(cluster, trace, &BTreeSet::new())
}

/// Says that nothing changes.
struct Frozen;

impl Forecaster for Frozen {
    fn name(&self) -> &str {
        "frozen"
    }

    fn forecast(&self, histories: &[History<'_>]) -> Vec<Option<Forecast>> {
        histories.iter().map(|history| Some(Forecast([Quantiles::certain(history.last()); OUTPUTS]))).collect()
    }
}

fn ask_frozen(cluster: &Cluster, trace: &Trace) -> Current {
    let (free, kept) = (Seconds(3600.0), &BTreeSet::new());
    judge(&Question { cluster, trace, now: now(), forecaster: Some(&Frozen), free, kept }).unwrap()
}

fn ask_beside(cluster: &Cluster, trace: &Trace, kept: &BTreeSet<Place>) -> Current {
    let question = Question { cluster, trace, now: now(), forecaster: None, free: Seconds(3600.0), kept };
    judge(&question).unwrap()
}

fn power_at(current: &Current, second: f64) -> f64 {
    let steps = current.background.steps.iter().take_while(|step| step.from.0 <= second);
    steps.last().map_or(0.0, |step| step.power.0)
}

#[test]
fn an_idle_cluster_is_left_as_it_is() {
    let current = ask(&cluster(false), &idle_trace());
    assert_eq!((current.busy.len(), current.silent.len(), current.unseen, current.foreign.len()), (0, 0, 0, 0));
    assert_eq!(current.background.steps, []);
    let idle = current.idle[0];
    assert!(!idle.differs && idle.devices == 4 && (idle.measured.0 - 70.0).abs() < 2.0, "{idle:?}");
    assert_eq!(current.forecasters, BTreeMap::from([("device H100".to_owned(), "moving_average".to_owned())]));
}

#[test]
fn busy_is_what_draws_clearly_more_and_will_go_on() {
    let cluster = cluster(false);
    for (watts, busy) in [(84.0, false), (87.0, true), (400.0, true)] {
        let mut trace = idle_trace();
        trace.channels.insert(device("b", 1), readings(0, |_| watts));
        let current = ask(&cluster, &trace);
        assert_eq!(current.busy.len(), usize::from(busy), "{watts}");
        if let Some(found) = current.busy.first() {
            assert_eq!((found.place, found.free), (Place { pool: 0, node: 1, device: 1 }, Some(Seconds(3600.0))));
            assert!((found.mean.0 - watts).abs() < 1e-6 && (found.forecast.0 - watts).abs() < 1e-6);
        }
    }
    // It ended 20 s ago: the last minute's mean is high, what comes is not.
    let mut trace = idle_trace();
    trace.channels.insert(device("a", 0), readings(0, |second| if second < PAST - 20 { 300.0 } else { 70.0 }));
    let current = ask_frozen(&cluster, &trace);
    assert_eq!((current.busy.len(), current.background.steps.len()), (0, 0));
}

#[test]
fn the_margin_is_of_the_sum_and_not_the_sum_of_margins() {
    // Two devices that swing against each other: together they draw the same throughout.
    let cluster = cluster(false);
    let swing = |sign: f64| move |second: u32| 400.0 + sign * if second % 40 < 20 { 100.0 } else { -100.0 };
    let mut trace = idle_trace();
    trace.channels.insert(device("a", 0), readings(0, swing(1.0)));
    trace.channels.insert(device("b", 0), readings(0, swing(-1.0)));
    let current = ask(&cluster, &trace);
    let background = &current.background;
    assert_eq!((current.busy.len(), background.trials >= 200), (2, true), "{background:?}");
    let (forecast, margin) = (background.forecast.unwrap(), background.margin.unwrap());
    assert!(
        forecast.iter().all(|power| (power.0 - 660.0).abs() < 1e-6) && margin.iter().all(|watts| watts.0 < 11.0),
        "{background:?}"
    );
    // One alone needs a hundred watts or more.
    trace.channels.insert(device("b", 0), readings(0, |second| 70.0 + noise(second)));
    let alone = ask(&cluster, &trace).background.margin.unwrap();
    assert!(alone.iter().all(|watts| watts.0 > 90.0), "{alone:?}");
}

#[test]
fn the_background_decays_to_the_history_and_ends_with_what_draws_it() {
    // 300 W for most of the time, 500 W now.
    let mut trace = idle_trace();
    trace.channels.insert(device("a", 0), readings(0, |second| if second < PAST - 40 { 300.0 } else { 500.0 }));
    let current = ask_frozen(&cluster(false), &trace);
    let at = |second| power_at(&current, second);
    assert!(at(0.0) >= 430.0 && at(45.0) >= 430.0, "{:?}", current.background);
    assert!(at(45.0) > at(100.0) && at(100.0) > at(300.0) && at(300.0) > at(1000.0), "{:?}", current.background);
    assert!((at(1000.0) - 230.0).abs() < 1.0, "the history's quantile: {}", at(1000.0));
    assert_eq!((at(3599.0), at(3600.0)), (at(1000.0), 0.0));
    let bases: Vec<Basis> = current.background.steps.iter().map(|step| step.basis).collect();
    assert_eq!((bases[0], bases[bases.len() - 1]), (Basis::Forecast, Basis::History));
    // A device that is in use throughout stays in the background, and is not offered anyway.
    let mut cluster = cluster(false);
    cluster.pools[0].devices_busy.insert(0, vec![0]);
    let current = ask(&cluster, &trace);
    assert!((power_at(&current, 1e6) - 230.0).abs() < 1.0 && current.busy[0].free.is_none());
}

#[test]
fn what_fell_silent_is_not_carried_forward() {
    let cluster = cluster(false);
    let mut trace = idle_trace();
    // 300 W until ten minutes ago.
    trace.channels.insert(device("a", 0), readings(600, |_| 300.0));
    // Begun half a minute ago.
    trace.channels.insert(device("a", 1), readings(0, |_| 300.0).split_off(PAST as usize - 30));
    let current = ask(&cluster, &trace);
    assert_eq!(current.busy, []);
    let silent: Vec<(&str, Silence)> = current.silent.iter().map(|silent| (silent.name.as_str(), silent.why)).collect();
    assert_eq!(silent, [("a device 0", Silence::Stale(Seconds(600.0))), ("a device 1", Silence::Gaps)]);
    // Nobody knows what they draw now: as much as they have been seen to, all the time.
    assert!(current.silent.iter().all(|silent| (silent.assumed.0 - 230.0).abs() < 1e-6));
    assert_eq!((power_at(&current, 0.0), power_at(&current, 1e6)), (460.0, 460.0));
    // Two minutes are not too old.
    trace.channels.insert(device("a", 0), readings(119, |_| 300.0));
    let current = ask(&cluster, &trace);
    assert_eq!((current.busy.len(), current.silent.len()), (1, 1));
}

#[test]
fn what_comes_after_the_start_is_not_looked_at() {
    let cluster = cluster(false);
    let mut trace = idle_trace();
    let later = |second: u32| Reading {
        power: Some(Watts(600.0)),
        ..Reading::at(now().plus(Seconds(f64::from(second) + 1.0)))
    };
    let before = ask(&cluster, &trace);
    trace.channels.values_mut().for_each(|readings| readings.extend((0..300).map(later)));
    assert_eq!(ask(&cluster, &trace), before);
    let (free, kept) = (Seconds(1.0), &BTreeSet::new());
    let question = |now, trace| Question { cluster: &cluster, trace, now, forecaster: None, free, kept };
    let early = Timestamp::from_seconds(10.0).unwrap();
    assert_eq!(judge(&question(early, &trace)), Err(CurrentError::Future));
    let foreign = Trace { channels: [(device("x", 0), readings(0, |_| 70.0)), (device("a", 9), vec![])].into() };
    assert_eq!(judge(&question(now(), &foreign)), Err(CurrentError::Foreign("a device 9, x device 0".into())));
    trace.channels.insert(device("x", 0), readings(0, |_| 70.0));
    assert_eq!(ask(&cluster, &trace).foreign, ["x device 0"]);
}

#[test]
fn measured_idle_power_decides_who_is_busy_and_how_much_that_is() {
    let cluster = cluster(false);
    let level = |watts: f64| readings(0, move |second| watts + noise(second));
    // Three idle at 45 W, the fourth draws 80: not clearly more than the stated 70 W, but than those.
    let mut trace = idle_trace();
    for (node, index, watts) in [("a", 0, 45.0), ("a", 1, 45.0), ("b", 0, 45.0), ("b", 1, 80.0)] {
        trace.channels.insert(device(node, index), level(watts));
    }
    let current = ask(&cluster, &trace);
    let idle = current.idle[0];
    assert!(idle.differs && idle.devices == 3 && (idle.measured.0 - 44.5).abs() < 1.0, "{idle:?}");
    assert_eq!(current.busy.len(), 1);
    let above = current.background.forecast.unwrap()[0].0;
    assert!((above - (80.0 - idle.measured.0)).abs() < 1.0, "{above}");
    // Within what meters promise it is the stated one.
    trace.channels.values_mut().for_each(|readings| *readings = level(66.5));
    assert!(!ask(&cluster, &trace).idle[0].differs);
}

#[test]
fn hosts_and_nodes_that_others_keep_on_count() {
    let mut trace = idle_trace();
    trace.channels.insert(device("a", 0), readings(0, |_| 300.0));
    // Host a draws 700 W instead of 500, beside its devices at 370; host b what is stated.
    trace.channels.insert(node("a"), readings(0, |second| 700.0 + 370.0 + noise(second)));
    trace.channels.insert(node("b"), readings(0, |second| 500.0 + 140.0 + 2.0 * noise(second)));
    let current = ask(&cluster(false), &trace);
    let (first, last) = (power_at(&current, 0.0), power_at(&current, 4000.0));
    assert!((first - 430.0).abs() < 6.0 && (last - 200.0).abs() < 4.0, "{:?}", current.background);
    // Of nodes that can sleep a plan accounts for nothing unless it wakes them.
    let current = ask(&cluster(true), &trace);
    assert_eq!(current.background.standing, Watts(2.0 * 640.0));
    assert!((power_at(&current, 0.0) - 430.0 - 1280.0).abs() < 6.0, "{:?}", current.background);
    // Without channels of devices, a node's own says what is beyond idle.
    let alone = Trace { channels: [(node("a"), readings(0, |_| 900.0))].into() };
    let current = ask(&cluster(false), &alone);
    assert_eq!((current.unseen, current.busy.len()), (4, 0));
    assert!((power_at(&current, 0.0) - 260.0).abs() < 1.0, "{:?}", current.background);
}

#[test]
fn devices_of_the_plan_before_are_not_others() {
    let cluster = cluster(false);
    let mut trace = idle_trace();
    trace.channels.insert(device("a", 0), readings(0, |_| 300.0));
    trace.channels.insert(device("b", 0), readings(600, |_| 300.0));
    let kept = [0, 1].map(|node| Place { pool: 0, node, device: 0 }).into();
    let current = ask_beside(&cluster, &trace, &kept);
    assert_eq!((current.busy.len(), current.silent.len(), current.background.steps.len()), (0, 0, 0));
    let current = ask(&cluster, &trace);
    assert_eq!((current.busy.len(), current.silent.len()), (1, 1));
}

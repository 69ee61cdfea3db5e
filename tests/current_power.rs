//! Random telemetry of random clusters: every plan made beside what it shows passes the checker, draws no more than the cap
//! leaves, and touches no busy device before it is free.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::Case;
use common::generator::valid_case;
use common::site::{drawn, rises};
use jouleplan::check::check;
use jouleplan::domain::{Channel, Cluster, DeviceKind, Reading, Scope, Steps, Timestamp, Trace};
use jouleplan::forecast::current::{Question, judge};
use jouleplan::formats::power_adjustment::{HashedFile, PowerAdjustment};
use jouleplan::options::{OptionsInput, build};
use jouleplan::plan::{PlanProblem, Settings, Verdict, plan};
use jouleplan::report::claims::{Proof, of_schedule};
use jouleplan::report::power_adjustment::{apply, power_adjustment};
use jouleplan::units::{Seconds, Watts};
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

const SITUATIONS: usize = 300;
/// Problems drawn, at most: some leave no room for any plan beside what others use.
const MOST_DRAWN: u64 = 600;

fn now() -> Timestamp {
    Timestamp::from_seconds(1_700_000_000.0).expect("in range")
}

/// A sample a second of `seconds`, until `age` seconds before now.
fn readings(rng: &mut ChaCha8Rng, seconds: u32, age: f64, level: f64, swing: f64) -> Vec<Reading> {
    let (period, phase) = (rng.random_range(5.0..90.0), rng.random_range(0.0..6.3));
    let mut reading = |second: u32| {
        let wave = swing * (f64::from(second) * std::f64::consts::TAU / period + phase).sin();
        Reading {
            power: Some(Watts((level + wave + rng.random_range(-1.0..1.0)).max(0.0))),
            ..Reading::at(now().plus(Seconds(f64::from(second) - f64::from(seconds) - age)))
        }
    };
    (0..=seconds).map(&mut reading).collect()
}

/// Idle, busy, stale or unseen devices; hosts that draw more than is stated; another idle power now and then.
fn trace(rng: &mut ChaCha8Rng, cluster: &Cluster) -> Trace {
    let mut trace = Trace::default();
    let seconds = rng.random_range(100..400);
    for pool in &cluster.pools {
        let offset = if rng.random_bool(0.3) { rng.random_range(-20.0..10.0) } else { 0.0 };
        let idle = pool.idle_power.value.0 + offset;
        for node in &pool.nodes {
            let mut total = pool.base_power.map_or(300.0, |power| power.0);
            for index in 0..pool.devices_per_node {
                let scope = if pool.kind == DeviceKind::Cpu { Scope::Package } else { Scope::Device };
                let channel = Channel { node: Some(node.clone()), scope, index: Some(index) };
                let (age, level, swing) = match rng.random_range(0..10) {
                    0 => (f64::from(rng.random_range(130..900)), rng.random_range(50.0..400.0), 20.0),
                    1 => continue,
                    2 | 3 => {
                        (rng.random_range(0.0..100.0), rng.random_range(150.0..600.0), rng.random_range(0.0..80.0))
                    }
                    _ => (rng.random_range(0.0..3.0), idle, 0.0),
                };
                total += level;
                trace.channels.insert(channel, readings(rng, seconds, age, level, swing));
            }
            if rng.random_bool(0.3) {
                let channel = Channel { node: Some(node.clone()), scope: Scope::Node, index: None };
                let more = if rng.random_bool(0.5) { rng.random_range(0.0..300.0) } else { 0.0 };
                trace.channels.insert(channel, readings(rng, seconds, 0.0, total + more, 30.0));
            }
        }
    }
    trace
}

/// What others draw at a second, by the file's own words.
fn others(adjustment: &PowerAdjustment, second: f64) -> f64 {
    let steps = adjustment.background.steps.iter().take_while(|step| step.from_s <= second);
    steps.last().map_or(0.0, |step| step.power_w)
}

#[test]
fn plans_beside_random_telemetry_pass_the_check() {
    let file = || HashedFile { path: "t.csv".to_owned(), bytes: 0, sha256: String::new() };
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut plans, mut broken) = (0, Vec::new());
    for seed in 0..MOST_DRAWN {
        let mut case = valid_case(seed);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // The generator's own plan leaves no room for others.
        case.cluster.site.background = None;
        case.cluster.pools.iter_mut().for_each(|pool| pool.devices_held.clear());
        let later = rng.random_range(1.5..6.0);
        for group in &mut case.workload.groups {
            group.deadline = group.deadline * later;
        }
        case.workload.jobs.iter_mut().for_each(|job| job.deadline = job.deadline * later);
        let stretch = rng.random_range(1.0..2.5);
        if let Some(cap) = &mut case.cluster.site.power_cap {
            *cap = cap.scaled(stretch);
        }
        let trace = trace(&mut rng, &case.cluster);
        let free = Seconds(rng.random_range(30.0..1500.0));
        let (cluster, kept) = (&case.cluster, &BTreeSet::new());
        let question = Question { cluster, trace: &trace, now: now(), forecaster: None, free, kept };
        let Ok(current) = judge(&question) else { continue };
        let adjustment = power_adjustment(&case.cluster, &current, file(), None, free);
        apply(&adjustment, &mut case.cluster).expect("it is of this cluster");

        let Case { workload, cluster, models, accuracy, plan: claims } = &case;
        let (safety, goal) = (claims.safety, claims.goal);
        let options = build(&OptionsInput { workload, cluster, models, accuracy, safety }).expect("few deployments");
        let problem = PlanProblem::with_goal(workload, cluster, models, &options, safety, goal);
        let settings = Settings { gap: 0.2, time_limit: Duration::from_millis(150), baselines: false };
        let Ok((Verdict::Planned(found), _)) = plan(&problem, &settings, 1, None, &mut |_| {}) else { continue };
        case.plan = of_schedule(&problem, &found.priced, Proof::of(&found));
        plans += 1;
        let report = check(&case.input());
        if !report.is_valid() {
            let found: Vec<String> = report.violations.iter().take(3).map(ToString::to_string).collect();
            broken.push(format!("seed {seed}: {found:#?}"));
        }

        // By other arithmetic than the checker's.
        if let Some(cap) = &case.cluster.site.power_cap {
            let standing: f64 = case
                .cluster
                .pools
                .iter()
                .filter(|pool| !pool.suspend)
                .map(|pool| pool.standing_power().expect("a cap asks for base power").0 * pool.nodes.len() as f64)
                .sum();
            let steps = adjustment.background.steps.iter().map(|step| step.from_s);
            let instants: Vec<f64> =
                rises(&case).into_iter().chain(steps).chain(cap.iter().map(|step| step.0)).collect();
            for at in instants.into_iter().filter(|at| *at >= 0.0) {
                let own = drawn(&case, at);
                let all = own + others(&adjustment, at);
                if own > standing + 1e-3 && all > cap.at(at) + 1e-3 {
                    broken.push(format!("seed {seed}: {all} W at {at} s, {} W is the cap", cap.at(at)));
                }
            }
            let binds = |steps: &Steps| steps.iter().any(|(_, watts)| watts > 0.0);
            let bound = case.cluster.site.background.as_ref().is_some_and(binds);
            *seen.entry("cap beside others").or_default() += usize::from(bound);
        }
        for busy in &adjustment.busy {
            for instance in case.plan.instances.iter().filter(|instance| instance.node == busy.node) {
                let early = busy.free_s.is_none_or(|free| instance.start.0 < free - 1e-6);
                if early && instance.device_indices.contains(&busy.device_index) {
                    broken.push(format!("seed {seed}: {} starts at {} on {busy:?}", instance.id, instance.start));
                }
            }
        }
        *seen.entry("busy").or_default() += usize::from(!adjustment.busy.is_empty());
        *seen.entry("stale").or_default() += usize::from(!adjustment.silent.is_empty());
        *seen.entry("idle").or_default() += usize::from(adjustment.idle_power.iter().any(|idle| idle.taken));
        if plans == SITUATIONS {
            break;
        }
    }
    assert!(broken.is_empty(), "{} of {plans} broken:\n{}", broken.len(), broken.join("\n"));
    assert_eq!(plans, SITUATIONS, "of {MOST_DRAWN} situations");
    println!("{plans} plans, of which {seen:?}");
    assert!(["busy", "stale", "idle", "cap beside others"].iter().all(|what| seen.get(what) >= Some(&40)), "{seen:?}");
}

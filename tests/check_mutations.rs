//! The checker accepts every valid plan and finds every planted violation, under the rule that was broken.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::generator::valid_case;
use common::mutations;
use jouleplan::check::{Rule, check};
use jouleplan::units::{Joules, Seconds};
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

const CASES: u64 = 60;

#[test]
fn valid_plans_pass() {
    let (mut suspended, mut busy, mut small) = (0, 0, 0);
    for seed in 0..5 * CASES {
        let case = valid_case(seed);
        let report = check(&case.input());
        assert!(report.is_valid(), "seed {seed}: {:#?}", report.violations);
        assert!((report.totals.objective / case.plan.objective - 1.0).abs() < 1e-9);
        suspended += usize::from(!case.plan.powered.is_empty());
        busy += usize::from(case.cluster.pools.iter().any(|pool| !pool.devices_busy.is_empty()));
        small += case.plan.instances.iter().filter(|instance| instance.requests < 6).count();
    }
    // The generator reaches what the rules are about.
    assert!(suspended > 50 && busy > 50 && small > 50, "{suspended} {busy} {small}");
}

#[test]
fn every_planted_violation_is_found_under_its_rule() {
    let (mut planted, mut rules) = (0, BTreeSet::new());
    let mut missed = Vec::new();
    let mut per_mutation: BTreeMap<&str, usize> = mutations::all().map(|mutation| (mutation.name, 0)).collect();
    for seed in 0..CASES {
        let case = valid_case(seed);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for mutation in mutations::all() {
            let mut broken = case.clone();
            let Some(rule) = (mutation.apply)(&mut broken, &mut rng) else { continue };
            let report = check(&broken.input());
            planted += 1;
            rules.insert(rule);
            *per_mutation.entry(mutation.name).or_default() += 1;
            let others = report.violations.iter().any(|violation| violation.rule != rule);
            if !report.breaks(rule) || (mutation.alone && others) {
                let found: Vec<String> = report.violations.iter().take(5).map(|v| v.to_string()).collect();
                missed.push(format!("seed {seed}, {}: wanted {rule}, got {found:#?}", mutation.name));
            }
        }
    }
    assert!(missed.is_empty(), "{} of {planted} missed:\n{}", missed.len(), missed.join("\n"));
    assert!(planted >= 1000, "only {planted} violations planted");
    let rare: Vec<_> = per_mutation.iter().filter(|(_, count)| **count < 5).collect();
    assert!(rare.is_empty(), "hardly ever planted: {rare:?}");
    let untested: Vec<Rule> = Rule::ALL.iter().copied().filter(|rule| !rules.contains(rule)).collect();
    assert!(untested.is_empty(), "no mutation aims at {untested:?}");
}

#[test]
fn a_plan_written_to_the_millisecond_and_millijoule_passes() {
    let seconds = |time: &mut Seconds| time.0 = (time.0 * 1e3).round() / 1e3;
    let joules = |energy: &mut Joules| energy.0 = (energy.0 * 1e3).round() / 1e3;
    for seed in 0..CASES {
        let mut case = valid_case(seed);
        for instance in &mut case.plan.instances {
            [&mut instance.start, &mut instance.end].into_iter().for_each(seconds);
            [&mut instance.energy, &mut instance.load].into_iter().for_each(joules);
        }
        for row in &mut case.plan.powered {
            [&mut row.wake, &mut row.on, &mut row.off].into_iter().for_each(seconds);
            [&mut row.idle, &mut row.wake_energy].into_iter().for_each(joules);
        }
        for job in &mut case.plan.jobs {
            seconds(&mut job.finish);
            joules(&mut job.energy);
        }
        let report = check(&case.input());
        assert!(report.is_valid(), "seed {seed}: {:#?}", report.violations);
    }
}

#[test]
fn no_garbage_makes_the_checker_panic_or_content() {
    const GARBAGE: [f64; 7] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, -1.0, 1e-320];
    for seed in 0..10 * CASES {
        let mut case = valid_case(seed % CASES);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let plan = &mut case.plan;
        let mut numbers: Vec<&mut f64> =
            vec![&mut plan.objective.0, &mut plan.bound.0, &mut plan.gap, &mut plan.safety];
        for instance in &mut plan.instances {
            numbers.extend([&mut instance.start.0, &mut instance.end.0, &mut instance.energy.0, &mut instance.load.0]);
        }
        for row in &mut plan.powered {
            numbers.extend([&mut row.wake.0, &mut row.on.0, &mut row.off.0, &mut row.idle.0, &mut row.wake_energy.0]);
        }
        for deployment in &mut plan.deployments {
            // Of no known family, half of them: then the claimed constants are all there is to replay with.
            if rng.random_bool(0.5) {
                deployment.family.engine = "unknown".to_owned();
            }
            numbers.extend([&mut deployment.batch_size, &mut deployment.max_tokens, &mut deployment.load_time.0]);
            numbers.push(&mut deployment.rates.batch_size);
            numbers.extend(&mut deployment.rates.busy_time);
        }
        for number in numbers.into_iter().choose_multiple(&mut rng, 3) {
            *number = *GARBAGE.choose(&mut rng).expect("not empty");
        }
        for row in case.plan.assignments.iter_mut().choose_multiple(&mut rng, 2) {
            (row.request, row.instance) = (rng.random(), rng.random());
        }
        assert!(!check(&case.input()).is_valid(), "seed {seed}");
    }
}

#[test]
fn an_empty_plan_of_an_empty_queue_passes_and_of_a_queue_does_not() {
    let mut case = valid_case(3);
    case.plan.instances.clear();
    case.plan.powered.clear();
    case.plan.assignments.clear();
    case.plan.deployments.clear();
    case.plan.bound = Joules::ZERO;
    case.plan.goal_bound = case.plan.goal_objective.map(|_| 0.0);
    case.restate();
    case.plan.gap = 0.0;
    case.plan.gap_parts = Default::default();
    let report = check(&case.input());
    assert!(report.breaks(Rule::Dropped));
    assert!(report.violations.iter().all(|violation| violation.rule == Rule::Dropped), "{:#?}", report.violations);

    let requests = &mut case.workload.requests;
    requests.input_tokens.clear();
    requests.output_tokens.clear();
    requests.group.clear();
    case.plan.requests = 0;
    let report = check(&case.input());
    assert!(report.is_valid(), "{:#?}", report.violations);
}

//! Grams and watts over time of a plan made by hand, from what it decides: code of its own, as everything here.

use jouleplan::domain::Goal;
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::Case;
use super::restate::{deployment_of, model_of, requests_of, schedule};

/// (from, to, joules) of everything that is billed.
fn billed(case: &Case) -> Vec<(f64, f64, f64)> {
    let plan = &case.plan;
    let mut billed = Vec::new();
    for index in 0..plan.instances.len() {
        let deployment = deployment_of(plan, index);
        let (start, load) = (plan.instances[index].start.0, deployment.load_time.0);
        let count = requests_of(plan, index).len();
        let rates = deployment.rates_for(model_of(&case.models, deployment), count, plan.safety);
        let mut end = start + load;
        billed.push((start, start + load, deployment.load_energy.0));
        for (request, finish, joules) in schedule(case, index) {
            let requests = &case.workload.requests;
            let slot = rates.slot_seconds(requests.input_tokens[request], requests.output_tokens[request]);
            billed.push((finish - slot, finish, joules));
            end = end.max(finish);
        }
        billed.push(((end - deployment.tail_time.0).max(start + load), end, deployment.tail_energy.0));
    }
    for row in &plan.powered {
        billed.push((row.wake.0, row.off.0, row.idle.0));
        billed.push((row.wake.0, row.on.0, row.wake_energy.0));
    }
    billed
}

/// Grams of the plan; `None` where its goal is energy.
pub fn grams(case: &Case) -> Option<f64> {
    let carbon = case.cluster.site.carbon.as_ref().filter(|_| case.plan.goal == Goal::Carbon)?;
    let steps: Vec<(f64, f64)> = carbon.iter().collect();
    let pue = case.cluster.site.pue.unwrap_or(1.0);
    let mut total = 0.0;
    for (from, to, joules) in billed(case) {
        for (index, &(second, grams)) in steps.iter().enumerate() {
            let begin = if index == 0 { f64::NEG_INFINITY } else { second };
            let end = steps.get(index + 1).map_or(f64::INFINITY, |next| next.0);
            let share = if to > from {
                (end.min(to) - begin.max(from)).max(0.0) / (to - from)
            } else {
                f64::from(u8::from(begin <= from && from < end))
            };
            total += share * joules * grams * pue / 3.6e6;
        }
    }
    Some(total)
}

/// Watts drawn at an instant.
pub fn drawn(case: &Case, at: f64) -> f64 {
    let plan = &case.plan;
    let mut watts = 0.0;
    for pool in &case.cluster.pools {
        let standing = pool.standing_power().expect("a cap asks for base power").0;
        if !pool.suspend {
            watts += standing * pool.nodes.len() as f64;
            continue;
        }
        for row in plan.powered.iter().filter(|row| row.pool == pool.name) {
            watts += if row.wake.0 <= at && at < row.off.0 { standing } else { 0.0 };
            let waking = (pool.wake_energy.0 / pool.wake_time.0 - standing).max(0.0);
            watts += if row.wake.0 <= at && at < row.on.0 { waking } else { 0.0 };
        }
    }
    for (index, instance) in plan.instances.iter().enumerate() {
        let deployment = deployment_of(plan, index);
        if instance.start.0 <= at && at < instance.end.0 {
            watts += deployment.peak_power.expect("a cap asks for peaks").0 - deployment.idle_power.0;
        }
    }
    watts
}

/// Every instant from which more may be drawn than before.
pub fn rises(case: &Case) -> Vec<f64> {
    let starts = case.plan.instances.iter().map(|instance| instance.start.0);
    starts.chain(case.plan.powered.iter().map(|row| row.wake.0)).chain([0.0]).collect()
}

/// The instant at which most is drawn, and how much.
pub fn peak(case: &Case) -> (f64, f64) {
    let draws = rises(case).into_iter().map(|at| (at, drawn(case, at)));
    draws.max_by(|a, b| a.1.total_cmp(&b.1)).expect("the start of the plan is an instant")
}

/// A carbon intensity that changes a few times while the plan runs.
pub fn intensity(rng: &mut ChaCha8Rng, makespan: f64) -> Vec<(f64, f64)> {
    let mut second = -100.0;
    let steps = (0..rng.random_range(2..6)).map(|_| {
        let step = (second, rng.random_range(80.0..500.0));
        second += rng.random_range(100.0..100.0 + makespan / 2.0);
        step
    });
    steps.collect()
}

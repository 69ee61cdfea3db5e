//! Constants and coefficients of deployments.

use jouleplan::check::Rule;
use jouleplan::domain::Deployment;
use jouleplan::domain::deployment::rates;
use jouleplan::units::{Joules, Seconds};
use rand::prelude::*;

use super::{Mutation, R, alone, among, percent_off};
use crate::common::Case;
use crate::common::restate::model_of;

pub const ALL: &[Mutation] = &[
    alone("a coefficient altered by 1 %", alter_coefficient),
    alone("a constant of a deployment altered", alter_constant),
    among("altered rates, consistently priced", alter_rates_and_restate),
    among("another safety margin", alter_safety),
    among("deployment that does not exist", impossible_deployment),
    among("rates of the default clock at a lower one", rates_of_the_default_clock),
    among("a clock that cannot be set or was not measured", impossible_clock),
];

fn alter_coefficient(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let factor = percent_off(rng);
    let deployment = case.plan.deployments.choose_mut(rng)?;
    let sets = [
        &mut deployment.rates.net_energy,
        &mut deployment.rates.busy_time,
        &mut deployment.net_energy_low,
        &mut deployment.net_energy_high,
        &mut deployment.net_energy_estimated,
    ];
    let coefficients = sets.into_iter().flatten().filter(|value| **value != 0.0);
    *coefficients.choose(rng)? *= factor;
    Some(Rule::Constants)
}

fn alter_constant(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let factor = percent_off(rng);
    let deployment = case.plan.deployments.choose_mut(rng)?;
    match rng.random_range(0..11) {
        0 => deployment.load_time = deployment.load_time * factor,
        1 => deployment.load_energy += Joules(10.0),
        2 => deployment.tail_time += Seconds(1.0),
        3 => deployment.tail_energy += Joules(10.0),
        4 => {
            deployment.max_tokens =
                if deployment.max_tokens.is_finite() { deployment.max_tokens * factor } else { 4096.0 }
        }
        5 => deployment.ttft_p99 = deployment.ttft_p99.map_or(Some(Seconds(0.1)), |p99| Some(p99 * factor)),
        6 => deployment.tbt_p99 = if deployment.tbt_p99.is_some() { None } else { Some(Seconds(0.01)) },
        7 => deployment.idle_power = deployment.idle_power * factor,
        8 => deployment.batch_size *= factor,
        9 => deployment.rates.batch_size *= factor,
        _ => deployment.devices += 1,
    }
    Some(Rule::Constants)
}

fn alter_rates_and_restate(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let deployment = case.plan.deployments.choose_mut(rng)?;
    for k in 0..6 {
        deployment.rates.net_energy[k] *= 0.99;
        deployment.rates.busy_time[k] *= 0.99;
    }
    case.restate();
    Some(Rule::Constants)
}

fn alter_safety(case: &mut Case, rng: &mut R) -> Option<Rule> {
    case.plan.safety = if rng.random_bool(0.2) { f64::NAN } else { case.plan.safety + 0.05 };
    Some(Rule::Constants)
}

fn impossible_deployment(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let index = rng.random_range(0..case.plan.deployments.len());
    let devices = model_of(&case.models, &case.plan.deployments[index]).key.devices;
    let deployment = &mut case.plan.deployments[index];
    match rng.random_range(0..5) {
        0 => deployment.family.model = "unheard of".to_owned(),
        1 => deployment.max_num_seqs = 77,
        2 => deployment.pool = usize::MAX,
        3 => {
            let id = std::mem::replace(&mut deployment.id, "renamed".to_owned());
            for instance in case.plan.instances.iter_mut().filter(|instance| instance.deployment == id) {
                instance.deployment = "renamed".to_owned();
            }
        }
        _ => {
            let pool = deployment.pool;
            let narrow = &mut case.cluster.pools[pool];
            if devices > 1 { narrow.devices_per_node = devices - 1 } else { narrow.device = "other".to_owned() }
        }
    }
    Some(Rule::Deployment)
}

/// The deployments at a clock below the default, by index.
fn slowed(case: &Case) -> impl Iterator<Item = usize> {
    let slowed = |deployment: &Deployment| {
        let table = model_of(&case.models, deployment).clocks.as_ref();
        deployment.sm_clock_mhz.is_some() && deployment.sm_clock_mhz != table.and_then(|table| table.default_mhz)
    };
    (0..case.plan.deployments.len()).filter(move |&index| slowed(&case.plan.deployments[index]))
}

fn rates_of_the_default_clock(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let index = slowed(case).choose(rng)?;
    let model = model_of(&case.models, &case.plan.deployments[index]);
    let rates = rates(model, case.plan.deployments[index].batch_size, case.plan.safety)?;
    case.plan.deployments[index].rates = rates;
    case.restate();
    Some(Rule::Constants)
}

fn impossible_clock(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let index = slowed(case).choose(rng)?;
    let deployment = &mut case.plan.deployments[index];
    let family = &deployment.family;
    let table = case.models.iter_mut().find(|model| model.key == *family)?.clocks.as_mut()?;
    match rng.random_range(0..4) {
        0 => deployment.sm_clock_mhz = table.default_mhz,
        1 => deployment.sm_clock_mhz = Some(901),
        2 => table.points[0].batch_size = (1.0, 5.0),
        _ => case.cluster.pools[deployment.pool].clock_control = false,
    }
    Some(Rule::Deployment)
}

//! The reference paper's objective, computed again from models, cluster, accuracy table and assignments.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::CheckInput;
use super::claims::ClaimedZeta;
use super::facts::Facts;
use super::recompute;
use super::report::{Log, Rule};
use super::tolerance::{at_most, close, joules};
use crate::domain::{Deployment, Features, dot, features};

/// Fraction of the sum of the sizes of what is added up; more than its rounding, far less than any request.
const RELATIVE: f64 = 1e-9;

/// Rules `C-ZETA` (zeta lies in 0..1; Emax and Amax are the largest gross energy and accuracy times tokens of any request
/// on any deployment that models and cluster offer; the objective is the sum over requests, where zeta is below 1 each on
/// a model with an accuracy figure; the bound is not above it) and `C-MODEL-SHARE` (each model gets at least its share).
pub(super) fn check_zeta(facts: &Facts, log: &mut Log) {
    let Some(claimed) = &facts.input.plan.zeta else { return };
    let mut broken = |detail: String| log.add(Rule::Zeta, || ("plan".to_owned(), detail));
    let zeta = claimed.zeta;
    if !(0.0..=1.0).contains(&zeta) {
        return broken(format!("zeta is {zeta}, not between 0 and 1"));
    }
    let safety = facts.input.plan.safety;
    let (max_energy, max_accuracy) = maxima(&facts.input, safety);
    if !close(claimed.max_energy.0, max_energy, joules(max_energy)) {
        broken(format!("max_energy_j is {}, recomputed {max_energy} J", claimed.max_energy));
    }
    if !close(claimed.max_accuracy, max_accuracy, RELATIVE * max_accuracy) {
        broken(format!("max_accuracy_tokens is {}, recomputed {max_accuracy}", claimed.max_accuracy));
    }
    let (mut objective, mut size, mut unknown) = (0.0, 0.0, None);
    let mut served: BTreeMap<&str, usize> = BTreeMap::new();
    for index in 0..facts.instances.len() {
        let Some(deployment) = facts.deployment(index) else { continue };
        let gross = gross(deployment, safety);
        for (request, _) in facts.served(index) {
            let (input, output) = facts.lengths(request);
            let (i, o) = (f64::from(input), f64::from(output));
            let energy = zeta * dot(&gross, &features(i, o)) / max_energy;
            let task = facts.job(request).task.as_ref();
            let percent = task.and_then(|task| facts.input.accuracy.get(&deployment.family.model, task));
            let accuracy = (1.0 - zeta) * percent.unwrap_or(0.0) * (i + o) / max_accuracy;
            if zeta < 1.0 && percent.is_none() {
                unknown = Some(request);
            }
            objective += energy - accuracy;
            size += energy.abs() + accuracy.abs();
            *served.entry(&deployment.family.model).or_default() += 1;
        }
    }
    if let Some(request) = unknown {
        broken(format!("{} is served by a model without an accuracy figure", facts.name(request)));
    }
    if !close(claimed.objective, objective, RELATIVE * size) {
        broken(format!("objective is {}, recomputed {objective}", claimed.objective));
    }
    if !at_most(claimed.bound, claimed.objective.min(objective), RELATIVE * size) {
        broken(format!("bound of {} is above the objective of {objective}", claimed.bound));
    }
    check_shares(facts, claimed, &served, log);
}

fn check_shares(facts: &Facts, claimed: &ClaimedZeta, served: &BTreeMap<&str, usize>, log: &mut Log) {
    let requests = facts.input.workload.requests.len() as f64;
    for (model, &share) in &claimed.shares {
        let count = served.get(model.as_str()).copied().unwrap_or(0);
        if !at_most(share * requests, count as f64, RELATIVE * requests) {
            let detail = format!("gets {count} of {requests} requests, its share is {share}");
            log.add(Rule::ModelShare, || (format!("model {model}"), detail));
        }
    }
}

/// Gross joules: net and the idle power of the devices meanwhile, without the margin on seconds.
fn gross(deployment: &Deployment, safety: f64) -> Features {
    let idle = deployment.idle_power.0 / (1.0 + safety);
    std::array::from_fn(|k| deployment.rates.net_energy[k] + idle * deployment.rates.busy_time[k])
}

/// Emax and Amax over every request and whatever deployment models and cluster offer; 1 where none is above 0.
fn maxima(input: &CheckInput, safety: f64) -> (f64, f64) {
    let requests = &input.workload.requests;
    let mut offered = Vec::new();
    for model in input.models {
        let clocks = model.clocks.iter().flat_map(|table| &table.points).map(|point| Some(point.sm_clock_mhz));
        let clocks: Vec<Option<u32>> = std::iter::once(None).chain(clocks).collect();
        for point in &model.batch_points {
            for pool in 0..input.cluster.pools.len() {
                let at = |&clock: &Option<u32>| {
                    recompute::deployment(model, point, clock, pool, input.cluster, requests, safety).ok()
                };
                offered.extend(clocks.iter().filter_map(at).map(|recomputed| recomputed.deployment));
            }
        }
    }
    let energies: Vec<Features> = offered.iter().map(|deployment| gross(deployment, safety)).collect();
    let of_job = |job: &crate::domain::Job| {
        let percent = |deployment: &Deployment| input.accuracy.get(&deployment.family.model, job.task.as_deref()?);
        offered.iter().filter_map(percent).fold(0.0, f64::max)
    };
    let accuracy: Vec<f64> = input.workload.jobs.iter().map(of_job).collect();
    let of_request = |request: usize| {
        let (i, o) = (f64::from(requests.input_tokens[request]), f64::from(requests.output_tokens[request]));
        let phi = features(i, o);
        let energy = energies.iter().map(|energy| dot(energy, &phi)).fold(0.0, f64::max);
        let job = input.workload.groups[requests.group[request] as usize].job;
        (energy, accuracy[job] * (i + o))
    };
    let most = (0..requests.len()).into_par_iter().map(of_request);
    let (energy, accuracy) = most.reduce(|| (0.0, 0.0), |a, b| (a.0.max(b.0), a.1.max(b.1)));
    let or_one = |value: f64| if value > 0.0 { value } else { 1.0 };
    (or_one(energy), or_one(accuracy))
}

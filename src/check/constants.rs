//! Whether each deployment is one that exists, with the rates and constants it must have.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::CheckInput;
use super::recompute::{self, Recomputed};
use super::report::{Log, Rule};
use super::tolerance::{close, coefficient, joules, seconds};
use crate::domain::{Deployment, FamilyKey, FamilyModel};

/// Rules `C-DEPLOYMENT` (id, family known, batch cap measured, clock measured at that batch and the
/// pool's to set, devices of the pool, k fits a node, weights fit memory),
/// `C-CONSTANTS` (batch, net energy with its low, high and estimated parts, busy time, load, tail, token limit,
/// latencies, idle power; and the safety margin they contain) and, for a doubled id, `C-UNKNOWN`.
///
/// The support box is not compared: plan.json does not hold it and no joule depends on it.
///
/// Returns what could be recomputed, by index into the plan's deployments; all else is judged by it.
pub(super) fn check_constants<'a>(input: &CheckInput<'a>, log: &mut Log) -> Vec<Option<Recomputed<'a>>> {
    let plan = input.plan;
    if !(plan.safety.is_finite() && plan.safety >= 0.0) {
        let detail = format!("safety margin {} is not a fraction of 0 or more", plan.safety);
        log.add(Rule::Constants, || ("plan".to_owned(), detail));
    }
    let families: BTreeMap<&FamilyKey, &FamilyModel> = input.models.iter().map(|model| (&model.key, model)).collect();
    let recomputed: Vec<Result<Recomputed, String>> = plan
        .deployments
        .par_iter()
        .map(|claimed| {
            let model = families.get(&claimed.family).ok_or("its family is not among the models")?;
            let points = &model.batch_points;
            let point = points
                .iter()
                .find(|point| point.max_num_seqs == claimed.max_num_seqs)
                .ok_or_else(|| format!("batch cap {} was never measured", claimed.max_num_seqs))?;
            let requests = &input.workload.requests;
            let clock = claimed.sm_clock_mhz;
            recompute::deployment(model, point, clock, claimed.pool, input.cluster, requests, plan.safety)
        })
        .collect();

    let mut ids = BTreeSet::new();
    let compare = |(claimed, recomputed): (&'a Deployment, Result<Recomputed<'a>, String>)| {
        if !ids.insert(claimed.id.as_str()) {
            log.add(Rule::Unknown, || (claimed.id.clone(), "deployment id occurs twice".to_owned()));
        }
        match recomputed {
            Ok(recomputed) => {
                compare_one(claimed, &recomputed, log);
                Some(recomputed)
            }
            Err(reason) => {
                log.add(Rule::Deployment, || (claimed.id.clone(), reason));
                None
            }
        }
    };
    plan.deployments.iter().zip(recomputed).map(compare).collect()
}

fn compare_one(claimed: &Deployment, recomputed: &Recomputed, log: &mut Log) {
    let truth = &recomputed.deployment;
    if claimed.id != truth.id {
        log.add(Rule::Deployment, || (claimed.id.clone(), format!("its id should be {}", truth.id)));
    }
    let mut figure = |name: &str, unit: &str, claimed_value: f64, value: f64, slack: f64| {
        if !close(claimed_value, value, slack) {
            let detail = format!("{name} is {claimed_value} {unit}, recomputed {value} {unit}");
            log.add(Rule::Constants, || (claimed.id.clone(), detail));
        }
    };
    figure("devices", "", f64::from(claimed.devices), f64::from(truth.devices), 0.0);
    figure("batch size", "requests", claimed.batch_size, truth.batch_size, coefficient(truth.batch_size, 0.0));
    figure(
        "rates' batch size",
        "requests",
        claimed.rates.batch_size,
        truth.batch_size,
        coefficient(truth.batch_size, 0.0),
    );
    figure("load", "s", claimed.load_time.0, truth.load_time.0, seconds(truth.load_time.0));
    figure("load", "J", claimed.load_energy.0, truth.load_energy.0, joules(truth.load_energy.0));
    figure("tail", "s", claimed.tail_time.0, truth.tail_time.0, seconds(truth.tail_time.0));
    figure("tail", "J", claimed.tail_energy.0, truth.tail_energy.0, joules(truth.tail_energy.0));
    figure("max_tokens", "tokens", claimed.max_tokens, truth.max_tokens, coefficient(truth.max_tokens, 0.0));
    figure("idle power", "W", claimed.idle_power.0, truth.idle_power.0, coefficient(truth.idle_power.0, 0.0));

    let watts = |power: Option<crate::units::Watts>| power.map_or(0.0, |power| power.0);
    let (claimed_peak, peak) = (watts(claimed.peak_power), watts(truth.peak_power));
    figure("peak power", "W", claimed_peak, peak, coefficient(peak, 0.0));

    let gross = &recomputed.gross_energy;
    let coefficients = [
        ("net energy", "J", &claimed.rates.net_energy, &truth.rates.net_energy, gross),
        ("low net energy", "J", &claimed.net_energy_low, &truth.net_energy_low, gross),
        ("high net energy", "J", &claimed.net_energy_high, &truth.net_energy_high, gross),
        ("estimated net energy", "J", &claimed.net_energy_estimated, &truth.net_energy_estimated, gross),
        ("busy time", "s", &claimed.rates.busy_time, &truth.rates.busy_time, &truth.rates.busy_time),
    ];
    const TERMS: [&str; 6] = ["1", "i", "o", "i*o", "i^2", "o^2"];
    for (name, unit, claimed_values, values, sizes) in coefficients {
        for k in 0..6 {
            let slack = coefficient(values[k], sizes[k]);
            figure(&format!("{name} on {}", TERMS[k]), unit, claimed_values[k], values[k], slack);
        }
    }

    let latencies = [("ttft_p99", claimed.ttft_p99, truth.ttft_p99), ("tbt_p99", claimed.tbt_p99, truth.tbt_p99)];
    for (name, claimed_value, value) in latencies {
        let same = match (claimed_value, value) {
            (Some(claimed_value), Some(value)) => close(claimed_value.0, value.0, coefficient(value.0, 0.0)),
            (None, None) => true,
            _ => false,
        };
        if !same {
            let words = |value: Option<crate::units::Seconds>| value.map_or("absent".to_owned(), |s| s.to_string());
            let detail = format!("{name} is {}, measured {}", words(claimed_value), words(value));
            log.add(Rule::Constants, || (claimed.id.clone(), detail));
        }
    }
}

//! The deployments a queue may use: every measured batch point of every family in every pool that holds its device, at
//! every measured clock where the pool's jobs may set it, reduced to coefficients and constants, and which of them each
//! group of requests is allowed.
//!
//! Limits that depend on a request's lengths (memory, own deadline) stay with the deployment and are applied per request
//! by `plan`. SM shares are not offered.

mod constants;
mod eligibility;

use std::collections::BTreeSet;

use crate::domain::{AccuracyTable, BatchPoint, Cluster, Deployment, FamilyModel, Form, Pool, Workload};

pub use crate::domain::deployment::MEMORY_SHARE;
pub use constants::TAIL_SHARE;
pub use eligibility::{Refusal, refusal};

pub struct OptionsInput<'a> {
    pub workload: &'a Workload,
    pub cluster: &'a Cluster,
    pub models: &'a [FamilyModel],
    pub accuracy: &'a AccuracyTable,
    /// Margin on predicted seconds, a fraction.
    pub safety: f64,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub deployments: Vec<Deployment>,
    /// Index into the models, one entry a deployment.
    pub model: Vec<usize>,
    /// Percent by (job, deployment); `None` where the job names no task or the table has no figure.
    pub accuracy: Vec<Vec<Option<f64>>>,
    /// By (group, deployment), lengths and deadlines aside.
    pub allowed: Vec<Vec<bool>>,
    pub warnings: Vec<String>,
}

/// The solver numbers deployments with 16 bits and keeps the last number for "none".
pub const MAX_DEPLOYMENTS: usize = u16::MAX as usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} deployments (pools times batch points and clocks of the models) are more than {MAX_DEPLOYMENTS}; merge pools of the same \
     hardware, or plan with fewer models"
)]
pub struct TooManyDeployments(pub usize);

/// Deployments in the order of pools, then families, then batch caps, then clocks.
///
/// # Errors
/// More than `MAX_DEPLOYMENTS`.
pub fn build(input: &OptionsInput) -> Result<Options, TooManyDeployments> {
    let mut warnings = BTreeSet::new();
    let mut deployments = Vec::new();
    let mut model = Vec::new();
    for (pool_index, pool) in input.cluster.pools.iter().enumerate() {
        for (model_index, family) in input.models.iter().enumerate() {
            if family.key.device != pool.device || family.key.devices > pool.devices_per_node {
                continue;
            }
            if let Some(reason) = unplannable(family) {
                warnings.insert(format!("{} is not offered: {reason}", family.key));
                continue;
            }
            if family.weights.is_none() || family.kv_bytes_per_token.is_none() {
                warnings.insert(format!("memory of {} is unknown and not checked; add it to engines.toml", family.key));
            }
            for point in &family.batch_points {
                for clock in clocks(pool, family, point) {
                    if let Some(deployment) = constants::deployment(input, pool_index, pool, family, point, clock) {
                        deployments.push(deployment);
                        model.push(model_index);
                    }
                }
            }
        }
    }
    if deployments.len() > MAX_DEPLOYMENTS {
        return Err(TooManyDeployments(deployments.len()));
    }
    let accuracy = eligibility::accuracy(input, &deployments);
    let allowed = eligibility::allowed(input, &deployments, &accuracy, &mut warnings);
    Ok(Options { deployments, model, accuracy, allowed, warnings: warnings.into_iter().collect() })
}

/// SM clocks of a batch point; `None` sets none.
fn clocks(pool: &Pool, family: &FamilyModel, point: &BatchPoint) -> Vec<Option<u32>> {
    let Some(table) = family.clocks.as_ref().filter(|_| pool.clock_control) else { return vec![None] };
    let unset = table.default_mhz.is_none().then_some(None);
    unset.into_iter().chain(table.offered(point.batch_size).map(Some)).collect()
}

fn unplannable(family: &FamilyModel) -> Option<String> {
    if !family.has_energy() {
        return Some(
            "its energy is missing; fit it with --assume-power DEVICE=WATTS to plan with an estimate".to_owned(),
        );
    }
    let batch = family.batch_points.first().map_or(1.0, |point| point.batch_size);
    let (Some(_), Some(_)) = (
        family.net_energy_coefficients(batch, crate::domain::model::Case::Central),
        family.busy_time_coefficients(batch),
    ) else {
        return Some("its KV-cache-off term bends with the context, which plans cannot express".to_owned());
    };
    (family.form == Form::Bilinear)
        .then(|| "the bilinear form can predict negative energy; fit the phase form to plan with it".to_owned())
}

//! The tables of a plan directory and all that lies beside them: shards in service order, and Slurm scripts.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

use super::claims::powered_figures;
use crate::domain::{Engine, Rates};
use crate::formats::job_scripts::ServedJob;
use crate::formats::plan_dir::{self, InstanceFigures, PlanTables, PoweredFigures, energy_provenance};
use crate::formats::plan_json::PlanJson;
use crate::formats::shards::{self, NOT_HERE, ShardError, Split};
use crate::formats::workload::Assembled;
use crate::formats::write::WriteError;
use crate::plan::price::Priced;
use crate::plan::{PlanProblem, list_schedule};
use crate::slurm::{self, Scripts, Served, SlurmError};
use crate::units::Joules;

#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Shards(#[from] ShardError),
    #[error(transparent)]
    Scripts(#[from] SlurmError),
}

/// Writes everything a plan directory holds into `dir`, which exists.
///
/// # Errors
/// What cannot be written; workload files that changed since they were planned; pools that cannot be scripted.
pub fn write_directory(
    dir: &Path,
    json: &PlanJson,
    problem: &PlanProblem,
    priced: &Priced,
    assembled: &Assembled,
    engines: &[Engine],
) -> Result<(), DirectoryError> {
    let (schedule, deployments, cluster) = (&priced.schedule, problem.deployments(), problem.cluster);
    let instances: Vec<InstanceFigures> = schedule
        .instances
        .iter()
        .zip(&priced.instances)
        .map(|(instance, figures)| InstanceFigures {
            requests: figures.requests as u64,
            energy: Joules(figures.active),
            load: Joules(figures.start),
            provenance: {
                let model = &problem.models[problem.options.model[instance.deployment]];
                energy_provenance(&deployments[instance.deployment].at_its_clock(model))
            },
        })
        .collect();
    let powered: Vec<PoweredFigures> =
        schedule.powered.iter().map(|interval| powered_figures(problem, interval)).collect();
    let requests = &problem.workload.requests;
    let tables = PlanTables {
        schedule,
        deployments,
        cluster,
        request_ids: &requests.ids,
        instances: &instances,
        powered: &powered,
    };
    plan_dir::write(dir, json, &tables)?;

    let served_names: Vec<&str> = schedule
        .instances
        .iter()
        .map(|instance| slurm::served_name(engines, &deployments[instance.deployment].family))
        .collect();
    let rank = service_order(problem, priced);
    let all: (Vec<u32>, Vec<u32>);
    let (assignment, rank) = match &assembled.rows {
        None => (&schedule.assignment, &rank),
        Some(_) => {
            let by_row = |of: &[u32]| assembled.by_row(of).into_iter().map(|of| of.unwrap_or(NOT_HERE)).collect();
            all = (by_row(&schedule.assignment), by_row(&rank));
            (&all.0, &all.1)
        }
    };
    let split = Split { assignment, served_names: &served_names, rank: Some(rank) };
    let shards = shards::write(dir, &assembled.files, &split)?;
    let served = served(problem, priced);
    let scripts = Scripts { schedule, deployments, cluster, engines, shards: &shards, requests, served: &served };
    Ok(slurm::write(dir, &scripts)?)
}

/// What each instance does for each job, with the joules that the plan charges for it.
fn served(problem: &PlanProblem, priced: &Priced) -> Vec<Served> {
    let (schedule, workload) = (&priced.schedule, problem.workload);
    let mut shares: Vec<BTreeMap<usize, (u64, f64, f64)>> = vec![BTreeMap::new(); schedule.instances.len()];
    let rates: Vec<Rates> = schedule
        .instances
        .iter()
        .zip(&priced.instances)
        .map(|(instance, figures)| problem.rates_for(instance.deployment, figures.requests))
        .collect();
    for (request, &instance) in schedule.assignment.iter().enumerate() {
        let group = &workload.groups[workload.requests.group[request] as usize];
        let (input, output) = (workload.requests.input_tokens[request], workload.requests.output_tokens[request]);
        let share = shares[instance as usize].entry(group.job).or_insert((0, 0.0, f64::NEG_INFINITY));
        share.0 += 1;
        share.1 += rates[instance as usize].energy(input, output);
        share.2 = share.2.max(group.deadline.0);
    }
    let of = |(shares, figures): (BTreeMap<usize, (u64, f64, f64)>, &crate::plan::price::InstanceFigures)| Served {
        energy_j: figures.active,
        load_j: figures.start,
        jobs: shares
            .into_iter()
            .map(|(job, (requests, energy_j, deadline_s))| ServedJob {
                job: workload.jobs[job].name.clone(),
                requests,
                energy_j,
                deadline_s,
            })
            .collect(),
    };
    shares.into_iter().zip(&priced.instances).map(of).collect()
}

/// The position of each request in the list schedule of its instance, on which the plan's finish times rest.
fn service_order(problem: &PlanProblem, priced: &Priced) -> Vec<u32> {
    let schedule = &priced.schedule;
    let mut queues: Vec<Vec<u32>> = vec![Vec::new(); schedule.instances.len()];
    for (request, &instance) in schedule.assignment.iter().enumerate() {
        queues[instance as usize].push(request as u32);
    }
    let mut rank = vec![0; schedule.assignment.len()];
    schedule.instances.par_iter().zip(&mut queues).for_each(|(instance, queue)| {
        let rates = problem.rates_for(instance.deployment, queue.len());
        list_schedule::sort(problem, &rates, queue);
    });
    for queue in queues {
        for (position, request) in queue.into_iter().enumerate() {
            rank[request as usize] = position as u32;
        }
    }
    rank
}

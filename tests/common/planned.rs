//! What the planner says of its own plan, as claims.

use std::collections::BTreeSet;

use jouleplan::check::{
    AssignmentRow, ClaimedEnergy, ClaimedGapParts, ClaimedInstance, ClaimedJob, ClaimedPlan, ClaimedPowered,
};
use jouleplan::domain::{Cluster, Workload};
use jouleplan::options::Options;
use jouleplan::plan::Plan;
use jouleplan::units::{Joules, Seconds};

pub fn claims(plan: &Plan, workload: &Workload, cluster: &Cluster, options: &Options, safety: f64) -> ClaimedPlan {
    let (priced, schedule) = (&plan.priced, &plan.priced.schedule);
    let instances = schedule.instances.iter().zip(&priced.instances).enumerate();
    let nodes: BTreeSet<_> = schedule.instances.iter().map(|instance| (instance.pool, instance.node)).collect();
    let requests_of = |job: usize| {
        workload.requests.group.iter().filter(|&&group| workload.groups[group as usize].job == job).count()
    };
    ClaimedPlan {
        deployments: options.deployments.clone(),
        instances: instances
            .map(|(index, (instance, figures))| ClaimedInstance {
                id: format!("i{index}"),
                deployment: options.deployments[instance.deployment].id.clone(),
                pool: cluster.pools[instance.pool].name.clone(),
                node: cluster.pools[instance.pool].nodes[instance.node].clone(),
                device_indices: instance.device_indices.clone(),
                start: instance.start,
                end: instance.end,
                requests: figures.requests as u64,
                energy: Joules(figures.active),
                load: Joules(figures.start),
            })
            .collect(),
        powered: schedule
            .powered
            .iter()
            .map(|interval| {
                let pool = &cluster.pools[interval.pool];
                let mut row = ClaimedPowered {
                    pool: pool.name.clone(),
                    node: pool.nodes[interval.node].clone(),
                    wake: interval.wake,
                    on: interval.on,
                    off: interval.off,
                    idle: Joules::ZERO,
                    wake_energy: Joules::ZERO,
                };
                super::restate::price(&mut row, cluster);
                row
            })
            .collect(),
        assignments: schedule
            .assignment
            .iter()
            .enumerate()
            .map(|(request, &instance)| AssignmentRow { request: request as u32, instance })
            .collect(),
        unknown: Default::default(),
        jobs: workload
            .jobs
            .iter()
            .zip(&priced.jobs)
            .enumerate()
            .map(|(index, (job, figures))| {
                let requests = requests_of(index);
                ClaimedJob {
                    job: job.name.clone(),
                    requests: requests as u64,
                    finish: Seconds(figures.finish),
                    mean_accuracy: figures.points.filter(|_| requests > 0).map(|points| points / requests as f64),
                    energy: Joules(figures.active),
                }
            })
            .collect(),
        objective: Joules(priced.objective()),
        bound: Joules(plan.bound),
        gap: plan.gap,
        gap_parts: ClaimedGapParts { merging: plan.merging, integer: plan.integer, placement: plan.placement },
        energy: ClaimedEnergy {
            active: Joules(priced.energy.active),
            idle: Joules(priced.energy.idle),
            load: Joules(priced.energy.load),
            wake: Joules(priced.energy.wake),
            tail: Joules(priced.energy.tail),
        },
        makespan: Seconds(priced.makespan),
        nodes_used: nodes.len() as u64,
        requests: workload.requests.len() as u64,
        instance_count: schedule.instances.len() as u64,
        safety,
    }
}

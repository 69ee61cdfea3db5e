//! One large valid plan, to measure the checker by.

use jouleplan::check::{AssignmentRow, ClaimedInstance, ClaimedPlan, ClaimedPowered};
use jouleplan::domain::{AccuracyTable, FamilyModel, Group, Job, Provenance, RequestIds, Requests, Workload};
use jouleplan::units::{Joules, Seconds};
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::Case;
use super::generator::{cluster, family, stretch_deadlines};
use super::restate::deployment;

/// A valid plan of many requests: 150 or so deployments of one large cluster, instances round robin over them, each on
/// devices of its own, requests round robin over the instances; three jobs and six deadlines.
pub fn wide_case(requests: usize, instances: usize) -> Case {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut cluster = loop {
        let cluster = cluster(&mut rng);
        if cluster.pools.len() == 3 && cluster.pools.iter().any(|pool| pool.suspend) {
            break cluster;
        }
    };
    cluster.site = Default::default();
    for pool in &mut cluster.pools {
        pool.devices_per_node = 8;
        pool.devices_busy.clear();
        pool.nodes = (0..instances.div_ceil(4)).map(|n| format!("{}n{n}", pool.name)).collect();
    }
    let mut models: Vec<FamilyModel> = (0..90).map(|index| family(&mut rng, &cluster, index)).collect();
    for model in &mut models {
        model.kv_bytes_per_token = None;
    }
    let job = |index: usize| Job {
        name: format!("job {index}"),
        task: None,
        floor: None,
        deadline: Seconds(3600.0),
        release: Seconds::ZERO,
        models: None,
        pools: None,
        max_ttft: None,
        max_tbt: None,
    };
    let group = |index: usize| Group {
        job: index / 2,
        deadline: Seconds(3600.0 * (index + 1) as f64),
        release: Seconds(if index == 5 { 120.0 } else { 0.0 }),
        own_floor: None,
        pinned_models: None,
    };
    let mut column = |most: u32| (0..requests).map(|_| rng.random_range(1..=most)).collect::<Vec<u32>>();
    let requests = Requests {
        input_tokens: column(2000),
        output_tokens: column(700),
        group: column(6).into_iter().map(|group| group - 1).collect(),
        ids: RequestIds::Rows(vec![(String::new(), 0)]),
    };
    let count = requests.len();
    let workload = Workload {
        jobs: (0..3).map(job).collect(),
        groups: (0..6).map(group).collect(),
        requests,
        input_provenance: Provenance::Imported,
        output_provenance: Provenance::Imported,
        output_spread: None,
    };
    let mut deployments = Vec::new();
    for model in &models {
        for point in &model.batch_points {
            for pool in 0..3 {
                deployments.extend(deployment(model, point, None, pool, &cluster, &workload, 0.1));
            }
        }
    }
    let mut plan = ClaimedPlan { deployments, safety: 0.1, ..Default::default() };
    for index in 0..instances {
        let deployment = &plan.deployments[index % plan.deployments.len()];
        let pool = &cluster.pools[deployment.pool];
        let (node, first) = (index / 4, 2 * (index % 4) as u32);
        plan.instances.push(ClaimedInstance {
            id: format!("i{index}"),
            deployment: deployment.id.clone(),
            pool: pool.name.clone(),
            node: pool.nodes[node].clone(),
            device_indices: (first..first + deployment.devices).collect(),
            start: pool.wake_time,
            end: Seconds::ZERO,
            requests: 0,
            energy: Joules::ZERO,
            load: Joules::ZERO,
        });
        if pool.suspend && !plan.powered.iter().any(|row| row.node == pool.nodes[node]) {
            plan.powered.push(ClaimedPowered {
                pool: pool.name.clone(),
                node: pool.nodes[node].clone(),
                wake: Seconds::ZERO,
                on: pool.wake_time,
                off: Seconds::ZERO,
                idle: Joules::ZERO,
                wake_energy: Joules::ZERO,
            });
        }
    }
    let rows = 0..count;
    plan.assignments =
        rows.map(|request| AssignmentRow { request: request as u32, instance: (request % instances) as u32 }).collect();
    let mut case = Case { workload, cluster, models, accuracy: AccuracyTable::default(), plan };
    stretch_deadlines(&mut case).expect("deadlines within reason");
    case.restate();
    case.plan.bound = case.plan.objective;
    case.restate_gap();
    case
}

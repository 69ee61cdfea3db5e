//! What a plan claims, in the form the checker judges: from the planner's own schedule before anything is written, or
//! from a plan directory as read. Names stay names, so that an unknown one is a finding and not an error here.

use std::collections::{BTreeMap, BTreeSet};

use super::RequestIndex;
use crate::check::{
    AssignmentRow, ClaimedEnergy, ClaimedGapParts, ClaimedInstance, ClaimedJob, ClaimedOption, ClaimedOptionPlan,
    ClaimedOptionRow, ClaimedPlan, ClaimedPowered, ClaimedZeta, UNKNOWN, UnknownNames,
};
use crate::domain::{Box2, Cluster, Deployment, Goal, PoweredInterval, Rates, Requests};
use crate::formats::options_plan::{AssignedRow, OptionUse, OptionsPlanJson};
use crate::formats::plan_dir::{PlanDirectory, PoweredFigures, instance_id};
use crate::formats::plan_json::{DeploymentJson, ZetaJson};
use crate::plan::price::Priced;
use crate::plan::{Plan, PlanProblem};
use crate::units::{Joules, Seconds, Watts};

/// How good a schedule is known to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proof {
    /// In units of the goal.
    pub bound: f64,
    pub bound_j: f64,
    pub gap: f64,
    pub merging: f64,
    pub integer: f64,
    pub placement: f64,
}

impl Proof {
    pub fn of(plan: &Plan) -> Self {
        let Plan { bound, bound_j, gap, merging, integer, placement, .. } = *plan;
        Self { bound, bound_j, gap, merging, integer, placement }
    }

    /// Nothing is proved about it.
    pub fn none(priced: &Priced) -> Self {
        let gap = if priced.objective() > 0.0 { 1.0 } else { 0.0 };
        Self { bound: 0.0, bound_j: 0.0, gap, merging: 0.0, integer: 0.0, placement: gap }
    }
}

/// What a plan made from options claims.
pub fn of_option_plan(plan: &OptionsPlanJson, rows: &[AssignedRow]) -> ClaimedOptionPlan {
    let option = |used: &OptionUse| ClaimedOption {
        name: used.option.clone(),
        requests: used.requests,
        energy: used.energy_j,
        busy: used.busy_s,
        capacity: used.capacity_s,
        price: used.price_j_per_s,
    };
    let row = |row: &AssignedRow| ClaimedOptionRow {
        class: row.class.clone(),
        option: row.option.clone(),
        requests: row.requests,
        energy: row.energy_j,
        busy: row.busy_s,
    };
    ClaimedOptionPlan {
        objective: plan.objective_j,
        bound: plan.bound_j,
        price_bound: plan.price_bound_j,
        gap: plan.gap,
        gap_parts: plan.gap_parts.merging + plan.gap_parts.integer + plan.gap_parts.placement,
        requests: plan.requests,
        options: plan.options.iter().map(option).collect(),
        rows: rows.iter().map(row).collect(),
    }
}

/// Deployments that instances of the schedule use, ascending.
pub fn used_deployments(priced: &Priced) -> Vec<usize> {
    let used: BTreeSet<usize> = priced.schedule.instances.iter().map(|instance| instance.deployment).collect();
    used.into_iter().collect()
}

/// Nodes that hold an instance.
pub fn nodes_used(priced: &Priced) -> usize {
    let nodes: BTreeSet<_> = priced.schedule.instances.iter().map(|instance| (instance.pool, instance.node)).collect();
    nodes.len()
}

/// What a powered interval costs by its pool's figures.
pub fn powered_figures(problem: &PlanProblem, interval: &PoweredInterval) -> PoweredFigures {
    PoweredFigures {
        idle: Watts(problem.billed_power(interval.pool)) * (interval.off - interval.wake),
        wake: Joules(problem.net_wake_energy(interval.pool)),
    }
}

/// Mean accuracy of a job in percent, where every model used has a figure.
pub fn mean_accuracy(problem: &PlanProblem, priced: &Priced, job: usize) -> Option<f64> {
    let requests = problem.requests_of_job[job];
    priced.jobs[job].points.filter(|_| requests > 0).map(|points| points / requests as f64)
}

/// The claims of a priced schedule of `problem`.
pub fn of_schedule(problem: &PlanProblem, priced: &Priced, proof: Proof) -> ClaimedPlan {
    let (schedule, cluster, workload) = (&priced.schedule, problem.cluster, problem.workload);
    let deployments = problem.deployments();
    let instance = |(index, (instance, figures)): (usize, (&crate::domain::Instance, &_))| {
        let crate::plan::price::InstanceFigures { requests, active, start, .. } = *figures;
        let pool = &cluster.pools[instance.pool];
        ClaimedInstance {
            id: instance_id(index),
            deployment: deployments[instance.deployment].id.clone(),
            pool: pool.name.clone(),
            node: pool.nodes[instance.node].clone(),
            device_indices: instance.device_indices.clone(),
            start: instance.start,
            end: instance.end,
            requests: requests as u64,
            energy: Joules(active),
            load: Joules(start),
        }
    };
    let powered = |interval: &PoweredInterval| {
        let pool = &cluster.pools[interval.pool];
        let PoweredFigures { idle, wake: wake_energy } = powered_figures(problem, interval);
        let PoweredInterval { wake, on, off, .. } = *interval;
        ClaimedPowered {
            pool: pool.name.clone(),
            node: pool.nodes[interval.node].clone(),
            wake,
            on,
            off,
            idle,
            wake_energy,
        }
    };
    let row = |(request, &instance): (usize, &u32)| AssignmentRow { request: request as u32, instance };
    let job = |(index, figures): (usize, &crate::plan::price::JobFigures)| ClaimedJob {
        job: workload.jobs[index].name.clone(),
        requests: problem.requests_of_job[index] as u64,
        finish: Seconds(figures.finish),
        mean_accuracy: mean_accuracy(problem, priced, index),
        energy: Joules(figures.active),
    };
    ClaimedPlan {
        deployments: used_deployments(priced).into_iter().map(|v| deployments[v].clone()).collect(),
        instances: schedule.instances.iter().zip(&priced.instances).enumerate().map(instance).collect(),
        powered: schedule.powered.iter().map(powered).collect(),
        assignments: schedule.assignment.iter().enumerate().map(row).collect(),
        unknown: BTreeMap::new(),
        jobs: priced.jobs.iter().enumerate().map(job).collect(),
        objective: Joules(priced.energy.total()),
        bound: Joules(proof.bound_j),
        zeta: None,
        goal: problem.goal,
        goal_objective: priced.weighted,
        goal_bound: priced.weighted.map(|_| proof.bound),
        goal_unit: priced.weighted.map(|_| problem.goal.unit().to_owned()),
        gap: proof.gap,
        gap_parts: ClaimedGapParts { merging: proof.merging, integer: proof.integer, placement: proof.placement },
        energy: ClaimedEnergy {
            active: Joules(priced.energy.active),
            idle: Joules(priced.energy.idle),
            load: Joules(priced.energy.load),
            wake: Joules(priced.energy.wake),
            tail: Joules(priced.energy.tail),
        },
        makespan: Seconds(priced.makespan),
        nodes_used: nodes_used(priced) as u64,
        requests: workload.requests.len() as u64,
        instance_count: schedule.instances.len() as u64,
        safety: problem.safety,
    }
}

/// The claims of a plan directory, its requests named as in `requests` and its pools as in `cluster`.
pub fn of_directory(directory: &PlanDirectory, cluster: &Cluster, requests: &Requests) -> ClaimedPlan {
    let plan = &directory.plan;
    let mut index = RequestIndex::new(requests);
    let mut unknown = BTreeMap::new();
    let mut row = |(at, (name, instance)): (usize, (&str, u32))| {
        let request = index.find(name, at).map_or(UNKNOWN, |request| request as u32);
        if request == UNKNOWN {
            unknown.insert(at, UnknownNames { request: Some(name.to_owned()), instance: None });
        }
        AssignmentRow { request, instance }
    };
    let assignments = directory.assignments.iter().enumerate().map(&mut row).collect();
    let instances = directory.instances.iter().map(|row| ClaimedInstance {
        id: row.id.clone(),
        deployment: plan.deployments[row.deployment].id.clone(),
        pool: row.pool.clone(),
        node: row.node.clone(),
        device_indices: row.device_indices.clone(),
        start: row.start,
        end: row.end,
        requests: row.requests,
        energy: row.energy,
        load: row.load,
    });
    let powered = directory.nodes.iter().map(|row| ClaimedPowered {
        pool: row.pool.clone(),
        node: row.node.clone(),
        wake: row.wake,
        on: row.on,
        off: row.off,
        idle: row.idle,
        wake_energy: row.wake_energy,
    });
    let jobs = directory.jobs.iter().map(|row| ClaimedJob {
        job: row.job.clone(),
        requests: row.requests,
        finish: row.finish,
        mean_accuracy: row.mean_accuracy,
        energy: row.energy,
    });
    // The paper's objective stands in the same places.
    let of_goal = |_: &f64| plan.zeta.is_none();
    ClaimedPlan {
        deployments: plan.deployments.iter().map(|json| deployment(json, cluster)).collect(),
        instances: instances.collect(),
        powered: powered.collect(),
        assignments,
        unknown,
        jobs: jobs.collect(),
        objective: Joules(plan.objective_j),
        bound: Joules(plan.bound_j),
        zeta: plan.zeta.as_ref().map(|constants| zeta(plan.objective, plan.bound, constants)),
        goal: Goal::ALL
            .into_iter()
            .find(|goal| plan.flags.objective.as_deref() == Some(goal.name()))
            .unwrap_or_default(),
        goal_objective: plan.objective.filter(of_goal),
        goal_bound: plan.bound.filter(of_goal),
        goal_unit: plan.objective_unit.clone().filter(|_| plan.zeta.is_none()),
        gap: plan.gap,
        gap_parts: ClaimedGapParts {
            merging: plan.gap_parts.merging,
            integer: plan.gap_parts.integer,
            placement: plan.gap_parts.placement,
        },
        energy: ClaimedEnergy {
            active: Joules(plan.energy.active_j),
            idle: Joules(plan.energy.idle_j),
            load: Joules(plan.energy.load_j),
            wake: Joules(plan.energy.wake_j),
            tail: Joules(plan.energy.tail_j),
        },
        makespan: Seconds(plan.makespan_s),
        nodes_used: plan.nodes_used,
        requests: plan.requests,
        instance_count: plan.instances,
        safety: plan.safety,
    }
}

/// Objective and bound that are absent are claimed by nobody: not-a-number is close to nothing.
pub fn zeta(objective: Option<f64>, bound: Option<f64>, constants: &ZetaJson) -> ClaimedZeta {
    ClaimedZeta {
        zeta: constants.zeta,
        objective: objective.unwrap_or(f64::NAN),
        bound: bound.unwrap_or(f64::NAN),
        max_energy: Joules(constants.max_energy_j),
        max_accuracy: constants.max_accuracy_tokens,
        shares: constants.model_shares.clone(),
    }
}

/// A deployment as plan.json has it; a pool the cluster does not have is an index beyond its pools.
fn deployment(json: &DeploymentJson, cluster: &Cluster) -> Deployment {
    Deployment {
        id: json.id.clone(),
        family: (&json.family).into(),
        pool: cluster.pools.iter().position(|pool| pool.name == json.pool).unwrap_or(cluster.pools.len()),
        devices: json.family.devices,
        max_num_seqs: json.max_num_seqs,
        sm_clock_mhz: json.sm_clock_mhz,
        batch_size: json.batch_size,
        rates: Rates { batch_size: json.batch_size, net_energy: json.net_energy_j, busy_time: json.busy_time_s },
        net_energy_low: json.net_energy_low_j,
        net_energy_high: json.net_energy_high_j,
        net_energy_estimated: json.net_energy_estimated_j,
        load_time: Seconds(json.load_s),
        load_energy: Joules(json.load_j),
        tail_time: Seconds(json.tail_s),
        tail_energy: Joules(json.tail_j),
        max_tokens: json.max_tokens.unwrap_or(f64::INFINITY),
        ttft_p99: json.ttft_p99_s.map(Seconds),
        tbt_p99: json.tbt_p99_s.map(Seconds),
        // plan.json does not hold it and the checker does not compare it.
        support: Box2::default(),
        idle_power: Watts(json.idle_power_w),
        peak_power: json.peak_power_w.map(Watts),
    }
}

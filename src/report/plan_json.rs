//! plan.json from a plan and its problem. Only deployments in use are written: the others follow from the inputs.

use std::collections::BTreeMap;

use super::claims::{Proof, mean_accuracy, nodes_used, used_deployments};
use super::estimates::{estimated_joules, estimated_lengths, standby_joules};
use super::limits::price_json;
use crate::domain::{AccuracyRule, Deployment, Job};
use crate::formats::plan_json::{
    Baseline, DeploymentJson, Energy, Flags, GapParts, Input, JobConstraints, JobResult, PlanJson, Run, SCHEMA_VERSION,
    Status, ZetaJson,
};
use crate::formats::power_adjustment::PowerAdjustment;
use crate::formats::replan_json::ReplanJson;
use crate::plan::baselines::BaselineResult;
use crate::plan::{Plan, PlanProblem};

/// What plan.json says that is not in the plan itself.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    pub baselines: BTreeMap<String, Baseline>,
    /// Of the inputs; those of the plan are added.
    pub warnings: Vec<String>,
    pub model_policy: String,
    pub flags: Flags,
    pub inputs: Vec<Input>,
    pub replan: Option<ReplanJson>,
    pub power_adjustment: Option<PowerAdjustment>,
    pub run: Run,
    /// Objective, bound and constants where the reference paper's objective is minimised.
    pub zeta: Option<(f64, f64, ZetaJson)>,
}

pub fn plan_json(problem: &PlanProblem, plan: &Plan, circumstances: Circumstances) -> PlanJson {
    let priced = &plan.priced;
    let Circumstances { baselines, mut warnings, model_policy, flags, inputs, replan, power_adjustment, run, zeta } =
        circumstances;
    let standby_j = standby_joules(problem, priced);
    if standby_j.is_none() {
        warnings.push("standby energy is unknown: a pool that cannot sleep has no base_power_w".to_owned());
    }
    if let Some(lengths) = estimated_lengths(problem) {
        warnings.push(format!("{lengths} are estimated, and so is all that follows from them"));
    }
    let objective = priced.energy.total();
    let share = |joules: f64| if objective > 0.0 { (joules / objective).clamp(0.0, 1.0) } else { 0.0 };
    let proof = Proof::of(plan);
    let results = problem.workload.jobs.iter().enumerate().map(|(index, job)| JobResult {
        job: job.name.clone(),
        requests: problem.requests_of_job[index] as u64,
        deadline_s: job.deadline.0,
        finish_s: priced.jobs[index].finish,
        mean_accuracy: mean_accuracy(problem, priced, index),
        energy_j: priced.jobs[index].active,
    });
    PlanJson {
        schema_version: SCHEMA_VERSION,
        status: if plan.within_gap { Status::OptimalWithinGap } else { Status::Feasible },
        objective_j: objective,
        bound_j: proof.bound_j,
        objective: zeta.as_ref().map(|(objective, _, _)| *objective).or(priced.weighted),
        bound: zeta.as_ref().map(|(_, bound, _)| *bound).or(priced.weighted.map(|_| proof.bound)),
        objective_unit: match (&zeta, priced.weighted) {
            (Some(_), _) => Some("zeta".to_owned()),
            (None, weighted) => weighted.map(|_| problem.goal.unit().to_owned()),
        },
        zeta: zeta.map(|(_, _, constants)| constants),
        gap: proof.gap,
        gap_parts: GapParts { merging: proof.merging, integer: proof.integer, placement: proof.placement },
        bound_by: plan.bound_by.to_owned(),
        requests: problem.workload.requests.len() as u64,
        instances: priced.schedule.instances.len() as u64,
        nodes_used: nodes_used(priced) as u64,
        energy: Energy {
            active_j: priced.energy.active,
            idle_j: priced.energy.idle,
            load_j: priced.energy.load,
            wake_j: priced.energy.wake,
            tail_j: priced.energy.tail,
        },
        standby_j,
        objective_low_j: priced.low,
        objective_high_j: priced.high,
        estimated_share: share(estimated_joules(problem, priced)),
        extrapolated_share: share(priced.extrapolated),
        makespan_s: priced.makespan,
        jobs: results.collect(),
        baselines,
        prices: plan.shadow_prices.iter().map(|price| price_json(problem, price)).collect(),
        warnings,
        safety: problem.safety,
        constraints: problem.workload.jobs.iter().map(constraints).collect(),
        model_policy,
        flags,
        deployments: used_deployments(priced)
            .into_iter()
            .map(|v| deployment(&problem.deployments()[v], problem))
            .collect(),
        inputs,
        replan,
        power_adjustment,
        run,
    }
}

/// What became of another strategy.
pub fn baseline(result: &BaselineResult) -> Baseline {
    Baseline {
        energy_j: result.priced.as_ref().map(|priced| priced.energy.total()),
        objective: result.priced.as_ref().and_then(|priced| priced.weighted),
        feasible: result.feasible(),
        makespan_s: result.priced.as_ref().map(|priced| priced.makespan),
        reason: result.reason.clone(),
    }
}

fn constraints(job: &Job) -> JobConstraints {
    let rule = |rule| match rule {
        AccuracyRule::Mean => "mean",
        AccuracyRule::Every => "every",
    };
    JobConstraints {
        job: job.name.clone(),
        task: job.task.clone(),
        min_accuracy: job.floor.map(|floor| floor.percent),
        accuracy_rule: job.floor.map(|floor| rule(floor.rule).to_owned()),
        deadline_s: job.deadline.0,
        release_s: job.release.0,
        models: job.models.clone(),
        pools: job.pools.clone(),
        max_ttft_s: job.max_ttft.map(|limit| limit.0),
        max_tbt_s: job.max_tbt.map(|limit| limit.0),
    }
}

fn deployment(deployment: &Deployment, problem: &PlanProblem) -> DeploymentJson {
    DeploymentJson {
        id: deployment.id.clone(),
        family: (&deployment.family).into(),
        pool: problem.cluster.pools[deployment.pool].name.clone(),
        max_num_seqs: deployment.max_num_seqs,
        sm_clock_mhz: deployment.sm_clock_mhz,
        batch_size: deployment.batch_size,
        net_energy_j: deployment.rates.net_energy,
        net_energy_low_j: deployment.net_energy_low,
        net_energy_high_j: deployment.net_energy_high,
        net_energy_estimated_j: deployment.net_energy_estimated,
        busy_time_s: deployment.rates.busy_time,
        load_s: deployment.load_time.0,
        load_j: deployment.load_energy.0,
        tail_s: deployment.tail_time.0,
        tail_j: deployment.tail_energy.0,
        max_tokens: deployment.max_tokens.is_finite().then_some(deployment.max_tokens),
        ttft_p99_s: deployment.ttft_p99.map(|time| time.0),
        tbt_p99_s: deployment.tbt_p99.map(|time| time.0),
        idle_power_w: deployment.idle_power.0,
        peak_power_w: deployment.peak_power.map(|power| power.0),
    }
}

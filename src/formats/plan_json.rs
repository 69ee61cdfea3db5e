//! plan.json: the plan, its proof, its constants and its inputs. Everything but `run` depends on the inputs alone.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::power_adjustment::PowerAdjustment;
use super::replan_json::ReplanJson;
use crate::domain::{FamilyKey, Parallel};

pub const SCHEMA_VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    OptimalWithinGap,
    Feasible,
    Infeasible,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanJson {
    pub schema_version: u32,
    pub status: Status,
    /// Joules of the placed plan: active + idle + load + wake + tail.
    pub objective_j: f64,
    /// Proved lower bound on any plan's joules.
    pub bound_j: f64,
    /// What is minimised, where that is not energy, in `objective_unit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<f64>,
    /// Proved lower bound on any plan's `objective`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// `gCO2`; `money` in the currency of the price series; `zeta`: the reference paper's objective, which has no unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective_unit: Option<String>,
    /// What the reference paper's objective is made of, where it is minimised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zeta: Option<ZetaJson>,
    /// (objective - bound) / |objective|, in joules unless `objective` is there.
    pub gap: f64,
    pub gap_parts: GapParts,
    /// Which computation gave the bound.
    pub bound_by: String,
    pub requests: u64,
    pub instances: u64,
    pub nodes_used: u64,
    pub energy: Energy,
    /// Standing power of nodes that cannot sleep, until the last finish; the same in every plan, so outside the objective.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standby_j: Option<f64>,
    /// Objective at the low and high end of every estimated coefficient.
    pub objective_low_j: f64,
    pub objective_high_j: f64,
    /// Share of the objective's joules that rests on estimated figures, and on requests outside the measured range.
    pub estimated_share: f64,
    pub extrapolated_share: f64,
    pub makespan_s: f64,
    pub jobs: Vec<JobResult>,
    pub baselines: BTreeMap<String, Baseline>,
    /// Of the limits that bind.
    #[serde(default)]
    pub prices: Vec<Price>,
    pub warnings: Vec<String>,
    /// Margin on predicted seconds, already contained in every `*_s` and time coefficient below.
    pub safety: f64,
    /// Jobs after flags and files are combined, in the order of `jobs.csv`.
    pub constraints: Vec<JobConstraints>,
    pub model_policy: String,
    /// With the inputs below they give the same queue again.
    pub flags: Flags,
    pub deployments: Vec<DeploymentJson>,
    pub inputs: Vec<Input>,
    /// Where it goes on from another plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replan: Option<ReplanJson>,
    /// How current power changed the cluster, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_adjustment: Option<PowerAdjustment>,
    pub run: Run,
}

/// What one more unit of a limit would save, to first order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Price {
    /// `deadline`, `accuracy`, `devices` or `power`.
    pub constraint: String,
    /// Jobs, all of whose deadlines move together; a job; a pool; or nothing, for the power cap of the site.
    pub of: Vec<String>,
    /// With as many instances as it takes, in fractions.
    pub price: f64,
    /// With the instances of this plan, between which only requests move; absent where time ran out first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_same_instances: Option<f64>,
    /// Of what is minimised, `kJ`, `gCO2` or `money`, per `h`, `point`, `device` or `kW`: `kJ/h`, `gCO2/kW`.
    pub unit: String,
}

/// A change of one limit under which there is a plan, where there is none as things are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Relaxation {
    /// `deadline`, `accuracy`, `devices` or `power`.
    pub kind: String,
    /// Absent where it concerns all jobs, a pool or the whole site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    pub amount: f64,
    /// `h`, `points`, `nodes` or `W`.
    pub unit: String,
    /// A plan was found and checked with this amount. If not, it is what the linear programme
    /// says, and time was too short to plan with it.
    pub verified: bool,
    /// `plan`, or `relaxation`: solved again with this amount, the linear programme serves every
    /// request, with divisible instances. Absent where it was not solved again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_by: Option<String>,
    /// The amount from which the linear programme, solved again, serves every request; a plan may
    /// need more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relaxed: Option<f64>,
    /// An amount that is proved to be too little.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub too_little: Option<f64>,
}

/// A plan with one limit moved, all jobs together; a row of frontier.csv.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FrontierPoint {
    /// `deadline`, `accuracy` or `power`.
    pub limit: String,
    /// The last deadline in hours, the mean floor over the requests that have one in percent, or the lowest power cap in
    /// watts.
    pub value: f64,
    /// By how much it is looser than given; negative where tighter.
    pub loosened: f64,
    /// `h`, `%` or `W`.
    pub unit: String,
    pub objective_j: f64,
    pub bound_j: f64,
    pub gap: f64,
    pub makespan_s: f64,
}

/// How a plan does if the models err as they may.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sensitivity {
    pub draws: u64,
    pub seed: u64,
    /// Share of the draws in which no rival costs less.
    pub stays_best: f64,
    /// Where one does: the share of the plan's joules it saves, mean and 95th percentile.
    pub regret_mean: f64,
    pub regret_p95: f64,
    /// 5th, 50th and 95th percentile of the plan's joules.
    pub objective_p05_j: f64,
    pub objective_p50_j: f64,
    pub objective_p95_j: f64,
    /// Share of the draws in which a deadline is missed.
    pub late: f64,
    /// Draws in which each rival costs least.
    pub rivals: BTreeMap<String, u64>,
    /// Of the draws that were planned anew: the share of the plan's joules that any plan could save, at most.
    pub regret_to_bound: Vec<f64>,
    /// Families in use whose errors are not known; they were taken as right.
    pub without_error: Vec<String>,
}

/// Flags that fill in what neither a request nor the jobs file says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Flags {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Timestamps of an Azure trace were taken as releases.
    pub releases: bool,
    /// Outputs were predicted, and deadlines are kept with this confidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// `--format`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// `carbon` or `cost`; absent for energy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<String>,
    /// `--power-cap-w`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_cap_w: Option<f64>,
}

/// `zeta * E / max_energy_j - (1 - zeta) * A * (input + output) / max_accuracy_tokens`, summed over requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ZetaJson {
    pub zeta: f64,
    /// Most gross joules of any request on any deployment at its batch.
    pub max_energy_j: f64,
    /// Most accuracy (percent) times tokens of any request on any model.
    pub max_accuracy_tokens: f64,
    /// Least share of the requests, by model.
    pub model_shares: BTreeMap<String, f64>,
}

/// Sum to the gap; a part may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GapParts {
    pub merging: f64,
    pub integer: f64,
    pub placement: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Energy {
    pub active_j: f64,
    pub idle_j: f64,
    pub load_j: f64,
    pub wake_j: f64,
    pub tail_j: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobResult {
    pub job: String,
    pub requests: u64,
    pub deadline_s: f64,
    pub finish_s: f64,
    /// Percent; absent where a model used has no figure for the task, or the job names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_accuracy: Option<f64>,
    pub energy_j: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobConstraints {
    pub job: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_accuracy: Option<f64>,
    /// `mean` or `every`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy_rule: Option<String>,
    pub deadline_s: f64,
    pub release_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pools: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ttft_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tbt_s: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Baseline {
    /// Absent if the strategy could not be placed at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_j: Option<f64>,
    /// In `objective_unit`, where that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<f64>,
    pub feasible: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub makespan_s: Option<f64>,
    /// Why not, if infeasible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FamilyJson {
    pub model: String,
    pub precision: String,
    pub device: String,
    pub devices: u32,
    pub tensor_parallel: u32,
    pub expert_parallel: u32,
    pub data_parallel: u32,
    pub pipeline_parallel: u32,
    pub kv_cache: bool,
    pub engine: String,
}

impl From<&FamilyKey> for FamilyJson {
    fn from(key: &FamilyKey) -> Self {
        let FamilyKey { model, precision, device, devices, parallel, kv_cache, engine } = key.clone();
        Self {
            model,
            precision,
            device,
            devices,
            tensor_parallel: parallel.tensor,
            expert_parallel: parallel.expert,
            data_parallel: parallel.data,
            pipeline_parallel: parallel.pipeline,
            kv_cache,
            engine,
        }
    }
}

impl From<&FamilyJson> for FamilyKey {
    fn from(json: &FamilyJson) -> Self {
        Self {
            model: json.model.clone(),
            precision: json.precision.clone(),
            device: json.device.clone(),
            devices: json.devices,
            parallel: Parallel {
                tensor: json.tensor_parallel,
                expert: json.expert_parallel,
                data: json.data_parallel,
                pipeline: json.pipeline_parallel,
            },
            kv_cache: json.kv_cache,
            engine: json.engine.clone(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentJson {
    pub id: String,
    pub family: FamilyJson,
    pub pool: String,
    pub max_num_seqs: u32,
    /// Clock that its jobs set; absent where they set none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sm_clock_mhz: Option<u32>,
    pub batch_size: f64,
    /// Net joules per request on (1, i, o, i*o, i^2, o^2).
    pub net_energy_j: [f64; 6],
    pub net_energy_low_j: [f64; 6],
    pub net_energy_high_j: [f64; 6],
    pub net_energy_estimated_j: [f64; 6],
    /// Instance-seconds per request on the same features.
    pub busy_time_s: [f64; 6],
    pub load_s: f64,
    pub load_j: f64,
    pub tail_s: f64,
    pub tail_j: f64,
    /// Largest input + output tokens; absent where memory does not limit it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_p99_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tbt_p99_s: Option<f64>,
    pub idle_power_w: f64,
    /// Most an instance is counted to draw against the power cap, idle power included; absent without a cap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_power_w: Option<f64>,
}

/// What the plan was made from. Roles: models and workload (several each), cluster, jobs,
/// accuracy, engines, tokenizer, sidecar, and of the site carbon, price, power_cap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Input {
    pub role: String,
    pub path: String,
    pub sha256: String,
}

/// What differs from run to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    pub jouleplan: String,
    /// RFC 3339; second 0 of the plan.
    pub start: String,
    pub wall_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss_mib: Option<f64>,
}

//! An independent check of any plan, from first principles.
//!
//! What a plan directory claims is compared with what follows from models, cluster, workload and the assignments alone.
//! Nothing of the solver is imported: constants, list schedules and joules are computed again by code of their own, so
//! that one mistake would have to be made twice to pass. A rule lives in the file of its name; the public function of
//! each file says which rules it checks. Left out: whether a better plan exists (that is the bound's business), files
//! and their hashes (the command line converts them into `CheckInput`).

mod accuracy;
mod cap;
mod claims;
mod confidence;
mod constants;
mod coverage;
mod deadlines;
mod devices;
mod eligibility;
mod energy;
mod facts;
mod latency;
mod memory;
mod option_plan;
mod power;
mod recompute;
mod replay;
mod report;
mod tolerance;
mod weights;
mod zeta;

pub use claims::{
    AssignmentRow, ClaimedEnergy, ClaimedGapParts, ClaimedInstance, ClaimedJob, ClaimedPlan, ClaimedPowered,
    ClaimedZeta, UNKNOWN, UnknownNames,
};
pub use option_plan::{
    ClaimedOption, ClaimedOptionPlan, ClaimedOptionRow, OptionReport, OptionRule, OptionViolation, check_option_plan,
};
pub use report::{JobTotals, PER_RULE, Report, Rule, Totals, Violation};

use crate::domain::{AccuracyTable, Cluster, FamilyModel, Workload};
use facts::Facts;
use report::Log;

/// A plan and all it was made from. The workload's columns must be of equal length and its indices valid, as a reader
/// leaves them; of the plan nothing is taken for granted.
#[derive(Clone, Copy, Debug)]
pub struct CheckInput<'a> {
    pub workload: &'a Workload,
    pub cluster: &'a Cluster,
    pub models: &'a [FamilyModel],
    pub accuracy: &'a AccuracyTable,
    pub plan: &'a ClaimedPlan,
}

/// Every violation of every rule, and what the plan really costs. The plan is valid if and only if the report is.
///
/// Where a claim is wrong, the rules that build on it use the recomputed figure, so that one mistake is not reported
/// under ten names. One pass over the requests per rule and deployment: a million requests take about a second.
pub fn check(input: &CheckInput) -> Report {
    let mut log = Log::default();
    let deployments = constants::check_constants(input, &mut log);
    let facts = Facts::gather(input, deployments);

    coverage::check_coverage(&facts, &mut log);
    devices::check_devices(&facts, &mut log);
    let powered = power::check_power(&facts, &mut log);
    cap::check_cap(&facts, &powered, &mut log);
    memory::check_memory(&facts, &mut log);
    let finishes = deadlines::check_deadlines(&facts, &mut log);
    confidence::check_confidence(&facts, &mut log);
    let accuracies = accuracy::check_accuracy(&facts, &mut log);
    latency::check_latency(&facts, &mut log);
    eligibility::check_eligibility(&facts, &mut log);
    let weighted = weights::check_weights(&facts, &powered, &mut log);
    let energies = energy::check_energy(&facts, &powered, weighted, &mut log);
    zeta::check_zeta(&facts, &mut log);

    let jobs = input.workload.jobs.iter().enumerate().map(|(index, job)| JobTotals {
        job: job.name.clone(),
        requests: facts.job_requests[index],
        finish: finishes.jobs[index],
        mean_accuracy: accuracies[index],
        energy: energies.jobs[index],
    });
    let totals = Totals {
        requests: facts.order.len(),
        instances: input.plan.instances.len(),
        nodes_used: facts.nodes_used(),
        makespan: finishes.makespan,
        energy: energies.parts,
        objective: energies.parts.total(),
        weighted: weighted.map(|weighted| weighted.objective),
        jobs: jobs.collect(),
    };
    log.finish(totals)
}

//! Whether the joules add up: per instance, per job, in their parts and in total, and the gap made from them.

use super::claims::ClaimedEnergy;
use super::facts::Facts;
use super::power::PoweredTotals;
use super::report::{Log, Rule};
use super::tolerance::{GAP, at_most, close, joules, relative};
use super::weights::Weighted;
use crate::units::Joules;

/// Recomputed joules.
#[derive(Clone, Debug)]
pub(super) struct Energies {
    pub(super) parts: ClaimedEnergy,
    /// Active joules by job of the workload.
    pub(super) jobs: Vec<Joules>,
}

/// Rules `C-INSTANCE-ENERGY` (active joules of its requests at the batch it reaches), `C-LOAD-ENERGY` (its load and
/// tail), `C-JOB-ENERGY` (active joules of the job's requests), `C-ENERGY-PART` (active, idle, load, wake, tail),
/// `C-OBJECTIVE` (their sum, as claimed and as recomputed), `C-BOUND` (not above the objective), `C-GAP` and
/// `C-GAP-PARTS` (of the joules, or of what is minimised instead).
pub(super) fn check_energy(
    facts: &Facts,
    powered: &PoweredTotals,
    weighted: Option<Weighted>,
    log: &mut Log,
) -> Energies {
    let mut parts = ClaimedEnergy { idle: powered.idle, wake: powered.wake, ..ClaimedEnergy::default() };
    let mut jobs = vec![Joules::ZERO; facts.input.workload.jobs.len()];
    for index in 0..facts.instances.len() {
        check_instance(facts, index, &mut parts, &mut jobs, log);
    }
    for ((job, energy), row) in facts.input.workload.jobs.iter().zip(&jobs).zip(&facts.claimed_jobs) {
        if let Some(row) = row
            && !close(row.energy.0, energy.0, joules(energy.0))
        {
            let detail = format!("energy_j is {}, its requests take {energy}", row.energy);
            log.add(Rule::JobEnergy, || (format!("job {}", job.name), detail));
        }
    }
    check_totals(facts, &parts, powered.idle_slack, log);
    check_bound(facts, parts.total(), powered.idle_slack, weighted, log);
    check_gap(facts, log);
    Energies { parts, jobs }
}

fn check_instance(facts: &Facts, index: usize, parts: &mut ClaimedEnergy, jobs: &mut [Joules], log: &mut Log) {
    let (Some(deployment), Some(rates)) = (facts.deployment(index), facts.instances[index].rates) else { return };
    let claimed = &facts.input.plan.instances[index];
    let mut active = Joules::ZERO;
    for (request, _) in facts.served(index) {
        let (input, output) = facts.lengths(request);
        let energy = Joules(rates.energy(input, output));
        active += energy;
        jobs[facts.group(request).job] += energy;
    }
    if !close(claimed.energy.0, active.0, joules(active.0)) {
        let detail = format!(
            "energy_j is {}, its {} requests take {active}",
            claimed.energy,
            facts.instances[index].served.len()
        );
        log.add(Rule::InstanceEnergy, || (facts.instance_name(index), detail));
    }
    let start = deployment.load_energy + deployment.tail_energy;
    if !close(claimed.load.0, start.0, joules(start.0)) {
        let detail = format!("load_j is {}, load and tail take {start}", claimed.load);
        log.add(Rule::LoadEnergy, || (facts.instance_name(index), detail));
    }
    parts.active += active;
    parts.load += deployment.load_energy;
    parts.tail += deployment.tail_energy;
}

fn check_totals(facts: &Facts, parts: &ClaimedEnergy, idle_slack: f64, log: &mut Log) {
    let plan = facts.input.plan;
    for ((name, claimed), (_, part)) in plan.energy.named().into_iter().zip(parts.named()) {
        let slack = if name == "idle_j" { idle_slack + joules(part.0) } else { joules(part.0) };
        if !close(claimed.0, part.0, slack) {
            log.add(Rule::EnergyPart, || (name.to_owned(), format!("is {claimed}, recomputed {part}")));
        }
    }
    let (claimed, sum, recomputed) = (plan.objective, plan.energy.total(), parts.total());
    if !close(claimed.0, recomputed.0, joules(recomputed.0) + idle_slack) {
        let detail = format!("objective_j is {claimed}, recomputed {recomputed}");
        log.add(Rule::Objective, || ("plan".to_owned(), detail));
    }
    if !close(claimed.0, sum.0, joules(sum.0)) {
        let detail = format!("objective_j is {claimed}, the claimed parts sum to {sum}");
        log.add(Rule::Objective, || ("plan".to_owned(), detail));
    }
}

fn check_bound(facts: &Facts, recomputed: Joules, idle_slack: f64, weighted: Option<Weighted>, log: &mut Log) {
    let plan = facts.input.plan;
    let mut broken = |detail: String| log.add(Rule::Bound, || ("plan".to_owned(), detail));
    let (bound, least) = (plan.bound.0, plan.objective.0.min(recomputed.0));
    if !at_most(bound, least, joules(least) + idle_slack) {
        broken(format!("bound_j of {bound} J is above the objective of {least} J"));
    }
    let Some(weighted) = weighted else { return };
    let least = plan.goal_objective.unwrap_or(f64::INFINITY).min(weighted.objective);
    if !plan.goal_bound.is_some_and(|bound| at_most(bound, least, weighted.slack + relative(least))) {
        let bound = plan.goal_bound.map_or("absent".to_owned(), |bound| bound.to_string());
        broken(format!("bound is {bound}, the objective is {least} {}", plan.goal.unit()));
    }
}

fn check_gap(facts: &Facts, log: &mut Log) {
    let plan = facts.input.plan;
    let mut broken = |rule, detail: String| log.add(rule, || ("plan".to_owned(), detail));
    let (objective, bound) = match (&plan.zeta, plan.goal_objective.zip(plan.goal_bound)) {
        (Some(zeta), _) => (zeta.objective, zeta.bound),
        (None, Some(of_goal)) => of_goal,
        (None, None) => (plan.objective.0, plan.bound.0),
    };
    // A plan that costs nothing has no gap; the paper's objective may be negative.
    let gap = if objective == 0.0 { 0.0 } else { (objective - bound) / objective.abs() };
    if !close(plan.gap, gap, GAP) {
        broken(Rule::Gap, format!("gap is {}, (objective - bound) / objective is {gap}", plan.gap));
    }
    let parts = plan.gap_parts;
    let sum = parts.merging + parts.integer + parts.placement;
    if !close(plan.gap, sum, GAP) {
        broken(Rule::GapParts, format!("gap is {}, its parts sum to {sum}", plan.gap));
    }
}

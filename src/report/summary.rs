//! A plan in one screen of text, from plan.json alone.

use super::limits::prices;
use super::power_adjustment;
use super::text::{Table, amount, count, energy, percent, plain, time};
use crate::formats::plan_json::{Baseline, PlanJson, Status};
use crate::formats::replan_json::ReplanJson;

/// More warnings than this are counted.
const WARNINGS_SHOWN: usize = 12;

pub fn summary(plan: &PlanJson, whole_cluster: bool) -> String {
    let mut text = headline(plan, whole_cluster);
    text.push_str(&plan.replan.as_ref().map(|replan| replan_line(plan, replan)).unwrap_or_default());
    text.push_str(&plan.power_adjustment.as_ref().map(power_adjustment::text).unwrap_or_default());
    text.push_str(&energies(plan));
    text.push_str(&jobs(plan));
    text.push_str(&prices(&plan.prices));
    text.push_str(&baselines(plan));
    let current = plan.power_adjustment.iter().flat_map(|adjustment| &adjustment.warnings);
    let warnings = warnings(&current.chain(&plan.warnings).cloned().collect::<Vec<_>>(), "in plan.json");
    if !warnings.is_empty() {
        text.push_str(&format!("\n{warnings}"));
    }
    text
}

fn replan_line(plan: &PlanJson, replan: &ReplanJson) -> String {
    let ReplanJson { of, finished, running, moved, before_j, .. } = replan;
    let (done, requests) = (count(*finished, "instance"), count(plan.requests, "request"));
    let now = plan.energy.active_j + plan.energy.load_j + plan.energy.tail_j;
    format!(
        "replan    of {}: {done} done, {running} kept, {requests} planned anew, {moved} of them elsewhere than before; without \
         idle nodes {} instead of {}\n",
        plain(of),
        energy(now),
        energy(*before_j)
    )
}

pub fn status_words(status: Status) -> &'static str {
    match status {
        Status::OptimalWithinGap => "optimal within the gap asked for",
        Status::Feasible => "feasible; the gap asked for was not reached",
        Status::Infeasible => "infeasible",
        Status::Unknown => "unknown",
    }
}

fn headline(plan: &PlanJson, whole_cluster: bool) -> String {
    let parts = &plan.gap_parts;
    let of_goal = plan.objective.zip(plan.bound).zip(plan.objective_unit.as_deref());
    let (objective, bound) = match of_goal {
        Some(((objective, bound), unit)) => {
            (format!("{}, {}", amount(objective, unit), energy(plan.objective_j)), amount(bound, unit))
        }
        None => (energy(plan.objective_j), energy(plan.bound_j)),
    };
    let mut text = format!(
        "plan      {} on {}, {}, done after {}\n\
         status    {}\n\
         objective {}   (with every estimate at its low end {}, high end {})\n\
         bound     {}   (no plan can cost less; by {})\n\
         gap       {} = merging {} + integer {} + placement {}\n",
        count(plan.requests, "request"),
        count(plan.instances, "instance"),
        count(plan.nodes_used, "node"),
        time(plan.makespan_s),
        status_words(plan.status),
        objective,
        energy(plan.objective_low_j),
        energy(plan.objective_high_j),
        bound,
        plan.bound_by,
        percent(plan.gap),
        percent(parts.merging),
        percent(parts.integer),
        percent(parts.placement)
    );
    if parts.merging < 0.0 {
        // The bound counts whole instances, which the relaxation over classes of requests does not.
        text.push_str(
            "          (negative merging: the class relaxation lies below the bound, which counts whole instances)\n",
        );
    }
    text.push_str(&format!(
        "rests on  estimates for {}, extrapolation for {} of the joules\n",
        percent(plan.estimated_share),
        percent(plan.extrapolated_share)
    ));
    match plan.standby_j {
        Some(standby) => {
            text.push_str(&format!("standby   {} of nodes that never sleep, not in the objective\n", energy(standby)));
            if whole_cluster {
                text.push_str(&format!("cluster   {} with standby\n", energy(plan.objective_j + standby)));
            }
        }
        None => text.push_str("standby   unknown: a pool that never sleeps has no base_power_w\n"),
    }
    text
}

fn energies(plan: &PlanJson) -> String {
    let parts = &plan.energy;
    let mut table = Table::new(&["energy by cause", ">joules", ">share"]);
    for (cause, joules) in [
        ("active", parts.active_j),
        ("idle", parts.idle_j),
        ("load", parts.load_j),
        ("wake", parts.wake_j),
        ("tail", parts.tail_j),
    ] {
        let share = if plan.objective_j > 0.0 { joules / plan.objective_j } else { 0.0 };
        table.row([cause.into(), energy(joules), percent(share)]);
    }
    format!("\n{}", table.render(0))
}

fn jobs(plan: &PlanJson) -> String {
    let mut table = Table::new(&["job", ">requests", ">deadline", ">finish", ">accuracy", ">floor", ">active"]);
    for (job, limits) in plan.jobs.iter().zip(&plan.constraints) {
        let percent = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.2} %"));
        table.row([
            job.job.clone(),
            job.requests.to_string(),
            time(job.deadline_s),
            time(job.finish_s),
            percent(job.mean_accuracy),
            percent(limits.min_accuracy),
            energy(job.energy_j),
        ]);
    }
    format!("\n{}", table.render(0))
}

fn baselines(plan: &PlanJson) -> String {
    if plan.baselines.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["baseline", ">joules", ">of ours", ">done after", "feasible"]);
    for (name, baseline) in &plan.baselines {
        let Baseline { energy_j, objective, feasible, makespan_s, reason } = baseline;
        // The paper's objective may be negative or 0: a ratio says nothing there.
        let (theirs, ours) = match plan.objective.filter(|_| plan.zeta.is_none()) {
            Some(ours) => (*objective, ours),
            None => (*energy_j, plan.objective_j),
        };
        let ratio = theirs.filter(|_| ours > 0.0).map(|theirs| format!("{:.3}", theirs / ours));
        let reason = reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        table.row([
            name.clone(),
            energy_j.map_or("-".into(), energy),
            ratio.unwrap_or_else(|| "-".into()),
            makespan_s.map_or("-".into(), time),
            if *feasible { "yes".into() } else { format!("no{reason}") },
        ]);
    }
    format!("\n{}", table.render(0))
}

/// A line each, the first of them; the rest are counted, and `elsewhere` says where they are.
pub fn warnings(warnings: &[String], elsewhere: &str) -> String {
    let mut text = String::new();
    for warning in warnings.iter().take(WARNINGS_SHOWN) {
        text.push_str(&format!("warning: {}\n", plain(warning)));
    }
    let more = warnings.len().saturating_sub(WARNINGS_SHOWN);
    if more > 0 {
        text.push_str(&format!("... and {} {elsewhere}\n", count(more as u64, "more warning")));
    }
    text
}

//! Claimed joules, the bound and the gap.

use jouleplan::check::Rule;
use jouleplan::units::{Joules, Seconds};
use rand::prelude::*;

use super::{Mutation, R, alone, among, percent_off};
use crate::common::Case;

pub const ALL: &[Mutation] = &[
    alone("active joules of an instance altered by 1 %", alter_instance_energy),
    alone("load joules of an instance altered by 1 %", alter_instance_load),
    alone("joules of a job altered by 1 %", alter_job_energy),
    among("a part of the energy altered by 1 %", alter_part),
    alone("objective altered by 1 %", alter_objective),
    alone("joules shifted between parts", shift_between_parts),
    among("all active joules 1 % cheaper", cheapen_everything),
    among("not a number", not_a_number),
    alone("gap altered", alter_gap),
    alone("gap parts altered", alter_gap_parts),
    alone("bound above the objective", bound_above_objective),
];

fn alter_instance_energy(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let factor = percent_off(rng);
    let instance = case.plan.instances.iter_mut().filter(|instance| instance.energy.0 > 1.0).choose(rng)?;
    instance.energy = instance.energy * factor;
    Some(Rule::InstanceEnergy)
}

fn alter_instance_load(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let factor = percent_off(rng);
    let instance = case.plan.instances.iter_mut().filter(|instance| instance.load.0 > 1.0).choose(rng)?;
    instance.load = instance.load * factor;
    Some(Rule::LoadEnergy)
}

fn alter_job_energy(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let factor = percent_off(rng);
    let row = case.plan.jobs.iter_mut().filter(|row| row.energy.0 > 1.0).choose(rng)?;
    row.energy = row.energy * factor;
    Some(Rule::JobEnergy)
}

fn alter_part(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let factor = percent_off(rng);
    let energy = &mut case.plan.energy;
    let mut parts = [&mut energy.active, &mut energy.idle, &mut energy.load, &mut energy.wake, &mut energy.tail];
    let part = parts.iter_mut().filter(|part| part.0 > 1.0).choose(rng)?;
    **part = **part * factor;
    Some(Rule::EnergyPart)
}

fn alter_objective(case: &mut Case, rng: &mut R) -> Option<Rule> {
    // A lower bound, so that a lower objective stays above it.
    case.plan.bound = case.plan.bound * 0.9;
    case.plan.objective = case.plan.objective * percent_off(rng);
    case.restate_gap();
    Some(Rule::Objective)
}

/// Joules move from one part to another: the sum stays right.
fn shift_between_parts(case: &mut Case, _: &mut R) -> Option<Rule> {
    let by = case.plan.energy.active * 0.01;
    case.plan.energy.active += by;
    case.plan.energy.load -= by;
    (by.0 > 1.0).then_some(Rule::EnergyPart)
}

/// Instances, jobs, part and objective agree with each other and with nothing else.
fn cheapen_everything(case: &mut Case, rng: &mut R) -> Option<Rule> {
    for instance in &mut case.plan.instances {
        instance.energy = instance.energy * 0.99;
    }
    for job in &mut case.plan.jobs {
        job.energy = job.energy * 0.99;
    }
    case.plan.bound = case.plan.bound * 0.9;
    case.restate_totals();
    let rules = [Rule::InstanceEnergy, Rule::JobEnergy, Rule::EnergyPart, Rule::Objective];
    (case.plan.energy.active.0 > 1e3).then(|| *rules.choose(rng).expect("not empty"))
}

fn not_a_number(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let nan = f64::NAN;
    Some(match rng.random_range(0..9) {
        0 => (case.plan.objective = Joules(nan), Rule::Objective).1,
        1 => (case.plan.bound = Joules(nan), Rule::Bound).1,
        2 => (case.plan.gap = nan, Rule::Gap).1,
        3 => (case.plan.energy.idle = Joules(nan), Rule::EnergyPart).1,
        4 => (case.plan.instances[0].energy = Joules(nan), Rule::InstanceEnergy).1,
        5 => (case.plan.instances[0].load = Joules(nan), Rule::LoadEnergy).1,
        6 => (case.plan.makespan = Seconds(nan), Rule::Makespan).1,
        7 => (case.plan.gap_parts.merging = nan, Rule::GapParts).1,
        _ => (case.plan.powered.choose_mut(rng)?.off = Seconds(nan), Rule::Off).1,
    })
}

fn alter_gap(case: &mut Case, rng: &mut R) -> Option<Rule> {
    // A gap of nothing but rounding stays one.
    if case.plan.gap < 1e-6 {
        return None;
    }
    case.plan.gap *= percent_off(rng);
    case.plan.gap_parts.placement = case.plan.gap - case.plan.gap_parts.merging - case.plan.gap_parts.integer;
    Some(Rule::Gap)
}

fn alter_gap_parts(case: &mut Case, rng: &mut R) -> Option<Rule> {
    case.plan.gap_parts.placement += if rng.random_bool(0.5) { 1e-4 } else { -1e-4 };
    Some(Rule::GapParts)
}

fn bound_above_objective(case: &mut Case, _: &mut R) -> Option<Rule> {
    case.plan.bound = case.plan.objective * 1.01;
    case.restate_gap();
    Some(Rule::Bound)
}

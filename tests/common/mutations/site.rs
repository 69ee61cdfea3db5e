//! Grams and power caps.

use jouleplan::check::Rule;
use jouleplan::domain::{Goal, Pool, Steps};
use rand::prelude::*;

use super::{Mutation, R, alone, among, percent_off};
use crate::common::Case;
use crate::common::site::{drawn, peak, rises};

pub const ALL: &[Mutation] = &[
    alone("grams one percent off", grams_off),
    alone("grams at another intensity", other_intensity),
    alone("grams at the intensity of another hour", later_intensity),
    among("grams without pue", without_pue),
    alone("grams in another unit", other_unit),
    among("grams without a series", without_series),
    alone("cap below the peak", cap_below_peak),
    alone("cap steps below what is drawn", cap_step),
    alone("others draw more than the cap leaves", others_draw_more),
    alone("others said to draw less than nothing", negative_background),
    alone("others unknown at the start", late_background),
    alone("peak power of a deployment one percent off", peak_off),
];

fn weighed(case: &Case) -> Option<f64> {
    case.plan.goal_objective.filter(|_| case.plan.goal == Goal::Carbon)
}

fn grams_off(case: &mut Case, _: &mut R) -> Option<Rule> {
    case.plan.goal_objective = Some(weighed(case)? * 1.01);
    case.restate_gap();
    Some(Rule::Weighted)
}

/// Dearer, so that the bound stays below.
fn other_intensity(case: &mut Case, _: &mut R) -> Option<Rule> {
    weighed(case)?;
    case.cluster.site.carbon = Some(case.cluster.site.carbon.as_ref()?.scaled(1.01));
    Some(Rule::Weighted)
}

/// The plan of an hour before a step, kept when the step has been moved to its start.
fn later_intensity(case: &mut Case, _: &mut R) -> Option<Rule> {
    let objective = weighed(case)?;
    let steps: Vec<(f64, f64)> = case.cluster.site.carbon.as_ref()?.iter().collect();
    let highest = steps.iter().map(|step| step.1).fold(0.0, f64::max);
    case.cluster.site.carbon = Some(Steps::constant(highest));
    let truth = crate::common::site::grams(case)?;
    (truth > 1.001 * objective).then_some(Rule::Weighted)
}

fn without_pue(case: &mut Case, _: &mut R) -> Option<Rule> {
    let pue = case.cluster.site.pue?;
    case.plan.goal_objective = Some(weighed(case)? / pue);
    case.restate_gap();
    Some(Rule::Weighted)
}

fn other_unit(case: &mut Case, _: &mut R) -> Option<Rule> {
    weighed(case)?;
    case.plan.goal_unit = Some("kgCO2".to_owned());
    Some(Rule::Weighted)
}

fn without_series(case: &mut Case, _: &mut R) -> Option<Rule> {
    weighed(case)?;
    case.cluster.site.carbon = None;
    Some(Rule::Weighted)
}

fn cap_below_peak(case: &mut Case, _: &mut R) -> Option<Rule> {
    case.cluster.site.power_cap.as_ref()?;
    case.cluster.site.power_cap = Some(Steps::constant(0.99 * peak(case).1));
    Some(Rule::PowerCap)
}

/// From the middle of an instance's life on, when nothing may start at all.
fn cap_step(case: &mut Case, rng: &mut R) -> Option<Rule> {
    case.cluster.site.power_cap.as_ref()?;
    let instance = case.plan.instances.iter().filter(|instance| instance.end.0 > instance.start.0 + 1.0).choose(rng)?;
    let at = 0.5 * (instance.start.0 + instance.end.0);
    let most = rises(case).into_iter().map(|second| drawn(case, second)).fold(0.0, f64::max);
    case.cluster.site.power_cap = Steps::new(&[(0.0, 2.0 * most), (at, drawn(case, at) - 10.0)], f64::INFINITY);
    Some(Rule::PowerCap)
}

/// The most that is drawn, while others draw a watt more than is left then.
fn others_draw_more(case: &mut Case, _: &mut R) -> Option<Rule> {
    let cap = case.cluster.site.power_cap.clone()?;
    let standing: f64 = case.cluster.pools.iter().filter(|pool| !pool.suspend).map(standing_power).sum();
    let (at, watts) = peak(case);
    let left = cap.at(at) - watts;
    // Nothing is broken while the plan draws nothing.
    let others = Steps::constant(left + 1.0 + 1e-3 * cap.at(at));
    case.cluster.site.background = Some(others);
    (watts > standing + 1.0).then_some(Rule::PowerCap)
}

fn standing_power(pool: &Pool) -> f64 {
    pool.standing_power().map_or(0.0, |power| power.0) * pool.nodes.len() as f64
}

fn negative_background(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let watts = *[-1.0, -1e-3, f64::NEG_INFINITY].choose(rng)?;
    case.cluster.site.background = Some(Steps::constant(watts));
    Some(Rule::Background)
}

fn late_background(case: &mut Case, rng: &mut R) -> Option<Rule> {
    case.cluster.site.background = Steps::new(&[(rng.random_range(1.0..60.0), 0.0)], f64::INFINITY);
    Some(Rule::Background)
}

fn peak_off(case: &mut Case, rng: &mut R) -> Option<Rule> {
    let deployment = case.plan.deployments.choose_mut(rng)?;
    deployment.peak_power = Some(deployment.peak_power? * percent_off(rng));
    Some(Rule::Constants)
}

//! What the plan costs in grams or money: every joule at the weight of the instant it is drawn at.

use super::facts::Facts;
use super::power::PoweredTotals;
use super::report::{Log, Rule};
use super::tolerance::{close, relative};
use crate::domain::{Goal, Steps};

/// Joules in a kWh.
const KWH: f64 = 3.6e6;
/// Times may be written to the millisecond, so an interval may lie that much off.
const SHIFT: f64 = 1e-3;

/// Recomputed, in the unit of the goal.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weighted {
    pub(super) objective: f64,
    pub(super) slack: f64,
}

/// Rule `C-WEIGHTED`: a goal other than energy has its series and states its unit, and `objective` is each request's net
/// energy spread evenly over the time it holds its slot, load over the load, tail over the last tail seconds of service,
/// standing power from wake to off and wake energy from wake to on, each times intensity or price of that instant and
/// times `pue`. `None` where the goal is energy or its series is not known.
pub(super) fn check_weights(facts: &Facts, powered: &PoweredTotals, log: &mut Log) -> Option<Weighted> {
    let plan = facts.input.plan;
    let mut broken = |detail: String| log.add(Rule::Weighted, || ("plan".to_owned(), detail));
    if plan.goal == Goal::Energy {
        if plan.goal_objective.is_some() || plan.goal_bound.is_some() {
            broken("states an objective beside its joules, though energy is what it minimises".to_owned());
        }
        return None;
    }
    let site = &facts.input.cluster.site;
    let series = if plan.goal == Goal::Carbon { &site.carbon } else { &site.price };
    let Some(series) = series else {
        broken(format!("minimises {}, of which the site has no series", plan.goal.name()));
        return None;
    };
    if plan.goal_unit.as_deref() != Some(plan.goal.unit()) {
        let unit = plan.goal_unit.as_deref().unwrap_or("no unit");
        broken(format!("objective is in {unit}, {} is in {}", plan.goal.name(), plan.goal.unit()));
    }
    let mut meter = Meter::new(series, site.pue.unwrap_or(1.0));
    for index in 0..facts.instances.len() {
        read_instance(facts, index, &mut meter);
    }
    read_nodes(powered, &mut meter);
    let Meter { total, slack, .. } = meter;
    let weighted = Weighted { objective: total, slack: slack + relative(total) };
    if !plan.goal_objective.is_some_and(|claimed| close(claimed, total, weighted.slack)) {
        let claimed = plan.goal_objective.map_or("absent".to_owned(), |claimed| claimed.to_string());
        broken(format!("objective is {claimed}, recomputed {total} {}", plan.goal.unit()));
    }
    Some(weighted)
}

fn read_instance(facts: &Facts, index: usize, meter: &mut Meter) {
    let (Some(deployment), Some(rates)) = (facts.deployment(index), facts.instances[index].rates) else { return };
    let start = facts.input.plan.instances[index].start.0;
    let open = start + deployment.load_time.0;
    meter.read(deployment.load_energy.0, start, open);
    let mut last = open;
    for (request, finish) in facts.served(index) {
        let (input, output) = facts.lengths(request);
        meter.read(rates.energy(input, output), finish - rates.slot_seconds(input, output), finish);
        last = last.max(finish);
    }
    meter.read(deployment.tail_energy.0, (last - deployment.tail_time.0).max(open), last);
}

fn read_nodes(powered: &PoweredTotals, meter: &mut Meter) {
    for interval in &powered.intervals {
        let Some(standing) = interval.pool.standing_power() else { continue };
        meter.read(standing.0 * (interval.off - interval.wake), interval.wake, interval.off);
        let waking = interval.pool.wake_energy.0 - standing.0 * interval.pool.wake_time.0;
        meter.read(waking.max(0.0), interval.wake, interval.on);
    }
}

/// Adds up joules times weight.
struct Meter {
    /// (second from which it holds, weight of a joule)
    steps: Vec<(f64, f64)>,
    total: f64,
    slack: f64,
}

impl Meter {
    fn new(series: &Steps, pue: f64) -> Self {
        Self {
            steps: series.iter().map(|(second, value)| (second, pue * value / KWH)).collect(),
            total: 0.0,
            slack: 0.0,
        }
    }

    /// `joules` spread evenly over `[from, to]`.
    fn read(&mut self, joules: f64, from: f64, to: f64) {
        let first = self.steps.iter().rposition(|(second, _)| *second <= from).unwrap_or(0);
        let inside = |(second, _): &&(f64, f64)| *second < to;
        let during = 1 + self.steps[first + 1..].iter().take_while(inside).count();
        let steps = &self.steps[first..first + during];
        // Written without a sum where one weight holds throughout, not-a-number times included.
        if steps.len() == 1 || to <= from {
            self.total += joules * steps[0].1;
            return;
        }
        let watts = joules / (to - from);
        for (index, &(second, weight)) in steps.iter().enumerate() {
            let begin = if index == 0 { from } else { second };
            let end = steps.get(index + 1).map_or(to, |next| next.0);
            self.total += watts * (end - begin) * weight;
        }
        for pair in steps.windows(2) {
            self.slack += watts.abs() * SHIFT * (pair[1].1 - pair[0].1).abs();
        }
    }
}

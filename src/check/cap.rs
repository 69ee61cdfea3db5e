//! Whether all nodes together stay within the site's power cap, instant by instant.

use super::facts::Facts;
use super::power::{PoweredInterval, PoweredTotals};
use super::report::{Log, Rule};
use super::tolerance::{at_most, seconds, watts};
use crate::domain::Steps;

/// Rule `C-POWER-CAP`: at every instant the standing power of nodes that never sleep and of powered nodes, what waking
/// takes beyond it, and of every instance its peak power beyond the idle power of its devices, from start to end, sum to
/// no more than the cap that holds less the background, which is what others draw with a margin. Where nodes that never sleep
/// and the background exceed the cap by themselves, the plan draws nothing. Rule `C-BACKGROUND`: the background is finite,
/// never negative, and known from the start on.
pub(super) fn check_cap(facts: &Facts, powered: &PoweredTotals, log: &mut Log) {
    let cluster = facts.input.cluster;
    check_background(facts, log);
    let Some(cap) = &cluster.site.power_cap else { return };
    let mut always = 0.0;
    for pool in &cluster.pools {
        match pool.standing_power() {
            Some(standing) if !pool.suspend => always += standing.0 * pool.nodes.len() as f64,
            Some(_) => {}
            None => log.add(Rule::PowerCap, || {
                (format!("pool {}", pool.name), "has no base_power_w, so its power cannot be known".to_owned())
            }),
        }
    }
    // (second, change in watts); where times are rounded, what ends is gone when the next begins.
    let mut changes: Vec<(f64, f64)> = Vec::new();
    let mut draw = |from: f64, to: f64, power: f64| {
        if to - seconds(to) > from && power > 0.0 {
            changes.extend([(from, power), (to - seconds(to), -power)]);
        }
    };
    for index in 0..facts.instances.len() {
        let Some(deployment) = facts.deployment(index) else { continue };
        let peak = deployment.peak_power.map_or(0.0, |peak| peak.0 - deployment.idle_power.0);
        draw(facts.input.plan.instances[index].start.0, facts.occupied_until(index), peak);
    }
    for &PoweredInterval { pool, wake, on, off } in &powered.intervals {
        let Some(standing) = pool.standing_power() else { continue };
        draw(wake, off, standing.0);
        if pool.wake_time.0 > 0.0 {
            draw(wake, on, pool.wake_energy.0 / pool.wake_time.0 - standing.0);
        }
    }
    // A new cap is an instant at which nothing else need change, and so is a new background.
    let steps = cap.iter().chain(cluster.site.background.iter().flat_map(Steps::iter));
    changes.extend(steps.map(|(second, _)| (second.max(0.0), 0.0)));
    changes.push((0.0, 0.0));
    changes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut own = 0.0;
    for (index, &(second, change)) in changes.iter().enumerate() {
        own += change;
        let more = changes.get(index + 1).is_some_and(|next| next.0 <= second);
        let Some(limit) = value_at(cap, second).filter(|_| !more) else { continue };
        let others = cluster.site.background.as_ref().and_then(|background| value_at(background, second));
        let (drawn, background) = (always + own, others.unwrap_or(0.0));
        // What others exceed the cap by is not the plan's to save.
        let idle = own <= watts(limit) && at_most(always, limit, watts(limit));
        if !at_most(drawn + background, limit, watts(limit)) && !idle {
            let beside = if others.is_some() { format!(" beside {background:.1} W of others") } else { String::new() };
            let detail = format!("{drawn:.1} W are drawn from {second} s on{beside}, {limit} W is the cap");
            log.add(Rule::PowerCap, || ("plan".to_owned(), detail));
        }
    }
}

/// The value that holds at a second; the first one before that.
fn value_at(steps: &Steps, second: f64) -> Option<f64> {
    let holding = steps.iter().take_while(|(from, _)| *from <= second).last().or(steps.iter().next());
    holding.map(|(_, value)| value)
}

fn check_background(facts: &Facts, log: &mut Log) {
    let Some(background) = &facts.input.cluster.site.background else { return };
    for (second, power) in background.iter() {
        if !(second.is_finite() && power.is_finite() && power >= 0.0) {
            let detail = format!("others are said to draw {power} W from {second} s on");
            log.add(Rule::Background, || ("plan".to_owned(), detail));
        }
    }
    if let Some((first, _)) = background.iter().next().filter(|(first, _)| *first > 0.0) {
        let detail = format!("what others draw is stated from {first} s on, not from the start");
        log.add(Rule::Background, || ("plan".to_owned(), detail));
    }
}

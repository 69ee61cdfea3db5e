//! Current power in plan.json: from what was judged, back into the cluster a plan was made for, and in words.
//!
//! A plan is made for the cluster that `apply` gives, and checked on it again: what the file says is all there is.

use std::fmt::Write;

use super::text::{count, plain, time};
use crate::domain::{Cluster, Figure, Provenance, Steps};
use crate::forecast::current::{self, Basis, Current, STALE_AFTER, Silence};
use crate::formats::power_adjustment::{
    Background, BackgroundStep, BusyDevice, HashedFile, IdlePower, PowerAdjustment, SilentChannel,
};
use crate::units::{Seconds, Watts};

/// Names shown of a list.
const SHOWN: usize = 5;

/// What was judged, with the files it was judged by. `free`: when busy devices count as free.
pub fn power_adjustment(
    cluster: &Cluster,
    current: &Current,
    telemetry: HashedFile,
    forecaster: Option<HashedFile>,
    free: Seconds,
) -> PowerAdjustment {
    let busy = |device: &current::BusyDevice| {
        let pool = &cluster.pools[device.place.pool];
        BusyDevice {
            pool: pool.name.clone(),
            node: pool.nodes[device.place.node].clone(),
            device_index: device.place.device,
            mean_w: tenth(device.mean.0),
            forecast_w: tenth(device.forecast.0),
            free_s: device.free.map(|free| free.0),
        }
    };
    let silent = |channel: &current::SilentChannel| SilentChannel {
        channel: channel.name.clone(),
        reason: match channel.why {
            Silence::Stale(_) => "stale",
            Silence::Gaps => "gaps",
        }
        .to_owned(),
        age_s: match channel.why {
            Silence::Stale(age) => Some(age.0),
            Silence::Gaps => None,
        },
        assumed_w: tenth(channel.assumed.0),
    };
    let idle = |idle: &current::MeasuredIdle| IdlePower {
        pool: cluster.pools[idle.pool].name.clone(),
        stated_w: idle.stated.0,
        measured_w: idle.measured.0,
        devices: idle.devices as u64,
        taken: idle.differs,
    };
    let step = |step: &current::BackgroundStep| BackgroundStep {
        from_s: step.from.0,
        power_w: step.power.0,
        basis: match step.basis {
            Basis::Forecast => "forecast",
            Basis::Decay => "decay",
            Basis::History => "history",
        }
        .to_owned(),
    };
    let tenths = |figures: [Watts; 2]| figures.map(|figure| tenth(figure.0));
    let background = &current.background;
    PowerAdjustment {
        telemetry: Some(telemetry),
        forecaster,
        forecast_by: current.forecasters.clone(),
        stale_after_s: STALE_AFTER.0,
        age_s: current.age.0,
        busy_for_s: free.0,
        devices_unseen: current.unseen as u64,
        foreign: current.foreign.clone(),
        busy: current.busy.iter().map(busy).collect(),
        silent: current.silent.iter().map(silent).collect(),
        idle_power: current.idle.iter().map(idle).collect(),
        kept: Vec::new(),
        background: Background {
            quantile: current::QUANTILE,
            forecast_w: background.forecast.map(tenths),
            margin_w: background.margin.map(tenths),
            trials: background.trials as u64,
            assumed_w: tenth(background.assumed.0),
            standing_w: tenth(background.standing.0),
            steps: background.steps.iter().map(step).collect(),
        },
        warnings: Vec::new(),
    }
}

/// To the tenth of a watt.
fn tenth(watts: f64) -> f64 {
    (10.0 * watts).round() / 10.0
}

/// What the user should know of it.
pub fn warnings(adjustment: &PowerAdjustment, cluster: &Cluster) -> Vec<String> {
    let mut warnings = Vec::new();
    let named = |names: Vec<&str>| {
        let more = if names.len() > SHOWN { ", .." } else { "" };
        names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ") + more
    };
    if !adjustment.foreign.is_empty() {
        let names = named(adjustment.foreign.iter().map(String::as_str).collect());
        let channels = count(adjustment.foreign.len() as u64, "channel");
        warnings.push(format!("{channels} in the telemetry of no node or device of the cluster: {names}"));
    }
    let mut silent = |reason: &str, why: String| {
        let channels: Vec<&SilentChannel> =
            adjustment.silent.iter().filter(|channel| channel.reason == reason).collect();
        if channels.is_empty() {
            return;
        }
        let assumed: f64 = channels.iter().map(|channel| channel.assumed_w).sum();
        let names = named(channels.iter().map(|channel| channel.channel.as_str()).collect());
        let number = count(channels.len() as u64, "channel");
        warnings.push(format!(
            "{number} {why}: nothing is called busy by them, and under a power cap {assumed:.1} W are assumed throughout, the \
             high quantile of their history: {names}"
        ));
    };
    let oldest = adjustment.silent.iter().filter_map(|channel| channel.age_s).fold(0.0, f64::max);
    silent("stale", format!("stale, with last samples up to {} old", time(oldest)));
    silent("gaps", "with gaps in the last minute".to_owned());
    if adjustment.devices_unseen > 0 {
        let devices = count(adjustment.devices_unseen, "device");
        warnings.push(format!("{devices} of the cluster without telemetry, taken as free and idle"));
    }
    if let Some(second) = beyond_cap(adjustment, cluster) {
        warnings.push(format!(
            "from {} on others leave nothing of the power cap, so nothing is started then",
            time(second)
        ));
    }
    warnings
}

/// The first second at which nodes that never sleep and others together exceed the cap.
fn beyond_cap(adjustment: &PowerAdjustment, cluster: &Cluster) -> Option<f64> {
    let cap = cluster.site.power_cap.as_ref()?;
    let awake = cluster.pools.iter().filter(|pool| !pool.suspend);
    let standing = |pool: &crate::domain::Pool| pool.standing_power().map_or(0.0, |power| power.0);
    let standing: f64 = awake.map(|pool| standing(pool) * pool.nodes.len() as f64).sum();
    let left = cap.lowered(standing).with(&background(adjustment)?, |cap, others| cap - others);
    left.iter().find(|(_, left)| *left < 0.0).map(|(second, _)| second.max(0.0))
}

/// What others draw, those of the plan before that go on running included.
fn background(adjustment: &PowerAdjustment) -> Option<Steps> {
    let telemetry: Vec<(f64, f64)> =
        adjustment.background.steps.iter().map(|step| (step.from_s, step.power_w)).collect();
    let mut steps = Steps::new(&telemetry, f64::INFINITY);
    for kept in &adjustment.kept {
        let Some(power) = kept.power_w else { continue };
        let own = Steps::new(&[(0.0, power), (kept.end_s, 0.0)], f64::INFINITY);
        steps = match (steps, own) {
            (Some(steps), Some(own)) => Some(steps.with(&own, |a, b| a + b)),
            (steps, own) => steps.or(own),
        };
    }
    steps
}

/// The cluster as the plan takes it.
///
/// # Errors
/// A node, pool or device that is not there.
pub fn apply(adjustment: &PowerAdjustment, cluster: &mut Cluster) -> Result<(), String> {
    let find = |cluster: &Cluster, pool: &str, node: &str| {
        let found = cluster.pools.iter().position(|known| known.name == pool);
        let node = found.and_then(|p| cluster.pools[p].nodes.iter().position(|known| known == node));
        found.zip(node).ok_or_else(|| format!("power_adjustment: the cluster has no node `{node:?}` in pool `{pool}`"))
    };
    for idle in adjustment.idle_power.iter().filter(|idle| idle.taken) {
        let pool = cluster.pools.iter_mut().find(|pool| pool.name == idle.pool);
        let pool = pool.ok_or_else(|| format!("power_adjustment: the cluster has no pool `{}`", idle.pool))?;
        pool.idle_power = Figure::new(Watts(idle.measured_w), Provenance::Measured);
    }
    let busy =
        adjustment.busy.iter().filter_map(|busy| Some((&busy.pool, &busy.node, busy.device_index, busy.free_s?)));
    let kept = adjustment
        .kept
        .iter()
        .flat_map(|kept| kept.device_indices.iter().map(|&device| (&kept.pool, &kept.node, device, kept.end_s)));
    for (pool, node, device, free) in busy.chain(kept) {
        let (p, n) = find(cluster, pool, node)?;
        if device >= cluster.pools[p].devices_per_node || !(free.is_finite() && free >= 0.0) {
            return Err(format!("power_adjustment: there is no device {device} of {node} to be free from {free} s on"));
        }
        let held = cluster.pools[p].devices_held.entry((n, device)).or_insert(Seconds::ZERO);
        *held = held.max(Seconds(free));
    }
    cluster.site.background = background(adjustment);
    Ok(())
}

/// What an adjustment says of the present when so many seconds have passed and nobody has looked again.
pub fn carried(adjustment: &PowerAdjustment, elapsed: Seconds) -> PowerAdjustment {
    let mut carried = adjustment.clone();
    (carried.telemetry, carried.forecaster) = (None, None);
    carried.age_s += elapsed.0;
    carried.busy_for_s = (carried.busy_for_s - elapsed.0).max(0.0);
    carried.busy.retain(|busy| busy.free_s.is_none_or(|free| free > elapsed.0));
    carried.busy.iter_mut().filter_map(|busy| busy.free_s.as_mut()).for_each(|free| *free -= elapsed.0);
    carried.kept.retain(|kept| kept.end_s > elapsed.0);
    carried.kept.iter_mut().for_each(|kept| kept.end_s -= elapsed.0);
    let steps = &mut carried.background.steps;
    let past = steps.partition_point(|step| step.from_s <= elapsed.0).saturating_sub(1);
    steps.drain(..past);
    steps.iter_mut().for_each(|step| step.from_s = (step.from_s - elapsed.0).max(0.0));
    (carried.background.forecast_w, carried.background.margin_w) = (None, None);
    carried
}

/// What of one adjustment is not so in another; the files they came from aside.
pub fn differences(claimed: &PowerAdjustment, again: &PowerAdjustment) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, claimed: String, again: String| {
        if claimed != again {
            found.push(format!("power_adjustment says {what} {claimed}, its telemetry {again}"));
        }
    };
    // Whole watts: a forecast may differ in its last digits from machine to machine.
    let busy = |adjustment: &PowerAdjustment| {
        let one = |busy: &BusyDevice| {
            let free = busy.free_s.map_or("never".to_owned(), |free| format!("{free} s"));
            format!("{} device {} until {free}", busy.node, busy.device_index)
        };
        adjustment.busy.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    compare("busy", busy(claimed), busy(again));
    let silent = |adjustment: &PowerAdjustment| {
        let one = |silent: &SilentChannel| format!("{} ({})", silent.channel, silent.reason);
        adjustment.silent.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    compare("silent", silent(claimed), silent(again));
    let idle = |adjustment: &PowerAdjustment| {
        let one = |idle: &IdlePower| format!("{} {:.1} W", idle.pool, idle.measured_w);
        adjustment.idle_power.iter().filter(|idle| idle.taken).map(one).collect::<Vec<_>>().join(", ")
    };
    compare("idle", idle(claimed), idle(again));
    let (steps, steps_again) = (&claimed.background.steps, &again.background.steps);
    let close = |a: &BackgroundStep, b: &BackgroundStep| {
        a.from_s == b.from_s && (a.power_w - b.power_w).abs() <= 0.15 + 1e-6 * b.power_w.abs()
    };
    let same = steps.len() == steps_again.len() && steps.iter().zip(steps_again).all(|(a, b)| close(a, b));
    if !same {
        let one = |step: &BackgroundStep| format!("{:.1} W from {} s", step.power_w, step.from_s);
        let words = |steps: &[BackgroundStep]| steps.iter().map(one).collect::<Vec<_>>().join(", ");
        compare("background", words(steps), words(steps_again));
    }
    found
}

/// A few lines for people.
pub fn text(adjustment: &PowerAdjustment) -> String {
    let mut text = String::new();
    if let Some(telemetry) = &adjustment.telemetry {
        let by: Vec<String> = adjustment.forecast_by.iter().map(|(kind, name)| format!("{kind} by {name}")).collect();
        let by = if by.is_empty() { String::new() } else { format!("; forecast: {}", by.join(", ")) };
        let _ = writeln!(text, "power     {}, {} old{by}", telemetry.path, time(adjustment.age_s));
    }
    if !adjustment.busy.is_empty() {
        let devices = count(adjustment.busy.len() as u64, "device");
        let one = |busy: &BusyDevice| format!("{} device {} ({:.0} W)", busy.node, busy.device_index, busy.mean_w);
        let more = if adjustment.busy.len() > SHOWN { ", .." } else { "" };
        let names: Vec<String> = adjustment.busy.iter().take(SHOWN).map(one).collect();
        let free = time(adjustment.busy_for_s);
        let _ = writeln!(text, "busy      {devices}, not offered for {free}: {}{more}", names.join(", "));
    }
    for idle in adjustment.idle_power.iter().filter(|idle| idle.taken) {
        let IdlePower { pool, stated_w, measured_w, devices, .. } = idle;
        let on = count(*devices, "device");
        let _ = writeln!(
            text,
            "idle      {measured_w:.1} W a device of {pool}, measured on {on}, in place of {stated_w:.1} W"
        );
    }
    if let (Some(first), Some(last)) = (adjustment.background.steps.first(), adjustment.background.steps.last()) {
        let margin = adjustment.background.margin_w.map_or(0.0, |margin| margin[0]);
        let (first, last, from) = (first.power_w, last.power_w, time(last.from_s));
        let _ = writeln!(
            text,
            "others    {first:.1} W beyond what the plan accounts for, {margin:.1} W of it margin; {last:.1} W from {from} on"
        );
    }
    if !adjustment.kept.is_empty() {
        let kept = count(adjustment.kept.len() as u64, "instance");
        let until = adjustment.kept.iter().map(|kept| kept.end_s).fold(0.0, f64::max);
        let _ = writeln!(text, "kept      {kept} of the plan before, the last until {}", time(until));
    }
    plain_lines(&text)
}

fn plain_lines(text: &str) -> String {
    text.lines().map(|line| plain(line) + "\n").collect()
}

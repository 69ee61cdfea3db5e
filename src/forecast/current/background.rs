//! What everything that is not a plan will draw beyond what a plan accounts for by itself.
//!
//! A plan counts the base and idle power of nodes that never sleep. Background is what busy devices draw beyond idle, what
//! hosts draw beyond base, and nodes that can sleep but are on for others. For the first minute it is the sum of the forecasts
//! with a margin: the high quantile of how far the *sum* was exceeded at the worst second of the horizon, in the channels' own
//! history. A sum of quantiles would add up errors that cancel. Behind the horizon it decays to the high quantile of that
//! history. Nodes that a plan wakes although others keep them on are counted twice, which is on the safe side.

use std::collections::BTreeMap;

use super::channels::{Channels, Seen};
use super::voices::Voices;
use super::{BusyDevice, Place, clearly_above};
use crate::domain::{Cluster, Scope, Timestamp};
use crate::forecast::{Forecast, HISTORY, History, Horizon, Kind, Output, Recording, Step, Target};
use crate::stats::quantile;
use crate::units::{Seconds, Watts};

/// Of residuals and of history.
pub const QUANTILE: f64 = 0.95;
/// Seconds of the horizons.
const HORIZONS: [usize; 2] = [30, 60];
/// Behind the horizon: until when, and how much of the difference to the history's quantile is left.
const DECAY: [(f64, f64); 3] = [(180.0, 0.5), (600.0, 0.25), (f64::INFINITY, 0.0)];
/// Instants of the past that the margin is taken from: at least and at most, and histories of channels in all.
const LEAST_TRIALS: usize = 20;
const MOST_TRIALS: usize = 240;
const MOST_HISTORIES: usize = 20_000;

/// Where a figure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The forecast, with its margin.
    Forecast,
    /// Between that and the next.
    Decay,
    /// The high quantile of the history.
    History,
}

/// From a second on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackgroundStep {
    pub from: Seconds,
    pub power: Watts,
    pub basis: Basis,
}

/// What others draw beyond what a plan accounts for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Background {
    /// From second 0 on; none where nothing is drawn.
    pub steps: Vec<BackgroundStep>,
    /// For the first and the second half of the first minute: the sum of the forecasts beyond what a plan accounts for.
    pub forecast: Option<[Watts; 2]>,
    pub margin: Option<[Watts; 2]>,
    /// Past instants the margin was taken from; with too few of them it reaches to the most that was ever drawn.
    pub trials: usize,
    /// Of what channels that say nothing about the present have drawn.
    pub assumed: Watts,
    /// Base and idle power of nodes that can sleep but are on for others.
    pub standing: Watts,
}

/// A channel that counts.
pub(super) struct Part {
    pub recording: Recording,
    /// Watts of it that a plan accounts for.
    pub charged: f64,
    /// Second from which on it draws no more than that.
    pub until: f64,
    /// Seconds since its last sample.
    pub age: f64,
}

/// What nodes draw besides their busy devices.
pub(super) struct Hosts {
    pub parts: Vec<Part>,
    /// (watts, until when)
    pub standing: Vec<(f64, f64)>,
}

/// Hosts that draw clearly more than their base power, and nodes that could sleep but do not.
pub(super) fn hosts(cluster: &Cluster, channels: &Channels, busy: &[BusyDevice], idle: &[f64], free: Seconds) -> Hosts {
    let mut hosts = Hosts { parts: Vec::new(), standing: Vec::new() };
    let mut on: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for BusyDevice { place, free, .. } in busy {
        let until = on.entry((place.pool, place.node)).or_insert(0.0);
        *until = until.max(free.map_or(f64::INFINITY, |free| free.0));
    }
    for (&at, seen) in channels.nodes.iter().filter(|(_, seen)| seen.silence.is_none()) {
        let Some(base) = cluster.pools[at.0].base_power else { continue };
        let Some((recording, charged)) = host(cluster, channels, seen, base.0, idle) else { continue };
        let Some((_, history)) = recording.latest() else { continue };
        let mean = history.powers().sum::<f64>() / HISTORY as f64;
        if mean > clearly_above(charged) {
            hosts.parts.push(Part { recording, charged, until: f64::INFINITY, age: seen.age.0 });
        }
        if mean > 0.5 * charged {
            on.entry(at).or_insert(free.0);
        }
    }
    for ((pool, _), until) in on {
        let standing = cluster.pools[pool].standing_power().filter(|_| cluster.pools[pool].suspend);
        hosts.standing.extend(standing.map(|power| (power.0, until)));
    }
    hosts
}

/// What a node draws less those of its devices that have channels of their own, and what of it a plan accounts for: its base
/// power, and the idle power of the other devices.
fn host(cluster: &Cluster, channels: &Channels, node: &Seen, base: f64, idle: &[f64]) -> Option<(Recording, f64)> {
    let Place { pool, node: index, .. } = node.place;
    let devices = 0..cluster.pools[pool].devices_per_node;
    let known = devices.clone().filter_map(|device| channels.devices.get(&Place { pool, node: index, device }));
    let tables: Vec<Table<'_>> = known.map(|seen| Table(&seen.recording)).collect();
    let charged = base + (devices.count() - tables.len()) as f64 * idle[pool];
    if tables.is_empty() {
        return Some((node.recording.clone(), charged));
    }
    let mut runs: Vec<(Timestamp, Vec<Step>)> = Vec::new();
    for (start, run) in &node.recording.runs {
        let mut next = None;
        for (offset, step) in run.iter().enumerate() {
            let second = second(*start) + offset as i64;
            let known: Option<f64> = tables.iter().map(|table| table.at(second).map(|step| step.power_w)).sum();
            let Some(known) = known else { continue };
            let step = Step { power_w: (step.power_w - known).max(0.0), ..*step };
            match runs.last_mut() {
                Some((_, run)) if next == Some(second) => run.push(step),
                _ => runs.push((start.plus(Seconds(offset as f64)), vec![step])),
            }
            next = Some(second + 1);
        }
    }
    let kind = Kind { scope: Scope::Node, device: None };
    let name = format!("{} without devices", node.recording.name);
    (!runs.is_empty()).then_some((Recording { name, group: String::new(), kind, runs }, charged))
}

/// What a channel that says nothing about the present is assumed to draw beyond what a plan accounts for.
pub(super) fn assumed(cluster: &Cluster, channels: &Channels, seen: &Seen, idle: &[f64]) -> f64 {
    let pool = &cluster.pools[seen.place.pool];
    let high = |recording: &Recording| {
        let powers = recording.runs.iter().flat_map(|(_, run)| run).map(|step| step.power_w);
        quantile(&powers.collect::<Vec<_>>(), QUANTILE)
    };
    let is_node = seen.recording.kind.scope == Scope::Node;
    let (drawn, charged) = if is_node {
        let Some(base) = pool.base_power else { return 0.0 };
        match host(cluster, channels, seen, base.0, idle) {
            Some((host, charged)) => (high(&host), charged),
            // Its devices' share is not known apart.
            None => (high(&seen.recording), base.0 + idle[seen.place.pool] * f64::from(pool.devices_per_node)),
        }
    } else {
        (high(&seen.recording), idle[seen.place.pool])
    };
    drawn.map_or(0.0, |drawn| (drawn - charged).max(0.0))
}

/// The series over all seconds of a plan.
pub(super) fn series(parts: &[Part], standing: &[(f64, f64)], assumed: f64, voices: &Voices<'_>) -> Background {
    let mut background = Background {
        assumed: Watts(assumed),
        standing: Watts(standing.iter().map(|(power, _)| power).sum()),
        ..Background::default()
    };
    let latest: Vec<History<'_>> = parts.iter().filter_map(|part| Some(part.recording.latest()?.1)).collect();
    let forecasts: Vec<[f64; 2]> = voices.forecast(&latest).iter().map(means).collect();
    // `latest` leaves nothing out: parts are fresh.
    let sum = |half: usize, from: f64| -> f64 {
        let lasting = parts.iter().zip(&forecasts).filter(|(part, _)| part.until > from);
        lasting.map(|(part, forecast)| forecast[half] - part.charged).sum()
    };
    let tables: Vec<Table<'_>> = parts.iter().map(|part| Table(&part.recording)).collect();
    let lag = parts.iter().map(|part| part.age).fold(0.0, f64::max).floor() as usize;
    let residuals = residuals(&tables, lag, voices);
    background.trials = residuals.len();
    let margins: [f64; 2] = std::array::from_fn(|half| {
        let of_half: Vec<f64> = residuals.iter().map(|residual| residual[half]).collect();
        let enough = of_half.len() >= LEAST_TRIALS;
        let exceeded = if enough { quantile(&of_half, QUANTILE) } else { None };
        let most = || most_drawn(&tables) - forecasts.iter().map(|forecast| forecast[half]).sum::<f64>();
        exceeded.unwrap_or_else(most).max(0.0)
    });
    if !parts.is_empty() {
        background.forecast = Some([Watts(sum(0, 0.0).max(0.0)), Watts(sum(1, 0.0).max(0.0))]);
        background.margin = Some(margins.map(Watts));
    }
    let ends = parts.iter().map(|part| part.until).chain(standing.iter().map(|(_, until)| *until));
    let fixed = [0.0, HORIZONS[0] as f64, HORIZONS[1] as f64].into_iter().chain(DECAY.map(|(until, _)| until));
    let mut events: Vec<f64> = ends.chain(fixed).filter(|second| second.is_finite()).collect();
    events.sort_by(f64::total_cmp);
    events.dedup();
    let mut history: BTreeMap<usize, f64> = BTreeMap::new();
    for from in events {
        let lasting: Vec<usize> = (0..parts.len()).filter(|&part| parts[part].until > from).collect();
        let charged: f64 = lasting.iter().map(|&part| parts[part].charged).sum();
        // Fewer and fewer last: their number says which.
        let high = *history.entry(lasting.len()).or_insert_with(|| high_of(&tables, &lasting)) - charged;
        let (power, basis) = if from < HORIZONS[0] as f64 {
            (sum(0, from) + margins[0], Basis::Forecast)
        } else if from < HORIZONS[1] as f64 {
            (sum(1, from) + margins[1], Basis::Forecast)
        } else {
            let left = DECAY.iter().find(|(until, _)| from < *until).map_or(0.0, |(_, left)| *left);
            let basis = if left > 0.0 { Basis::Decay } else { Basis::History };
            (high + left * (sum(1, from) + margins[1] - high), basis)
        };
        let power = if lasting.is_empty() { 0.0 } else { power.max(0.0) };
        let on: f64 = standing.iter().filter(|(_, until)| *until > from).map(|(power, _)| power).sum();
        // To the tenth of a watt, upward.
        let power = (10.0 * (power + on + assumed)).ceil() / 10.0;
        if background.steps.last().is_none_or(|step| step.power.0 != power) {
            background.steps.push(BackgroundStep { from: Seconds(from), power: Watts(power), basis });
        }
    }
    if background.steps.iter().all(|step| step.power.0 == 0.0) {
        background.steps.clear();
    }
    background
}

/// Mean power of the next 30 s and 60 s.
fn means(forecast: &Forecast) -> [f64; 2] {
    [Horizon::S30, Horizon::S60].map(|horizon| forecast.of(Output { horizon, target: Target::Mean }).p50.0)
}

/// A recording by second.
struct Table<'a>(&'a Recording);

fn second(at: Timestamp) -> i64 {
    at.micros().div_euclid(1_000_000)
}

impl<'a> Table<'a> {
    fn at(&self, second: i64) -> Option<&'a Step> {
        self.steps(second, 1)?.first()
    }

    /// So many steps from a second on, if all are known.
    fn steps(&self, from: i64, count: usize) -> Option<&'a [Step]> {
        let runs = &self.0.runs;
        let run = runs.partition_point(|(start, _)| second(*start) <= from).checked_sub(1)?;
        let offset = usize::try_from(from - second(runs[run].0)).ok()?;
        runs[run].1.get(offset..offset.checked_add(count)?)
    }

    /// First and last second.
    fn range(&self) -> Option<(i64, i64)> {
        let (first, _) = self.0.runs.first()?;
        let (start, run) = self.0.runs.last()?;
        Some((second(*first), second(*start) + run.len() as i64 - 1))
    }
}

/// The seconds in which all are known, roughly: each may have gaps within.
fn common(tables: &[Table<'_>]) -> Option<(i64, i64)> {
    let ranges = tables.iter().map(Table::range).collect::<Option<Vec<_>>>()?;
    let (first, last) = (ranges.iter().map(|range| range.0).max()?, ranges.iter().map(|range| range.1).min()?);
    (first <= last).then_some((first, last))
}

/// At past instants, by how much the sum of all channels exceeded the sum of their forecasts at the worst second of the first
/// and of the second half of the horizon, which begins `lag` seconds after the last sample, as it does now.
fn residuals(tables: &[Table<'_>], lag: usize, voices: &Voices<'_>) -> Vec<[f64; 2]> {
    let Some((first, last)) = common(tables) else { return Vec::new() };
    let trials = (MOST_HISTORIES / tables.len()).clamp(LEAST_TRIALS, MOST_TRIALS);
    let (past, future) = (HISTORY as i64, (lag + HORIZONS[1]) as i64);
    // Instants at which the next second is the first that is not known.
    let (from, to) = (first + past, last + 1 - future);
    if to < from {
        return Vec::new();
    }
    let step = ((to - from) as usize / trials).max(1);
    let whole = |now: &i64| tables.iter().all(|table| table.steps(now - past, (past + future) as usize).is_some());
    let nows: Vec<i64> = (from..=to).step_by(step).filter(whole).collect();
    let histories: Vec<History<'_>> = nows
        .iter()
        .flat_map(|now| tables.iter().map(move |table| (table, now - past)))
        .filter_map(|(table, from)| History::new(&table.0.kind, table.steps(from, HISTORY)?))
        .collect();
    let forecasts = voices.forecast(&histories);
    let one = |(now, forecasts): (&i64, &[Forecast])| -> [f64; 2] {
        std::array::from_fn(|half| {
            let begin = if half == 0 { lag } else { lag + HORIZONS[0] };
            let end = lag + HORIZONS[half];
            let worst = (begin..end).filter_map(|ahead| sum_at(tables, now + ahead as i64)).fold(0.0, f64::max);
            worst - forecasts.iter().map(|forecast| means(forecast)[half]).sum::<f64>()
        })
    };
    nows.iter().zip(forecasts.chunks(tables.len())).map(one).collect()
}

fn sum_at(tables: &[Table<'_>], second: i64) -> Option<f64> {
    tables.iter().map(|table| table.at(second).map(|step| step.power_w)).sum()
}

/// The most that all together ever drew; where they were never known together, that each drew.
fn most_drawn(tables: &[Table<'_>]) -> f64 {
    let together = common(tables)
        .and_then(|(first, last)| (first..=last).filter_map(|second| sum_at(tables, second)).max_by(f64::total_cmp));
    let steps = |table: &Table<'_>| -> f64 {
        table.0.runs.iter().flat_map(|(_, run)| run).map(|step| step.power_w).fold(0.0, f64::max)
    };
    together.unwrap_or_else(|| tables.iter().map(steps).sum())
}

/// The high quantile of what some draw together; where they were never known together, the sum of those of each.
fn high_of(tables: &[Table<'_>], which: &[usize]) -> f64 {
    let chosen: Vec<Table<'_>> = which.iter().map(|&table| Table(tables[table].0)).collect();
    let together: Vec<f64> = common(&chosen)
        .map(|(first, last)| (first..=last).filter_map(|second| sum_at(&chosen, second)).collect())
        .unwrap_or_default();
    let of_one = |table: &Table<'_>| {
        let powers: Vec<f64> = table.0.runs.iter().flat_map(|(_, run)| run).map(|step| step.power_w).collect();
        quantile(&powers, QUANTILE).unwrap_or(0.0)
    };
    quantile(&together, QUANTILE).unwrap_or_else(|| chosen.iter().map(of_one).sum())
}

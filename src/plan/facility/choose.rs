//! Which instances to have: those of the bound, made better one at a time.
//!
//! Each set is worth what a linear programme says it costs. Its prices rank what to add or to put in the place of another.

use std::collections::BTreeMap;
use std::time::Instant;

use rayon::prelude::*;

use super::share_out::{Shared, share_out};
use super::{Instances, Location};
use crate::domain::Schedule;
use crate::plan::PlanError;
use crate::plan::budget::Sites;

/// Deployments tried in each place.
const CANDIDATES: usize = 8;
/// Ranges of a set at most.
const MOST_OPEN: usize = 8;
/// Share of the cost below which a move is none.
const LEAST_GAIN: f64 = 1e-6;

/// A search for the instances that cost least, as far as it has come.
#[derive(Default)]
pub struct Search {
    /// Sets that were looked at, and what they cost; infinite without room for all.
    known: BTreeMap<Instances, f64>,
    /// Where it was cut off.
    unfinished: Option<Shared>,
}

impl Search {
    /// A good set of instances with its requests shared out, found by moves from the best of `starts` or from where it was cut
    /// off; `power`: of being on. `None` where it comes to nothing but sets it knows.
    pub fn go_on(
        &mut self,
        sites: &Sites,
        starts: Vec<Instances>,
        power: f64,
        until: Instant,
    ) -> Result<Option<Shared>, PlanError> {
        let start = self.cheapest(sites, starts, power, until)?;
        let unfinished = self.unfinished.take();
        let start = unfinished.into_iter().chain(start).min_by(|a, b| a.cost.total_cmp(&b.cost));
        let Some(mut best) = start else { return Ok(None) };
        loop {
            let mut gone_further = false;
            let mut better = None;
            for moves in [less, more, exchanged] {
                let sets = moves(sites, &best);
                let enough = best.cost * (1.0 - LEAST_GAIN);
                gone_further |= sets.iter().filter_map(|set| self.known.get(set)).any(|&cost| cost < enough);
                better = self.cheapest(sites, sets, power, until)?.filter(|better| better.cost < enough);
                if better.is_some() || Instant::now() >= until {
                    break;
                }
            }
            match better {
                Some(better) => best = better,
                None if Instant::now() >= until => {
                    self.unfinished = Some(best.clone());
                    return Ok(Some(best));
                }
                None => return Ok((!gone_further).then_some(best)),
            }
        }
    }

    /// The cheapest of the sets that are not known yet.
    fn cheapest(
        &mut self,
        sites: &Sites,
        mut sets: Vec<Instances>,
        power: f64,
        until: Instant,
    ) -> Result<Option<Shared>, PlanError> {
        sets.retain(|set| !set.is_empty() && !self.known.contains_key(set));
        let in_time = |set: &Instances| {
            let left = until.saturating_duration_since(Instant::now()).as_secs_f64();
            if left <= 0.0 {
                return Ok(None);
            }
            // One that was cut off is not known.
            let shared = share_out(sites, set, power, left)?;
            Ok((shared.is_some() || Instant::now() < until).then_some(shared))
        };
        let shared: Vec<Option<Option<Shared>>> = sets.par_iter().map(in_time).collect::<Result<_, _>>()?;
        let mut cheapest: Option<Shared> = None;
        for (set, shared) in sets.into_iter().zip(shared) {
            let Some(shared) = shared else { continue };
            self.known.insert(set, shared.as_ref().map_or(f64::INFINITY, |shared| shared.cost));
            let costs_less = |shared: &Shared| cheapest.as_ref().is_none_or(|known| shared.cost < known.cost);
            if let Some(shared) = shared.filter(costs_less) {
                cheapest = Some(shared);
            }
        }
        Ok(cheapest)
    }
}

/// Sets to begin with: what is open in `found`, and as many instances as the node holds of the range whose start is paid for
/// best.
pub fn starts(sites: &Sites, found: &Location) -> Vec<Instances> {
    let mut open = found.mostly_open();
    open.truncate(MOST_OPEN);
    let whole = |m: usize| (m, (found.instances[m].round() as usize).max(1));
    let best = (0..sites.ranges.count()).min_by(|&a, &b| found.unpaid[a].total_cmp(&found.unpaid[b]));
    let alone = best.map(|m| (m, ((sites.all_devices() / sites.devices(m)) as usize).max(1)));
    vec![open.into_iter().map(whole).collect(), alone.into_iter().collect()]
}

/// The instances of a schedule.
pub fn instances_of(sites: &Sites, schedule: &Schedule) -> Instances {
    let mut requests = vec![0; schedule.instances.len()];
    schedule.assignment.iter().for_each(|&j| requests[j as usize] += 1);
    let mut counts = BTreeMap::new();
    for (instance, requests) in schedule.instances.iter().zip(requests) {
        let own = (0..sites.ranges.count()).filter(|&m| sites.ranges.deployment(m) == instance.deployment);
        let range = own.filter(|&m| sites.ranges.fewest(m) <= requests).max_by_key(|&m| sites.ranges.fewest(m));
        range.into_iter().for_each(|m| *counts.entry(m).or_insert(0) += 1);
    }
    counts.into_iter().collect()
}

/// Sets with one instance less.
fn less(_: &Sites, shared: &Shared) -> Vec<Instances> {
    shared.instances.iter().map(|&(m, _)| moved(shared, Some(m), None)).collect()
}

/// Sets with one instance more.
fn more(sites: &Sites, shared: &Shared) -> Vec<Instances> {
    let own = shared.instances.iter().map(|&(m, _)| m);
    let new = candidates(sites, shared).into_iter().chain(own);
    new.map(|m| moved(shared, None, Some(m))).filter(|set| set.len() <= MOST_OPEN).collect()
}

/// Sets with one instance in the place of another.
fn exchanged(sites: &Sites, shared: &Shared) -> Vec<Instances> {
    let own = || shared.instances.iter().map(|&(m, _)| m);
    let candidates = candidates(sites, shared);
    let pairs = own().flat_map(|gone| candidates.iter().copied().chain(own()).map(move |new| (gone, new)));
    let mut sets: Vec<Instances> =
        pairs.filter(|(gone, new)| gone != new).map(|(gone, new)| moved(shared, Some(gone), Some(new))).collect();
    sets.sort_unstable();
    sets.dedup();
    sets
}

fn moved(shared: &Shared, gone: Option<usize>, new: Option<usize>) -> Instances {
    let mut counts: BTreeMap<usize, usize> = shared.instances.iter().copied().collect();
    if let Some(count) = gone.and_then(|gone| counts.get_mut(&gone)) {
        *count -= 1;
    }
    new.into_iter().for_each(|new| *counts.entry(new).or_insert(0) += 1);
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// The ranges that would be worth most at the prices of a set, one of each deployment.
fn candidates(sites: &Sites, shared: &Shared) -> Vec<usize> {
    let mut gains = vec![0.0; sites.ranges.count()];
    for (c, offers) in sites.offers.iter().enumerate() {
        let (job, count) = (sites.job(c), sites.count(c));
        for offer in offers {
            let m = offer.range as usize;
            let time = shared.device_second * sites.devices(m) * offer.seconds;
            let cost = offer.energy + time - shared.points[job] * sites.accuracy[job][m];
            gains[m] += count * (shared.levels[c] - cost).max(0.0);
        }
    }
    let worth = |m: usize| gains[m] - sites.start(m, shared.device_second);
    let mut best: BTreeMap<usize, usize> = BTreeMap::new();
    for m in 0..gains.len() {
        let known = best.entry(sites.ranges.deployment(m)).or_insert(m);
        if worth(m) > worth(*known) {
            *known = m;
        }
    }
    let mut best: Vec<usize> = best.into_values().collect();
    best.sort_by(|&a, &b| worth(b).total_cmp(&worth(a)).then(a.cmp(&b)));
    best.truncate(CANDIDATES);
    best
}

//! Whether deadlines hold with the stated confidence where outputs are predictions, by margins computed again.

use std::collections::BTreeMap;

use super::facts::Facts;
use super::replay::{Queued, replay};
use super::report::{Log, Rule};
use super::tolerance::{at_most, seconds};
use crate::stats::distribution::t_two_sided_quantile;

/// Degrees of freedom of the mean of the shortest history.
const FREEDOM: usize = 29;

/// Rule `C-CONFIDENCE`: on an instance that serves predicted outputs, the requests due by each deadline are done by it,
/// and all of them before another instance starts on its devices, either with every output at its bound or with
/// Bernstein's margin on the sum of their work, the last request at its bound.
pub(super) fn check_confidence(facts: &Facts, log: &mut Log) {
    let Some(spread) = &facts.input.workload.output_spread else { return };
    if !(spread.confidence > 0.0 && spread.confidence < 1.0) {
        let detail = format!("a confidence of {} is not between 0 and 1", spread.confidence);
        return log.add(Rule::Confidence, || ("plan".to_owned(), detail));
    }
    for (index, next) in next_starts(facts).into_iter().enumerate() {
        for (deadline, done) in certain(facts, index) {
            let limit = deadline.min(next);
            if !at_most(done, limit, seconds(limit)) {
                let percent = 100.0 * spread.confidence;
                let detail = format!("is done by {done} s with {percent} % confidence, not by {limit} s");
                log.add(Rule::Confidence, || (facts.instance_name(index), detail));
            }
        }
    }
}

/// Start of the next instance on any of the devices of each.
fn next_starts(facts: &Facts) -> Vec<f64> {
    let mut starts: BTreeMap<(usize, usize, u32), Vec<(f64, usize)>> = BTreeMap::new();
    for (index, (claimed, instance)) in facts.input.plan.instances.iter().zip(&facts.instances).enumerate() {
        let Some((pool, node)) = instance.pool.zip(instance.node) else { continue };
        for &device in &claimed.device_indices {
            starts.entry((pool, node, device)).or_default().push((claimed.start.0, index));
        }
    }
    let mut next = vec![f64::INFINITY; facts.instances.len()];
    for starts in starts.values() {
        for &(start, index) in starts {
            let later = starts.iter().filter(|(other, _)| *other > start).map(|(other, _)| *other);
            next[index] = later.fold(next[index], f64::min);
        }
    }
    next
}

/// Each deadline of an instance with the second at which all that is due by then is done; empty if all is known.
fn certain(facts: &Facts, index: usize) -> Vec<(f64, f64)> {
    let (Some(spread), Some(rates), Some(deployment)) =
        (&facts.input.workload.output_spread, facts.instances[index].rates, facts.deployment(index))
    else {
        return Vec::new();
    };
    let served: Vec<usize> = facts.served(index).map(|(request, _)| request).collect();
    if served.iter().all(|&request| spread.variance[request] == 0.0) {
        return Vec::new();
    }
    let open = facts.input.plan.instances[index].start.0 + deployment.load_time.0;
    let slots = rates.slots().min(served.len());
    let (width, held) = (slots as f64, rates.slots() as f64);
    let devices = facts.input.cluster.pools.iter().map(|pool| pool.nodes.len() * pool.devices_per_node as usize);
    let instances = devices.sum::<usize>().min(facts.input.workload.requests.len()).max(1) as f64;
    let risk = (1.0 - spread.confidence) / 2.0 / instances;
    let quantile = t_two_sided_quantile(spread.confidence, FREEDOM).unwrap_or(f64::INFINITY);

    let (mut release, mut work, mut variance, mut largest, mut all, mut common, mut longest) =
        (open, 0.0, 0.0, 0.0_f64, 0.0, 0.0, 0.0_f64);
    let mut bounded = Vec::new();
    let mut certain: Vec<(f64, f64)> = Vec::new();
    for (place, &request) in served.iter().enumerate() {
        let group = facts.group(request);
        let (input, output) = facts.lengths(request);
        let at_bound = rates.slot_seconds(input, spread.most[request]);
        // Served as it stands, by its place, whatever its bound is.
        let (request_row, deadline) = (place as u32, place as f64);
        bounded.push(Queued { request: request_row, deadline, release: group.release.0, slot_seconds: at_bound });
        let spread_of = f64::from(spread.variance[request]);
        let [_, _, by_output, by_product, _, by_square] = rates.busy_time;
        let slope = by_output + by_product * f64::from(input) + 2.0 * by_square * f64::from(spread.most[request]);
        let slope = slope * held / width;
        let planned = rates.slot_seconds(input, output) / width;
        work += planned + by_square * spread_of * held / width;
        variance += slope.powi(2) * spread_of;
        let deviation = (at_bound / width - planned).max(0.0);
        largest = largest.max(deviation);
        all += deviation;
        common += slope * f64::from(spread.mean_error[request]);
        release = release.max(group.release.0);
        longest = longest.max(at_bound);
        // exp(-t^2 / (2 (V + c t / 3))) = risk, solved for t
        let log = -risk.ln();
        let bernstein = largest * log / 3.0 + ((largest * log / 3.0).powi(2) + 2.0 * variance * log).sqrt();
        let margin = (bernstein + quantile * common).min(all);
        let graham = release + work + margin + longest * (1.0 - 1.0 / width);
        match certain.last_mut() {
            Some(last) if last.0 == group.deadline.0 => last.1 = last.1.max(graham),
            _ => certain.push((group.deadline.0, graham)),
        }
    }
    let finishes = replay(&mut bounded, slots, open);
    let mut latest = open;
    let mut by_place = finishes.into_iter().zip(&served).peekable();
    for (deadline, done) in &mut certain {
        while let Some((finish, _)) = by_place.next_if(|(_, request)| facts.group(**request).deadline.0 == *deadline) {
            latest = latest.max(finish);
        }
        *done = done.min(latest);
    }
    certain
}

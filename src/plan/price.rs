//! What a schedule costs and when its jobs finish, from the schedule alone.

use rayon::prelude::*;

use super::list_schedule;
use super::problem::PlanProblem;
use crate::domain::{PoweredInterval, Schedule, dot, features};
use crate::units::Seconds;

/// Joules by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EnergyParts {
    pub active: f64,
    pub idle: f64,
    pub load: f64,
    pub wake: f64,
    pub tail: f64,
}

impl EnergyParts {
    pub fn total(&self) -> f64 {
        self.active + self.idle + self.load + self.wake + self.tail
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InstanceFigures {
    pub requests: usize,
    pub active: f64,
    /// Load and tail.
    pub start: f64,
    pub estimated: f64,
    pub extrapolated: f64,
    /// What the estimated coefficients may add or take away.
    pub low: f64,
    pub high: f64,
    /// Requests, load and tail in units of the goal; 0 where that is energy.
    pub weighted: f64,
    /// Seconds past the worst deadline.
    pub lateness: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct JobFigures {
    pub finish: f64,
    pub active: f64,
    /// Sum of accuracy in percent; `None` if a model used has no figure.
    pub points: Option<f64>,
}

/// A schedule with its price.
#[derive(Clone, Debug, PartialEq)]
pub struct Priced {
    pub schedule: Schedule,
    pub energy: EnergyParts,
    /// What that costs in units of the goal, each joule at the weight of its instant; `None` where that is the joules.
    pub weighted: Option<f64>,
    pub instances: Vec<InstanceFigures>,
    pub jobs: Vec<JobFigures>,
    /// Joules from estimated figures and from requests outside the measured range.
    pub estimated: f64,
    pub extrapolated: f64,
    pub low: f64,
    pub high: f64,
    pub makespan: f64,
}

impl Priced {
    /// In units of the problem's goal.
    pub fn objective(&self) -> f64 {
        self.weighted.unwrap_or_else(|| self.energy.total())
    }
}

/// Prices `schedule`, replacing its powered intervals and instance ends by what list scheduling gives.
pub fn price(problem: &PlanProblem, mut schedule: Schedule) -> Priced {
    let mut queues: Vec<Vec<u32>> = vec![Vec::new(); schedule.instances.len()];
    for (request, &instance) in schedule.assignment.iter().enumerate() {
        queues[instance as usize].push(request as u32);
    }
    let priced: Vec<(InstanceFigures, Vec<JobFigures>, f64)> = schedule
        .instances
        .par_iter()
        .zip(queues)
        .map(|(instance, queue)| price_instance(problem, instance.deployment, instance.start.0, queue))
        .collect();
    let job = |figures: Option<f64>| JobFigures { finish: 0.0, active: 0.0, points: figures };
    let mut jobs: Vec<JobFigures> = problem.workload.jobs.iter().map(|_| job(Some(0.0))).collect();
    let mut energy = EnergyParts::default();
    let mut instances = Vec::with_capacity(priced.len());
    for ((figures, of_jobs, end), instance) in priced.into_iter().zip(&mut schedule.instances) {
        let deployment = &problem.deployments()[instance.deployment];
        instance.end = Seconds(end);
        energy.active += figures.active;
        energy.load += deployment.load_energy.0;
        energy.tail += deployment.tail_energy.0;
        instances.push(figures);
        for (total, part) in jobs.iter_mut().zip(of_jobs) {
            total.finish = total.finish.max(part.finish);
            total.active += part.active;
            total.points = total.points.zip(part.points).map(|(a, b)| a + b);
        }
    }
    schedule.powered = powered_intervals(problem, &schedule);
    let mut standing = 0.0;
    for interval in &schedule.powered {
        let &PoweredInterval { pool, wake, on, off, .. } = interval;
        energy.idle += problem.billed_power(pool) * (off.0 - wake.0);
        energy.wake += problem.net_wake_energy(pool);
        standing += problem.billed_power(pool) * (off.0 - wake.0) * problem.mean_weight(wake.0, off.0)
            + problem.net_wake_energy(pool) * problem.mean_weight(wake.0, on.0);
    }
    let sum = |value: fn(&InstanceFigures) -> f64| instances.iter().map(value).sum::<f64>();
    let (estimated, extrapolated) = (sum(|f| f.estimated), sum(|f| f.extrapolated));
    let weighted = problem.is_weighted().then(|| sum(|f| f.weighted) + standing);
    let joules = energy.total();
    let (low, high) = (joules - sum(|f| f.active) + sum(|f| f.low), joules - sum(|f| f.active) + sum(|f| f.high));
    let makespan = jobs.iter().map(|job| job.finish).fold(0.0, f64::max);
    Priced { schedule, energy, weighted, instances, jobs, estimated, extrapolated, low, high, makespan }
}

fn price_instance(
    problem: &PlanProblem,
    v: usize,
    start: f64,
    mut queue: Vec<u32>,
) -> (InstanceFigures, Vec<JobFigures>, f64) {
    let deployment = &problem.deployments()[v];
    let rates = problem.rates_for(v, queue.len());
    list_schedule::sort(problem, &rates, &mut queue);
    let start_energy = deployment.start_energy().0;
    let mut figures = InstanceFigures { requests: queue.len(), start: start_energy, ..InstanceFigures::default() };
    let empty = JobFigures { finish: 0.0, active: 0.0, points: Some(0.0) };
    let mut jobs = vec![empty; problem.workload.jobs.len()];
    let mut sums = [0.0; 6];
    let mut extrapolated_sums = [0.0; 6];
    let open = start + deployment.load_time.0;
    let finish = list_schedule::run(problem, &rates, &queue, open, |request, finish| {
        let (input, output) = problem.lengths(request as usize);
        let phi = features(f64::from(input), f64::from(output));
        let outside = deployment.support.extrapolates(f64::from(input), f64::from(output));
        for k in 0..6 {
            sums[k] += phi[k];
            extrapolated_sums[k] += if outside { phi[k] } else { 0.0 };
        }
        let job_index = problem.workload.groups[problem.workload.requests.group[request as usize] as usize].job;
        let job = &mut jobs[job_index];
        job.finish = job.finish.max(finish);
        let energy = dot(&rates.net_energy, &phi);
        job.active += energy;
        if problem.is_weighted() {
            figures.weighted += energy * problem.mean_weight(finish - rates.slot_seconds(input, output), finish);
        }
        job.points = job.points.zip(problem.options.accuracy[job_index][v]).map(|(a, b)| a + b);
    });
    figures.active = dot(&rates.net_energy, &sums);
    figures.estimated = dot(&deployment.net_energy_estimated, &sums);
    figures.extrapolated = dot(&rates.net_energy, &extrapolated_sums);
    figures.low = figures.active + dot(&deployment.net_energy_low, &sums) - dot(&deployment.rates.net_energy, &sums);
    figures.high = figures.active + dot(&deployment.net_energy_high, &sums) - dot(&deployment.rates.net_energy, &sums);
    figures.lateness = finish.lateness.max(0.0);
    if problem.is_weighted() {
        // The drain is the end of an instance, as far as that has begun to serve.
        let drain = (finish.end - deployment.tail_time.0).max(open);
        figures.weighted += deployment.load_energy.0 * problem.mean_weight(start, open)
            + deployment.tail_energy.0 * problem.mean_weight(drain, finish.end);
    }
    (figures, jobs, finish.end)
}

/// When nodes that can sleep are on: from the wake before their first instance to the end of their last, sleeping in
/// between only where that saves energy and leaves time to wake.
pub fn powered_intervals(problem: &PlanProblem, schedule: &Schedule) -> Vec<PoweredInterval> {
    let mut spans: std::collections::BTreeMap<(usize, usize), Vec<(f64, f64)>> = std::collections::BTreeMap::new();
    for instance in &schedule.instances {
        if problem.cluster.pools[instance.pool].suspend {
            spans.entry((instance.pool, instance.node)).or_default().push((instance.start.0, instance.end.0));
        }
    }
    let mut intervals = Vec::new();
    for ((pool, node), mut busy) in spans {
        busy.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wake = problem.wake(pool);
        let sleep_pays =
            |gap: f64| gap > wake && problem.billed_power(pool) * (gap - wake) > problem.net_wake_energy(pool);
        let mut merged: Vec<(f64, f64)> = Vec::new();
        for (start, end) in busy {
            match merged.last_mut() {
                Some(last) if !sleep_pays(start - last.1) => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        intervals.extend(merged.into_iter().map(|(start, off)| PoweredInterval {
            pool,
            node,
            wake: Seconds(start - wake),
            on: Seconds(start),
            off: Seconds(off),
        }));
    }
    intervals
}

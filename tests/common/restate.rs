//! Fills in everything a plan claims from what it decides: instances on devices from a start, wakes, assignments.
//!
//! Written plainly after the rules (linear scans, no shared arithmetic with the checker). After a mutation `restate`
//! makes the plan consistent with itself again, so that the broken rule alone can give it away.

use jouleplan::check::{ClaimedEnergy, ClaimedJob, ClaimedPlan, ClaimedPowered};
use jouleplan::domain::deployment::rates;
use jouleplan::domain::model::Case as Range;
use jouleplan::domain::{BatchPoint, Cluster, Deployment, FamilyModel, Workload, dot, features};
use jouleplan::units::{Joules, Seconds, Watts};

use super::Case;

/// Index of a row's powered interval: the last of its node that begins by then.
fn interval_of(plan: &ClaimedPlan, pool: &str, node: &str, start: f64) -> Option<usize> {
    let rows = plan.powered.iter().enumerate().filter(|(_, row)| row.pool == pool && row.node == node);
    rows.filter(|(_, row)| row.wake.0 <= start + 1e-9).max_by(|a, b| a.1.wake.0.total_cmp(&b.1.wake.0)).map(|(i, _)| i)
}

pub fn requests_of(plan: &ClaimedPlan, instance: usize) -> Vec<usize> {
    let rows = plan.assignments.iter().filter(|row| row.instance as usize == instance);
    rows.map(|row| row.request as usize).collect()
}

pub fn deployment_of(plan: &ClaimedPlan, instance: usize) -> &Deployment {
    let id = &plan.instances[instance].deployment;
    plan.deployments.iter().find(|deployment| deployment.id == *id).expect("a deployment of the plan")
}

pub fn model_of<'a>(models: &'a [FamilyModel], deployment: &Deployment) -> &'a FamilyModel {
    models.iter().find(|model| model.key == deployment.family).expect("a family of the models")
}

/// (request, finish, joules) of an instance's list schedule from its start.
pub fn schedule(case: &Case, instance: usize) -> Vec<(usize, f64, f64)> {
    let (plan, workload) = (&case.plan, &case.workload);
    let deployment = deployment_of(plan, instance);
    let requests = requests_of(plan, instance);
    let rates = deployment.rates_for(model_of(&case.models, deployment), requests.len(), plan.safety);
    let group = |r: usize| &workload.groups[workload.requests.group[r] as usize];
    let slot = |r: usize| rates.slot_seconds(workload.requests.input_tokens[r], workload.requests.output_tokens[r]);
    let mut order = requests;
    order.sort_by(|&a, &b| {
        let by_deadline = group(a).deadline.0.total_cmp(&group(b).deadline.0);
        by_deadline.then(slot(b).total_cmp(&slot(a))).then(a.cmp(&b))
    });
    let mut slots = vec![plan.instances[instance].start.0 + deployment.load_time.0; rates.slots()];
    let serve = |r: usize| {
        let mut earliest = 0;
        for s in 1..slots.len() {
            if slots[s] < slots[earliest] {
                earliest = s;
            }
        }
        slots[earliest] = slots[earliest].max(group(r).release.0) + slot(r);
        let energy = rates.energy(workload.requests.input_tokens[r], workload.requests.output_tokens[r]);
        (r, slots[earliest], energy)
    };
    order.into_iter().map(serve).collect()
}

/// The deployment of a family at a batch point in a pool, if the pool offers it.
pub fn deployment(
    model: &FamilyModel,
    point: &BatchPoint,
    clock: Option<u32>,
    pool_index: usize,
    cluster: &Cluster,
    workload: &Workload,
    safety: f64,
) -> Option<Deployment> {
    let (pool, requests) = (&cluster.pools[pool_index], &workload.requests);
    let batch = point.batch_size.min(requests.len() as f64).max(1.0);
    let default = model.clocks.as_ref().and_then(|table| table.default_mhz);
    if clock.is_some() && !pool.clock_control {
        return None;
    }
    let suffix = clock.map_or(String::new(), |clock| format!("@{clock}MHz"));
    let latency = |measured: Option<Seconds>| if clock.is_none() || clock == default { measured } else { None };
    let model = &clock.map_or(Some(model.clone()), |clock| model.at_clock(clock))?;
    if model.key.device != pool.device || model.key.devices > pool.devices_per_node {
        return None;
    }
    let full = rates(model, batch, safety)?;
    let weights = model.weights.map(|weights| weights.value.0);
    let usable = weights.map(|weights| f64::from(model.key.devices) * pool.device_memory.0 * 0.9 - weights);
    if usable.is_some_and(|usable| usable <= 0.0) {
        return None;
    }
    let max_tokens = match (usable, model.kv_bytes_per_token) {
        (Some(usable), Some(kv)) => usable / (batch * kv.value.0),
        _ => f64::INFINITY,
    };
    let from_storage = weights.zip(pool.storage_gib_per_s).map_or(0.0, |(bytes, rate)| bytes / 1024f64.powi(3) / rate);
    let load = model.load_time.value.0.max(from_storage);
    let mut longest: Option<(f64, usize)> = None;
    for r in 0..requests.len() {
        let (i, o) = (requests.input_tokens[r], requests.output_tokens[r]);
        let slot = full.slot_seconds(i, o);
        if f64::from(i + o) <= max_tokens && longest.is_none_or(|(most, _)| slot > most) {
            longest = Some((slot, r));
        }
    }
    let (mut tail_time, mut tail_energy) = (0.0, 0.0);
    let mut powers = vec![(model.load_power.value - model.idle_power.value).0];
    for r in 0..requests.len() {
        let (i, o) = (requests.input_tokens[r], requests.output_tokens[r]);
        if f64::from(i + o) <= max_tokens {
            powers.push(full.energy(i, o) / (full.seconds(i, o) / (1.0 + safety)));
        }
    }
    if let Some((slot, r)) = longest {
        let alone = rates(model, 1.0, 0.0)?;
        let lengths = features(f64::from(requests.input_tokens[r]), f64::from(requests.output_tokens[r]));
        tail_time = 0.8 * slot;
        let power = (dot(&alone.net_energy, &lengths) / dot(&alone.busy_time, &lengths)).max(0.0);
        tail_energy = tail_time / (1.0 + safety) * power;
        powers.push(power);
    }
    Some(Deployment {
        id: format!("{}/seqs{}{suffix}@{}", model.key, point.max_num_seqs, pool.name),
        family: model.key.clone(),
        pool: pool_index,
        devices: model.key.devices,
        max_num_seqs: point.max_num_seqs,
        sm_clock_mhz: clock,
        batch_size: batch,
        rates: full,
        net_energy_low: model.net_energy_coefficients(batch, Range::Low)?,
        net_energy_high: model.net_energy_coefficients(batch, Range::High)?,
        net_energy_estimated: model.estimated_energy_coefficients(batch)?,
        load_time: Seconds(load * (1.0 + safety)),
        load_energy: Joules((model.load_power.value - model.idle_power.value).0.max(0.0) * load),
        tail_time: Seconds(tail_time),
        tail_energy: Joules(tail_energy),
        max_tokens,
        ttft_p99: latency(point.ttft_p99),
        tbt_p99: latency(point.tbt_p99),
        support: model.support,
        idle_power: model.idle_power.value,
        peak_power: cluster
            .site
            .power_cap
            .is_some()
            .then(|| model.idle_power.value + Watts(powers.iter().copied().fold(0.0, f64::max))),
    })
}

impl Case {
    /// Recomputes all claims but the deployments, the instances' places and starts, `wake`, `on`, the rows, the bound.
    pub fn restate(&mut self) {
        self.restate_instances();
        self.restate_powered();
        self.restate_totals();
    }

    /// Ends, counts and joules of instances, and the jobs made of them.
    pub fn restate_instances(&mut self) {
        struct Sum {
            requests: u64,
            finish: f64,
            energy: f64,
            points: f64,
            known: bool,
        }
        let none = |_| Sum { requests: 0, finish: 0.0, energy: 0.0, points: 0.0, known: true };
        let mut jobs: Vec<Sum> = self.workload.jobs.iter().map(none).collect();
        for index in 0..self.plan.instances.len() {
            let served = schedule(self, index);
            let deployment = deployment_of(&self.plan, index);
            let (ready, start_energy) =
                (self.plan.instances[index].start + deployment.load_time, deployment.start_energy());
            for &(request, finish, energy) in &served {
                let job = self.workload.groups[self.workload.requests.group[request] as usize].job;
                let task = self.workload.jobs[job].task.as_deref();
                let points = task.and_then(|task| self.accuracy.get(&deployment.family.model, task));
                let sum = &mut jobs[job];
                sum.requests += 1;
                sum.finish = sum.finish.max(finish);
                sum.energy += energy;
                sum.known &= points.is_some();
                sum.points += points.unwrap_or(0.0);
            }
            let instance = &mut self.plan.instances[index];
            instance.end = served.iter().fold(ready, |end, &(_, finish, _)| end.max(Seconds(finish)));
            instance.requests = served.len() as u64;
            instance.energy = served.iter().map(|&(_, _, energy)| Joules(energy)).sum();
            instance.load = start_energy;
        }
        let claim = |(job, sum): (&jouleplan::domain::Job, &Sum)| ClaimedJob {
            job: job.name.clone(),
            requests: sum.requests,
            finish: Seconds(sum.finish),
            mean_accuracy: (sum.known && sum.requests > 0).then(|| sum.points / sum.requests as f64),
            energy: Joules(sum.energy),
        };
        self.plan.jobs = self.workload.jobs.iter().zip(&jobs).map(claim).collect();
    }

    /// `off` from the ends of instances, and the joules of every powered interval.
    pub fn restate_powered(&mut self) {
        let mut last = vec![None::<f64>; self.plan.powered.len()];
        for instance in &self.plan.instances {
            if let Some(i) = interval_of(&self.plan, &instance.pool, &instance.node, instance.start.0) {
                last[i] = Some(last[i].map_or(instance.end.0, |end| end.max(instance.end.0)));
            }
        }
        for (row, last) in self.plan.powered.iter_mut().zip(last) {
            row.off = last.map_or(row.off, Seconds);
            price(row, &self.cluster);
        }
    }

    /// Parts, objective, gap and counts from the rows.
    pub fn restate_totals(&mut self) {
        self.plan.goal_objective = super::site::grams(self);
        let plan = &mut self.plan;
        let mut energy = ClaimedEnergy {
            idle: plan.powered.iter().map(|row| row.idle).sum(),
            wake: plan.powered.iter().map(|row| row.wake_energy).sum(),
            active: plan.instances.iter().map(|instance| instance.energy).sum(),
            ..Default::default()
        };
        for index in 0..plan.instances.len() {
            let deployment = deployment_of(plan, index);
            energy.load += deployment.load_energy;
            energy.tail += deployment.tail_energy;
        }
        plan.energy = energy;
        plan.objective = energy.total();
        plan.makespan = plan.jobs.iter().fold(Seconds::ZERO, |end, job| end.max(job.finish));
        let mut nodes: Vec<_> = plan.instances.iter().map(|instance| (&instance.pool, &instance.node)).collect();
        nodes.sort();
        nodes.dedup();
        plan.nodes_used = nodes.len() as u64;
        plan.instance_count = plan.instances.len() as u64;
        plan.requests = self.workload.requests.len() as u64;
        self.restate_gap();
    }

    pub fn restate_gap(&mut self) {
        let plan = &mut self.plan;
        plan.gap = match plan.goal_objective.zip(plan.goal_bound) {
            Some((objective, bound)) => (objective - bound) / objective,
            None => (plan.objective - plan.bound) / plan.objective,
        };
        plan.gap_parts.placement = plan.gap - plan.gap_parts.merging - plan.gap_parts.integer;
    }
}

/// Joules of a powered interval from its times.
pub fn price(row: &mut ClaimedPowered, cluster: &Cluster) {
    let Some(pool) = cluster.pools.iter().find(|pool| pool.name == row.pool) else { return };
    let Some(standing) = pool.standing_power().filter(|_| pool.suspend) else { return };
    row.idle = standing * (row.off - row.wake);
    row.wake_energy = (pool.wake_energy - standing * pool.wake_time).max(Joules::ZERO);
}

//! What the rules share: names resolved, each instance's requests in serving order with their finish times, its rates.
//!
//! Requests are kept as columns grouped by instance (a counting sort of the assignments): twelve bytes a request.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::CheckInput;
use super::claims::{ClaimedInstance, ClaimedJob, UNKNOWN};
use super::recompute::{Recomputed, instance_rates};
use super::replay::{Queued, replay};
use crate::domain::{Deployment, FamilyModel, Group, Job, Pool, Rates};

/// An instance with its names resolved and its schedule replayed. `None`: the name is unknown.
#[derive(Clone, Debug)]
pub(super) struct InstanceFacts {
    pub(super) deployment: Option<usize>,
    pub(super) pool: Option<usize>,
    pub(super) node: Option<usize>,
    /// Of the number of requests it really has.
    pub(super) rates: Option<Rates>,
    /// Its part of `Facts::order` and `Facts::finish`.
    pub(super) served: Range<usize>,
    /// End of the replayed list schedule; the claimed one where the deployment is unknown.
    pub(super) end: f64,
    pub(super) groups: Vec<GroupServed>,
}

/// The requests of one group on one instance: they differ in their lengths only.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupServed {
    pub(super) group: usize,
    pub(super) count: usize,
    /// One of them, to name in a finding.
    pub(super) example: usize,
}

pub(super) struct Facts<'a> {
    pub(super) input: CheckInput<'a>,
    /// As recomputed; as claimed (with no model) where that was impossible.
    pub(super) deployments: Vec<(Deployment, Option<&'a FamilyModel>)>,
    pub(super) instances: Vec<InstanceFacts>,
    /// Requests of valid rows in serving order, instance by instance; a doubled request occurs in each of its rows.
    pub(super) order: Vec<u32>,
    /// Finish of each, in seconds; not-a-number where its instance's deployment is unknown.
    pub(super) finish: Vec<f64>,
    /// Valid rows per job.
    pub(super) job_requests: Vec<usize>,
    /// What the plan says of each job of the workload; the first row, if several.
    pub(super) claimed_jobs: Vec<Option<&'a ClaimedJob>>,
}

impl<'a> Facts<'a> {
    pub(super) fn gather(input: &CheckInput<'a>, recomputed: Vec<Option<Recomputed<'a>>>) -> Self {
        let (plan, requests) = (input.plan, &input.workload.requests);
        let deployments: Vec<(Deployment, Option<&FamilyModel>)> = recomputed
            .into_iter()
            .zip(&plan.deployments)
            .map(|(recomputed, claimed)| match recomputed {
                Some(recomputed) => (recomputed.deployment, Some(recomputed.model)),
                None => (claimed.clone(), None),
            })
            .collect();
        let claimed_jobs: BTreeMap<&str, &ClaimedJob> =
            plan.jobs.iter().rev().map(|row| (row.job.as_str(), row)).collect();
        let mut facts = Self {
            input: *input,
            deployments,
            instances: resolve(input),
            order: Vec::new(),
            finish: Vec::new(),
            job_requests: vec![0; input.workload.jobs.len()],
            claimed_jobs: input.workload.jobs.iter().map(|job| claimed_jobs.get(job.name.as_str()).copied()).collect(),
        };
        facts.sort_by_instance();
        facts.finish = vec![f64::NAN; facts.order.len()];
        let mut seen_on = vec![(UNKNOWN, 0u32); input.workload.groups.len()];
        for index in 0..facts.instances.len() {
            facts.replay_instance(index);
            let instance = &mut facts.instances[index];
            for &request in &facts.order[instance.served.clone()] {
                let group = requests.group[request as usize] as usize;
                facts.job_requests[input.workload.groups[group].job] += 1;
                let (stamp, place) = &mut seen_on[group];
                if *stamp != index as u32 {
                    (*stamp, *place) = (index as u32, instance.groups.len() as u32);
                    instance.groups.push(GroupServed { group, count: 0, example: request as usize });
                }
                instance.groups[*place as usize].count += 1;
            }
        }
        facts
    }

    /// Fills `order` and each instance's `served` by a counting sort of the rows that make sense.
    fn sort_by_instance(&mut self) {
        let (count, length) = (self.instances.len(), self.input.workload.requests.len());
        let valid = |request: u32, instance: u32| (request as usize) < length && (instance as usize) < count;
        let rows = &self.input.plan.assignments;
        let mut first = vec![0usize; count + 1];
        for row in rows.iter().filter(|row| valid(row.request, row.instance)) {
            first[row.instance as usize + 1] += 1;
        }
        for index in 0..count {
            first[index + 1] += first[index];
            self.instances[index].served = first[index]..first[index + 1];
        }
        self.order = vec![0; first[count]];
        for row in rows.iter().filter(|row| valid(row.request, row.instance)) {
            let next = &mut first[row.instance as usize];
            self.order[*next] = row.request;
            *next += 1;
        }
    }

    fn replay_instance(&mut self, index: usize) {
        let plan = self.input.plan;
        let claimed = &plan.instances[index];
        let instance = &mut self.instances[index];
        let Some((deployment, model)) = instance.deployment.and_then(|index| self.deployments.get(index)) else {
            return;
        };
        let served = instance.served.clone();
        let rates = match model {
            Some(model) => instance_rates(&deployment.rates, model, deployment.sm_clock_mhz, served.len(), plan.safety),
            None => deployment.rates,
        };
        let workload = self.input.workload;
        let mut queue: Vec<Queued> = self.order[served.clone()]
            .iter()
            .map(|&request| {
                let row = request as usize;
                let group = &workload.groups[workload.requests.group[row] as usize];
                let (input, output) = (workload.requests.input_tokens[row], workload.requests.output_tokens[row]);
                Queued {
                    request,
                    deadline: group.deadline.0,
                    release: group.release.0,
                    slot_seconds: rates.slot_seconds(input, output),
                }
            })
            .collect();
        let open = claimed.start.0 + deployment.load_time.0;
        let finishes = replay(&mut queue, rates.slots(), open);
        instance.end = finishes.iter().copied().fold(open, f64::max);
        instance.rates = Some(rates);
        self.finish[served.clone()].copy_from_slice(&finishes);
        for (place, queued) in self.order[served].iter_mut().zip(&queue) {
            *place = queued.request;
        }
    }

    /// Requests of an instance with their finish times, in serving order.
    pub(super) fn served(&self, instance: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let range = self.instances[instance].served.clone();
        self.order[range.clone()].iter().map(|&request| request as usize).zip(self.finish[range].iter().copied())
    }

    pub(super) fn deployment(&self, instance: usize) -> Option<&Deployment> {
        let index = self.instances[instance].deployment?;
        self.deployments.get(index).map(|(deployment, _)| deployment)
    }

    pub(super) fn pool(&self, instance: usize) -> Option<&'a Pool> {
        self.input.cluster.pools.get(self.instances[instance].pool?)
    }

    pub(super) fn group(&self, request: usize) -> &'a Group {
        &self.input.workload.groups[self.input.workload.requests.group[request] as usize]
    }

    pub(super) fn job(&self, request: usize) -> &'a Job {
        &self.input.workload.jobs[self.group(request).job]
    }

    pub(super) fn lengths(&self, request: usize) -> (u32, u32) {
        let requests = &self.input.workload.requests;
        (requests.input_tokens[request], requests.output_tokens[request])
    }

    /// `request 17 of job night`
    pub(super) fn name(&self, request: usize) -> String {
        format!("request {} of job {}", self.input.workload.requests.ids.get(request), self.job(request).name)
    }

    pub(super) fn instance_name(&self, instance: usize) -> String {
        format!("instance {}", self.input.plan.instances[instance].id)
    }

    /// Later of the claimed and the replayed end: devices are taken and nodes needed until then.
    pub(super) fn occupied_until(&self, instance: usize) -> f64 {
        self.input.plan.instances[instance].end.0.max(self.instances[instance].end)
    }

    pub(super) fn nodes_used(&self) -> usize {
        let nodes: BTreeSet<_> =
            self.instances.iter().filter_map(|instance| instance.pool.zip(instance.node)).collect();
        nodes.len()
    }
}

/// Index of each node by the names of pool and node.
pub(super) fn nodes_by_name<'a>(input: &CheckInput<'a>) -> BTreeMap<(&'a str, &'a str), (usize, usize)> {
    let pools = input.cluster.pools.iter().enumerate();
    pools
        .flat_map(|(p, pool)| {
            let nodes = pool.nodes.iter().enumerate();
            nodes.map(move |(n, node)| ((pool.name.as_str(), node.as_str()), (p, n)))
        })
        .collect()
}

fn resolve(input: &CheckInput) -> Vec<InstanceFacts> {
    // Of equal ids the first counts; that there are several is reported by `constants`.
    let ids = input.plan.deployments.iter().enumerate().rev();
    let deployments: BTreeMap<&str, usize> = ids.map(|(index, deployment)| (deployment.id.as_str(), index)).collect();
    let pools: BTreeMap<&str, usize> =
        input.cluster.pools.iter().enumerate().map(|(index, pool)| (pool.name.as_str(), index)).collect();
    let nodes = nodes_by_name(input);
    let resolve_one = |claimed: &ClaimedInstance| InstanceFacts {
        deployment: deployments.get(claimed.deployment.as_str()).copied(),
        pool: pools.get(claimed.pool.as_str()).copied(),
        node: nodes.get(&(claimed.pool.as_str(), claimed.node.as_str())).map(|(_, node)| *node),
        rates: None,
        served: 0..0,
        end: claimed.end.0,
        groups: Vec::new(),
    };
    input.plan.instances.iter().map(resolve_one).collect()
}

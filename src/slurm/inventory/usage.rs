//! What of the usable nodes is free now and until when: by what Slurm says is in use, and by its jobs.
//!
//! Which devices a job holds is known where Slurm writes their indices; else the first ones stand for as many as are held.
//! A device is busy until its job's time limit; a free one is free until a job that waits is expected on its node.

use std::collections::BTreeMap;

use crate::domain::{DeviceKind, Gres, SlurmJob, SlurmNode};
use crate::formats::cluster_edit::PoolFacts;

/// A usable node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeUse {
    pub node: String,
    pub pool: String,
    pub devices: u32,
    pub busy: Vec<Busy>,
    /// Seconds since 1970 at which a waiting job is expected here; absent where none is.
    pub free_until: Option<u64>,
}

/// A device that a job holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    pub index: u32,
    /// Absent where Slurm says that it is held, not by which job.
    pub job: Option<String>,
    /// Seconds since 1970; absent where no job's limit is known.
    pub until: Option<u64>,
}

/// The use of every node; also notes it in the pools.
pub fn usage(pools: &mut [PoolFacts], usable: &[&SlurmNode], jobs: &[SlurmJob]) -> Vec<NodeUse> {
    let nodes: BTreeMap<&str, &SlurmNode> = usable.iter().map(|node| (node.name.as_str(), *node)).collect();
    let mut on: BTreeMap<&str, Vec<(usize, &SlurmJob)>> = BTreeMap::new();
    for job in jobs {
        for (place, node) in job.nodes.iter().enumerate() {
            on.entry(node).or_default().push((place, job));
        }
    }
    let mut found = Vec::new();
    for pool in pools {
        let mut noted = BTreeMap::new();
        for name in &pool.nodes {
            let here = on.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
            let Some(node) = nodes.get(name.as_str()) else { continue };
            let busy = match pool.kind {
                DeviceKind::Gpu => busy_gpus(pool, node, here),
                DeviceKind::Cpu => busy_sockets(pool, node, here),
            };
            if !busy.is_empty() {
                noted.insert(name.clone(), busy.iter().map(|busy| busy.index).collect());
            }
            let waiting = here.iter().filter(|(_, job)| job.is("PENDING")).filter_map(|(_, job)| job.start);
            found.push(NodeUse {
                node: name.clone(),
                pool: pool.name.clone(),
                devices: pool.devices_per_node,
                busy,
                free_until: waiting.min(),
            });
        }
        pool.devices_busy = noted;
    }
    found
}

fn holds(job: &SlurmJob) -> bool {
    ["RUNNING", "COMPLETING", "SUSPENDED", "CONFIGURING", "STAGE_OUT", "STOPPED"].iter().any(|state| job.is(state))
}

/// Devices of the pool's type; of a node with several types they are counted through as Slurm counts them.
fn busy_gpus(pool: &PoolFacts, node: &SlurmNode, here: &[(usize, &SlurmJob)]) -> Vec<Busy> {
    let wanted = pool.gres.as_deref().and_then(|gres| gres.strip_prefix("gpu:"));
    let ours = |gres: &&Gres| gres.name == "gpu" && (wanted.is_none() || gres.kind.as_deref() == wanted);
    // Where the pool's type begins among the node's devices.
    let before = node.gres.iter().take_while(|gres| !ours(gres)).filter(|gres| gres.name == "gpu");
    let first = u32::try_from(before.map(|gres| gres.count).sum::<u64>()).unwrap_or(u32::MAX);
    let mut busy: BTreeMap<u32, Busy> = BTreeMap::new();
    let mut unplaced: Vec<(u64, Option<&SlurmJob>)> = Vec::new();
    for (place, job) in here.iter().filter(|(_, job)| holds(job)) {
        for gres in job.gres.get(*place).into_iter().flatten().filter(ours) {
            match &gres.indices {
                Some(indices) => place_all(&mut busy, indices.iter().map(|index| index.saturating_sub(first)), job),
                None => unplaced.push((gres.count, Some(job))),
            }
        }
    }
    let used: Vec<&Gres> = node.gres_used.iter().filter(ours).collect();
    for index in used.iter().filter_map(|gres| gres.indices.as_ref()).flatten() {
        let index = index.saturating_sub(first);
        busy.entry(index).or_insert(Busy { index, job: None, until: None });
    }
    let placed: u64 = busy.len() as u64 + unplaced.iter().map(|(count, _)| count).sum::<u64>();
    let said: u64 = used.iter().map(|gres| gres.count).sum();
    unplaced.push((said.saturating_sub(placed), None));
    fill(busy, &unplaced, pool.devices_per_node)
}

/// As many sockets as the cores in use fill.
fn busy_sockets(pool: &PoolFacts, node: &SlurmNode, here: &[(usize, &SlurmJob)]) -> Vec<Busy> {
    let per_socket = u64::from(pool.cpus_per_device.unwrap_or(1).max(1));
    let mut unplaced = Vec::new();
    let mut placed = 0;
    for (_, job) in here.iter().filter(|(_, job)| holds(job)) {
        let cpus = u64::from(job.cpus.unwrap_or(0)).div_ceil(job.nodes.len().max(1) as u64);
        let sockets = cpus.div_ceil(per_socket);
        placed += sockets;
        unplaced.push((sockets, Some(*job)));
    }
    let said = u64::from(node.cpus_allocated.unwrap_or(0)).div_ceil(per_socket);
    unplaced.push((said.saturating_sub(placed), None));
    fill(BTreeMap::new(), &unplaced, pool.devices_per_node)
}

fn place_all(busy: &mut BTreeMap<u32, Busy>, indices: impl Iterator<Item = u32>, job: &SlurmJob) {
    for index in indices {
        busy.insert(index, Busy { index, job: Some(job.id.clone()), until: job.end });
    }
}

fn fill(mut busy: BTreeMap<u32, Busy>, unplaced: &[(u64, Option<&SlurmJob>)], devices: u32) -> Vec<Busy> {
    busy.retain(|index, _| *index < devices);
    for (count, job) in unplaced {
        for _ in 0..(*count).min(u64::from(devices)) {
            let Some(index) = (0..devices).find(|index| !busy.contains_key(index)) else { break };
            let (job, until) = (job.map(|job| job.id.clone()), job.and_then(|job| job.end));
            busy.insert(index, Busy { index, job, until });
        }
    }
    busy.into_values().collect()
}

//! Instances of a plan as jobs of Slurm: alike ones share a script, and each knows which others use its devices before it.

use std::collections::BTreeMap;

use super::script;
use super::{Scripts, SlurmError};
use crate::domain::{Deployment, Engine, Instance, Pool};
use crate::formats::engines_toml;
use crate::formats::job_scripts::ServedJob;
use crate::formats::plan_dir::instance_id;
use crate::units::Seconds;

/// Instances of one script. Slurm's default limit of an array is 1,001 tasks.
const MOST_TOGETHER: usize = 1_000;

/// Alike instances: what their script says is the same for all.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    pub pool: &'a Pool,
    pub deployment: &'a Deployment,
    pub engine: Option<&'a Engine>,
    /// In order of start.
    pub members: Vec<Member<'a>>,
    /// Largest input + output of their requests.
    pub longest_tokens: u32,
    /// When no answer is of use any more, from second 0 of the plan.
    pub deadline: Option<Seconds>,
}

/// One instance.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    pub id: String,
    pub node: &'a str,
    pub instance: &'a Instance,
    pub shards: &'a [String],
    /// When Slurm may start it: its start, or the wake of its node where the node wakes for it.
    pub begin: Seconds,
    /// Instances that use one of its devices before it.
    pub after: Vec<String>,
    pub energy: f64,
    pub load: f64,
    pub jobs: Vec<ServedJob>,
}

impl Group<'_> {
    /// The script is named for its first instance.
    pub fn name(&self) -> &str {
        self.members.first().map_or("", |member| &member.id)
    }

    /// Kinds of shard that its instances have: `jsonl`, `csv`.
    pub fn suffixes(&self) -> Vec<&str> {
        let shards = self.members.first().map(|member| member.shards).unwrap_or_default();
        shards.iter().filter_map(|shard| shard.rsplit('.').next()).collect()
    }

    pub fn time_limit_minutes(&self) -> u64 {
        self.members.iter().map(|member| script::time_limit_minutes(self, member)).max().unwrap_or(1)
    }
}

/// The groups in order of their first start. Instances without a shard have no job.
///
/// # Errors
/// An instance whose pool, node or deployment is not there.
pub fn groups<'a>(scripts: &Scripts<'a>) -> Result<Vec<Group<'a>>, SlurmError> {
    let Scripts { schedule, deployments, cluster, engines, shards, requests, served } = *scripts;
    let mut longest = vec![0u32; schedule.instances.len()];
    let lengths = requests.input_tokens.iter().zip(&requests.output_tokens);
    for ((input, output), &instance) in lengths.zip(&schedule.assignment) {
        if let Some(longest) = longest.get_mut(instance as usize) {
            *longest = (*longest).max(input.saturating_add(*output));
        }
    }
    let mut order: Vec<usize> = (0..schedule.instances.len())
        .filter(|index| shards.get(*index).is_some_and(|names| !names.is_empty()))
        .collect();
    order.sort_by(|&a, &b| schedule.instances[a].start.0.total_cmp(&schedule.instances[b].start.0).then(a.cmp(&b)));
    let mut last_on_device = BTreeMap::new();
    let mut places: BTreeMap<_, usize> = BTreeMap::new();
    let mut groups: Vec<Group<'a>> = Vec::new();
    for index in order {
        let (instance, id) = (&schedule.instances[index], instance_id(index));
        let pool = cluster.pools.get(instance.pool);
        let node = pool.and_then(|pool| pool.nodes.get(instance.node));
        let (Some(pool), Some(node), Some(deployment)) = (pool, node, deployments.get(instance.deployment)) else {
            return Err(SlurmError::Script { instance: id, what: "its pool, node or deployment is not there".into() });
        };
        let woken_for = schedule
            .powered
            .iter()
            .find(|powered| (powered.pool, powered.node, powered.on) == (instance.pool, instance.node, instance.start));
        let mut after = Vec::new();
        for &device in &instance.device_indices {
            let before = last_on_device.insert((instance.pool, instance.node, device), id.clone());
            after.extend(before.filter(|before| !after.contains(before)));
        }
        let own = served.get(index);
        let jobs = own.map(|served| served.jobs.clone()).unwrap_or_default();
        let deadline = jobs.iter().map(|job| job.deadline_s).max_by(f64::total_cmp);
        let member = Member {
            id,
            node,
            instance,
            shards: &shards[index],
            begin: woken_for.map_or(instance.start, |powered| powered.wake),
            after,
            energy: own.map_or(0.0, |served| served.energy_j),
            load: own.map_or(0.0, |served| served.load_j),
            jobs,
        };
        let suffixes: Vec<&str> = member.shards.iter().filter_map(|shard| shard.rsplit('.').next()).collect();
        let key = (instance.deployment, instance.pool, suffixes.join(" "), deadline.map(f64::to_bits));
        let place = places.get(&key).copied().filter(|&place| groups[place].members.len() < MOST_TOGETHER);
        let place = place.unwrap_or_else(|| {
            groups.push(Group {
                pool,
                deployment,
                engine: engines_toml::find(engines, &deployment.family.model, &deployment.family.precision),
                members: Vec::new(),
                longest_tokens: 0,
                deadline: deadline.map(Seconds),
            });
            places.insert(key, groups.len() - 1);
            groups.len() - 1
        });
        groups[place].longest_tokens = groups[place].longest_tokens.max(longest[index]);
        groups[place].members.push(member);
    }
    Ok(groups)
}

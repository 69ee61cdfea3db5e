//! From a plan to Slurm: one batch script per instance, and one that submits them all.
//!
//! A script starts the engine of engines.toml, waits until it is ready, sends its shard, and stops it. Scripts find
//! their plan through `JOULEPLAN_DIR`, so a plan directory can be moved before it is submitted. Asking Slurm what became
//! of the jobs, and metering them, is left out.

pub mod inventory;
mod quote;
mod script;
mod submit;
pub mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use crate::domain::{Cluster, Deployment, Engine, FamilyKey, Instance, Pool, Requests, Schedule};
use crate::formats::engines_toml;
use crate::formats::plan_dir::instance_id;
use crate::formats::write::WriteError;
use crate::units::Seconds;

/// Folder of the scripts in a plan directory.
pub const FOLDER: &str = "slurm";

/// Runs a shard against a server on the same node; written beside the scripts.
const RUN_SHARD: &str = include_str!("run_shard.py");

#[derive(Debug, thiserror::Error)]
pub enum SlurmError {
    #[error("no script for instance {instance}: {what}")]
    Script { instance: String, what: String },
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What the scripts are made from.
#[derive(Clone, Copy, Debug)]
pub struct Scripts<'a> {
    pub schedule: &'a Schedule,
    pub deployments: &'a [Deployment],
    pub cluster: &'a Cluster,
    pub engines: &'a [Engine],
    /// The shard files of each instance, relative to the plan directory, as `formats::shards::write` returns them.
    pub shards: &'a [Vec<String>],
    pub requests: &'a Requests,
}

/// The name that requests to a family carry in `model`: engines.toml's, else the model's own.
pub fn served_name<'a>(engines: &'a [Engine], family: &'a FamilyKey) -> &'a str {
    engines_toml::find(engines, &family.model, &family.precision).map_or(&family.model, |engine| &engine.served_name)
}

/// Writes `slurm/<instance>.sbatch`, `slurm/submit.sh` and `slurm/run_shard.py` under `dir`. An instance without a shard
/// gets no script.
///
/// # Errors
/// `Script` where a value cannot be written into a script safely; `Write`.
pub fn write(dir: &Path, scripts: &Scripts<'_>) -> Result<(), SlurmError> {
    let folder = dir.join(FOLDER);
    let cannot = |path: PathBuf| |source| WriteError::Cannot { path, source };
    fs::create_dir_all(&folder).map_err(cannot(folder.clone()))?;
    let jobs = jobs(scripts)?;
    for job in &jobs {
        let text = script::script(job).map_err(|what| SlurmError::Script { instance: job.id.clone(), what })?;
        write_program(&folder.join(format!("{}.sbatch", job.id)), &text)?;
    }
    let text = submit::script(&jobs).map_err(|(instance, what)| SlurmError::Script { instance, what })?;
    write_program(&folder.join("submit.sh"), &text)?;
    write_program(&folder.join("run_shard.py"), RUN_SHARD)?;
    Ok(())
}

/// One instance as a job of Slurm.
#[derive(Clone, Debug)]
struct Job<'a> {
    id: String,
    pool: &'a Pool,
    node: &'a str,
    instance: &'a Instance,
    deployment: &'a Deployment,
    engine: Option<&'a Engine>,
    shards: &'a [String],
    /// Largest input + output of its requests.
    longest_tokens: u32,
    /// When Slurm may start it: its start, or the wake of its node where the node wakes for it.
    begin: Seconds,
    /// Jobs that use one of its devices before it.
    after: Vec<String>,
}

fn jobs<'a>(scripts: &Scripts<'a>) -> Result<Vec<Job<'a>>, SlurmError> {
    let Scripts { schedule, deployments, cluster, engines, shards, requests } = *scripts;
    let mut longest = vec![0u32; schedule.instances.len()];
    let lengths = requests.input_tokens.iter().zip(&requests.output_tokens);
    for ((input, output), &instance) in lengths.zip(&schedule.assignment) {
        if let Some(longest) = longest.get_mut(instance as usize) {
            *longest = (*longest).max(input.saturating_add(*output));
        }
    }
    let mut jobs = Vec::new();
    for (index, instance) in schedule.instances.iter().enumerate() {
        let id = instance_id(index);
        let shards = shards.get(index).map(Vec::as_slice).unwrap_or_default();
        if shards.is_empty() {
            continue;
        }
        let pool = cluster.pools.get(instance.pool);
        let node = pool.and_then(|pool| pool.nodes.get(instance.node));
        let (Some(pool), Some(node), Some(deployment)) = (pool, node, deployments.get(instance.deployment)) else {
            return Err(SlurmError::Script { instance: id, what: "its pool, node or deployment is not there".into() });
        };
        let woken_for = schedule
            .powered
            .iter()
            .find(|powered| (powered.pool, powered.node, powered.on) == (instance.pool, instance.node, instance.start));
        jobs.push(Job {
            id,
            pool,
            node,
            instance,
            deployment,
            engine: engines_toml::find(engines, &deployment.family.model, &deployment.family.precision),
            shards,
            longest_tokens: longest[index],
            begin: woken_for.map_or(instance.start, |powered| powered.wake),
            after: Vec::new(),
        });
    }
    // In order of start, so that submit.sh knows the job of every predecessor before it needs it.
    jobs.sort_by(|a, b| a.instance.start.0.total_cmp(&b.instance.start.0).then_with(|| a.id.cmp(&b.id)));
    let mut last_on_device = std::collections::BTreeMap::new();
    for job in &mut jobs {
        for &device in &job.instance.device_indices {
            let device = (job.instance.pool, job.instance.node, device);
            if let Some(before) = last_on_device.insert(device, job.id.clone())
                && !job.after.contains(&before)
            {
                job.after.push(before);
            }
        }
    }
    Ok(jobs)
}

fn write_program(path: &Path, text: &str) -> Result<(), WriteError> {
    let write = || {
        fs::write(path, text)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(path)?.permissions().mode();
            // Executable for whoever may read it.
            fs::set_permissions(path, fs::Permissions::from_mode(mode | (mode & 0o444) >> 2))?;
        }
        Ok(())
    };
    write().map_err(|source| WriteError::Cannot { path: path.to_owned(), source })
}

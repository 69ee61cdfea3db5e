//! From a plan to Slurm and back: scripts, submission, progress, answers, and what it really took.
//!
//! A script meters itself, starts the engine of engines.toml, waits until it is ready, sends its shard, and stops it. It
//! goes on where an earlier run of it stopped. Scripts find their plan through `JOULEPLAN_DIR`, so a plan directory can be
//! moved before it is submitted. Only `tools` runs programs of Slurm; nothing here prints.

pub mod collect;
pub mod inventory;
mod jobs;
pub mod profile_array;
pub mod progress;
mod quote;
pub mod reconcile;
mod script;
pub mod shard_state;
pub mod submit;
pub mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use crate::domain::{Cluster, Deployment, DeviceKind, Engine, FamilyKey, Requests, Schedule};
use crate::formats::job_scripts::{self, InstanceScript, JobScript, JobScripts, SCHEMA_VERSION, ServedJob};
use crate::formats::write::{WriteError, write_atomic};
use crate::formats::{engines_toml, hostlist};

use self::jobs::Group;

/// Folder of the scripts in a plan directory.
pub const FOLDER: &str = "slurm";

/// Folder of answers, logs and measurements in a plan directory.
pub const RESULTS: &str = "results";

/// Runs a shard against a server on the same node; written beside the scripts.
const RUN_SHARD: &str = include_str!("run_shard.py");

/// For people who look for a script to run.
const SUBMIT: &str = "#!/bin/sh\n# Submits this plan: slurm/submit.sh [options of `jouleplan submit`]; without --yes it only says what it would do.\n\
                      exec \"${JOULEPLAN_BIN:-jouleplan}\" submit \"$(dirname -- \"$0\")/..\" \"$@\"\n";

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
    /// What each instance is planned to do and to take.
    pub served: &'a [Served],
}

/// What an instance is planned to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Served {
    /// Net joules of its requests, and of load and tail.
    pub energy_j: f64,
    pub load_j: f64,
    pub jobs: Vec<ServedJob>,
}

/// The name that requests to a family carry in `model`: engines.toml's, else the model's own.
pub fn served_name<'a>(engines: &'a [Engine], family: &'a FamilyKey) -> &'a str {
    engines_toml::find(engines, &family.model, &family.precision).map_or(&family.model, |engine| &engine.served_name)
}

/// Writes a script for each group of alike instances, `slurm/jobs.json` about them, `slurm/submit.sh` and
/// `slurm/run_shard.py` under `dir`. An instance without a shard gets no script.
///
/// # Errors
/// `Script` where a value cannot be written into a script safely; `Write`.
pub fn write(dir: &Path, scripts: &Scripts<'_>) -> Result<(), SlurmError> {
    let folder = dir.join(FOLDER);
    let cannot = |path: PathBuf| |source| WriteError::Cannot { path, source };
    fs::create_dir_all(&folder).map_err(cannot(folder.clone()))?;
    let groups = jobs::groups(scripts)?;
    let mut described = Vec::new();
    for group in &groups {
        let refused = |what| SlurmError::Script { instance: group.name().to_owned(), what };
        let text = script::script(group).map_err(refused)?;
        write_program(&folder.join(format!("{}.sbatch", group.name())), &text)?;
        described.push(describe(group, scripts.cluster).map_err(refused)?);
    }
    let json = JobScripts { schema_version: SCHEMA_VERSION, scripts: described };
    let path = folder.join(job_scripts::FILE);
    let text = serde_json::to_string(&json).map_err(std::io::Error::from).map_err(cannot(path.clone()))?;
    write_atomic(&path, text.as_bytes())?;
    write_program(&folder.join("submit.sh"), SUBMIT)?;
    write_program(&folder.join("run_shard.py"), RUN_SHARD)?;
    Ok(())
}

fn describe(group: &Group<'_>, cluster: &Cluster) -> Result<JobScript, String> {
    let options = script::directives(group)?;
    let options = options.into_iter().filter(|(_, value)| !value.is_empty() && !quote::plain(value));
    let others = cluster.pools.iter().filter(|pool| pool.name != group.pool.name);
    let sharing = others.filter(|pool| match (&pool.slurm.partition, &group.pool.slurm.partition) {
        (Some(theirs), Some(ours)) => theirs == ours,
        _ => true,
    });
    let instances = group.members.iter().map(|member| InstanceScript {
        instance: member.id.clone(),
        node: member.node.to_owned(),
        devices: member.instance.device_indices.clone(),
        begin_s: member.begin.0.max(0.0),
        start_s: member.instance.start.0,
        end_s: member.instance.end.0,
        time_limit_min: script::time_limit_minutes(group, member),
        after: member.after.clone(),
        shards: member.shards.to_vec(),
        energy_j: member.energy,
        load_j: member.load,
        jobs: member.jobs.clone(),
    });
    Ok(JobScript {
        file: format!("{FOLDER}/{}.sbatch", group.name()),
        pool: group.pool.name.clone(),
        kind: if group.pool.kind == DeviceKind::Gpu { "gpu" } else { "cpu" }.to_owned(),
        partition: group.pool.slurm.partition.clone(),
        deployment: group.deployment.id.clone(),
        options: options.map(|(option, value)| format!("{option}={value}")).collect(),
        nodes: hostlist::compress(&group.pool.nodes),
        other_nodes: hostlist::compress(&sharing.flat_map(|pool| pool.nodes.iter().cloned()).collect::<Vec<_>>()),
        time_limit_min: group.time_limit_minutes(),
        deadline_s: group.deadline.map(|deadline| deadline.0),
        instances: instances.collect(),
    })
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

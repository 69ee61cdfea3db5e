//! The options of sbatch for a group of alike instances.

use super::super::jobs::{Group, Member};
use super::super::quote::job_name;
use super::ready_timeout;
use crate::domain::DeviceKind;

/// Of the host memory and of a CPU socket's memory, what a job asks for: Slurm's RealMemory is usually set below what is
/// built in, and a job that asks for more than RealMemory never runs.
const MEMORY_SHARE: f64 = 0.9;

/// The options of a group, in order, without those that differ between its instances.
///
/// # Errors
/// A pool that lacks what a job on it must ask for.
pub fn directives(group: &Group<'_>) -> Result<Vec<(&'static str, String)>, String> {
    let Group { pool, deployment, .. } = group;
    let devices = deployment.devices;
    let slurm = &pool.slurm;
    let mut options = vec![("job-name", job_name(&format!("jp-{}-{}", group.name(), deployment.family.model)))];
    let given = [
        ("partition", &slurm.partition),
        ("account", &slurm.account),
        ("qos", &slurm.qos),
        ("constraint", &slurm.constraint),
    ];
    options.extend(given.into_iter().filter_map(|(option, value)| Some((option, value.clone()?))));
    options.push(("nodes", "1".into()));
    options.push(("ntasks", "1".into()));
    let mut memory = pool.host_memory.map(|host| host * (f64::from(devices) / f64::from(pool.devices_per_node.max(1))));
    match pool.kind {
        DeviceKind::Gpu => {
            options.push(("gres", gres(slurm.gres.as_deref(), devices)));
            // Where jobs may not set clocks the option would do nothing, silently.
            let clock = deployment.sm_clock_mhz.filter(|_| pool.clock_control);
            options.extend(clock.map(|clock| ("gpu-freq", clock.to_string())));
            if let Some(cpus) = pool.cpus_per_device {
                options.push(("cpus-per-task", (u64::from(devices) * u64::from(cpus)).to_string()));
            }
        }
        DeviceKind::Cpu => {
            let Some(cpus) = pool.cpus_per_device else {
                let remedy = "give cpus_per_device in the cluster file";
                return Err(format!(
                    "pool `{}` is of CPU sockets and does not say how many CPUs each has; {remedy}",
                    pool.name
                ));
            };
            options.push(("cpus-per-task", (u64::from(devices) * u64::from(cpus)).to_string()));
            // Whole sockets, and memory beside its cores: what the plan's figures of a socket mean.
            options.push(("distribution", "block:block".into()));
            options.push(("mem-bind", "local".into()));
            memory = Some(pool.device_memory * f64::from(devices));
        }
    }
    if let Some(memory) = memory {
        let mib = (memory.0 * MEMORY_SHARE / f64::from(1 << 20)).floor();
        if mib >= 1.0 {
            options.push(("mem", format!("{mib}M")));
        }
    }
    options.push(("time", group.time_limit_minutes().to_string()));
    options.push(("requeue", String::new()));
    options.push(("open-mode", "append".into()));
    options.push(("output", format!("{}/%x-%j.log", super::super::RESULTS)));
    Ok(options)
}

/// Minutes after which Slurm may end an instance. The planned seconds hold the safety margin, but the script waits for a
/// load that is slower than planned, so that wait comes on top: otherwise the limit would end a job which the wait allows.
pub fn time_limit_minutes(group: &Group<'_>, member: &Member<'_>) -> u64 {
    let seconds = (member.instance.end - member.instance.start).0.max(0.0) + ready_timeout(group);
    (seconds / 60.0).ceil().max(1.0) as u64
}

/// `gpu:h100:8` of a pool, as `gpu:h100:K` for an instance. Without one, any GPU.
pub fn gres(pool: Option<&str>, devices: u32) -> String {
    let first = pool.unwrap_or("gpu").split([',', '(']).next().unwrap_or_default();
    let mut parts: Vec<&str> = first.split(':').filter(|part| !part.is_empty()).collect();
    if parts.last().is_some_and(|count| count.chars().all(|c| c.is_ascii_digit())) && parts.len() > 1 {
        parts.pop();
    }
    if parts.is_empty() {
        parts.push("gpu");
    }
    format!("{}:{devices}", parts.join(":"))
}

//! How a submitted plan stands: requests done, joules so far against the plan's, and when each job will be through.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use super::RESULTS;
use super::submit::queue::Queued;
use super::submit::{Opened, SubmitError};
use crate::formats::job_scripts::InstanceScript;
use crate::formats::meter_json::{DeviceStatus, MeterJson, MeterLine};

/// An instance.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceProgress {
    pub instance: String,
    pub node: String,
    /// `waiting`, `running`, `done`, `failed`, `not submitted`, or Slurm's own word.
    pub state: String,
    pub slurm_job: Option<String>,
    pub requests: u64,
    pub answered: u64,
    pub planned_j: f64,
    /// Net of idle, of all runs until now; absent where no meter knows.
    pub measured_j: Option<f64>,
    /// Seconds after second 0 of the plan; absent where nothing of it is alive.
    pub expected_finish_s: Option<f64>,
}

/// A job of the workload.
#[derive(Clone, Debug, PartialEq)]
pub struct JobProgress {
    pub job: String,
    pub requests: u64,
    pub done: u64,
    pub deadline_s: f64,
    pub expected_finish_s: Option<f64>,
}

impl JobProgress {
    pub fn is_late(&self) -> bool {
        self.expected_finish_s.is_some_and(|finish| finish > self.deadline_s)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    pub elapsed_s: f64,
    pub instances: Vec<InstanceProgress>,
    pub jobs: Vec<JobProgress>,
}

/// How the plan stands at `now`.
///
/// # Errors
/// Slurm's tools; answers that cannot be read.
pub fn progress(opened: &Opened, now: SystemTime) -> Result<Progress, SubmitError> {
    let queued = opened.queued()?;
    let elapsed_s = opened.elapsed(now);
    let mut found = Progress { elapsed_s, ..Progress::default() };
    let mut jobs: BTreeMap<&str, JobProgress> = BTreeMap::new();
    let instances = opened
        .scripts
        .scripts
        .iter()
        .flat_map(|script| script.instances.iter().map(|instance| (script.kind == "gpu", instance)));
    for (is_gpu, instance) in instances {
        let state = opened.state(instance)?;
        let job = opened.jobs.get(&instance.instance);
        let live = job.and_then(|job| queued.get(&job.slurm_job));
        let expected_finish_s = expected_finish(instance, state.answered, state.requests, live, elapsed_s);
        for served in &instance.jobs {
            let job = jobs.entry(&served.job).or_insert_with(|| JobProgress {
                job: served.job.clone(),
                requests: 0,
                done: 0,
                deadline_s: f64::NEG_INFINITY,
                expected_finish_s: Some(0.0),
            });
            job.requests += served.requests;
            // Which of an instance's answers are whose is known to `collect`; here they are spread evenly.
            job.done += if state.is_complete() {
                served.requests
            } else {
                served.requests * state.answered / state.requests.max(1)
            };
            job.deadline_s = job.deadline_s.max(served.deadline_s);
            job.expected_finish_s = job.expected_finish_s.zip(expected_finish_s).map(|(a, b)| a.max(b));
        }
        found.instances.push(InstanceProgress {
            instance: instance.instance.clone(),
            node: live
                .map(|live| live.node.clone())
                .filter(|node| !node.is_empty())
                .unwrap_or_else(|| instance.node.clone()),
            state: word(state.is_complete(), opened.submission.is_some(), live),
            slurm_job: job.map(|job| job.slurm_job.clone()),
            requests: state.requests,
            answered: state.answered,
            planned_j: instance.energy_j + instance.load_j,
            measured_j: measured(&opened.dir, &instance.instance, is_gpu),
            expected_finish_s,
        });
    }
    found.jobs = jobs.into_values().collect();
    Ok(found)
}

fn word(complete: bool, submitted: bool, live: Option<&Queued>) -> String {
    let text = match live {
        Some(live) if live.is_alive() => match live.state.as_str() {
            "PENDING" => return format!("waiting ({})", live.reason),
            other => return other.to_ascii_lowercase(),
        },
        _ if complete => "done",
        Some(live) => return live.state.to_ascii_lowercase(),
        None if submitted => "gone",
        None => "not submitted",
    };
    text.to_owned()
}

/// By the plan's pace for what has no answer yet.
fn expected_finish(
    instance: &InstanceScript,
    answered: u64,
    requests: u64,
    live: Option<&Queued>,
    elapsed_s: f64,
) -> Option<f64> {
    if answered >= requests {
        return Some(elapsed_s.min(instance.end_s));
    }
    let live = live.filter(|live| live.is_alive())?;
    let planned = (instance.end_s - instance.start_s).max(0.0);
    let left = planned * (requests - answered) as f64 / requests.max(1) as f64;
    let start = if live.state == "PENDING" { elapsed_s.max(instance.start_s) } else { elapsed_s };
    Some(start + left)
}

/// Joules above idle of every run of an instance.
fn measured(dir: &Path, instance: &str, is_gpu: bool) -> Option<f64> {
    let runs = meter_files(dir, instance);
    let each: Option<Vec<f64>> = runs.iter().map(|(_, meter)| drawn(meter, is_gpu).net_j).collect();
    each.filter(|each| !each.is_empty()).map(|each| each.iter().sum())
}

/// What the meters of each run of an instance wrote, by the run's name.
pub fn meter_files(dir: &Path, instance: &str) -> Vec<(String, MeterJson)> {
    let prefix = format!("{instance}.");
    let entries = fs::read_dir(dir.join(RESULTS)).into_iter().flatten().flatten();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
    let runs = entries.filter_map(name).filter_map(|name| {
        let run = name.strip_suffix(".meter.json").filter(|run| run.starts_with(&prefix))?.to_owned();
        let text = fs::read(dir.join(RESULTS).join(&name)).ok()?;
        Some((run, serde_json::from_slice(&text).ok()?))
    });
    let mut runs: Vec<(String, MeterJson)> = runs.collect();
    runs.sort_by(|a, b| a.0.cmp(&b.0));
    runs
}

/// What a run drew.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Drawn {
    pub gross_j: Option<f64>,
    /// Above idle.
    pub net_j: Option<f64>,
    /// Whether it is not the run's alone, or not of its devices.
    pub is_estimated: bool,
}

/// Of its devices, where it ran on such and they have meters; else of the processors, of a shared node the part that its
/// cores are of all.
pub fn drawn(meter: &MeterJson, is_gpu: bool) -> Drawn {
    if is_gpu && meter.gpu_energy_j.is_some() {
        // Who else used the processors is nothing to the devices.
        let is_estimated = meter.devices.iter().any(|device| device.status != DeviceStatus::Measured);
        return Drawn { gross_j: meter.gpu_energy_j, net_j: meter.gpu_net_energy_j, is_estimated };
    }
    let lines = || meter.meters.iter().filter(|line| ["package", "dram"].contains(&line.scope.as_str()));
    let share = |line: &MeterLine| match (line.estimated_share_energy_j, line.energy_j) {
        (Some(part), Some(all)) if all > 0.0 => part / all,
        _ => 1.0,
    };
    let sum = |of: fn(&MeterLine) -> Option<f64>| -> Option<f64> {
        let each: Option<Vec<f64>> = lines().map(|line| of(line).map(|joules| share(line) * joules)).collect();
        each.filter(|each| !each.is_empty()).map(|each| each.iter().sum())
    };
    let known = meter.cpu_energy_j.is_some();
    Drawn {
        gross_j: sum(|line| line.energy_j).filter(|_| known),
        net_j: sum(|line| line.net_energy_j).filter(|_| known),
        is_estimated: is_gpu || !meter.clean,
    }
}

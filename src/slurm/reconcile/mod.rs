//! What a plan really took against what it said, and why: by the meter in each job, by Slurm's accounting, by the answers.
//!
//! Joules are compared above idle, as the plan charges them to an instance. Slurm counts whole nodes, only for steps and in
//! whole seconds, so its figure stands beside the meter's and replaces nothing. A node that others used at the same time gives an estimate, no
//! measurement, and no sample (`sample`).

mod sample;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::RESULTS;
use super::progress::{Drawn, drawn, meter_files};
use super::submit::{Opened, SubmitError};
use super::tools::{self, ToolError};
use crate::domain::Sample;
use crate::formats::job_scripts::{InstanceScript, JobScript};
use crate::formats::meter_json::MeterJson;
use crate::formats::plan_json::{DeploymentJson, PlanJson};
use crate::formats::run_record::{self, RunRecord};
use crate::formats::sacct::{self, Accounted};

/// A clock that differs by more from what was planned was not honoured; devices step by 15 MHz.
const CLOCK_MARGIN_MHZ: f64 = 30.0;
/// Below this share of the planned batch, requests ran more alone than planned.
const BATCH_SHARE: f64 = 0.9;
/// A load that takes longer than planned by this factor, and by as many seconds, is slow.
const SLOW_LOAD: f64 = 1.5;
const SLOW_LOAD_LEAST_S: f64 = 5.0;

/// An instance, planned and measured.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceRow {
    pub instance: String,
    pub deployment: String,
    pub model: String,
    pub node: String,
    pub runs: usize,
    pub requests: u64,
    pub answered: u64,
    /// Above idle: requests, load and tail.
    pub predicted_j: f64,
    pub predicted_s: f64,
    /// Above idle; absent where a run has no meter.
    pub measured_j: Option<f64>,
    pub gross_j: Option<f64>,
    pub seconds: Option<f64>,
    /// Whether others used the node or a device meanwhile: `measured_j` is an estimate then.
    pub is_estimated: bool,
    /// Of the whole node, by Slurm.
    pub slurm_gross_j: Option<f64>,
    pub slurm_seconds: Option<f64>,
    pub causes: Vec<String>,
}

/// Sums over instances that were measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    pub instances: usize,
    pub predicted_j: f64,
    pub measured_j: f64,
    pub predicted_s: f64,
    pub measured_s: f64,
}

impl Sums {
    fn add(&mut self, row: &InstanceRow, share: f64) {
        let (Some(joules), Some(seconds)) = (row.measured_j, row.seconds) else { return };
        self.instances += 1;
        self.predicted_j += row.predicted_j * share;
        self.measured_j += joules * share;
        self.predicted_s += row.predicted_s * share;
        self.measured_s += seconds * share;
    }

    /// What the plan's joules are to be multiplied by; `None` where nothing was measured.
    pub fn energy_factor(&self) -> Option<f64> {
        (self.instances > 0 && self.predicted_j > 0.0).then(|| self.measured_j / self.predicted_j)
    }

    pub fn time_factor(&self) -> Option<f64> {
        (self.instances > 0 && self.predicted_s > 0.0).then(|| self.measured_s / self.predicted_s)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reconciled {
    pub instances: Vec<InstanceRow>,
    pub jobs: BTreeMap<String, Sums>,
    pub models: BTreeMap<String, Sums>,
    pub deployments: BTreeMap<String, Sums>,
    pub samples: Vec<Sample>,
    pub notes: Vec<String>,
}

/// Everything that is known of how a plan went.
///
/// # Errors
/// Answers that cannot be read.
pub fn reconcile(opened: &Opened, plan: &PlanJson) -> Result<Reconciled, SubmitError> {
    let mut found = Reconciled::default();
    let accounted = accounted(opened, &mut found.notes);
    let deployments: BTreeMap<&str, &DeploymentJson> =
        plan.deployments.iter().map(|deployment| (deployment.id.as_str(), deployment)).collect();
    for script in &opened.scripts.scripts {
        let Some(deployment) = deployments.get(script.deployment.as_str()) else { continue };
        for instance in &script.instances {
            let row = row(opened, script, instance, deployment, &accounted, &mut found.samples)?;
            let energy: f64 = instance.jobs.iter().map(|job| job.energy_j).sum();
            for job in &instance.jobs {
                // An instance's joules are its jobs' as the plan shares them out.
                let share = if energy > 0.0 { job.energy_j / energy } else { 1.0 / instance.jobs.len() as f64 };
                found.jobs.entry(job.job.clone()).or_default().add(&row, share);
            }
            found.models.entry(row.model.clone()).or_default().add(&row, 1.0);
            found.deployments.entry(row.deployment.clone()).or_default().add(&row, 1.0);
            found.instances.push(row);
        }
    }
    Ok(found)
}

fn row(
    opened: &Opened,
    script: &JobScript,
    instance: &InstanceScript,
    deployment: &DeploymentJson,
    accounted: &BTreeMap<String, Accounted>,
    samples: &mut Vec<Sample>,
) -> Result<InstanceRow, SubmitError> {
    let state = opened.state(instance)?;
    let runs = meter_files(&opened.dir, &instance.instance);
    let is_gpu = script.kind == "gpu";
    let all = |value: &dyn Fn(&MeterJson) -> Option<f64>| -> Option<f64> {
        let each: Option<Vec<f64>> = runs.iter().map(|(_, meter)| value(meter)).collect();
        each.filter(|each| !each.is_empty()).map(|each| each.iter().sum())
    };
    let job = opened.jobs.get(&instance.instance).and_then(|job| accounted.get(&job.slurm_job));
    let mut causes = Vec::new();
    if runs.len() > 1 {
        causes.push(format!("ran {} times", runs.len()));
    }
    for (run, meter) in &runs {
        let record = run_record::read(&opened.dir.join(RESULTS).join(format!("{run}.run.json")));
        causes.extend(why(deployment, is_gpu, meter, record.as_ref()));
        samples.extend(record.and_then(|record| sample::of_run(deployment, is_gpu, meter, &record, run)));
    }
    causes.dedup();
    let nodes = runs.last().map(|(_, meter)| meter.node.clone());
    Ok(InstanceRow {
        instance: instance.instance.clone(),
        deployment: deployment.id.clone(),
        model: deployment.family.model.clone(),
        node: job.map(|job| job.nodes.clone()).filter(|nodes| !nodes.is_empty()).or(nodes).unwrap_or_default(),
        runs: runs.len(),
        requests: state.requests,
        answered: state.answered,
        predicted_j: instance.energy_j + instance.load_j,
        predicted_s: instance.end_s - instance.start_s,
        measured_j: all(&|meter| drawn(meter, is_gpu).net_j),
        gross_j: all(&|meter| drawn(meter, is_gpu).gross_j),
        seconds: all(&|meter| meter.seconds),
        is_estimated: runs.iter().any(|(_, meter)| drawn(meter, is_gpu).is_estimated),
        slurm_gross_j: job.and_then(|job| job.step_energy_j),
        slurm_seconds: job.and_then(|job| job.step_seconds),
        causes,
    })
}

/// Why a run took other than planned, as far as it shows.
fn why(deployment: &DeploymentJson, is_gpu: bool, meter: &MeterJson, record: Option<&RunRecord>) -> Vec<String> {
    let mut causes = Vec::new();
    if let Some((mean, wanted)) = other_clock(deployment, meter) {
        causes.push(format!("clock not honoured: {mean:.0} MHz instead of {wanted}"));
    }
    if let Some(record) = record {
        let planned = deployment.batch_size.min(record.sent as f64);
        if record.answered > 0 && record.mean_in_flight < BATCH_SHARE * planned {
            causes.push(format!("batch not reached: {:.1} instead of {planned:.1}", record.mean_in_flight));
        }
        let (took, planned) = (record.ready_s, deployment.load_s);
        if took > SLOW_LOAD * planned && took > planned + SLOW_LOAD_LEAST_S {
            causes.push(format!("slow load: {took:.0} s instead of {planned:.0}"));
        }
        if record.failed > 0 {
            causes.push(format!("{} requests failed", record.failed));
        }
    }
    let throttled = meter.devices.iter().flat_map(|device| device.throttle_reasons.iter().flatten());
    let mut reasons: Vec<&str> = throttled.filter(|seen| seen.share > 0.1).map(|seen| seen.reason.as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    if !reasons.is_empty() {
        causes.push(format!("throttled: {}", reasons.join(", ")));
    }
    match drawn(meter, is_gpu) {
        Drawn { gross_j: Some(_), is_estimated: true, .. } if is_gpu && meter.gpu_energy_j.is_none() => {
            causes.push("no meter of its devices: those of the processors stand in".to_owned());
        }
        Drawn { is_estimated: true, .. } if is_gpu && meter.gpu_energy_j.is_some() => {
            causes.push("others used a device, or its meters disagree".to_owned());
        }
        Drawn { is_estimated: true, .. } if !is_gpu => causes.push("others used the node".to_owned()),
        _ => {}
    }
    causes
}

/// The mean clock of a device and the one planned, where they differ.
fn other_clock(deployment: &DeploymentJson, meter: &MeterJson) -> Option<(f64, u32)> {
    let wanted = deployment.sm_clock_mhz?;
    let mut seen = meter.devices.iter().filter_map(|device| device.sm_clock_mhz).map(|clock| clock.mean);
    Some((seen.find(|mean| (mean - f64::from(wanted)).abs() > CLOCK_MARGIN_MHZ)?, wanted))
}

/// What Slurm accounts for the jobs, where it keeps accounts.
fn accounted(opened: &Opened, notes: &mut Vec<String>) -> BTreeMap<String, Accounted> {
    let jobs: Vec<&str> = opened.jobs.values().map(|job| job.slurm_job.as_str()).collect();
    let mut found = BTreeMap::new();
    for some in jobs.chunks(500) {
        let list = format!("--jobs={}", some.join(","));
        let format = format!("--format={}", sacct::FORMAT);
        match tools::run("sacct", &["--parsable2", "--noheader", "--duplicates", &list, &format]) {
            Ok(said) => found.extend(sacct::parse_rows(&said.stdout).into_iter().map(|job| (job.id.clone(), job))),
            Err(ToolError::Failed { said, .. }) => {
                notes.push(format!("Slurm keeps no accounts here ({said}): the meters in the jobs speak alone"));
                break;
            }
            Err(absent) => {
                notes.push(format!("{absent}: the meters in the jobs speak alone"));
                break;
            }
        }
    }
    if !jobs.is_empty() && !found.is_empty() && found.values().all(|job| job.step_energy_j.is_none()) {
        notes.push(
            "Slurm accounts no energy: AcctGatherEnergyType is not set, or its figures are not in yet".to_owned(),
        );
    }
    found
}

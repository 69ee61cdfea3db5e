//! What a plan really took against what it said, and why: by the meter in each job, by Slurm's accounting, by the answers.
//!
//! Joules are compared above idle, as the plan charges them to an instance. Slurm counts whole nodes and only for steps, so
//! its figure stands beside the meter's and replaces nothing. A node that others used at the same time gives an estimate, no
//! measurement, and no sample.

use std::collections::BTreeMap;

use super::RESULTS;
use super::progress::{meter_files, net_energy};
use super::submit::{Opened, SubmitError};
use super::tools::{self, ToolError};
use crate::domain::{FamilyKey, Measurement, Moments, Provenance, Sample};
use crate::formats::job_scripts::{InstanceScript, JobScript};
use crate::formats::meter_json::{DeviceStatus, MeterJson, PhaseJson};
use crate::formats::plan_json::{DeploymentJson, PlanJson};
use crate::formats::run_record::{self, RunRecord};
use crate::formats::sacct::{self, Accounted};
use crate::units::{Joules, Seconds, Watts};

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
    let all = |value: fn(&MeterJson) -> Option<f64>| -> Option<f64> {
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
        causes.extend(why(deployment, meter, record.as_ref()));
        samples.extend(record.and_then(|record| sample(deployment, script, meter, &record, run)));
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
        measured_j: all(net_energy),
        gross_j: all(|meter| meter.gpu_energy_j.or(meter.cpu_energy_j)),
        seconds: all(|meter| meter.seconds),
        is_estimated: runs.iter().any(|(_, meter)| !meter.clean),
        slurm_gross_j: job.and_then(|job| job.step_energy_j),
        slurm_seconds: job.and_then(|job| job.step_seconds),
        causes,
    })
}

/// Why a run took other than planned, as far as it shows.
fn why(deployment: &DeploymentJson, meter: &MeterJson, record: Option<&RunRecord>) -> Vec<String> {
    let mut causes = Vec::new();
    if let Some(wanted) = deployment.sm_clock_mhz {
        let seen = meter.devices.iter().filter_map(|device| device.sm_clock_mhz);
        let off = seen.map(|clock| clock.mean).find(|mean| (mean - f64::from(wanted)).abs() > CLOCK_MARGIN_MHZ);
        causes.extend(off.map(|mean| format!("clock not honoured: {mean:.0} MHz instead of {wanted}")));
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
    if !meter.clean {
        causes.push("others used the node or a device".to_owned());
    }
    causes
}

/// A trial: what was answered between ready and the last answer, at the energy of that time. `None` where any of it is not
/// known, or not this run's alone.
fn sample(
    deployment: &DeploymentJson,
    script: &JobScript,
    meter: &MeterJson,
    record: &RunRecord,
    run: &str,
) -> Option<Sample> {
    let phase = meter.phases.iter().find(|phase| phase.name == "serve")?;
    if !meter.clean || record.answered == 0 || record.failed > 0 {
        return None;
    }
    let family = FamilyKey::from(&deployment.family);
    let requests = record.answered as f64;
    let mean = |sum: Option<f64>| sum.map(|sum| sum / requests);
    let tokens = Moments {
        input: mean(record.input_tokens),
        output: mean(record.output_tokens)?,
        input_sq: mean(record.input_sq),
        output_sq: mean(record.output_sq),
        input_output: mean(record.input_output),
    };
    let (engine, version) = family.engine.split_once('-').unwrap_or((&family.engine, ""));
    let mut sample = Sample {
        model: family.model.clone(),
        precision: family.precision.clone(),
        device: family.device.clone(),
        node: Some(meter.node.clone()),
        devices: family.devices,
        parallel: family.parallel,
        max_num_seqs: Some(deployment.max_num_seqs),
        batch_size: record.mean_in_flight.max(1.0),
        sm_clock_mhz: deployment.sm_clock_mhz,
        kv_cache: family.kv_cache,
        tokens,
        requests,
        runtime: Some(Seconds(phase.seconds)),
        engine: Some(engine.to_owned()),
        engine_version: Some(version.to_owned()).filter(|version| !version.is_empty()),
        driver_version: meter.driver_version.clone(),
        provenance: Provenance::Measured,
        source: Some(format!("reconcile {run}")),
        measured_at: Some(meter.started_at.clone()),
        ..Sample::empty(Measurement::Trial)
    };
    if script.kind == "gpu" {
        sample.gpu_energy = Some(Joules(devices_energy(meter, phase, family.devices)?));
        sample.idle_power = meter.gpu_idle_power_w.map(Watts);
    } else {
        let lines = || meter.meters.iter().filter(|line| ["package", "dram"].contains(&line.scope.as_str()));
        let each: Option<Vec<f64>> = lines().map(|line| phase.energy_j.get(&line.name).copied()).collect();
        let idle: Option<Vec<f64>> = lines().map(|line| line.idle_before_w).collect();
        sample.cpu_energy = Some(Joules(each.filter(|each| !each.is_empty())?.iter().sum()));
        sample.cpu_energy_scope = meter.cpu_energy_scope.clone();
        sample.idle_power = idle.map(|idle| Watts(idle.iter().sum()));
    }
    Some(sample)
}

/// Of the devices that the meter chose a way for, if those are the deployment's.
fn devices_energy(meter: &MeterJson, phase: &PhaseJson, devices: u32) -> Option<f64> {
    let measured: Vec<_> = meter
        .devices
        .iter()
        .filter(|device| device.status == DeviceStatus::Measured && device.method.is_some())
        .collect();
    if measured.len() != devices as usize {
        return None;
    }
    let of = |device: &&crate::formats::meter_json::DeviceJson| {
        let line = meter.meters.iter().find(|line| {
            line.device_index == Some(device.index) && device.method.as_deref() == Some(line.method.as_str())
        })?;
        phase.energy_j.get(&line.name).copied()
    };
    measured.iter().map(of).sum()
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

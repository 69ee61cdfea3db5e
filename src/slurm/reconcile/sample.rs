//! A run as a sample: a trial of the deployment at the lengths of its queue, for `fit --update`.
//!
//! It covers what the engine answered from ready to the last answer; loading stays out, and so does what it did before it was
//! killed. The requests' own token counts are those that the engine charged.

use super::super::progress::drawn;
use super::other_clock;
use crate::domain::{FamilyKey, Measurement, Moments, Provenance, Sample};
use crate::formats::meter_json::{DeviceJson, DeviceStatus, MeterJson, PhaseJson};
use crate::formats::plan_json::DeploymentJson;
use crate::formats::run_record::RunRecord;
use crate::units::{Joules, Seconds, Watts};

/// What was answered between ready and the last answer, at the energy of that time. `None` where any of it is not known, not
/// this run's alone, or at another clock than planned.
pub fn of_run(
    deployment: &DeploymentJson,
    is_gpu: bool,
    meter: &MeterJson,
    record: &RunRecord,
    run: &str,
) -> Option<Sample> {
    let phase = meter.phases.iter().find(|phase| phase.name == "serve")?;
    let is_estimated = drawn(meter, is_gpu).is_estimated;
    if is_estimated || record.answered == 0 || record.failed > 0 || other_clock(deployment, meter).is_some() {
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
    if is_gpu {
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
    let of = |device: &&DeviceJson| {
        let line = meter.meters.iter().find(|line| {
            line.device_index == Some(device.index) && device.method.as_deref() == Some(line.method.as_str())
        })?;
        phase.energy_j.get(&line.name).copied()
    };
    measured.iter().map(of).sum()
}

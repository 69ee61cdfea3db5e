//! What a session knows, as its JSON: a line for each meter, a line for each device, sums, and what spoils them.
//!
//! A sum is given only where every part of it is known. Taken at any moment of a measurement; nothing is measured here.

use super::{EDGE, Mark, Session};
use crate::formats::meter_json::{
    CpuJson, DeviceJson, DeviceStatus, MeterJson, MeterLine, RefusalJson, SCHEMA_VERSION, State,
};
use crate::measure::conditions::Conditions;
use crate::measure::meter::{Identity, Method, Scope};
use crate::measure::nvml::{DISAGREEMENT, Gpu};
use crate::measure::refusal::{Refusal, RefusalKind};
use crate::measure::sampler::Track;
use crate::measure::series::Series;
use crate::units::Seconds;

/// Others' share of the processors' time from which package energy is no longer the command's alone.
const OTHERS_CPU_SHARE: f64 = 0.05;
/// Idle power that changes by more than this, and by more than `DRIFT_LEAST`, is worth a warning.
const DRIFT_SHARE: f64 = 0.10;
const DRIFT_LEAST: f64 = 5.0;
/// Devices round a clock to one they have; these are 15 MHz apart.
const CLOCK_STEP_MHZ: f64 = 15.0;

impl Session {
    /// What is known now.
    pub fn result(&self) -> MeterJson {
        let now = self.sampler.now();
        let meters: Vec<MeterLine> =
            self.sampler.with(|tracks| tracks.iter().map(|track| self.line(track, now)).collect());
        let mut warnings = Vec::new();
        let devices: Vec<DeviceJson> =
            self.devices.iter().map(|(gpu, seen)| device(gpu, &seen.get(), &meters, &mut warnings)).collect();
        let cpu = self.cpu();
        let mut result = MeterJson {
            schema_version: SCHEMA_VERSION,
            jouleplan: env!("CARGO_PKG_VERSION").to_owned(),
            state: if self.ended.is_some() { State::Finished } else { State::Running },
            command: self.command.clone(),
            node: self.node.clone(),
            started_at: humantime::format_rfc3339_millis(self.started_at).to_string(),
            seconds: self.begun.map(|begun| self.ended.map_or(now, |ended| ended.at).0 - begun.at.0),
            exit_code: self.outcome.0,
            signal: self.outcome.1,
            interval_s: self.interval.as_secs_f64(),
            gpu_energy_j: None,
            gpu_net_energy_j: None,
            gpu_idle_power_w: None,
            cpu_energy_j: None,
            cpu_energy_scope: None,
            node_energy_j: None,
            cpu,
            requested_sm_clock_mhz: self.requested.sm_clock_mhz,
            requested_power_limit_w: self.requested.power_limit.map(|limit| limit.0),
            clean: true,
            driver_version: self.driver_version.clone(),
            devices,
            meters,
            phases: self.phases(),
            refused: self.refused.clone(),
            warnings,
        };
        self.totals(&mut result);
        result
    }

    fn line(&self, track: &Track, now: Seconds) -> MeterLine {
        let Track { identity, series, failing } = track;
        let (device_index, socket) = match &identity.scope {
            Scope::Device { index, .. } => (Some(*index), None),
            Scope::Package { socket } | Scope::Dram { socket } => (None, Some(socket.clone())),
            Scope::Platform | Scope::Node => (None, None),
        };
        let mut line = MeterLine {
            name: identity.name.clone(),
            source: identity.source.to_owned(),
            scope: identity.scope.as_str().to_owned(),
            method: identity.method.as_str().to_owned(),
            provenance: identity.provenance.as_str().to_owned(),
            device_index,
            socket,
            resolution: identity.resolution,
            averaged_over_s: averaged_over(identity),
            update_s: series.update_interval().map(|seconds| seconds.0),
            samples: series.samples(),
            energy_j: None,
            uncertainty_j: None,
            mean_power_w: None,
            idle_before_w: None,
            idle_after_w: None,
            idle_drift_w: None,
            net_energy_j: None,
            estimated_share_energy_j: None,
            refused: None,
        };
        let Some(begun) = self.begun else { return line };
        line.idle_before_w =
            series.mean_power(first_reading(series).max(self.opened), begun.at).ok().map(|power| power.0);
        // While the command runs, as far as readings reach.
        let until = self.ended.map_or_else(|| series.until().unwrap_or(now), |ended| ended.at);
        match series.energy(begun.at, until) {
            Ok(energy) => {
                let seconds = until - begun.at;
                line.energy_j = Some(energy.joules.0);
                line.uncertainty_j = Some(energy.uncertainty.0);
                line.mean_power_w = Some((energy.joules / seconds).0);
                line.net_energy_j = line.idle_before_w.map(|idle| energy.joules.0 - idle * seconds.0);
            }
            Err(refusal) => {
                let refusal = failing.as_ref().filter(|_| refusal.kind == RefusalKind::TooShort).unwrap_or(&refusal);
                line.refused = Some(refusal_json(None, refusal));
            }
        }
        if let (Some(ended), Some(closed)) = (self.ended, self.closed) {
            let settled = ended.at + Seconds(EDGE.as_secs_f64());
            line.idle_after_w = series.mean_power(settled, closed).ok().map(|power| power.0);
            line.idle_drift_w = line.idle_after_w.zip(line.idle_before_w).map(|(after, before)| after - before);
        }
        line
    }

    /// Sums over devices and sockets, and what spoils them.
    fn totals(&self, result: &mut MeterJson) {
        let allocated = result.cpu.and_then(|cpu| cpu.allocated_share).filter(|share| *share < 1.0);
        for line in &mut result.meters {
            if line.scope != "device" {
                line.estimated_share_energy_j = allocated.zip(line.energy_j).map(|(share, joules)| share * joules);
            }
        }
        let of = |result: &MeterJson, scopes: &[&str]| {
            let lines = result.meters.iter().filter(|line| scopes.contains(&line.scope.as_str()));
            sum(lines.map(|line| line.energy_j))
        };
        // A socket that refused leaves the sum unknown, not smaller.
        let sockets_known = !self.refused.iter().any(|refused| refused.meter.as_deref() == Some("rapl"));
        let has_dram = result.meters.iter().any(|line| line.scope == "dram");
        result.cpu_energy_j = of(result, &["package", "dram"]).filter(|_| sockets_known);
        result.cpu_energy_scope =
            result.cpu_energy_j.map(|_| if has_dram { "package+dram" } else { "package" }.to_owned());
        result.node_energy_j = of(result, &["node"]);
        // NVIDIA devices by the meter chosen for each, others by their only one.
        let others = || result.meters.iter().filter(|line| line.scope == "device" && line.source != "nvml");
        let gross = result.devices.iter().map(|device| device.energy_j).chain(others().map(|line| line.energy_j));
        let gpu_energy_j = sum(gross);
        let idle = result
            .devices
            .iter()
            .map(|device| result.meters.iter().find(|line| chosen(line, device)).and_then(|line| line.idle_before_w));
        let gpu_idle_power_w = sum(idle.chain(others().map(|line| line.idle_before_w)));
        // A device that could not even be opened leaves the sum unknown, not smaller.
        let hidden = self.refused.iter().any(|refused| match refused.meter.as_deref() {
            Some("nvml") => refused.kind != "absent" && refused.kind != "unsupported",
            Some("amdgpu") => true,
            _ => false,
        });
        (result.gpu_energy_j, result.gpu_idle_power_w) =
            if hidden { (None, None) } else { (gpu_energy_j, gpu_idle_power_w) };
        let seconds = result.seconds.unwrap_or_default();
        // Where others were on a device, what it drew before the command was not its idle power.
        let shared = result.devices.iter().any(|device| !device.others.is_empty());
        result.gpu_net_energy_j = result
            .gpu_energy_j
            .zip(result.gpu_idle_power_w)
            .filter(|_| !shared)
            .map(|(gross, idle)| gross - idle * seconds);
        self.warn(result, allocated);
    }

    fn warn(&self, result: &mut MeterJson, allocated: Option<f64>) {
        let mut warnings = Vec::new();
        for line in &result.meters {
            if let Some(refusal) = &line.refused {
                let refusal = Refusal::new(RefusalKind::Unreadable, refusal.what.clone(), refusal.remedy.clone());
                warnings.push(format!("{} gives no energy: {refusal}", line.name));
            }
            if let (Some(before), Some(drift)) = (line.idle_before_w, line.idle_drift_w)
                && drift.abs() > DRIFT_LEAST.max(DRIFT_SHARE * before)
            {
                warnings.push(format!("{}: idle power drifted by {drift:+.1} W from {before:.1} W", line.name));
            }
        }
        for device in &result.devices {
            if let (Some(asked), Some(seen)) = (self.requested.sm_clock_mhz, device.sm_clock_mhz)
                && seen.max > f64::from(asked) + CLOCK_STEP_MHZ
            {
                warnings.push(format!(
                    "device {}: {asked} MHz were asked for and up to {:.0} MHz seen",
                    device.index, seen.max
                ));
                result.clean = false;
            }
        }
        let counts_cpu = result.cpu_energy_j.is_some() || result.node_energy_j.is_some();
        if counts_cpu && let Some(share) = allocated {
            warnings.push(format!(
                "packages and node are shared: the command may use {:.0} % of the cores; its part is an estimate",
                100.0 * share
            ));
            result.clean = false;
        }
        if counts_cpu
            && let Some(CpuJson { command_s: Some(command), node_s: Some(node), .. }) = result.cpu
            && node - command > OTHERS_CPU_SHARE * node
        {
            warnings.push(format!(
                "other processes used {:.1} of {node:.1} core-seconds: package and node energy contain their work",
                node - command
            ));
            result.clean = false;
        }
        result.clean &= result.devices.iter().all(|device| device.status == DeviceStatus::Measured);
        result.warnings.extend(warnings);
    }

    fn cpu(&self) -> Option<CpuJson> {
        let begun = self.begun?;
        let allowed = std::thread::available_parallelism().ok().map(usize::from);
        let online = self.family.table().online_cpus();
        let allocated_share = allowed.zip(online).map(|(allowed, online)| (allowed as f64 / online as f64).min(1.0));
        let between = |of: fn(&Mark) -> Option<f64>| Some((of(self.ended.as_ref()?)? - of(&begun)?).max(0.0));
        let command_s = between(|mark| mark.children_cpu);
        Some(CpuJson { command_s, node_s: between(|mark| mark.node_cpu), allocated_share })
    }
}

fn device(gpu: &Gpu, seen: &Conditions, meters: &[MeterLine], warnings: &mut Vec<String>) -> DeviceJson {
    let of = |method: &str| {
        meters
            .iter()
            .find(|line| line.source == "nvml" && line.device_index == Some(gpu.index) && line.method == method)
    };
    let (counter, integrated) = (of("counter"), of("integrated"));
    let energy = |line: Option<&MeterLine>| line.and_then(|line| line.energy_j);
    let chosen = counter.filter(|line| line.energy_j.is_some()).or(integrated);
    let disagreement = match (energy(counter), energy(integrated)) {
        (Some(counted), Some(integrated)) if counted > 0.0 => Some(integrated / counted - 1.0),
        _ => None,
    };
    let lost = [counter, integrated]
        .into_iter()
        .flatten()
        .any(|line| line.refused.as_ref().is_some_and(|refused| refused.kind == RefusalKind::Lost.as_str()));
    let name = format!("device {} ({})", gpu.index, gpu.name);
    let disagrees = disagreement.is_some_and(|difference| difference.abs() > DISAGREEMENT);
    if let (true, Some(counted), Some(integrated)) = (disagrees, energy(counter), energy(integrated)) {
        warnings.push(format!(
            "{name}: the energy counter says {counted:.0} J and integrated power {integrated:.0} J; do not rely on either"
        ));
    }
    if !seen.others.is_empty() {
        let pids: Vec<String> = seen.others.keys().map(u32::to_string).collect();
        warnings
            .push(format!("{name}: other processes were on it ({}); its energy contains their work", pids.join(", ")));
    }
    let status = if lost {
        DeviceStatus::Lost
    } else if energy(chosen).is_none() {
        DeviceStatus::Refused
    } else if !seen.others.is_empty() {
        DeviceStatus::Contaminated
    } else if disagrees {
        DeviceStatus::Disagreement
    } else {
        DeviceStatus::Measured
    };
    DeviceJson {
        index: gpu.index,
        uuid: gpu.uuid.clone(),
        name: gpu.name.clone(),
        mig_instances: gpu.mig_instances,
        energy_j: energy(chosen),
        method: energy(chosen).and(chosen).map(|line| line.method.clone()),
        disagreement,
        status,
        sm_clock_mhz: seen.sm_clock_mhz(),
        temperature_c: seen.temperature_c(),
        throttle_reasons: seen.throttle_reasons(),
        others: seen.others.values().cloned().collect(),
        unidentified_pids: seen.unidentified.iter().copied().collect(),
        processes_known: seen.processes_known,
    }
}

/// Whether `line` is the meter a device's energy was taken from.
fn chosen(line: &MeterLine, device: &DeviceJson) -> bool {
    line.source == "nvml" && line.device_index == Some(device.index) && device.method.as_deref() == Some(&*line.method)
}

/// The sum, if every part is known and there is one.
fn sum(parts: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let parts: Option<Vec<f64>> = parts.collect();
    parts.filter(|parts| !parts.is_empty()).map(|parts| parts.iter().sum())
}

fn first_reading(series: &Series) -> Seconds {
    series.first().unwrap_or(Seconds(f64::NAN))
}

fn averaged_over(identity: &Identity) -> Option<f64> {
    match identity.method {
        Method::Integrated { averaged_over } if averaged_over.0 > 0.0 => Some(averaged_over.0),
        _ => None,
    }
}

pub(super) fn refusal_json(meter: Option<&str>, refusal: &Refusal) -> RefusalJson {
    RefusalJson {
        meter: meter.map(str::to_owned),
        kind: refusal.kind.as_str().to_owned(),
        what: refusal.what.clone(),
        remedy: refusal.remedy.clone(),
    }
}

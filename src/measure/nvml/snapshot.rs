//! What a device is doing at a moment. Each figure is absent where the device does not say.

use std::collections::BTreeSet;

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::error::NvmlError;

use super::Gpu;
use super::meters::{instant_power, power};
use crate::measure::refusal::{Refusal, RefusalKind};
use crate::units::Watts;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub power: Option<Watts>,
    /// Share of the last interval in which a kernel ran, 0..100.
    pub utilization_pct: Option<u32>,
    pub memory_used_mib: Option<u64>,
    pub memory_total_mib: Option<u64>,
    pub sm_clock_mhz: Option<u32>,
    pub max_sm_clock_mhz: Option<u32>,
    pub temperature_c: Option<u32>,
    pub power_limit_w: Option<f64>,
    /// Why clocks are lower than they could be; `None` is unknown, empty is unhindered.
    pub throttle_reasons: Option<Vec<&'static str>>,
    /// Ids of the processes with a context on the device, as the driver knows them, which in a container may be another
    /// namespace's. `None` where the driver does not say.
    pub processes: Option<Vec<u32>>,
}

impl Gpu {
    /// All that the device says now.
    ///
    /// # Errors
    /// That the device is lost or out of reach. A single figure it does not say is absent.
    pub fn snapshot(&self) -> Result<Snapshot, Refusal> {
        let device = self.handle()?;
        let power = match instant_power(self).or_else(|_| power(self, false)) {
            Err(refusal) if refusal.kind == RefusalKind::Lost => return Err(refusal),
            other => other.ok(),
        };
        let memory = device.memory_info().ok();
        Ok(Snapshot {
            power,
            utilization_pct: device.utilization_rates().ok().map(|rates| rates.gpu),
            memory_used_mib: memory.as_ref().map(|memory| memory.used >> 20),
            memory_total_mib: memory.as_ref().map(|memory| memory.total >> 20),
            max_sm_clock_mhz: device.max_clock_info(Clock::SM).ok(),
            power_limit_w: device.enforced_power_limit().ok().map(|milliwatts| f64::from(milliwatts) / 1e3),
            ..self.conditions()?
        })
    }

    /// The part of a snapshot that says how believable a measurement is: clocks, throttling, temperature, processes.
    ///
    /// # Errors
    /// That the device is lost.
    pub fn conditions(&self) -> Result<Snapshot, Refusal> {
        let device = self.handle()?;
        let sm_clock_mhz = match device.clock_info(Clock::SM) {
            Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired)) => return Err(self.refusal(error)),
            other => other.ok(),
        };
        Ok(Snapshot {
            sm_clock_mhz,
            temperature_c: device.temperature(TemperatureSensor::Gpu).ok(),
            throttle_reasons: device.current_throttle_reasons().ok().map(names),
            processes: self.processes(),
            ..Snapshot::default()
        })
    }

    /// Processes with a compute or graphics context, each once.
    fn processes(&self) -> Option<Vec<u32>> {
        let device = self.handle().ok()?;
        let mut all = device.running_compute_processes().ok()?;
        match device.running_graphics_processes() {
            Ok(more) => all.extend(more),
            // A device or driver without graphics has no such processes.
            Err(NvmlError::NotSupported | NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_)) => {}
            Err(_) => return None,
        }
        let pids: BTreeSet<u32> = all.into_iter().map(|info| info.pid).collect();
        Some(pids.into_iter().collect())
    }
}

/// Idleness is no hindrance and is left out.
fn names(reasons: ThrottleReasons) -> Vec<&'static str> {
    let all = [
        (ThrottleReasons::APPLICATIONS_CLOCKS_SETTING, "applications_clocks_setting"),
        (ThrottleReasons::SW_POWER_CAP, "sw_power_cap"),
        (ThrottleReasons::HW_SLOWDOWN, "hw_slowdown"),
        (ThrottleReasons::SYNC_BOOST, "sync_boost"),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, "sw_thermal_slowdown"),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, "hw_thermal_slowdown"),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "hw_power_brake_slowdown"),
        (ThrottleReasons::DISPLAY_CLOCK_SETTING, "display_clock_setting"),
    ];
    all.into_iter().filter(|(reason, _)| reasons.contains(*reason)).map(|(_, name)| name).collect()
}

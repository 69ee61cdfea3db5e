//! Clock locks and power limits of one device: what may be set, and the setting itself.
//!
//! NVML cannot say which clocks are locked, so a lock is undone by removing it; a power limit goes back to what it was.

use nvml_wrapper::enums::device::GpuLockedClocksSetting;
use nvml_wrapper::error::NvmlError;

use super::Gpu;
use crate::measure::refusal::{Refusal, RefusalKind};
use crate::units::Watts;

/// Power limits that may be set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PowerLimits {
    pub min: Watts,
    pub max: Watts,
    pub default: Watts,
}

impl Gpu {
    /// # Errors
    /// That the device does not say.
    pub fn power_limits(&self) -> Result<PowerLimits, Refusal> {
        let device = self.handle()?;
        let of = |error| self.refusal(error);
        let range = device.power_management_limit_constraints().map_err(of)?;
        let default = device.power_management_limit_default().map_err(of)?;
        Ok(PowerLimits { min: watts(range.min_limit), max: watts(range.max_limit), default: watts(default) })
    }

    /// The limit set now.
    ///
    /// # Errors
    /// That the device does not say.
    pub fn power_limit(&self) -> Result<Watts, Refusal> {
        self.handle()?.power_management_limit().map(watts).map_err(|error| self.refusal(error))
    }

    /// # Errors
    /// Permission, or a limit the device does not allow.
    pub fn set_power_limit(&self, limit: Watts) -> Result<(), Refusal> {
        // Limits are hundreds of watts; the cast saturates on nonsense, which NVML then refuses.
        let milliwatts = (1e3 * limit.0).round() as u32;
        let set = self.handle()?.set_power_management_limit(milliwatts);
        set.map_err(|error| self.cannot_set("power limit", error))
    }

    /// Locks the SM clock to `mhz`, or to the nearest the device has.
    ///
    /// # Errors
    /// Permission, or a device without clock locks.
    pub fn lock_sm_clock(&self, mhz: u32) -> Result<(), Refusal> {
        let setting = GpuLockedClocksSetting::Numeric { min_clock_mhz: mhz, max_clock_mhz: mhz };
        self.handle()?.set_gpu_locked_clocks(setting).map_err(|error| self.cannot_set("SM clock", error))
    }

    /// Removes a lock of the SM clock, whoever set it.
    ///
    /// # Errors
    /// Permission, or a device without clock locks.
    pub fn unlock_sm_clock(&self) -> Result<(), Refusal> {
        self.handle()?.reset_gpu_locked_clocks().map_err(|error| self.cannot_set("SM clock", error))
    }

    fn cannot_set(&self, what: &str, error: NvmlError) -> Refusal {
        let refusal = self.refusal(error);
        let remedy = match refusal.kind {
            RefusalKind::Permission => "run this as root (`sudo`), or let Slurm set clocks: `--gpu-freq`".to_owned(),
            _ => refusal.remedy,
        };
        Refusal { what: format!("cannot set the {what}: {}", refusal.what), remedy, ..refusal }
    }
}

fn watts(milliwatts: u32) -> Watts {
    Watts(f64::from(milliwatts) / 1e3)
}

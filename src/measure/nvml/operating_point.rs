//! Clock locks and power limits: what may be set, and the setting itself.

use super::Gpu;
use crate::measure::refusal::{Refusal, RefusalKind};

/// Watts that may be set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PowerLimits {
    pub min_w: f64,
    pub max_w: f64,
    pub default_w: f64,
}

impl Gpu {
    /// # Errors
    /// That the device does not say.
    pub fn power_limits(&self) -> Result<PowerLimits, Refusal> {
        let device = self.handle()?;
        let of = |error| self.refusal(error);
        let range = device.power_management_limit_constraints().map_err(of)?;
        let default = device.power_management_limit_default().map_err(of)?;
        let watts = |milliwatts: u32| f64::from(milliwatts) / 1e3;
        Ok(PowerLimits { min_w: watts(range.min_limit), max_w: watts(range.max_limit), default_w: watts(default) })
    }

    /// What this process may set, without setting it: (what, whether, remedy).
    pub fn permissions(&self) -> Vec<(&'static str, Result<(), Refusal>, String)> {
        let is_root = rustix::process::geteuid().is_root();
        let check = |what: &str| {
            let refusal = || {
                let what = format!("device {}: {what} can be set by root alone", self.index);
                Refusal::new(RefusalKind::Permission, what, "")
            };
            if is_root { Ok(()) } else { Err(refusal()) }
        };
        let index = self.index;
        let slurm = "or let Slurm do it: `--gpu-freq`";
        vec![
            ("the SM clock", check("the SM clock"), format!("`sudo nvidia-smi -i {index} -lgc MHZ`, {slurm}")),
            ("the power limit", check("the power limit"), format!("`sudo nvidia-smi -i {index} -pl WATTS`")),
        ]
    }
}

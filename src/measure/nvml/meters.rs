//! The two ways to a device's joules: the driver's energy counter, and power integrated here.
//!
//! They come from the same sensor through different code, and are known to disagree where one of them is wrong, so both are
//! read and compared. The power of the moment is preferred; from Ampere on the plain reading is a mean over a second
//! (nvml.h, `nvmlDeviceGetPowerUsage`), which a short region cannot use.

use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::NVML_FI_DEV_POWER_INSTANT;

use super::Gpu;
use crate::domain::Provenance;
use crate::measure::meter::{Identity, Meter, Method, Reading, Scope};
use crate::measure::refusal::{Refusal, RefusalKind};
use crate::units::{Joules, Seconds, Watts};

/// From this relative difference on, counter and integrated power are reported as disagreeing.
pub const DISAGREEMENT: f64 = 0.05;
/// No single accelerator draws this much: a counter that rises faster is wrong.
const MAX_POWER: Watts = Watts(20_000.0);

/// All meters of a device, and why others are refused.
pub fn meters(gpu: &Gpu) -> (Vec<Box<dyn Meter>>, Vec<Refusal>) {
    let mut found: Vec<Box<dyn Meter>> = Vec::new();
    let mut refused = Vec::new();
    match energy(gpu) {
        Ok(_) => {
            let method = Method::Counter { wraps_at: None, max_power: MAX_POWER };
            found.push(Box::new(Counter { identity: identity(gpu, "counter", method), gpu: gpu.clone() }));
        }
        Err(refusal) => refused.push(about(refusal, "energy counter")),
    }
    let instant = instant_power(gpu).is_ok();
    match power(gpu, instant) {
        Ok(_) => {
            let averaged_over = if instant || !averages(gpu) { Seconds::ZERO } else { Seconds(1.0) };
            let identity = identity(gpu, "power", Method::Integrated { averaged_over });
            found.push(Box::new(Power { identity, gpu: gpu.clone(), instant }));
        }
        Err(refusal) => refused.push(about(refusal, "power")),
    }
    (found, refused)
}

struct Counter {
    identity: Identity,
    gpu: Gpu,
}

impl Meter for Counter {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn read(&mut self) -> Result<Reading, Refusal> {
        energy(&self.gpu).map(Reading::Counter)
    }
}

struct Power {
    identity: Identity,
    gpu: Gpu,
    instant: bool,
}

impl Meter for Power {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn read(&mut self) -> Result<Reading, Refusal> {
        power(&self.gpu, self.instant).map(Reading::Power)
    }
}

fn identity(gpu: &Gpu, what: &str, method: Method) -> Identity {
    Identity {
        name: format!("nvml:{}:{what}", gpu.index),
        source: "nvml",
        scope: Scope::Device { index: gpu.index, uuid: gpu.uuid.clone() },
        method,
        resolution: 0.001,
        provenance: Provenance::Measured,
    }
}

fn energy(gpu: &Gpu) -> Result<Joules, Refusal> {
    let millijoules = gpu.handle()?.total_energy_consumption().map_err(|error| gpu.refusal(error))?;
    Ok(Joules(millijoules as f64 / 1e3))
}

pub(super) fn power(gpu: &Gpu, instant: bool) -> Result<Watts, Refusal> {
    if instant {
        return instant_power(gpu);
    }
    let milliwatts = gpu.handle()?.power_usage().map_err(|error| gpu.refusal(error))?;
    believable(gpu, f64::from(milliwatts))
}

/// The power of this moment, from driver 530 on.
pub(super) fn instant_power(gpu: &Gpu) -> Result<Watts, Refusal> {
    let of = |error: NvmlError| gpu.refusal(error);
    let values = gpu.handle()?.field_values_for(&[FieldId(NVML_FI_DEV_POWER_INSTANT)]).map_err(of)?;
    let Some(value) = values.into_iter().next() else { return Err(of(NvmlError::NoData)) };
    let milliwatts = match value.and_then(|sample| sample.value).map_err(of)? {
        SampleValue::U32(value) => f64::from(value),
        SampleValue::U64(value) => value as f64,
        SampleValue::I64(value) => value as f64,
        SampleValue::F64(value) => value,
    };
    believable(gpu, milliwatts)
}

/// Some devices answer 0 with success where they mean that they cannot say.
fn believable(gpu: &Gpu, milliwatts: f64) -> Result<Watts, Refusal> {
    if milliwatts > 0.0 {
        return Ok(Watts(milliwatts / 1e3));
    }
    let what = format!("device {} ({}) says that it draws {milliwatts} W", gpu.index, gpu.name);
    Err(Refusal::new(RefusalKind::Unsupported, what, ""))
}

/// Whether the plain power reading is a mean over a second: on Ampere and newer, other than GA100.
fn averages(gpu: &Gpu) -> bool {
    let major = gpu.handle().ok().and_then(|device| device.cuda_compute_capability().ok());
    major.is_none_or(|capability| (capability.major, capability.minor) > (8, 0))
}

fn about(refusal: Refusal, what: &str) -> Refusal {
    Refusal { what: format!("{what} of {}", refusal.what), ..refusal }
}

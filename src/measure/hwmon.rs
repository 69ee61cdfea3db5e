//! Power that the kernel's hwmon shows: the node, by its ACPI power meter, and AMD devices, by the amdgpu driver.
//!
//! Other sensors (single rails, drives, batteries) are not read: what they cover, and whether another meter counts it already,
//! nobody can say. See the kernel's Documentation/hwmon/sysfs-interface.rst for the files and units.

use std::fs;
use std::path::{Path, PathBuf};

use super::meter::{Identity, Meter, Method, Reading, Scope};
use super::refusal::{Refusal, RefusalKind};
use crate::domain::Provenance;
use crate::units::{Seconds, Watts};

const MICROWATT: f64 = 1e-6;

/// Why a meter is refused, by what it would be of: `amdgpu` or `node`.
type Refused = Vec<(&'static str, Refusal)>;

/// Node and AMD device meters under `sysfs_root`, and why others are refused. A node without any is no refusal.
pub fn meters(sysfs_root: &Path) -> (Vec<Box<dyn Meter>>, Refused) {
    let folder = sysfs_root.join("class/hwmon");
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut chips: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    chips.sort();
    let mut found: Vec<Box<dyn Meter>> = Vec::new();
    let mut refused = Vec::new();
    let (mut devices, mut nodes) = (0, 0);
    for chip in chips {
        let (of, scope) = match fs::read_to_string(chip.join("name")).unwrap_or_default().trim() {
            // Of several power meters the first is the node's; the kernel does not say more.
            "power_meter" if nodes == 0 => ("node", Scope::Node),
            "amdgpu" => ("amdgpu", Scope::Device { index: devices, uuid: bus_id(&chip) }),
            _ => continue,
        };
        match scope {
            Scope::Node => nodes += 1,
            _ => devices += 1,
        }
        match Sensor::open(&chip, scope) {
            Ok(sensor) => found.push(Box::new(sensor)),
            Err(refusal) => refused.push((of, refusal)),
        }
    }
    (found, refused)
}

struct Sensor {
    identity: Identity,
    power: PathBuf,
}

impl Sensor {
    fn open(chip: &Path, scope: Scope) -> Result<Self, Refusal> {
        let (average, input) = (chip.join("power1_average"), chip.join("power1_input"));
        let power = if input.exists() { input } else { average };
        watts(&power)?;
        let averaged = power.ends_with("power1_average");
        let interval = fs::read_to_string(chip.join("power1_average_interval")).ok();
        let milliseconds = interval.and_then(|text| text.trim().parse::<f64>().ok()).filter(|ms| *ms > 0.0);
        // Without a stated interval a second, which is what power meters and amdgpu have.
        let averaged_over = if averaged { Seconds(milliseconds.unwrap_or(1_000.0) / 1e3) } else { Seconds::ZERO };
        let name = match &scope {
            Scope::Device { index, .. } => format!("hwmon:amdgpu-{index}"),
            _ => "hwmon:power_meter".to_owned(),
        };
        let identity = Identity {
            name,
            source: "hwmon",
            scope,
            method: Method::Integrated { averaged_over },
            resolution: MICROWATT,
            provenance: Provenance::Measured,
        };
        Ok(Self { identity, power })
    }
}

impl Meter for Sensor {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn read(&mut self) -> Result<Reading, Refusal> {
        watts(&self.power).map(Reading::Power)
    }
}

fn watts(path: &Path) -> Result<Watts, Refusal> {
    let what = format!("hwmon: {}", path.display());
    let remedy = format!("let users read it: `sudo chmod a+r {}`", path.display());
    let text = fs::read_to_string(path).map_err(|error| Refusal::of_io(&what, &error, remedy))?;
    let text = text.trim();
    // 0 W is "cannot say", as with NVML and IPMI.
    let microwatts = text.parse::<f64>().ok().filter(|value| value.is_finite() && *value > 0.0);
    let unreadable = || Refusal::new(RefusalKind::Unreadable, format!("{what} says `{text}`"), "");
    microwatts.map(|value| Watts(value * MICROWATT)).ok_or_else(unreadable)
}

/// `0000:03:00.0`, where the chip's device links to.
fn bus_id(chip: &Path) -> String {
    let device = fs::canonicalize(chip.join("device")).unwrap_or_else(|_| chip.to_owned());
    device.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

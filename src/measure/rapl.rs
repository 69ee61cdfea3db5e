//! Processor packages and DRAM through RAPL, as Linux's powercap shows it (Intel, and AMD from Zen on).
//!
//! `core` and `uncore` lie inside their package, and `intel-rapl-mmio` shows the same package a second time: neither is
//! read. The counters wrap, at a few hundred kilojoules. Since CVE-2020-8694 only root may read them until the
//! administrator says otherwise.

use std::fs;
use std::path::{Path, PathBuf};

use super::meter::{Identity, Meter, Method, Reading, Scope};
use super::refusal::{Refusal, RefusalKind};
use crate::domain::Provenance;
use crate::units::{Joules, Watts};

/// No package draws this much; a counter that moves faster was reset.
const MAX_POWER: Watts = Watts(5_000.0);
const MICROJOULE: f64 = 1e-6;

/// All RAPL meters under `sysfs_root` (`/sys` on a real node), and why others are refused.
pub fn meters(sysfs_root: &Path) -> (Vec<Box<dyn Meter>>, Vec<Refusal>) {
    let folder = sysfs_root.join("class/powercap");
    let mut zones: Vec<PathBuf> = match fs::read_dir(&folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(|path| is_zone(path)).collect(),
        Err(_) => Vec::new(),
    };
    zones.sort();
    if zones.is_empty() {
        let what = format!("RAPL: {} has no intel-rapl zone", folder.display());
        let remedy = "load its module: `sudo modprobe intel_rapl_msr` (virtual machines have none)";
        return (Vec::new(), vec![Refusal::new(RefusalKind::Absent, what, remedy)]);
    }
    let mut found: Vec<Box<dyn Meter>> = Vec::new();
    let mut refused = Vec::new();
    for zone in &zones {
        match Zone::open(zone, &zones) {
            Ok(Some(meter)) => found.push(Box::new(meter)),
            Ok(None) => {}
            Err(refusal) => refused.push(refusal),
        }
    }
    (found, refused)
}

struct Zone {
    identity: Identity,
    energy: PathBuf,
}

impl Zone {
    /// `None` for zones that others contain.
    fn open(zone: &Path, all: &[PathBuf]) -> Result<Option<Self>, Refusal> {
        let name = text(&zone.join("name"))?;
        let scope = if let Some(socket) = name.strip_prefix("package-") {
            Scope::Package { socket: socket.to_owned() }
        } else if name == "dram" {
            let parent = parent_zone(zone).filter(|parent| all.contains(parent));
            let package = parent.and_then(|parent| text(&parent.join("name")).ok()).unwrap_or_default();
            match package.strip_prefix("package-") {
                Some(socket) => Scope::Dram { socket: socket.to_owned() },
                None => return Ok(None),
            }
        } else if name == "psys" {
            Scope::Platform
        } else {
            return Ok(None);
        };
        let energy = zone.join("energy_uj");
        read_energy(&energy)?;
        let range = number(&zone.join("max_energy_range_uj"))? * MICROJOULE;
        let method = Method::Counter { wraps_at: Some(Joules(range)), max_power: MAX_POWER };
        let name = match &scope {
            Scope::Dram { socket } => format!("rapl:dram-{socket}"),
            _ => format!("rapl:{name}"),
        };
        let identity =
            Identity { name, source: "rapl", scope, method, resolution: MICROJOULE, provenance: Provenance::Measured };
        Ok(Some(Self { identity, energy }))
    }
}

impl Meter for Zone {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn read(&mut self) -> Result<Reading, Refusal> {
        read_energy(&self.energy).map(Reading::Counter)
    }
}

/// `intel-rapl:0` and `intel-rapl:0:1`, not `intel-rapl` nor `intel-rapl-mmio:0`.
fn is_zone(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("intel-rapl:"))
}

/// `intel-rapl:0` of `intel-rapl:0:1`.
fn parent_zone(zone: &Path) -> Option<PathBuf> {
    let (parent, _) = zone.file_name()?.to_str()?.rsplit_once(':')?;
    Some(zone.with_file_name(parent))
}

fn read_energy(path: &Path) -> Result<Joules, Refusal> {
    number(path).map(|microjoules| Joules(microjoules * MICROJOULE))
}

fn number(path: &Path) -> Result<f64, Refusal> {
    let text = text(path)?;
    let unreadable = || Refusal::new(RefusalKind::Unreadable, format!("RAPL: {} says `{text}`", path.display()), "");
    // Microjoules stay below 2^53 for 285 years at a kilowatt.
    text.parse::<u64>().map(|number| number as f64).map_err(|_| unreadable())
}

fn text(path: &Path) -> Result<String, Refusal> {
    let file = path.display();
    let remedy = format!("let users read it: `sudo chmod a+r {file}` (until the next boot; a udev rule keeps it)");
    let text = fs::read_to_string(path).map_err(|error| Refusal::of_io(&format!("RAPL: {file}"), &error, remedy))?;
    Ok(text.trim().to_owned())
}

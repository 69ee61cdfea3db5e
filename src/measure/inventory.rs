//! Every meter of this node, each device once, and why others are refused.

use std::path::{Path, PathBuf};

use super::meter::Meter;
use super::nvml::{self, Gpu, Library};
use super::rapl;
use super::refusal::{Refusal, RefusalKind};

/// Where this node's hardware is found; tests put scripted hardware there.
#[derive(Clone, Debug)]
pub struct Roots {
    /// NVML's library, or where the system has it.
    pub nvml: Option<PathBuf>,
    pub sysfs: PathBuf,
    pub procfs: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { nvml: None, sysfs: PathBuf::from("/sys"), procfs: PathBuf::from("/proc") }
    }
}

/// Meters by where they come from.
pub struct Inventory {
    /// NVML, or why there is none.
    pub library: Result<Library, Refusal>,
    pub gpus: Vec<Gpu>,
    pub meters: Vec<Box<dyn Meter>>,
    /// (source, why)
    pub refused: Vec<(&'static str, Refusal)>,
}

/// Which sources to ask, and of which devices; `None` is all.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub sources: Option<Vec<String>>,
    /// Indices or UUIDs (or beginnings of UUIDs, as CUDA_VISIBLE_DEVICES has them).
    pub devices: Option<Vec<String>>,
}

impl Wanted {
    pub fn source(&self, name: &str) -> bool {
        self.sources.as_ref().is_none_or(|sources| sources.iter().any(|source| source == name))
    }

    fn device(&self, gpu: &Gpu) -> bool {
        let is = |wanted: &String| {
            *wanted == gpu.index.to_string() || (wanted.starts_with("GPU-") && gpu.uuid.starts_with(wanted.as_str()))
        };
        self.devices.as_ref().is_none_or(|devices| devices.iter().any(is))
    }
}

/// Looks for all wanted meters.
pub fn find(roots: &Roots, wanted: &Wanted) -> Inventory {
    let asked = |name| wanted.source(name);
    let library = if asked("nvml") {
        nvml::open(roots.nvml.as_deref())
    } else {
        Err(Refusal::new(RefusalKind::Absent, "NVML was not asked for", ""))
    };
    let mut found = Inventory { library, gpus: Vec::new(), meters: Vec::new(), refused: Vec::new() };
    if asked("nvml") {
        find_gpus(&mut found, wanted);
    }
    if asked("rapl") {
        add(&mut found, "rapl", rapl::meters(&roots.sysfs));
    }
    found
}

fn find_gpus(found: &mut Inventory, wanted: &Wanted) {
    let devices = match found.library.as_ref().map_err(Clone::clone).and_then(Library::devices) {
        Ok(devices) => devices,
        Err(refusal) => return found.refused.push(("nvml", refusal)),
    };
    for device in devices {
        match device {
            Ok(gpu) if wanted.device(&gpu) => {
                add(found, "nvml", nvml::meters(&gpu));
                found.gpus.push(gpu);
            }
            Ok(_) => {}
            Err(refusal) => found.refused.push(("nvml", refusal)),
        }
    }
    if found.gpus.is_empty() && found.refused.is_empty() {
        let what = "none of the devices asked for is here";
        found
            .refused
            .push(("nvml", Refusal::new(RefusalKind::Absent, what, "see `jouleplan doctor` for those that are")));
    }
}

fn add(found: &mut Inventory, source: &'static str, (meters, refused): (Vec<Box<dyn Meter>>, Vec<Refusal>)) {
    found.meters.extend(meters);
    found.refused.extend(refused.into_iter().map(|refusal| (source, refusal)));
}

/// `CUDA_VISIBLE_DEVICES` as devices to measure: `None` where it says nothing that can be matched.
pub fn visible_devices(value: Option<&str>) -> Option<Vec<String>> {
    let names: Vec<String> = value?.split(',').map(|name| name.trim().to_owned()).collect();
    let known = |name: &String| name.starts_with("GPU-") || name.parse::<u32>().is_ok();
    (!names.is_empty() && names.iter().all(known)).then_some(names)
}

/// Whether a path was given that does not exist, which is worth another message than a missing driver.
pub fn missing(path: Option<&Path>) -> bool {
    path.is_some_and(|path| !path.exists())
}

//! Every meter of this node, each device once, and why others are refused.

use std::path::PathBuf;

use super::meter::{Meter, Scope};
use super::nvml::{self, Gpu, Library};
use super::refusal::{Refusal, RefusalKind};
use super::{hwmon, ipmi, rapl, replay};

/// Where this node's hardware is found; tests put scripted hardware there.
#[derive(Clone, Debug)]
pub struct Roots {
    /// NVML's library, or where the system has it.
    pub nvml: Option<PathBuf>,
    pub sysfs: PathBuf,
    pub procfs: PathBuf,
    /// Where programs are looked for.
    pub programs: Vec<PathBuf>,
    /// A recorded trace to play instead of reading hardware.
    pub replay: Option<PathBuf>,
    /// Where it is noted how to undo what was set. Gone after a reboot, as what was set is.
    pub state: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            nvml: None,
            sysfs: PathBuf::from("/sys"),
            procfs: PathBuf::from("/proc"),
            programs: Vec::new(),
            replay: None,
            state: PathBuf::from("/run/jouleplan"),
        }
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

    fn device(&self, index: u32, device: &Result<Gpu, Refusal>) -> bool {
        self.devices.as_ref().is_none_or(|devices| devices.iter().any(|name| is_called(name, index, device)))
    }
}

/// Whether `name` may be that of a device; one that cannot say its UUID may have any.
fn is_called(name: &str, index: u32, device: &Result<Gpu, Refusal>) -> bool {
    let may_be = |gpu: &Gpu| gpu.uuid.starts_with(name);
    name == index.to_string() || (name.starts_with("GPU-") && device.as_ref().map_or(true, may_be))
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
    if let Some(file) = &roots.replay {
        match replay::meter(file) {
            Ok(meter) => found.meters.push(meter),
            Err(refusal) => found.refused.push(("replay", refusal)),
        }
        return found;
    }
    if asked("nvml") {
        find_gpus(&mut found, wanted);
    }
    if asked("rapl") {
        add(&mut found, "rapl", rapl::meters(&roots.sysfs));
    }
    if asked("node") {
        find_node(&mut found, roots, wanted);
    }
    found
}

/// The node by hwmon, else by its management controller; AMD devices by hwmon. None of them is missed where it is absent,
/// unless it was asked for.
fn find_node(found: &mut Inventory, roots: &Roots, wanted: &Wanted) {
    let (meters, refused) = hwmon::meters(&roots.sysfs);
    found.meters.extend(meters);
    found.refused.extend(refused);
    if found.meters.iter().any(|meter| meter.identity().scope == Scope::Node) {
        return;
    }
    match find_program("ipmitool", &roots.programs).map(|program| ipmi::meter(&program)) {
        Some(Ok(meter)) => found.meters.push(meter),
        Some(Err(refusal)) => found.refused.push(("node", refusal)),
        None if wanted.sources.is_some() => {
            let what = "neither an ACPI power meter in hwmon nor ipmitool is here";
            let remedy = "load `acpi_power_meter`, or install ipmitool";
            found.refused.push(("node", Refusal::new(RefusalKind::Absent, what, remedy)));
        }
        None => {}
    }
}

/// An executable of that name in the first folder that has one.
pub fn find_program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_executable =
        |file: &PathBuf| file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    folders.iter().map(|folder| folder.join(name)).find(is_executable)
}

fn find_gpus(found: &mut Inventory, wanted: &Wanted) {
    let devices = match found.library.as_ref().map_err(Clone::clone).and_then(Library::devices) {
        Ok(devices) => devices,
        Err(refusal) => return found.refused.push(("nvml", refusal)),
    };
    for name in wanted.devices.iter().flatten() {
        if !devices.iter().any(|(index, device)| is_called(name, *index, device)) {
            let what = format!("device {name} is not here");
            let remedy = "see `jouleplan doctor` for those that are";
            found.refused.push(("nvml", Refusal::new(RefusalKind::Absent, what, remedy)));
        }
    }
    for (index, device) in devices {
        if !wanted.device(index, &device) {
            continue;
        }
        match device {
            Ok(gpu) => {
                add(found, "nvml", nvml::meters(&gpu));
                found.gpus.push(gpu);
            }
            Err(refusal) => found.refused.push(("nvml", refusal)),
        }
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

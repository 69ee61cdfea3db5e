//! NVIDIA devices through NVML, which is loaded when it is asked for: a node without the driver runs the same program.
//!
//! nvml-wrapper holds the calls; here is what jouleplan asks of them and how their errors read. A MIG instance has no energy
//! of its own in NVML: its whole device is measured, once, and says that MIG is on.

mod meters;
mod operating_point;
mod snapshot;

use std::path::Path;
use std::sync::Arc;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::refusal::{Refusal, RefusalKind};

pub use self::meters::{DISAGREEMENT, meters};
pub use self::operating_point::PowerLimits;
pub use self::snapshot::Snapshot;

/// Where the library is, in the order tried. The last is where container toolkits mount the driver.
const LIBRARIES: [&str; 3] = ["libnvidia-ml.so.1", "libnvidia-ml.so", "/usr/local/nvidia/lib64/libnvidia-ml.so.1"];

/// The driver's library, opened.
#[derive(Clone, Debug)]
pub struct Library {
    nvml: Arc<Nvml>,
    pub driver_version: Option<String>,
    pub cuda_version: Option<String>,
}

/// A device of this node. Not a MIG instance, but the device such instances share.
#[derive(Clone, Debug)]
pub struct Gpu {
    library: Library,
    pub index: u32,
    pub uuid: String,
    pub name: String,
    pub pci_bus_id: Option<String>,
    /// `Some(instances)` where MIG is on.
    pub mig_instances: Option<u32>,
}

/// Indices and their devices, or why one cannot be used.
pub type Devices = Vec<(u32, Result<Gpu, Refusal>)>;

/// Opens NVML: `library` where given, else where the system has it.
///
/// # Errors
/// `Absent` without driver or library, `Permission` where the driver may not be talked to.
pub fn open(library: Option<&Path>) -> Result<Library, Refusal> {
    let nvml = match library {
        Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
        None => {
            let mut opened = Err(NvmlError::LibraryNotFound);
            for name in LIBRARIES {
                opened = Nvml::builder().lib_path(name.as_ref()).init();
                // Only a library that is not there makes it worth trying the next name.
                if !matches!(opened, Err(NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound)) {
                    break;
                }
            }
            opened
        }
    };
    let nvml = Arc::new(nvml.map_err(|error| refusal("NVML", error))?);
    let driver_version = nvml.sys_driver_version().ok();
    let cuda_version = nvml.sys_cuda_driver_version().ok().map(|version| {
        let (major, minor) =
            (nvml_wrapper::cuda_driver_version_major(version), nvml_wrapper::cuda_driver_version_minor(version));
        format!("{major}.{minor}")
    });
    Ok(Library { nvml, driver_version, cuda_version })
}

impl Library {
    /// Every device the driver shows to this process, each once.
    ///
    /// # Errors
    /// That devices cannot be counted, or that there are none.
    pub fn devices(&self) -> Result<Devices, Refusal> {
        let count = self.nvml.device_count().map_err(|error| refusal("NVML devices", error))?;
        if count == 0 {
            let remedy = "ask Slurm for devices (`--gres=gpu:1`), or start the container with them";
            return Err(Refusal::new(RefusalKind::Absent, "the NVIDIA driver shows no device", remedy));
        }
        let mut seen = Vec::new();
        let mut devices = Vec::new();
        for index in 0..count {
            let device = self.device(index);
            if let Ok(gpu) = &device {
                if seen.contains(&gpu.uuid) {
                    continue;
                }
                seen.push(gpu.uuid.clone());
            }
            devices.push((index, device));
        }
        Ok(devices)
    }

    fn device(&self, index: u32) -> Result<Gpu, Refusal> {
        let what = format!("device {index}");
        let device = self.nvml.device_by_index(index).map_err(|error| refusal(&what, error))?;
        let uuid = device.uuid().map_err(|error| refusal(&what, error))?;
        let name = device.name().map_err(|error| refusal(&what, error))?;
        let pci_bus_id = device.pci_info().ok().map(|info| info.bus_id);
        Ok(Gpu { library: self.clone(), index, uuid, name, pci_bus_id, mig_instances: mig_instances(&device) })
    }
}

impl Gpu {
    /// NVML's handle; looking it up costs about a microsecond.
    fn handle(&self) -> Result<Device<'_>, Refusal> {
        self.library.nvml.device_by_index(self.index).map_err(|error| self.refusal(error))
    }

    fn refusal(&self, error: NvmlError) -> Refusal {
        refusal(&format!("device {} ({})", self.index, self.name), error)
    }
}

fn mig_instances(device: &Device<'_>) -> Option<u32> {
    let mode = device.mig_mode().ok()?;
    if mode.current == 0 {
        return None;
    }
    let slots = device.mig_device_count().unwrap_or(0);
    let there = (0..slots).filter(|slot| device.mig_device_by_index(*slot).is_ok()).count();
    u32::try_from(there).ok()
}

/// What an error of NVML means to a reader who wants to measure.
fn refusal(what: &str, error: NvmlError) -> Refusal {
    let (kind, why, remedy) = match &error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => (
            RefusalKind::Absent,
            "the library libnvidia-ml.so.1 cannot be loaded".to_owned(),
            "install the NVIDIA driver, or name the library in JOULEPLAN_NVML",
        ),
        NvmlError::DriverNotLoaded => {
            (RefusalKind::Absent, "the NVIDIA driver is not loaded".to_owned(), "load it: `sudo modprobe nvidia`")
        }
        NvmlError::LibRmVersionMismatch => (
            RefusalKind::Absent,
            "the library and the loaded driver are of different versions".to_owned(),
            "reboot, or reload the driver after its update",
        ),
        NvmlError::NoPermission => {
            (RefusalKind::Permission, "permission denied by the NVIDIA driver".to_owned(), "ask the administrator")
        }
        NvmlError::OperatingSystem => (
            RefusalKind::Permission,
            "blocked by the operating system or a control group".to_owned(),
            "ask for the device when submitting (`--gres=gpu:1`)",
        ),
        NvmlError::NotSupported | NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_) => {
            (RefusalKind::Unsupported, "not supported by this device or driver".to_owned(), "")
        }
        NvmlError::GpuLost => (
            RefusalKind::Lost,
            "the device fell off the bus".to_owned(),
            "see `dmesg` for its Xid, then reset the device or reboot",
        ),
        NvmlError::ResetRequired => {
            (RefusalKind::Lost, "the device needs a reset".to_owned(), "reset it: `sudo nvidia-smi --gpu-reset`")
        }
        other => (RefusalKind::Unreadable, other.to_string(), ""),
    };
    Refusal::new(kind, format!("{what}: {why}"), remedy)
}

//! An operating point set for the time of a measurement, and undone whatever happens.
//!
//! Before anything is set, a file a device says how to undo it: after SIGKILL, `doctor --restore` does. The file is a lock as
//! well: a device with one is left alone. Signals do not end the program while a point is set (see `command`), and dropping
//! the value undoes it, also when a panic unwinds. Devices that other users' processes hold are never touched, nor those
//! whose processes the driver does not tell, nor those with MIG on, where one clock serves several.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::nvml::Gpu;
use super::processes::ProcessTable;
use super::refusal::{Refusal, RefusalKind};
use crate::formats::restore_json::{RestoreJson, SCHEMA_VERSION};
use crate::units::Watts;

const RESTORE: &str = "run `jouleplan doctor --restore` as root";

/// What to set on every device.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OperatingPoint {
    pub sm_clock_mhz: Option<u32>,
    pub power_limit: Option<Watts>,
}

/// A point that is set. Dropped, it is undone.
#[derive(Debug)]
pub struct Applied {
    set: Vec<(Gpu, PathBuf, RestoreJson)>,
}

/// What became of one restore file.
#[derive(Clone, Debug, PartialEq)]
pub enum Restored {
    /// Clocks and limits of the device are as before.
    Done(String),
    /// The process that set them still lives and will undo them.
    InUse(String, u32),
    /// Left as it was, and why.
    Failed(String, Refusal),
}

/// Sets `point` on all of `gpus`, or on none.
///
/// # Errors
/// A device that may not be touched or set, or a restore file that cannot be written to `folder`.
pub fn apply(point: OperatingPoint, gpus: &[Gpu], table: &ProcessTable, folder: &Path) -> Result<Applied, Refusal> {
    for gpu in gpus {
        may_touch(gpu, table)?;
        check_range(point, gpu)?;
    }
    // Dropped on an early return, which undoes what was set so far.
    let mut applied = Applied { set: Vec::new() };
    for gpu in gpus {
        let power_limit_w = point.power_limit.map(|_| gpu.power_limit()).transpose()?.map(|limit| limit.0);
        let pid = std::process::id();
        let restore = RestoreJson {
            schema_version: SCHEMA_VERSION,
            pid,
            pid_started: table.started(pid).unwrap_or_default(),
            uuid: gpu.uuid.clone(),
            unlock_sm_clock: point.sm_clock_mhz.is_some(),
            power_limit_w,
        };
        let file = write(&restore, folder)?;
        // Only what was set is undone: undoing more could fail where setting did.
        applied.set.push((gpu.clone(), file, RestoreJson { unlock_sm_clock: false, power_limit_w: None, ..restore }));
        let Some((_, _, done)) = applied.set.last_mut() else { continue };
        if let Some(mhz) = point.sm_clock_mhz {
            gpu.lock_sm_clock(mhz)?;
            done.unlock_sm_clock = true;
        }
        if let Some(limit) = point.power_limit {
            gpu.set_power_limit(limit)?;
            done.power_limit_w = power_limit_w;
        }
    }
    Ok(applied)
}

/// Undoes what killed runs left in `folder`.
///
/// # Errors
/// That the folder cannot be read. What could not be undone is in the list.
pub fn restore(folder: &Path, gpus: &[Gpu], table: &ProcessTable) -> Result<Vec<Restored>, Refusal> {
    let restored = |path: &PathBuf| {
        let name = path.display().to_string();
        let restore = match read(path) {
            Ok(restore) => restore,
            Err(refusal) => return Restored::Failed(name, refusal),
        };
        if lives(&restore, table) {
            return Restored::InUse(restore.uuid, restore.pid);
        }
        let Some(gpu) = gpus.iter().find(|gpu| gpu.uuid == restore.uuid) else {
            let what = format!("{}: no such device is here now", restore.uuid);
            return Restored::Failed(
                name,
                Refusal::new(RefusalKind::Absent, what, "remove the file if it is gone for good"),
            );
        };
        match undo(gpu, path, &restore) {
            Ok(()) => Restored::Done(restore.uuid),
            Err(refusal) => Restored::Failed(name, refusal),
        }
    };
    Ok(left(folder)?.iter().map(restored).collect())
}

/// Restore files in `folder`, of runs that live or were killed.
///
/// # Errors
/// That the folder cannot be read; one that is not there holds none.
pub fn left(folder: &Path) -> Result<Vec<PathBuf>, Refusal> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Refusal::of_io(&folder.display().to_string(), &error, RESTORE)),
    };
    let is_ours = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("restore-") && name.ends_with(".json"))
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_ours).collect();
    files.sort();
    Ok(files)
}

impl Applied {
    /// Undoes the point now and says what could not be undone.
    pub fn undo(mut self) -> Vec<Refusal> {
        self.undo_all()
    }

    fn undo_all(&mut self) -> Vec<Refusal> {
        self.set.drain(..).filter_map(|(gpu, file, restore)| undo(&gpu, &file, &restore).err()).collect()
    }
}

impl Drop for Applied {
    fn drop(&mut self) {
        self.undo_all(); // what fails here stays in its restore file
    }
}

fn undo(gpu: &Gpu, file: &Path, restore: &RestoreJson) -> Result<(), Refusal> {
    let clock = if restore.unlock_sm_clock { gpu.unlock_sm_clock() } else { Ok(()) };
    let limit = restore.power_limit_w.map_or(Ok(()), |limit| gpu.set_power_limit(Watts(limit)));
    clock.and(limit)?;
    fs::remove_file(file).map_err(|error| Refusal::of_io(&file.display().to_string(), &error, "remove it as root"))
}

fn may_touch(gpu: &Gpu, table: &ProcessTable) -> Result<(), Refusal> {
    let refuse = |what: String, remedy: &str| {
        let what = format!("device {}: {what}, so its clocks are not touched", gpu.index);
        Err(Refusal::new(RefusalKind::Permission, what, remedy))
    };
    if gpu.mig_instances.is_some() {
        return refuse("MIG is on, and one clock serves all instances".into(), "");
    }
    let Some(processes) = gpu.conditions()?.processes else {
        return refuse("the driver does not say who uses it".into(), "");
    };
    let own = rustix::process::getuid().as_raw();
    for pid in processes {
        match table.facts(pid) {
            Some(facts) if facts.uid == own => {}
            Some(facts) => {
                let whose = format!("process {pid} ({}) of user {} is on it", facts.name, facts.uid);
                return refuse(whose, "wait until it has ended");
            }
            None => {
                let whose = format!("process {pid}, which this process table does not have, is on it");
                return refuse(whose, "wait until it has ended, or run this outside the container");
            }
        }
    }
    Ok(())
}

/// Whether the device allows the limit and has the clock, as far as it says.
fn check_range(point: OperatingPoint, gpu: &Gpu) -> Result<(), Refusal> {
    if let (Some(limit), Ok(limits)) = (point.power_limit, gpu.power_limits())
        && !(limits.min.0..=limits.max.0).contains(&limit.0)
    {
        let what = format!("device {}: a power limit of {limit:.0} cannot be set", gpu.index);
        let remedy = format!("name one from {:.0} to {:.0}", limits.min, limits.max);
        return Err(Refusal::new(RefusalKind::Unsupported, what, remedy));
    }
    let most = gpu.snapshot()?.max_sm_clock_mhz;
    if let (Some(mhz), Some(most)) = (point.sm_clock_mhz, most)
        && mhz > most
    {
        let what = format!("device {}: its SM clock is at most {most} MHz, not {mhz} MHz", gpu.index);
        return Err(Refusal::new(
            RefusalKind::Unsupported,
            what,
            "name a clock of `nvidia-smi -q -d SUPPORTED_CLOCKS`",
        ));
    }
    Ok(())
}

/// Whole or not at all, and never over another's.
fn write(restore: &RestoreJson, folder: &Path) -> Result<PathBuf, Refusal> {
    let path = folder.join(format!("restore-{}.json", restore.uuid));
    let cannot = |error: &std::io::Error| {
        let what = format!("no clock is set without a way back: {}", path.display());
        Refusal::of_io(&what, error, "run this as root, or name a folder in JOULEPLAN_STATE_DIR")
    };
    fs::create_dir_all(folder).map_err(|error| cannot(&error))?;
    let mut file = NamedTempFile::new_in(folder).map_err(|error| cannot(&error))?;
    let text = serde_json::to_vec(restore).map_err(|error| cannot(&error.into()))?;
    file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(|error| cannot(&error))?;
    match file.persist_noclobber(&path) {
        Ok(_) => Ok(path),
        Err(failed) if failed.error.kind() == std::io::ErrorKind::AlreadyExists => {
            let what =
                format!("another measurement set the clocks of {}, or was killed ({})", restore.uuid, path.display());
            Err(Refusal::new(RefusalKind::Permission, what, format!("wait for it, or {RESTORE}")))
        }
        Err(failed) => Err(cannot(&failed.error)),
    }
}

fn read(path: &Path) -> Result<RestoreJson, Refusal> {
    let text = fs::read(path).map_err(|error| Refusal::of_io(&path.display().to_string(), &error, RESTORE))?;
    let unreadable = |why: String| {
        let remedy = "reset the device by hand (`nvidia-smi -rgc`) and remove the file";
        Refusal::new(RefusalKind::Unreadable, format!("{}: {why}", path.display()), remedy)
    };
    let restore: RestoreJson = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    match restore.schema_version {
        SCHEMA_VERSION => Ok(restore),
        other => Err(unreadable(format!("schema_version {other} is not known"))),
    }
}

fn lives(restore: &RestoreJson, table: &ProcessTable) -> bool {
    table.started(restore.pid).is_some_and(|started| started == restore.pid_started)
}

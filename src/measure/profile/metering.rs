//! The meters of a study: one session over all of its trials, the idle power before them, and which trials are clean.
//!
//! Idle is measured once, before the first trial, with the server loaded and waiting; after each trial the device gets time
//! to come back to it. A trial is refused where the energy of the devices is not known, where a process was on a device
//! that is neither ours nor was there before, and where a clock that was asked for was not held. Others' work on
//! processors cannot be told from the server's and is left to whoever runs the study.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::trial::{Stop, TrialError};
use crate::domain::Sample;
use crate::formats::meter_json::{DeviceJson, MeterJson, ProcessJson};
use crate::measure::inventory::Inventory;
use crate::measure::meter::Scope;
use crate::measure::nvml::{DISAGREEMENT, Gpu};
use crate::measure::operating_point::{self, OperatingPoint};
use crate::measure::processes::ProcessTable;
use crate::measure::session::{EDGE, Session};
use crate::units::{Joules, Seconds, Watts};

/// Power within this of idle, by share and watts, is idle again: fans and leakage of a warm device make that much.
const IDLE_SHARE: f64 = 0.10;
const IDLE_LEAST: f64 = 5.0;
/// Over which the power that cools down is averaged.
const COOLING_WINDOW: Duration = Duration::from_millis(1_000);
/// No meter needs longer than this for its next reading.
const SETTLED_AFTER: Duration = Duration::from_millis(2_500);
/// Devices round a clock to one they have; these are 15 MHz apart.
const CLOCK_STEP_MHZ: f64 = 15.0;

/// How to meter.
#[derive(Clone, Debug)]
pub struct MeterOptions {
    pub interval: Duration,
    /// Idle before the first trial.
    pub idle: Duration,
    /// At most so long to come back to idle after a trial; not waited for where it is 0.
    pub cool_down: Duration,
    pub node: String,
    /// Where restore files of clocks go.
    pub state_folder: PathBuf,
}

/// What the energy of a trial covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covered {
    Devices,
    Sockets,
    Node,
    /// There is no meter: rows have a runtime and no energy.
    Nothing,
}

/// The meters, at work.
pub struct Metering {
    session: Session,
    gpus: Vec<Gpu>,
    processes: ProcessTable,
    options: MeterOptions,
    pub covered: Covered,
    pub idle_power: Option<Watts>,
    pub driver_version: Option<String>,
    /// Who was on the devices before the first trial: the server.
    residents: Residents,
    /// By the index of the device.
    compared: BTreeMap<u32, Compared>,
}

/// The energy of a device over all trials, which is known in two ways.
#[derive(Debug)]
struct Compared {
    device: String,
    counted: Joules,
    integrated: Joules,
}

#[derive(Debug, Default)]
struct Residents {
    pids: BTreeSet<u32>,
    /// A server that was restarted has another id, and the owner and name it had.
    names: BTreeSet<(u32, String)>,
}

/// The part of a trial that is measured, for whoever runs it to mark.
pub struct Region<'a> {
    session: Mutex<&'a mut Session>,
    pace: mpsc::Sender<Pace>,
}

/// What the sampler's pace hangs on.
enum Pace {
    Begun,
    Over,
}

impl Region<'_> {
    /// Begins now.
    pub fn begin(&self) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.begin();
        session.family.begin(std::process::id());
        let _ = self.pace.send(Pace::Begun); // it may be paced already
    }

    /// The process of ours that does the work; until it is named, this one.
    pub fn work_of(&self, root: u32) {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).family.begin(root);
    }

    /// The end is near.
    pub fn ending(&self) {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).fine(true);
    }

    pub fn end(&self, at: Instant, exit_code: Option<i32>, signal: Option<i32>) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.fine(true);
        session.end(at, exit_code, signal);
    }
}

impl Metering {
    /// Starts the meters and takes the idle power; an `inventory` without meters gives rows without energy.
    pub fn start(inventory: Inventory, processes: ProcessTable, options: MeterOptions, stop: &Stop) -> Self {
        let has = |wanted: fn(&Scope) -> bool| inventory.meters.iter().any(|meter| wanted(&meter.identity().scope));
        let covered = if has(|scope| matches!(scope, Scope::Device { .. })) {
            Covered::Devices
        } else if has(|scope| matches!(scope, Scope::Package { .. })) {
            Covered::Sockets
        } else if has(|scope| *scope == Scope::Node) {
            Covered::Node
        } else {
            Covered::Nothing
        };
        let gpus = inventory.gpus.clone();
        let session = Session::start(inventory, processes.clone(), &[], &options.node, options.interval);
        let mut metering = Self {
            session,
            gpus,
            processes,
            options,
            covered,
            idle_power: None,
            driver_version: None,
            residents: Residents::default(),
            compared: BTreeMap::new(),
        };
        if covered != Covered::Nothing {
            metering.observe_idle(stop);
        }
        metering
    }

    fn observe_idle(&mut self, stop: &Stop) {
        let time = self.options.idle.max(2 * EDGE);
        stop.sleep(time);
        self.settle(Duration::ZERO, stop);
        self.session.fine(false);
        let result = self.session.result();
        self.idle_power = self.session.recent_power(time);
        self.driver_version = result.driver_version;
        self.residents.admit(result.devices.iter().flat_map(|device| &device.others));
    }

    /// Waits until the power is that before the first trial again. Whether it is; true where nothing says, or where nobody
    /// wants to wait.
    pub fn cool_down(&mut self, stop: &Stop) -> bool {
        let Some(idle) = self.idle_power.filter(|_| !self.options.cool_down.is_zero()) else { return true };
        let warmest = idle + Watts(IDLE_LEAST.max(IDLE_SHARE * idle.0));
        let until = Instant::now() + self.options.cool_down;
        loop {
            if self.session.recent_power(COOLING_WINDOW).is_some_and(|power| power <= warmest) {
                return true;
            }
            if Instant::now() >= until || !stop.sleep(Duration::from_millis(100)) {
                return false;
            }
        }
    }

    /// Runs `work` at a clock (`None`: the device's own) with the meters around the region that it marks.
    ///
    /// # Errors
    /// What `work` failed of, or why the energy of the region cannot be relied on.
    pub fn measure<T>(
        &mut self,
        sm_clock_mhz: Option<u32>,
        stop: &Stop,
        work: impl FnOnce(&Region<'_>) -> Result<T, TrialError>,
    ) -> Result<(T, MeterJson), TrialError> {
        let point = OperatingPoint { sm_clock_mhz, power_limit: None };
        // Dropped whatever happens, which undoes the clock.
        let _applied = match sm_clock_mhz {
            None => None,
            Some(_) => Some(
                operating_point::apply(point, &self.gpus, &self.processes, &self.options.state_folder)
                    .map_err(|refusal| TrialError::Fatal(refusal.to_string()))?,
            ),
        };
        self.session.again();
        self.session.requested = point;
        self.session.fine(true);
        let edge = if self.covered == Covered::Nothing { Duration::ZERO } else { EDGE };
        self.settle(edge, stop);
        let (pace, paces) = mpsc::channel();
        let region = Region { session: Mutex::new(&mut self.session), pace };
        let done = std::thread::scope(|scope| {
            scope.spawn(|| read_finely_at_first(&region.session, paces));
            let done = work(&region);
            let _ = region.pace.send(Pace::Over); // it may be paced already
            done
        })?;
        self.settle(edge, stop);
        self.session.fine(false);
        let result = self.session.result();
        self.accept(&result)?;
        self.compare(&result);
        Ok((done, result))
    }

    /// Puts what the meters said into a row.
    pub fn fill(&self, result: &MeterJson, sample: &mut Sample) {
        sample.node = Some(self.options.node.clone());
        sample.gpu_energy = result.gpu_energy_j.map(Joules).filter(|_| self.covered == Covered::Devices);
        sample.cpu_energy = result.cpu_energy_j.map(Joules);
        sample.cpu_energy_scope = result.cpu_energy_scope.clone();
        sample.node_energy = result.node_energy_j.map(Joules);
        sample.idle_power = self.idle_power.filter(|power| power.0 > 0.0 && self.covered != Covered::Node);
        sample.driver_version = result.driver_version.clone();
        sample.measured_at = Some(result.started_at.clone());
        sample.runtime = result.seconds.map(Seconds);
    }

    /// Devices whose counter and integrated power differ too much over all trials; the rows hold the counter's figures.
    /// Over one short trial they may differ by a reading or two, which tells nothing.
    pub fn warnings(&self) -> Vec<String> {
        let disagree = |by: &&Compared| (by.integrated / by.counted - 1.0).abs() > DISAGREEMENT;
        let say = |by: &Compared| {
            format!(
                "{}: over all trials the energy counter says {:.0} J and integrated power {:.0} J; do not rely on either",
                by.device, by.counted.0, by.integrated.0
            )
        };
        self.compared.values().filter(disagree).map(say).collect()
    }

    fn compare(&mut self, result: &MeterJson) {
        for device in &result.devices {
            let (Some(counted), Some(difference)) = (device.energy_j, device.disagreement) else { continue };
            let by = self.compared.entry(device.index).or_insert_with(|| Compared::new(device));
            by.counted += Joules(counted);
            by.integrated += Joules(counted * (1.0 + difference));
        }
    }

    /// For `time`, and on until every meter has read what it must.
    fn settle(&self, time: Duration, stop: &Stop) {
        let begun = Instant::now();
        std::thread::sleep(time);
        while !stop.is_asked() && !self.session.is_settled() && begun.elapsed() < SETTLED_AFTER {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn accept(&mut self, result: &MeterJson) -> Result<(), TrialError> {
        let energy = match self.covered {
            Covered::Devices => result.gpu_energy_j,
            Covered::Sockets => result.cpu_energy_j,
            Covered::Node => result.node_energy_j,
            Covered::Nothing => result.seconds,
        };
        if energy.is_none_or(|energy| energy <= 0.0) {
            let why = result.meters.iter().find_map(|line| Some((&line.name, line.refused.as_ref()?)));
            let why = why.map(|(name, refused)| format!("{name}: {}; {}", refused.what, refused.remedy));
            let what = why.unwrap_or_else(|| "a meter did not say".to_owned());
            return Err(TrialError::failed("energy_unknown", format!("no energy: {what}")));
        }
        for device in &result.devices {
            if let Some(other) = device.others.iter().find(|process| !self.residents.knows(process)) {
                let name = other.name.as_deref().unwrap_or("unknown");
                let what = format!("process {} ({name}) came to device {}", other.pid, device.index);
                return Err(TrialError::failed("contaminated", what));
            }
            self.residents.admit(&device.others);
            let asked = self.session.requested.sm_clock_mhz.map(f64::from);
            if let (Some(asked), Some(seen)) = (asked, device.sm_clock_mhz)
                && (seen.mean - asked).abs() > CLOCK_STEP_MHZ
            {
                let what = format!("device {}: {asked} MHz were asked for, {:.0} MHz seen", device.index, seen.mean);
                return Err(TrialError::failed("clock_not_held", what));
            }
        }
        Ok(())
    }
}

/// Meters are read finely for a while after the region began, if it lasts that long.
fn read_finely_at_first(session: &Mutex<&mut Session>, paces: mpsc::Receiver<Pace>) {
    let mut begun = false;
    loop {
        let next =
            if begun { paces.recv_timeout(EDGE) } else { paces.recv().map_err(|_| RecvTimeoutError::Disconnected) };
        match next {
            Ok(Pace::Begun) => begun = true,
            Ok(Pace::Over) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                return session.lock().unwrap_or_else(PoisonError::into_inner).fine(false);
            }
        }
    }
}

impl Compared {
    fn new(device: &DeviceJson) -> Self {
        let device = format!("device {} ({})", device.index, device.name);
        Self { device, counted: Joules(0.0), integrated: Joules(0.0) }
    }
}

impl Residents {
    fn admit<'a>(&mut self, processes: impl IntoIterator<Item = &'a ProcessJson>) {
        for process in processes {
            self.pids.insert(process.pid);
            self.names.extend(process.uid.zip(process.name.clone()));
        }
    }

    fn knows(&self, process: &ProcessJson) -> bool {
        let named = process.uid.zip(process.name.clone());
        self.pids.contains(&process.pid) || named.is_some_and(|named| self.names.contains(&named))
    }
}

//! A measurement around a command: idle before, the command, idle after, and what the meters say about each.
//!
//! The session knows times and meters, not how the command is run. Its result can be asked for at any moment, so that it can
//! be written down while the command still runs.

mod phases;
mod result;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use self::result::refusal_json;
use super::conditions::{GpuProbe, Seen};
use super::inventory::Inventory;
use super::meter::Scope;
use super::nvml::Gpu;
use super::operating_point::OperatingPoint;
use super::processes::{Family, ProcessTable};
use super::sampler::{Probe, Sampler, Track};
use crate::formats::meter_json::RefusalJson;
use crate::units::{Seconds, Watts};

/// Around each end of the command meters are read finely for this long.
pub const EDGE: Duration = Duration::from_millis(250);

/// A measurement going on: of one command, or of one after another (`again`).
pub struct Session {
    sampler: Sampler,
    devices: Vec<(Gpu, Seen)>,
    pub family: Family,
    interval: Duration,
    command: Vec<String>,
    node: String,
    started_at: SystemTime,
    driver_version: Option<String>,
    refused: Vec<RefusalJson>,
    /// What was asked to be set on the devices.
    pub requested: OperatingPoint,
    /// Where the command says which phase of it begins when.
    pub marks: Option<PathBuf>,
    begun: Option<Mark>,
    ended: Option<Mark>,
    /// (exit code, signal)
    outcome: (Option<i32>, Option<i32>),
    /// When the idle window after the command ended.
    closed: Option<Seconds>,
    /// When the idle window before the command began.
    opened: Seconds,
}

/// An end of the command.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Seconds,
    node_cpu: Option<f64>,
    children_cpu: Option<f64>,
}

impl Session {
    /// Starts the meters; what follows until `begin` is the idle window before the command.
    pub fn start(
        inventory: Inventory,
        processes: ProcessTable,
        command: &[String],
        node: &str,
        interval: Duration,
    ) -> Self {
        let family = Family::new(processes);
        let mut probes: Vec<Box<dyn Probe>> = Vec::new();
        let mut devices = Vec::new();
        for gpu in inventory.gpus {
            let (probe, seen) = GpuProbe::new(gpu.clone(), family.clone());
            probes.push(Box::new(probe));
            devices.push((gpu, seen));
        }
        let refused = inventory.refused.iter().map(|(source, refusal)| refusal_json(Some(source), refusal)).collect();
        Self {
            driver_version: inventory.library.ok().and_then(|library| library.driver_version),
            sampler: Sampler::start(inventory.meters, probes, interval),
            devices,
            family,
            interval,
            command: command.to_vec(),
            node: node.to_owned(),
            started_at: SystemTime::now(),
            refused,
            requested: OperatingPoint::default(),
            marks: None,
            begun: None,
            ended: None,
            outcome: (None, None),
            closed: None,
            opened: Seconds(0.0),
        }
    }

    /// Reads finely, for ends of regions, or at the interval.
    pub fn fine(&self, fine: bool) {
        self.sampler.fine(fine);
    }

    /// The command is about to start.
    pub fn begin(&mut self) {
        self.started_at = SystemTime::now();
        let mark = self.mark(Instant::now());
        self.begun = Some(mark);
    }

    /// The command ended at `at`, with an exit code or by a signal.
    pub fn end(&mut self, at: Instant, exit_code: Option<i32>, signal: Option<i32>) {
        self.family.end();
        let mark = self.mark(at);
        self.ended = Some(mark);
        self.outcome = (exit_code, signal);
    }

    /// The idle window after the command is over.
    pub fn close(&mut self) {
        self.closed = Some(self.sampler.now());
    }

    /// Forgets the command, for another one under the same meters: what follows until `begin` is its idle window.
    pub fn again(&mut self) {
        self.opened = self.sampler.now();
        (self.begun, self.ended, self.closed, self.outcome) = (None, None, None, (None, None));
        self.family.forget();
        self.devices.iter().for_each(|(_, seen)| seen.forget());
    }

    /// Whether every meter that works has energy known up to now (before the command) or past its end.
    pub fn is_settled(&self) -> bool {
        let from = self.ended.map_or(self.opened, |ended| ended.at);
        let reaches =
            |track: &Track| track.failing.is_some() || track.series.until().is_some_and(|until| until >= from);
        self.sampler.with(|tracks| tracks.iter().all(reaches))
    }

    /// Mean power over the last `time` of the devices, or where there are none of the packages and DRAM, else of the node.
    /// `None` where a meter of them does not say.
    pub fn recent_power(&self, time: Duration) -> Option<Watts> {
        let now = self.sampler.now();
        let from = Seconds((now.0 - time.as_secs_f64()).max(0.0));
        self.sampler.with(|tracks| {
            let (mut devices, mut sockets, mut node) = (BTreeMap::new(), Vec::new(), None);
            for Track { identity, series, .. } in tracks {
                let power = series.mean_power(from, now).ok();
                match &identity.scope {
                    // A device may have a counter and a power meter: either will do.
                    Scope::Device { uuid, .. } => {
                        let known: &mut Option<Watts> = devices.entry(uuid.clone()).or_default();
                        *known = known.or(power);
                    }
                    Scope::Package { .. } | Scope::Dram { .. } => sockets.push(power),
                    Scope::Node => node = power,
                    Scope::Platform => {}
                }
            }
            let sum = |parts: Vec<Option<Watts>>| -> Option<Watts> {
                let known: Option<Vec<f64>> = parts.into_iter().map(|part| part.map(|power| power.0)).collect();
                known.map(|known| Watts(known.iter().sum()))
            };
            match (devices.is_empty(), sockets.is_empty()) {
                (false, _) => sum(devices.into_values().collect()),
                (true, false) => sum(sockets),
                (true, true) => node,
            }
        })
    }

    fn mark(&self, at: Instant) -> Mark {
        let at = self.sampler.at(at);
        self.sampler.pin(at);
        let table = self.family.table();
        Mark { at, node_cpu: table.node_cpu_seconds(), children_cpu: table.children_cpu_seconds() }
    }
}

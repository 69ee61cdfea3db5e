//! What was seen on a device while a command ran: clocks, throttling, temperatures, and whose processes were there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::nvml::{Gpu, Snapshot};
use super::processes::Family;
use super::sampler::Probe;
use crate::formats::meter_json::{ProcessJson, RangeJson, ThrottleJson};
use crate::units::Seconds;

/// Shared between the probe, which adds, and the session, which reads.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<Conditions>>);

#[derive(Clone, Debug, Default)]
pub struct Conditions {
    sm_clock_mhz: Range,
    temperature_c: Range,
    looks_at_throttling: usize,
    throttling: BTreeMap<&'static str, usize>,
    /// By process id.
    pub others: BTreeMap<u32, ProcessJson>,
    pub unidentified: BTreeSet<u32>,
    pub processes_known: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Range {
    min: f64,
    max: f64,
    sum: f64,
    count: usize,
}

/// Looks at one device.
pub struct GpuProbe {
    gpu: Gpu,
    family: Family,
    seen: Seen,
}

impl GpuProbe {
    pub fn new(gpu: Gpu, family: Family) -> (Self, Seen) {
        let seen = Seen::default();
        (Self { gpu, family, seen: seen.clone() }, seen)
    }
}

impl Probe for GpuProbe {
    fn look(&mut self, _at: Seconds) {
        // A lost device is reported by its meters.
        let Ok(snapshot) = self.gpu.conditions() else { return };
        self.seen.0.lock().unwrap_or_else(PoisonError::into_inner).add(&snapshot, &self.family);
    }
}

impl Seen {
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Conditions::default();
    }

    pub fn get(&self) -> Conditions {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Conditions {
    pub fn sm_clock_mhz(&self) -> Option<RangeJson> {
        self.sm_clock_mhz.get()
    }

    pub fn temperature_c(&self) -> Option<RangeJson> {
        self.temperature_c.get()
    }

    pub fn throttle_reasons(&self) -> Option<Vec<ThrottleJson>> {
        let share = |count: usize| count as f64 / self.looks_at_throttling as f64;
        let line = |(reason, count): (&&str, &usize)| ThrottleJson { reason: (*reason).into(), share: share(*count) };
        (self.looks_at_throttling > 0).then(|| self.throttling.iter().map(line).collect())
    }

    /// Clocks, temperature and throttling count only while the command runs; processes always, for they also spoil the
    /// idle power before it.
    fn add(&mut self, snapshot: &Snapshot, family: &Family) {
        if family.is_running() {
            self.sm_clock_mhz.add(snapshot.sm_clock_mhz);
            self.temperature_c.add(snapshot.temperature_c);
            if let Some(reasons) = &snapshot.throttle_reasons {
                self.looks_at_throttling += 1;
                for reason in reasons {
                    *self.throttling.entry(reason).or_default() += 1;
                }
            }
        }
        let Some(processes) = &snapshot.processes else { return };
        self.processes_known = true;
        for &pid in processes {
            if family.contains(pid) || self.others.contains_key(&pid) || self.unidentified.contains(&pid) {
                continue;
            }
            match family.table().facts(pid) {
                None if family.has_begun() => drop(self.unidentified.insert(pid)),
                facts => {
                    let (uid, name) = facts.map(|facts| (facts.uid, facts.name)).unzip();
                    self.others.insert(pid, ProcessJson { pid, uid, name });
                }
            }
        }
    }
}

impl Range {
    fn add(&mut self, value: Option<u32>) {
        let Some(value) = value.map(f64::from) else { return };
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = if self.count == 0 { value } else { self.max.max(value) };
        self.sum += value;
        self.count += 1;
    }

    fn get(&self) -> Option<RangeJson> {
        (self.count > 0).then(|| RangeJson { min: self.min, mean: self.sum / self.count as f64, max: self.max })
    }
}

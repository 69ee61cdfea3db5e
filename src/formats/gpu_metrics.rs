//! What the metrics of GPU exporters are called, and the readings they make: shared by scrapes as text and by Prometheus.
//!
//! NVIDIA's DCGM exporter and nvidia_gpu_exporter are known by name, and other metrics in watts by their ending. Energy
//! counters are left out: their differences are powers of no one moment. DCGM says "not known" with numbers at the end of
//! the integer ranges, which are gaps here.

use std::collections::BTreeMap;

use super::trace_builder::{MAX_POWER_W, TraceBuilder};
use crate::domain::{Channel, Reading, Scope, Timestamp};
use crate::units::Watts;

/// The least of DCGM's blank values, DCGM_INT32_BLANK (dcgm_structs.h); no figure read here reaches it.
const BLANK: f64 = 2_147_483_632.0;

/// A figure of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantity {
    /// Of several powers of one device the least number is taken.
    Power(u8),
    Utilization,
    MemoryUsed,
    SmClock,
    Temperature,
}

/// (name, figure, factor to our unit).
const KNOWN: [(&str, Quantity, f64); 18] = [
    ("DCGM_FI_DEV_POWER_USAGE", Quantity::Power(0), 1.0),
    ("DCGM_FI_DEV_POWER_USAGE_INSTANT", Quantity::Power(1), 1.0),
    ("DCGM_FI_DEV_GPU_UTIL", Quantity::Utilization, 1.0),
    ("DCGM_FI_DEV_FB_USED", Quantity::MemoryUsed, 1.0),
    ("DCGM_FI_DEV_SM_CLOCK", Quantity::SmClock, 1.0),
    ("DCGM_FI_DEV_GPU_TEMP", Quantity::Temperature, 1.0),
    // The exporter before its version 2.
    ("dcgm_power_usage", Quantity::Power(0), 1.0),
    ("dcgm_gpu_utilization", Quantity::Utilization, 1.0),
    ("dcgm_fb_used", Quantity::MemoryUsed, 1.0),
    ("dcgm_sm_clock", Quantity::SmClock, 1.0),
    ("dcgm_gpu_temp", Quantity::Temperature, 1.0),
    ("nvidia_smi_power_draw_watts", Quantity::Power(0), 1.0),
    ("nvidia_smi_power_draw_average_watts", Quantity::Power(1), 1.0),
    ("nvidia_smi_power_draw_instant_watts", Quantity::Power(2), 1.0),
    ("nvidia_smi_utilization_gpu_ratio", Quantity::Utilization, 100.0),
    ("nvidia_smi_memory_used_bytes", Quantity::MemoryUsed, 1.0 / 1_048_576.0),
    ("nvidia_smi_clocks_current_sm_clock_hz", Quantity::SmClock, 1e-6),
    ("nvidia_smi_temperature_gpu", Quantity::Temperature, 1.0),
];

/// The number of a power that nobody listed.
const UNLISTED: u8 = 9;

/// Limits, defaults and the like, which nothing draws.
const NO_DRAW: [&str; 5] = ["limit", "max", "min", "cap", "threshold"];

/// What a series of values is.
#[derive(Clone, Debug)]
pub struct Series {
    quantity: Quantity,
    factor: f64,
    node: Option<String>,
    device: Device,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Device {
    Index(u32),
    Uuid(String),
    /// No label names a device: the figure is of the node.
    None,
}

/// Whether a series is of use.
#[derive(Clone, Debug)]
pub enum Meaning {
    Figure(Series),
    /// Something else.
    Other,
    /// A power, of what nobody can tell.
    Unclear,
}

/// What name and labels say. Without a name it is the result of a query for power.
pub fn meaning(name: Option<&str>, labels: &BTreeMap<String, String>) -> Meaning {
    let label = |names: &[&str]| {
        names.iter().find_map(|name| labels.get(*name)).filter(|value| !value.is_empty()).map(String::as_str)
    };
    let listed = KNOWN.iter().find(|(known, ..)| Some(*known) == name);
    let (quantity, factor) = match (listed, name) {
        (Some((_, quantity, factor)), _) => (*quantity, *factor),
        (None, None) => (Quantity::Power(0), 1.0),
        (None, Some(name)) => match power_factor(name) {
            Some(factor) => (Quantity::Power(UNLISTED), factor),
            None => return Meaning::Other,
        },
    };
    // Each MIG instance repeats the power of its device, and has other figures of its own.
    if quantity != Quantity::Power(0) && label(&["GPU_I_ID"]).is_some() {
        return Meaning::Other;
    }
    let number = |text: &str| text.strip_prefix("nvidia").unwrap_or(text).parse().ok();
    let index = label(&["gpu", "GPU", "minor_number", "index"]).and_then(number);
    let index = index.or_else(|| label(&["device"]).filter(|text| text.starts_with("nvidia")).and_then(number));
    let device = match (index, label(&["UUID", "uuid", "gpu_uuid"])) {
        (Some(index), _) => Device::Index(index),
        (None, Some(uuid)) => Device::Uuid(uuid.to_owned()),
        (None, None) => Device::None,
    };
    if device == Device::None && (listed.is_some() || name.is_none()) {
        return Meaning::Unclear;
    }
    let host = |text: &str| text.rsplit_once(':').map_or(text, |(host, _)| host).to_owned();
    let node = label(&["Hostname", "hostname", "node", "nodename", "host"])
        .map(str::to_owned)
        .or_else(|| label(&["instance"]).map(host));
    Meaning::Figure(Series { quantity, factor, node, device })
}

/// Of a metric nobody listed, if its name says watts that are drawn.
fn power_factor(name: &str) -> Option<f64> {
    let name = name.to_lowercase();
    if NO_DRAW.iter().any(|word| name.split('_').any(|part| part == *word)) {
        return None;
    }
    let ends = [("_milliwatts", 1e-3), ("_kilowatts", 1e3), ("_watts", 1.0), ("_watt", 1.0)];
    ends.iter().find(|(end, _)| name.ends_with(end)).map(|(_, factor)| *factor)
}

/// Values of many series, gathered to readings by device and time.
#[derive(Debug, Default)]
pub struct Gatherer {
    slots: BTreeMap<(Option<String>, Device), BTreeMap<Timestamp, Slot>>,
    pub blank: usize,
    pub repeated: usize,
}

#[derive(Debug)]
struct Slot {
    reading: Reading,
    /// Of the power in it.
    rank: Option<u8>,
}

impl Gatherer {
    /// Adds a value; one that means "not known" makes a gap. `Err` says what is impossible about it.
    pub fn add(&mut self, series: &Series, at: Timestamp, value: f64) -> Result<(), String> {
        let key = (series.node.clone(), series.device.clone());
        let slot = self.slots.entry(key).or_default().entry(at);
        let slot = slot.or_insert_with(|| Slot { reading: Reading::at(at), rank: None });
        if !value.is_finite() || value >= BLANK && series.factor >= 1.0 {
            self.blank += 1;
            return Ok(());
        }
        let figure = value * series.factor;
        let high = match series.quantity {
            Quantity::Power(_) => MAX_POWER_W,
            Quantity::Utilization => 100.0,
            _ => f64::MAX,
        };
        if !(0.0..=high).contains(&figure) {
            return Err(format!("{value} is out of range"));
        }
        let place = match series.quantity {
            Quantity::Power(rank) => {
                if slot.rank.is_none_or(|there| rank < there) {
                    slot.rank = Some(rank);
                    slot.reading.power = Some(Watts(figure));
                } else if slot.rank == Some(rank) && rank == UNLISTED {
                    // Two power supplies, or a node's and a drive's: one of them alone would pass for the whole.
                    return Err("another series says a power of the same thing at this time; keep one".to_owned());
                } else if slot.rank == Some(rank) {
                    self.repeated += 1;
                }
                return Ok(());
            }
            Quantity::Utilization => &mut slot.reading.utilization_pct,
            Quantity::MemoryUsed => &mut slot.reading.memory_used_mib,
            Quantity::SmClock => &mut slot.reading.sm_clock_mhz,
            Quantity::Temperature => &mut slot.reading.temperature_c,
        };
        if place.replace(figure).is_some() {
            self.repeated += 1;
        }
        Ok(())
    }

    /// Notes that at this time a power should have been and was not.
    pub fn hole(&mut self, series: &Series, at: Timestamp) {
        if matches!(series.quantity, Quantity::Power(_)) {
            let readings = self.slots.entry((series.node.clone(), series.device.clone())).or_default();
            readings.entry(at).or_insert_with(|| Slot { reading: Reading::at(at), rank: None });
        }
    }

    /// Hands the readings to the trace, with `node` where no label names one. Devices known by UUID alone are numbered in
    /// the order of their UUIDs.
    pub fn finish(self, node: Option<&str>, builder: &mut TraceBuilder) {
        let mut numbers: BTreeMap<(Option<String>, String), u32> = BTreeMap::new();
        let mut next: BTreeMap<Option<String>, u32> = BTreeMap::new();
        for (host, device) in self.slots.keys() {
            if let Device::Uuid(uuid) = device {
                let next = next.entry(host.clone()).or_insert(0);
                numbers.insert((host.clone(), uuid.clone()), *next);
                *next += 1;
            }
        }
        if !numbers.is_empty() {
            builder.note("", "no label numbers the devices: numbered in the order of their UUIDs");
        }
        if self.blank > 0 {
            builder.note("", &format!("{} values mean \"not known\" and are gaps", self.blank));
        }
        if self.repeated > 0 {
            builder.note("", &format!("{} values left out that repeat a device and time", self.repeated));
        }
        for ((host, device), readings) in self.slots {
            let (scope, index) = match &device {
                Device::Index(index) => (Scope::Device, Some(*index)),
                Device::Uuid(uuid) => (Scope::Device, numbers.get(&(host.clone(), uuid.clone())).copied()),
                Device::None => (Scope::Node, None),
            };
            let channel = Channel { node: host.or_else(|| node.map(str::to_owned)), scope, index };
            for slot in readings.into_values() {
                builder.push("", &channel, slot.reading);
            }
        }
    }
}

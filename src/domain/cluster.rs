//! Nodes and devices: what there is, what it draws when idle, and how Slurm is asked for it.

use std::collections::BTreeMap;

use super::provenance::Figure;
use super::steps::Steps;
use crate::units::{Bytes, Joules, Seconds, Watts};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    Gpu,
    /// A CPU socket counts as one device.
    Cpu,
}

/// Published figures of a device type (`profiles/devices.toml`): the base of every estimate.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceType {
    pub name: String,
    /// Other spellings, as nvidia-smi, Slurm or data sets use them.
    pub aliases: Vec<String>,
    pub kind: DeviceKind,
    pub memory: Bytes,
    /// Bytes per second.
    pub memory_bandwidth: f64,
    /// Dense 16-bit FLOP/s.
    pub peak_flops_16bit: f64,
    /// Dense 8-bit FLOP/s; `None` if the device has no such units.
    pub peak_flops_8bit: Option<f64>,
    pub tdp: Watts,
    /// Without load, driver loaded.
    pub idle_power: Figure<Watts>,
}

impl DeviceType {
    /// By its name or an alias, whatever the case.
    pub fn is_named(&self, name: &str) -> bool {
        std::iter::once(&self.name).chain(&self.aliases).any(|known| known.eq_ignore_ascii_case(name.trim()))
    }
}

/// What goes into `#SBATCH` lines for a pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlurmTarget {
    pub partition: Option<String>,
    pub gres: Option<String>,
    pub constraint: Option<String>,
    pub account: Option<String>,
    pub qos: Option<String>,
}

/// Identical nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    pub name: String,
    /// Expanded host names.
    pub nodes: Vec<String>,
    /// Device type, by its name in the device table where it is known there.
    pub device: String,
    pub kind: DeviceKind,
    pub devices_per_node: u32,
    /// Device indices in use by others, by index into `nodes`.
    pub devices_busy: BTreeMap<usize, Vec<u32>>,
    /// Devices that others hold when the plan starts, by index into `nodes` and their own, with when they are free.
    pub devices_held: BTreeMap<(usize, u32), Seconds>,
    pub device_memory: Bytes,
    pub host_memory: Option<Bytes>,
    pub cpus_per_device: Option<u32>,
    /// Per device.
    pub idle_power: Figure<Watts>,
    /// Per node, host without devices. Required where the node can sleep.
    pub base_power: Option<Watts>,
    /// Whether an unused node sleeps (and is then billed from wake to the end of its last instance).
    pub suspend: bool,
    pub wake_time: Seconds,
    pub wake_energy: Joules,
    /// GiB per second from storage to device, if known: bounds the load time.
    pub storage_gib_per_s: Option<f64>,
    /// Whether jobs may set the SM clock of their devices (Slurm's --gpu-freq).
    pub clock_control: bool,
    pub slurm: SlurmTarget,
}

impl Pool {
    /// Device indices of a node that the plan may use, those that are held at its start included.
    pub fn free_devices(&self, node: usize) -> Vec<u32> {
        let busy = self.devices_busy.get(&node).map_or(&[][..], Vec::as_slice);
        (0..self.devices_per_node).filter(|index| !busy.contains(index)).collect()
    }

    /// How many devices of all nodes the plan may use.
    pub fn free_device_count(&self) -> usize {
        (0..self.nodes.len()).map(|node| self.free_devices(node).len()).sum()
    }

    /// From when on the plan may use a device of a node.
    pub fn free_from(&self, node: usize, device: u32) -> Seconds {
        self.devices_held.get(&(node, device)).copied().unwrap_or(Seconds::ZERO)
    }

    /// Base power plus idle power of all devices of one node: B_p where the node can sleep.
    pub fn standing_power(&self) -> Option<Watts> {
        self.base_power.map(|base| base + self.idle_power.value * f64::from(self.devices_per_node))
    }
}

/// What a plan minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Goal {
    #[default]
    Energy,
    /// Grams of CO2 by the site's carbon intensity.
    Carbon,
    /// Money by the site's price.
    Cost,
}

impl Goal {
    pub const ALL: [Self; 3] = [Self::Energy, Self::Carbon, Self::Cost];

    pub fn name(self) -> &'static str {
        match self {
            Self::Energy => "energy",
            Self::Carbon => "carbon",
            Self::Cost => "cost",
        }
    }

    /// Unit of the objective. Money is in the currency of the site's price.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Energy => "J",
            Self::Carbon => "gCO2",
            Self::Cost => "money",
        }
    }
}

/// What holds for the cluster as a whole. Times count from the start of the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// Power usage effectiveness; multiplies grams and money, never joules.
    pub pue: Option<f64>,
    /// gCO2 per kWh.
    pub carbon: Option<Steps>,
    /// Money per kWh.
    pub price: Option<Steps>,
    /// Watts that all nodes together may draw at any instant, at the IT load.
    pub power_cap: Option<Steps>,
    /// Watts of it that others draw, with a margin; nothing where it is `None`.
    pub background: Option<Steps>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    pub pools: Vec<Pool>,
    pub site: Site,
}

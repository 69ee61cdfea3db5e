//! What every meter is: something with a name, a scope and a resolution that answers with a counter or a power.

use super::refusal::{Refusal, RefusalKind};
use crate::domain::Provenance;
use crate::units::{Joules, Seconds, Watts};

/// No counter here steps more rarely than this.
pub const SLOWEST_STEP: Seconds = Seconds(1.0);

/// One reading of a meter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// Energy since an unknown beginning; only differences mean something.
    Counter(Joules),
    Power(Watts),
}

/// What a meter's figures cover. No two scopes of one kind overlap, except that a platform contains its packages and DRAM,
/// and a node all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Device {
        index: u32,
        uuid: String,
    },
    Package {
        socket: String,
    },
    Dram {
        socket: String,
    },
    /// RAPL's `psys`: processor, memory and more of the board; what exactly, the vendor decides.
    Platform,
    Node,
}

impl Scope {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Device { .. } => "device",
            Self::Package { .. } => "package",
            Self::Dram { .. } => "dram",
            Self::Platform => "platform",
            Self::Node => "node",
        }
    }
}

/// How a meter comes to its joules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// The hardware's own sum. It goes back to 0 after `wraps_at`, if it wraps, and gives no more than `max_power`.
    Counter { wraps_at: Option<Joules>, max_power: Watts },
    /// Power, integrated here by trapezoids. Each value is already a mean over `averaged_over` (0 where it is of the moment).
    Integrated { averaged_over: Seconds },
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter { .. } => "counter",
            Self::Integrated { .. } => "integrated",
        }
    }

    /// What a counter that went from `old` to `new` within `time` has counted, its wrap-around undone.
    ///
    /// # Errors
    /// `Reset` where it was reset, or may have gone round unseen because `max_power` fills its range in that time.
    pub fn added(self, old: Joules, new: Joules, time: Seconds) -> Result<Joules, Refusal> {
        let Self::Counter { wraps_at, max_power } = self else {
            return Err(Refusal::new(RefusalKind::Unreadable, "a meter of power gave an energy", ""));
        };
        let most = max_power * time;
        if wraps_at.is_some_and(|range| range <= most) {
            let what = format!("the counter may have gone round unseen between readings {time:.0} apart");
            return Err(Refusal::new(RefusalKind::Reset, what, "name a shorter --interval"));
        }
        let added = if new < old { wraps_at.map(|range| new + range - old) } else { Some(new - old) };
        added.filter(|added| (0.0..=most.0).contains(&added.0)).ok_or_else(|| {
            let what = match new < old {
                true => format!("the counter went back by {:.3}", old - new),
                false => format!("the counter rose by {:.0} in {time:.3}, more than {max_power:.0} allow", new - old),
            };
            Refusal::new(RefusalKind::Reset, what, "measure again")
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Unique among the meters of a node: `nvml:0:counter`, `rapl:package-0`.
    pub name: String,
    /// `nvml`, `rapl`, `hwmon`, `ipmi`, `replay`
    pub source: &'static str,
    pub scope: Scope,
    pub method: Method,
    /// The smallest difference of two readings, in the unit of the reading.
    pub resolution: f64,
    pub provenance: Provenance,
}

/// Anything that measures energy or power. Reading may take milliseconds and is done by one thread.
pub trait Meter: Send {
    fn identity(&self) -> &Identity;

    /// Whether a reading takes so long that others may not wait for it; it is then taken once a second at most.
    fn is_slow(&self) -> bool {
        false
    }

    /// # Errors
    /// Why there is no reading now.
    fn read(&mut self) -> Result<Reading, Refusal>;
}

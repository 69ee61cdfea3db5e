//! What telemetry says of a cluster at one instant: which devices are busy, what idle ones draw, and what everything that is
//! not a plan will draw.
//!
//! Nothing after the instant is looked at, and nothing is carried forward from a channel that fell silent: what is not known
//! is said to be unknown, with what its history allows to assume. A device is busy if it draws clearly more than an idle one
//! and will go on doing so. What comes out changes a cluster, never a model. Left out: when the jobs of others end, which no
//! telemetry says.

mod background;
mod channels;
mod idle;
mod voices;

use std::collections::{BTreeMap, BTreeSet};

use self::background::Part;
use self::channels::{Channels, Seen};
use self::voices::Voices;
use super::forecaster::{Forecaster, Horizon, Output, Target};
use crate::domain::{Cluster, Timestamp, Trace};
use crate::units::{Seconds, Watts};

pub use self::background::{Background, BackgroundStep, Basis, QUANTILE};
pub use self::idle::MeasuredIdle;

/// A channel whose last sample is older than this is stale.
pub const STALE_AFTER: Seconds = Seconds(120.0);
/// A device draws clearly more than an idle one beyond this share of its idle power, and this much at least.
const BUSY_SHARE: f64 = 0.10;
const BUSY_LEAST: f64 = 15.0;

/// What is asked.
pub struct Question<'a> {
    pub cluster: &'a Cluster,
    pub trace: &'a Trace,
    /// Second 0 of the plan.
    pub now: Timestamp,
    /// Asked first; kinds of channels it does not know are forecast by the best moving average over their own history.
    pub forecaster: Option<&'a dyn Forecaster>,
    /// When busy devices count as free, from now on.
    pub free: Seconds,
    /// Devices that serve the plan before: what they draw and until when is known otherwise.
    pub kept: &'a BTreeSet<Place>,
}

/// A device, by indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub pool: usize,
    pub node: usize,
    pub device: u32,
}

/// A device that others use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BusyDevice {
    pub place: Place,
    /// Over the last minute.
    pub mean: Watts,
    /// Mean of the next 30 s.
    pub forecast: Watts,
    /// When it counts as free; `None` if the cluster file says that it is in use throughout.
    pub free: Option<Seconds>,
}

/// Why a channel says nothing about the present.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Silence {
    /// The age of its last sample.
    Stale(Seconds),
    /// Its last minute has gaps or has only begun.
    Gaps,
}

/// A channel that says nothing about the present.
#[derive(Clone, Debug, PartialEq)]
pub struct SilentChannel {
    /// `n1 device 0`
    pub name: String,
    pub why: Silence,
    /// What is assumed to be drawn beyond what a plan accounts for: the high quantile of its history.
    pub assumed: Watts,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Current {
    pub busy: Vec<BusyDevice>,
    pub silent: Vec<SilentChannel>,
    /// By pool, where idle devices were seen.
    pub idle: Vec<MeasuredIdle>,
    pub background: Background,
    /// Name of the forecaster by kind of channel.
    pub forecasters: BTreeMap<String, String>,
    /// Channels that are of no node or device of the cluster.
    pub foreign: Vec<String>,
    /// Devices of the cluster that have no channel.
    pub unseen: usize,
    /// Of the channel that spoke last.
    pub age: Seconds,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CurrentError {
    #[error("none of its channels is of a node or device of the cluster: {0}")]
    Foreign(String),
    #[error("it has no sample of the cluster from before the start of the plan")]
    Future,
}

/// Judges the present.
///
/// # Errors
/// The trace says nothing about the cluster, or nothing until now.
pub fn judge(question: &Question<'_>) -> Result<Current, CurrentError> {
    let Question { cluster, .. } = *question;
    let channels = Channels::new(question)?;
    let others = || channels.devices.values().filter(|seen| !question.kept.contains(&seen.place));
    let fresh: Vec<&Seen> = others().filter(|seen| seen.silence.is_none()).collect();
    let voices = Voices::new(question.forecaster, &fresh.iter().map(|seen| &seen.recording).collect::<Vec<_>>());
    let ready: Vec<(&Seen, _)> =
        fresh.into_iter().filter_map(|seen| Some((seen, seen.recording.latest()?.1))).collect();
    let histories: Vec<_> = ready.iter().map(|(_, history)| *history).collect();
    let next = Output { horizon: Horizon::S30, target: Target::Mean };
    let levels = ready.iter().zip(voices.forecast(&histories)).map(|((seen, history), forecast)| Level {
        place: seen.place,
        mean: history.powers().sum::<f64>() / history.powers().count() as f64,
        forecast: forecast.of(next).p50.0,
    });
    let levels: Vec<Level> = levels.collect();
    let (idle_power, idle) = idle::measure(cluster, &channels, &levels);
    let is_busy = |level: &&Level| level.is_busy(idle_power[level.place.pool]);
    let busy: Vec<BusyDevice> = levels.iter().filter(is_busy).map(|level| level.busy(cluster, question.free)).collect();
    let mut current = Current {
        idle,
        forecasters: voices.names(&histories),
        foreign: channels.foreign.clone(),
        unseen: channels.unseen(cluster),
        age: channels.youngest,
        ..Current::default()
    };
    let mut parts = Vec::new();
    for device in &busy {
        let Some(seen) = channels.devices.get(&device.place) else { continue };
        let (charged, until) = (idle_power[device.place.pool], device.free.map_or(f64::INFINITY, |free| free.0));
        parts.push(Part { recording: seen.recording.clone(), charged, until, age: seen.age.0 });
    }
    let hosts = background::hosts(cluster, &channels, &busy, &idle_power, question.free);
    parts.extend(hosts.parts);
    for seen in others().chain(channels.nodes.values()) {
        let Some(why) = seen.silence else { continue };
        let assumed = Watts(background::assumed(cluster, &channels, seen, &idle_power));
        current.silent.push(SilentChannel { name: seen.recording.name.clone(), why, assumed });
    }
    let unknown = current.silent.iter().map(|silent| silent.assumed.0).sum();
    let recordings: Vec<_> = parts.iter().map(|part| &part.recording).collect();
    let voices = Voices::new(question.forecaster, &recordings);
    current.background = background::series(&parts, &hosts.standing, unknown, &voices);
    current.busy = busy;
    Ok(current)
}

/// What a device drew and will draw, in watts.
#[derive(Clone, Copy, Debug)]
struct Level {
    place: Place,
    mean: f64,
    forecast: f64,
}

impl Level {
    fn is_busy(&self, idle: f64) -> bool {
        let clearly = clearly_above(idle);
        self.mean > clearly && self.forecast > clearly
    }

    fn busy(&self, cluster: &Cluster, free: Seconds) -> BusyDevice {
        let Place { pool, node, device } = self.place;
        let throughout = cluster.pools[pool].devices_busy.get(&node).is_some_and(|busy| busy.contains(&device));
        BusyDevice {
            place: self.place,
            mean: Watts(self.mean),
            forecast: Watts(self.forecast),
            free: (!throughout).then_some(free),
        }
    }
}

/// Watts that are clearly more than `idle`.
fn clearly_above(idle: f64) -> f64 {
    idle + (BUSY_SHARE * idle).max(BUSY_LEAST)
}

#[cfg(test)]
mod tests;

//! Nodes and jobs as Slurm describes them, whichever of its tools and releases said so.
//!
//! What a tool did not say is absent. Which of it may be used for a plan is decided elsewhere.

use std::collections::BTreeSet;

/// A node. Flags behind a state (`IDLE+DRAIN`, `IDLE*`) are states of their own here, in upper case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlurmNode {
    pub name: String,
    pub states: BTreeSet<String>,
    /// Why an administrator took it out of service.
    pub reason: Option<String>,
    pub reservation: Option<String>,
    /// As Slurm counts them: hardware threads where it is so configured.
    pub cpus: Option<u32>,
    pub cpus_allocated: Option<u32>,
    pub sockets: Option<u32>,
    pub memory_mib: Option<u64>,
    pub gres: Vec<Gres>,
    /// What of it running jobs hold.
    pub gres_used: Vec<Gres>,
    pub features: Vec<String>,
    pub partitions: Vec<String>,
}

/// Generic resources of one name and type: `gpu:h100:4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gres {
    /// `gpu`, `shard`, `mps`, ...
    pub name: String,
    /// `h100`; absent where the site names no types.
    pub kind: Option<String>,
    pub count: u64,
    /// Which of them, where Slurm says so.
    pub indices: Option<Vec<u32>>,
}

/// A job that holds nodes, or waits for some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlurmJob {
    pub id: String,
    /// In upper case.
    pub states: BTreeSet<String>,
    /// Held, or chosen for it by the scheduler.
    pub nodes: Vec<String>,
    /// Held on each of `nodes`, in their order; empty where Slurm does not say.
    pub gres: Vec<Vec<Gres>>,
    pub cpus: Option<u32>,
    /// Seconds since 1970; of a waiting job, as the scheduler expects it.
    pub start: Option<u64>,
    /// By its time limit.
    pub end: Option<u64>,
}

impl SlurmNode {
    pub fn is(&self, state: &str) -> bool {
        self.states.contains(state)
    }
}

impl SlurmJob {
    pub fn is(&self, state: &str) -> bool {
        self.states.contains(state)
    }
}

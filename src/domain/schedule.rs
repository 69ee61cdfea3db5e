//! What a plan decides: instances on concrete devices over intervals, the intervals in which their nodes are powered, and the instance
//! of each request.

use crate::units::Seconds;

/// A deployment on concrete devices of one node, from the start of its load to the end of its last request.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Index into the plan's deployments.
    pub deployment: usize,
    /// Index into `Cluster::pools`.
    pub pool: usize,
    /// Index into `Pool::nodes`.
    pub node: usize,
    pub device_indices: Vec<u32>,
    pub start: Seconds,
    pub end: Seconds,
}

/// One powered interval of a node that can sleep: it starts to wake at `wake`, is on at `on`, and sleeps again at `off`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PoweredInterval {
    pub pool: usize,
    pub node: usize,
    pub wake: Seconds,
    pub on: Seconds,
    pub off: Seconds,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    pub instances: Vec<Instance>,
    pub powered: Vec<PoweredInterval>,
    /// Index into `instances`, one entry a request.
    pub assignment: Vec<u32>,
}

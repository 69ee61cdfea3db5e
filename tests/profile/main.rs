//! `profile` as shipped: on commands and on a real server (`tests/tiny_server`), metered by a fake powercap tree.

mod commands;
mod durable;
mod endpoint;
mod faults;
mod gpus;
mod merge;
mod rig;
mod slurm;

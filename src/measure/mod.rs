//! Energy as hardware reports it: meters, a sampler, and what makes a measurement believable.
//!
//! A [`Meter`] says a counter or a power and what it covers; a [`sampler::Sampler`] reads several in a thread of its own;
//! a [`session::Session`] turns the readings around a command into joules with provenance. A meter that cannot say refuses
//! with a reason and a remedy ([`Refusal`]). The only module that touches hardware. AMD devices are read through the
//! kernel's hwmon, not through ROCm SMI.

pub mod command;
pub mod conditions;
pub mod doctor;
pub mod hwmon;
pub mod inventory;
pub mod ipmi;
pub mod load;
pub mod meter;
pub mod nvml;
pub mod operating_point;
pub mod processes;
pub mod profile;
pub mod rapl;
pub mod refusal;
pub mod replay;
pub mod sampler;
pub mod series;
pub mod session;

pub use meter::Meter;
pub use refusal::{Refusal, RefusalKind};

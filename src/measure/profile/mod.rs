//! The characterisation study: which cell is run when, and until when, every trial on the disk before the next.
//!
//! Rounds visit the cells that had fewest trials, each once, in an order drawn by the seed: what drifts over hours then
//! falls on all cells alike, and the trials of a cell lie apart. A [`Rule`] says when a cell is done, a [`TrialRunner`] runs
//! a trial (on a server, or any program), the [journal](crate::formats::profile_journal) keeps them. Which cells are worth
//! most is the caller's to say: they come in that order, which only a budget looks at.

pub mod cell;
pub mod command;
pub mod endpoint;
pub mod metering;
pub mod stopping;
mod study;
mod time;
pub mod trial;

pub use cell::{Cell, Grid};
pub use stopping::{Rule, Standing, Verdict};
pub use study::{CellReport, News, Report, Study, Watch, run};
pub use trial::{Order, Stop, TrialError, TrialRunner};

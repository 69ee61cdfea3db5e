//! The limits a user sets, and what moving one of them does: how far it must give where there is no plan (`loosen`), what
//! one more unit of it saves (`shadow_prices`), and what it costs over its range (`frontier`).
//!
//! Each is about one limit alone, all else as given. Left out: which models and pools a job allows, and latency limits.

mod amounts;
pub mod frontier;
pub mod loosen;
pub mod shadow_prices;
pub mod trial;

pub use frontier::{Point, frontier};
pub use loosen::{Relaxation, smallest};
pub use shadow_prices::ShadowPrice;
pub use trial::Trial;

/// A limit on a plan. Jobs and pools by index; several jobs move together.
#[derive(Clone, Debug, PartialEq)]
pub enum Limit {
    /// Deadlines of these jobs and of their requests, in seconds.
    Deadline(Vec<usize>),
    /// Accuracy floors of these jobs and of their requests, in percent points.
    Accuracy(Vec<usize>),
    /// Nodes of a pool.
    Nodes(usize),
    /// The site's power cap, in watts at every instant.
    Power,
}

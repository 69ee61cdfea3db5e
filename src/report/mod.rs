//! What is said about a plan: plan.json and the tables of the plan directory, the claims the checker judges, why a
//! request went where it did, and text for people. And about a fit: its quality report.
//!
//! Everything is derived from the placed schedule and its problem, or from the fit; nothing is decided here and nothing is
//! printed.

pub mod chart;
pub mod claims;
pub mod estimates;
pub mod explain;
pub mod fit_quality;
pub mod forecast_chart;
pub mod frontier;
pub mod infeasible;
pub mod limits;
pub mod plan_json;
pub mod power_adjustment;
pub mod request_index;
pub mod sensitivity;
pub mod summary;
pub mod tables;
pub mod text;

pub use request_index::RequestIndex;

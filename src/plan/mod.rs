//! The planner: which request runs on which deployment and when, at the fewest joules, with a proved gap.
//!
//! `solve` is the entry point; it takes a `PlanProblem` and returns a placed, priced schedule with a lower bound that
//! holds for single requests and whole instances, or a proof that there is no plan. It reads no files and knows neither
//! the command line nor Slurm. PLANNER states the problem; its equation numbers are quoted in the code.

pub mod assign;
pub mod baselines;
pub mod bound;
pub mod capacity;
pub mod classes;
pub mod dive;
pub mod list_schedule;
pub mod lp;
pub mod pack;
pub mod paper;
pub mod pieces;
pub mod place;
pub mod price;
pub mod prices;
pub mod problem;
pub mod relaxation;
pub mod search;
pub mod settle;
pub mod solve;

use std::collections::BTreeMap;
use std::time::Duration;

use baselines::BaselineResult;
use price::Priced;

pub use problem::PlanProblem;
pub use solve::solve;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Stop when (objective - bound) / objective is at most this.
    pub gap: f64,
    pub time_limit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { gap: 1e-3, time_limit: Duration::from_secs(60) }
    }
}

/// Why no plan could be made at all.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("the solver failed: {0}; please report the inputs")]
    Solver(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Baselines,
    Classes,
    Relaxation,
    Certificate,
    Bound,
    Placement,
    Search,
}

#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub phase: Phase,
    pub incumbent: Option<f64>,
    pub bound: f64,
    pub elapsed: Duration,
}

#[derive(Clone, Debug)]
pub enum Verdict {
    Planned(Box<Plan>),
    Infeasible(Infeasibility),
    /// Neither a plan nor a proof; what was tried.
    Unknown(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Infeasibility {
    /// These requests no deployment can serve, whatever the others do.
    Unservable(Vec<usize>),
    /// Prices prove that at least this many requests' worth of work has no room (before any rounding).
    Certificate { missing_requests: f64 },
}

/// A placed plan and its proof. The three parts sum to the gap.
#[derive(Clone, Debug)]
pub struct Plan {
    pub priced: Priced,
    pub bound: f64,
    pub gap: f64,
    pub merging: f64,
    pub integer: f64,
    pub placement: f64,
    pub within_gap: bool,
}

/// Baselines first, then our own plan, which starts from the best of them and of `incumbent`.
pub fn plan(
    problem: &PlanProblem,
    settings: &Settings,
    seed: u64,
    incumbent: Option<Priced>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Verdict, BTreeMap<String, BaselineResult>), PlanError> {
    progress(Progress { phase: Phase::Baselines, incumbent: None, bound: 0.0, elapsed: Duration::ZERO });
    let baselines = baselines::run(problem, settings, seed);
    let feasible = baselines.values().filter(|result| result.feasible()).filter_map(|result| result.priced.clone());
    let best = feasible.chain(incumbent).min_by(|a, b| a.objective().total_cmp(&b.objective()));
    let verdict = solve(problem, settings, best, progress)?;
    Ok((verdict, baselines))
}

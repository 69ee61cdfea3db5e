//! The planner: which request runs on which deployment and when, at the fewest joules, with a proved gap.
//!
//! `plan` is the entry point: baselines, then `solve` over a `PlanProblem`. It returns a placed, priced schedule with a
//! lower bound that holds for single requests and whole instances, a proof that there is no plan, or word that neither
//! was found. It reads no files and knows neither the command line nor Slurm.
//!
//! # The problem
//!
//! An instance is a deployment v on concrete devices of one node over an interval that begins with a load. Each request
//! r runs whole on one instance, between its release and its deadline, in one of `b_v` batch slots that it holds for
//! `b_v T_v(r)` seconds. A start costs `J_v` joules (load and drain); a request costs its net energy `e_v(r)`; a node
//! that can sleep costs `B_p` watts while it is on, waking included, and `Omega_p` joules a wake. A node that cannot
//! sleep costs the same in every plan and stands outside the objective.
//!
//! # The relaxation
//!
//! Over windows w of length l_w, between successive deadlines and releases: `x` is a share of a request's work, `a`
//! loaded instance-seconds, `y` those of them spent loading, `c` those that may serve, `n` and `s` instances alive and
//! started, `u` powered node-seconds, `h` those of them spent waking, `z` and `q` nodes on and woken.
//!
//! ```text
//! min  sum_rvw e_v(r) x_rvw + sum_vw J_v s_vw + sum_pw (B_p u_pw + Omega_p q_pw)
//! (1)  sum_vw x_rvw = 1                                            every request
//! (2)  sum_r T_v(r) x_rvw <= c_vw ,  c_vw + y_vw <= a_vw           price pi_vw >= 0
//! (2b) sum_{w'>=w} y_vw' >= load_v sum_{w'>=w} s_vw'
//! (3)  a_vw <= l_w n_vw ,  s_vw >= n_vw - n_v,w-1 ,  c_vw <= S_v n_vw
//! (3b) x_cv <= sum_{w < end of c} s_vw        every set c of requests  price sigma_cv >= 0
//! (4)  sum_{v in p} k_v a_vw + D_p h_pw <= D_p u_pw ,  wakes like loads, nodes like instances
//! (5)  sum_{r in j} alpha_v x_rvw >= f_j N_j                       price mu_j >= 0
//! (6)  sum_v peak_v a_vw + sum_p B_p u_pw <= l_w (cap_w - standing power of nodes that never sleep)
//! ```
//!
//! Where grams or money are minimised, every joule above counts with its window's weight g_w. Peaks in (6) are beyond the
//! idle power of the instance's devices: the plan counts an instance with its peak at every instant of its life, so the
//! row holds for it and needs no price on the joules of requests.
//!
//! Rows (3b), which hold for whole instances only, are added for the classes that violate them. `S_v` is all the work v
//! could ever be given. The seconds of a drain are not reserved in (2b): what it really takes,
//! list scheduling shows, so the bound also holds for schedules that pack their ends better than the constant says.

pub mod assign;
pub mod baselines;
pub mod block;
pub mod bound;
pub mod budget;
pub mod capacity;
pub mod cells;
pub mod classes;
pub mod columns;
pub mod confidence;
pub mod dive;
pub mod facility;
pub mod generalised_assignment;
pub mod held;
mod hints;
pub mod limits;
pub mod list_schedule;
pub mod lp;
pub mod pack;
pub mod paper;
pub mod partition;
pub mod pieces;
pub mod place;
pub mod power;
pub mod price;
pub mod prices;
pub mod problem;
pub mod record;
pub mod relaxation;
pub mod search;
pub mod sensitivity;
pub mod settle;
pub mod solve;
pub mod start_prices;
mod windows;
pub mod zeta;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use baselines::BaselineResult;
use limits::ShadowPrice;
use price::Priced;
use prices::Prices;
use record::Optimum;

pub use problem::PlanProblem;
pub use solve::solve;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Stop when (objective - bound) / objective is at most this.
    pub gap: f64,
    pub time_limit: Duration,
    /// Whether the baselines are placed and priced too; the best of them is then the first incumbent.
    pub baselines: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { gap: 1e-3, time_limit: Duration::from_secs(60), baselines: true }
    }
}

/// Why no plan could be made at all.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("the solver failed: {0}; please report the inputs")]
    Solver(&'static str),
    #[error("the relaxation was not solved in time")]
    OutOfTime,
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
    /// Nodes that never sleep draw more than the cap that holds from this second on, whatever runs.
    StandingPower { watts: f64, cap: f64, second: f64 },
    /// These prices prove that at least so many requests' worth of work has no room (before any rounding); so many requests
    /// at least must be `left_out` for the others to have a plan, whichever they are.
    /// `optimum` is that of the capacity block, which has the deployments `offered`.
    Certificate { missing_requests: f64, left_out: u64, prices: Prices, optimum: Box<Optimum>, offered: Vec<bool> },
}

/// A placed plan and its proof. The three parts sum to the gap.
#[derive(Clone, Debug)]
pub struct Plan {
    pub priced: Priced,
    /// In units of the goal, as the objective.
    pub bound: f64,
    /// Joules that no plan goes below, whatever its goal.
    pub bound_j: f64,
    /// Which computation gave the bound.
    pub bound_by: &'static str,
    pub gap: f64,
    pub merging: f64,
    pub integer: f64,
    pub placement: f64,
    pub within_gap: bool,
    /// Of the limits that bind, from the linear programme with divisible instances; none where it leaves requests
    /// unserved.
    pub shadow_prices: Vec<ShadowPrice>,
}

/// The verdict, and the baselines by name.
pub type Planned = (Verdict, BTreeMap<String, BaselineResult>);

/// Baselines first, if asked for, then our own plan, which starts from the best of them and of `incumbent`.
///
/// What others draw under the power cap may not be in the way. So the plan is made with all of the cap first, and kept if it
/// leaves room for them at every instant: its bound holds all the more where there is less room, and it is then the very
/// plan that would be made without others.
pub fn plan(
    problem: &PlanProblem,
    settings: &Settings,
    seed: u64,
    incumbent: Option<Priced>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Planned, PlanError> {
    let started = Instant::now();
    if let Some(alone) = problem.without_background() {
        let (verdict, mut baselines) = plan_as_it_is(&alone, settings, seed, incumbent.clone(), progress)?;
        if let Verdict::Planned(plan) = &verdict
            && power::within_cap(problem, &plan.priced.schedule)
        {
            baselines.values_mut().for_each(|result| result.mind_background(problem));
            return Ok((verdict, baselines));
        }
    }
    let left = settings.time_limit.saturating_sub(started.elapsed()).max(settings.time_limit / 2);
    plan_as_it_is(problem, &Settings { time_limit: left, ..settings.clone() }, seed, incumbent, progress)
}

fn plan_as_it_is(
    problem: &PlanProblem,
    settings: &Settings,
    seed: u64,
    incumbent: Option<Priced>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Planned, PlanError> {
    let started = Instant::now();
    progress(Progress { phase: Phase::Baselines, incumbent: None, bound: 0.0, elapsed: Duration::ZERO });
    let baselines = if settings.baselines { baselines::run(problem, settings, seed) } else { BTreeMap::new() };
    let feasible = baselines.values().filter(|result| result.feasible()).filter_map(|result| result.priced.clone());
    let best = feasible.chain(incumbent).min_by(|a, b| a.objective().total_cmp(&b.objective()));
    // The limit is on both; half of it is always left for our own plan.
    let left = settings.time_limit.saturating_sub(started.elapsed()).max(settings.time_limit / 2);
    let settings = Settings { time_limit: left, ..settings.clone() };
    let verdict = solve(problem, &settings, best, progress)?;
    Ok((verdict, baselines))
}

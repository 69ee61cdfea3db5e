//! The order of work: classes, relaxation and request pass (`relax`), which pay for whole starts (`charge`), of which the
//! dear ones are branched on (`branch`); plans of a large queue meanwhile, first any and then a good one; a single node, by how
//! long it is on and what is open on it (`on_time`); whole instances and placement (`whole`, `whole_windows`); then bound and
//! plan improve each other (`cuts`) until the gap or the time limit is met.
//!
//! The plan always comes out of placement and the bound always out of single requests, so a poor guess anywhere costs
//! quality, never truth.

mod branch;
mod charge;
mod cuts;
pub mod feasibility;
mod fixed_prices;
pub mod known;
mod on_time;
mod relax;
mod whole;
mod whole_windows;

use std::thread;
use std::time::{Duration, Instant};

use self::branch::Branching;
use self::known::Start;
use self::relax::Relaxed;
use super::capacity::{CapacityInput, Integers, Purpose, Scale};
use super::limits::shadow_prices::{ShadowPrice, shadow_prices};
use super::place::Unplaced;
use super::price::Priced;
use super::prices::{Objective, PassResult, Prices, request_pass};
use super::problem::PlanProblem;
use super::relaxation::scale;
use super::search;
use super::{Infeasibility, Phase, Plan, PlanError, Progress, Settings, Verdict};

/// Rounds of charging for starts once there is a plan.
const CHARGES: usize = 8;
/// Share of the time limit after which no further node is branched on, in large queues and in small ones.
const BRANCHING: f64 = 0.9;
const SMALL_BRANCHING: f64 = 0.15;
/// Classes after splitting, at most.
const MOST_CLASSES: usize = 4000;

/// Finds a plan for `problem` with a proved gap, or proves that there is none. `incumbent`: a schedule known to be
/// feasible, if any.
///
/// Where joules are weighted, first over windows that know deadlines and releases alone, each at its least weight: a
/// small problem, whose bound is the better one as long as the cheapest hours have room for all.
pub fn solve(
    problem: &PlanProblem,
    settings: &Settings,
    incumbent: Option<Priced>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Verdict, PlanError> {
    let Some(coarse) = problem.without_steps() else {
        return solve_windows(problem, settings, incumbent, None, progress);
    };
    let started = Instant::now();
    let half = Settings { time_limit: settings.time_limit / 2, ..settings.clone() };
    let (incumbent, proved) = match solve_windows(&coarse, &half, incumbent.clone(), None, progress)? {
        Verdict::Planned(plan) if !plan.within_gap => (Some(plan.priced), Some((plan.bound, plan.bound_by))),
        Verdict::Unknown(_) => (incumbent, None),
        verdict => return Ok(verdict),
    };
    let left = settings.time_limit.saturating_sub(started.elapsed());
    solve_windows(problem, &Settings { time_limit: left, ..settings.clone() }, incumbent, proved, progress)
}

/// `proved`: a bound and what proved it.
fn solve_windows(
    problem: &PlanProblem,
    settings: &Settings,
    incumbent: Option<Priced>,
    proved: Option<(f64, &'static str)>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Verdict, PlanError> {
    let free = request_pass(problem, &Prices::zero(problem), None, Objective::Energy);
    if !free.unservable.is_empty() {
        return Ok(Verdict::Infeasible(Infeasibility::Unservable(free.unservable)));
    }
    if let Some(why) = standing_power(problem) {
        return Ok(Verdict::Infeasible(why));
    }
    let ground = Ground::new(problem, free.total);
    let mut solver = Solver {
        ground: &ground,
        settings,
        started: Instant::now(),
        deadline: Instant::now() + settings.time_limit,
        best: incumbent,
        // Every request at its cheapest, and nothing ever started.
        bound: free.total,
        bound_by: "request pass without prices",
        class_lp: free.total,
        class_mip: None,
        shadow_prices: Vec::new(),
        reserve: vec![0.0; problem.deployments().len()],
        why_not: None,
        progress,
    };
    if let Some((bound, by)) = proved {
        solver.prove(bound, by);
    }
    match solver.run(&free) {
        Ok(None) | Err(PlanError::OutOfTime) => Ok(solver.into_verdict()),
        Ok(Some(verdict)) => Ok(verdict),
        Err(error) => Err(error),
    }
}

/// What every step of a solve reads.
struct Ground<'a> {
    problem: &'a PlanProblem<'a>,
    scale: Scale,
    total_work: Vec<f64>,
    offered: Vec<bool>,
    /// The whole of every pool and of the power cap may be used.
    unlimited: Vec<Vec<f64>>,
}

impl<'a> Ground<'a> {
    fn new(problem: &'a PlanProblem<'a>, cheapest_energy: f64) -> Self {
        Self {
            problem,
            scale: scale(problem, cheapest_energy),
            total_work: problem.total_work(),
            offered: problem.offered(),
            unlimited: vec![vec![1.0; problem.windows.len()]; problem.cluster.pools.len() + 1],
        }
    }

    /// The whole cluster, where joules do not count.
    fn unpriced(&self) -> CapacityInput<'_> {
        self.capacity(Scale { energy: f64::INFINITY, ..self.scale }, &self.unlimited)
    }

    fn capacity<'b>(&'b self, scale: Scale, usable: &'b [Vec<f64>]) -> CapacityInput<'b> {
        CapacityInput {
            problem: self.problem,
            scale,
            integers: Integers::Relaxed,
            total_work: &self.total_work,
            usable,
            offered: &self.offered,
            purpose: Purpose::Bound,
        }
    }
}

struct Solver<'a> {
    ground: &'a Ground<'a>,
    settings: &'a Settings,
    started: Instant,
    deadline: Instant,
    best: Option<Priced>,
    bound: f64,
    /// What proved it.
    bound_by: &'static str,
    class_lp: f64,
    class_mip: Option<f64>,
    /// Of the relaxation.
    shadow_prices: Vec<ShadowPrice>,
    /// Seconds of an instance that placing could not fill so far, by deployment.
    reserve: Vec<f64>,
    /// Why the last assignment could not be placed.
    why_not: Option<Unplaced>,
    progress: &'a mut dyn FnMut(Progress),
}

impl Solver<'_> {
    /// Everything until the gap is met or time is up; a verdict only where there is no plan.
    fn run(&mut self, free: &PassResult) -> Result<Option<Verdict>, PlanError> {
        let planned = self.best.is_some();
        if planned {
            self.limit_on_time()?;
        }
        let mut relaxed = self.relax(free)?;
        self.class_lp = relaxed.solution.objective;
        if relaxed.solution.unserved > 1e-6 && self.best.is_none() {
            self.report(Phase::Certificate);
            let unproved = "the relaxation leaves requests unserved, but no certificate was found";
            let certificate = self.certificate(relaxed)?;
            return Ok(Some(certificate.map_or_else(|| Verdict::Unknown(unproved.into()), Verdict::Infeasible)));
        }
        if relaxed.solution.unserved <= 1e-6 {
            let ground = self.ground;
            let capacity = ground.capacity(ground.scale, &ground.unlimited);
            let capacity = CapacityInput { offered: &relaxed.offered, ..capacity };
            self.shadow_prices = shadow_prices(&capacity, &relaxed.solution)?;
        }
        if self.done() && self.best.is_some() {
            self.class_lp = self.class_lp.max(self.bound);
            return Ok(None);
        }
        relaxed = if self.is_large() {
            self.plan_large(relaxed)?
        } else {
            relaxed = self.charged(relaxed, 1)?;
            self.report(Phase::Placement);
            self.plan_whole_instances(&relaxed)?;
            if !planned && !self.done() {
                self.limit_on_time()?;
            }
            self.report(Phase::Bound);
            if self.done() { relaxed } else { self.charged(relaxed, CHARGES)? }
        };
        if !self.done() {
            self.branch(&relaxed)?;
        }
        let prices = &relaxed.solution.prices;
        let root = self.prove_root(&relaxed);
        let worthwhile = self.worthwhile(&relaxed, root);
        self.search(prices, &worthwhile);

        // Deployments whose mere start costs more than the plan is worth need not be looked at again.
        let offered = self.worthwhile(&relaxed, root);
        self.cut(&relaxed, &offered)?;
        self.search(prices, &offered);
        self.price_at_whole_instances(&relaxed)?;
        Ok(None)
    }

    /// The relaxation charged for starts, its bound proved.
    fn charged(&mut self, relaxed: Relaxed, rounds: usize) -> Result<Relaxed, PlanError> {
        let charged = self.charging().charge_starts(&relaxed, rounds)?;
        Ok(self.proved(charged.unwrap_or(relaxed)))
    }

    fn proved(&mut self, relaxed: Relaxed) -> Relaxed {
        self.class_lp = relaxed.solution.objective;
        self.prove_root(&relaxed);
        relaxed
    }

    /// First any plan of a large queue, then good ones; each time the relaxation is charged for starts meanwhile.
    fn plan_large(&mut self, relaxed: Relaxed) -> Result<Relaxed, PlanError> {
        self.report(Phase::Placement);
        // Where any plan will do, it need not be known which starts pay.
        if self.settings.gap >= 1.0 {
            self.plan_quickly(&relaxed)?;
            return Ok(self.proved(relaxed));
        }
        let relaxed = self.while_charging(relaxed, 1, Self::plan_quickly)?;
        if self.done() {
            return Ok(relaxed);
        }
        self.report(Phase::Bound);
        self.while_charging(relaxed, CHARGES, |solver, relaxed| solver.plan_whole_windows(relaxed, None))
    }

    /// Plans; meanwhile another core charges the relaxation for starts.
    fn while_charging(
        &mut self,
        relaxed: Relaxed,
        rounds: usize,
        plan: impl FnOnce(&mut Self, &Relaxed) -> Result<(), PlanError>,
    ) -> Result<Relaxed, PlanError> {
        let charging = self.charging();
        let (planned, charged) = thread::scope(|scope| {
            let charged = scope.spawn(|| charging.charge_starts(&relaxed, rounds));
            (plan(self, &relaxed), charged.join())
        });
        let charged = match charged.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            Err(PlanError::OutOfTime) => None,
            charged => charged?,
        };
        let relaxed = self.proved(charged.unwrap_or(relaxed));
        planned.map(|()| relaxed)
    }

    /// Branches on dear starts, and plans a large queue where they are whole, as often as that may better the plan.
    fn branch(&mut self, relaxed: &Relaxed) -> Result<(), PlanError> {
        let large = self.is_large();
        let share = if large { BRANCHING } else { SMALL_BRANCHING };
        let until = (self.started + self.settings.time_limit.mul_f64(share)).min(self.deadline);
        if Instant::now() >= until {
            return Ok(());
        }
        let Some(mut branching) = Branching::new(self, relaxed)? else { return Ok(()) };
        while !self.done() {
            let Some(leaf) = branching.leaf(self, relaxed, until)? else { break };
            if large {
                self.plan_whole_windows(relaxed, Some(&leaf))?;
            }
        }
        Ok(())
    }

    /// The bound of the relaxation, taken with a margin for the solver's tolerances.
    fn prove_root(&mut self, relaxed: &Relaxed) -> f64 {
        let root = charge::root(&relaxed.solution, &relaxed.pass);
        self.prove(root - 1e-6 * root.abs(), "request pass at the relaxation's prices");
        root
    }

    /// Takes a bound that is higher than the best so far.
    fn prove(&mut self, bound: f64, by: &'static str) {
        if bound > self.bound {
            (self.bound, self.bound_by) = (bound, by);
        }
    }

    /// Local search over the set of deployments in use, where that set is small.
    fn search(&mut self, prices: &Prices, worthwhile: &[bool]) {
        if self.done() {
            return;
        }
        self.report(Phase::Search);
        let until = (Instant::now() + Duration::from_secs_f64(self.slice(0.25))).min(self.deadline);
        if let Some(best) = self.best.take() {
            self.best = Some(search::improve(self.ground.problem, prices, worthwhile, best, until));
        }
    }

    /// Proof that no plan exists: prices at which even unpriced energy leaves requests unserved.
    fn certificate(&mut self, relaxed: Relaxed) -> Result<Option<Infeasibility>, PlanError> {
        let found = match relaxed.shortage {
            Some(found) => Some(found),
            None => {
                let Relaxed { classes, columns, offered, .. } = relaxed;
                let start = Start { classes, columns, offered };
                feasibility::over_classes(self.ground, start, |_| false, self.deadline)?.map(|(found, _)| found)
            }
        };
        let Some(found) = found else { return Ok(None) };
        feasibility::certificate(self.ground, found, self.slice(0.5))
    }

    fn done(&self) -> bool {
        Instant::now() >= self.deadline || self.gap().is_some_and(|gap| gap <= self.settings.gap)
    }

    fn gap(&self) -> Option<f64> {
        self.best.as_ref().map(|best| gap(best.objective(), self.bound))
    }

    /// Seconds for one step: a share of the whole, never past the end.
    fn slice(&self, share: f64) -> f64 {
        let left = self.deadline.saturating_duration_since(Instant::now()).as_secs_f64();
        (share * self.settings.time_limit.as_secs_f64()).min(left).max(0.05)
    }

    fn report(&mut self, phase: Phase) {
        let incumbent = self.best.as_ref().map(Priced::objective);
        (self.progress)(Progress { phase, incumbent, bound: self.bound, elapsed: self.started.elapsed() });
    }

    fn into_verdict(self) -> Verdict {
        let Some(priced) = self.best else {
            let why = self.why_not.map_or_else(String::new, |reason| format!(": {reason}"));
            return Verdict::Unknown(format!("no placement was found{why}"));
        };
        let objective = priced.objective();
        // A bound above the plan could only be rounding; the plan itself is then the proof.
        let bound = self.bound.min(objective);
        let bound_j = if priced.weighted.is_some() { least_joules(self.ground.problem) } else { bound };
        // A plan that costs less shows that there are better whole instances than those found over classes.
        let class_mip = self.class_mip.map_or(self.class_lp, |class_mip| class_mip.min(objective));
        let share = |joules: f64| if objective > 0.0 { joules / objective } else { 0.0 };
        Verdict::Planned(Box::new(Plan {
            bound,
            bound_j: bound_j.min(priced.energy.total()),
            bound_by: self.bound_by,
            gap: gap(objective, bound),
            merging: share(self.class_lp - bound),
            integer: share(class_mip - self.class_lp),
            placement: share(objective - class_mip),
            within_gap: gap(objective, bound) <= self.settings.gap,
            shadow_prices: self.shadow_prices,
            priced,
        }))
    }
}

/// The first cap that nodes that never sleep exceed by themselves.
fn standing_power(problem: &PlanProblem) -> Option<Infeasibility> {
    let (room, cap) = (problem.power_room()?, problem.cluster.site.power_cap.as_ref()?);
    let mut steps = room.iter().map(|(second, watts)| (second.max(0.0), watts));
    let (second, watts) = steps.find(|(second, watts)| *second < problem.horizon() && *watts < 0.0)?;
    let cap = cap.at(second);
    Some(Infeasibility::StandingPower { watts: cap - watts, cap, second })
}

/// Every request at its least joules, and nothing ever started.
fn least_joules(problem: &PlanProblem) -> f64 {
    let PlanProblem { workload, cluster, models, options, safety, .. } = *problem;
    let unweighted = PlanProblem::new(workload, cluster, models, options, safety);
    request_pass(&unweighted, &Prices::zero(&unweighted), None, Objective::Energy).total
}

fn gap(objective: f64, bound: f64) -> f64 {
    if objective > 0.0 { ((objective - bound) / objective).max(0.0) } else { 0.0 }
}

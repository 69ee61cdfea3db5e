//! The order of work: classes, relaxation, request pass, whole instances, placement; then bound and plan improve each
//! other (`cuts`) until the gap or the time limit is met.
//!
//! The plan always comes out of placement and the bound always out of request passes, so a poor guess anywhere costs
//! quality, never truth.

mod cuts;
pub mod feasibility;

use std::time::{Duration, Instant};

use self::feasibility::Feasibility;
use super::assign;
use super::capacity::{CapacityInput, Integers, Purpose, Scale};
use super::classes::Classes;
use super::columns::{Column, columns_at};
use super::dive;
use super::hints::{tighten, used};
use super::limits::shadow_prices::{ShadowPrice, shadow_prices};
use super::place::{self, Lanes, Shape, Unplaced, place};
use super::price::Priced;
use super::prices::{Objective, PassResult, Prices, request_pass};
use super::problem::PlanProblem;
use super::relaxation::{ClassProblem, ClassSolution, scale};
use super::search;
use super::{Infeasibility, Phase, Plan, PlanError, Progress, Settings, Verdict};

/// Classes after splitting, at most.
const MOST_CLASSES: usize = 4000;
/// Rounds of splitting, at most; they end sooner when merging costs less than this share of the gap asked for.
const SPLIT_ROUNDS: usize = 6;
const MERGING_OF_GAP: f64 = 0.2;
/// Deployments times windows up to which the relaxation begins with all deployments.
const ALL_AT_ONCE: usize = 1000;
/// Rounds of "placement lacks room: plan with less of that pool".
const TIGHTENINGS: usize = 48;
/// Of which so many once there is a plan.
const TIGHTENINGS_WITH_PLAN: usize = 6;
/// Requests times instances up to which a plan is dealt anew to see whether that saves more.
const MOST_RESETTLED: usize = 50_000_000;
/// Share by which work is planned longer than it is, at first and at most: whole requests do not fill instances exactly.
const LEAST_SLACK: f64 = 0.008;
const MOST_SLACK: f64 = 0.05;
/// Queues larger than this are not placed in other ways where the first works.
const MANY_REQUESTS: usize = 200_000;

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
        why_not: None,
        progress,
    };
    if let Some((bound, by)) = proved {
        solver.prove(bound, by);
    }
    match solver.run() {
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
    /// Why the last assignment could not be placed.
    why_not: Option<Unplaced>,
    progress: &'a mut dyn FnMut(Progress),
}

/// The relaxation solved over classes fine enough.
struct Relaxed {
    classes: Classes,
    columns: Vec<Column>,
    /// Deployments it was solved over; the prices of the others are such that they would not help.
    offered: Vec<bool>,
    solution: ClassSolution,
    /// Over single requests, at the solution's prices.
    pass: PassResult,
    /// A proof already that there is no plan.
    shortage: Option<Feasibility>,
}

impl Solver<'_> {
    /// Everything until the gap is met or time is up; a verdict only where there is no plan.
    fn run(&mut self) -> Result<Option<Verdict>, PlanError> {
        let relaxed = self.relax()?;
        self.class_lp = relaxed.solution.objective;
        if relaxed.solution.unserved > 1e-6 && self.best.is_none() {
            self.report(Phase::Certificate);
            let unproved = "the relaxation leaves requests unserved, but no certificate was found";
            let certificate = self.certificate(relaxed)?;
            return Ok(Some(certificate.map_or_else(|| Verdict::Unknown(unproved.into()), Verdict::Infeasible)));
        }
        // Shadow prices are in joules.
        if relaxed.solution.unserved <= 1e-6 && !self.ground.problem.is_weighted() {
            let ground = self.ground;
            let capacity = ground.capacity(ground.scale, &ground.unlimited);
            let capacity = CapacityInput { offered: &relaxed.offered, ..capacity };
            self.shadow_prices = shadow_prices(&capacity, &relaxed.solution)?;
        }
        let prices = &relaxed.solution.prices;
        let root = relaxed.solution.objective - relaxed.solution.requests_dual + relaxed.pass.total;
        self.prove(root - 1e-6 * root.abs(), "request pass at the relaxation's prices");

        self.report(Phase::Placement);
        self.plan_whole_instances(&relaxed)?;
        let worthwhile = self.worthwhile(&relaxed, root);
        self.search(prices, &worthwhile);

        // Deployments whose mere start costs more than the plan is worth need not be looked at again.
        let offered = self.worthwhile(&relaxed, root);
        self.cut(&relaxed, &offered)?;
        self.search(prices, &offered);
        Ok(None)
    }

    /// Deployments that a plan better than the best one may start: the others raise the root bound above it.
    fn worthwhile(&self, relaxed: &Relaxed, root: f64) -> Vec<bool> {
        let limit = self.best.as_ref().map_or(f64::INFINITY, Priced::objective) * (1.0 + 1e-6);
        let solution = &relaxed.solution;
        // Those the relaxation left out pay for their devices by the second, and for their start at once.
        let mut prices = solution.prices.clone();
        for (row, share) in prices.seconds.iter_mut().zip(&solution.start_share) {
            row.iter_mut().for_each(|price| *price = (*price - share).max(0.0));
        }
        let pass = request_pass(self.ground.problem, &prices, Some(&relaxed.offered), Objective::Energy);
        let outside = |v: usize| self.ground.problem.least_start_cost(v) - pass.gains[v];
        let gained: f64 =
            (0..prices.seconds.len()).filter(|&v| !relaxed.offered[v]).map(|v| (-outside(v)).max(0.0)).sum();
        let without = solution.objective - solution.requests_dual + pass.total - gained;
        let least = |v: usize| {
            if relaxed.offered[v] { root + solution.opening_cost[v] } else { without + outside(v).max(0.0) }
        };
        (0..prices.seconds.len()).map(|v| self.ground.offered[v] && least(v) <= limit).collect()
    }

    /// The relaxation over classes that are split where their members disagree at its prices, and over the deployments that
    /// some request would use at them.
    fn relax(&mut self) -> Result<Relaxed, PlanError> {
        let ground = self.ground;
        self.report(Phase::Classes);
        let mut classes = Classes::new(ground.problem);
        let free = request_pass(ground.problem, &Prices::zero(ground.problem), None, Objective::Energy);
        // All of them where that is cheap: their reduced costs then say best which ones cannot matter.
        let rows = ground.offered.len() * ground.problem.windows.len();
        let mut offered = if rows <= ALL_AT_ONCE { ground.offered.clone() } else { self.restricted(&free.cheapest) };
        let mut seed = Vec::new();
        let mut splits = 0;
        let mut asked = false;
        loop {
            self.report(Phase::Relaxation);
            let capacity = CapacityInput { offered: &offered, ..ground.capacity(ground.scale, &ground.unlimited) };
            let mut class_problem = ClassProblem::new(capacity, &classes, Objective::Energy, &seed)?;
            let infeasible = PlanError::Solver("the relaxation has no solution");
            let solution = class_problem.solve(self.deadline)?.ok_or(infeasible)?;
            let columns = class_problem.columns().to_vec();
            drop(class_problem);
            let pass = request_pass(ground.problem, &solution.prices, None, Objective::Energy);
            let missed = (solution.requests_dual - pass.total) / solution.objective.abs().max(f64::MIN_POSITIVE);
            // Too few deployments or too coarse classes may also be why something is left unserved.
            let improvable = solution.unserved > 1e-6 || missed > MERGING_OF_GAP * self.settings.gap;
            let mut changed = false;
            if improvable && Instant::now() < self.deadline {
                for (offered, wanted) in offered.iter_mut().zip(self.restricted(&pass.cheapest)) {
                    changed |= wanted && !*offered;
                    *offered |= wanted;
                }
                // Where there clearly is no room, no splitting makes any.
                if !changed && solution.unserved > 1e-6 && self.best.is_none() && !asked {
                    asked = true;
                    let found = feasibility::over_classes(ground, &classes, &columns, self.deadline)?;
                    if let Some(shortage) = found.filter(|found| found.is_clear(ground.problem)) {
                        return Ok(Relaxed { classes, columns, offered, solution, pass, shortage: Some(shortage) });
                    }
                }
                if splits < SPLIT_ROUNDS && classes.split_disagreeing(ground.problem, &pass.cheapest, MOST_CLASSES) > 0
                {
                    splits += 1;
                    changed = true;
                }
            }
            if !changed {
                return Ok(Relaxed { classes, columns, offered, solution, pass, shortage: None });
            }
            seed = columns_at(ground.problem, &classes, &solution.prices);
        }
    }

    /// Deployments in use that some node can hold.
    fn restricted(&self, assignment: &[u16]) -> Vec<bool> {
        let used = used(self.ground.problem, assignment);
        self.ground.offered.iter().zip(used).map(|(&offered, used)| offered && used).collect()
    }

    /// Takes a bound that is higher than the best so far.
    fn prove(&mut self, bound: f64, by: &'static str) {
        if bound > self.bound {
            (self.bound, self.bound_by) = (bound, by);
        }
    }

    /// Whole instances by diving, placed; with less of a pool each time placement finds no room there.
    fn plan_whole_instances(&mut self, relaxed: &Relaxed) -> Result<(), PlanError> {
        let ground = self.ground;
        let mut usable = ground.unlimited.clone();
        let mut enough = usable.clone();
        let until = self.started + self.settings.time_limit.mul_f64(0.6);
        // What the relaxation does not touch could only replace a deployment that diving closes; the search tries that.
        let in_use = |v: usize| relaxed.solution.instances[v].iter().any(|&n| n > 1e-6);
        let mut offered: Vec<bool> = (0..ground.offered.len()).map(|v| ground.offered[v] && in_use(v)).collect();
        let mut slack = LEAST_SLACK;
        for round in 0..TIGHTENINGS {
            if Instant::now() >= until || (round >= TIGHTENINGS_WITH_PLAN && self.best.is_some()) {
                break;
            }
            let capacity = CapacityInput {
                offered: &offered,
                purpose: Purpose::Placement { slack },
                ..ground.capacity(ground.scale, &usable)
            };
            let mut class_problem = ClassProblem::new(capacity, &relaxed.classes, Objective::Energy, &relaxed.columns)?;
            let whole =
                dive::dive(ground.problem, &mut class_problem, 0.02 * self.settings.gap * self.bound, self.deadline)?;
            if whole.unserved > 1e-6 && offered != ground.offered {
                offered.clone_from(&ground.offered);
                continue;
            }
            if whole.unserved > 1e-6 {
                // Too tight: half way back to what was enough.
                for (share, &enough) in usable.iter_mut().flatten().zip(enough.iter().flatten()) {
                    *share = 0.5 * (*share + enough);
                }
                continue;
            }
            enough.clone_from(&usable);
            self.class_mip.get_or_insert(whole.objective);
            let mut assignment = assign::from_shares(ground.problem, &relaxed.classes, &whole);
            let open = used(ground.problem, &assignment);
            if !assign::repair_floors(ground.problem, &whole.prices, &open, &mut assignment) {
                break;
            }
            let unplaced = self.offer(assignment, &whole, &whole.prices);
            slack = (2.0 * slack).min(MOST_SLACK);
            match unplaced {
                Some(Unplaced::NoRoom { shortages, .. } | Unplaced::NoPower { shortages, .. }) => {
                    tighten(ground.problem, &mut usable, &shortages)
                }
                Some(Unplaced::Late(..) | Unplaced::TooSlow(..) | Unplaced::OverCap) => {
                    usable.iter_mut().flatten().for_each(|share| *share *= 0.98);
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// Places an assignment, shaped as the relaxation loads it or as its own work asks, and keeps the best so far.
    /// Returns why neither could be placed.
    fn offer(&mut self, assignment: Vec<u16>, whole: &ClassSolution, prices: &Prices) -> Option<Unplaced> {
        let problem = self.ground.problem;
        let loaded = &whole.loaded;
        let settled = place::place_and_settle(problem, prices, &assignment, Shape::Whole(&whole.instances));
        // Settling knows neither hours nor cap beforehand: where there are any, the other ways may do better.
        let steady = !problem.is_weighted() && problem.power_room().is_none();
        let enough = settled.is_some() && steady && problem.workload.requests.len() > MANY_REQUESTS;
        if let Some(settled) = settled {
            self.keep_if_better(settled, prices);
        }
        if enough {
            return None;
        }
        let plain = place(problem, &assignment, Shape::Lanes(&Lanes::new()));
        let shaped = if problem.windows.len() > 1 || plain.is_err() {
            Some(place(problem, &assignment, Shape::Staircase(loaded)))
        } else {
            None
        };
        let mut reason = None;
        let mut placed = Vec::new();
        for attempt in std::iter::once(plain).chain(shaped) {
            match attempt {
                Ok(priced) => placed.push(priced),
                Err(why) => reason = Some(why),
            }
        }
        if placed.is_empty() {
            // What was placed may yet hold everything, dealt differently.
            for shape in [Shape::Staircase(loaded), Shape::Lanes(&Lanes::new())] {
                placed.extend(place::place_and_settle(problem, prices, &assignment, shape));
            }
        } else {
            reason = None;
        }
        for priced in placed {
            self.keep_if_better(priced, prices);
        }
        self.why_not.clone_from(&reason);
        reason
    }

    /// Keeps a schedule that beats the best one, with its requests dealt anew where that saves more.
    fn keep_if_better(&mut self, priced: Priced, prices: &Prices) {
        let objective = self.best.as_ref().map_or(f64::INFINITY, Priced::objective);
        if priced.objective() >= 1.02 * objective {
            return;
        }
        // Dealing a large queue anew takes a while: not where there is nothing more to gain.
        let met = gap(priced.objective(), self.bound) <= self.settings.gap;
        let work = self.ground.problem.workload.requests.len() * priced.schedule.instances.len();
        let resettled =
            if met || work > MOST_RESETTLED { None } else { place::resettle(self.ground.problem, prices, &priced) };
        for priced in std::iter::once(priced).chain(resettled) {
            if self.best.as_ref().is_none_or(|best| priced.objective() < best.objective()) {
                self.best = Some(priced);
            }
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
            None => feasibility::over_classes(self.ground, &relaxed.classes, &relaxed.columns, self.deadline)?,
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
        let class_mip = self.class_mip.unwrap_or(self.class_lp);
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

//! The order of work: classes, relaxation, request pass, whole instances, placement; then bound and plan improve each
//! other (`cuts`) until the gap or the time limit is met.
//!
//! The plan always comes out of placement and the bound always out of request passes, so a poor guess anywhere costs
//! quality, never truth.

mod cuts;

use std::time::{Duration, Instant};

use super::assign;
use super::bound::Master;
use super::capacity::{CapacityInput, Integers, Scale};
use super::classes::Classes;
use super::dive;
use super::hints::{tighten, used};
use super::place::{self, Lanes, Shape, Unplaced, place};
use super::price::Priced;
use super::prices::{Objective, PassResult, Prices, request_pass};
use super::problem::PlanProblem;
use super::relaxation::{ClassProblem, ClassSolution, Column, columns_at, scale};
use super::search;
use super::{Infeasibility, Phase, Plan, PlanError, Progress, Settings, Verdict};

/// Classes after splitting, at most.
const MOST_CLASSES: usize = 4000;
/// Rounds of splitting, at most; they end sooner when merging costs less than this share of the gap asked for.
const SPLIT_ROUNDS: usize = 6;
const MERGING_OF_GAP: f64 = 0.2;
/// Rounds of "placement lacks room: plan with less of that pool".
const TIGHTENINGS: usize = 48;
/// Of which so many once there is a plan.
const TIGHTENINGS_WITH_PLAN: usize = 6;
/// Requests times instances up to which a plan is dealt anew to see whether that saves more.
const MOST_RESETTLED: usize = 50_000_000;
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
    let ground = Ground {
        problem,
        scale: scale(problem, free.total),
        total_work: problem.total_work(),
        offered: problem.offered(),
        unlimited: vec![vec![1.0; problem.windows.len()]; problem.cluster.pools.len() + 1],
    };
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

impl Ground<'_> {
    fn capacity<'b>(&'b self, scale: Scale, usable: &'b [Vec<f64>]) -> CapacityInput<'b> {
        CapacityInput {
            problem: self.problem,
            scale,
            integers: Integers::Relaxed,
            total_work: &self.total_work,
            usable,
            offered: &self.offered,
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
    /// Why the last assignment could not be placed.
    why_not: Option<Unplaced>,
    progress: &'a mut dyn FnMut(Progress),
}

/// The relaxation solved over classes fine enough.
struct Relaxed {
    classes: Classes,
    columns: Vec<Column>,
    solution: ClassSolution,
    /// Over single requests, at the solution's prices.
    pass: PassResult,
}

impl Solver<'_> {
    /// Everything until the gap is met or time is up; a verdict only where there is no plan.
    fn run(&mut self) -> Result<Option<Verdict>, PlanError> {
        let relaxed = self.relax()?;
        self.class_lp = relaxed.solution.objective;
        if relaxed.solution.unserved > 1e-6 && self.best.is_none() {
            self.report(Phase::Certificate);
            let unproved = "the relaxation leaves requests unserved, but no certificate was found";
            let certificate = self.certificate(&relaxed)?;
            return Ok(Some(certificate.map_or_else(|| Verdict::Unknown(unproved.into()), Verdict::Infeasible)));
        }
        let prices = &relaxed.solution.prices;
        let root = relaxed.solution.objective - relaxed.solution.requests_dual + relaxed.pass.total;
        self.prove(root - 1e-6 * root.abs(), "request pass at the relaxation's prices");

        self.report(Phase::Placement);
        self.plan_whole_instances(&relaxed)?;
        let worthwhile = self.worthwhile(&relaxed.solution, root);
        self.search(prices, &worthwhile);

        // Deployments whose mere start costs more than the plan is worth need not be looked at again.
        let offered = self.worthwhile(&relaxed.solution, root);
        self.cut(&relaxed, &offered)?;
        self.search(prices, &offered);
        Ok(None)
    }

    /// Deployments that a plan better than the best one may start: the others raise the root bound above it.
    fn worthwhile(&self, root: &ClassSolution, root_bound: f64) -> Vec<bool> {
        let limit = self.best.as_ref().map_or(f64::INFINITY, Priced::objective) * (1.0 + 1e-6);
        let offered = self.ground.offered.iter().zip(&root.opening_cost);
        offered.map(|(&offered, &opening)| offered && root_bound + opening <= limit).collect()
    }

    /// Classes, split where their members disagree at the prices, and the relaxation over them.
    fn relax(&mut self) -> Result<Relaxed, PlanError> {
        let ground = self.ground;
        self.report(Phase::Classes);
        let mut classes = Classes::new(ground.problem);
        let mut seed = Vec::new();
        let mut round = 0;
        loop {
            self.report(Phase::Relaxation);
            let capacity = ground.capacity(ground.scale, &ground.unlimited);
            let mut class_problem = ClassProblem::new(capacity, &classes, Objective::Energy, &seed)?;
            let infeasible = PlanError::Solver("the relaxation has no solution");
            let solution = class_problem.solve(self.deadline)?.ok_or(infeasible)?;
            let columns = class_problem.columns().to_vec();
            drop(class_problem);
            let pass = request_pass(ground.problem, &solution.prices, None, Objective::Energy);
            let merging = (solution.requests_dual - pass.total) / solution.objective.abs().max(f64::MIN_POSITIVE);
            // Too coarse a class may use too few deployments, so splitting may also serve what is left unserved.
            let coarse = solution.unserved > 1e-6 || merging > MERGING_OF_GAP * self.settings.gap;
            let finer = coarse
                && round < SPLIT_ROUNDS
                && Instant::now() < self.deadline
                && classes.split_disagreeing(ground.problem, &pass.cheapest, MOST_CLASSES) > 0;
            if finer {
                seed = columns_at(ground.problem, &classes, &solution.prices);
                round += 1;
                continue;
            }
            return Ok(Relaxed { classes, columns, solution, pass });
        }
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
        for round in 0..TIGHTENINGS {
            if Instant::now() >= until || (round >= TIGHTENINGS_WITH_PLAN && self.best.is_some()) {
                break;
            }
            let capacity = CapacityInput { offered: &offered, ..ground.capacity(ground.scale, &usable) };
            let mut class_problem = ClassProblem::new(capacity, &relaxed.classes, Objective::Energy, &relaxed.columns)?;
            let whole = dive::dive(ground.problem, &mut class_problem, self.deadline)?;
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
            let mut assignment = assign::from_shares(ground.problem, &relaxed.classes, &whole, &whole.prices);
            let open = used(ground.problem, &assignment);
            if !assign::repair_floors(ground.problem, &whole.prices, &open, &mut assignment) {
                break;
            }
            match self.offer(assignment, &whole.loaded, &whole.prices) {
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
    fn offer(&mut self, assignment: Vec<u16>, loaded: &[Vec<f64>], prices: &Prices) -> Option<Unplaced> {
        let problem = self.ground.problem;
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
    fn certificate(&mut self, relaxed: &Relaxed) -> Result<Option<Infeasibility>, PlanError> {
        let ground = self.ground;
        let unpriced = Scale { energy: f64::INFINITY, ..ground.scale };
        let capacity = ground.capacity(unpriced, &ground.unlimited);
        let mut class_problem =
            ClassProblem::new(capacity, &relaxed.classes, Objective::Feasibility, &relaxed.columns)?;
        let Some(solution) = class_problem.solve(self.deadline)? else { return Ok(None) };
        let pass = request_pass(ground.problem, &solution.prices, None, Objective::Feasibility);
        let mut master = Master::new(ground.capacity(unpriced, &ground.unlimited), Objective::Feasibility)?;
        master.add_cut(&solution.prices, &pass, None)?;
        master.solve(self.slice(0.5), 1e-4)?;
        // In requests' worth: positive means that this many cannot be served at once.
        let missing = master.bound();
        Ok((missing > 1e-6).then_some(Infeasibility::Certificate { missing_requests: missing }))
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

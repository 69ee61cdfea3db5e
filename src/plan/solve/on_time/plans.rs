//! Plans of a single node: which instances, how long the node is on with them, and who serves what.
//!
//! Prices of requests, floors and seconds say which instances are worth having. With these given, a linear programme says how
//! long they are on and deals requests to them so that all are done at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::Standing;
use crate::domain::Schedule;
use crate::plan::PlanError;
use crate::plan::assign::repair_floors;
use crate::plan::budget::{Budget, Ranges, Sites};
use crate::plan::facility::{
    Choice, Instances, Location, Restriction, Search, instances_of, locate, share_out, starts, taken_over,
};
use crate::plan::hints::used;
use crate::plan::place::{Shape, place, place_and_settle};
use crate::plan::price::{self, Priced};
use crate::plan::problem::PlanProblem;
use crate::plan::settle::Counting;
use crate::plan::solve::Solver;
use crate::units::Seconds;

/// Share of the time limit for choosing the instances of one plan.
const SHARE_OF_PLAN: f64 = 0.08;
/// Steps of prices where a plan is looked for.
const STEPS: usize = 100;
/// Budgets are alike where they differ by less: a plan for one will do for the other.
const ALIKE: f64 = 0.98;
/// A plan may take so many times its budget, for whole requests do not fill instances exactly; and how near the least is found.
const MOST_ROOM: f64 = 1.2;
const LEAST_ROOM: f64 = 2e-3;

/// What plans were looked for with.
pub(super) struct Tried<'a> {
    /// Within all the time there is, over wide cells.
    wide: Sites<'a>,
    search: Search,
    /// Ranges that were open, and the seconds there were.
    open: Vec<(Vec<usize>, f64)>,
    planned: BTreeSet<Instances>,
}

impl<'a> Tried<'a> {
    pub(super) fn new(wide: Sites<'a>) -> Self {
        Self { wide, search: Search::default(), open: Vec::new(), planned: BTreeSet::new() }
    }

    /// Whether a plan may be found where these ranges are open for so many seconds that was not before; asked once.
    pub(super) fn is_new(&mut self, located: &Location, seconds: f64) -> bool {
        let set = located.mostly_open();
        let alike = |budget: f64| (ALIKE..1.0 / ALIKE).contains(&(budget / seconds));
        if self.open.iter().any(|(known, budget)| *known == set && alike(*budget)) {
            return false;
        }
        self.open.push((set, seconds));
        true
    }
}

impl Solver<'_> {
    /// A plan that has the node on for `budget` seconds, or a little more, if one is found; each device-second at
    /// `least_second` or more.
    pub(super) fn plan_within(
        &mut self,
        ranges: &Ranges,
        standing: &Standing,
        budget: f64,
        least_second: f64,
        tried: &mut Tried,
        until: Instant,
    ) -> Result<(), PlanError> {
        let Some(sites) = ranges.sites(self.ground.problem, budget) else { return Ok(()) };
        let sites = Sites { least_second, ..sites };
        match locate(&sites, &Restriction::none(&sites), None, STEPS, f64::INFINITY, until) {
            Some(location) => self.plan_at(&sites, standing, &location, tried, until),
            None => Ok(()),
        }
    }

    /// Plans of what `location` opens within the budget of `sites`, or a little more, and of the instances that cost least.
    pub(super) fn plan_at(
        &mut self,
        sites: &Sites,
        standing: &Standing,
        location: &Location,
        tried: &mut Tried,
        until: Instant,
    ) -> Result<(), PlanError> {
        if let Some(choice) = taken_over(sites, location) {
            self.plan_choice(sites, location, standing, choice);
        }
        let (problem, ranges) = (self.ground.problem, sites.ranges);
        let choosing = (Instant::now() + self.settings.time_limit.mul_f64(SHARE_OF_PLAN)).min(until);
        let mut starts = starts(&tried.wide, location);
        starts.extend(self.best.as_ref().map(|best| instances_of(&tried.wide, &best.schedule)));
        let found = tried.search.go_on(&tried.wide, starts, standing.power, choosing)?;
        let Some(shared) = found.filter(|shared| tried.planned.insert(shared.instances.clone())) else { return Ok(()) };
        // What is too long for so many seconds goes elsewhere the second time.
        let mut budget = problem.horizon() - standing.wake;
        for _ in 0..if standing.power > 0.0 { 2 } else { 1 } {
            let Some(sites) = ranges.sites(problem, budget) else { break };
            let time = self.slice(SHARE_OF_PLAN);
            let Some(shared) = share_out(&sites, &shared.instances, standing.power, time)? else { break };
            let Some(choice) = shared.choice(&sites) else { break };
            budget = shared.seconds;
            self.plan_choice(&Sites { budget, ..sites }, location, standing, choice);
        }
        Ok(())
    }

    fn plan_choice(&mut self, sites: &Sites, location: &Location, standing: &Standing, mut choice: Choice) {
        let problem = self.ground.problem;
        let prices = location.multipliers.of_requests(problem);
        let open = used(problem, &choice.assignment);
        if !repair_floors(problem, &prices, &open, &mut choice.assignment) {
            return;
        }
        let lanes = choice.lanes(sites.ranges);
        let count = |(&v, &count): (&usize, &usize)| count * problem.deployments()[v].devices as usize;
        let at_once = lanes.iter().map(count).sum::<usize>() <= problem.cluster.pools[0].free_devices(0).len();
        if at_once {
            self.plan_side_by_side(sites, location, standing, &choice.assignment, &lanes);
        }
        // One after the other where they have no room side by side.
        if let Ok(found) = place(problem, &choice.assignment, Shape::Lanes(&lanes)) {
            self.keep(found);
        }
    }

    /// Plans of instances side by side, for as little more than the budget as does.
    fn plan_side_by_side(
        &mut self,
        sites: &Sites,
        location: &Location,
        standing: &Standing,
        assignment: &[u16],
        lanes: &BTreeMap<usize, usize>,
    ) {
        let problem = self.ground.problem;
        let mut planned = |room: f64| {
            let within = Budget::new(problem, room * sites.budget);
            let within = within.problem(problem);
            let mut instances = vec![vec![0.0; within.windows.len()]; problem.deployments().len()];
            for (&v, &count) in lanes {
                instances[v].fill(count as f64);
            }
            let prices = location.multipliers.of_requests(&within);
            let placed = place_and_settle(&within, &prices, assignment, Shape::Whole(&instances), Counting::Work);
            let found = placed.ok().and_then(|(settled, _)| settled.priced);
            let planned = found.is_some();
            found.into_iter().for_each(|found| self.keep(later(problem, standing.wake, found.schedule)));
            planned
        };
        let (mut little, mut enough) = (1.0, if standing.power > 0.0 { MOST_ROOM } else { 1.0 });
        if !planned(enough) {
            return;
        }
        while enough - little > LEAST_ROOM {
            let middle = 0.5 * (little + enough);
            *(if planned(middle) { &mut enough } else { &mut little }) = middle;
        }
    }

    /// Keeps what beats the best plan.
    fn keep(&mut self, found: Priced) {
        if self.best.as_ref().is_none_or(|best| found.objective() < best.objective()) {
            self.best = Some(found);
        }
    }
}

/// A schedule that starts `seconds` later, priced where nodes sleep.
fn later(problem: &PlanProblem, seconds: f64, mut schedule: Schedule) -> Priced {
    for instance in &mut schedule.instances {
        (instance.start, instance.end) = (instance.start + Seconds(seconds), instance.end + Seconds(seconds));
    }
    price::price(problem, schedule)
}

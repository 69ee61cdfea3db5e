//! A node that can sleep: how long it is on decides most of what a small queue costs, and no price of its seconds tells.
//!
//! Let tau be the seconds a plan has the node on, its wakes left out, and R(tau) the least that starts and requests cost on a
//! node that never sleeps where all is due within tau seconds ([`Budget`]). R only falls with tau. Hence, with B watts of
//! the powered node, omega seconds and Omega joules of a wake, every plan with tau in [from, to] costs at least
//!
//! ```text
//! B (omega + from) + Omega + R(to)
//! ```
//!
//! for it wakes at least once, and what runs after a later wake could as well run sooner. Intervals are divided where this
//! is least, until all of them reach the best plan but for the gap. Where one is short, a plan within it is looked for, too.

use std::time::Instant;

use super::Solver;
use crate::domain::Schedule;
use crate::plan::assign::repair_floors;
use crate::plan::budget::{Budget, Ranges, Sites};
use crate::plan::facility::{Location, Scarcity, choose, locate};
use crate::plan::hints::used;
use crate::plan::place::{Shape, place, place_and_settle};
use crate::plan::price::{self, Priced};
use crate::plan::prices::{Objective, Prices, request_pass};
use crate::plan::problem::PlanProblem;
use crate::plan::settle::Counting;
use crate::plan::{Phase, PlanError};
use crate::units::Seconds;

/// Requests up to which it pays.
const MOST_REQUESTS: usize = 50_000;
/// Requests times ranges up to which it leaves time for the rest.
const MOST_OFFERS: usize = 2_000_000;
/// Shares of the time limit for it, where the node sleeps and where it never does, and for choosing the instances of one
/// plan.
const SHARE_OF_TIME: f64 = 0.4;
const SHARE_AWAKE: f64 = 0.2;
const SHARE_OF_PLAN: f64 = 0.05;
/// Times the shortest budget that all work takes on all devices at least, up to which the node's time is worth dividing:
/// beyond, it is the work that counts, whose price the relaxation knows.
const UNDERLOADED: f64 = 5.0;
/// Of the gap: what an interval may lose by its length, and what another round of prices has to gain.
const LENGTH_OF_GAP: f64 = 1.0;
const WORTH_OF_GAP: f64 = 0.1;
/// Intervals whose ends differ by less than this share are looked into for a plan ...
const SHORT: f64 = 0.06;
/// ... within so many times their end, one after the other: whole requests do not fill instances exactly.
const ROOM: [f64; 3] = [1.0, 1.015, 1.05];
/// Rounds of prices for a bound, and for a plan.
const ROUNDS: usize = 8;
const PLAN_ROUNDS: usize = 4;
/// Plans are first looked for within so many times the shortest budget.
const FIRST_PLANS: [f64; 2] = [1.15, 1.5];
const BOUND_BY: &str = "dual ascent over requests, by intervals of the seconds the node is on";

/// Plans whose node is on for `from` to `to` seconds.
#[derive(Clone)]
struct Interval {
    from: f64,
    to: f64,
    /// R(to), at least.
    least: f64,
    /// Prices that prove it.
    prices: Option<Scarcity>,
}

/// What being on costs.
struct Standing {
    /// B
    power: f64,
    wake: f64,
    /// Omega
    wake_energy: f64,
}

impl Standing {
    /// `None` where there is more than one node, or anything but joules and one node's time to go by.
    fn of(problem: &PlanProblem) -> Option<Self> {
        let [pool] = &problem.cluster.pools[..] else { return None };
        let one = pool.nodes.len() == 1 && !problem.others_hold();
        let plain = !problem.is_weighted() && problem.power_room().is_none();
        let few = problem.workload.requests.len() <= MOST_REQUESTS;
        // What is released later would have to wait, which a shifted schedule does not.
        let released = problem.workload.groups.iter().all(|group| group.release.0 <= problem.wake(0));
        (one && plain && few && released).then(|| Self {
            power: problem.billed_power(0),
            wake: problem.wake(0),
            wake_energy: problem.net_wake_energy(0),
        })
    }

    /// Joules of one wake and `seconds` on.
    fn energy(&self, seconds: f64) -> f64 {
        self.power * (self.wake + seconds) + self.wake_energy
    }

    fn bound(&self, interval: &Interval) -> f64 {
        self.energy(interval.from) + interval.least
    }
}

impl Solver<'_> {
    /// Bound and plan of a single node; nothing where there are more. One that never sleeps is on for nothing, and all of
    /// its time is one interval.
    pub(super) fn limit_on_time(&mut self) -> Result<(), PlanError> {
        let problem = self.ground.problem;
        let Some(standing) = Standing::of(problem) else { return Ok(()) };
        let share = if standing.power > 0.0 { SHARE_OF_TIME } else { SHARE_AWAKE };
        let until = (Instant::now() + self.settings.time_limit.mul_f64(share)).min(self.deadline);
        self.report(Phase::Bound);
        let ranges = Ranges::new(problem);
        if ranges.count() * problem.workload.requests.len() > MOST_OFFERS {
            return Ok(());
        }
        let most = problem.horizon() - standing.wake;
        let shortest = ranges.shortest(problem);
        if !(shortest..).contains(&most) {
            return Ok(());
        }
        let devices = problem.cluster.pools[0].free_devices(0).len().max(1) as f64;
        if standing.power > 0.0 && ranges.least_work(problem) / devices > UNDERLOADED * shortest {
            return Ok(());
        }
        // Every request at its cheapest, and nothing ever started.
        let free = request_pass(problem, &Prices::zero(problem), None, Objective::Energy).total;
        let all = Interval { from: shortest, to: most, least: free, prices: None };
        self.prove((1.0 - 1e-6) * standing.bound(&all), BOUND_BY);
        let mut intervals = vec![all];
        let first = FIRST_PLANS.iter().filter(|_| standing.power > 0.0);
        let mut tried: Vec<f64> = first.map(|times| (times * shortest).min(most)).collect();
        for &budget in &tried {
            self.plan_within(&ranges, standing.wake, budget, 0.0, self.plan_until(until));
        }
        let second = standing.power / devices;
        self.plan_within(&ranges, standing.wake, most, second, self.plan_until(until));
        while Instant::now() < until {
            let least = intervals.iter().enumerate().min_by(|a, b| standing.bound(a.1).total_cmp(&standing.bound(b.1)));
            let Some((index, interval)) = least else { break };
            let interval = interval.clone();
            let bound = standing.bound(&interval);
            self.prove(bound - 1e-6 * bound.abs(), BOUND_BY);
            self.report(Phase::Bound);
            if self.done() {
                break;
            }
            let Interval { from, to, .. } = interval;
            let known = tried.iter().any(|&budget| (0.98..1.02).contains(&(budget / to)));
            if to - from <= SHORT * to && !known {
                tried.push(to);
                self.plan_within(&ranges, standing.wake, to, 0.0, self.plan_until(until));
                continue;
            }
            let best = self.best.as_ref().map_or(f64::INFINITY, Priced::objective);
            let margin = self.settings.gap * best.min(2.0 * standing.energy(to));
            if standing.power * (to - from) <= LENGTH_OF_GAP * margin {
                // Short enough: only better prices raise it.
                let found = self.located(&ranges, to, interval.prices.as_ref(), best - standing.energy(from));
                let found = found.filter(|found| found.bound > interval.least + WORTH_OF_GAP * margin);
                let Some(Location { bound: least, prices, .. }) = found else { break };
                intervals[index] = Interval { least, prices: Some(prices), ..interval };
                continue;
            }
            let middle = self.middle(&standing, &interval, best);
            let target = best * (1.0 - self.settings.gap);
            let found = self.located(&ranges, middle, interval.prices.as_ref(), target - standing.energy(from));
            let least = found.as_ref().map_or(f64::INFINITY, |found| found.bound).max(interval.least);
            let prices = found.map(|found| found.prices).or(interval.prices.clone());
            intervals[index] = Interval { from: middle, ..interval };
            intervals.push(Interval { from, to: middle, least, prices });
        }
        Ok(())
    }

    /// When to give up looking for one plan.
    fn plan_until(&self, until: Instant) -> Instant {
        (Instant::now() + self.settings.time_limit.mul_f64(SHARE_OF_PLAN)).min(until)
    }

    /// Where to divide an interval: where nothing beyond can be better than the best plan, or half way.
    fn middle(&self, standing: &Standing, interval: &Interval, best: f64) -> f64 {
        let &Interval { from, to, least, .. } = interval;
        let beyond = (best - least - standing.wake_energy) / standing.power - standing.wake;
        let half = (from.max(1e-3 * to) * to).sqrt().min(1.4 * from.max(1.0));
        if beyond > from && beyond < 0.9 * half { beyond } else { half }
    }

    /// R(budget) at least, not looked into further once it is `enough`; `None` if some request fits nowhere.
    fn located(&self, ranges: &Ranges, budget: f64, known: Option<&Scarcity>, enough: f64) -> Option<Location> {
        let sites = ranges.sites(self.ground.problem, budget)?;
        Some(locate(&sites, known, ROUNDS, enough))
    }

    /// A plan that has the node on for `budget` seconds, or a little more, if one is found; each device-second at
    /// `least_second` or more.
    fn plan_within(&mut self, ranges: &Ranges, wake: f64, budget: f64, least_second: f64, until: Instant) {
        let problem = self.ground.problem;
        let Some(sites) = ranges.sites(problem, budget) else { return };
        let sites = Sites { least_second, ..sites };
        let location = locate(&sites, None, PLAN_ROUNDS, f64::INFINITY);
        let Some(mut choice) = choose(&sites, &location, until) else { return };
        let prices = location.prices.of_requests(problem);
        let open = used(problem, &choice.assignment);
        if !repair_floors(problem, &prices, &open, &mut choice.assignment) {
            return;
        }
        let count = |&(v, count): &(usize, usize)| count * problem.deployments()[v].devices as usize;
        let at_once =
            choice.instances.iter().map(count).sum::<usize>() <= problem.cluster.pools[0].free_devices(0).len();
        for room in ROOM.into_iter().filter(|_| at_once) {
            let within = Budget::new(problem, room * budget);
            let within = within.problem(problem);
            let mut instances = vec![vec![0.0; within.windows.len()]; problem.deployments().len()];
            for &(v, count) in &choice.instances {
                instances[v].fill(count as f64);
            }
            let prices = location.prices.of_requests(&within);
            let placed =
                place_and_settle(&within, &prices, &choice.assignment, Shape::Whole(&instances), Counting::Work);
            if let Some(found) = placed.ok().and_then(|settled| settled.priced) {
                self.keep(later(problem, wake, found.schedule));
            }
        }
        // One after the other where they have no room side by side.
        let lanes = choice.instances.iter().copied().collect();
        if let Ok(found) = place(problem, &choice.assignment, Shape::Lanes(&lanes)) {
            self.keep(found);
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

//! A node that can sleep: how long it is on decides most of what a small queue costs, and no price of its seconds tells.
//!
//! Let tau be the seconds a plan has the node on, its wakes left out, and R(tau) the least that starts and requests cost on a
//! node that never sleeps where all is due within tau seconds (`budget`). R only falls with tau. Hence, with B watts of
//! the powered node, omega seconds and Omega joules of a wake, every plan with tau in [from, to] costs at least
//!
//! ```text
//! B (omega + from) + Omega + R(to)
//! ```
//!
//! for it wakes at least once, and what runs after a later wake could as well run sooner. All plans are divided where this is
//! least, by the seconds the node is on and then by what is open and how often, until all parts reach the best plan but for
//! the gap. Where the seconds hardly differ, a plan within them is looked for, too. A node that never sleeps is on for
//! nothing: its plans are divided by what is open alone.

mod plans;

use std::time::Instant;

use self::plans::Tried;
use super::Solver;
use crate::plan::budget::{Ranges, Sites};
use crate::plan::facility::{Location, Restriction, locate};
use crate::plan::price::Priced;
use crate::plan::prices::{Objective, Prices, request_pass};
use crate::plan::problem::PlanProblem;
use crate::plan::{Phase, PlanError};

/// Requests up to which it pays.
const MOST_REQUESTS: usize = 50_000;
/// Shares of the time limit for it, where the node sleeps and where it never does.
const SHARE_OF_TIME: f64 = 0.6;
const SHARE_AWAKE: f64 = 0.4;
/// Times the shortest budget that all work takes on all devices at least, up to which the node's time is worth dividing:
/// beyond, it is the work that counts, whose price the relaxation knows.
const UNDERLOADED: f64 = 5.0;
/// Cells times ranges where sets of instances are compared.
const WIDE_OFFERS: usize = 80_000;
/// Of the gap there still is: what a part may lose by the length of its time, if that is more than the gap asked for.
const LENGTH_OF_GAP: f64 = 0.2;
/// Of the gap: what more steps have to gain where nothing is left to divide.
const WORTH_OF_GAP: f64 = 0.1;
/// Steps of prices: for the first bound, and for that of a part.
const ROOT_STEPS: usize = 400;
const STEPS: usize = 120;
/// Plans are first looked for within so many times the shortest budget.
const FIRST_PLANS: [f64; 2] = [1.15, 1.5];
/// Share taken off each bound, for rounding.
const MARGIN: f64 = 1e-6;
const BOUND_BY: &str = "levels of requests, by seconds the node is on and by what is open";

/// Plans whose node is on for `from` to `to` seconds and that open what a restriction leaves.
#[derive(Clone)]
struct Part {
    from: f64,
    to: f64,
    restriction: Restriction,
    /// R(to), at least.
    least: f64,
    /// What proves it; nothing where not looked into yet.
    located: Option<Location>,
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

    fn bound(&self, part: &Part) -> f64 {
        self.energy(part.from) + part.least
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
        let Some(sites) = ranges.sites(problem, most) else { return Ok(()) };
        let all = Part { from: shortest, to: most, restriction: Restriction::none(&sites), least: free, located: None };
        self.prove((1.0 - MARGIN) * standing.bound(&all), BOUND_BY);
        let wide = ranges.over_cells(problem, WIDE_OFFERS / ranges.count().max(1));
        let Some(wide) = wide.sites(problem, most) else { return Ok(()) };
        let mut tried = Tried::new(wide);
        if standing.power > 0.0 {
            for times in FIRST_PLANS {
                self.plan_within(&ranges, &standing, (times * shortest).min(most), 0.0, &mut tried, until)?;
            }
            self.plan_within(&ranges, &standing, most, standing.power / devices, &mut tried, until)?;
        }
        self.divide(&ranges, &standing, all, tried, until)
    }

    /// Divides `all` plans where their bound is least, by time and by what is open, until all parts reach the best plan but
    /// for the gap, or `until`.
    fn divide(
        &mut self,
        ranges: &Ranges,
        standing: &Standing,
        all: Part,
        mut tried: Tried,
        until: Instant,
    ) -> Result<(), PlanError> {
        let mut parts = vec![all];
        // Least bound of a part that cannot be divided.
        let mut whole = f64::INFINITY;
        while Instant::now() < until {
            let least = parts.iter().enumerate().min_by(|a, b| standing.bound(a.1).total_cmp(&standing.bound(b.1)));
            let bound = least.map_or(whole, |(_, part)| standing.bound(part).min(whole));
            self.prove((1.0 - MARGIN) * bound, BOUND_BY);
            self.report(Phase::Bound);
            let Some((index, part)) = least.filter(|(_, part)| standing.bound(part) < whole && !self.done()) else {
                break;
            };
            let Part { from, to, .. } = *part;
            let part = parts.swap_remove(index);
            let best = self.best.as_ref().map_or(f64::INFINITY, Priced::objective);
            let margin = self.settings.gap * best.min(2.0 * standing.energy(to));
            let length = (standing.power * (to - from)).min(best);
            if length > margin && length > LENGTH_OF_GAP * (best - bound) {
                let middle = self.middle(standing, &part, best);
                parts.push(Part { from: middle, ..part.clone() });
                let sooner = ranges.sites(self.ground.problem, middle);
                parts.extend(
                    sooner.map(|sites| self.located(&sites, standing, Part { to: middle, ..part }, STEPS, until)),
                );
                continue;
            }
            let Some(sites) = ranges.sites(self.ground.problem, to) else { continue };
            let Some(located) = &part.located else {
                parts.push(self.located(&sites, standing, part, ROOT_STEPS, until));
                continue;
            };
            if tried.is_new(located, to) {
                self.plan_at(&sites, standing, located, &mut tried, until)?;
                parts.push(part);
                continue;
            }
            if let Some(branch) = part.restriction.branch(&sites, &located.open, &located.instances) {
                for restriction in part.restriction.divide(&branch) {
                    parts.push(self.located(&sites, standing, Part { restriction, ..part.clone() }, STEPS, until));
                }
                continue;
            }
            // More steps may still raise it.
            let before = part.least;
            let part = self.located(&sites, standing, part, ROOT_STEPS, until);
            if part.least - before > WORTH_OF_GAP * margin {
                parts.push(part);
            } else {
                whole = whole.min(standing.bound(&part));
            }
        }
        Ok(())
    }

    /// Where to divide the time of a part: where nothing beyond can be better than the best plan, or half way.
    fn middle(&self, standing: &Standing, part: &Part, best: f64) -> f64 {
        let &Part { from, to, least, .. } = part;
        let beyond = (best - least - standing.wake_energy) / standing.power - standing.wake;
        let half = (from.max(1e-3 * to) * to).sqrt().min(1.4 * from.max(1.0));
        if beyond > from && beyond < 0.9 * half { beyond } else { half }
    }

    /// The part with its bound raised, `sites` being those within its seconds: no further than is needed, for what is closed
    /// as useless is so only to plans that are better.
    fn located(&self, sites: &Sites, standing: &Standing, part: Part, steps: usize, until: Instant) -> Part {
        let best = self.best.as_ref().map_or(f64::INFINITY, Priced::objective);
        // With the margin taken off, it still reaches the gap.
        let enough = best * (1.0 - self.settings.gap) * (1.0 + 2.0 * MARGIN) - standing.energy(part.from);
        let known = part.located.as_ref().map(|located| &located.multipliers);
        let located = locate(sites, &part.restriction, known, steps, enough, until);
        let found = located.as_ref().map_or(f64::INFINITY, |located| located.bound);
        let mut restriction = part.restriction;
        if let Some(Location { bound, unpaid, .. }) = &located {
            restriction.close_useless(*bound, unpaid, enough);
        }
        Part { least: found.min(enough).max(part.least), restriction, located, ..part }
    }
}

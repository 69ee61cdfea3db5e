//! Relaxations are enough, and most of them the smallest, by enumeration; prices agree with one-sided differences of the
//! linear programme they come from.

use std::time::Duration;

use jouleplan::domain::AccuracyRule;
use jouleplan::options::Options;
use jouleplan::plan::capacity::{CapacityInput, Integers, Purpose};
use jouleplan::plan::classes::Classes;
use jouleplan::plan::limits::shadow_prices::shadow_prices;
use jouleplan::plan::limits::{Limit, Trial, smallest};
use jouleplan::plan::prices::Objective;
use jouleplan::plan::relaxation::{ClassProblem, ClassSolution, scale};
use jouleplan::plan::{PlanProblem, Settings, Verdict, solve};
use jouleplan::units::Seconds;
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::{Enumeration, Small};

const CASES: u64 = 60;

fn tight(seed: u64) -> Small {
    let rng = &mut ChaCha8Rng::seed_from_u64(seed);
    let mut small = Small::new(rng);
    for job in &mut small.workload.jobs {
        job.deadline.0 *= rng.random_range(0.2..1.0);
        if rng.random_bool(0.3) {
            job.floor.get_or_insert(jouleplan::domain::Floor { percent: 60.0, rule: AccuracyRule::Mean }).percent +=
                15.0;
        }
    }
    for group in &mut small.workload.groups {
        group.deadline = small.workload.jobs[group.job].deadline;
    }
    small
}

/// Whether any schedule keeps the limits, by enumeration.
fn possible(problem: &PlanProblem) -> bool {
    let small = Small {
        workload: problem.workload.clone(),
        cluster: problem.cluster.clone(),
        models: problem.models.to_vec(),
        accuracy: Default::default(),
    };
    let options: Options = problem.options.clone();
    Enumeration::new(&small, &options).optimum().1.is_some()
}

#[test]
fn relaxations_are_enough_and_most_are_the_smallest() {
    let mut kinds = [0; 4];
    let (mut printed, mut unverified, mut loose) = (0, 0, Vec::new());
    for seed in 0..CASES {
        let small = tight(seed);
        let options = small.options();
        let problem = PlanProblem::new(&small.workload, &small.cluster, &small.models, &options, 0.0);
        let settings = Settings { gap: 1.0, time_limit: Duration::from_secs(3), ..Settings::default() };
        let Verdict::Infeasible(why) = solve(&problem, &settings, None, &mut |_| {}).unwrap() else { continue };
        let mut trial = Trial::new(&problem);
        for relaxation in smallest(&problem, &why, Duration::from_secs(2), &mut |_, _| true) {
            if !relaxation.verified {
                // A busy machine.
                unverified += 1;
                continue;
            }
            let amount = relaxation.amount;
            assert!(trial.with(&relaxation.limit, amount, possible), "seed {seed}: {relaxation:?} is not enough");
            let less = match relaxation.limit {
                Limit::Nodes(_) => amount - 1.0,
                Limit::Deadline(_) => 0.9 * amount,
                Limit::Accuracy(_) => (0.9 * amount).min(amount - 0.01),
            };
            if let Some(too_little) = relaxation.too_little {
                assert!(too_little < amount && !trial.with(&relaxation.limit, too_little, possible), "seed {seed}");
            }
            if trial.with(&relaxation.limit, less, possible) {
                loose.push(format!("seed {seed}: {relaxation:?}"));
            }
            printed += 1;
            kinds[match &relaxation.limit {
                Limit::Deadline(jobs) if jobs.len() == 1 => 0,
                Limit::Deadline(_) => 1,
                Limit::Accuracy(_) => 2,
                Limit::Nodes(_) => 3,
            }] += 1;
        }
    }
    assert!(kinds.iter().all(|&count| count >= 2), "{kinds:?}");
    assert!(unverified * 4 <= printed, "{unverified} not verified, {printed} verified");
    // The planner decides what is enough, and packs by rule: about one in five of these tiny, just infeasible problems has
    // a plan at 0.9 of the amount that enumeration finds and the planner does not.
    assert!(loose.len() * 3 <= printed, "{} of {printed}: {loose:#?}", loose.len());
}

#[test]
fn prices_lie_between_one_sided_differences_of_the_linear_programme() {
    let (mut found, mut priced, mut nodes) = ([0; 3], [0; 3], Vec::new());
    for seed in 0..60 {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut small = Small::new(rng);
        // Among many nodes one more is a small change.
        let many = seed % 2 == 0;
        let n = if many { 80 * rng.random_range(10..50) } else { 40 };
        for pool in small.cluster.pools.iter_mut().filter(|_| many) {
            pool.nodes = (0..80).map(|node| format!("n{node}")).collect();
        }
        let requests = &mut small.workload.requests;
        requests.input_tokens = (0..n).map(|_| rng.random_range(0..500)).collect();
        requests.output_tokens = (0..n).map(|_| rng.random_range(1..300)).collect();
        requests.group = (0..n).map(|r| r % small.workload.groups.len() as u32).collect();
        for (job, group) in small.workload.jobs.iter_mut().zip(&mut small.workload.groups) {
            job.deadline = Seconds(rng.random_range(30.0..120.0));
            group.deadline = job.deadline;
        }
        let options = small.options();
        let problem = PlanProblem::new(&small.workload, &small.cluster, &small.models, &options, 0.0);
        let Some(prices) = relaxed(&problem, |input, solution| shadow_prices(input, solution).unwrap()) else {
            continue;
        };
        let mut trial = Trial::new(&problem);
        let base = objective(&problem).unwrap();
        for price in prices {
            let (kind, unit, step) = match price.limit {
                Limit::Deadline(_) => (0, 1.0, 1e-3),
                Limit::Accuracy(_) => (1, 1.0, 1e-3),
                Limit::Nodes(pool) => (2, f64::from(small.cluster.pools[pool].devices_per_node), 1.0),
            };
            priced[kind] += 1;
            let tolerance = 2e-3 * price.joules + 1e-5 * base;
            let loosened = trial.with(&price.limit, step, objective).unwrap();
            let saved = (base - loosened) / step / unit;
            // Convex in most limits: the next unit saves no more than the price says.
            assert!(saved <= price.joules + tolerance, "seed {seed}: {price:?} saves {saved}");
            if kind < 2 {
                let Some(tightened) = trial.with(&price.limit, -step, objective) else { continue };
                let cost = (tightened - base) / step;
                assert!(cost >= price.joules - tolerance, "seed {seed}: {price:?} costs {cost}");
                // Where both sides agree there is but one price.
                found[kind] += usize::from((cost - saved).abs() <= 2.0 * tolerance);
            } else {
                nodes.push((seed, price.joules, saved));
                found[kind] += usize::from(saved >= 0.8 * price.joules);
            }
        }
    }
    assert!(found.iter().all(|&count| count >= 3), "{found:?} of {priced:?}: {nodes:?}");
}

/// Joules of the class relaxation; `None` if it leaves requests unserved.
fn objective(problem: &PlanProblem) -> Option<f64> {
    relaxed(problem, |_, solution| solution.objective)
}

fn relaxed<R>(problem: &PlanProblem, then: impl FnOnce(&CapacityInput, &ClassSolution) -> R) -> Option<R> {
    let input = CapacityInput {
        problem,
        scale: scale(problem, 1e4),
        integers: Integers::Relaxed,
        total_work: &problem.total_work(),
        usable: &vec![vec![1.0; problem.windows.len()]; problem.cluster.pools.len()],
        offered: &problem.offered(),
        purpose: Purpose::Bound,
    };
    let classes = Classes::new(problem);
    let mut relaxation = ClassProblem::new(CapacityInput { ..input }, &classes, Objective::Energy, &[]).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(5);
    let solution = relaxation.solve(until).unwrap().filter(|solution| solution.unserved <= 1e-6)?;
    Some(then(&input, &solution))
}

//! Loosening a limit never costs more: with the tighter plan as incumbent, the looser one costs no more than it, and no
//! bound of the looser problem lies above what either costs.
//!
//! Requests run by deadline. Where hours differ in price, a later deadline of one job lets others of an instance run before
//! it, in other hours: the tighter plan is then what it costs in that order.

use std::time::Duration;

use jouleplan::check::{CheckInput, check};
use jouleplan::plan::limits::{Limit, Trial};
use jouleplan::plan::price::price;
use jouleplan::plan::{Plan, PlanProblem, Settings, Verdict, solve};
use jouleplan::report::claims::{Proof, of_schedule};
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::Small;

const PROBLEMS: usize = 200;

#[test]
fn the_looser_plan_costs_no_more_and_its_bound_is_below() {
    let (mut problems, mut loosened) = (0, [0; 5]);
    for seed in 0.. {
        if problems == PROBLEMS {
            break;
        }
        assert!(seed < 3 * PROBLEMS as u64, "only {problems} of the problems have a plan");
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut small = Small::new(rng);
        match seed % 5 {
            0 => {}
            1 => small.cap(rng),
            2 => small.weigh(rng),
            3 => {
                small.weigh(rng);
                small.cluster.site.price = small.cluster.site.carbon.take().map(|carbon| carbon.scaled(1e-3));
            }
            _ => {
                small.weigh(rng);
                small.cap(rng);
            }
        }
        let options = small.options();
        let Small { workload, cluster, models, .. } = &small;
        let problem = PlanProblem::with_goal(workload, cluster, models, &options, 0.0, small.goal());
        let Some(tight) = planned(&problem, None) else { continue };
        problems += 1;
        let mut trial = Trial::new(&problem);
        for (limit, amount) in limits(&small, rng) {
            let mut most = tight.priced.objective();
            let loose = trial.with(&limit, amount, |problem| {
                let incumbent = price(problem, tight.priced.schedule.clone());
                let claims = of_schedule(problem, &incumbent, Proof::none(&incumbent));
                let PlanProblem { workload, cluster, models, .. } = *problem;
                let report = check(&CheckInput { workload, cluster, models, accuracy: &small.accuracy, plan: &claims });
                assert!(report.is_valid(), "seed {seed}: {limit:?}: {:#?}", report.violations);
                if problem.is_weighted() && matches!(&limit, Limit::Deadline(jobs) if jobs.len() < workload.jobs.len())
                {
                    most = incumbent.objective();
                }
                planned(problem, Some(incumbent))
            });
            let loose = loose.unwrap_or_else(|| panic!("seed {seed}: no plan with {limit:?} looser"));
            let objective = loose.priced.objective();
            assert!(objective <= most * (1.0 + 1e-9), "seed {seed}: {limit:?} looser: {objective} above {most}");
            assert!(loose.bound <= objective, "seed {seed}: {limit:?}: bound {} above {objective}", loose.bound);
            loosened[match limit {
                Limit::Deadline(jobs) if jobs.len() < workload.jobs.len() => 0,
                Limit::Deadline(_) => 1,
                Limit::Accuracy(_) => 2,
                Limit::Nodes(_) => 3,
                Limit::Power => 4,
            }] += 1;
        }
    }
    assert!(loosened.iter().all(|&count| count >= 20), "{loosened:?}");
}

fn planned(problem: &PlanProblem, incumbent: Option<jouleplan::plan::price::Priced>) -> Option<Box<Plan>> {
    let settings = Settings { gap: 1e-2, time_limit: Duration::from_millis(150), ..Settings::default() };
    match solve(problem, &settings, incumbent, &mut |_| {}).unwrap() {
        Verdict::Planned(plan) => Some(plan),
        _ => None,
    }
}

/// Every limit that the problem has, and by how much it is loosened.
fn limits(small: &Small, rng: &mut ChaCha8Rng) -> Vec<(Limit, f64)> {
    let jobs = small.workload.jobs.len();
    let mut limits = vec![(Limit::Deadline((0..jobs).collect()), rng.random_range(1.0..60.0))];
    if jobs > 1 {
        limits.push((Limit::Deadline(vec![rng.random_range(0..jobs)]), rng.random_range(1.0..60.0)));
    }
    let floors = (0..jobs).filter(|&job| small.workload.jobs[job].floor.is_some());
    limits.extend(floors.map(|job| (Limit::Accuracy(vec![job]), rng.random_range(1.0..20.0))).collect::<Vec<_>>());
    // A node that never sleeps takes its share of the cap: that limit is not looser for it.
    let pool = rng.random_range(0..small.cluster.pools.len());
    if small.cluster.site.power_cap.is_none() || small.cluster.pools[pool].suspend {
        limits.push((Limit::Nodes(pool), 1.0));
    }
    limits.extend(small.cluster.site.power_cap.as_ref().map(|_| (Limit::Power, rng.random_range(50.0..1000.0))));
    limits
}

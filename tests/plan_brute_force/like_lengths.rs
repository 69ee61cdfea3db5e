//! Requests of like lengths taken together: what a single node costs at least holds for each of them, too.

use std::time::{Duration, Instant};

use jouleplan::plan::PlanProblem;
use jouleplan::plan::budget::Ranges;
use jouleplan::plan::facility::{Restriction, locate};
use jouleplan::units::{Joules, Seconds};
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::{CASES, Enumeration, Small};

/// Steps of prices: enough to come close to the optimum, where a bound that is none would lie above it.
const STEPS: usize = 400;
/// Of one queue, where nothing is enumerated.
const REQUESTS: usize = 100;

#[test]
fn the_bound_over_wide_cells_is_below_the_optimum() {
    let (mut merged, mut close) = (0, 0);
    for seed in 0..2 * CASES {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut small = Small::new(&mut rng);
        small.let_one_node_sleep();
        small.cluster.pools[0].suspend = false;
        let (input, output) = (rng.random_range(30.0..500.0), rng.random_range(30.0..300.0));
        let mut like = |tokens: f64| (tokens * rng.random_range(0.75..1.25)) as u32;
        let requests = &mut small.workload.requests;
        requests.input_tokens.iter_mut().for_each(|tokens| *tokens = like(input));
        requests.output_tokens.iter_mut().for_each(|tokens| *tokens = like(output));
        let options = small.options();
        let Small { workload, cluster, models, .. } = &small;
        let problem = PlanProblem::with_goal(workload, cluster, models, &options, 0.0, small.goal());
        let (_, Some(optimum)) = Enumeration::new(&small, &options).optimum() else { continue };
        let ranges = Ranges::new(&problem).over_cells(&problem, 1);
        let Some(sites) = ranges.sites(&problem, problem.horizon()) else {
            panic!("seed {seed}: {optimum} do what has no room")
        };
        if ranges.cells().len() == workload.requests.len() {
            continue;
        }
        let until = Instant::now() + Duration::from_secs(10);
        let found = locate(&sites, &Restriction::none(&sites), None, STEPS, f64::INFINITY, until);
        let bound = found.unwrap_or_else(|| panic!("seed {seed}: nothing left")).bound;
        assert!(bound <= optimum * (1.0 + 1e-9), "seed {seed}: bound {bound} above {optimum}");
        merged += 1;
        close += usize::from(bound > 0.95 * optimum);
    }
    assert!(merged > 50 && close > merged / 3, "{close} of {merged} close");
}

/// With starts and time for nothing, each request goes where it costs least. Taken for alike, those of one cell would all go
/// to one place and cost more: no bound.
#[test]
fn where_starts_are_free_the_bound_is_what_each_request_costs_alone() {
    let mut apart = 0;
    for seed in 0..4 * CASES {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut small = Small::new(&mut rng);
        small.let_one_node_sleep();
        small.cluster.pools[0].suspend = false;
        small.workload.jobs.iter_mut().for_each(|job| job.floor = None);
        small.workload.groups.iter_mut().for_each(|group| group.deadline = Seconds(1e6));
        let (input, output) = (rng.random_range(30.0..500.0), rng.random_range(30.0..300.0));
        let mut like = |tokens: f64| (tokens * rng.random_range(0.75..1.25)) as u32;
        let requests = &mut small.workload.requests;
        requests.input_tokens = (0..REQUESTS).map(|_| like(input)).collect();
        requests.output_tokens = (0..REQUESTS).map(|_| like(output)).collect();
        requests.group = vec![0; REQUESTS];
        let mut options = small.options();
        for deployment in &mut options.deployments {
            (deployment.load_energy, deployment.tail_energy) = (Joules(0.0), Joules(0.0));
        }
        let Small { workload, cluster, models, .. } = &small;
        let problem = PlanProblem::with_goal(workload, cluster, models, &options, 0.0, small.goal());
        let ranges = Ranges::new(&problem).over_cells(&problem, 1);
        let Some(sites) = ranges.sites(&problem, problem.horizon()) else { continue };
        let least = |energies: &mut dyn Iterator<Item = f64>| energies.fold(f64::INFINITY, f64::min);
        let alone = |r| least(&mut (0..ranges.count()).filter_map(|m| Some(sites.offer(m, r)?.energy)));
        let alone: f64 = (0..REQUESTS).map(alone).sum();
        let cells = sites.offers.iter().enumerate();
        let alike: f64 = cells.map(|(c, o)| sites.count(c) * least(&mut o.iter().map(|offer| offer.energy))).sum();
        let until = Instant::now() + Duration::from_secs(10);
        let Some(found) = locate(&sites, &Restriction::none(&sites), None, STEPS, f64::INFINITY, until) else {
            continue;
        };
        assert!(found.bound <= alone * (1.0 + 1e-9), "seed {seed}: bound {} above {alone}", found.bound);
        apart += usize::from(alike > alone * (1.0 + 1e-6) && found.bound > 0.9 * alone);
    }
    assert!(apart > 0, "requests of one cell never go apart");
}

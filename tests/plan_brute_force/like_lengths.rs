//! Requests of like lengths taken together: what a single node costs at least holds for each of them, too.

use std::time::{Duration, Instant};

use jouleplan::plan::PlanProblem;
use jouleplan::plan::budget::Ranges;
use jouleplan::plan::facility::{Restriction, locate};
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::{CASES, Enumeration, Small};

/// Steps of prices: enough to come close to the optimum, where a bound that is none would lie above it.
const STEPS: usize = 400;

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

//! One device for two models in turn, with no second to spare: the second model loads across the deadline of the first. What
//! the relaxation knows of instances over whole windows must leave room for it.

use std::time::Duration;

use jouleplan::plan::{PlanProblem, Settings, Verdict, solve};
use jouleplan::units::Seconds;
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::{CASES, Small};

/// Share of the deadlines by which they lie later, for rounding.
const ROUNDING: f64 = 1e-6;

#[test]
fn a_load_across_a_deadline_is_not_ruled_out() {
    let (mut planned, mut unknown) = (0, 0);
    for seed in 0..CASES {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let Some(mut small) = one_device(&mut rng) else { continue };
        let [first, second] = needs(&small);
        // Any share of the load before the deadline.
        let deadline = first.load + first.work + rng.random_range(0.1..0.9) * second.load;
        let end = first.load + first.work + second.load + second.work;
        due(&mut small, 0, 0.0, deadline);
        due(&mut small, 1, deadline, end);
        let options = small.options();
        let Small { workload, cluster, models, .. } = &small;
        let problem = PlanProblem::with_goal(workload, cluster, models, &options, 0.0, small.goal());
        let settings = Settings { gap: 1e-4, time_limit: Duration::from_secs(1), ..Settings::default() };
        match solve(&problem, &settings, None, &mut |_| {}).unwrap() {
            Verdict::Planned(plan) => {
                assert!(plan.bound <= plan.priced.objective(), "seed {seed}");
                planned += 1;
            }
            Verdict::Infeasible(why) => panic!("seed {seed}: {why:?}, yet one after the other does it"),
            Verdict::Unknown(_) => unknown += 1,
        }
    }
    assert!(planned + unknown > 20 && planned > unknown, "{planned} planned, {unknown} unknown");
}

/// Two jobs of one request each, one at a time, each for a model of its own; on one device that never sleeps.
fn one_device(rng: &mut ChaCha8Rng) -> Option<Small> {
    let mut small = Small::new(rng);
    small.let_one_node_sleep();
    let pool = &mut small.cluster.pools[0];
    (pool.suspend, pool.devices_per_node) = (false, 1);
    small.models.retain(|family| family.key.device == pool.device && family.key.devices == 1);
    small.models.iter_mut().for_each(|family| family.batch_points.truncate(1));
    if small.models.len() < 2 || small.workload.jobs.len() < 2 {
        return None;
    }
    for (job, model) in small.workload.jobs.iter_mut().zip(["model0", "model1"]) {
        (job.floor, job.models) = (None, Some(vec![model.to_owned()]));
    }
    let requests = &mut small.workload.requests;
    requests.input_tokens.truncate(2);
    requests.output_tokens.truncate(2);
    requests.group.truncate(2);
    due(&mut small, 0, 0.0, 1e3);
    due(&mut small, 1, 0.0, 1e3);
    Some(small)
}

/// When a job is released and due.
fn due(small: &mut Small, job: usize, release: f64, deadline: f64) {
    let (release, deadline) = (Seconds(release), Seconds(deadline * (1.0 + ROUNDING)));
    let (of_job, group) = (&mut small.workload.jobs[job], &mut small.workload.groups[job]);
    (of_job.release, of_job.deadline) = (release, deadline);
    (group.release, group.deadline) = (release, deadline);
}

/// Seconds that a model loads, and that its request takes.
struct Need {
    load: f64,
    work: f64,
}

fn needs(small: &Small) -> [Need; 2] {
    let options = small.options();
    [0, 1].map(|request: usize| {
        let allowed = &options.allowed[request];
        let v = allowed.iter().position(|&allowed| allowed).expect("each model has a deployment");
        let deployment = &options.deployments[v];
        let requests = &small.workload.requests;
        let work = deployment.rates.slot_seconds(requests.input_tokens[request], requests.output_tokens[request]);
        Need { load: deployment.load_time.0, work }
    })
}

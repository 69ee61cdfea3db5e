//! The planner's own plans pass the checker, and broken they do not.

mod common;

use std::time::Duration;

use common::Case;
use common::generator::valid_case;
use common::mutations;
use jouleplan::check::check;
use jouleplan::domain::BatchPoint;
use jouleplan::options::{MAX_DEPLOYMENTS, OptionsInput, build};
use jouleplan::plan::{PlanProblem, Settings, Verdict, solve};
use jouleplan::report::claims::{Proof, of_schedule};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const CASES: u64 = 16;

#[test]
fn plans_of_the_planner_pass_and_broken_ones_do_not() {
    let (mut plans, mut planted, mut missed, mut rejected) = (0, 0, Vec::new(), Vec::new());
    for seed in 0..CASES {
        let mut case = valid_case(seed);
        let safety = case.plan.safety;
        let options = build(&OptionsInput {
            workload: &case.workload,
            cluster: &case.cluster,
            models: &case.models,
            accuracy: &case.accuracy,
            safety,
        })
        .expect("few deployments");
        let settings = Settings { gap: 0.05, time_limit: Duration::from_secs(2), ..Settings::default() };
        let Case { workload, cluster, models, plan, .. } = &case;
        let problem = PlanProblem::with_goal(workload, cluster, models, &options, safety, plan.goal);
        let verdict = solve(&problem, &settings, None, &mut |_| {}).unwrap();
        let plan = match verdict {
            Verdict::Planned(plan) => plan,
            // The generator has a plan, so there is no proof that there is none; not to find one is allowed.
            Verdict::Infeasible(why) => panic!("seed {seed}: {why:?}, though a plan exists"),
            Verdict::Unknown(_) => continue,
        };
        plans += 1;
        let valid = case.plan.goal_objective.unwrap_or(case.plan.objective.0);
        assert!(plan.bound <= valid * (1.0 + 1e-9), "seed {seed}: bound above a valid plan");
        let mut claims = of_schedule(&problem, &plan.priced, Proof::of(&plan));
        // The mutations move requests to deployments that the plan does not use.
        claims.deployments.clone_from(&options.deployments);
        case.plan = claims;
        let report = check(&case.input());
        if !report.is_valid() {
            let found: Vec<String> = report.violations.iter().take(5).map(|violation| violation.to_string()).collect();
            rejected.push(format!("seed {seed}: {found:#?}"));
            continue;
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for mutation in mutations::all() {
            let mut broken = case.clone();
            let Some(rule) = (mutation.apply)(&mut broken, &mut rng) else { continue };
            planted += 1;
            let report = check(&broken.input());
            if !report.breaks(rule) {
                missed.push(format!(
                    "seed {seed}, {}: wanted {rule}, got {:?}",
                    mutation.name,
                    report.violations.first()
                ));
            }
        }
    }
    assert!(rejected.is_empty(), "{} plans rejected:\n{}", rejected.len(), rejected.join("\n"));
    assert!(missed.is_empty(), "{} of {planted} missed:\n{}", missed.len(), missed.join("\n"));
    assert!(plans as u64 > CASES / 2 && planted > 300, "{plans} plans, {planted} planted");
}

#[test]
fn more_deployments_than_the_solver_can_number_are_refused() {
    let case = valid_case(0);
    let mut models = case.models.clone();
    for model in &mut models {
        let point = *model.batch_points.first().expect("the generator measures");
        model.batch_points = (1..=70_000).map(|cap| BatchPoint { max_num_seqs: cap, ..point }).collect();
    }
    let Case { workload, cluster, accuracy, plan, .. } = &case;
    let refused = build(&OptionsInput { workload, cluster, models: &models, accuracy, safety: plan.safety });
    let error = refused.map(|_| ()).expect_err("refused");
    assert!(error.0 > MAX_DEPLOYMENTS && error.to_string().contains("merge pools"), "{error}");
}

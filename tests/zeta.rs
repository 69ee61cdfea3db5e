//! Plans by the reference paper's objective: the check accepts them and finds what is wrong with them, shares are kept,
//! and more weight on energy never takes more of it.

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::Case;
use common::generator::valid_case;
use jouleplan::check::{ClaimedZeta, Rule, check};
use jouleplan::options::{Options, OptionsInput, build};
use jouleplan::plan::PlanProblem;
use jouleplan::plan::zeta::{Formulation, Zeta, ZetaError, ZetaPlan, plan};
use jouleplan::report::claims::{Proof, of_schedule};
use jouleplan::units::Joules;

const CASES: u64 = 40;

fn options(case: &Case) -> Options {
    let Case { workload, cluster, models, accuracy, .. } = case;
    let safety = case.plan.safety;
    build(&OptionsInput { workload, cluster, models, accuracy, safety }).expect("few deployments")
}

fn problem<'a>(case: &'a Case, options: &'a Options) -> PlanProblem<'a> {
    PlanProblem::new(&case.workload, &case.cluster, &case.models, options, case.plan.safety)
}

fn planned<'a>(formulation: &Formulation<'a>) -> Result<ZetaPlan, ZetaError> {
    plan(formulation, Instant::now() + Duration::from_secs(5))
}

/// The case with the claims of a zeta plan in place of its own.
fn claimed(case: &Case, problem: &PlanProblem, zeta: &Zeta, formulation: &Formulation, found: &ZetaPlan) -> Case {
    let mut claims = of_schedule(problem, &found.priced, Proof::none(&found.priced));
    claims.zeta = Some(ClaimedZeta {
        zeta: zeta.weight,
        objective: found.objective,
        bound: found.bound,
        max_energy: Joules(formulation.maxima.energy),
        max_accuracy: formulation.maxima.accuracy,
        shares: zeta.shares.clone(),
    });
    claims.gap = (found.objective - found.bound) / found.objective.abs();
    claims.gap_parts.placement = claims.gap;
    Case { plan: claims, ..case.clone() }
}

#[test]
fn plans_pass_the_check_and_wrong_claims_do_not() {
    let (mut plans, mut proved) = (0, 0);
    for seed in 0..CASES {
        let case = valid_case(seed);
        let options = options(&case);
        let problem = problem(&case, &options);
        for weight in [0.0, 0.3, 1.0] {
            let mut zeta = Zeta { weight, shares: BTreeMap::new() };
            let Ok(formulation) = Formulation::new(&problem, &zeta) else { continue };
            let Ok(found) = planned(&formulation) else { continue };
            plans += 1;
            assert!(found.bound <= found.objective);
            proved += usize::from(found.objective - found.bound <= 1e-9 * found.objective.abs());
            let valid = claimed(&case, &problem, &zeta, &formulation, &found);
            let report = check(&valid.input());
            assert!(report.is_valid(), "seed {seed}, zeta {weight}: {:?}", report.violations);

            let broken = |change: fn(&mut ClaimedZeta)| {
                let mut broken = valid.clone();
                broken.plan.zeta.as_mut().map(change);
                check(&broken.input())
            };
            assert!(broken(|zeta| zeta.objective += 0.001).breaks(Rule::Zeta));
            assert!(broken(|zeta| zeta.bound = zeta.objective + 0.001).breaks(Rule::Zeta));
            assert!(broken(|zeta| zeta.max_energy = zeta.max_energy * 0.99).breaks(Rule::Zeta));
            assert!(broken(|zeta| zeta.max_accuracy *= 1.01).breaks(Rule::Zeta));
            assert!(broken(|zeta| zeta.zeta = 1.5).breaks(Rule::Zeta));
            let promised = broken(|zeta| zeta.shares = BTreeMap::from([("nobody".to_owned(), 0.5)]));
            assert!(promised.breaks(Rule::ModelShare));

            // A share for the model that got least.
            let mut counts: BTreeMap<&str, usize> =
                options.deployments.iter().map(|deployment| (deployment.family.model.as_str(), 0)).collect();
            for &instance in &found.priced.schedule.assignment {
                let v = found.priced.schedule.instances[instance as usize].deployment;
                *counts.entry(&options.deployments[v].family.model).or_default() += 1;
            }
            let Some((model, _)) = counts.into_iter().min_by_key(|(_, count)| *count) else { continue };
            zeta.shares.insert(model.to_owned(), 0.3);
            let formulation = Formulation::new(&problem, &zeta).unwrap();
            if let Ok(shared) = planned(&formulation) {
                let report = check(&claimed(&case, &problem, &zeta, &formulation, &shared).input());
                assert!(report.is_valid(), "seed {seed}, zeta {weight}, share: {:?}", report.violations);
                assert!(shared.objective >= found.bound - 1e-9 * found.bound.abs());
            }
        }
    }
    assert!(plans > 60 && proved > 40, "{plans} plans, {proved} of them optimal");
}

#[test]
fn more_weight_on_energy_never_takes_more_of_it() {
    let mut compared = 0;
    for seed in 0..CASES {
        let case = valid_case(seed);
        let options = options(&case);
        let problem = problem(&case, &options);
        let mut last = f64::INFINITY;
        for weight in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let zeta = Zeta { weight, shares: BTreeMap::new() };
            let Ok(formulation) = Formulation::new(&problem, &zeta) else { break };
            // Only where the optimum itself fits, so that no price is in it.
            let Ok(found) = planned(&formulation) else { break };
            if found.objective - found.bound > 1e-9 * found.objective.abs() {
                break;
            }
            let energy = Zeta { weight: 1.0, shares: BTreeMap::new() };
            let schedule = &found.priced.schedule;
            let served: Vec<u16> =
                schedule.assignment.iter().map(|&j| schedule.instances[j as usize].deployment as u16).collect();
            let joules = Formulation::new(&problem, &energy).unwrap().objective(&served);
            assert!(joules <= last * (1.0 + 1e-9), "seed {seed}, zeta {weight}: {joules} after {last}");
            compared += usize::from(last.is_finite());
            last = joules;
        }
    }
    assert!(compared > 40, "{compared}");
}

//! What plans promise beyond joules and deadlines: a confidence, the paper's objective, shares of models.

use std::collections::BTreeMap;

use jouleplan::check::{ClaimedZeta, Rule};
use jouleplan::domain::OutputSpread;
use jouleplan::units::Joules;

use super::{Mutation, R, alone, among};
use crate::common::Case;

pub const ALL: &[Mutation] = &[
    alone("outputs that may be far longer", widen_outputs),
    among("objective of the paper invented", invent_objective),
    among("share promised to a model nobody uses", promise_share),
];

fn widen_outputs(case: &mut Case, _: &mut R) -> Option<Rule> {
    let requests = case.workload.requests.len();
    case.workload.output_spread = Some(OutputSpread {
        confidence: 0.9,
        variance: vec![1e12; requests],
        mean_error: vec![0.0; requests],
        most: vec![1_000_000_000; requests],
    });
    Some(Rule::Confidence)
}

fn claim(case: &mut Case) -> &mut ClaimedZeta {
    case.plan.zeta.insert(ClaimedZeta {
        zeta: 1.0,
        objective: 1e9,
        bound: 0.0,
        max_energy: Joules(1.0),
        max_accuracy: 1.0,
        shares: BTreeMap::new(),
    })
}

fn invent_objective(case: &mut Case, _: &mut R) -> Option<Rule> {
    claim(case);
    Some(Rule::Zeta)
}

fn promise_share(case: &mut Case, _: &mut R) -> Option<Rule> {
    claim(case).shares.insert("nobody".to_owned(), 0.01);
    Some(Rule::ModelShare)
}

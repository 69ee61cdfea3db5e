//! Problems and plans made by hand for tests of the checker: a generator of plans that are valid by construction
//! (`generator`, `wide`), the claims that follow from what a plan decides (`restate`, `site`), and ways to break a plan (`mutations`).
//! Nothing here uses the solver or the checker's own arithmetic.
#![allow(dead_code, reason = "each test uses its part of what is shared")]

pub mod generator;
pub mod mutations;
pub mod restate;
pub mod site;
pub mod wide;

use jouleplan::check::{CheckInput, ClaimedPlan};
use jouleplan::domain::{AccuracyTable, Cluster, FamilyModel, Workload};

/// A problem and a plan for it, owned, so that a mutation may touch either.
#[derive(Clone, Debug)]
pub struct Case {
    pub workload: Workload,
    pub cluster: Cluster,
    pub models: Vec<FamilyModel>,
    pub accuracy: AccuracyTable,
    pub plan: ClaimedPlan,
}

impl Case {
    pub fn input(&self) -> CheckInput<'_> {
        CheckInput {
            workload: &self.workload,
            cluster: &self.cluster,
            models: &self.models,
            accuracy: &self.accuracy,
            plan: &self.plan,
        }
    }
}

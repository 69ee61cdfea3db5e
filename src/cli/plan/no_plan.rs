//! Where there is no plan: why, and the smallest relaxations that would make one.

use std::time::Duration;

use serde_json::json;

use super::{Arguments, violations};
use crate::cli::exit::{Failure, INFEASIBLE};
use crate::cli::inputs::Inputs;
use crate::cli::output::Output;
use crate::formats::plan_json::{Run, SCHEMA_VERSION};
use crate::plan::limits::{Relaxation, smallest};
use crate::plan::{Infeasibility, PlanProblem};
use crate::report::claims::Proof;
use crate::report::{self, infeasible, summary};

/// Time to look for relaxations, however soon a certificate was found.
const LEAST: Duration = Duration::from_secs(5);
/// In times of the limit: what certificate and relaxations may take together; a step that outlasts it is finished.
const TOGETHER: f64 = 2.7;

pub struct NoPlan {
    status: &'static str,
    reason: String,
    relaxations: Vec<Relaxation>,
}

impl NoPlan {
    /// `certificate`: the time it took, reading included. Relaxations get time in proportion, so that both together stay
    /// within three times the limit.
    pub fn infeasible(
        problem: &PlanProblem,
        why: &Infeasibility,
        arguments: &Arguments,
        certificate: Duration,
        inputs: &Inputs,
    ) -> Self {
        let limit = arguments.time_limit;
        let left = limit.mul_f64(TOGETHER).saturating_sub(certificate);
        let budget = (20 * certificate).min(left).max(LEAST.min(limit / 2));
        let relaxations = smallest(problem, why, budget, &mut |loosened, priced| {
            violations(loosened, priced, Proof::none(priced), inputs).is_valid()
        });
        Self { status: "infeasible", reason: infeasible::words(problem, why), relaxations }
    }

    pub fn unknown(tried: &str) -> Self {
        let reason = format!("{tried}; neither a plan nor a proof that there is none was found");
        Self { status: "unknown", reason, relaxations: Vec::new() }
    }

    /// The end of the program.
    pub fn tell(
        &self,
        problem: &PlanProblem,
        warnings: &[String],
        run: &Run,
        arguments: &Arguments,
        output: &Output,
    ) -> anyhow::Result<()> {
        let Self { status, reason, relaxations } = self;
        if arguments.json {
            let relaxations: Vec<_> =
                relaxations.iter().map(|relaxation| report::limits::relaxation_json(problem, relaxation)).collect();
            output.json(&json!({
                "schema_version": SCHEMA_VERSION,
                "status": status,
                "reason": reason,
                "relaxations": relaxations,
                "requests": problem.workload.requests.len(),
                "wall_s": run.wall_s,
                "peak_rss_mib": run.peak_rss_mib,
                "warnings": warnings,
            }))?;
        } else {
            output.note(&summary::warnings(warnings, "with --json"));
        }
        let lines = report::limits::relaxations(problem, relaxations);
        let message = [format!("{status}: {reason}")].into_iter().chain(lines).collect::<Vec<_>>().join("\n");
        Err(Failure { code: INFEASIBLE, message }.into())
    }
}

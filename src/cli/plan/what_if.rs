//! What else `plan` can say of a plan: its energy over the range of a limit, and how it does if the models err.

use std::collections::BTreeMap;
use std::path::Path;

use clap::ValueEnum;

use super::{Arguments, violations};
use crate::cli::exit::Failure;
use crate::cli::inputs::Inputs;
use crate::cli::progress::Line;
use crate::formats::plan_json::{FrontierPoint, Sensitivity};
use crate::formats::write::write_atomic;
use crate::plan::baselines::BaselineResult;
use crate::plan::limits::{Limit, frontier};
use crate::plan::price::Priced;
use crate::plan::sensitivity::sensitivity;
use crate::plan::{Plan, PlanProblem, Settings};
use crate::report;
use crate::report::claims::Proof;
use crate::report::frontier::{FRONTIER_CSV, FRONTIER_SVG};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Frontier {
    Accuracy,
    Deadline,
    Power,
}

impl Frontier {
    /// What cannot be moved is said before any work.
    pub fn require_movable(self, inputs: &Inputs) -> anyhow::Result<()> {
        let no_floor = || inputs.assembled.workload.jobs.iter().all(|job| job.floor.is_none());
        match self {
            Self::Power => Err(Failure::usage(
                "--frontier power is not drawn: plan with several --power-cap-w, or give accuracy or deadline",
            )),
            Self::Accuracy if no_floor() => Err(Failure::usage(
                "--frontier accuracy: no job has an accuracy floor; give --min-accuracy or a jobs file",
            )),
            _ => Ok(()),
        }
    }

    /// Of all jobs, or of those that have a floor.
    fn limit(self, problem: &PlanProblem) -> Option<Limit> {
        let jobs = &problem.workload.jobs;
        match self {
            Self::Deadline => Some(Limit::Deadline((0..jobs.len()).collect())),
            Self::Accuracy => Some(Limit::Accuracy((0..jobs.len()).filter(|&job| jobs[job].floor.is_some()).collect())),
            Self::Power => None,
        }
    }
}

#[derive(Default)]
pub struct WhatIf {
    pub frontier: Option<Vec<FrontierPoint>>,
    pub sensitivity: Option<Sensitivity>,
}

impl WhatIf {
    pub fn of(
        problem: &PlanProblem,
        plan: &Plan,
        baselines: &BTreeMap<String, BaselineResult>,
        settings: &Settings,
        arguments: &Arguments,
        inputs: &Inputs,
        line: &Line,
    ) -> Self {
        let frontier = arguments.frontier.and_then(|frontier| frontier.limit(problem)).map(|limit| {
            line.say("frontier");
            report::frontier::points(problem, &limit, &frontier(problem, &limit, plan, settings))
        });
        let sensitivity = arguments.sensitivity.map(|draws| {
            line.say("sensitivity");
            let feasible = baselines.iter().filter(|(_, result)| result.feasible());
            let rivals: BTreeMap<String, Priced> =
                feasible.filter_map(|(name, result)| Some((name.clone(), result.priced.clone()?))).collect();
            let mut accept = |priced: &Priced| violations(problem, priced, Proof::none(priced), inputs).is_valid();
            let (draws, budget) = ((draws as usize, arguments.seed), arguments.time_limit / 2);
            report::sensitivity::json(&sensitivity(problem, &plan.priced, &rivals, draws, budget, &mut accept))
        });
        Self { frontier, sensitivity }
    }

    /// Writes the files of the frontier into a plan directory.
    pub fn write(&self, directory: &Path) -> anyhow::Result<()> {
        if let Some(points) = &self.frontier {
            write_atomic(&directory.join(FRONTIER_CSV), report::frontier::csv(points).as_bytes())?;
            write_atomic(&directory.join(FRONTIER_SVG), report::frontier::chart(points)?.as_bytes())?;
        }
        Ok(())
    }
}

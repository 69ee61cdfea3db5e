//! What else `plan` can say of a plan: its energy over the range of a limit, and how it does if the models err.

use std::collections::BTreeMap;
use std::path::Path;

use clap::ValueEnum;

use super::{Arguments, violations};
use crate::cli::exit::Failure;
use crate::cli::inputs::Inputs;
use crate::cli::progress::Line;
use crate::domain::Steps;
use crate::formats::plan_json::{FrontierPoint, Sensitivity};
use crate::formats::write::write_atomic;
use crate::options::{OptionsInput, build};
use crate::plan::baselines::BaselineResult;
use crate::plan::limits::{Limit, frontier};
use crate::plan::power::most_over;
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
            Self::Power => match inputs.cluster.pools.iter().find(|pool| pool.base_power.is_none()) {
                Some(pool) => Err(Failure::usage(format!(
                    "--frontier power: pool `{}` of the cluster file needs base_power_w (watts per node without devices): \
                     it counts against the cap",
                    pool.name
                ))),
                None => Ok(()),
            },
            Self::Accuracy if no_floor() => Err(Failure::usage(
                "--frontier accuracy: no job has an accuracy floor; give --min-accuracy or a jobs file",
            )),
            _ => Ok(()),
        }
    }

    /// Of all jobs, or of those that have a floor.
    fn limit(self, problem: &PlanProblem) -> Limit {
        let jobs = &problem.workload.jobs;
        match self {
            Self::Deadline => Limit::Deadline((0..jobs.len()).collect()),
            Self::Accuracy => Limit::Accuracy((0..jobs.len()).filter(|&job| jobs[job].floor.is_some()).collect()),
            Self::Power => Limit::Power,
        }
    }

    fn points(
        self,
        problem: &PlanProblem,
        plan: &Plan,
        settings: &Settings,
        inputs: &Inputs,
    ) -> anyhow::Result<Vec<FrontierPoint>> {
        let limit = self.limit(problem);
        let points = |problem: &PlanProblem| {
            report::frontier::points(problem, &limit, &frontier(problem, &limit, plan, settings))
        };
        if self != Self::Power || problem.power_room().is_some() {
            return Ok(points(problem));
        }
        // Without a cap, around the one that the plan just keeps. Only under a cap deployments have a peak.
        let PlanProblem { workload, models, safety, goal, .. } = *problem;
        let mut cluster = inputs.cluster.clone();
        cluster.site.power_cap = Some(Steps::constant(f64::MAX));
        let options = build(&OptionsInput { workload, cluster: &cluster, models, accuracy: &inputs.accuracy, safety })?;
        let uncapped = PlanProblem::with_goal(workload, &inputs.cluster, models, &options, safety, goal);
        let peak = most_over(&uncapped, &plan.priced.schedule, &Steps::constant(0.0)).ceil();
        cluster.site.power_cap = Some(Steps::constant(peak));
        Ok(points(&PlanProblem::with_goal(workload, &cluster, models, &options, safety, goal)))
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
    ) -> anyhow::Result<Self> {
        let frontier = arguments.frontier.map(|frontier| {
            line.say("frontier");
            frontier.points(problem, plan, settings, inputs)
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
        Ok(Self { frontier: frontier.transpose()?, sensitivity })
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

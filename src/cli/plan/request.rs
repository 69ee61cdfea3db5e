//! The command line of `plan` as the library's own types, or those of the plan that it goes on from.

use std::time::{Duration, SystemTime};

use super::Arguments;
use super::replan::Before;
use crate::cli::arguments::is_stdin;
use crate::cli::exit::Failure;
use crate::cli::inputs::{Paths, SiteFlags};
use crate::cli::zeta;
use crate::domain::Goal;
use crate::formats::plan_json::Flags;
use crate::formats::workload::{Defaults, expand};
use crate::plan::zeta::Zeta;
use crate::units::{Seconds, Watts};

/// In whole seconds, as plan.json will state it: instants in the jobs file then mean the same to `check`.
pub fn now() -> SystemTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// The command line as the library's own types.
pub struct Request {
    pub paths: Paths,
    pub defaults: Defaults,
    pub site: SiteFlags,
    pub start: SystemTime,
    pub zeta: Option<Zeta>,
    pub safety: f64,
    /// The plan it goes on from.
    pub before: Option<Before>,
}

impl Request {
    pub fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let start = arguments.start.unwrap_or_else(now);
        if let Some(dir) = &arguments.replan {
            let before = Before::read(dir, &arguments.out, start)?;
            let recorded = &before.recorded;
            return Ok(Self {
                paths: recorded.paths().clone(),
                defaults: recorded.defaults().clone(),
                site: recorded.site(),
                start,
                zeta: None,
                safety: before.safety(),
                before: Some(before),
            });
        }
        let parse = |text: &String| {
            crate::formats::duration::parse_point(text, start)
                .map_err(|error| Failure::usage(format!("--deadline: {error}")))
        };
        let deadline = arguments.deadline.as_ref().map(parse).transpose()?;
        if deadline.is_some_and(|deadline| deadline.0 <= 0.0) {
            return Err(Failure::usage("--deadline: it is the start of the plan; give a later one, for example 8h"));
        }
        let paths = Paths {
            models: arguments.models.clone(),
            cluster: arguments.cluster.clone().unwrap_or_default(), // there, unless there are --options
            workload: expand(&arguments.workload)?,
            jobs: arguments.jobs.clone(),
            accuracy: arguments.accuracy.clone(),
            engines: arguments.engines.clone(),
            tokenizer: arguments.tokenizer.clone(),
            sidecar: arguments.sidecar.clone(),
        };
        if paths.roles().iter().any(|(_, path)| is_stdin(path)) {
            return Err(Failure::usage("plan cannot read stdin: it reads its inputs more than once and records them"));
        }
        let defaults = Defaults {
            deadline,
            min_accuracy: arguments.min_accuracy,
            task: arguments.task.clone(),
            model_policy: arguments.model_policy,
            releases: arguments.releases,
            tokenizer: arguments.tokenizer.clone(),
            sidecar: arguments.sidecar.clone(),
            confidence: arguments.confidence,
            format: arguments.format,
        };
        let zeta = zeta::asked(arguments.objective, &arguments.model_share)?;
        let goal = arguments.objective.goal();
        if goal != Goal::Energy && (arguments.frontier.is_some() || arguments.sensitivity.is_some()) {
            return Err(Failure::usage(
                "--frontier and --sensitivity are in joules: they belong to --objective energy",
            ));
        }
        let site = SiteFlags { goal, power_cap: arguments.power_cap_w.map(Watts), lead: Seconds::ZERO };
        Ok(Self { paths, defaults, site, start, zeta, safety: arguments.safety, before: None })
    }

    pub fn flags(&self) -> Flags {
        Flags {
            deadline_s: self.defaults.deadline.map(|deadline| deadline.0),
            min_accuracy: self.defaults.min_accuracy,
            task: self.defaults.task.clone(),
            releases: self.defaults.releases,
            confidence: self.defaults.confidence,
            format: self.defaults.format.map(|format| format.to_string()),
            objective: Some(self.site.goal).filter(|goal| *goal != Goal::Energy).map(|goal| goal.name().to_owned()),
            power_cap_w: self.site.power_cap.map(|cap| cap.0),
        }
    }
}

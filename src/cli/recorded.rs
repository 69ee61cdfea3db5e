//! The inputs of an existing plan: the files plan.json names, unless a flag names another; a file that changed since is
//! refused, because the plan's figures are not about it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::check::Overrides;
use super::exit::Failure;
use super::inputs::{self, Gathered, Inputs, Paths, SiteFlags};
use crate::domain::Goal;
use crate::formats::duration::parse_instant;
use crate::formats::plan_json::PlanJson;
use crate::formats::problems::Collector;
use crate::formats::workload::Defaults;
use crate::formats::write::sha256_file;
use crate::units::{Seconds, Watts};

/// Where the inputs of a plan are and how they are to be read.
pub struct Recorded {
    paths: Paths,
    defaults: Defaults,
    site: SiteFlags,
    start: SystemTime,
    /// (path, hash) of the files that are taken from plan.json.
    hashes: Vec<(PathBuf, String)>,
}

impl Recorded {
    /// # Errors
    /// A plan.json whose run or flags cannot be understood.
    pub fn new(plan: &PlanJson, overrides: &Overrides) -> anyhow::Result<Self> {
        let damaged = |what: String| Failure::bad_data(format!("plan.json: {what}; make the plan again"));
        let of_role = |role: &str| {
            let inputs = plan.inputs.iter().filter(move |input| input.role == role);
            inputs.map(|input| PathBuf::from(&input.path)).collect::<Vec<_>>()
        };
        let one = |role: &str, other: &Option<PathBuf>| other.clone().or_else(|| of_role(role).into_iter().next());
        let several = |role: &str, others: &[PathBuf]| if others.is_empty() { of_role(role) } else { others.to_vec() };
        let paths = Paths {
            models: several("models", &overrides.models),
            cluster: one("cluster", &overrides.cluster)
                .ok_or_else(|| damaged("no cluster file among its inputs".to_owned()))?,
            workload: several("workload", &overrides.workload),
            jobs: one("jobs", &overrides.jobs),
            accuracy: one("accuracy", &overrides.accuracy),
            engines: one("engines", &None),
            tokenizer: one("tokenizer", &None),
            sidecar: one("sidecar", &None),
        };
        let overridden = |role: &str| match role {
            "models" => !overrides.models.is_empty(),
            // The series of another cluster file are other files.
            "cluster" | "carbon" | "price" | "power_cap" => overrides.cluster.is_some(),
            "workload" => !overrides.workload.is_empty(),
            "jobs" => overrides.jobs.is_some(),
            "accuracy" => overrides.accuracy.is_some(),
            _ => false,
        };
        let kept = plan.inputs.iter().filter(|input| !overridden(&input.role));
        let flags = &plan.flags;
        let format = flags.format.as_deref().map(str::parse).transpose();
        let defaults = Defaults {
            deadline: flags.deadline_s.map(Seconds),
            min_accuracy: flags.min_accuracy,
            task: flags.task.clone(),
            model_policy: plan.model_policy.parse().map_err(|error| damaged(format!("model_policy: {error}")))?,
            releases: flags.releases,
            confidence: flags.confidence,
            tokenizer: paths.tokenizer.clone(),
            sidecar: paths.sidecar.clone(),
            format: format.map_err(|error: String| damaged(format!("flags.format: {error}")))?,
        };
        let goal = match flags.objective.as_deref() {
            None => Goal::Energy,
            Some(name) => Goal::ALL
                .into_iter()
                .find(|goal| goal.name() == name)
                .ok_or_else(|| damaged(format!("flags.objective: there is no objective `{name}`")))?,
        };
        Ok(Self {
            site: SiteFlags { goal, power_cap: flags.power_cap_w.map(Watts) },
            hashes: kept.map(|input| (PathBuf::from(&input.path), input.sha256.clone())).collect(),
            start: parse_instant(&plan.run.start).map_err(|error| damaged(format!("run.start: {error}")))?,
            paths,
            defaults,
        })
    }

    /// # Errors
    /// Files that are gone or changed, all at once; else every problem of every file.
    pub fn read(&self) -> anyhow::Result<Inputs> {
        let mut gathered = Gathered::default();
        for (path, hash) in &self.hashes {
            gathered.take(unchanged(path, hash));
        }
        gathered.finish().map_err(|error| {
            let hint = "paths in plan.json are as `plan` was given them: run this from the same folder, or name other files \
                        with --models, --cluster, --workload, --jobs, --accuracy";
            anyhow::Error::from(error).context(hint)
        })?;
        Ok(inputs::read(&self.paths, &self.defaults, self.site, self.start)?)
    }
}

/// # Errors
/// The file is gone or has another hash.
pub fn unchanged(path: &Path, hash: &str) -> Result<(), crate::formats::Problems> {
    let now = sha256_file(path)?;
    let mut problems = Collector::new(path);
    if now != hash {
        problems.add("", "it changed since the plan was made", "put the old file back, or make the plan again");
    }
    problems.finish(())
}

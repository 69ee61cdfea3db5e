//! The inputs of an existing plan: the files plan.json names, unless a flag names another; a file that changed since is
//! refused, because the plan's figures are not about it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::check::Overrides;
use super::exit::Failure;
use super::inputs::{self, Gathered, Inputs, Paths, SiteFlags};
use super::plan::current_power;
use crate::domain::{AccuracyRule, Goal};
use crate::formats::duration::{MAX_SECONDS, parse_instant};
use crate::formats::plan_dir::PlanDirectory;
use crate::formats::power_adjustment::PowerAdjustment;
use crate::formats::problems::Collector;
use crate::formats::replan_json::ReplanJson;
use crate::formats::served_csv::{self, SERVED_CSV, ServedRow};
use crate::formats::workload::Defaults;
use crate::formats::write::sha256_file;
use crate::report::{RequestIndex, power_adjustment};
use crate::units::{Seconds, Watts};

/// Where the inputs of a plan are and how they are to be read.
pub struct Recorded {
    paths: Paths,
    defaults: Defaults,
    site: SiteFlags,
    /// Second 0 of the plan.
    start: SystemTime,
    /// From where times in the queue count: the same, but for a plan that goes on from another.
    origin: SystemTime,
    /// Its folder, and what it leaves out.
    dir: PathBuf,
    replan: Option<ReplanJson>,
    power_adjustment: Option<PowerAdjustment>,
    /// (path, hash) of the files that are taken from plan.json.
    hashes: Vec<(PathBuf, String)>,
}

impl Recorded {
    /// # Errors
    /// A plan.json whose run or flags cannot be understood.
    pub fn new(directory: &PlanDirectory, overrides: &Overrides) -> anyhow::Result<Self> {
        let plan = &directory.plan;
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
        let instant = |name: &str, text: &str| parse_instant(text).map_err(|error| damaged(format!("{name}: {error}")));
        let start = instant("run.start", &plan.run.start)?;
        let replan = plan.replan.clone();
        let lead = replan.as_ref().map_or(0.0, |replan| replan.since_origin_s);
        if !(0.0..=MAX_SECONDS).contains(&lead) {
            return Err(damaged(format!("replan.since_origin_s: {lead} is no time")));
        }
        Ok(Self {
            site: SiteFlags { goal, power_cap: flags.power_cap_w.map(Watts), lead: Seconds(lead) },
            origin: replan.as_ref().map_or(Ok(start), |replan| instant("replan.origin", &replan.origin))?,
            dir: directory.path.clone(),
            replan,
            hashes: kept.map(|input| (PathBuf::from(&input.path), input.sha256.clone())).collect(),
            start,
            power_adjustment: plan.power_adjustment.clone(),
            paths,
            defaults,
        })
    }

    pub fn start(&self) -> SystemTime {
        self.start
    }

    pub fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    pub fn site(&self) -> SiteFlags {
        self.site
    }

    /// The same inputs for a plan that starts so much later; returns from where times in the queue count, and for how long.
    pub fn go_on(&mut self, elapsed: Seconds) -> (SystemTime, Seconds) {
        self.start += Duration::from_secs_f64(elapsed.0);
        self.site.lead += elapsed;
        (self.origin, self.site.lead)
    }

    /// Requests that the plan leaves out.
    ///
    /// # Errors
    /// served.csv is gone or changed.
    pub fn served(&self) -> anyhow::Result<Vec<ServedRow>> {
        let Some(replan) = &self.replan else { return Ok(Vec::new()) };
        unchanged(&self.dir.join(SERVED_CSV), &replan.served_sha256)?;
        Ok(served_csv::read(&self.dir)?)
    }

    /// # Errors
    /// Files that are gone or changed, all at once; else every problem of every file.
    pub fn read(&self) -> anyhow::Result<Inputs> {
        let mut inputs = self.read_as_stated()?;
        if let Some(adjustment) = &self.power_adjustment {
            power_adjustment::apply(adjustment, &mut inputs.cluster)
                .map_err(|what| Failure::bad_data(format!("plan.json: {what}")))?;
        }
        Ok(inputs)
    }

    /// As `read`, without what current power changed.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_as_stated(&self) -> anyhow::Result<Inputs> {
        let mut gathered = Gathered::default();
        for (path, hash) in &self.hashes {
            gathered.take(unchanged(path, hash));
        }
        gathered.finish().map_err(|error| {
            let hint = "paths in plan.json are as `plan` was given them: run this from the same folder, or name other files \
                        with --models, --cluster, --workload, --jobs, --accuracy";
            anyhow::Error::from(error).context(hint)
        })?;
        let mut inputs = inputs::read(&self.paths, &self.defaults, self.site, self.origin)?;
        if let Some(replan) = &self.replan {
            leave_out(&mut inputs, &self.served()?, self.site.lead, &replan.floors)?;
        } else if self.site.lead > Seconds::ZERO {
            leave_out(&mut inputs, &[], self.site.lead, &BTreeMap::new())?;
        }
        Ok(inputs)
    }

    /// What of the plan's power adjustment does not follow from its telemetry; `None` where it has none.
    ///
    /// # Errors
    /// The telemetry or its forecaster is gone or changed, other than by growing.
    pub fn adjustment_differences(&self) -> anyhow::Result<Option<Vec<String>>> {
        let Some(claimed) = &self.power_adjustment else { return Ok(None) };
        let cluster = self.read_as_stated()?.cluster;
        let again = current_power::again(claimed, &cluster, self.start)?;
        Ok(again.map(|again| power_adjustment::differences(claimed, &again)))
    }
}

/// Leaves out requests that other plans serve, and counts times from `later` on. `floors`: what is left of mean floors.
///
/// # Errors
/// A request that is not in the workload.
pub fn leave_out(
    inputs: &mut Inputs,
    served: &[ServedRow],
    later: Seconds,
    floors: &BTreeMap<String, f64>,
) -> anyhow::Result<()> {
    let assembled = &mut inputs.assembled;
    let mut keep = vec![true; assembled.workload.requests.len()];
    let mut index = RequestIndex::new(&assembled.workload.requests);
    for row in served {
        let Some(request) = index.find(&row.request, usize::MAX) else {
            let what = format!("{SERVED_CSV}: request `{}` is not in the workload", row.request);
            return Err(Failure::bad_data(what));
        };
        keep[request] = false;
    }
    let (mut workload, rows) = assembled.workload.only(|request| keep[request], later)?;
    for job in &mut workload.jobs {
        let floor = job.floor.as_mut().filter(|floor| floor.rule == AccuracyRule::Mean);
        if let Some((floor, left)) = floor.zip(floors.get(&job.name)) {
            floor.percent = *left;
        }
    }
    let among = |row: u32| assembled.rows.as_ref().map_or(row, |rows| rows[row as usize]);
    assembled.rows = Some(rows.into_iter().map(among).collect());
    assembled.workload = workload;
    Ok(())
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

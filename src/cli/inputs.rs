//! The inputs of a plan, read together: a plan is refused with every problem of every file at once, not file by file.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::exit;
use crate::domain::{AccuracyTable, Cluster, Engine, FamilyModel, Goal, Steps};
use crate::formats::plan_json::Input;
use crate::formats::problems::{Collector, Problem, Problems};
use crate::formats::site_csv::{self, SiteSeries};
use crate::formats::workload::{Assembled, Defaults, ModelPolicy, assemble};
use crate::formats::write::sha256_file;
use crate::formats::{accuracy_csv, cluster_toml, devices_toml, engines_toml, jobs_toml, models_json};
use crate::units::{Seconds, Watts};

/// Everything wrong with some files together.
#[derive(Debug, Default, thiserror::Error)]
pub struct InputErrors {
    unreadable: Vec<Problems>,
    bad: Vec<Problem>,
}

impl InputErrors {
    /// A file that is not there outweighs one that may not be read, which outweighs bad data.
    pub fn code(&self) -> u8 {
        let codes: Vec<u8> = self.unreadable.iter().map(exit::of_problems).collect();
        let has = |code| codes.contains(&code).then_some(code);
        has(exit::MISSING_INPUT).or(has(exit::PERMISSION)).unwrap_or(exit::BAD_DATA)
    }
}

impl fmt::Display for InputErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<String> = self.unreadable.iter().map(Problems::to_string).collect();
        if !self.bad.is_empty() {
            lines.push(Problems::BadData(self.bad.clone()).to_string());
        }
        f.write_str(&lines.join("\n"))
    }
}

/// Collects what is wrong while files are read.
#[derive(Debug, Default)]
pub struct Gathered(InputErrors);

impl Gathered {
    /// The value, or `None` with its problems noted.
    pub fn take<T>(&mut self, read: Result<T, Problems>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(Problems::BadData(problems)) => {
                self.0.bad.extend(problems);
                None
            }
            Err(unreadable) => {
                self.0.unreadable.push(unreadable);
                None
            }
        }
    }

    pub fn finish(self) -> Result<(), InputErrors> {
        if self.0.unreadable.is_empty() && self.0.bad.is_empty() { Ok(()) } else { Err(self.0) }
    }
}

/// The files a plan is made from.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    pub models: Vec<PathBuf>,
    pub cluster: PathBuf,
    pub workload: Vec<PathBuf>,
    pub jobs: Option<PathBuf>,
    pub accuracy: Option<PathBuf>,
    /// The bundled engines, if absent.
    pub engines: Option<PathBuf>,
    pub tokenizer: Option<PathBuf>,
    pub sidecar: Option<PathBuf>,
}

impl Paths {
    /// (role, path), in the order of plan.json.
    pub fn roles(&self) -> Vec<(&'static str, &Path)> {
        let models = self.models.iter().map(|path| ("models", path.as_path()));
        let workload = self.workload.iter().map(|path| ("workload", path.as_path()));
        let optional = [
            ("jobs", &self.jobs),
            ("accuracy", &self.accuracy),
            ("engines", &self.engines),
            ("tokenizer", &self.tokenizer),
            ("sidecar", &self.sidecar),
        ];
        let optional = optional.into_iter().filter_map(|(role, path)| Some((role, path.as_deref()?)));
        models.chain([("cluster", self.cluster.as_path())]).chain(workload).chain(optional).collect()
    }

    /// Role, path as given and hash of every file and of the `series` that were read with them.
    pub fn hashes(&self, series: &[(SiteSeries, PathBuf)]) -> Result<Vec<Input>, Problems> {
        let input = |(role, path): (&str, &Path)| {
            Ok(Input { role: role.to_owned(), path: path.display().to_string(), sha256: sha256_file(path)? })
        };
        let series = series.iter().map(|(series, path)| (series.role(), path.as_path()));
        self.roles().into_iter().chain(series).map(input).collect()
    }
}

/// What a plan minimises and may draw, as far as flags say.
#[derive(Clone, Copy, Debug, Default)]
pub struct SiteFlags {
    pub goal: Goal,
    /// In place of any cap of the cluster file.
    pub power_cap: Option<Watts>,
    /// Seconds from where times in the queue count to second 0 of the plan, from which series do: 0 but for a plan that
    /// goes on from another.
    pub lead: Seconds,
}

/// What the files say.
#[derive(Clone, Debug)]
pub struct Inputs {
    pub models: Vec<FamilyModel>,
    pub cluster: Cluster,
    /// Files of the site's series that the plan goes by.
    pub series: Vec<(SiteSeries, PathBuf)>,
    pub assembled: Assembled,
    pub accuracy: AccuracyTable,
    pub engines: Vec<Engine>,
    pub warnings: Vec<String>,
}

/// Reads all files. `defaults` and `site` are the flags; instants in the jobs file and in series count from `start`.
///
/// # Errors
/// Every problem of every file.
pub fn read(paths: &Paths, defaults: &Defaults, site: SiteFlags, start: SystemTime) -> Result<Inputs, InputErrors> {
    let mut gathered = Gathered::default();
    for (_, path) in paths.roles() {
        gathered.take(readable(path));
    }
    let there = |path: &Path| readable(path).is_ok();
    let mut models = Vec::new();
    for path in paths.models.iter().filter(|path| there(path)) {
        let read = gathered.take(models_json::read(path)).unwrap_or_default();
        gathered.take(append_models(&mut models, read, path));
    }
    let cluster = there(&paths.cluster)
        .then(|| gathered.take(cluster_toml::read(&paths.cluster, &devices_toml::builtin())))
        .flatten();
    let mut series = Vec::new();
    let cluster = cluster.and_then(|file| {
        let mut cluster = file.cluster;
        series = file.series.into_iter().filter(|(series, _)| site.goes_by(*series)).collect();
        let second_0 = start + Duration::from_secs_f64(site.lead.0.max(0.0));
        gathered.take(site.apply(&mut cluster, &series, &paths.cluster, second_0)).map(|()| cluster)
    });
    let mut optional = Optional { gathered: &mut gathered };
    let jobs = optional.read(&paths.jobs, |path| jobs_toml::read(path, start));
    let accuracy = optional.read(&paths.accuracy, accuracy_csv::read).unwrap_or_default();
    let engines = optional.read(&paths.engines, engines_toml::read).unwrap_or_else(engines_toml::builtin);

    let files: Vec<PathBuf> = paths.workload.iter().filter(|path| there(path)).cloned().collect();
    let mut defaults = defaults.clone();
    defaults.tokenizer = defaults.tokenizer.filter(|path| there(path));
    defaults.sidecar = defaults.sidecar.filter(|path| there(path));
    if paths.jobs.is_some() && jobs.is_none() {
        // What a broken jobs file would have said is not to be asked for a second time.
        defaults.deadline = defaults.deadline.or(Some(Seconds(crate::formats::duration::MAX_SECONDS)));
        defaults.task = defaults.task.or_else(|| Some(String::new()));
        defaults.model_policy = ModelPolicy::Any;
    }
    let assembled = if files.is_empty() && !paths.workload.is_empty() {
        None // every one is missing, and said to be
    } else {
        gathered.take(assemble(&files, jobs.as_ref(), &defaults))
    };
    let mut warnings = Vec::new();
    if let (Some(cluster), Some(assembled)) = (&cluster, &assembled)
        && !models.is_empty()
    {
        let jobs_file = paths.jobs.as_deref().or(paths.workload.first().map(PathBuf::as_path));
        let names = Names::new(&models, cluster, jobs_file.unwrap_or(Path::new("")));
        warnings.extend(gathered.take(names.check(assembled)).unwrap_or_default());
    }
    if let (Some(cluster), Some(assembled)) = (&cluster, &assembled) {
        gathered.take(covered(cluster, &series, assembled, site.lead));
    }
    gathered.finish()?;
    match (cluster, assembled) {
        (Some(cluster), Some(assembled)) => {
            Ok(Inputs { models, cluster, series, assembled, accuracy, engines, warnings })
        }
        // Whatever is missing has been noted above.
        _ => Err(InputErrors::default()),
    }
}

impl SiteFlags {
    fn goes_by(self, series: SiteSeries) -> bool {
        match series {
            SiteSeries::Carbon => self.goal == Goal::Carbon,
            SiteSeries::Price => self.goal == Goal::Cost,
            SiteSeries::PowerCap => self.power_cap.is_none(),
        }
    }

    /// Reads `series` into the site of `cluster`, which came from `file`.
    fn apply(
        self,
        cluster: &mut Cluster,
        series: &[(SiteSeries, PathBuf)],
        file: &Path,
        start: SystemTime,
    ) -> Result<(), Problems> {
        let mut problems = Collector::new(file);
        for (kind, path) in series {
            let steps = problems.absorb(site_csv::read(path, *kind, start))?;
            match kind {
                SiteSeries::Carbon => cluster.site.carbon = steps,
                SiteSeries::Price => cluster.site.price = steps,
                SiteSeries::PowerCap => cluster.site.power_cap = steps,
            }
        }
        if let Some(cap) = self.power_cap {
            cluster.site.power_cap = Some(Steps::constant(cap.0));
        }
        for (goal, series) in [(Goal::Carbon, SiteSeries::Carbon), (Goal::Cost, SiteSeries::Price)] {
            if self.goal == goal && self.lacks(series, cluster) && problems.is_empty() {
                let remedy =
                    format!("add {} = \"FILE.csv\" with the columns timestamp, {}", series.key(), series.column());
                problems.add("site", format!("--objective {} needs `{}`", goal.name(), series.key()), remedy);
            }
        }
        if cluster.site.power_cap.is_some() {
            for pool in cluster.pools.iter().filter(|pool| pool.base_power.is_none()) {
                let what = format!("under a power cap pool `{}` needs `base_power_w`", pool.name);
                problems.add(
                    format!("pool `{}`", pool.name),
                    what,
                    "add base_power_w (watts per node without devices): it counts against the cap",
                );
            }
        }
        problems.finish(())
    }

    fn lacks(self, series: SiteSeries, cluster: &Cluster) -> bool {
        match series {
            SiteSeries::Carbon => cluster.site.carbon.is_none(),
            SiteSeries::Price => cluster.site.price.is_none(),
            SiteSeries::PowerCap => cluster.site.power_cap.is_none(),
        }
    }
}

/// Every series must say something of every second until the last deadline.
fn covered(
    cluster: &Cluster,
    series: &[(SiteSeries, PathBuf)],
    assembled: &Assembled,
    lead: Seconds,
) -> Result<(), Problems> {
    let deadlines = assembled.workload.groups.iter().map(|group| group.deadline.0);
    let horizon = deadlines.fold(0.0, f64::max) - lead.0;
    let mut found = Vec::new();
    for (kind, path) in series {
        let steps = match kind {
            SiteSeries::Carbon => &cluster.site.carbon,
            SiteSeries::Price => &cluster.site.price,
            SiteSeries::PowerCap => &cluster.site.power_cap,
        };
        let Some((from, to)) = steps.as_ref().and_then(|steps| steps.missing(horizon)) else { continue };
        let mut problems = Collector::new(path);
        problems.add(
            "",
            format!(
                "it has no value from second {from:.0} to {to:.0} of the plan, whose last deadline is at second {horizon:.0}"
            ),
            "add rows that cover the plan, or move it with --start",
        );
        if let Problems::BadData(more) = problems.into_error() {
            found.extend(more);
        }
    }
    if found.is_empty() { Ok(()) } else { Err(Problems::BadData(found)) }
}

struct Optional<'a> {
    gathered: &'a mut Gathered,
}

impl Optional<'_> {
    fn read<T>(&mut self, path: &Option<PathBuf>, read: impl FnOnce(&Path) -> Result<T, Problems>) -> Option<T> {
        let path = path.as_deref().filter(|path| readable(path).is_ok())?;
        self.gathered.take(read(path))
    }
}

/// Whether a file is there and may be read. A pipe is refused: a plan reads its inputs more than once.
fn readable(path: &Path) -> Result<(), Problems> {
    let open = || {
        let found = fs::metadata(path)?;
        if found.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        if !found.is_file() {
            return Err(io::Error::other("it is no regular file, and the inputs of a plan are read more than once"));
        }
        File::open(path).map(drop)
    };
    open().map_err(|source| Problems::Unreadable { file: path.to_owned(), source })
}

/// Adds the families of one more file; one that an earlier file has too is a problem.
pub fn append_models(models: &mut Vec<FamilyModel>, more: Vec<FamilyModel>, path: &Path) -> Result<(), Problems> {
    let mut problems = Collector::new(path);
    for model in more {
        if models.iter().any(|known| known.key == model.key) {
            problems.add(
                "families",
                format!("`{}` is in an earlier models file too", model.key),
                "leave one of them out",
            );
        } else {
            models.push(model);
        }
    }
    problems.finish(())
}

/// Models and pools that jobs and requests may name.
struct Names<'a> {
    models: BTreeSet<&'a str>,
    pools: BTreeSet<&'a str>,
    /// Where a wrong name most likely stands.
    file: &'a Path,
}

impl<'a> Names<'a> {
    fn new(models: &'a [FamilyModel], cluster: &'a Cluster, file: &'a Path) -> Self {
        Self {
            models: models.iter().map(|model| model.key.model.as_str()).collect(),
            pools: cluster.pools.iter().map(|pool| pool.name.as_str()).collect(),
            file,
        }
    }

    /// A list of which nothing exists is a problem; one of which something exists, a warning.
    fn check(&self, assembled: &Assembled) -> Result<Vec<String>, Problems> {
        let mut problems = Collector::new(self.file);
        let mut warnings = Vec::new();
        for job in &assembled.workload.jobs {
            for (what, known, names) in [("models", &self.models, &job.models), ("pools", &self.pools, &job.pools)] {
                let Some(names) = names else { continue };
                let unknown: Vec<&str> = names.iter().map(String::as_str).filter(|n| !known.contains(n)).collect();
                if unknown.len() == names.len() {
                    problems.add(
                        format!("job `{}` ({what})", job.name),
                        format!("none of its {what} exists: {}", unknown.join(", ")),
                        format!("known are {}", known.iter().copied().collect::<Vec<_>>().join(", ")),
                    );
                } else {
                    warnings.extend(
                        unknown.iter().map(|name| {
                            format!("job {} names `{name}` among its {what}, which does not exist", job.name)
                        }),
                    );
                }
            }
        }
        let mut seen = BTreeSet::new();
        for group in &assembled.workload.groups {
            let Some(pinned) = &group.pinned_models else { continue };
            if !pinned.iter().any(|model| self.models.contains(model.as_str())) && seen.insert(pinned) {
                problems.add(
                    format!("job `{}` (model)", assembled.workload.jobs[group.job].name),
                    format!("requests ask for {}, of which there is no model", pinned.join(", ")),
                    "add samples of it, or plan with --model-policy any",
                );
            }
        }
        problems.finish(warnings)
    }
}

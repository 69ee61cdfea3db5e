//! Which job each request belongs to, and what holds for it: request, jobs file and flag in that order.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::paths::matching;
use super::rows::RowKey;
use super::{Defaults, ModelPolicy};
use crate::domain::{AccuracyRule, Floor, Group, Job};
use crate::formats::jobs_toml::{JobSpec, JobsFile};
use crate::formats::problems::Problem;
use crate::formats::table::MAX_PROBLEMS;
use crate::units::Seconds;

/// Jobs and groups in the order in which requests name them, and what is wrong.
pub(super) struct Jobs<'a> {
    file: Option<&'a JobsFile>,
    defaults: &'a Defaults,
    pub jobs: Vec<Draft>,
    job_index: HashMap<String, usize>,
    pub groups: Vec<Group>,
    notes: Vec<GroupNote>,
    group_index: HashMap<GroupKey, u32>,
    unnamed_by: HashMap<String, PathBuf>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
}

impl<'a> Jobs<'a> {
    pub fn new(file: Option<&'a JobsFile>, defaults: &'a Defaults) -> Self {
        Self {
            file,
            defaults,
            jobs: Vec::new(),
            job_index: HashMap::new(),
            groups: Vec::new(),
            notes: Vec::new(),
            group_index: HashMap::new(),
            unnamed_by: HashMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub fn problem(&mut self, file: &Path, place: &str, what: &str, remedy: &str) {
        if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        self.problems.push(Problem {
            file: file.to_owned(),
            place: place.to_owned(),
            what: what.to_owned(),
            remedy: remedy.to_owned(),
        });
    }

    /// For each workload file the job that lists it. Files are the same if their paths are, as given, seen from the
    /// jobs file or resolved.
    pub fn attach_files(&mut self, files: &[PathBuf]) -> Vec<Option<&'a JobSpec>> {
        let resolved: Vec<PathBuf> = files.iter().map(|path| resolve(path)).collect();
        for (index, path) in files.iter().enumerate() {
            if resolved[..index].contains(&resolved[index]) {
                self.problem(
                    path,
                    "",
                    "the file is given twice",
                    "its requests would have the same names; give it once",
                );
            }
        }
        let mut attached = vec![None; files.len()];
        let Some(jobs) = self.file else { return attached };
        let folder = jobs.path.parent().unwrap_or(Path::new(""));
        for job in &jobs.jobs {
            for wanted in &job.files {
                let meant = [folder.join(wanted), wanted.clone()].into_iter().flat_map(|path| matching(&path));
                let names: Vec<PathBuf> = meant.map(|path| resolve(&path)).collect();
                let found: Vec<usize> = (0..files.len()).filter(|index| names.contains(&resolved[*index])).collect();
                if found.is_empty() {
                    let what = format!("job `{}` lists `{}`, which is no workload file", job.name, wanted.display());
                    let remedy = format!("add --workload {}", wanted.display());
                    self.problem(&jobs.path, &format!("line {}", job.line), &what, &remedy);
                }
                for index in found {
                    if let Some(other) = attached[index].replace(job)
                        && other.name != job.name
                    {
                        let what = format!("jobs `{}` and `{}` both list `{}`", other.name, job.name, wanted.display());
                        self.problem(&jobs.path, &format!("line {}", job.line), &what, "a file belongs to one job");
                    }
                }
            }
        }
        attached
    }

    /// The group of each key of a file.
    pub fn groups_of(&mut self, path: &Path, keys: &[RowKey], attached: Option<&JobSpec>) -> Vec<u32> {
        let mut unnamed = None;
        keys.iter()
            .map(|key| {
                let job = match &key.job {
                    Some(name) => self.job(name, path, key.line),
                    None => *unnamed.get_or_insert_with(|| self.unnamed_job(path, key.line, attached)),
                };
                self.group(job, key, path)
            })
            .collect()
    }

    /// The job of requests that name none: the one that lists the file, or one named by the file.
    fn unnamed_job(&mut self, path: &Path, line: u64, attached: Option<&JobSpec>) -> usize {
        if let Some(job) = attached {
            return self.job(&job.name, path, line);
        }
        let stem = stem(path);
        self.note_unnamed(path, &stem);
        self.job(&stem, path, line)
    }

    /// Two files whose requests name no job must not become one job by chance.
    fn note_unnamed(&mut self, path: &Path, stem: &str) {
        match self.unnamed_by.get(stem) {
            Some(other) if other != path => {
                let what = format!("this file and {} would both be job `{stem}`", other.display());
                self.unnamed_by.insert(stem.to_owned(), path.to_owned());
                self.problem(path, "", &what, "rename one, or list both under `files` of a job in the jobs file");
            }
            Some(_) => {}
            None => drop(self.unnamed_by.insert(stem.to_owned(), path.to_owned())),
        }
    }

    fn job(&mut self, name: &str, path: &Path, line: u64) -> usize {
        if let Some(index) = self.job_index.get(name) {
            return *index;
        }
        let spec = self.file.and_then(|file| file.jobs.iter().find(|job| job.name == name));
        let floor = spec.and_then(|spec| spec.min_accuracy).or(self.defaults.min_accuracy);
        let rule = spec.map_or(AccuracyRule::Mean, |spec| spec.accuracy_rule);
        let job = Job {
            name: name.to_owned(),
            task: spec.and_then(|spec| spec.task.clone()).or_else(|| self.defaults.task.clone()),
            floor: floor.map(|percent| Floor { percent, rule }),
            deadline: Seconds::ZERO,
            release: Seconds::ZERO,
            models: spec.and_then(|spec| spec.models.clone()),
            pools: spec.and_then(|spec| spec.pools.clone()),
            max_ttft: spec.and_then(|spec| spec.max_ttft),
            max_tbt: spec.and_then(|spec| spec.max_tbt),
        };
        self.jobs.push(Draft {
            job,
            deadline: spec.and_then(|spec| spec.deadline).or(self.defaults.deadline),
            release: spec.and_then(|spec| spec.release),
            seen_in: path.to_owned(),
            line,
        });
        self.job_index.insert(name.to_owned(), self.jobs.len() - 1);
        self.jobs.len() - 1
    }

    fn group(&mut self, job: usize, key: &RowKey, path: &Path) -> u32 {
        let pinned_models = self.pinned_models(key, path);
        let draft = &self.jobs[job];
        let deadline = key.deadline.or(draft.deadline);
        let release = key.release.or(draft.release).unwrap_or(Seconds::ZERO);
        let every = draft.job.floor.filter(|floor| floor.rule == AccuracyRule::Every);
        let own_floor = key.min_accuracy.or(every.map(|floor| floor.percent));
        if let Some(deadline) = deadline.filter(|deadline| release >= *deadline) {
            let what = format!("released at {release}, not before its deadline at {deadline}");
            self.problem(path, &format!("line {}", key.line), &what, "release it earlier or move the deadline");
        }
        let model = pinned_models.as_ref().and(key.model.clone());
        let figures = [own_floor, deadline.map(|time| time.0), Some(release.0)].map(|figure| figure.map(f64::to_bits));
        *self.group_index.entry(GroupKey { job, model, figures }).or_insert_with(|| {
            self.groups.push(Group {
                job,
                // Without a deadline the job is refused in the end; the value is never used.
                deadline: deadline.unwrap_or(Seconds::ZERO),
                release,
                own_floor,
                pinned_models,
            });
            self.notes.push(GroupNote { no_deadline: deadline.is_none(), own_floor: key.min_accuracy.is_some() });
            self.groups.len() as u32 - 1 // no more groups than requests, of which there are at most MAX_REQUESTS
        })
    }

    fn pinned_models(&mut self, key: &RowKey, path: &Path) -> Option<Vec<String>> {
        if self.defaults.model_policy == ModelPolicy::Any {
            return None;
        }
        let policy = self.defaults.model_policy.as_str();
        let place = format!("line {} (model)", key.line);
        let Some(model) = &key.model else {
            let what = format!("the request names no model, which `--model-policy {policy}` needs");
            self.problem(path, &place, &what, "name one, or plan with --model-policy any");
            return None;
        };
        if self.defaults.model_policy == ModelPolicy::Pin {
            return Some(vec![model.clone()]);
        }
        let served = self.file.and_then(|file| file.map.get(model)).cloned();
        if served.is_none() {
            let what = format!("`{model}` is not in `[map]` of the jobs file");
            self.problem(path, &place, &what, &format!("add \"{model}\" = [\"a served model\"] there"));
        }
        served
    }

    /// Deadline, release and floor of each job from all its groups; what is missing or left over.
    pub fn finish(&mut self, group_of: &[u32]) {
        let mut all: Vec<Summary> = self.jobs.iter().map(|_| Summary::default()).collect();
        for (group, note) in self.groups.iter().zip(&self.notes) {
            all[group.job].add(group, note);
        }
        for group in group_of {
            let group = *group as usize; // an index that `group` gave out
            all[self.groups[group].job].without_deadline += usize::from(self.notes[group].no_deadline);
        }
        for (index, summary) in all.into_iter().enumerate() {
            self.finish_job(index, &summary);
        }
        if self.defaults.min_accuracy.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            self.problem(Path::new("--min-accuracy"), "", "not a percentage", "give a number from 0 to 100");
        }
        if self.defaults.deadline.is_some_and(|deadline| !(deadline.0 > 0.0 && deadline.0.is_finite())) {
            self.problem(Path::new("--deadline"), "", "not after the start", "give for example --deadline 8h");
        }
        let Some(file) = self.file else { return };
        for job in file.jobs.iter().filter(|job| !self.job_index.contains_key(&job.name)) {
            self.warnings.push(format!("{}: job `{}` has no requests", file.path.display(), job.name));
        }
    }

    fn finish_job(&mut self, index: usize, summary: &Summary) {
        let draft = &mut self.jobs[index];
        draft.job.deadline = draft.deadline.unwrap_or(summary.latest);
        draft.job.release = draft.release.or(summary.earliest).unwrap_or(Seconds::ZERO);
        if !summary.lacks_own_floor {
            draft.job.floor = None; // every request's own floor binds alone
        }
        let needs_task = (summary.has_own_floor || draft.job.floor.is_some()) && draft.job.task.is_none();
        let (name, path, place) = (draft.job.name.clone(), draft.seen_in.clone(), format!("line {}", draft.line));
        if summary.without_deadline > 0 {
            let what = format!("{} requests of job `{name}` have no deadline", summary.without_deadline);
            let remedy = "give --deadline 8h, `deadline` in the jobs file or a deadline_s column";
            self.problem(&path, &place, &what, remedy);
        }
        if needs_task {
            let what = format!("job `{name}` has an accuracy floor but no task to measure it by");
            self.problem(&path, &place, &what, "give --task, or `task` in the jobs file");
        }
    }
}

/// A job being put together.
pub(super) struct Draft {
    pub job: Job,
    /// Deadline by jobs file or flag.
    deadline: Option<Seconds>,
    release: Option<Seconds>,
    /// The workload file and line where its first request stands.
    seen_in: PathBuf,
    line: u64,
}

/// What becomes of a group's job depends on these of all its groups.
struct GroupNote {
    no_deadline: bool,
    /// By its own column, not by its job's rule.
    own_floor: bool,
}

#[derive(PartialEq, Eq, Hash)]
struct GroupKey {
    job: usize,
    model: Option<String>,
    /// Bits of own floor, deadline, release.
    figures: [Option<u64>; 3],
}

/// The groups of one job together.
#[derive(Default)]
struct Summary {
    latest: Seconds,
    earliest: Option<Seconds>,
    has_own_floor: bool,
    lacks_own_floor: bool,
    without_deadline: usize,
}

impl Summary {
    fn add(&mut self, group: &Group, note: &GroupNote) {
        self.latest = self.latest.max(group.deadline);
        self.earliest = Some(self.earliest.map_or(group.release, |earliest| earliest.min(group.release)));
        self.has_own_floor |= note.own_floor;
        self.lacks_own_floor |= !note.own_floor;
    }
}

/// The name of the file without what says how it is laid out and packed.
fn stem(path: &Path) -> String {
    let packed = path.extension().is_some_and(|extension| extension == "gz" || extension == "zst");
    let unpacked = if packed { path.with_extension("") } else { path.to_owned() };
    unpacked.file_stem().map_or_else(|| "workload".into(), |stem| stem.to_string_lossy().into_owned())
}

fn resolve(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

//! The jobs file: per job its files, task, floor, times and limits; and which models may stand for a requested one.
//!
//! Everything but the name is optional here: what a job lacks may come from its requests or from flags, and only
//! `workload::assemble` can tell whether something is missing. Whether models and pools exist is the planner's question.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::duration::{self, TimeError};
use super::problems::Problems;
use super::text::read_text;
use super::toml_document::{Section, read_document};
use crate::domain::AccuracyRule;
use crate::units::Seconds;

/// One `[[job]]`. Times count from the start of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSpec {
    pub name: String,
    /// Workload files whose requests belong to the job unless a request names another, as written.
    pub files: Vec<PathBuf>,
    pub task: Option<String>,
    /// Percent.
    pub min_accuracy: Option<f64>,
    pub accuracy_rule: AccuracyRule,
    pub deadline: Option<Seconds>,
    pub release: Option<Seconds>,
    pub models: Option<Vec<String>>,
    pub pools: Option<Vec<String>>,
    pub max_ttft: Option<Seconds>,
    pub max_tbt: Option<Seconds>,
    /// Where the job stands in the file.
    pub line: usize,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobsFile {
    pub path: PathBuf,
    pub jobs: Vec<JobSpec>,
    /// Models that may serve a requested one, for `--model-policy map`.
    pub map: BTreeMap<String, Vec<String>>,
}

/// Reads a jobs file. Instants in it are counted from `start`.
pub fn read(path: &Path, start: SystemTime) -> Result<JobsFile, Problems> {
    parse(&read_text(path)?, path, start)
}

/// As `read`, from text; `path` only names it in messages (and is where relative `files` are looked for).
pub fn parse(text: &str, path: &Path, start: SystemTime) -> Result<JobsFile, Problems> {
    read_document(path, text, |root| {
        let mut jobs: Vec<JobSpec> = Vec::new();
        for mut section in root.sections("job") {
            let job = read_job(&mut section, start);
            section.note_unknown_keys();
            if !job.name.is_empty() && jobs.iter().any(|other| other.name == job.name) {
                section.problem("name", format!("a job `{}` exists already", job.name), "give each job its own name");
            }
            for file in &job.files {
                if let Some(other) = jobs.iter().find(|other| other.files.contains(file)) {
                    let what = format!("`{}` belongs to job `{}` already", file.display(), other.name);
                    section.problem("files", what, "a file belongs to one job");
                }
            }
            jobs.push(job);
        }
        let map: BTreeMap<_, _> = root.section("map").map(|mut map| read_map(&mut map)).unwrap_or_default();
        if jobs.is_empty() && map.is_empty() && !root.has("job") && !root.has("map") {
            root.problem("job", "there is no job", "describe at least one in a `[[job]]` table");
        }
        JobsFile { path: path.to_owned(), jobs, map }
    })
}

fn read_job(section: &mut Section, start: SystemTime) -> JobSpec {
    section.require("name", "name the job");
    let rules = [("mean", AccuracyRule::Mean), ("every", AccuracyRule::Every)];
    let job = JobSpec {
        name: section.text("name").unwrap_or_default(),
        files: section.texts("files").unwrap_or_default().into_iter().map(PathBuf::from).collect(),
        task: section.text("task"),
        min_accuracy: section.number("min_accuracy", 0.0, 100.0),
        accuracy_rule: section.one_of("accuracy_rule", &rules).unwrap_or(AccuracyRule::Mean),
        deadline: section.parsed("deadline", |text| duration::parse_point(text, start)),
        release: section.parsed("release", |text| parse_release(text, start)),
        models: read_names(section, "models"),
        pools: read_names(section, "pools"),
        max_ttft: section.number("max_ttft_s", f64::MIN_POSITIVE, duration::MAX_SECONDS).map(Seconds),
        max_tbt: section.number("max_tbt_s", f64::MIN_POSITIVE, duration::MAX_SECONDS).map(Seconds),
        line: section.line(),
    };
    if job.deadline == Some(Seconds::ZERO) {
        section.problem("deadline", "the deadline is the start of the plan", "give a later one");
    }
    if section.has("accuracy_rule") && !section.has("min_accuracy") {
        section.problem("accuracy_rule", "a rule without `min_accuracy` says nothing", "add min_accuracy or remove it");
    }
    if let (Some(release), Some(deadline)) = (job.release, job.deadline)
        && release >= deadline
    {
        section.problem("release", "the job is released at or after its deadline", "release it earlier");
    }
    job
}

/// A release before the start means: ready at once.
fn parse_release(text: &str, start: SystemTime) -> Result<Seconds, TimeError> {
    match duration::parse_point(text, start) {
        Err(TimeError::Past(_)) => Ok(Seconds::ZERO),
        other => other,
    }
}

fn read_names(section: &mut Section, key: &'static str) -> Option<Vec<String>> {
    let names = section.texts(key)?;
    if names.is_empty() {
        section.problem(key, "the list is empty: nothing could serve the job", format!("name some {key} or remove it"));
    }
    Some(names)
}

fn read_map(map: &mut Section) -> BTreeMap<String, Vec<String>> {
    let entries = map.named_texts();
    for (requested, _) in entries.iter().filter(|(_, served)| served.is_empty()) {
        map.problem(requested, "the list is empty: nothing could serve it", "name the models that may");
    }
    entries.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(text: &str) -> Result<JobsFile, Problems> {
        parse(text, Path::new("j.toml"), humantime::parse_rfc3339("2026-11-20T22:00:00Z").unwrap())
    }

    #[test]
    fn a_full_file_is_read() {
        let file = jobs(
            r#"
[[job]]
name = "summaries"
files = ["a.csv", "sub/b.jsonl"]
task = "mmlu_pro"
min_accuracy = 60
accuracy_rule = "every"
deadline = 2026-11-21T06:00:00Z
release = "30min"
models = ["m1"]
pools = ["h100"]
max_ttft_s = 2
max_tbt_s = 0.1

[[job]]
name = "early"
deadline = "8h"
release = "2026-11-20T20:00:00Z"

[map]
"gpt-4o" = ["m1", "m2"]
"#,
        )
        .unwrap();
        let job = &file.jobs[0];
        assert_eq!((job.deadline, job.release), (Some(Seconds(28_800.0)), Some(Seconds(1_800.0))));
        assert_eq!((job.min_accuracy, job.accuracy_rule, job.line), (Some(60.0), AccuracyRule::Every, 2));
        assert_eq!(job.files, [PathBuf::from("a.csv"), PathBuf::from("sub/b.jsonl")]);
        assert_eq!((job.max_ttft, job.max_tbt), (Some(Seconds(2.0)), Some(Seconds(0.1))));
        assert_eq!(file.jobs[1].release, Some(Seconds::ZERO), "released before the start: ready at once");
        assert_eq!(file.map["gpt-4o"], ["m1", "m2"]);
    }

    #[test]
    fn defects_are_reported_together() {
        let text = "[[job]]\nname = \"a\"\ndeadline = \"8\"\nmin_accuracy = 101\nmodels = []\n[[job]]\nname = \"a\"\nrelease = \"2h\"\ndeadline = \"1h\"\n[map]\nx = []\n[maps]\n";
        let message = jobs(text).unwrap_err().to_string();
        for part in [
            "line 3, column 12 (job[1].deadline): `8` has no unit",
            "(job[1].min_accuracy): 101",
            "(job[1].models)",
            "(job[2].name)",
            "(job[2].release)",
            "(map.x)",
            "unknown key `maps`",
        ] {
            assert!(message.contains(part), "{part} in {message}");
        }
        assert_eq!(message.lines().count(), 7, "{message}");
        assert!(jobs("").is_err());
    }
}

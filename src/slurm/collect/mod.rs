//! Answers put together again: one file a job of the workload, with the caller's ids in the caller's order.
//!
//! A request finds its line in its instance's shard by its custom_id, and the answer names that line. What was answered more
//! than once counts once. What a command made of rows of CSV files is put beside them (`rows`).

mod rows;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use self::rows::Rows;
use super::shard_state::{answers, for_each_line, result_of};
use crate::formats::Problems;
use crate::formats::job_scripts::{InstanceScript, JobScripts};
use crate::formats::text::open_text;
use crate::formats::workload::{Format, WorkloadFile};
use crate::formats::write::{WriteError, write_atomic_with};

#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error(transparent)]
    Input(#[from] Problems),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("request `{id}` is not in the shard of instance {instance}; the workload or the shard changed")]
    NotInShard { id: String, instance: String },
}

/// What the answers are about.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub files: &'a [WorkloadFile],
    /// Names of the jobs, and the job of each request.
    pub jobs: &'a [String],
    pub job: &'a [usize],
    /// The name and the instance of each request; empty where another plan serves it.
    pub id: &'a [String],
    pub instance: &'a [String],
}

/// A job's answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    pub job: String,
    /// One; of a job with requests both as text and as rows, one of each.
    pub files: Vec<PathBuf>,
    pub requests: u64,
    pub answered: u64,
    /// Rows whose command is done and wrote no output of its own.
    pub elsewhere: u64,
}

/// Where an answer stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    result: usize,
    at: u64,
    bytes: usize,
}

/// Writes `<job>.jsonl` or `<job>.csv` into `out` for every job, as its requests came.
///
/// # Errors
/// Files that cannot be read or written; a workload that is not the one that was planned.
pub fn collect(
    dir: &Path,
    scripts: &JobScripts,
    asked: &Asked<'_>,
    out: &Path,
) -> Result<Vec<Collected>, CollectError> {
    let mut results = Vec::new();
    let mut shards: BTreeMap<&str, Shard> = BTreeMap::new();
    for instance in scripts.instances() {
        shards.insert(&instance.instance, Shard::read(dir, instance, &mut results)?);
    }
    let mut collected: Vec<Collected> = asked
        .jobs
        .iter()
        .map(|job| Collected { job: job.clone(), files: Vec::new(), requests: 0, answered: 0, elsewhere: 0 })
        .collect();
    let mut rows = Rows::read(dir, scripts, asked.files)?;
    let (mut with_text, mut with_rows) = (vec![false; asked.jobs.len()], vec![false; asked.jobs.len()]);
    let mut places: Vec<Vec<Place>> = vec![Vec::new(); asked.jobs.len()];
    let mut lines: Vec<Vec<u8>> = vec![Vec::new(); asked.jobs.len()];
    for file in asked.files {
        let requests = file.first_request..file.first_request + file.requests;
        let jobs = |request: usize| asked.job.get(request).copied().unwrap_or(0);
        if file.format != Format::OpenaiBatch {
            let here = |request: &usize| asked.instance.get(*request).is_some_and(|instance| !instance.is_empty());
            requests.filter(here).for_each(|request| with_rows[jobs(request)] = true);
            rows.gather(file, asked, &mut collected, &mut lines)?;
            continue;
        }
        let mut request = requests.start;
        for line in open_text(&file.path)?.lines() {
            let line = line.map_err(|source| CollectError::Read { path: file.path.clone(), source })?;
            let line = line.trim_start_matches('\u{feff}').trim();
            if line.is_empty() || request >= requests.end {
                continue;
            }
            let instance = asked.instance.get(request).map_or("", String::as_str);
            if instance.is_empty() {
                request += 1;
                continue;
            }
            let job = jobs(request);
            let id = custom_id(line.as_bytes()).unwrap_or_default();
            let Some(answer) = shards.get(instance).and_then(|shard| shard.answer(&id)) else {
                return Err(CollectError::NotInShard { id, instance: instance.to_owned() });
            };
            with_text[job] = true;
            collected[job].requests += 1;
            collected[job].answered += u64::from(answer.is_some());
            places[job].extend(answer);
            request += 1;
        }
    }
    fs::create_dir_all(out).map_err(|source| WriteError::Cannot { path: out.to_owned(), source })?;
    for (job, name) in file_names(asked.jobs).iter().enumerate() {
        if with_text[job] {
            let path = out.join(format!("{name}.jsonl"));
            write(&path, &places[job], &results)?;
            collected[job].files.push(path);
        }
        if with_rows[job] && collected[job].elsewhere < collected[job].requests {
            let path = out.join(format!("{name}.csv"));
            rows.write(&path, &lines[job])?;
            collected[job].files.push(path);
        }
    }
    Ok(collected)
}

fn write(path: &Path, places: &[Place], results: &[PathBuf]) -> Result<(), CollectError> {
    let mut open: BTreeMap<usize, File> = BTreeMap::new();
    let fill = |out: &mut io::BufWriter<&mut File>| -> io::Result<()> {
        let mut line = Vec::new();
        for place in places {
            let file = match open.entry(place.result) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => entry.insert(File::open(&results[place.result])?),
            };
            file.seek(SeekFrom::Start(place.at))?;
            line.resize(place.bytes, 0);
            file.read_exact(&mut line)?;
            out.write_all(&line)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    };
    Ok(write_atomic_with(path, fill)?)
}

/// The requests of a shard by their ids, and the answers to them.
#[derive(Debug, Default)]
struct Shard {
    /// The line of each custom_id: a queue has each once.
    lines: BTreeMap<String, u64>,
    answers: BTreeMap<u64, Place>,
}

impl Shard {
    fn read(dir: &Path, instance: &InstanceScript, results: &mut Vec<PathBuf>) -> Result<Self, CollectError> {
        let mut shard = Self::default();
        for name in instance.shards.iter().filter(|name| name.ends_with(".jsonl")) {
            let path = dir.join(name);
            let mut number = 0;
            let remember = |_, line: &[u8]| {
                number += 1;
                shard.lines.extend(custom_id(line).map(|id| (id, number)));
            };
            for_each_line(&path, remember).map_err(|source| CollectError::Read { path: path.clone(), source })?;
            let result = results.len();
            let path = result_of(dir, name);
            let place = |number: u64, at: u64, line: &[u8]| {
                shard.answers.entry(number).or_insert(Place { result, at, bytes: line.len() });
            };
            answers(&path, place).map_err(|source| CollectError::Read { path: path.clone(), source })?;
            results.push(path);
        }
        Ok(shard)
    }

    /// The answer to a request; `None` if the shard does not have the request.
    fn answer(&self, id: &str) -> Option<Option<Place>> {
        self.lines.get(id).map(|number| self.answers.get(number).copied())
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    custom_id: Cow<'a, str>,
}

fn custom_id(line: &[u8]) -> Option<String> {
    serde_json::from_slice::<Line<'_>>(line).ok().map(|line| line.custom_id.into_owned())
}

/// A name for the file of each job, the job's own where that is a file's name; what kind of file follows.
fn file_names(jobs: &[String]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut names = Vec::new();
    for job in jobs {
        let kept = |c: char| if c.is_control() || "/\\:*?\"<>|".contains(c) { '_' } else { c };
        let mut plain: String = job.chars().map(kept).take(100).collect();
        if plain.starts_with(['.', '-']) || plain.is_empty() {
            plain.insert(0, '_');
        }
        let mut name = plain.clone();
        let mut number = 2;
        while !taken.insert(name.to_lowercase()) {
            name = format!("{plain}-{number}");
            number += 1;
        }
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_have_files_of_their_own() {
        let jobs = ["night", "Night", "../../etc/passwd", "-rf", ".hidden", "a\nb", ""].map(str::to_owned);
        let names = file_names(&jobs);
        assert_eq!(names, ["night", "Night-2", "_.._.._etc_passwd", "_-rf", "_.hidden", "a_b", "_"]);
    }

    #[test]
    fn answers_return_to_the_requests_they_are_for() {
        let dir = tempfile::tempdir().unwrap();
        let line = |id: &str, prompt: &str, model: &str| {
            serde_json::json!({"custom_id": id, "body": {"model": model, "prompt": prompt}}).to_string() + "\n"
        };
        let answer =
            |at: u64, id: &str| serde_json::json!({"id": format!("i0001-{at}"), "custom_id": id}).to_string() + "\n";
        let write = |name: &str, text: String| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        // The shard is in another order; `b` has no answer, `c` two, and an answer is cut off.
        let files = [
            write("one.jsonl", line("a", "", "x") + "\n" + &line("b", "", "x")),
            write("two.jsonl", line("c", "", "x") + &line("d", "", "x")),
        ];
        write(
            "shards/i0001.jsonl",
            line("c", "", "m") + &line("d", "", "m") + &line("b", "", "m") + &line("a", "", "m"),
        );
        write(
            "results/i0001.jsonl",
            answer(4, "a") + &answer(1, "c") + &answer(2, "d") + &answer(1, "c") + "{\"id\": \"i0001-3\"",
        );
        let instance = serde_json::json!({"instance": "i0001", "node": "n", "devices": [], "begin_s": 0, "start_s": 0, "end_s": 1,
            "time_limit_min": 1, "after": [], "shards": ["shards/i0001.jsonl"], "energy_j": 0, "load_j": 0, "jobs": []});
        let scripts: JobScripts = serde_json::from_value(serde_json::json!({"schema_version": 1, "scripts": [{"file": "", "pool": "p",
            "kind": "cpu", "partition": null, "deployment": "d", "options": [], "nodes": "", "other_nodes": "", "time_limit_min": 1,
            "deadline_s": null, "instances": [instance]}]})).unwrap();
        let file = |index: usize| WorkloadFile {
            path: files[index].clone(),
            format: Format::OpenaiBatch,
            first_request: 2 * index,
            requests: 2,
        };
        let asked = Asked {
            files: &[file(0), file(1)],
            jobs: &["one".to_owned(), "two".to_owned()],
            job: &[0, 0, 1, 1],
            id: &["a", "b", "c", "d"].map(str::to_owned),
            instance: &vec!["i0001".to_owned(); 4],
        };
        let out = dir.path().join("out");
        let collected = collect(dir.path(), &scripts, &asked, &out).unwrap();
        assert_eq!(collected.iter().map(|job| (job.requests, job.answered)).collect::<Vec<_>>(), [(2, 1), (2, 2)]);
        let ids = |name: &str| -> Vec<String> {
            let text = fs::read_to_string(out.join(name)).unwrap();
            text.lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(ids("one.jsonl"), ["i0001-4"]);
        assert_eq!(ids("two.jsonl"), ["i0001-1", "i0001-2"]);
        write("two.jsonl", line("c", "", "x") + &line("new", "", "x"));
        assert!(matches!(collect(dir.path(), &scripts, &asked, &out), Err(CollectError::NotInShard { .. })));
    }
}

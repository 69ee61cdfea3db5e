//! Names of the requests of all files: the caller's where any file has them, else rows. No two requests share one.
//!
//! Repeated ids are found by sorting 64-bit hashes; only where two hashes meet are the ids themselves compared.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;

use super::own_ids::{Kept, Layout, OwnIds, StoredIds, hash};
use crate::domain::request_ids::write_row;
use crate::domain::{IdSource, IdsUnavailable, Names, RequestIds};
use crate::formats::problems::Problem;
use crate::formats::table::MAX_PROBLEMS;

pub(super) struct Ids<'a> {
    paths: &'a [PathBuf],
    labels: Vec<String>,
    files: Vec<FileIds>,
    requests: usize,
    /// Of the ids that files give, as long as any does.
    hashes: Vec<u64>,
}

/// The requests of one file.
#[derive(Debug)]
struct FileIds {
    first: usize,
    names: FileNames,
}

#[derive(Debug)]
enum FileNames {
    /// The label of the file, and its row.
    Rows(String),
    Held(Names),
    Stored(StoredIds),
}

impl<'a> Ids<'a> {
    pub fn new(paths: &'a [PathBuf]) -> Self {
        let short: Vec<String> = paths
            .iter()
            .map(|path| path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()))
            .collect();
        let distinct = short.iter().collect::<BTreeSet<_>>().len() == short.len();
        let labels = match paths {
            [_] => vec![String::new()],
            _ if distinct => short,
            _ => paths.iter().map(|path| path.display().to_string()).collect(),
        };
        Self { paths, labels, files: Vec::new(), requests: 0, hashes: Vec::new() }
    }

    /// The next file's ids and how they lie in it, if it has any, and how many requests it holds.
    pub fn add(&mut self, ids: Option<(OwnIds, Layout)>, requests: usize) {
        let index = self.files.len();
        let label = self.labels.get(index).cloned().unwrap_or_default();
        let names = match ids {
            None => FileNames::Rows(label),
            Some((ids, layout)) => {
                if self.hashes.is_empty() {
                    self.hashes = ids.hashes;
                } else {
                    self.hashes.extend(ids.hashes);
                }
                match ids.kept {
                    Kept::Held(names) => FileNames::Held(names),
                    Kept::Stored(places) => FileNames::Stored(StoredIds::new(&self.paths[index], layout, places)),
                }
            }
        };
        self.files.push(FileIds { first: self.requests, names });
        self.requests += requests;
    }

    /// All names; those that occur twice are added to `problems`.
    pub fn finish(mut self, problems: &mut Vec<Problem>) -> RequestIds {
        let is_row = |file: &FileIds| matches!(file.names, FileNames::Rows(_));
        if self.files.iter().all(is_row) {
            let label = |file: FileIds| match file.names {
                FileNames::Rows(label) => (label, file.first),
                _ => (String::new(), file.first), // there is no such file
            };
            return RequestIds::Rows(self.files.into_iter().map(label).collect());
        }
        let mut hashes = std::mem::take(&mut self.hashes);
        let all = AllIds { files: self.files, requests: self.requests };
        if all.files.iter().any(is_row) {
            let rows = all.files.iter().filter(|file| is_row(file));
            // A row's name may be the id that another file gives.
            let unread = rows.map(|file| {
                all.visit_file(file, file.first..all.end(file), &mut |_, id| {
                    hashes.push(hash(id));
                })
            });
            unread.for_each(drop);
        }
        problems.extend(repeated(self.paths, &all, hashes));
        if all.files.iter().any(|file| matches!(file.names, FileNames::Stored(_))) {
            return RequestIds::Kept(Arc::new(all));
        }
        let mut files = all.files;
        if let [FileIds { names: FileNames::Held(names), .. }] = &mut files[..] {
            return RequestIds::Named(std::mem::take(names));
        }
        let all = AllIds { files, requests: all.requests };
        let mut names = Names::with_capacity(all.requests);
        let _ = all.visit(0..all.requests, &mut |_, id| names.push(id)); // all of them are in memory
        RequestIds::Named(names)
    }
}

/// A problem for each of the first ids that occurred before.
fn repeated(paths: &[PathBuf], all: &AllIds, mut hashes: Vec<u64>) -> Vec<Problem> {
    hashes.par_sort_unstable();
    let met: HashSet<u64> = hashes.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    drop(hashes);
    let mut problems = Vec::new();
    if met.is_empty() {
        return problems;
    }
    let mut seen: HashSet<String> = HashSet::new();
    let mut compare = |index: usize, id: &str| {
        if problems.len() < MAX_PROBLEMS && met.contains(&hash(id)) && !seen.insert(id.to_owned()) {
            let file = all.file_of(index);
            problems.push(Problem {
                file: paths.get(file).cloned().unwrap_or_default(),
                place: format!("request {}", index - all.files.get(file).map_or(0, |file| file.first) + 1),
                what: format!("the id `{id}` occurs twice"),
                remedy: "give every request its own id".to_owned(),
            });
        }
    };
    let compared = all.visit(0..all.requests, &mut compare);
    problems.extend(compared.err().map(|error| Problem {
        file: paths.first().cloned().unwrap_or_default(),
        place: String::new(),
        what: format!("two ids may be the same, and {error}"),
        remedy: "leave the workload alone while it is planned".to_owned(),
    }));
    problems
}

/// The names of all requests, wherever they are.
#[derive(Debug)]
struct AllIds {
    files: Vec<FileIds>,
    requests: usize,
}

impl AllIds {
    fn file_of(&self, request: usize) -> usize {
        self.files.partition_point(|file| file.first <= request).saturating_sub(1)
    }

    fn end(&self, file: &FileIds) -> usize {
        let behind = self.files.partition_point(|other| other.first <= file.first);
        self.files.get(behind).map_or(self.requests, |next| next.first)
    }

    fn visit_file(
        &self,
        file: &FileIds,
        range: Range<usize>,
        visit: &mut dyn FnMut(usize, &str),
    ) -> Result<(), IdsUnavailable> {
        let first = file.first;
        match &file.names {
            FileNames::Held(names) => range.for_each(|index| visit(index, names.get(index - first))),
            FileNames::Rows(label) => {
                let mut name = String::new();
                for index in range {
                    write_row(&mut name, label, index - first);
                    visit(index, &name);
                }
            }
            FileNames::Stored(ids) => {
                let within = range.start - first..range.end - first;
                return ids.visit(within, &mut |index, id| visit(first + index, id));
            }
        }
        Ok(())
    }
}

impl IdSource for AllIds {
    fn len(&self) -> usize {
        self.requests
    }

    fn visit(&self, range: Range<usize>, visit: &mut dyn FnMut(usize, &str)) -> Result<(), IdsUnavailable> {
        let mut start = range.start;
        let end = range.end.min(self.requests);
        while start < end {
            let file = &self.files[self.file_of(start)]; // there is a file: there is a request
            let behind = self.end(file).min(end);
            self.visit_file(file, start..behind, visit)?;
            start = behind;
        }
        Ok(())
    }
}

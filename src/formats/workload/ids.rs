//! Names of the requests of all files: the caller's where any file has them, else rows. No two requests share one.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use crate::domain::RequestIds;
use crate::formats::problems::Problem;
use crate::formats::table::MAX_PROBLEMS;

pub(super) struct Ids<'a> {
    files: &'a [PathBuf],
    labels: Vec<String>,
    /// Per file the index of its first request and its own names.
    added: Vec<(usize, Option<Vec<String>>)>,
    requests: usize,
}

impl<'a> Ids<'a> {
    pub fn new(files: &'a [PathBuf]) -> Self {
        let short: Vec<String> = files
            .iter()
            .map(|path| path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()))
            .collect();
        let distinct = short.iter().collect::<BTreeSet<_>>().len() == short.len();
        let labels = match files {
            [_] => vec![String::new()],
            _ if distinct => short,
            _ => files.iter().map(|path| path.display().to_string()).collect(),
        };
        Self { files, labels, added: Vec::new(), requests: 0 }
    }

    /// The next file's names, if it has an id column, and how many requests it holds.
    pub fn add(&mut self, names: Option<Vec<String>>, requests: usize) {
        self.added.push((self.requests, names));
        self.requests += requests;
    }

    /// All names; those that occur twice are added to `problems`.
    pub fn finish(self, problems: &mut Vec<Problem>) -> RequestIds {
        let firsts: Vec<usize> = self.added.iter().map(|(first, _)| *first).collect();
        let rows = RequestIds::Rows(self.labels.into_iter().zip(firsts.iter().copied()).collect());
        if self.added.iter().all(|(_, names)| names.is_none()) {
            return rows;
        }
        let mut all = Vec::with_capacity(self.requests);
        let ends = firsts.iter().skip(1).copied().chain([self.requests]);
        for ((first, names), end) in self.added.into_iter().zip(ends) {
            match names {
                Some(mut names) => all.append(&mut names),
                None => all.extend((first..end).map(|index| rows.get(index))),
            }
        }
        let mut seen = HashSet::with_capacity(all.len());
        let repeated = all.iter().enumerate().filter(|(_, name)| !seen.insert(name.as_str()));
        for (index, name) in repeated.take(MAX_PROBLEMS) {
            let file = firsts.partition_point(|first| *first <= index).saturating_sub(1);
            problems.push(Problem {
                file: self.files.get(file).cloned().unwrap_or_default(),
                place: format!("request {}", index - firsts.get(file).copied().unwrap_or(0) + 1),
                what: format!("the id `{name}` occurs twice"),
                remedy: "give every request its own id".to_owned(),
            });
        }
        RequestIds::Named(all)
    }
}

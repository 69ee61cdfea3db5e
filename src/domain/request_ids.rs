//! What requests are called: by row, or by the caller's own ids.
//!
//! Ten million ids held as strings would take more memory than the plan itself, so ids may stay where they are, behind
//! `IdSource`: whoever reads files implements it. Names are for people and for joining files; inside, a request is its
//! index.

use std::fmt::{self, Write};
use std::ops::Range;
use std::sync::Arc;

/// Names of the requests, in order.
#[derive(Clone, Debug)]
pub enum RequestIds {
    /// 1-based data rows, `row` or, with several files, `file:row`: (label or empty, first request index) per file.
    Rows(Vec<(String, usize)>),
    /// The caller's own, in memory.
    Named(Names),
    /// The caller's own, wherever they are kept.
    Kept(Arc<dyn IdSource>),
}

/// Ids that are not held in memory.
pub trait IdSource: fmt::Debug + Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands index and id of each request of `range` to `visit`, in order. Cheap per request for long ranges only.
    ///
    /// # Errors
    /// The place where they are kept cannot be read, or holds others by now.
    fn visit(&self, range: Range<usize>, visit: &mut dyn FnMut(usize, &str)) -> Result<(), IdsUnavailable>;
}

/// Why ids that are not held in memory could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ids of the requests cannot be read again: {0}")]
pub struct IdsUnavailable(pub String);

impl RequestIds {
    /// The name of a request; where it cannot be had, the number of its row. For single requests, in messages.
    pub fn get(&self, index: usize) -> String {
        let mut found = None;
        match self.visit(index..index + 1, &mut |_, name| found = Some(name.to_owned())) {
            Ok(()) => found.unwrap_or_default(),
            Err(_) => (index + 1).to_string(),
        }
    }

    /// As `IdSource::visit`.
    pub fn visit(&self, range: Range<usize>, visit: &mut dyn FnMut(usize, &str)) -> Result<(), IdsUnavailable> {
        match self {
            Self::Kept(source) => return source.visit(range, visit),
            Self::Named(names) => range.for_each(|index| visit(index, names.get(index))),
            Self::Rows(files) => {
                let mut name = String::new();
                for index in range {
                    let file = files.partition_point(|(_, first)| *first <= index).saturating_sub(1);
                    let (label, first) = files.get(file).map_or(("", 0), |(label, first)| (label.as_str(), *first));
                    write_row(&mut name, label, index - first);
                    visit(index, &name);
                }
            }
        }
        Ok(())
    }
}

/// `row`, or `label:row`; `row` counts from 0, its name from 1.
pub fn write_row(name: &mut String, label: &str, row: usize) {
    name.clear();
    let colon = if label.is_empty() { "" } else { ":" };
    let _ = write!(name, "{label}{colon}{}", row + 1); // writing to a String does not fail
}

impl PartialEq for RequestIds {
    /// The same names; ids kept elsewhere are read for it.
    fn eq(&self, other: &Self) -> bool {
        let kept = |ids: &Self| match ids {
            Self::Kept(source) => {
                let mut names = Names::default();
                source.visit(0..source.len(), &mut |_, name| names.push(name)).ok().map(|()| names)
            }
            Self::Named(names) => Some(names.clone()),
            Self::Rows(_) => None,
        };
        match (self, other) {
            (Self::Rows(a), Self::Rows(b)) => a == b,
            (Self::Named(a), Self::Named(b)) => a == b,
            _ => kept(self).is_some_and(|names| Some(names) == kept(other)),
        }
    }
}

/// Many short texts in one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    text: String,
    /// Where each ends in `text`.
    ends: Vec<usize>,
}

impl Names {
    pub fn with_capacity(names: usize) -> Self {
        Self { text: String::new(), ends: Vec::with_capacity(names) }
    }

    pub fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len());
    }

    /// Adds all of `more` behind these.
    pub fn append(&mut self, more: Self) {
        if self.ends.is_empty() {
            *self = more;
            return;
        }
        let before = self.text.len();
        self.text.push_str(&more.text);
        self.ends.extend(more.ends.iter().map(|end| before + end));
    }

    pub fn get(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|index| self.get(index))
    }
}

impl<T: AsRef<str>> FromIterator<T> for Names {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        let mut all = Self::default();
        names.into_iter().for_each(|name| all.push(name.as_ref()));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_several_files_are_named_by_file_and_row() {
        let one = RequestIds::Rows(vec![(String::new(), 0)]);
        assert_eq!(one.get(0), "1");
        let two = RequestIds::Rows(vec![("a.csv".into(), 0), ("b.csv".into(), 3)]);
        assert_eq!(two.get(2), "a.csv:3");
        assert_eq!(two.get(3), "b.csv:1");
    }

    #[test]
    fn names_lie_one_behind_the_other() {
        let mut names: Names = ["a", "", "bc"].into_iter().collect();
        names.append(["é", "f"].into_iter().collect());
        assert_eq!(names.iter().collect::<Vec<_>>(), ["a", "", "bc", "é", "f"]);
        let mut seen = Vec::new();
        RequestIds::Named(names).visit(1..4, &mut |index, name| seen.push((index, name.to_owned()))).unwrap();
        assert_eq!(seen, [(1, String::new()), (2, "bc".into()), (3, "é".into())]);
    }
}

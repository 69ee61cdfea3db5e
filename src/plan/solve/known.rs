//! What one question whether there is room teaches the next, where only limits have moved in between: into which classes
//! requests must be split, which columns were of use, and which deployments.
//!
//! Guides alone: whatever is kept here, an answer holds.

use super::Ground;
use crate::plan::classes::Classes;
use crate::plan::columns::{Column, columns_at};
use crate::plan::prices::Prices;
use crate::plan::problem::PlanProblem;

/// What a relaxation begins with.
pub(super) struct Start {
    pub classes: Classes,
    pub columns: Vec<Column>,
    pub offered: Vec<bool>,
}

#[derive(Default)]
pub struct Known(Option<Lesson>);

struct Lesson {
    classes: Classes,
    /// With the windows between theirs and the last one of their kind.
    columns: Vec<(Column, usize)>,
    offered: Vec<bool>,
    kinds: Kinds,
}

/// What classes and columns are numbered by.
#[derive(PartialEq)]
struct Kinds {
    of_group: Vec<u32>,
    cohorts: Vec<u32>,
    options: Vec<Vec<usize>>,
}

impl Kinds {
    fn new(problem: &PlanProblem) -> Self {
        Self {
            of_group: problem.kind_of_group.clone(),
            cohorts: problem.cohort_of_kind.clone(),
            options: problem.kinds.iter().map(|kind| kind.options.clone()).collect(),
        }
    }
}

impl Known {
    /// What the prices of a relaxation over the deployments `offered` teach.
    pub fn of(problem: &PlanProblem, prices: &Prices, offered: &[bool]) -> Self {
        let classes = Classes::new(problem);
        let columns = columns_at(problem, &classes, prices);
        let mut known = Self::default();
        known.keep(problem, Start { classes, columns, offered: offered.to_vec() });
        known
    }

    /// What was of use, if requests are still grouped as they were.
    pub(super) fn take(&mut self, ground: &Ground) -> Start {
        let problem = ground.problem;
        let Some(lesson) = self.0.take().filter(|lesson| lesson.kinds == Kinds::new(problem)) else {
            return Start { classes: Classes::new(problem), columns: Vec::new(), offered: ground.offered.clone() };
        };
        let before = lesson.classes.list.len();
        // Who may be served where depends on the deadlines.
        let classes = lesson.classes.renewed(problem);
        let columns = lesson.columns.into_iter().filter_map(|(column, windows_left)| {
            let kind = &problem.kinds[classes.list[column.class].kind];
            let window = (kind.end_window - 1).checked_sub(windows_left).filter(|w| *w >= kind.first_window)?;
            let allowed = classes.list[column.class].options.contains(&column.option);
            allowed.then_some(Column { window, ..column })
        });
        // Numbers of classes hold as long as none had to be split.
        let columns = if classes.list.len() == before { columns.collect() } else { Vec::new() };
        let offered = lesson.offered.iter().zip(&ground.offered).map(|(kept, offered)| *kept && *offered).collect();
        Start { classes, columns, offered }
    }

    pub(super) fn keep(&mut self, problem: &PlanProblem, start: Start) {
        let Start { classes, columns, mut offered } = start;
        let kind = |column: &Column| &problem.kinds[classes.list[column.class].kind];
        columns.iter().for_each(|column| offered[kind(column).options[usize::from(column.option)]] = true);
        let columns = columns.iter().map(|column| (*column, kind(column).end_window - 1 - column.window)).collect();
        self.0 = Some(Lesson { columns, offered, kinds: Kinds::new(problem), classes });
    }
}

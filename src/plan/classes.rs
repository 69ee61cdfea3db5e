//! Requests merged by kind and length box, so that the linear programme stays small.
//!
//! Inner classes: feature sums, eligible where every member is. They guide the plan only; bound and objective are taken
//! over single requests. Boxes start as unions of cells, so coarse that they are few; classes are then split between
//! members that disagree on their cheapest deployment.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::cells::Key;
use super::prices::NONE;
use super::problem::PlanProblem;
use crate::domain::{Features, features};

/// Neighbouring cells are merged until no more classes than this are left, or they are `MOST_MERGES` times twice as wide.
const STARTING_CLASSES: usize = 1500;
const MOST_MERGES: u32 = 3;
/// Share of what merging loses whose classes are split at a time, and beyond which the parts of one class are halved.
const SPLIT_LOSS: f64 = 0.95;
const HALVED: f64 = 0.002;

#[derive(Clone, Debug)]
pub struct Class {
    /// A kind of its cohort.
    pub kind: usize,
    /// Range in `Classes::members`.
    pub first: usize,
    pub count: usize,
    /// Sum of (1, i, o, i*o, i^2, o^2) over the members.
    pub sums: Features,
    /// Options of the kind that every member may use, as indices into `Kind::options`.
    pub options: Vec<u16>,
}

#[derive(Clone, Debug)]
pub struct Classes {
    pub list: Vec<Class>,
    /// Request indices, contiguous by class.
    pub members: Vec<u32>,
}

impl Classes {
    pub fn new(problem: &PlanProblem) -> Self {
        let cells = &problem.cells.list;
        let mut merges = 0;
        let mut keys: Vec<Key> = cells.iter().map(|cell| cell.key).collect();
        while keys.len() > STARTING_CLASSES && merges < MOST_MERGES {
            merges += 1;
            keys = cells.iter().map(|cell| cell.key.merged(merges)).collect();
            keys.sort_unstable();
            keys.dedup();
        }
        let mut order: Vec<(Key, usize)> =
            cells.iter().enumerate().map(|(index, cell)| (cell.key.merged(merges), index)).collect();
        order.sort_unstable();
        let mut classes = Self { list: Vec::new(), members: Vec::with_capacity(problem.cells.requests.len()) };
        for run in order.chunk_by(|a, b| a.0 == b.0) {
            let first = classes.members.len();
            for &(_, index) in run {
                let cell = &cells[index];
                classes.members.extend(&problem.cells.requests[cell.first..cell.first + cell.count]);
            }
            classes.push(problem, first, classes.members.len() - first);
        }
        classes
    }

    /// The same classes of the same requests, for a problem that groups these as this one's did: options and kinds anew.
    pub fn renewed(self, problem: &PlanProblem) -> Self {
        let mut renewed = Self { list: Vec::with_capacity(self.list.len()), members: self.members };
        for class in &self.list {
            renewed.push(problem, class.first, class.count);
        }
        renewed
    }

    pub fn members(&self, class: &Class) -> &[u32] {
        &self.members[class.first..class.first + class.count]
    }

    /// Adds the class of `members[first..first + count]`; splits it as long as its members share no option, though some have
    /// one.
    fn push(&mut self, problem: &PlanProblem, first: usize, count: usize) {
        // One request is judged by its own deadline, more of them by the earliest of their cohort.
        let cohort = &problem.cohorts[problem.cohort_of(self.members[first] as usize)];
        let kind_index = if count == 1 { problem.kind_of(self.members[first] as usize) } else { cohort.kind };
        let kind = &problem.kinds[kind_index];
        let slot_limit = if count == 1 { &kind.slot_limit } else { &cohort.slot_limit };
        let mut sums = [0.0; 6];
        let (mut most_input, mut most_output, mut most_tokens) = (0, 0, 0.0f64);
        for &request in &self.members[first..first + count] {
            let (input, output) = problem.lengths(request as usize);
            for (sum, value) in sums.iter_mut().zip(features(f64::from(input), f64::from(output))) {
                *sum += value;
            }
            most_input = most_input.max(input);
            most_output = most_output.max(output);
            most_tokens = most_tokens.max(f64::from(input) + f64::from(output));
        }
        let serves_all = |option: &usize| {
            let deployment = &problem.deployments()[kind.options[*option]];
            most_tokens <= deployment.max_tokens
                && deployment.rates.slot_seconds(most_input, most_output) <= slot_limit[*option]
        };
        let options: Vec<u16> = (0..kind.options.len()).filter(serves_all).map(|option| option as u16).collect();
        let alone = |&request: &u32| {
            let (input, output) = problem.lengths(request as usize);
            (0..kind.options.len()).any(|option| problem.can_serve(kind, option, input, output))
        };
        if options.is_empty() && count > 1 && self.members[first..first + count].iter().any(alone) {
            let middle = self.split_point(problem, first, count);
            self.push(problem, first, middle);
            self.push(problem, first + middle, count - middle);
            return;
        }
        self.list.push(Class { kind: kind_index, first, count, sums, options });
    }

    /// Sorts the range along its relatively longer side and returns the size of its lower half, at least 1.
    fn split_point(&mut self, problem: &PlanProblem, first: usize, count: usize) -> usize {
        let range = &mut self.members[first..first + count];
        let spread = |side: fn((u32, u32)) -> u32| {
            let lengths = range.iter().map(|&request| side(problem.lengths(request as usize)));
            let (low, high) = lengths.fold((u32::MAX, 0), |(low, high), length| (low.min(length), high.max(length)));
            f64::from(high.max(1)) / f64::from(low.max(1))
        };
        let by_input = spread(|lengths| lengths.0) >= spread(|lengths| lengths.1);
        range.sort_unstable_by_key(|&request| {
            let (input, output) = problem.lengths(request as usize);
            (if by_input { (input, output) } else { (output, input) }, request)
        });
        (count / 2).max(1)
    }

    /// Splits every class whose members disagree on their cheapest deployment into those that prefer the most common one
    /// and the others; heaviest first, up to `most` classes. Returns how many were split.
    pub fn split_disagreeing(&mut self, problem: &PlanProblem, cheapest: &[u16], most: usize) -> usize {
        let disagrees = |class: &Class| {
            let mut choices = self.members(class).iter().map(|&request| cheapest[request as usize]);
            let first = choices.next().unwrap_or(NONE);
            choices.any(|choice| choice != first)
        };
        let mut candidates: Vec<usize> =
            (0..self.list.len()).into_par_iter().filter(|&c| disagrees(&self.list[c])).collect();
        // Output tokens stand for energy: the exact weight does not matter, only the order.
        candidates.sort_by(|&a, &b| self.list[b].sums[2].total_cmp(&self.list[a].sums[2]).then(a.cmp(&b)));
        candidates.truncate(most.saturating_sub(self.list.len()));
        candidates.sort_unstable();
        let old = std::mem::take(&mut self.list);
        let mut next = candidates.iter().peekable();
        for (index, class) in old.into_iter().enumerate() {
            if next.next_if_eq(&&index).is_some() {
                let common = self.gather_common(&class, cheapest);
                self.push(problem, class.first, common);
                self.push(problem, class.first + common, class.count - common);
            } else {
                self.list.push(class);
            }
        }
        candidates.len()
    }

    /// Splits the classes that lose most by being merged, `losses` by class, up to `most` classes: where an `offered`
    /// deployment has memory for some members only, there; else into those who prefer the same deployment, and these again in
    /// halves where a class alone loses a good part of all. Returns how many were split.
    pub fn split_losing(
        &mut self,
        problem: &PlanProblem,
        losses: &[f64],
        cheapest: &[u16],
        offered: &[bool],
        most: usize,
    ) -> usize {
        let total: f64 = losses.iter().map(|loss| loss.max(0.0)).sum();
        let mut order: Vec<usize> =
            (0..self.list.len()).filter(|&c| self.list[c].count > 1 && losses[c] > 0.0).collect();
        order.sort_by(|&a, &b| losses[b].total_cmp(&losses[a]).then(a.cmp(&b)));
        let mut room = most.saturating_sub(self.list.len());
        let mut covered = 0.0;
        let mut parts_of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for c in order {
            if room == 0 || covered >= SPLIT_LOSS * total {
                break;
            }
            covered += losses[c];
            let class = self.list[c].clone();
            let cuts = self.memory_cuts(problem, &class, cheapest, offered);
            let tokens = |request: u32| {
                let (input, output) = problem.lengths(request as usize);
                f64::from(input) + f64::from(output)
            };
            let part = |request: u32| match &cuts[..] {
                [] => usize::from(cheapest[request as usize]),
                cuts => cuts.partition_point(|&cut| cut < tokens(request)),
            };
            let range = &mut self.members[class.first..class.first + class.count];
            range.sort_by_key(|&request| part(request));
            let runs: Vec<usize> = range.chunk_by(|&a, &b| part(a) == part(b)).map(<[u32]>::len).collect();
            let mut parts = Vec::new();
            let mut first = class.first;
            for count in runs {
                let alone = count == class.count || (cuts.is_empty() && losses[c] > HALVED * total);
                let lower = if alone && count > 1 { self.split_point(problem, first, count) } else { 0 };
                parts.extend([lower, count - lower].into_iter().filter(|&count| count > 0));
                first += count;
            }
            room = room.saturating_sub(parts.len() - 1);
            parts_of.insert(c, parts);
        }
        for (c, class) in std::mem::take(&mut self.list).into_iter().enumerate() {
            let Some(parts) = parts_of.get(&c) else {
                self.list.push(class);
                continue;
            };
            let mut first = class.first;
            for &count in parts {
                self.push(problem, first, count);
                first += count;
            }
        }
        parts_of.len()
    }

    /// Tokens that deployments have memory for, where that is some members of the class only: of those offered, and those
    /// that members prefer. Ascending.
    fn memory_cuts(&self, problem: &PlanProblem, class: &Class, cheapest: &[u16], offered: &[bool]) -> Vec<f64> {
        let members = self.members(class);
        let tokens = members.iter().map(|&request| {
            let (input, output) = problem.lengths(request as usize);
            f64::from(input) + f64::from(output)
        });
        let (least, most) =
            tokens.fold((f64::INFINITY, 0.0f64), |(least, most), tokens| (least.min(tokens), most.max(tokens)));
        let wanted =
            |v: usize| offered[v] || members.iter().any(|&request| usize::from(cheapest[request as usize]) == v);
        let options = problem.kinds[class.kind].options.iter();
        let mut cuts: Vec<f64> = options
            .filter(|&&v| (least..most).contains(&problem.deployments()[v].max_tokens) && wanted(v))
            .map(|&v| problem.deployments()[v].max_tokens)
            .collect();
        cuts.sort_by(f64::total_cmp);
        cuts.dedup();
        cuts
    }

    /// Moves the members that prefer the most common deployment to the front, and counts them.
    fn gather_common(&mut self, class: &Class, cheapest: &[u16]) -> usize {
        let range = &mut self.members[class.first..class.first + class.count];
        let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
        for &request in range.iter() {
            *counts.entry(cheapest[request as usize]).or_default() += 1;
        }
        let common = counts.iter().max_by_key(|&(&choice, &count)| (count, std::cmp::Reverse(choice)));
        let Some((&common, &count)) = common else { return 0 };
        range.sort_by_key(|&request| cheapest[request as usize] != common);
        count
    }
}

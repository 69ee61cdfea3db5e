//! Branch and bound over how often dear deployments start.
//!
//! A deployment whose start costs a good part of the gap is all or nothing, where the relaxation has a quarter of one. A
//! node fixes a range for the starts of some groups of deployments; its bound is that of the relaxation in that range, at
//! request level as everywhere. Every plan lies in some node, so the least bound of those left is one for all plans. Only
//! deployments that the relaxation was offered are counted: what the others may do, each node's bound allows for.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Solver;
use super::charge::{all_served, root};
use super::relax::Relaxed;
use crate::plan::PlanError;
use crate::plan::capacity::CapacityInput;
use crate::plan::columns::Column;
use crate::plan::price::Priced;
use crate::plan::prices::Objective;
use crate::plan::problem::PlanProblem;
use crate::plan::relaxation::{Charge, ClassProblem, ClassSolution};

/// Nodes solved, at most.
const MOST_NODES: usize = 300;
/// A start is dear if it costs more than this share of the gap asked for.
const DEAR: f64 = 0.1;
/// Share of the gap by which the nearer range is preferred.
const NEARER: f64 = 0.002;
/// Starts this close to a whole number count as one.
const WHOLE: f64 = 0.01;
/// Rounds of rows (3b) in a node.
const CHARGES: usize = 3;
const BOUND_BY: &str = "request pass at the relaxation's prices, branching on dear starts";

/// How often a group may start.
type Range = (f64, f64);

/// A part of all plans: a range for each group.
#[derive(Clone)]
struct Node {
    ranges: Vec<Range>,
    bound: f64,
    /// Objective of the relaxation it came from, a little more for the range farther from what that would start.
    key: f64,
}

/// The relaxation with dear starts whole.
pub(super) struct Leaf {
    /// Groups of deployments and how often each may start at most.
    pub(super) most: Vec<(Vec<usize>, f64)>,
    pub(super) solution: ClassSolution,
    pub(super) columns: Vec<Column>,
    pub(super) charges: Vec<Charge>,
}

/// The nodes that are left.
pub(super) struct Branching<'a> {
    class_problem: ClassProblem<'a>,
    groups: Vec<Group>,
    open: Vec<Node>,
    /// Least bound of a leaf: all starts in it are whole, so that it is not split.
    leaf: f64,
    solved: usize,
}

impl<'a> Branching<'a> {
    /// `None` if no start is dear.
    pub(super) fn new<'s: 'a>(solver: &Solver<'s>, relaxed: &'a Relaxed) -> Result<Option<Self>, PlanError> {
        let ground = solver.ground;
        let groups = groups(ground.problem, &relaxed.offered, DEAR * solver.settings.gap * solver.bound);
        if groups.is_empty() {
            return Ok(None);
        }
        let capacity = CapacityInput { offered: &relaxed.offered, ..ground.capacity(ground.scale, &ground.unlimited) };
        let mut class_problem = ClassProblem::new(capacity, &relaxed.classes, Objective::Energy, &relaxed.columns)?;
        class_problem.charge(&relaxed.charges)?;
        for group in &groups {
            class_problem.count_starts(&group.members)?;
        }
        let root = Node { ranges: vec![(0.0, f64::INFINITY); groups.len()], bound: solver.bound, key: 0.0 };
        Ok(Some(Self { class_problem, groups, open: vec![root], leaf: f64::INFINITY, solved: 0 }))
    }

    /// Solves nodes until one has all dear starts whole and may hold a plan better than the best, the gap is met, no node is
    /// left, or `until`. A leaf's own bound stands: it is not split.
    pub(super) fn leaf(
        &mut self,
        solver: &mut Solver,
        relaxed: &Relaxed,
        until: Instant,
    ) -> Result<Option<Leaf>, PlanError> {
        while self.solved < MOST_NODES && Instant::now() < until && !solver.done() {
            let best = solver.best.as_ref().map_or(f64::INFINITY, Priced::objective);
            let target = best * (1.0 - solver.settings.gap);
            let Some(node) = self.take(target) else { break };
            self.solved += 1;
            let Some(mut solution) = self.solve(&node, until)? else {
                self.leaf = self.leaf.min(node.bound);
                continue;
            };
            let mut open = vec![true; solver.ground.problem.deployments().len()];
            for (group, _) in self.groups.iter().zip(&node.ranges).filter(|(_, (_, most))| *most == 0.0) {
                group.members.iter().for_each(|&v| open[v] = false);
            }
            let pass = solver.charging().charge_requests(&relaxed.classes, &mut solution, Some(&open), 0, until);
            let value = root(&solution, &pass);
            // A margin for the solver's tolerances, as at the root.
            let bound = node.bound.max(value - 1e-6 * value.abs());
            let served = all_served(&solution);
            let divided = worst_divided(&self.groups, &solution).filter(|_| served && bound < target);
            if let Some((group, starts)) = divided {
                let nearer = NEARER * solver.settings.gap * solution.objective.abs();
                let child = |range: Range, far: bool| {
                    let mut ranges = node.ranges.clone();
                    ranges[group] = range;
                    Node { ranges, bound, key: solution.objective + if far { nearer } else { 0.0 } }
                };
                let (least, most) = node.ranges[group];
                let up = starts - starts.floor();
                self.open.push(child((least, starts.floor()), up >= 0.5));
                self.open.push(child((starts.ceil(), most), up < 0.5));
            } else {
                self.leaf = self.leaf.min(bound);
            }
            self.prove(solver);
            if divided.is_none() && served && bound < target && solution.objective < best {
                return Ok(Some(self.as_leaf(&node, solution)));
            }
        }
        Ok(None)
    }

    fn as_leaf(&self, node: &Node, solution: ClassSolution) -> Leaf {
        let members = self.groups.iter().map(|group| group.members.clone());
        Leaf {
            most: members.zip(node.ranges.iter().map(|(_, most)| *most)).collect(),
            solution,
            columns: self.class_problem.columns().to_vec(),
            charges: self.class_problem.charges(),
        }
    }

    /// The next node that may hold a plan `target` joules dear or less: at first the one of least objective, then the one of
    /// least bound.
    fn take(&mut self, target: f64) -> Option<Node> {
        let key = |node: &Node| if self.leaf < target { node.bound } else { node.key };
        let hopeful = self.open.iter().enumerate().filter(|(_, node)| node.bound < target.min(self.leaf));
        let least = hopeful.min_by(|a, b| key(a.1).total_cmp(&key(b.1)).then(b.0.cmp(&a.0)));
        let index = least.map(|(index, _)| index)?;
        Some(self.open.swap_remove(index))
    }

    fn prove(&self, solver: &mut Solver) {
        let nodes = self.open.iter();
        solver.prove(nodes.map(|node| node.bound).fold(self.leaf, f64::min), BOUND_BY);
    }

    /// The relaxation in a node, which may leave requests unserved; `None` if it has no solution, or no time.
    fn solve(&mut self, node: &Node, until: Instant) -> Result<Option<ClassSolution>, PlanError> {
        for (group, &range) in node.ranges.iter().enumerate() {
            self.class_problem.limit_starts(group, range)?;
        }
        let mut solution = None;
        for _ in 0..CHARGES {
            let next = match self.class_problem.solve(until) {
                Err(PlanError::OutOfTime) => break,
                solved => solved?,
            };
            let Some(next) = next else { break };
            let violated = self.class_problem.charge_violated(&next)?;
            solution = Some(next);
            if violated == 0 {
                break;
            }
        }
        Ok(solution)
    }
}

/// Deployments whose starts are counted together.
struct Group {
    members: Vec<usize>,
    /// What a start that is not whole weighs: joules of the cheapest among them, more for groups of many.
    weight: f64,
}

/// How much sooner to branch on starts of a model than on those of one deployment of it, and on all that are worth the gap.
const MODEL: f64 = 3.0;
const ALL: f64 = 10.0;

/// Of deployments with dear starts: all those whose start alone is worth the gap, each model, and each deployment by
/// itself.
fn groups(problem: &PlanProblem, offered: &[bool], least: f64) -> Vec<Group> {
    let dear: Vec<usize> = (0..offered.len()).filter(|&v| offered[v] && problem.least_start_cost(v) > least).collect();
    let mut groups = Vec::new();
    let mut add = |members: Vec<usize>, factor: f64| {
        let cheapest = members.iter().map(|&v| problem.least_start_cost(v)).fold(f64::INFINITY, f64::min);
        if !members.is_empty() {
            groups.push(Group { members, weight: factor * cheapest });
        }
    };
    add(dear.iter().copied().filter(|&v| problem.least_start_cost(v) > least / DEAR).collect(), ALL);
    let mut models: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    dear.iter().for_each(|&v| models.entry(&problem.deployments()[v].family.model).or_default().push(v));
    models.into_values().filter(|members| members.len() > 1).for_each(|members| add(members, MODEL));
    dear.iter().for_each(|&v| add(vec![v], 1.0));
    groups
}

/// The group whose starts are farthest from a whole number, by what the missing part of a start costs, and its starts.
fn worst_divided(groups: &[Group], solution: &ClassSolution) -> Option<(usize, f64)> {
    let divided = groups.iter().enumerate().filter_map(|(index, group)| {
        let starts: f64 = group.members.iter().map(|&v| solution.starts[v]).sum();
        let distance = (starts - starts.round()).abs();
        (distance > WHOLE).then_some((index, starts, distance * group.weight))
    });
    divided.max_by(|a, b| a.2.total_cmp(&b.2).then(b.0.cmp(&a.0))).map(|(index, starts, _)| (index, starts))
}

//! Bound and plan improve each other: the master proposes instances, prices with those instances fixed give a cut and an
//! assignment, the cut raises the master's bound, the assignment may be a better plan.
//!
//! Where the master proposes the same instances again, the cut made there was too weak, because members of a class
//! disagreed at its prices: the classes are split, and it is made again.

use std::collections::BTreeSet;

use super::relax::Relaxed;
use super::{MOST_CLASSES, Solver};
use crate::plan::bound::{Decision, Master};
use crate::plan::capacity::CapacityInput;
use crate::plan::classes::Classes;
use crate::plan::columns::{Column, columns_at};
use crate::plan::hints::peak_instances;
use crate::plan::price::Priced;
use crate::plan::prices::{Objective, PassResult, Prices, request_pass};
use crate::plan::relaxation::{ClassProblem, ClassSolution};
use crate::plan::{Phase, PlanError, assign};

/// Rounds of master, prices and cut.
const MOST_CUTS: usize = 200;

/// What fixed instances make of the requests.
struct Fixed {
    /// Deployments with an instance.
    open: Vec<bool>,
    /// Of the fixed problem for open deployments, of the relaxation for the others.
    prices: Prices,
    /// Over the open deployments at these prices.
    pass: PassResult,
    /// `None` if the instances have not even room for their loads.
    solution: Option<ClassSolution>,
}

/// A deployment for each request, and the class problem's instances for them.
struct Candidate {
    assignment: Vec<u16>,
    solution: ClassSolution,
}

impl Solver<'_> {
    /// Rounds of master, prices and cut until the gap is met, time is up, or nothing new comes of it. Only `offered`
    /// deployments are looked at.
    pub(super) fn cut(&mut self, relaxed: &Relaxed, offered: &[bool]) -> Result<(), PlanError> {
        if self.done() {
            return Ok(());
        }
        let ground = self.ground;
        let root = &relaxed.solution.prices;
        self.report(Phase::Bound);
        let capacity = || CapacityInput { offered, ..ground.capacity(ground.scale, &ground.unlimited) };
        let mut master = Master::new(capacity(), Objective::Energy)?;
        master.add_cut(root, &relaxed.pass, None)?;
        let mut classes = relaxed.classes.clone();
        let mut columns = relaxed.columns.clone();
        if let Some(incumbent) = self.best.as_ref().map(|best| peak_instances(ground.problem, best)) {
            let fixed = self.fix(&classes, &mut columns, &incumbent, root)?;
            self.add_cut(&mut master, &classes, fixed)?;
        }
        let mut decision = self.raise_bound(&mut master)?;
        let mut seen: BTreeSet<Vec<u32>> = BTreeSet::new();
        for _ in 0..MOST_CUTS {
            let Some(instances) = decision.filter(|_| !self.done()) else { break };
            self.report(Phase::Bound);
            let mut fixed = self.fix(&classes, &mut columns, &instances, root)?;
            if !seen.insert(instances.iter().flatten().map(|&n| n as u32).collect()) {
                if classes.split_disagreeing(ground.problem, &fixed.pass.cheapest, MOST_CLASSES) == 0 {
                    break;
                }
                columns = columns_at(ground.problem, &classes, &fixed.prices);
                fixed = self.fix(&classes, &mut columns, &instances, root)?;
            }
            if let Some(candidate) = self.add_cut(&mut master, &classes, fixed)? {
                self.offer(candidate.assignment, &candidate.solution, root);
            }
            decision = self.raise_bound(&mut master)?;
        }
        Ok(())
    }

    /// Solves the master for a better bound and its next capacity decisions.
    fn raise_bound(&mut self, master: &mut Master) -> Result<Option<Decision>, PlanError> {
        let decision = master.solve(self.slice(0.15), 0.2 * self.settings.gap)?;
        // What the master leaves out costs more than the best plan, which therefore caps what it proves.
        let limit = self.best.as_ref().map_or(f64::INFINITY, Priced::objective);
        self.prove(master.bound().min(limit), "request-level pass and integer capacity master (Benders cuts)");
        Ok(decision)
    }

    /// Prices the requests with the instances fixed. `columns` are those known to be useful, and become more.
    fn fix(
        &self,
        classes: &Classes,
        columns: &mut Vec<Column>,
        instances: &[Vec<f64>],
        root: &Prices,
    ) -> Result<Fixed, PlanError> {
        let ground = self.ground;
        let open: Vec<bool> = instances.iter().map(|row| row.iter().any(|&n| n > 0.5)).collect();
        let capacity = CapacityInput { offered: &open, ..ground.capacity(ground.scale, &ground.unlimited) };
        let mut problem = ClassProblem::new(capacity, classes, Objective::Energy, columns)?;
        for (v, instances) in instances.iter().enumerate() {
            problem.fix(v, instances)?;
        }
        let solution = problem.solve(self.deadline)?;
        let closed = columns.iter().filter(|column| {
            let kind = &ground.problem.kinds[classes.list[column.class].kind];
            !open[kind.options[column.option as usize]]
        });
        *columns = closed.chain(problem.columns()).copied().collect();
        let mut prices = solution.as_ref().map_or_else(|| root.clone(), |solution| solution.prices.clone());
        for (v, row) in prices.seconds.iter_mut().enumerate().filter(|(v, _)| !open[*v]) {
            row.clone_from(&root.seconds[v]);
        }
        let pass = request_pass(self.ground.problem, &prices, Some(&open), Objective::Energy);
        Ok(Fixed { open, prices, pass, solution })
    }

    /// Adds the cut, and returns the assignment that its prices suggest.
    fn add_cut(
        &mut self,
        master: &mut Master,
        classes: &Classes,
        fixed: Fixed,
    ) -> Result<Option<Candidate>, PlanError> {
        let Fixed { open, prices, pass, solution } = fixed;
        master.add_cut(&prices, &pass, Some(&open))?;
        let Some(solution) = solution.filter(|solution| solution.unserved <= 1e-6) else { return Ok(None) };
        self.class_mip = Some(self.class_mip.map_or(solution.objective, |known| known.min(solution.objective)));
        let requests = self.ground.problem;
        let mut assignment = assign::from_shares(requests, classes, &solution);
        let holds = assign::repair_floors(requests, &prices, &open, &mut assignment);
        Ok(holds.then_some(Candidate { assignment, solution }))
    }
}

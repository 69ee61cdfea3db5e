//! What one more unit of each limit saves while the plan keeps its instances: only requests move between them.
//!
//! The linear programme is that of the free prices, over the deployments in use, with the plan's own instances by window.
//! A guide for the reader of a plan: neither bound nor plan takes its value.

use std::time::{Duration, Instant};

use super::Solver;
use super::relax::Relaxed;
use crate::plan::PlanError;
use crate::plan::capacity::CapacityInput;
use crate::plan::hints::peak_instances;
use crate::plan::limits::shadow_prices::{beside, shadow_prices};
use crate::plan::prices::Objective;
use crate::plan::relaxation::ClassProblem;

/// Share of the time limit that this may take, once the plan is made.
const SHARE_OF_TIME: f64 = 0.1;
/// Requests' worth of work that classes may leave unserved where single requests do not.
const SERVED: f64 = 1e-6;

impl Solver<'_> {
    /// Puts the prices at the best plan's instances beside the free ones, where there are any.
    pub(super) fn price_at_whole_instances(&mut self, relaxed: &Relaxed) -> Result<(), PlanError> {
        let (ground, free) = (self.ground, std::mem::take(&mut self.shadow_prices));
        let until = Instant::now() + self.settings.time_limit.mul_f64(SHARE_OF_TIME).max(Duration::from_millis(100));
        let fixed = self.best.as_ref().map(|best| peak_instances(ground.problem, best)).map(|instances| {
            let open: Vec<bool> = instances.iter().map(|row| row.iter().any(|&n| n > 0.5)).collect();
            let capacity = || CapacityInput { offered: &open, ..ground.capacity(ground.scale, &ground.unlimited) };
            let mut problem = ClassProblem::new(capacity(), &relaxed.classes, Objective::Energy, &relaxed.columns)?;
            for (v, instances) in instances.iter().enumerate() {
                problem.fix(v, instances)?;
            }
            let Some(mut solution) = problem.solve(until)?.filter(|solution| solution.unserved <= SERVED) else {
                return Ok(None);
            };
            problem.leave_instances_out(&mut solution.optimum);
            shadow_prices(&capacity(), &solution).map(Some)
        });
        self.shadow_prices = match fixed {
            Some(Ok(Some(fixed))) => beside(&free, &fixed),
            Some(Err(error)) if !matches!(error, PlanError::OutOfTime) => return Err(error),
            _ => free,
        };
        Ok(())
    }
}

//! How much of a plan leans on estimates, and its standing power outside the objective.

use crate::domain::Provenance;
use crate::plan::PlanProblem;
use crate::plan::price::Priced;

/// Joules of the objective that rest on estimated figures: the estimated part of active energy, loads whose time or
/// power is estimated, tails (a rule, not a measurement), and idle power of pools whose idle power is estimated.
pub fn estimated_joules(problem: &PlanProblem, priced: &Priced) -> f64 {
    let starts = priced.schedule.instances.iter().map(|instance| {
        let deployment = &problem.deployments()[instance.deployment];
        let family = &problem.models[problem.options.model[instance.deployment]];
        let load_is_estimated = family.load_time.is_estimated() || family.load_power.is_estimated();
        deployment.tail_energy.0 + if load_is_estimated { deployment.load_energy.0 } else { 0.0 }
    });
    let idle = priced.schedule.powered.iter().filter(|interval| {
        // Base power has no provenance of its own: it is what the cluster file says.
        problem.cluster.pools[interval.pool].idle_power.is_estimated()
    });
    let idle = idle.map(|interval| {
        let pool = &problem.cluster.pools[interval.pool];
        let devices = f64::from(pool.devices_per_node);
        pool.idle_power.value.0 * devices * (interval.off - interval.wake).0
    });
    priced.estimated + starts.sum::<f64>() + idle.sum::<f64>()
}

/// Joules of nodes that cannot sleep until the last finish; `None` where a pool of them does not state its base power.
pub fn standby_joules(problem: &PlanProblem, priced: &Priced) -> Option<f64> {
    let always_on = problem.cluster.pools.iter().filter(|pool| !pool.suspend);
    let power: Option<f64> =
        always_on.map(|pool| pool.standing_power().map(|power| power.0 * pool.nodes.len() as f64)).sum();
    // An empty sum is -0.
    power.map(|watts| watts.max(0.0) * priced.makespan)
}

/// Whether token counts of the queue are estimates, and which.
pub fn estimated_lengths(problem: &PlanProblem) -> Option<&'static str> {
    let estimated = |provenance| provenance == Provenance::Estimated;
    match (estimated(problem.workload.input_provenance), estimated(problem.workload.output_provenance)) {
        (true, true) => Some("input and output lengths"),
        (true, false) => Some("input lengths"),
        (false, true) => Some("output lengths"),
        (false, false) => None,
    }
}

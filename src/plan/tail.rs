//! How much of an instance's time its last requests leave unused: slots do not all end together.
//!
//! Told from one list schedule a deployment, of every k-th of its requests where it has k instances. What deadlines in
//! between cost is left to settling.

use rayon::prelude::*;

use super::list_schedule;
use super::prices::NONE;
use super::problem::PlanProblem;

/// Seconds by which an instance of each deployment ends after the time its requests would fill, given a deployment for each
/// request and how many instances there are by (deployment, window).
pub fn tails(problem: &PlanProblem, assignment: &[u16], instances: &[Vec<f64>]) -> Vec<f64> {
    let mut queues: Vec<Vec<u32>> = vec![Vec::new(); instances.len()];
    for (request, &v) in assignment.iter().enumerate().filter(|(_, v)| **v != NONE) {
        queues[v as usize].push(request as u32);
    }
    let tail = |(v, (mut queue, instances)): (usize, (Vec<u32>, &Vec<f64>))| {
        let count = instances.iter().copied().fold(1.0, f64::max).ceil() as usize;
        let rates = &problem.deployments()[v].rates;
        list_schedule::sort(problem, rates, &mut queue);
        let one: Vec<u32> = queue.into_iter().step_by(count).collect();
        let seconds = |&request: &u32| {
            let (input, output) = problem.lengths(request as usize);
            rates.seconds(input, output)
        };
        let filled: f64 = one.iter().map(seconds).sum();
        (list_schedule::run(problem, rates, &one, 0.0, |_, _| {}).end - filled).max(0.0)
    };
    queues.into_par_iter().zip(instances).enumerate().map(tail).collect()
}

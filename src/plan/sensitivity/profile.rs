//! A plan reduced to what it takes to price it under other models: token sums, spans and slack of its instances.
//!
//! All requests of an instance are of one family, so its list schedule stretches as a whole; exactly where nothing waits
//! for a release, else a little too long. Starts stay where they are.

use super::draw::Perturbed;
use crate::domain::{Features, Schedule, dot, features};
use crate::plan::PlanProblem;
use crate::plan::list_schedule;
use crate::plan::price::{Priced, powered_intervals};
use crate::units::Seconds;

pub(super) struct Profile {
    instances: Vec<InstanceProfile>,
    /// Without its assignment.
    schedule: Schedule,
}

struct InstanceProfile {
    deployment: usize,
    requests: usize,
    sums: Features,
    /// When its slots open, and how long they work.
    opening: f64,
    span: f64,
    /// Largest factor on its seconds that makes no request late.
    stretch: f64,
}

pub(super) struct Outcome {
    pub(super) joules: f64,
    pub(super) late: bool,
}

impl Profile {
    pub(super) fn new(problem: &PlanProblem, priced: &Priced) -> Self {
        let Schedule { instances, assignment, .. } = &priced.schedule;
        let mut queues: Vec<Vec<u32>> = vec![Vec::new(); instances.len()];
        for (request, &instance) in assignment.iter().enumerate() {
            queues[instance as usize].push(request as u32);
        }
        let profiles = instances.iter().zip(queues).map(|(instance, mut queue)| {
            let rates = problem.rates_for(instance.deployment, queue.len());
            list_schedule::sort(problem, &rates, &mut queue);
            let opening = instance.start.0 + problem.deployments()[instance.deployment].load_time.0;
            let (mut sums, mut stretch) = ([0.0; 6], f64::INFINITY);
            let finish = list_schedule::run(problem, &rates, &queue, opening, |request, finish| {
                let (input, output) = problem.lengths(request as usize);
                for (sum, value) in sums.iter_mut().zip(features(f64::from(input), f64::from(output))) {
                    *sum += value;
                }
                let deadline = problem.kinds[problem.kind_of(request as usize)].deadline;
                if finish > opening {
                    stretch = stretch.min((deadline - opening) / (finish - opening));
                }
            });
            InstanceProfile {
                deployment: instance.deployment,
                requests: queue.len(),
                sums,
                opening,
                span: finish.end - opening,
                stretch,
            }
        });
        let profiles = profiles.collect();
        let schedule = Schedule { instances: instances.clone(), ..Schedule::default() };
        Self { instances: profiles, schedule }
    }

    /// Joules under other models, and whether a request would miss its deadline.
    pub(super) fn objective(&self, problem: &PlanProblem, perturbed: &Perturbed) -> Outcome {
        let mut schedule = self.schedule.clone();
        let (mut joules, mut late) = (0.0, false);
        for (profile, instance) in self.instances.iter().zip(&mut schedule.instances) {
            let v = profile.deployment;
            let deployment = &perturbed.deployments[v];
            let model = &perturbed.models[problem.options.model[v]];
            let rates = deployment.rates_for(model, profile.requests, problem.safety);
            joules += dot(&rates.net_energy, &profile.sums) + deployment.start_energy().0;
            let slower = perturbed.slower[v];
            instance.end = Seconds(profile.opening + slower * profile.span);
            // The safety margin is there to be used up.
            late |= slower > profile.stretch * (1.0 + problem.safety) * (1.0 + 1e-9);
        }
        for interval in powered_intervals(problem, &schedule) {
            joules += problem.billed_power(interval.pool) * (interval.off.0 - interval.wake.0);
            joules += problem.net_wake_energy(interval.pool);
        }
        Outcome { joules, late }
    }
}

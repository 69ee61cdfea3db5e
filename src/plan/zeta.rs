//! Plans by the reference paper's objective (arXiv 2407.04014, section 5) instead of joules:
//!
//! ```text
//! minimise  sum over requests r of  zeta * E[r,v] / Emax - (1 - zeta) * A[v] * (i + o) / Amax
//! ```
//!
//! E is the gross energy of r on deployment v at its batch, A the accuracy of its model, both over their largest value
//! among all requests and deployments; each model may be promised a share of the requests. The paper ignores devices and
//! time: `partition` solves its problem exactly. We place the result too. Where it does not fit or breaks a floor,
//! device-seconds and accuracy points get a price, which rises until the plan holds; any prices still prove a bound.

use std::collections::BTreeMap;
use std::time::Instant;

use rayon::prelude::*;

use super::baselines::broken_floor;
use super::partition::{Costs, PartitionError, partition};
use super::place::{Lanes, Shape, Unplaced, place};
use super::price::Priced;
use super::problem::PlanProblem;
use crate::domain::{Features, dot, features};

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Zeta {
    /// Weight of energy against accuracy, 0 to 1.
    pub weight: f64,
    /// Least share of the requests by model.
    pub shares: BTreeMap<String, f64>,
}

/// Emax in joules and Amax in percent times tokens; 1 where nothing is above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Maxima {
    pub energy: f64,
    pub accuracy: f64,
}

/// A placed plan with its proof, in the paper's objective.
#[derive(Clone, Debug)]
pub struct ZetaPlan {
    pub priced: Priced,
    pub objective: f64,
    /// No assignment of requests that keeps shares, mean floors and device-seconds has a lower objective.
    pub bound: f64,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ZetaError {
    #[error("no deployment of {0} is offered: its share of the requests cannot be filled")]
    UnknownModel(String),
    #[error("a zeta below 1 needs an accuracy figure: give --accuracy, and job {0} a task that it covers")]
    NoAccuracy(String),
    #[error("request {0} can be served by no deployment")]
    Unservable(String),
    #[error("too few requests may go to {0} to fill its share beside the others'")]
    Share(String),
    #[error("no placement was found: {0}")]
    Unplaced(Unplaced),
    #[error("no plan that keeps the floors was found: {0}")]
    Floor(String),
}

/// How fast a price rises, and from which share of what the requests cost.
const PRICE_GROWTH: f64 = 1.5;
const FIRST_PRICE: f64 = 1e-3;
const ROUNDS: usize = 64;

/// The best plan found until `deadline`; one attempt is always made.
///
/// # Errors
/// Why no plan was found.
pub fn plan(formulation: &Formulation, deadline: Instant) -> Result<ZetaPlan, ZetaError> {
    let problem = formulation.problem;
    let mut prices = Prices::zero(problem);
    let (mut bound, mut failure) = (f64::NEG_INFINITY, None);
    for round in 0..ROUNDS {
        if round > 0 && Instant::now() >= deadline {
            break;
        }
        let (assignment, proved) = formulation.assign(&prices)?;
        bound = proved.max(bound);
        failure = Some(match place(problem, &assignment, Shape::Lanes(&Lanes::new())) {
            Ok(priced) => match broken_floor(problem, &priced) {
                None => {
                    let objective = formulation.objective(&assignment);
                    return Ok(ZetaPlan { priced, objective, bound: bound.min(objective) });
                }
                Some(broken) => {
                    prices.raise_accuracy(problem, &priced);
                    ZetaError::Floor(broken)
                }
            },
            Err(why) => {
                prices.raise_seconds(problem, &why);
                ZetaError::Unplaced(why)
            }
        });
    }
    Err(failure.unwrap_or(ZetaError::Unplaced(Unplaced::Unassigned(0))))
}

/// What requests pay besides the objective; all 0 at first.
struct Prices {
    /// By pool: per device-second over the pool's device-seconds until the last deadline.
    seconds: Vec<f64>,
    /// By job: per accuracy point over the points it needs.
    accuracy: Vec<f64>,
}

impl Prices {
    fn zero(problem: &PlanProblem) -> Self {
        Self { seconds: vec![0.0; problem.cluster.pools.len()], accuracy: vec![0.0; problem.workload.jobs.len()] }
    }

    fn raise_seconds(&mut self, problem: &PlanProblem, why: &Unplaced) {
        let of_deployment = |id: &str| {
            let found = problem.deployments().iter().find(|deployment| deployment.id == id);
            found.map(|deployment| deployment.pool)
        };
        let pools: Vec<usize> = match why {
            Unplaced::NoRoom { shortages, .. } | Unplaced::NoPower { shortages, .. } => {
                shortages.iter().map(|shortage| shortage.pool).collect()
            }
            Unplaced::TooSlow(id) | Unplaced::Late(id, _) => of_deployment(id).into_iter().collect(),
            Unplaced::OverCap | Unplaced::Crowded => (0..self.seconds.len()).collect(),
            Unplaced::Unassigned(_) => Vec::new(),
        };
        let count = problem.workload.requests.len() as f64;
        for (pool, price) in self.seconds.iter_mut().enumerate() {
            if pools.contains(&pool) {
                *price = (*price * PRICE_GROWTH).max(FIRST_PRICE * count);
            }
        }
    }

    fn raise_accuracy(&mut self, problem: &PlanProblem, priced: &Priced) {
        for (job, price) in self.accuracy.iter_mut().enumerate() {
            let short = problem.floor_points[job].zip(priced.jobs[job].points).is_some_and(|(f, points)| points < f);
            if short {
                *price = (*price * PRICE_GROWTH).max(FIRST_PRICE * problem.requests_of_job[job] as f64);
            }
        }
    }
}

/// The paper's coefficients for this problem.
pub struct Formulation<'a> {
    problem: &'a PlanProblem<'a>,
    weight: f64,
    /// By deployment: gross joules on the six features.
    energy: Vec<Features>,
    pub maxima: Maxima,
    models: Vec<&'a str>,
    /// Model of each deployment.
    model: Vec<usize>,
    /// Requests each model gets at least.
    least: Vec<usize>,
    /// By pool, until the last deadline.
    device_seconds: Vec<f64>,
}

impl<'a> Formulation<'a> {
    /// # Errors
    /// A share of a model that is not offered, or accuracy that counts and is unknown.
    pub fn new(problem: &'a PlanProblem<'a>, zeta: &Zeta) -> Result<Self, ZetaError> {
        let deployments = problem.deployments();
        let gross = |deployment: &crate::domain::Deployment| {
            let rates = &deployment.rates;
            let watts = deployment.idle_power.0 / (1.0 + problem.safety);
            std::array::from_fn(|k| rates.net_energy[k] + watts * rates.busy_time[k])
        };
        let energy: Vec<Features> = deployments.iter().map(gross).collect();
        let mut models: Vec<&str> = deployments.iter().map(|deployment| deployment.family.model.as_str()).collect();
        models.sort_unstable();
        models.dedup();
        let index = |name: &str| models.binary_search(&name).ok();
        let mut least = vec![0; models.len()];
        let count = problem.workload.requests.len();
        for (name, share) in &zeta.shares {
            let model = index(name).ok_or_else(|| ZetaError::UnknownModel(name.clone()))?;
            // Less what only rounding adds: 0.07 of 100 requests are 7.
            least[model] = (share * count as f64 * (1.0 - 4.0 * f64::EPSILON)).ceil() as usize;
        }
        if zeta.weight < 1.0 {
            let unknown = |job: &usize| problem.options.accuracy[*job].iter().all(Option::is_none);
            if let Some(job) = (0..problem.workload.jobs.len()).find(unknown) {
                return Err(ZetaError::NoAccuracy(problem.workload.jobs[job].name.clone()));
            }
        }
        let device_seconds = |pool: &crate::domain::Pool| {
            let devices = pool.free_device_count();
            devices as f64 * problem.horizon()
        };
        let mut formulation = Self {
            problem,
            weight: zeta.weight,
            energy,
            maxima: Maxima { energy: 1.0, accuracy: 1.0 },
            model: deployments.iter().filter_map(|deployment| index(&deployment.family.model)).collect(),
            models,
            least,
            device_seconds: problem.cluster.pools.iter().map(device_seconds).collect(),
        };
        formulation.maxima = formulation.maxima();
        Ok(formulation)
    }

    fn job(&self, request: usize) -> usize {
        let workload = self.problem.workload;
        workload.groups[workload.requests.group[request] as usize].job
    }

    fn maxima(&self) -> Maxima {
        let of_request = |request: usize| {
            let (input, output) = self.problem.lengths(request);
            let (i, o) = (f64::from(input), f64::from(output));
            let phi = features(i, o);
            let energy = self.energy.iter().map(|energy| dot(energy, &phi)).fold(0.0, f64::max);
            let accuracy = self.problem.options.accuracy[self.job(request)].iter().flatten().copied();
            (energy, accuracy.fold(0.0, f64::max) * (i + o))
        };
        let requests = (0..self.problem.workload.requests.len()).into_par_iter();
        let most = requests.map(of_request).reduce(|| (0.0, 0.0), |a, b| (a.0.max(b.0), a.1.max(b.1)));
        let or_one = |value: f64| if value > 0.0 { value } else { 1.0 };
        Maxima { energy: or_one(most.0), accuracy: or_one(most.1) }
    }

    /// The paper's cost of a request on a deployment; `None` where its accuracy counts and is unknown.
    fn cost(&self, request: usize, v: usize) -> Option<f64> {
        let energy = self.weighted_energy(request, v);
        if self.weight >= 1.0 {
            return Some(energy);
        }
        let accuracy = self.problem.options.accuracy[self.job(request)][v]?;
        let (input, output) = self.problem.lengths(request);
        Some(energy - (1.0 - self.weight) * accuracy * (f64::from(input) + f64::from(output)) / self.maxima.accuracy)
    }

    fn weighted_energy(&self, request: usize, v: usize) -> f64 {
        let (input, output) = self.problem.lengths(request);
        self.weight * dot(&self.energy[v], &features(f64::from(input), f64::from(output))) / self.maxima.energy
    }

    /// Deployment of each request, optimal at the prices, and what they prove.
    fn assign(&self, prices: &Prices) -> Result<(Vec<u16>, f64), ZetaError> {
        let (problem, models) = (self.problem, self.models.len());
        let requests = problem.workload.requests.len();
        let mut values = vec![f64::INFINITY; requests * models];
        let mut best = vec![super::prices::NONE; requests * models];
        values
            .par_chunks_mut(models.max(1))
            .zip(best.par_chunks_mut(models.max(1)))
            .enumerate()
            .for_each(|(request, (costs, best))| self.cheapest(request, prices, costs, best));
        let found = partition(&Costs::new(models, values), &self.least).map_err(|error| match error {
            PartitionError::Unservable(request) => ZetaError::Unservable(problem.workload.requests.ids.get(request)),
            PartitionError::Share(model) => ZetaError::Share(self.models[model].to_owned()),
        })?;
        let assignment =
            found.model.iter().enumerate().map(|(request, &model)| best[request * models + model as usize]);
        // Each price is worth what the pool has, each point what the job needs.
        let floors = prices.accuracy.iter().zip(&problem.floor_points).filter(|(_, floor)| floor.is_some());
        let worth = floors.map(|(price, _)| price).sum::<f64>() - prices.seconds.iter().sum::<f64>();
        Ok((assignment.collect(), found.bound + worth))
    }

    /// For each model the cheapest deployment that can serve the request; of equals the one of least energy.
    fn cheapest(&self, request: usize, prices: &Prices, costs: &mut [f64], best: &mut [u16]) {
        let problem = self.problem;
        let kind = &problem.kinds[problem.kind_of(request)];
        let (input, output) = problem.lengths(request);
        let phi = features(f64::from(input), f64::from(output));
        let mut least_energy = vec![f64::INFINITY; costs.len()];
        for (option, &v) in kind.options.iter().enumerate() {
            if !problem.can_serve(kind, option, input, output) {
                continue;
            }
            let Some(mut cost) = self.cost(request, v) else { continue };
            let deployment = &problem.deployments()[v];
            let price = prices.seconds[deployment.pool];
            if price > 0.0 {
                let seconds = deployment.rates.seconds(input, output) * f64::from(deployment.devices);
                cost += price * seconds / self.device_seconds[deployment.pool].max(f64::MIN_POSITIVE);
            }
            if let Some((job, floor)) = kind.mean_job.and_then(|job| Some((job, problem.floor_points[job]?))) {
                cost -= prices.accuracy[job] * kind.accuracy[option] / floor.max(f64::MIN_POSITIVE);
            }
            let (model, energy) = (self.model[v], dot(&self.energy[v], &phi));
            if cost < costs[model] || (cost == costs[model] && energy < least_energy[model]) {
                (costs[model], best[model], least_energy[model]) = (cost, v as u16, energy);
            }
        }
    }

    /// What an assignment costs; accuracy that is unknown counts as none.
    pub fn objective(&self, assignment: &[u16]) -> f64 {
        let cost = |request: usize, v: usize| self.cost(request, v).unwrap_or_else(|| self.weighted_energy(request, v));
        assignment.iter().enumerate().map(|(request, &v)| cost(request, v as usize)).sum()
    }
}

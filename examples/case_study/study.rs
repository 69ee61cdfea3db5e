//! The reference paper's own question (arXiv 2407.04014, section 6): 200 and 500 queries, models that a share of the
//! queries each must go to, zeta from 0 to 1, and the strategies it compares with.
//!
//! As there, a query is one trial without batching or KV cache. `bilinear` is the paper's energy model, `phase` ours,
//! both fitted to the grid it published; each optimum is by one of them and every result is priced by both.

use jouleplan::domain::FamilyModel;
use jouleplan::plan::partition::{Costs, Partition, partition};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// In percent: what the paper takes, the mean of the Open LLM Leaderboard's six tasks.
const ACCURACY: [(&str, f64); 4] = [
    ("meta-llama/Llama-2-7b-chat-hf", 50.97),
    ("mistralai/Mistral-7B-v0.1", 60.97),
    ("meta-llama/Llama-2-70b-chat-hf", 64.52),
    ("mistralai/Mixtral-8x7B-v0.1", 68.47),
];
/// The paper's code promises a model a quarter of its share of the system; here that is its share of the GPUs.
const PROMISED: f64 = 0.25;
const STEPS: u32 = 10;

/// A model with both of its energy models.
pub struct Model {
    pub phase: FamilyModel,
    pub bilinear: FamilyModel,
    pub accuracy: f64,
}

/// The models of both files, in the order of `ACCURACY`.
pub fn models(phase: &[FamilyModel], bilinear: &[FamilyModel]) -> Option<Vec<Model>> {
    let find = |families: &[FamilyModel], name: &str| families.iter().find(|family| family.key.model == name).cloned();
    let model = |(name, accuracy): (&str, f64)| {
        Some(Model { phase: find(phase, name)?, bilinear: find(bilinear, name)?, accuracy })
    };
    ACCURACY.into_iter().map(model).collect()
}

/// A strategy's result; a line of the CSV.
pub struct Outcome {
    pub queries: usize,
    pub strategy: String,
    /// Absent where it plays no part.
    pub zeta: Option<f64>,
    /// At that zeta, energy by the strategy's own model.
    pub objective: Option<f64>,
    /// As our phase form has it, and as the paper's bilinear form.
    pub phase_j: f64,
    pub bilinear_j: f64,
    pub runtime_s: f64,
    /// Percent, each query weighed by its tokens, as in the paper.
    pub accuracy: f64,
    pub counts: Vec<usize>,
}

pub fn run(models: &[Model], queue: &[(u32, u32)]) -> Vec<Outcome> {
    let study = Study { models, queue };
    let mut outcomes = study.baselines();
    for step in 0..=STEPS {
        let zeta = f64::from(step) / f64::from(STEPS);
        for (strategy, by_phase, counts_only) in
            [("per_request", false, false), ("paper_code", false, true), ("per_request_phase", true, false)]
        {
            outcomes.push(study.optimum(strategy, zeta, by_phase, counts_only));
        }
    }
    outcomes
}

struct Study<'a> {
    models: &'a [Model],
    queue: &'a [(u32, u32)],
}

impl Study<'_> {
    fn energy(&self, by_phase: bool, query: usize, k: usize) -> f64 {
        let (input, output) = self.queue[query];
        let model = &self.models[k];
        let family = if by_phase { &model.phase } else { &model.bilinear };
        family.energy(f64::from(input), f64::from(output), 1.0).0
    }

    fn runtime(&self, query: usize, k: usize) -> f64 {
        let (input, output) = self.queue[query];
        self.models[k].phase.runtime(f64::from(input), f64::from(output), 1.0).0
    }

    fn tokens(&self, query: usize) -> f64 {
        f64::from(self.queue[query].0) + f64::from(self.queue[query].1)
    }

    /// zeta * E / Emax - (1 - zeta) * A * (i + o) / Amax by query and model.
    fn costs(&self, zeta: f64, by_phase: bool) -> Vec<f64> {
        let all = || (0..self.queue.len()).flat_map(|query| (0..self.models.len()).map(move |k| (query, k)));
        let worth = |(query, k): (usize, usize)| self.models[k].accuracy * self.tokens(query);
        let most_energy = all().map(|(query, k)| self.energy(by_phase, query, k)).fold(f64::MIN_POSITIVE, f64::max);
        let most_worth = all().map(worth).fold(f64::MIN_POSITIVE, f64::max);
        all()
            .map(|(query, k)| {
                zeta * self.energy(by_phase, query, k) / most_energy - (1.0 - zeta) * worth((query, k)) / most_worth
            })
            .collect()
    }

    /// Queries that each model gets at least.
    fn promised(&self) -> Vec<usize> {
        let gpus = |model: &Model| f64::from(model.phase.key.devices);
        let all: f64 = self.models.iter().map(gpus).sum();
        let of_model = |model| (PROMISED * gpus(model) / all * self.queue.len() as f64).ceil() as usize;
        self.models.iter().map(of_model).collect()
    }

    /// `counts_only`: as the paper's code, which gives every query of a model the sum over all queries. Its optimum fixes
    /// how many go where, not which; here they go in the order of the queue.
    fn optimum(&self, strategy: &str, zeta: f64, by_phase: bool, counts_only: bool) -> Outcome {
        let (costs, models) = (self.costs(zeta, by_phase), self.models.len());
        let searched = if counts_only {
            let mut sums = vec![0.0; models];
            costs.chunks(models).for_each(|row| sums.iter_mut().zip(row).for_each(|(sum, cost)| *sum += cost));
            sums.repeat(self.queue.len())
        } else {
            costs.clone()
        };
        // Every query may go anywhere and the shares sum to less than all, so there is an optimum.
        let found = partition(&Costs::new(models, searched), &self.promised());
        let model: Vec<usize> = found.map_or_else(
            |_| vec![0; self.queue.len()],
            |Partition { model, .. }| model.into_iter().map(|k| k as usize).collect(),
        );
        let objective = model.iter().enumerate().map(|(query, &k)| costs[query * models + k]).sum();
        Outcome { zeta: Some(zeta), objective: Some(objective), ..self.outcome(strategy, &model) }
    }

    fn baselines(&self) -> Vec<Outcome> {
        let (queries, models) = (0..self.queue.len(), 0..self.models.len());
        let fastest =
            |query: usize| models.clone().min_by(|&a, &b| self.runtime(query, a).total_cmp(&self.runtime(query, b)));
        let most_accurate =
            models.clone().max_by(|&a, &b| self.models[a].accuracy.total_cmp(&self.models[b].accuracy)).unwrap_or(0);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut assignments = vec![
            ("fastest".to_owned(), queries.clone().map(|query| fastest(query).unwrap_or(0)).collect::<Vec<_>>()),
            ("round_robin".to_owned(), queries.clone().map(|query| query % self.models.len()).collect()),
            ("random".to_owned(), queries.clone().map(|_| random.random_range(models.clone())).collect()),
            ("most_accurate".to_owned(), vec![most_accurate; self.queue.len()]),
        ];
        let single = |k: usize| (format!("single_model:{}", self.models[k].phase.key.model), vec![k; self.queue.len()]);
        assignments.extend(models.map(single));
        assignments.iter().map(|(strategy, model)| self.outcome(strategy, model)).collect()
    }

    fn outcome(&self, strategy: &str, model: &[usize]) -> Outcome {
        let sum = |value: &dyn Fn(usize, usize) -> f64| -> f64 {
            model.iter().enumerate().map(|(query, &k)| value(query, k)).sum()
        };
        let tokens = sum(&|query, _| self.tokens(query));
        Outcome {
            queries: self.queue.len(),
            strategy: strategy.to_owned(),
            zeta: None,
            objective: None,
            phase_j: sum(&|query, k| self.energy(true, query, k)),
            bilinear_j: sum(&|query, k| self.energy(false, query, k)),
            runtime_s: sum(&|query, k| self.runtime(query, k)),
            accuracy: sum(&|query, k| self.models[k].accuracy * self.tokens(query)) / tokens,
            counts: (0..self.models.len()).map(|k| model.iter().filter(|&&m| m == k).count()).collect(),
        }
    }
}

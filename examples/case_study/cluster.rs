//! The same queue on a cluster of today: what the paper's problem leaves out. Step by step come batching, the joules of
//! starts and idle nodes, our plan at the same mean accuracy, a deadline, and a small cluster.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jouleplan::domain::{
    AccuracyRule, AccuracyTable, Cluster, FamilyModel, Floor, Group, Job, Provenance, RequestIds, Requests, Workload,
};
use jouleplan::options::{Options, OptionsInput, build};
use jouleplan::plan::price::Priced;
use jouleplan::plan::zeta::{Formulation, Zeta, plan as zeta_plan};
use jouleplan::plan::{PlanProblem, Settings, Verdict, solve};
use jouleplan::units::Seconds;

/// Dense models of today in the paper's range of sizes.
pub const MODELS: [&str; 4] = [
    "meta-llama/Llama-3.1-8B-Instruct",
    "google/gemma-3-12b-it",
    "Qwen/Qwen3-14B",
    "meta-llama/Llama-3.3-70B-Instruct",
];
const TASK: &str = "MMLU-Pro";
const ZETA: f64 = 0.5;
const NIGHT: f64 = 8.0 * 3600.0;

/// A line of the second table.
pub struct Step {
    pub queries: usize,
    pub name: &'static str,
    /// What the paper's problem counts: gross joules of the requests; absent of our own plans.
    pub formulation_j: Option<f64>,
    /// What the placed plan costs, and its parts: requests, starts (load and drain), idle nodes and wakes.
    pub objective_j: f64,
    pub active_j: f64,
    pub starts_j: f64,
    pub idle_j: f64,
    pub gap: Option<f64>,
    /// Percent, mean over requests.
    pub accuracy: f64,
    pub finish_s: f64,
    pub instances: usize,
}

pub struct Site {
    pub cluster: Cluster,
    pub models: Vec<FamilyModel>,
    pub accuracy: AccuracyTable,
    pub time_limit: Duration,
}

impl Site {
    /// # Errors
    /// A step without a plan.
    pub fn run(&self, queue: &[(u32, u32)]) -> Result<Vec<Step>, String> {
        let smallest: Vec<FamilyModel> = self.models.iter().cloned().map(smallest_batch).collect();
        let mut steps = vec![
            self.paper("paper, smallest batch measured", queue, &smallest)?,
            self.paper("paper, any batch", queue, &self.models)?,
        ];
        let (easy, floor) = (steps[0].accuracy - 1e-6, steps[1].accuracy - 1e-6);
        steps.push(self.ours("plan, accuracy of the first, due in 8 h", queue, &self.cluster, NIGHT, easy)?);
        let one_node = {
            let mut pools = self.cluster.pools.clone();
            pools.truncate(1);
            pools.iter_mut().for_each(|pool| pool.nodes.truncate(1));
            Cluster { pools, ..self.cluster.clone() }
        };
        let night = self.ours("plan, accuracy of the second, due in 8 h", queue, &self.cluster, NIGHT, floor)?;
        let finish = night.finish_s;
        let soon = (1..10).map(|tenths| f64::from(tenths) / 10.0 * finish);
        steps.push(night);
        let name = "plan, the same, due as soon as it can be";
        steps.extend(soon.filter_map(|soon| self.ours(name, queue, &self.cluster, soon, floor).ok()).next());
        steps.push(self.ours("plan, the same, due in 8 h, one H100 node", queue, &one_node, NIGHT, floor)?);
        Ok(steps)
    }

    fn paper(&self, name: &'static str, queue: &[(u32, u32)], models: &[FamilyModel]) -> Result<Step, String> {
        let workload = workload(queue, NIGHT, None);
        let options = self.options(&workload, &self.cluster, models)?;
        let problem = PlanProblem::new(&workload, &self.cluster, models, &options, 0.0);
        let formulation = |weight| Formulation::new(&problem, &Zeta { weight, shares: BTreeMap::new() });
        let weighed = formulation(ZETA).map_err(|error| error.to_string())?;
        let found =
            zeta_plan(&weighed, Instant::now() + self.time_limit).map_err(|error| format!("{name}: {error}"))?;
        let schedule = &found.priced.schedule;
        let served: Vec<u16> =
            schedule.assignment.iter().map(|&j| schedule.instances[j as usize].deployment as u16).collect();
        let energy = formulation(1.0).map_err(|error| error.to_string())?;
        let joules = energy.objective(&served) * energy.maxima.energy;
        Ok(Step { formulation_j: Some(joules), ..step(name, queue.len(), &found.priced) })
    }

    fn ours(
        &self,
        name: &'static str,
        queue: &[(u32, u32)],
        cluster: &Cluster,
        deadline: f64,
        floor: f64,
    ) -> Result<Step, String> {
        let workload = workload(queue, deadline, Some(floor));
        let options = self.options(&workload, cluster, &self.models)?;
        let problem = PlanProblem::new(&workload, cluster, &self.models, &options, 0.0);
        let settings = Settings { time_limit: self.time_limit, baselines: false, ..Settings::default() };
        match solve(&problem, &settings, None, &mut |_| {}) {
            Ok(Verdict::Planned(plan)) => Ok(Step { gap: Some(plan.gap), ..step(name, queue.len(), &plan.priced) }),
            Ok(other) => Err(format!("{name}, {deadline} s: {other:?}")),
            Err(error) => Err(format!("{name}: {error}")),
        }
    }

    fn options(&self, workload: &Workload, cluster: &Cluster, models: &[FamilyModel]) -> Result<Options, String> {
        let accuracy = &self.accuracy;
        build(&OptionsInput { workload, cluster, models, accuracy, safety: 0.0 }).map_err(|error| error.to_string())
    }
}

fn step(name: &'static str, queries: usize, priced: &Priced) -> Step {
    let energy = &priced.energy;
    Step {
        queries,
        name,
        formulation_j: None,
        objective_j: priced.objective(),
        active_j: energy.active,
        starts_j: energy.load + energy.tail,
        idle_j: energy.idle + energy.wake,
        gap: None,
        accuracy: priced.jobs[0].points.unwrap_or(0.0) / queries as f64,
        finish_s: priced.makespan,
        instances: priced.schedule.instances.len(),
    }
}

/// The operating point nearest to one query at a time.
fn smallest_batch(mut family: FamilyModel) -> FamilyModel {
    family.batch_points.sort_by_key(|point| point.max_num_seqs);
    family.batch_points.truncate(1);
    family
}

fn workload(queue: &[(u32, u32)], deadline: f64, floor: Option<f64>) -> Workload {
    let (deadline, release) = (Seconds(deadline), Seconds::ZERO);
    let job = Job {
        name: "queue".to_owned(),
        task: Some(TASK.to_owned()),
        floor: floor.map(|percent| Floor { percent, rule: AccuracyRule::Mean }),
        deadline,
        release,
        models: None,
        pools: None,
        max_ttft: None,
        max_tbt: None,
    };
    Workload {
        jobs: vec![job],
        groups: vec![Group { job: 0, deadline, release, own_floor: None, pinned_models: None }],
        requests: Requests {
            input_tokens: queue.iter().map(|lengths| lengths.0).collect(),
            output_tokens: queue.iter().map(|lengths| lengths.1).collect(),
            group: vec![0; queue.len()],
            ids: RequestIds::Rows(vec![(String::new(), 0)]),
        },
        input_provenance: Provenance::Imported,
        output_provenance: Provenance::Imported,
        output_spread: None,
    }
}

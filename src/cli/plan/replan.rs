//! `plan --replan DIR`: what has not started of an earlier plan, planned anew from now on.
//!
//! Instances that have started are kept, with their requests: they hold their devices until their planned end and draw at
//! most their peak until then. The requests of all others are the new queue, with the time that is left to their deadlines
//! and the accuracy that is left to reach. What is left out lies in served.csv, so that the new plan stands by itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use crate::cli::check::Overrides;
use crate::cli::exit::Failure;
use crate::cli::inputs::Inputs;
use crate::cli::recorded::{Recorded, leave_out};
use crate::domain::{AccuracyRule, Cluster, Schedule};
use crate::formats::plan_dir::{self, InstanceRow, PlanDirectory};
use crate::formats::power_adjustment::{KeptInstance, PowerAdjustment};
use crate::formats::replan_json::ReplanJson;
use crate::formats::served_csv::ServedRow;
use crate::plan::PlanProblem;
use crate::report::RequestIndex;
use crate::report::power_adjustment::carried;
use crate::units::Seconds;

/// An earlier plan at an instant of its life.
pub struct Before {
    directory: PlanDirectory,
    pub recorded: Recorded,
    /// Seconds from its second 0 until now.
    elapsed: Seconds,
    origin: SystemTime,
    since_origin: Seconds,
}

/// What it leaves to do.
pub struct Left {
    pub inputs: Inputs,
    pub served: Vec<ServedRow>,
    pub kept: Vec<KeptInstance>,
    pub replan: ReplanJson,
}

impl Before {
    /// # Errors
    /// No plan, one of another kind, or one that starts only later.
    pub fn read(dir: &Path, out: &Path, start: SystemTime) -> anyhow::Result<Self> {
        let same = |a: &Path, b: &Path| a.canonicalize().ok().is_some_and(|a| b.canonicalize().ok() == Some(a));
        if same(dir, out) {
            return Err(Failure::usage(
                "--out: the plan to go on from lies there, and is still needed; name another folder",
            ));
        }
        let directory = plan_dir::read(dir)?;
        if directory.plan.zeta.is_some() {
            return Err(Failure::usage("--replan: plans made with --objective zeta=Z are not planned anew"));
        }
        let mut recorded = Recorded::new(&directory, &Overrides::default())?;
        let Ok(elapsed) = start.duration_since(recorded.start()) else {
            let began = humantime::format_rfc3339_seconds(recorded.start());
            return Err(Failure::usage(format!("--start: the plan to go on from starts later, at {began}")));
        };
        let elapsed = Seconds(elapsed.as_secs_f64());
        let (origin, since_origin) = recorded.go_on(elapsed);
        Ok(Self { directory, recorded, elapsed, origin, since_origin })
    }

    /// Margin on seconds, as the plan before has it.
    pub fn safety(&self) -> f64 {
        self.directory.plan.safety
    }

    fn has_started(&self, instance: &InstanceRow) -> bool {
        instance.start <= self.elapsed
    }

    /// The queue that is left, as of now.
    ///
    /// # Errors
    /// Inputs that changed; nothing is left.
    pub fn left(&self) -> anyhow::Result<Left> {
        let mut inputs = self.recorded.read_as_stated()?;
        let plan = &self.directory.plan;
        let started: Vec<bool> = self.directory.instances.iter().map(|instance| self.has_started(instance)).collect();
        let rows = self.directory.assignments.iter().filter(|(_, instance)| started[*instance as usize]);
        let mut served: Vec<ServedRow> = rows
            .map(|(request, instance)| {
                let instance = self.directory.instances[instance as usize].id.clone();
                ServedRow { request: request.to_owned(), instance }
            })
            .collect();
        if served.len() == inputs.assembled.workload.requests.len() {
            return Err(Failure::usage("--replan: nothing is left to plan, for all of its instances have started"));
        }
        let floors = self.floors(&inputs, &started);
        leave_out(&mut inputs, &served, Seconds::ZERO, &floors)?;
        served.splice(0..0, self.recorded.served()?);
        let of = |instance: &InstanceRow| KeptInstance {
            instance: instance.id.clone(),
            pool: instance.pool.clone(),
            node: instance.node.clone(),
            device_indices: instance.device_indices.clone(),
            end_s: (instance.end - self.elapsed).0,
            power_w: plan.deployments[instance.deployment]
                .peak_power_w
                .map(|peak| peak - plan.deployments[instance.deployment].idle_power_w),
        };
        let (running, finished): (Vec<&InstanceRow>, Vec<&InstanceRow>) = self
            .directory
            .instances
            .iter()
            .filter(|instance| self.has_started(instance))
            .partition(|instance| instance.end > self.elapsed);
        let mut kept: Vec<KeptInstance> = running.iter().map(|instance| of(instance)).collect();
        count_nodes(&mut kept, &inputs.cluster);
        let earlier = plan.power_adjustment.as_ref().map(|adjustment| carried(adjustment, self.elapsed).kept);
        kept.extend(earlier.unwrap_or_default());
        let waiting = self.directory.instances.iter().filter(|instance| !self.has_started(instance));
        let replan = ReplanJson {
            of: self.directory.path.display().to_string(),
            origin: humantime::format_rfc3339_seconds(self.origin).to_string(),
            since_origin_s: self.since_origin.0,
            served_sha256: String::new(),
            served: served.len() as u64,
            floors,
            finished: finished.len() as u64,
            running: kept.len() as u64,
            moved: 0,
            before_j: waiting.map(|instance| (instance.energy + instance.load).0).sum(),
        };
        Ok(Left { inputs, served, kept, replan })
    }

    /// What is left of mean floors once the requests of kept instances have their accuracy.
    fn floors(&self, inputs: &Inputs, started: &[bool]) -> BTreeMap<String, f64> {
        let workload = &inputs.assembled.workload;
        let mut points = vec![(0usize, 0.0, 0usize); workload.jobs.len()];
        let mut index = RequestIndex::new(&workload.requests);
        for (row, (name, instance)) in self.directory.assignments.iter().enumerate() {
            let Some(request) = index.find(name, row) else { continue };
            let job = workload.groups[workload.requests.group[request] as usize].job;
            let of_job = &mut points[job];
            of_job.2 += 1;
            if started[instance as usize] {
                let model = &self.directory.instances[instance as usize].model;
                let task = workload.jobs[job].task.as_deref().unwrap_or_default();
                of_job.0 += 1;
                of_job.1 += inputs.accuracy.get(model, task).unwrap_or(0.0);
            }
        }
        let left = |(job, (served, points, all)): (&crate::domain::Job, (usize, f64, usize))| {
            let floor = job.floor.filter(|floor| floor.rule == AccuracyRule::Mean)?;
            let left = all.checked_sub(served).filter(|left| *left > 0)?;
            Some((job.name.clone(), ((floor.percent * all as f64 - points) / left as f64).max(0.0)))
        };
        workload.jobs.iter().zip(points).filter_map(left).collect()
    }

    /// Current power without telemetry of now: as the plan before took it, and its instances that go on.
    pub fn adjustment(&self, kept: &[KeptInstance]) -> Option<PowerAdjustment> {
        let mut adjustment = match &self.directory.plan.power_adjustment {
            Some(before) => carried(before, self.elapsed),
            None if kept.is_empty() => return None,
            None => PowerAdjustment::default(),
        };
        adjustment.kept = kept.to_vec();
        if self.directory.plan.power_adjustment.is_some() {
            adjustment.warnings =
                vec!["without telemetry, others are taken to be as the plan before took them".to_owned()];
        }
        Some(adjustment)
    }

    /// The instances that have not started, as they were planned, for the queue that is left.
    pub fn rest(&self, problem: &PlanProblem) -> Result<Schedule, String> {
        crate::cli::incumbent::schedule(&self.directory, problem, |instance| {
            (!self.has_started(instance)).then(|| instance.start - self.elapsed)
        })
    }

    /// Requests that a new plan puts elsewhere: on another deployment, node or device.
    pub fn moved(&self, problem: &PlanProblem, schedule: &Schedule) -> u64 {
        let requests = &problem.workload.requests;
        let mut index = RequestIndex::new(requests);
        let mut moved = 0;
        for (name, old) in self.directory.assignments.iter() {
            let old = &self.directory.instances[old as usize];
            if self.has_started(old) {
                continue;
            }
            let Some(request) = index.find(name, usize::MAX) else { continue };
            let new = &schedule.instances[schedule.assignment[request] as usize];
            let pool = &problem.cluster.pools[new.pool];
            let same = problem.deployments()[new.deployment].id == self.directory.plan.deployments[old.deployment].id
                && pool.nodes[new.node] == old.node
                && new.device_indices == old.device_indices;
            moved += u64::from(!same);
        }
        moved
    }
}

/// Nodes that can sleep stay on for the instances they hold: base and idle power count with the last of those.
fn count_nodes(kept: &mut [KeptInstance], cluster: &Cluster) {
    let mut last: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (index, instance) in kept.iter().enumerate() {
        let known = last.entry((instance.pool.clone(), instance.node.clone())).or_insert(index);
        if instance.end_s > kept[*known].end_s {
            *known = index;
        }
    }
    for ((pool, _), index) in last {
        let pool = cluster.pools.iter().find(|known| known.name == pool && known.suspend);
        let standing = pool.and_then(|pool| pool.standing_power()).map_or(0.0, |power| power.0);
        kept[index].power_w = kept[index].power_w.map(|power| power + standing);
    }
}

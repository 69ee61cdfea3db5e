//! `explain`: why a request is where it is and what the runner-up costs; what a job gets and who serves it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::check::Overrides;
use super::exit::Failure;
use super::inputs::Inputs;
use super::output::Output;
use super::recorded::Recorded;
use crate::domain::{RequestIds, Workload};
use crate::formats::plan_dir::{self, InstanceRow, PlanDirectory};
use crate::options::{OptionsInput, build};
use crate::plan::PlanProblem;
use crate::report::explain::{Alternative, alternatives, refusals};
use crate::report::text::{Table, count, energy, plain, time};
use crate::report::{RequestIndex, power_adjustment};

/// Deployments listed in the text; `--json` has them all.
const SHOWN: usize = 8;

/// Jobs and requests suggested for a name that is none.
const NAMES_SHOWN: usize = 20;

/// Say why a request went where it did, or what a job gets
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Plan directory
    dir: PathBuf,
    /// A request id (a row; FILE:ROW with several files; else the queue's own ids) or the name of a job
    name: String,
    #[command(flatten)]
    overrides: Overrides,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let directory = plan_dir::read(&arguments.dir)?;
    let Inputs { models, cluster, assembled, accuracy, .. } =
        Recorded::new(&directory, &arguments.overrides)?.read()?;
    let (workload, safety) = (&assembled.workload, directory.plan.safety);
    let options = build(&OptionsInput { workload, cluster: &cluster, models: &models, accuracy: &accuracy, safety })?;
    let problem = PlanProblem::new(workload, &cluster, &models, &options, safety);
    let story = Story { directory: &directory, problem: &problem };

    let mut index = RequestIndex::new(&workload.requests);
    let request = index.find(&arguments.name, arguments.name.parse::<usize>().unwrap_or(0).wrapping_sub(1));
    let job = workload.jobs.iter().position(|job| job.name == arguments.name);
    if request.is_none() && job.is_none() {
        return Err(unknown(&arguments.name, &mut index, workload));
    }
    let request = request.map(|request| story.request(request, &mut index)).transpose()?;
    let job = job.map(|job| (job, story.served(job, &mut index)));
    if arguments.json {
        let mut object = Map::new();
        object.extend(request.map(|told| ("request".to_owned(), told.to_json(&story))));
        object.extend(job.map(|(job, served)| ("job".to_owned(), story.job_json(job, &served))));
        let current = directory.plan.power_adjustment.as_ref();
        object.extend(current.map(|current| ("power_adjustment".to_owned(), json!(current))));
        return Ok(output.json(&Value::Object(object))?);
    }
    let mut text = request.map(|told| told.text(&story)).unwrap_or_default();
    text.push_str(&job.map(|(job, served)| story.job_text(job, &served)).unwrap_or_default());
    if let Some(current) = &directory.plan.power_adjustment {
        text.push_str(&format!("\nplanned beside what others did then:\n{}", power_adjustment::text(current)));
    }
    Ok(output.data(text.as_bytes())?)
}

/// With several workload files a row alone names no request: the rows of that number are suggested.
fn unknown(name: &str, index: &mut RequestIndex, workload: &Workload) -> anyhow::Error {
    let mut message = format!("no request and no job is called `{}`", plain(name));
    if let RequestIds::Rows(files) = &workload.requests.ids {
        let rows = files.iter().filter(|(file, _)| !file.is_empty()).map(|(file, _)| format!("{file}:{name}"));
        let meant: Vec<String> = rows.filter(|row| index.find(row, usize::MAX).is_some()).take(NAMES_SHOWN).collect();
        if !meant.is_empty() {
            message.push_str(&format!("; requests of several files are named FILE:ROW: {}", plain(&meant.join(", "))));
        }
    }
    let jobs: Vec<String> = workload.jobs.iter().take(NAMES_SHOWN).map(|job| plain(&job.name)).collect();
    Failure::bad_data(format!("{message}; jobs are {}", jobs.join(", ")))
}

struct Story<'a> {
    directory: &'a PlanDirectory,
    problem: &'a PlanProblem<'a>,
}

/// What there is to say about a request.
struct RequestTold<'a> {
    request: usize,
    instance: &'a InstanceRow,
    /// Deployment of its instance.
    own: usize,
    /// At the batch its instance really reaches.
    joules: f64,
    seconds: f64,
    alternatives: Vec<Alternative>,
    /// Deployments of the plan's instances.
    used: BTreeSet<usize>,
}

impl<'a> Story<'a> {
    fn request(&self, request: usize, index: &mut RequestIndex) -> anyhow::Result<RequestTold<'a>> {
        let mut rows = self.directory.assignments.iter().enumerate();
        let Some((_, (_, instance))) = rows.find(|(row, (id, _))| index.find(id, *row) == Some(request)) else {
            let name = self.problem.workload.requests.ids.get(request);
            return Err(Failure::bad_data(format!("assignments.csv has no row for request {}", plain(&name))));
        };
        let instance = &self.directory.instances[instance as usize];
        let own = self.deployment(instance)?;
        // A damaged count is for `check` to find.
        let rates = self.problem.rates_for(own, usize::try_from(instance.requests).unwrap_or(usize::MAX));
        let (input, output) = self.problem.lengths(request);
        Ok(RequestTold {
            request,
            instance,
            own,
            joules: rates.energy(input, output),
            seconds: rates.slot_seconds(input, output),
            alternatives: alternatives(self.problem, request),
            used: self.directory.instances.iter().filter_map(|instance| self.deployment(instance).ok()).collect(),
        })
    }

    fn deployment(&self, instance: &InstanceRow) -> anyhow::Result<usize> {
        let id = &self.directory.plan.deployments[instance.deployment].id;
        let found = self.problem.deployments().iter().position(|deployment| deployment.id == *id);
        found.ok_or_else(|| Failure::bad_data(format!("models and cluster offer no {id}; run `jouleplan check`")))
    }

    fn id(&self, deployment: usize) -> &str {
        &self.problem.deployments()[deployment].id
    }

    /// Requests of a job by the deployment that serves them.
    fn served(&self, job: usize, index: &mut RequestIndex) -> BTreeMap<&'a str, u64> {
        let workload = self.problem.workload;
        let mut served = BTreeMap::new();
        for (row, (name, instance)) in self.directory.assignments.iter().enumerate() {
            let Some(request) = index.find(name, row) else { continue };
            if workload.groups[workload.requests.group[request] as usize].job == job {
                let deployment = self.directory.instances[instance as usize].deployment;
                *served.entry(self.directory.plan.deployments[deployment].id.as_str()).or_default() += 1;
            }
        }
        served
    }

    fn job_json(&self, job: usize, served: &BTreeMap<&str, u64>) -> Value {
        let result = self.directory.plan.jobs.get(job);
        let limits = self.directory.plan.constraints.get(job);
        json!({"result": result, "constraints": limits, "served_by": served})
    }

    fn job_text(&self, job: usize, served: &BTreeMap<&str, u64>) -> String {
        let name = plain(&self.problem.workload.jobs[job].name);
        let (Some(result), Some(limits)) =
            (self.directory.plan.jobs.get(job), self.directory.plan.constraints.get(job))
        else {
            return format!("plan.json says nothing about job {name}\n");
        };
        let mut text = format!(
            "job {name}: {}, {} active\nfinish    {}, deadline {} ({} before it)\n",
            count(result.requests, "request"),
            energy(result.energy_j),
            time(result.finish_s),
            time(result.deadline_s),
            time(result.deadline_s - result.finish_s)
        );
        text.push_str(&match (result.mean_accuracy, limits.min_accuracy) {
            (Some(mean), Some(floor)) => {
                let rule = limits.accuracy_rule.as_deref().unwrap_or("mean");
                format!("accuracy  {mean:.2} %, floor {floor:.2} % ({rule})\n")
            }
            (Some(mean), None) => format!("accuracy  {mean:.2} %, no floor\n"),
            (None, _) => "accuracy  unknown\n".to_owned(),
        });
        let mut table = Table::new(&["served by", ">requests"]);
        for (deployment, requests) in served {
            table.row([(*deployment).to_owned(), requests.to_string()]);
        }
        text + &table.render(0)
    }
}

impl RequestTold<'_> {
    fn eligible(&self) -> impl Iterator<Item = &Alternative> {
        self.alternatives.iter().filter(|alternative| alternative.refused.is_none())
    }

    /// The cheapest other deployment whose instances are there anyway.
    fn runner_up(&self) -> Option<&Alternative> {
        self.eligible().find(|a| a.deployment != self.own && self.used.contains(&a.deployment))
    }

    fn cheapest(&self) -> Option<&Alternative> {
        self.eligible().next()
    }

    fn full_batch_joules(&self) -> f64 {
        self.alternatives.iter().find(|a| a.deployment == self.own).map_or(self.joules, |a| a.joules)
    }

    fn accuracy(&self) -> Option<f64> {
        self.alternatives.iter().find(|a| a.deployment == self.own).and_then(|a| a.accuracy)
    }

    /// Why the plan does not use a cheaper deployment that it could.
    fn against(&self, other: &Alternative, story: &Story) -> String {
        let job = story.problem.workload.groups[story.problem.workload.requests.group[self.request] as usize].job;
        let used = self.used.contains(&other.deployment);
        let start = || energy(story.problem.deployments()[other.deployment].start_energy().0);
        let floor = story.problem.workload.jobs[job].floor.filter(|_| story.problem.floor_points[job].is_some());
        match (floor, other.accuracy, self.accuracy()) {
            (Some(floor), Some(theirs), _) if theirs < floor.percent => {
                let start = if used { String::new() } else { format!("; a start of it costs {}", start()) };
                format!("its {theirs} % is below the floor of {} % on the mean of the job{start}", floor.percent)
            }
            _ if !used => format!("not in use: a start of it costs {}", start()),
            (Some(floor), Some(theirs), Some(ours)) if theirs < ours => {
                format!("its {theirs} % would lower the mean of the job, whose floor is {} %", floor.percent)
            }
            _ => "its instances have no room, or the search did not get that far".to_owned(),
        }
    }

    fn text(&self, story: &Story) -> String {
        let (input, output) = story.problem.lengths(self.request);
        let workload = story.problem.workload;
        let group = &workload.groups[workload.requests.group[self.request] as usize];
        let accuracy = self.accuracy().map_or("unknown".to_owned(), |percent| format!("{percent} %"));
        let mut text = format!(
            "request {} of job {}: {input} tokens in, {output} out, due after {}\n\
             served by {} = {}\n          on {} devices {:?}, {} to {}\n\
             costs     {} net, {} in a batch slot, accuracy {accuracy}\n",
            plain(&workload.requests.ids.get(self.request)),
            plain(&workload.jobs[group.job].name),
            time(group.deadline.0),
            self.instance.id,
            plain(story.id(self.own)),
            plain(&self.instance.node),
            self.instance.device_indices,
            time(self.instance.start.0),
            time(self.instance.end.0),
            energy(self.joules),
            time(self.seconds),
        );
        let difference = |other: &Alternative| {
            let more = other.joules - self.full_batch_joules();
            format!("{} {}", energy(more.abs()), if more < 0.0 { "less" } else { "more" })
        };
        if let Some(other) = self.runner_up() {
            let why = if other.joules < self.full_batch_joules() { self.against(other, story) } else { String::new() };
            text.push_str(&format!("runner-up {}: {} {why}\n", plain(story.id(other.deployment)), difference(other)));
        }
        match self.cheapest() {
            Some(other) if other.deployment == self.own => text.push_str("cheapest  of all deployments it may use\n"),
            Some(other) => text.push_str(&format!(
                "cheapest  {}: {}, {}\n",
                plain(story.id(other.deployment)),
                difference(other),
                self.against(other, story)
            )),
            None => text.push_str("cheapest  none: no deployment may serve it; run `jouleplan check`\n"),
        }
        text + &self.table(story)
    }

    /// The cheapest deployments it may use, and how many are refused for which reason, each with an example.
    fn table(&self, story: &Story) -> String {
        let mut table = Table::new(&["deployment", ">joules", ">slot", ">accuracy", "in use"]);
        for other in self.eligible().take(SHOWN) {
            table.row([
                story.id(other.deployment).to_owned(),
                energy(other.joules),
                time(other.seconds),
                other.accuracy.map_or("-".to_owned(), |percent| format!("{percent} %")),
                if self.used.contains(&other.deployment) { "yes" } else { "no" }.to_owned(),
            ]);
        }
        let more = self.eligible().count().saturating_sub(SHOWN);
        let mut text = format!("\n{}", table.render(0));
        if more > 0 {
            text.push_str(&format!("... and {more} more it may use\n"));
        }
        for (kind, number) in refusals(&self.alternatives) {
            let example = self.alternatives.iter().find(|a| a.refused.is_some_and(|reason| reason.kind() == kind));
            let Some((example, reason)) = example.and_then(|a| Some((a, a.refused?))) else { continue };
            let id = plain(story.id(example.deployment));
            text.push_str(&format!(
                "not allowed, {kind}: {}, for example {id}: {reason}\n",
                count(number as u64, "deployment")
            ));
        }
        text
    }

    fn to_json(&self, story: &Story) -> Value {
        let workload = story.problem.workload;
        let group = &workload.groups[workload.requests.group[self.request] as usize];
        let (input, output) = story.problem.lengths(self.request);
        let alternative = |other: &Alternative| {
            json!({
                "deployment": story.id(other.deployment),
                "energy_j": other.joules,
                "difference_j": other.joules - self.full_batch_joules(),
                "slot_s": other.seconds,
                "accuracy": other.accuracy,
                "in_use": self.used.contains(&other.deployment),
                "refused": other.refused.map(|reason| reason.kind()),
                "reason": other.refused.map(|reason| reason.to_string()),
            })
        };
        json!({
            "request_id": workload.requests.ids.get(self.request),
            "job": workload.jobs[group.job].name,
            "input_tokens": input,
            "output_tokens": output,
            "deadline_s": group.deadline.0,
            "instance": self.instance.id,
            "deployment": story.id(self.own),
            "pool": self.instance.pool,
            "node": self.instance.node,
            "device_indices": self.instance.device_indices,
            "energy_j": self.joules,
            "slot_s": self.seconds,
            "accuracy": self.accuracy(),
            "runner_up": self.runner_up().map(alternative),
            "cheapest": self.cheapest().map(alternative),
            "alternatives": self.alternatives.iter().map(alternative).collect::<Vec<_>>(),
        })
    }
}

//! Reads a plan directory back. What only a damaged file can hold is refused here: cells that are no numbers, names that
//! plan.json does not know, instances named twice. What a wrong plan can hold is left to `check`: a request twice, an
//! overlap, an energy that is off.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{
    ASSIGNMENTS_CSV, ASSIGNMENTS_HEADER, Assignments, INSTANCES_CSV, INSTANCES_HEADER, InstanceRow, JOBS_CSV,
    JOBS_HEADER, JobRow, NODES_CSV, NODES_HEADER, NodeRow, PLAN_JSON, PlanDirectory, SUMMARY_CSV, SUMMARY_HEADER,
    SummaryRow,
};
use crate::formats::csv_table::{self, Row};
use crate::formats::plan_json::{PlanJson, SCHEMA_VERSION};
use crate::formats::problems::{Collector, Problems};
use crate::units::{Joules, Seconds};

/// Reads plan.json and the five CSVs of `dir`.
///
/// # Errors
/// `Unreadable` for the first file that is missing; else every problem of every file at once.
pub fn read(dir: &Path) -> Result<PlanDirectory, Problems> {
    let plan = plan_json(&dir.join(PLAN_JSON))?;
    let mut all = Vec::new();
    let mut names = BTreeMap::new();
    let instances = keep(instances(&dir.join(INSTANCES_CSV), &plan, &mut names), &mut all)?;
    // With a damaged instances.csv every row here would be one more unknown instance: one cause, one message.
    let assignments = if all.is_empty() {
        keep(assignments(&dir.join(ASSIGNMENTS_CSV), &plan, &names), &mut all)?
    } else {
        Assignments::default()
    };
    let nodes = keep(nodes(&dir.join(NODES_CSV)), &mut all)?;
    let jobs = keep(jobs(&dir.join(JOBS_CSV)), &mut all)?;
    let summary = keep(summary(&dir.join(SUMMARY_CSV)), &mut all)?;
    if !all.is_empty() {
        return Err(Problems::BadData(all));
    }
    Ok(PlanDirectory { path: dir.to_owned(), plan, instances, nodes, assignments, jobs, summary })
}

/// Sets bad data aside so that the other files are read too.
fn keep<T: Default>(result: Result<T, Problems>, all: &mut Vec<super::super::Problem>) -> Result<T, Problems> {
    match result {
        Ok(value) => Ok(value),
        Err(Problems::BadData(problems)) => {
            all.extend(problems);
            Ok(T::default())
        }
        Err(unreadable) => Err(unreadable),
    }
}

fn plan_json(path: &Path) -> Result<PlanJson, Problems> {
    let text = fs::read(path).map_err(|source| Problems::Unreadable { file: path.to_owned(), source })?;
    let mut problems = Collector::new(path);
    let plan: PlanJson = match serde_json::from_slice(&text) {
        Ok(plan) => plan,
        Err(error) => {
            let place = format!("line {}, column {}", error.line(), error.column());
            problems.add(place, error.to_string(), "make the plan again with this version of jouleplan");
            return problems.fail();
        }
    };
    if plan.schema_version != SCHEMA_VERSION {
        let what = format!("version {} of the plan format; this jouleplan reads {SCHEMA_VERSION}", plan.schema_version);
        problems.add("schema_version", what, "make the plan again with this version of jouleplan");
    }
    let mut seen = BTreeMap::new();
    for (index, deployment) in plan.deployments.iter().enumerate() {
        if let Some(first) = seen.insert(&deployment.id, index) {
            let what = format!("`{}` is the id of deployment {first} too", deployment.id);
            problems.add(format!("deployments[{index}].id"), what, "make the plan again");
        }
    }
    problems.finish(())?;
    Ok(plan)
}

/// Also fills `names`: the index of each instance by its id.
fn instances(path: &Path, plan: &PlanJson, names: &mut BTreeMap<String, u32>) -> Result<Vec<InstanceRow>, Problems> {
    let deployments: BTreeMap<&str, usize> =
        plan.deployments.iter().enumerate().map(|(index, deployment)| (deployment.id.as_str(), index)).collect();
    let mut rows = Vec::new();
    let mut records = 0u64;
    csv_table::read(path, &INSTANCES_HEADER, |row| {
        records += 1;
        let Some(instance) = instance(row, plan, &deployments) else { return };
        if names.insert(instance.id.clone(), rows.len() as u32).is_some() {
            row.refuse(0, format!("a second row of instance {}", instance.id));
        }
        rows.push(instance);
    })?;
    count(path, records, plan.instances, "instances")?;
    Ok(rows)
}

fn instance(row: &mut Row<'_>, plan: &PlanJson, deployments: &BTreeMap<&str, usize>) -> Option<InstanceRow> {
    const WHOLE: &str = "a whole number";
    // Every getter runs before the first `?`, so that all problems of the row are noted.
    let id = row.text(0);
    let deployment = row.text(1).and_then(|name| {
        let found = deployments.get(name).copied();
        if found.is_none() {
            row.refuse(1, format!("plan.json has no deployment `{name}`"));
        }
        found
    });
    let (pool, node) = (row.text(2), row.text(3));
    let device_indices = device_indices(row);
    let model = row.text(5);
    let (tensor, expert) = (row.parsed::<u32>(6, WHOLE), row.parsed::<u32>(7, WHOLE));
    let max_num_seqs = row.parsed::<u32>(8, WHOLE);
    let sm_clock_mhz = if row.cell(9).is_empty() { Some(None) } else { row.parsed(9, WHOLE).map(Some) };
    let sm_share = row.optional_number(10);
    let (start, end) = (row.number(11), row.number(12));
    let requests = row.parsed(13, WHOLE);
    let (energy, load) = (row.number(14), row.number(15));
    let provenance = row.parsed(16, "measured, imported, estimated or missing");

    let deployment = deployment?;
    let family = &plan.deployments[deployment].family;
    let repeated = [
        (5, model.map(str::to_owned), family.model.clone()),
        (6, tensor.map(|degree| degree.to_string()), family.tensor_parallel.to_string()),
        (7, expert.map(|degree| degree.to_string()), family.expert_parallel.to_string()),
        (8, max_num_seqs.map(|cap| cap.to_string()), plan.deployments[deployment].max_num_seqs.to_string()),
    ];
    for (column, here, there) in repeated {
        if let Some(here) = here.filter(|here| *here != there) {
            row.refuse(column, format!("`{here}`, but plan.json has `{there}` for this deployment"));
        }
    }
    Some(InstanceRow {
        id: id?.to_owned(),
        deployment,
        pool: pool?.to_owned(),
        node: node?.to_owned(),
        device_indices: device_indices?,
        model: model?.to_owned(),
        max_num_seqs: max_num_seqs?,
        sm_clock_mhz: sm_clock_mhz?,
        sm_share: sm_share?,
        start: Seconds(start?),
        end: Seconds(end?),
        requests: requests?,
        energy: Joules(energy?),
        load: Joules(load?),
        provenance: provenance?,
    })
}

/// `0;1`
fn device_indices(row: &mut Row<'_>) -> Option<Vec<u32>> {
    let cell = row.text(4)?;
    let indices: Result<Vec<u32>, _> = cell.split(';').map(str::parse).collect();
    if indices.is_err() {
        row.refuse(4, format!("`{cell}` is not a list of device indices such as `0;1`"));
    }
    indices.ok()
}

fn assignments(path: &Path, plan: &PlanJson, names: &BTreeMap<String, u32>) -> Result<Assignments, Problems> {
    let mut assignments = Assignments::default();
    let expected = usize::try_from(plan.requests).unwrap_or(usize::MAX);
    // The claim of a file is no reason to allocate: at most what a plan of ten million needs.
    assignments.instances.reserve(expected.min(10_000_000));
    assignments.ends.reserve(expected.min(10_000_000));
    csv_table::read(path, &ASSIGNMENTS_HEADER, |row| {
        let (request, instance) = (row.text(0), row.text(1));
        let index = instance.and_then(|name| {
            let found = names.get(name).copied();
            if found.is_none() {
                row.refuse(1, format!("instances.csv has no instance `{name}`"));
            }
            found
        });
        if let (Some(request), Some(index)) = (request, index) {
            assignments.push(request, index);
        }
    })?;
    Ok(assignments)
}

fn nodes(path: &Path) -> Result<Vec<NodeRow>, Problems> {
    let mut rows = Vec::new();
    csv_table::read(path, &NODES_HEADER, |row| {
        let (node, pool) = (row.text(0), row.text(1));
        let [wake, on, off, idle, wake_energy] = [2, 3, 4, 5, 6].map(|column| row.number(column));
        let parse = || {
            Some(NodeRow {
                node: node?.to_owned(),
                pool: pool?.to_owned(),
                wake: Seconds(wake?),
                on: Seconds(on?),
                off: Seconds(off?),
                idle: Joules(idle?),
                wake_energy: Joules(wake_energy?),
            })
        };
        rows.extend(parse());
    })?;
    Ok(rows)
}

fn jobs(path: &Path) -> Result<Vec<JobRow>, Problems> {
    let mut rows = Vec::new();
    csv_table::read(path, &JOBS_HEADER, |row| {
        let (job, requests) = (row.text(0), row.parsed(1, "a whole number"));
        let (deadline, finish) = (row.number(2), row.number(3));
        let (mean_accuracy, energy) = (row.optional_number(4), row.number(5));
        let parse = || {
            Some(JobRow {
                job: job?.to_owned(),
                requests: requests?,
                deadline: Seconds(deadline?),
                finish: Seconds(finish?),
                mean_accuracy: mean_accuracy?,
                energy: Joules(energy?),
            })
        };
        rows.extend(parse());
    })?;
    Ok(rows)
}

fn summary(path: &Path) -> Result<Vec<SummaryRow>, Problems> {
    let mut rows = Vec::new();
    csv_table::read(path, &SUMMARY_HEADER, |row| {
        let strategy = row.text(0);
        let [energy, bound, gap] = [1, 2, 3].map(|column| row.optional_number(column));
        let (feasible, makespan) = (row.parsed(4, "true or false"), row.optional_number(5));
        let parse = || {
            Some(SummaryRow {
                strategy: strategy?.to_owned(),
                energy: energy?.map(Joules),
                bound: bound?.map(Joules),
                gap: gap?,
                feasible: feasible?,
                makespan: makespan?.map(Seconds),
            })
        };
        rows.extend(parse());
    })?;
    Ok(rows)
}

/// A file cut off between two lines is whole by itself; only plan.json knows how long it was.
fn count(path: &Path, found: u64, expected: u64, what: &str) -> Result<(), Problems> {
    let mut problems = Collector::new(path);
    if found != expected {
        let text = format!("{found} {what}, but plan.json has {expected}");
        problems.add("", text, "the file is damaged or was edited: make the plan again");
    }
    problems.finish(())
}

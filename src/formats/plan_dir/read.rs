//! Reads a plan directory back. What only a damaged file can hold is refused here: cells that are no numbers, names that
//! plan.json does not know, instances named twice, lines cut off. What a wrong plan can hold is left to `check`: a
//! request twice, an overlap, an energy that is off.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::str::{self, FromStr};

use super::{
    ASSIGNMENTS_CSV, ASSIGNMENTS_HEADER, Assignments, INSTANCES_CSV, INSTANCES_HEADER, InstanceRow, JOBS_CSV,
    JOBS_HEADER, JobRow, NODES_CSV, NODES_HEADER, NodeRow, PLAN_JSON, PlanDirectory, SUMMARY_CSV, SUMMARY_HEADER,
    SummaryRow,
};
use crate::formats::options_plan;
use crate::formats::plan_json::{PlanJson, SCHEMA_VERSION};
use crate::formats::problems::{Collector, Problems};
use crate::formats::table::{Row, Table};
use crate::units::{Joules, Seconds};

const REMEDY: &str = "the file is damaged or was edited: make the plan again";

/// Reads plan.json and the five CSVs of `dir`.
///
/// # Errors
/// `Unreadable` for the first file that is missing; else every problem of every file at once.
pub fn read(dir: &Path) -> Result<PlanDirectory, Problems> {
    let plan = plan_json(&dir.join(PLAN_JSON))?;
    let mut problems = Collector::new(dir);
    let mut names = BTreeMap::new();
    let instances = problems.absorb(instances(&dir.join(INSTANCES_CSV), &plan, &mut names))?;
    // With a damaged instances.csv every row here would be one more unknown instance: one cause, one message.
    let assignments = match &instances {
        Some(_) => problems.absorb(assignments(&dir.join(ASSIGNMENTS_CSV), &plan, &names))?,
        None => None,
    };
    let nodes = problems.absorb(nodes(&dir.join(NODES_CSV)))?;
    let jobs = problems.absorb(jobs(&dir.join(JOBS_CSV)))?;
    let summary = problems.absorb(summary(&dir.join(SUMMARY_CSV)))?;
    match (instances, nodes, assignments, jobs, summary) {
        (Some(instances), Some(nodes), Some(assignments), Some(jobs), Some(summary)) => {
            problems.finish(PlanDirectory { path: dir.to_owned(), plan, instances, nodes, assignments, jobs, summary })
        }
        _ => problems.fail(),
    }
}

fn plan_json(path: &Path) -> Result<PlanJson, Problems> {
    let text = fs::read(path).map_err(|source| Problems::Unreadable { file: path.to_owned(), source })?;
    let remedy = "make the plan again with this version of jouleplan";
    let mut problems = Collector::new(path);
    let plan: PlanJson = match serde_json::from_slice(&text) {
        Ok(plan) => plan,
        Err(_) if options_plan::is_kind(&text) => {
            problems.add("kind", "the plan was made from an options CSV", "only `check` reads such a plan");
            return problems.fail();
        }
        Err(error) => {
            problems.add(format!("line {}, column {}", error.line(), error.column()), error.to_string(), remedy);
            return problems.fail();
        }
    };
    if plan.schema_version != SCHEMA_VERSION {
        let what = format!("version {} of the plan format; this jouleplan reads {SCHEMA_VERSION}", plan.schema_version);
        problems.add("schema_version", what, remedy);
    }
    let mut seen = BTreeMap::new();
    for (index, deployment) in plan.deployments.iter().enumerate() {
        if let Some(first) = seen.insert(&deployment.id, index) {
            let what = format!("`{}` is the id of deployment {first} too", deployment.id);
            problems.add(format!("deployments[{index}].id"), what, REMEDY);
        }
    }
    problems.finish(())?;
    Ok(plan)
}

/// Also fills `names`: the index of each instance by its id.
fn instances(path: &Path, plan: &PlanJson, names: &mut BTreeMap<String, u32>) -> Result<Vec<InstanceRow>, Problems> {
    let deployments: BTreeMap<&str, usize> =
        plan.deployments.iter().enumerate().map(|(index, deployment)| (deployment.id.as_str(), index)).collect();
    let mut rows: Vec<InstanceRow> = Vec::new();
    let records = for_each(path, &INSTANCES_HEADER, |cells| {
        if let Some(instance) = instance(cells, plan, &deployments) {
            if names.insert(instance.id.clone(), rows.len() as u32).is_some() {
                cells.refuse(0, format!("a second row of instance {}", instance.id));
            }
            rows.push(instance);
        }
    })?;
    // A file cut off between two lines is whole by itself; only plan.json knows how long it was.
    if records != plan.instances {
        let mut problems = Collector::new(path);
        problems.add("", format!("{records} instances, but plan.json has {}", plan.instances), REMEDY);
        return problems.fail();
    }
    Ok(rows)
}

fn instance(cells: &mut Cells<'_, '_>, plan: &PlanJson, deployments: &BTreeMap<&str, usize>) -> Option<InstanceRow> {
    // Every getter runs before the first `?`, so that all problems of the row are noted.
    let id = cells.text(0);
    let deployment = cells.text(1).and_then(|name| {
        let found = deployments.get(name.as_str()).copied();
        if found.is_none() {
            cells.refuse(1, format!("plan.json has no deployment `{name}`"));
        }
        found
    });
    let (pool, node) = (cells.text(2), cells.text(3));
    let device_indices = device_indices(cells);
    let model = cells.text(5);
    let [tensor, expert, max_num_seqs] = [6, 7, 8].map(|column| cells.parsed::<u32>(column, WHOLE));
    let sm_clock_mhz = if cells.is_empty(9) { Some(None) } else { cells.parsed(9, WHOLE).map(Some) };
    let sm_share = cells.optional(10);
    let [start, end] = [11, 12].map(|column| cells.number(column));
    let requests = cells.parsed(13, WHOLE);
    let [energy, load] = [14, 15].map(|column| cells.number(column));
    let provenance = cells.parsed(16, "measured, imported, estimated or missing");

    let deployment = deployment?;
    let known = &plan.deployments[deployment];
    let clock = |clock: Option<u32>| clock.map_or("no clock".to_owned(), |clock| clock.to_string());
    let repeated = [
        (5, model.clone(), known.family.model.clone()),
        (6, tensor.map(|degree| degree.to_string()), known.family.tensor_parallel.to_string()),
        (7, expert.map(|degree| degree.to_string()), known.family.expert_parallel.to_string()),
        (8, max_num_seqs.map(|cap| cap.to_string()), known.max_num_seqs.to_string()),
        (9, sm_clock_mhz.map(clock), clock(known.sm_clock_mhz)),
    ];
    for (column, here, there) in repeated {
        if let Some(here) = here.filter(|here| *here != there) {
            cells.refuse(column, format!("`{here}`, but plan.json has `{there}` for this deployment"));
        }
    }
    Some(InstanceRow {
        id: id?,
        deployment,
        pool: pool?,
        node: node?,
        device_indices: device_indices?,
        model: model?,
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
fn device_indices(cells: &mut Cells<'_, '_>) -> Option<Vec<u32>> {
    let cell = cells.text(4)?;
    let indices: Result<Vec<u32>, _> = cell.split(';').map(str::parse).collect();
    if indices.is_err() {
        cells.refuse(4, format!("`{cell}` is not a list of device indices such as `0;1`"));
    }
    indices.ok()
}

fn assignments(path: &Path, plan: &PlanJson, names: &BTreeMap<String, u32>) -> Result<Assignments, Problems> {
    // The claim of a file is no reason to allocate without bounds.
    let expected = usize::try_from(plan.requests).unwrap_or(usize::MAX).min(10_000_000);
    let mut assignments = Assignments::with_capacity(expected);
    for_each(path, &ASSIGNMENTS_HEADER, |cells| {
        let Some(index) = cells.str(1).and_then(|name| names.get(name)).copied() else {
            let name = cells.text(1).unwrap_or_default();
            return cells.refuse(1, format!("instances.csv has no instance `{name}`"));
        };
        match cells.str(0) {
            Some(request) => assignments.push(request, index),
            None => cells.refuse(0, "the request has no name"),
        }
    })?;
    Ok(assignments)
}

fn nodes(path: &Path) -> Result<Vec<NodeRow>, Problems> {
    let mut rows = Vec::new();
    for_each(path, &NODES_HEADER, |cells| {
        let (node, pool) = (cells.text(0), cells.text(1));
        let [wake, on, off, idle, wake_energy] = [2, 3, 4, 5, 6].map(|column| cells.number(column));
        let parse = || {
            Some(NodeRow {
                node: node?,
                pool: pool?,
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
    for_each(path, &JOBS_HEADER, |cells| {
        let (job, requests) = (cells.text(0), cells.parsed(1, WHOLE));
        let (deadline, finish) = (cells.number(2), cells.number(3));
        let (mean_accuracy, energy) = (cells.optional(4), cells.number(5));
        let parse = || {
            Some(JobRow {
                job: job?,
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
    for_each(path, &SUMMARY_HEADER, |cells| {
        let strategy = cells.text(0);
        let [energy, bound, gap] = [1, 2, 3].map(|column| cells.optional(column));
        let (feasible, makespan) = (cells.parsed(4, "true or false"), cells.optional(5));
        let parse = || {
            Some(SummaryRow {
                strategy: strategy?,
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

/// Calls `row` for each row of a CSV with (at least) the columns of `header`; returns how many there were.
fn for_each(path: &Path, header: &[&str], mut row: impl FnMut(&mut Cells<'_, '_>)) -> Result<u64, Problems> {
    let mut table = Table::open(path)?;
    if !ends_with_newline(path)? {
        // A number that was cut off still parses.
        table.problems.add("last line", "the line is not complete: no newline at its end", REMEDY);
    }
    let columns: Vec<usize> = header.iter().filter_map(|name| table.require(name)).collect();
    if columns.len() < header.len() {
        return table.finish(0);
    }
    let mut rows = 0;
    while let Some(next) = table.next_row() {
        rows += 1;
        row(&mut Cells { row: next, columns: &columns });
    }
    table.finish(rows)
}

fn ends_with_newline(path: &Path) -> Result<bool, Problems> {
    let last = || {
        let mut file = File::open(path)?;
        let mut last = [0u8];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        Ok(last[0] == b'\n')
    };
    last().map_err(|source| Problems::Unreadable { file: path.to_owned(), source })
}

const WHOLE: &str = "a whole number";

/// A row whose columns are numbered as in our header. Text is taken as it was written, blanks included; a cell that is
/// wrong is noted and reads as `None`.
struct Cells<'a, 'b> {
    row: Row<'a>,
    columns: &'b [usize],
}

impl Cells<'_, '_> {
    fn refuse(&mut self, column: usize, what: impl Into<String>) {
        self.row.problem(self.columns[column], what, REMEDY);
    }

    /// `None` without a note if the cell is empty or not UTF-8.
    fn str(&self, column: usize) -> Option<&str> {
        str::from_utf8(self.row.raw(self.columns[column])).ok().filter(|text| !text.is_empty())
    }

    fn is_empty(&self, column: usize) -> bool {
        self.row.raw(self.columns[column]).is_empty()
    }

    fn text(&mut self, column: usize) -> Option<String> {
        let text = self.str(column).map(str::to_owned);
        if text.is_none() {
            self.refuse(column, "the cell is empty or not UTF-8 text");
        }
        text
    }

    fn number(&mut self, column: usize) -> Option<f64> {
        let column = self.columns[column];
        self.row.required_number(Some(column), f64::MIN, f64::MAX)
    }

    /// The outer `None` says that the cell is wrong, the inner one that it is empty.
    fn optional(&mut self, column: usize) -> Option<Option<f64>> {
        if self.is_empty(column) { Some(None) } else { self.number(column).map(Some) }
    }

    fn parsed<T: FromStr>(&mut self, column: usize, expected: &str) -> Option<T> {
        let text = self.text(column)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.refuse(column, format!("`{text}` is not {expected}"));
        }
        value
    }
}

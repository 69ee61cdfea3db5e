//! Writes plan.json and the five CSVs. Rows are formatted into one reused buffer: a million assignments take a fraction
//! of a second. Numbers are written with as many digits as it takes to read the same value back.

use std::fmt::{Display, Write as _};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::{
    ASSIGNMENTS_CSV, ASSIGNMENTS_HEADER, INSTANCES_CSV, INSTANCES_HEADER, JOBS_CSV, JOBS_HEADER, NODES_CSV,
    NODES_HEADER, OWN_STRATEGY, PLAN_JSON, PlanTables, SUMMARY_CSV, SUMMARY_HEADER, instance_id,
};
use crate::domain::RequestIds;
use crate::formats::plan_json::{PlanJson, Status};
use crate::formats::write::WriteError;

/// Writes plan.json and the CSVs into `dir`, which exists (see `write::DirectoryWriter`).
///
/// # Errors
/// A file that cannot be written; before any is, indices or lengths in `tables` that contradict each other.
pub fn write(dir: &Path, plan: &PlanJson, tables: &PlanTables<'_>) -> Result<(), WriteError> {
    let rows = consistent(tables).map_err(|what| inconsistent(dir, what))?;
    let file = dir.join(PLAN_JSON);
    let mut writer = BufWriter::new(File::create(&file).map_err(cannot(&file))?);
    serde_json::to_writer_pretty(&mut writer, plan)
        .map_err(io::Error::from)
        .and_then(|()| writeln!(writer))
        .and_then(|()| writer.flush())
        .map_err(cannot(&file))?;

    table(dir, INSTANCES_CSV, &INSTANCES_HEADER, |row| rows.iter().try_for_each(|instance| instance.write(row)))?;
    table(dir, NODES_CSV, &NODES_HEADER, |row| nodes(tables, row))?;
    table(dir, ASSIGNMENTS_CSV, &ASSIGNMENTS_HEADER, |row| assignments(tables, row))?;
    table(dir, JOBS_CSV, &JOBS_HEADER, |row| jobs(plan, row))?;
    table(dir, SUMMARY_CSV, &SUMMARY_HEADER, |row| summary(plan, row))
}

/// One row of instances.csv with its indices resolved.
struct InstanceOut<'a> {
    id: String,
    deployment: &'a crate::domain::Deployment,
    pool: &'a str,
    node: &'a str,
    instance: &'a crate::domain::Instance,
    figures: &'a super::InstanceFigures,
}

impl InstanceOut<'_> {
    fn write(&self, row: &mut Rows<'_>) -> csv::Result<()> {
        let Self { id, deployment, pool, node, instance, figures } = self;
        let family = &deployment.family;
        let devices: Vec<String> = instance.device_indices.iter().map(u32::to_string).collect();
        row.text(id)?.text(&deployment.id)?.text(pool)?.text(node)?.text(&devices.join(";"))?.text(&family.model)?;
        row.value(family.parallel.tensor)?.value(family.parallel.expert)?.value(deployment.max_num_seqs)?;
        // Only whole devices are planned: a share of 1.
        row.text(&deployment.sm_clock_mhz.map_or(String::new(), |clock| clock.to_string()))?.value(1)?;
        row.value(instance.start.0)?.value(instance.end.0)?.value(figures.requests)?;
        row.value(figures.energy.0)?.value(figures.load.0)?.text(figures.provenance.as_str())?.end()
    }
}

/// The instances with every index resolved, or what does not fit.
fn consistent<'a>(tables: &PlanTables<'a>) -> Result<Vec<InstanceOut<'a>>, String> {
    let schedule = tables.schedule;
    if tables.instances.len() != schedule.instances.len() {
        return Err(format!("{} figures for {} instances", tables.instances.len(), schedule.instances.len()));
    }
    if tables.powered.len() != schedule.powered.len() {
        return Err(format!("{} figures for {} powered intervals", tables.powered.len(), schedule.powered.len()));
    }
    if let RequestIds::Named(names) = tables.request_ids
        && names.len() != schedule.assignment.len()
    {
        return Err(format!("{} request names for {} assignments", names.len(), schedule.assignment.len()));
    }
    let last = schedule.assignment.iter().max();
    if let Some(last) = last.filter(|&&last| last as usize >= schedule.instances.len()) {
        return Err(format!("a request is assigned to instance {last} of {}", schedule.instances.len()));
    }
    let mut rows = Vec::with_capacity(schedule.instances.len());
    for (index, (instance, figures)) in schedule.instances.iter().zip(tables.instances).enumerate() {
        let id = instance_id(index);
        let Some(deployment) = tables.deployments.get(instance.deployment) else {
            return Err(format!("{id} has deployment {}", instance.deployment));
        };
        let Some(pool) = tables.cluster.pools.get(instance.pool) else {
            return Err(format!("{id} is in pool {}", instance.pool));
        };
        let Some(node) = pool.nodes.get(instance.node) else {
            return Err(format!("{id} is on node {} of pool {}", instance.node, pool.name));
        };
        rows.push(InstanceOut { id, deployment, pool: &pool.name, node, instance, figures });
    }
    let unknown_node = schedule
        .powered
        .iter()
        .find(|powered| tables.cluster.pools.get(powered.pool).is_none_or(|pool| powered.node >= pool.nodes.len()));
    match unknown_node {
        Some(powered) => Err(format!("a powered interval of node {} of pool {}", powered.node, powered.pool)),
        None => Ok(rows),
    }
}

fn nodes(tables: &PlanTables<'_>, row: &mut Rows<'_>) -> csv::Result<()> {
    for (powered, figures) in tables.schedule.powered.iter().zip(tables.powered) {
        let pool = &tables.cluster.pools[powered.pool];
        row.text(&pool.nodes[powered.node])?.text(&pool.name)?;
        row.value(powered.wake.0)?.value(powered.on.0)?.value(powered.off.0)?;
        row.value(figures.idle.0)?.value(figures.wake.0)?.end()?;
    }
    Ok(())
}

fn assignments(tables: &PlanTables<'_>, row: &mut Rows<'_>) -> csv::Result<()> {
    let ids: Vec<String> = (0..tables.schedule.instances.len()).map(instance_id).collect();
    let assignment = &tables.schedule.assignment;
    let mut written = Ok(());
    let visited = tables.request_ids.visit(0..assignment.len(), &mut |request, name| {
        if written.is_ok() {
            let instance = ids[assignment[request] as usize].as_str();
            written = row.text(name).and_then(|row| row.text(instance)).and_then(Rows::end);
        }
    });
    written.and(visited.map_err(|error| io::Error::other(error).into()))
}

fn jobs(plan: &PlanJson, row: &mut Rows<'_>) -> csv::Result<()> {
    for job in &plan.jobs {
        row.text(&job.job)?.value(job.requests)?.value(job.deadline_s)?.value(job.finish_s)?;
        row.optional(job.mean_accuracy)?.value(job.energy_j)?.end()?;
    }
    Ok(())
}

/// The plan, then the baselines by name. The gap is of what is minimised. The bound and the gap to it hold for whoever keeps the constraints; beside a
/// strategy that breaks them they would mean nothing and stay empty.
fn summary(plan: &PlanJson, row: &mut Rows<'_>) -> csv::Result<()> {
    let feasible = matches!(plan.status, Status::OptimalWithinGap | Status::Feasible);
    let own = (OWN_STRATEGY, Some(plan.objective_j), plan.objective, feasible, Some(plan.makespan_s));
    let baselines = plan.baselines.iter().map(|(name, baseline)| {
        (name.as_str(), baseline.energy_j, baseline.objective, baseline.feasible, baseline.makespan_s)
    });
    for (strategy, energy, objective, feasible, makespan) in std::iter::once(own).chain(baselines) {
        let bound = feasible.then_some(plan.bound_j);
        let (cost, least) = match plan.bound {
            Some(bound) => (objective, bound),
            None => (energy, plan.bound_j),
        };
        let gap = cost.filter(|cost| feasible && *cost > 0.0).map(|cost| (cost - least) / cost);
        row.text(strategy)?.optional(energy)?.optional(bound)?.optional(gap)?;
        row.value(feasible)?.optional(makespan)?.end()?;
    }
    Ok(())
}

fn table(
    dir: &Path,
    name: &str,
    header: &[&str],
    fill: impl FnOnce(&mut Rows<'_>) -> csv::Result<()>,
) -> Result<(), WriteError> {
    let file = dir.join(name);
    let out = File::create(&file).map_err(cannot(&file))?;
    let mut csv = csv::WriterBuilder::new().buffer_capacity(1 << 20).from_writer(out);
    csv.write_record(header)
        .and_then(|()| fill(&mut Rows { csv: &mut csv, cell: String::new() }))
        .and_then(|()| csv.flush().map_err(csv::Error::from))
        .map_err(|error| cannot(&file)(io::Error::other(error)))
}

/// Writes cells one after the other, formatting into one buffer.
struct Rows<'a> {
    csv: &'a mut csv::Writer<File>,
    cell: String,
}

impl Rows<'_> {
    fn text(&mut self, text: &str) -> csv::Result<&mut Self> {
        self.csv.write_field(text)?;
        Ok(self)
    }

    fn value(&mut self, value: impl Display) -> csv::Result<&mut Self> {
        self.cell.clear();
        write!(self.cell, "{value}").map_err(io::Error::other)?;
        self.csv.write_field(&self.cell)?;
        Ok(self)
    }

    fn optional(&mut self, value: Option<f64>) -> csv::Result<&mut Self> {
        match value {
            Some(value) => self.value(value),
            None => self.text(""),
        }
    }

    fn end(&mut self) -> csv::Result<()> {
        self.csv.write_record(None::<&[u8]>)
    }
}

fn cannot(file: &Path) -> impl FnOnce(io::Error) -> WriteError + '_ {
    |source| WriteError::Cannot { path: file.to_owned(), source }
}

/// A defect of the caller, reported instead of a broken file.
fn inconsistent(dir: &Path, what: String) -> WriteError {
    cannot(dir)(io::Error::other(format!("the parts of the plan do not fit together: {what}")))
}

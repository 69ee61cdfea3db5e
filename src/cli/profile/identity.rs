//! Whose samples these are: model, device, engine, as far as flags, drivers and servers say.

use std::path::Path;

use super::super::arguments::read_engines;
use super::super::exit::Failure;
use super::arguments::StudyArguments;
use crate::domain::{Measurement, Parallel, Provenance, Sample};
use crate::formats::devices_toml;
use crate::measure::inventory::Inventory;
use crate::measure::load::Endpoint;
use crate::measure::meter::Scope;
use crate::measure::profile::metering::Metering;

/// A row with all that does not change from trial to trial.
///
/// # Errors
/// What no flag, driver or file says.
pub fn template(arguments: &StudyArguments, inventory: &Inventory, procfs: &Path) -> anyhow::Result<Sample> {
    let models = arguments.models()?;
    let [model] = models.as_slice() else {
        return Err(Failure::usage("--model: several models are for --slurm; a study is of one"));
    };
    let devices = count(inventory);
    let replicas = arguments.data_parallel.saturating_mul(arguments.pipeline_parallel);
    let tensor = arguments.tensor_parallel.unwrap_or_else(|| (devices / replicas.max(1)).max(1));
    if u64::from(tensor) * u64::from(arguments.pipeline_parallel) > u64::from(devices) {
        return Err(Failure::usage(format!(
            "--tensor-parallel {tensor} times --pipeline-parallel {} are more devices than the {devices} that are measured",
            arguments.pipeline_parallel
        )));
    }
    Ok(Sample {
        model: (*model).to_owned(),
        precision: precision(arguments, model)?,
        device: device(arguments, inventory, procfs)?,
        devices,
        parallel: Parallel {
            tensor,
            expert: arguments.expert_parallel,
            data: arguments.data_parallel,
            pipeline: arguments.pipeline_parallel,
        },
        kv_cache: !arguments.no_kv_cache,
        engine: arguments.engine.clone(),
        engine_version: arguments.engine_version.clone(),
        provenance: Provenance::Measured,
        source: Some(concat!("jouleplan profile ", env!("CARGO_PKG_VERSION")).to_owned()),
        ..Sample::empty(Measurement::Trial)
    })
}

/// What the server says of itself, where no flag says otherwise.
pub fn engine_of(endpoint: &Endpoint, template: &mut Sample) {
    if let (None, Some(engine)) = (&template.engine, endpoint.engine()) {
        template.engine = Some(engine.name.clone());
        template.engine_version = template.engine_version.take().or_else(|| engine.version.clone());
    }
}

/// For messages.
pub fn name_of(template: &Sample) -> String {
    template.family().to_string()
}

/// Devices that are metered; one where none is.
fn count(inventory: &Inventory) -> u32 {
    let mut devices: Vec<&str> = Vec::new();
    let mut sockets = 0;
    for meter in &inventory.meters {
        match &meter.identity().scope {
            Scope::Device { uuid, .. } => devices.push(uuid),
            Scope::Package { .. } => sockets += 1,
            Scope::Dram { .. } | Scope::Platform | Scope::Node => {}
        }
    }
    devices.sort_unstable();
    devices.dedup();
    let count = if devices.is_empty() { sockets } else { devices.len() };
    u32::try_from(count).unwrap_or(u32::MAX).max(1)
}

fn precision(arguments: &StudyArguments, model: &str) -> anyhow::Result<String> {
    if let Some(precision) = &arguments.precision {
        return Ok(precision.clone());
    }
    let engines = read_engines(arguments.engines.as_deref())?;
    let mut known: Vec<&str> =
        engines.iter().filter(|engine| engine.model == model).map(|engine| engine.precision.as_str()).collect();
    known.sort_unstable();
    known.dedup();
    match known.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(Failure::usage(format!("--precision: engines.toml does not know {model}; say its precision"))),
        several => Err(Failure::usage(format!("--precision: {model} comes in {}; say which", several.join(" and ")))),
    }
}

fn device(arguments: &StudyArguments, inventory: &Inventory, procfs: &Path) -> anyhow::Result<String> {
    let table = devices_toml::builtin();
    let known = |name: &str| devices_toml::resolve(&table, name).map_or_else(|| name.to_owned(), |d| d.name.clone());
    if let Some(name) = &arguments.device {
        return Ok(known(name));
    }
    let mut names: Vec<&str> = inventory.gpus.iter().map(|gpu| gpu.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [name] => return Ok(known(name)),
        [] => {}
        several => {
            let message = format!("--devices: they are of several types ({}); name those of one", several.join(", "));
            return Err(Failure::usage(message));
        }
    }
    let has_sockets = inventory.meters.iter().any(|meter| matches!(meter.identity().scope, Scope::Package { .. }));
    match processor(procfs).filter(|_| has_sockets) {
        Some(name) => Ok(known(&name)),
        None => Err(Failure::usage("--device: nothing here says what the device is; name its type")),
    }
}

/// The processor as the system calls it.
fn processor(procfs: &Path) -> Option<String> {
    let text = std::fs::read_to_string(procfs.join("cpuinfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned()).filter(|name| !name.is_empty())
}

/// What only the meters at work say.
pub fn finish(metering: &Metering, template: &mut Sample) {
    template.driver_version.clone_from(&metering.driver_version);
}

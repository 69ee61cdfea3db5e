//! `telemetry_data` of a summary: energy counters per GPU, of every endpoint that AIPerf read.
//!
//! Endpoints report all GPUs of a host, and two may report the same ones. Only those that served the model count, each
//! once; whether they are as many as the instance has is checked, since a host's idle GPUs are not the model's energy.

use std::collections::BTreeMap;

use super::scaled;
use crate::formats::deployment_facts::Facts;
use crate::formats::json_fields::Fields;
use crate::formats::problems::Collector;
use crate::units::Joules;

/// AMD's, NVIDIA's since schema 1.4, NVIDIA's before.
const COUNTERS: [&str; 3] = ["nvidia_energy_consumption", "amd_energy_consumption", "energy_consumption"];

/// The GPUs that served the model.
#[derive(Debug, Default)]
pub struct Served {
    pub device: Option<String>,
    /// Where they are all of one host.
    pub node: Option<String>,
    /// Of all of them; `None` where none has a counter.
    pub energy: Option<Joules>,
}

struct Gpu<'v> {
    fields: Fields<'v>,
    uuid: &'v str,
    index: Option<u64>,
    name: Option<&'v str>,
    host: Option<&'v str>,
    energy: Option<f64>,
}

/// `None` without telemetry.
pub fn read(fields: &Fields, facts: &Facts, wanted: Option<&[String]>, problems: &mut Collector) -> Option<Served> {
    let all = gpus(fields, problems);
    if all.is_empty() {
        if wanted.is_some() {
            fields.refuse(
                "telemetry_data",
                "the file names no GPU",
                "drop --gpus, or run AIPerf with --gpu-telemetry",
                problems,
            );
        }
        return None;
    }
    let total = all.len();
    let served = match wanted {
        Some(wanted) => choose(all, wanted, fields, problems)?,
        None => all,
    };
    let metered = served.iter().filter(|gpu| gpu.energy.is_some()).count();
    if let Some(devices) = facts.devices().filter(|devices| *devices as usize != served.len() && metered > 0) {
        let what = format!("{} of its {total} GPUs are counted, and the instance has {devices}", served.len());
        let remedy = "name those that served the model with --gpus, or correct the parallel degrees";
        fields.refuse("telemetry_data", what, remedy, problems);
    }
    if metered > 0
        && let Some(without) = served.iter().find(|gpu| gpu.energy.is_none())
    {
        let what = "this GPU has no energy counter, others of the instance have: their sum is not its energy";
        without.fields.refuse("metrics", what, "leave it out with --gpus if it did not serve the model", problems);
    }
    let one = |name: fn(&Gpu) -> Option<String>| {
        let first = name(served.first()?);
        served.iter().all(|gpu| name(gpu) == first).then_some(first)?
    };
    let device = one(|gpu| gpu.name.map(str::to_owned));
    if device.is_none() && facts.device.is_none() {
        let what = "its GPUs are of several types, or have no name";
        fields.refuse(
            "telemetry_data",
            what,
            "name those that served the model with --gpus, or the type with --device",
            problems,
        );
    }
    let energy = (metered > 0).then(|| served.iter().filter_map(|gpu| gpu.energy).sum());
    Some(Served { device, node: one(|gpu| gpu.host.map(str::to_owned)), energy: energy.map(Joules) })
}

/// Every GPU once, in order of UUIDs.
fn gpus<'v>(fields: &Fields<'v>, problems: &mut Collector) -> Vec<Gpu<'v>> {
    let mut found: BTreeMap<&str, Gpu> = BTreeMap::new();
    let endpoints = fields.object("telemetry_data", problems).and_then(|data| data.object("endpoints", problems));
    for endpoint in endpoints.map(|endpoints| endpoints.objects(problems)).unwrap_or_default() {
        let gpus = endpoint.object("gpus", problems).map(|gpus| gpus.objects(problems)).unwrap_or_default();
        for fields in gpus {
            let Some(uuid) = fields.text("gpu_uuid", problems) else {
                fields.refuse("gpu_uuid", "gpu_uuid is missing", "was the file edited?", problems);
                continue;
            };
            let gpu = Gpu {
                uuid,
                index: fields.count("gpu_index", problems),
                name: fields.text("gpu_name", problems),
                host: fields.text("hostname", problems),
                energy: energy(&fields, problems),
                fields,
            };
            if gpu.energy.is_some() || !found.contains_key(uuid) {
                found.insert(uuid, gpu);
            }
        }
    }
    found.into_values().collect()
}

/// What the counter rose by.
fn energy(gpu: &Fields, problems: &mut Collector) -> Option<f64> {
    let metrics = gpu.object("metrics", problems)?;
    let counter = COUNTERS.iter().find_map(|name| metrics.object(name, problems))?;
    let value = counter.number("avg", problems)?;
    if value <= 0.0 {
        let what = "the energy counter did not rise: it was reset, or read only once";
        counter.refuse("avg", what, "measure it again, for longer", problems);
    }
    scaled(&counter, value, &[("MJ", 1e6), ("J", 1.0), ("mJ", 1e-3)], problems)
}

fn choose<'v>(
    mut all: Vec<Gpu<'v>>,
    wanted: &[String],
    fields: &Fields,
    problems: &mut Collector,
) -> Option<Vec<Gpu<'v>>> {
    let mut chosen = Vec::new();
    let before = problems.len();
    for name in wanted {
        let index: Option<u64> = name.parse().ok();
        let is_it = |gpu: &Gpu| gpu.uuid == name || index.is_some() && gpu.index == index;
        match all.iter().filter(|gpu| is_it(gpu)).count() {
            0 => {
                let what = format!("there is no GPU {name} in it, or --gpus names it twice");
                fields.refuse("telemetry_data", what, "name indices or UUIDs that the file has, each once", problems);
            }
            1 => chosen.extend(all.extract_if(.., |gpu| is_it(gpu))),
            several => {
                let what = format!("{several} hosts have a GPU {name}");
                fields.refuse("telemetry_data", what, "name it with its UUID", problems);
            }
        }
    }
    (problems.len() == before).then_some(chosen)
}

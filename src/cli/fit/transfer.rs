//! `fit --transfer MODEL[:PRECISION]@DEVICE[xN]`: which family is meant, and what became of it.
//!
//! What is not said is chosen: the precision of the model's entry in engines.toml, the fewest devices (a power of two) whose
//! memory holds it, tensor parallel for dense models and expert parallel for mixtures of experts, and the engine
//! generation that most measured families share.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::domain::{DeviceType, Engine, FamilyKey, FamilyModel, Parallel};
use crate::fit::Context;
use crate::fit::hardware::Machine;
use crate::fit::transfer::interval::Calibration;
use crate::fit::transfer::{Transferred, transfer};
use crate::formats::{devices_toml, engines_toml};
use crate::report::text::{count, percent};

/// Most devices that are chosen without being asked for: a node's.
const MOST_DEVICES: u32 = 8;
/// Share of the memory that weights may take where the number of devices is chosen; the rest is for the KV cache.
const WEIGHTS_SHARE: f64 = 0.8;

/// A family as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    model: String,
    precision: Option<String>,
    device: String,
    devices: Option<u32>,
}

/// Parses `MODEL[:PRECISION]@DEVICE[xN]`.
pub fn target(text: &str) -> Result<Target, String> {
    const FORM: &str =
        "write MODEL@DEVICE, MODEL@DEVICExN or MODEL:PRECISION@DEVICExN, for example Qwen/Qwen3-14B@A100x2";
    let (model, device) = text.rsplit_once('@').ok_or(FORM)?;
    let (model, precision) = match model.rsplit_once(':') {
        Some((model, precision)) => (model, Some(precision.to_owned())),
        None => (model, None),
    };
    let (device, devices) = match device.rsplit_once('x').map(|(device, number)| (device, number.parse::<u32>())) {
        Some((device, Ok(devices))) if (1..=65_536).contains(&devices) => (device, Some(devices)),
        Some((_, Ok(_))) => return Err("an instance has 1 to 65536 devices".to_owned()),
        _ => (device, None),
    };
    let empty = |text: &str| text.trim().is_empty();
    if empty(model) || empty(device) || precision.as_deref().is_some_and(empty) {
        return Err(FORM.to_owned());
    }
    Ok(Target { model: model.to_owned(), precision, device: device.to_owned(), devices })
}

/// The families of `targets`, estimated from `measured`; or all that hinders, one line a target.
pub fn estimate(
    targets: &[Target],
    measured: &[FamilyModel],
    context: &Context<'_>,
) -> Result<Vec<Transferred>, Vec<String>> {
    let mut estimated: Vec<Transferred> = Vec::new();
    let mut problems = Vec::new();
    for target in targets {
        let result = resolve(target, measured, context)
            .and_then(|key| transfer(&key, measured, context).map_err(|error| format!("{key}: {error}")));
        match result {
            Ok(family) if estimated.iter().any(|other| other.model.key == family.model.key) => {}
            Ok(family) => estimated.push(family),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(estimated) } else { Err(problems) }
}

/// What to know of an estimated family.
pub fn note(family: &Transferred) -> String {
    let known = match (family.unknown.model, family.unknown.device) {
        (false, false) => "its model and its device are measured, apart",
        (true, false) => "no family of its model is measured",
        (false, true) => "no family on its device is measured",
        (true, true) => "neither its model nor its device is measured",
    };
    let off = match (family.energy.mape, family.runtime.mape) {
        (Some(energy), Some(runtime)) => format!(
            "such families, left out, are off by {} in energy and {} in runtime on average",
            percent(energy),
            percent(runtime)
        ),
        _ => "no such family could be left out to say how far off that is".to_owned(),
    };
    let few = if family.energy.sufficient && family.runtime.sufficient {
        ""
    } else {
        ", which too few models or devices could be left out to test"
    };
    format!(
        "{}: estimated from {} ({known}); {off}; the range is to cover 90 %{few}",
        family.model.key,
        count(family.neighbours as u64, "measured family"),
    )
}

pub fn to_json(family: &Transferred) -> Value {
    let calibration = |calibration: &Calibration| {
        json!({
            "left_out_mape": calibration.mape,
            "left_out_families": calibration.families,
            "interval_tested": calibration.sufficient,
        })
    };
    json!({
        "family": family.model.key.to_string(),
        "model": family.model.key.model,
        "device": family.model.key.device,
        "neighbours": family.neighbours,
        "model_measured_elsewhere": !family.unknown.model,
        "device_measured": !family.unknown.device,
        "energy": calibration(&family.energy),
        "runtime": calibration(&family.runtime),
    })
}

fn resolve(target: &Target, measured: &[FamilyModel], context: &Context<'_>) -> Result<FamilyKey, String> {
    let Target { model, precision, device, devices } = target;
    let engine = match precision {
        Some(precision) => engines_toml::find(context.engines, model, precision),
        None => context.engines.iter().find(|engine| engine.model == *model),
    };
    let engine = engine
        .or_else(|| context.engines.iter().find(|engine| engine.model == *model))
        .ok_or_else(|| format!("model `{model}` is not in engines.toml: add its architecture there (--engines)"))?;
    let device = devices_toml::resolve(context.devices, device)
        .ok_or_else(|| format!("device `{device}` is not in the device table: name one of profiles/devices.toml"))?;
    let precision = precision.clone().unwrap_or_else(|| engine.precision.clone());
    let machine = Machine { device: Some(device), engine: Some(engine), precision: &precision, devices: 1 };
    if machine.weights().is_none() {
        return Err(format!("precision `{precision}` of {model} is unknown: write it as engines.toml does"));
    }
    let devices = match devices {
        Some(devices) => *devices,
        None => fewest_devices(engine, device, &precision).ok_or_else(|| {
            format!(
                "{model} does not fit {MOST_DEVICES} x {}: state the number of devices, @{}x16",
                device.name, device.name
            )
        })?,
    };
    let parallel = if engine.architecture.active_parameters < engine.architecture.parameters {
        Parallel { expert: devices, ..Parallel::tensor(1) }
    } else {
        Parallel::tensor(devices)
    };
    let generation = common_generation(measured, context.devices, device)
        .ok_or_else(|| format!("no measured family runs on a device of the kind of {}", device.name))?;
    Ok(FamilyKey {
        model: model.clone(),
        precision,
        device: device.name.clone(),
        devices,
        parallel,
        kv_cache: true,
        engine: generation,
    })
}

fn fewest_devices(engine: &Engine, device: &DeviceType, precision: &str) -> Option<u32> {
    (0..).map(|exponent| 1u32 << exponent).take_while(|devices| *devices <= MOST_DEVICES).find(|&devices| {
        let machine = Machine { device: Some(device), engine: Some(engine), precision, devices };
        let memory = device.memory.0 * f64::from(devices) * WEIGHTS_SHARE;
        machine.weights().is_some_and(|weights| weights.value.0 <= memory)
    })
}

/// The engine generation with the most families on devices of the same kind; of equals the first by name.
fn common_generation(measured: &[FamilyModel], devices: &[DeviceType], like: &DeviceType) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for model in measured {
        let kind = devices_toml::resolve(devices, &model.key.device).map(|device| device.kind);
        if kind == Some(like.kind) && model.key.kv_cache {
            *counts.entry(&model.key.engine).or_default() += 1;
        }
    }
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(engine, _)| engine.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_names_model_precision_device_and_number() {
        let full = target("Qwen/Qwen3-14B:fp8@A100-PCIe-80GBx4").unwrap();
        assert_eq!((full.model.as_str(), full.precision.as_deref()), ("Qwen/Qwen3-14B", Some("fp8")));
        assert_eq!((full.device.as_str(), full.devices), ("A100-PCIe-80GB", Some(4)));
        let short = target("mixtral-8x7b@L4").unwrap();
        assert_eq!((short.device.as_str(), short.devices), ("L4", None));
        assert!(target("no-device").is_err() && target("@H100").is_err() && target("m@H100x0").is_err());
    }
}

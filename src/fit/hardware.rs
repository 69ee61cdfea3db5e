//! What hardware and architecture alone say about a family: prefill and KV-cache reads, idle and load power, memory.
//! Everything here is an estimate with a range, used only where samples cannot identify a coefficient.
//!
//! Prefill: FLOPs over achieved FLOP/s, calibrated on the prompt times of Splitwise (arXiv 2311.18677, profile of
//! Llama-2-70B, prompts of 2,048 tokens). Not modelled: communication, and kernels that differ between engines; the
//! range is meant to cover them.

use crate::domain::{Architecture, DeviceKind, DeviceType, Engine, FamilyKey, Feature, Figure, Provenance, Term};
use crate::units::{Bytes, Seconds, Watts};

/// Share of peak FLOP/s reached in prefill on 1, 2, 4, 8 devices. One device is extrapolated.
const FLOPS_SHARE_H100: [f64; 4] = [0.58, 0.47, 0.36, 0.265];
const FLOPS_SHARE_A100: [f64; 4] = [0.72, 0.67, 0.57, 0.42];
const FLOPS_SHARE_CPU: f64 = 0.5;
/// Achieved FLOP/s may be this much lower or higher: nine tenths of the table's prompts and batches of 512 tokens and
/// more, each configuration estimated from the others (mean error 18 %). Shorter prompts alone take up to seven times the
/// estimate, since a step has a floor; beside decoding they share that step.
const FLOPS_RANGE: (f64, f64) = (0.6, 1.3);
/// Share of peak memory bandwidth reached when the KV cache is read, with its range. The same model, device and batch
/// under chat and GPQA (contexts 4,000 tokens longer) in ML.ENERGY generation 3 gives 0.9..1.1 on H100 (Qwen3 8B, 14B and
/// 32B), overheads of short requests flattering it, at 0.2..0.3 nJ a byte.
const BANDWIDTH_SHARE: (f64, f64, f64) = (0.5, 0.85, 1.0);
/// Power of KV-cache reads as a share of TDP; never below the mean power seen, which is its low end.
const CONTEXT_POWER: (f64, f64) = (0.85, 1.0);
/// Power in prefill as a share of TDP, with its range: compute-bound kernels run near the limit.
const PREFILL_POWER: (f64, f64, f64) = (0.6, 0.85, 1.0);
/// While weights load, devices draw little more than idle.
const LOAD_POWER_SHARE: f64 = 0.1;
const FALLBACK_LOAD: Seconds = Seconds(60.0);

/// A value with its range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub low: f64,
    pub value: f64,
    pub high: f64,
}

/// One term that hardware figures stand in for: instance-seconds and gross joules per unit of the feature.
#[derive(Clone, Debug, PartialEq)]
pub struct EstimatedTerm {
    pub feature: Feature,
    pub seconds: Range,
    pub joules: Range,
}

impl EstimatedTerm {
    fn from_time(feature: Feature, seconds: Range, power: Range) -> Self {
        let joules =
            Range { low: seconds.low * power.low, value: seconds.value * power.value, high: seconds.high * power.high };
        Self { feature, seconds, joules }
    }

    pub fn energy_term(&self, scale: f64) -> Term {
        term(&self.feature, self.joules, scale)
    }

    pub fn runtime_term(&self, scale: f64) -> Term {
        term(&self.feature, self.seconds, scale)
    }
}

fn term(feature: &Feature, range: Range, scale: f64) -> Term {
    Term::estimated(feature.clone(), range.value * scale, range.low * scale, range.high * scale)
}

/// The devices of one instance and the model on them; `None` parts are unknown.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    pub device: Option<&'a DeviceType>,
    pub engine: Option<&'a Engine>,
    pub precision: &'a str,
    pub devices: u32,
}

impl Machine<'_> {
    /// Whether `name` is the family's device type, by its name or an alias.
    pub fn is_named(&self, name: &str, key: &FamilyKey) -> bool {
        key.device.eq_ignore_ascii_case(name) || self.device.is_some_and(|device| device.is_named(name))
    }

    /// TDP of all devices together.
    pub fn tdp(&self) -> Option<Watts> {
        self.device.map(|device| device.tdp * f64::from(self.devices))
    }

    /// Idle power of all devices by the device table. Marked estimated whatever the table says: it is not of this node.
    pub fn idle_power(&self) -> Option<Figure<Watts>> {
        self.device.map(|device| Figure::estimated(device.idle_power.value * f64::from(self.devices)))
    }

    /// Arithmetic of one device at this precision, operations a second.
    pub fn peak_flops(&self) -> Option<f64> {
        let device = self.device?;
        Some(match device.peak_flops_8bit {
            Some(peak) if self.precision.starts_with("fp8") => peak,
            _ => device.peak_flops_16bit,
        })
    }

    /// i and i^2: reading the prompt. Multiply-adds of the active parameters, and causal attention (half the square).
    pub fn prefill(&self) -> Option<[EstimatedTerm; 2]> {
        let (device, architecture) = (self.device?, self.architecture()?);
        let achieved = self.peak_flops()? * f64::from(self.devices) * flops_share(device, self.devices);
        let seconds = |flops: f64| Range {
            low: flops / (achieved * FLOPS_RANGE.1),
            value: flops / achieved,
            high: flops / (achieved * FLOPS_RANGE.0),
        };
        let tdp = device.tdp.0 * f64::from(self.devices);
        let power = Range { low: tdp * PREFILL_POWER.0, value: tdp * PREFILL_POWER.1, high: tdp * PREFILL_POWER.2 };
        let width = f64::from(architecture.attention_heads) * f64::from(architecture.head_dimension);
        let attention = 2.0 * f64::from(architecture.layers) * width;
        Some([
            EstimatedTerm::from_time(Feature::Input, seconds(2.0 * architecture.active_parameters), power),
            EstimatedTerm::from_time(Feature::InputSquared, seconds(attention), power),
        ])
    }

    /// S1: KV-cache bytes of one token over achieved bandwidth of all devices. `seen` is the mean power of the samples in
    /// watts, all devices.
    pub fn context_read(&self, seen: f64) -> Option<EstimatedTerm> {
        let device = self.device?;
        let bytes = kv_bytes_per_token(self.architecture()?);
        let bandwidth = device.memory_bandwidth * f64::from(self.devices);
        let seconds = Range {
            low: bytes / (bandwidth * BANDWIDTH_SHARE.2),
            value: bytes / (bandwidth * BANDWIDTH_SHARE.1),
            high: bytes / (bandwidth * BANDWIDTH_SHARE.0),
        };
        let tdp = device.tdp.0 * f64::from(self.devices);
        let power = Range { low: seen, value: seen.max(tdp * CONTEXT_POWER.0), high: seen.max(tdp * CONTEXT_POWER.1) };
        Some(EstimatedTerm::from_time(Feature::ContextRead, seconds, power))
    }

    pub fn weights(&self) -> Option<Figure<Bytes>> {
        let bytes = self.architecture()?.parameters * bytes_per_parameter(self.precision)?;
        Some(Figure::estimated(Bytes(bytes)))
    }

    pub fn kv_bytes_per_token(&self) -> Option<Figure<Bytes>> {
        self.architecture().map(|architecture| Figure::estimated(Bytes(kv_bytes_per_token(architecture))))
    }

    /// From start to ready; a minute where engines.toml does not say.
    pub fn load_time(&self) -> Figure<Seconds> {
        Figure::estimated(self.engine.and_then(|engine| engine.load_time).unwrap_or(FALLBACK_LOAD))
    }

    /// Mean power of all devices while the weights load.
    pub fn load_power(&self, idle: Figure<Watts>) -> Figure<Watts> {
        let (idle, provenance) = (idle.value, idle.provenance.weaker(Provenance::Estimated));
        let tdp = self.tdp().unwrap_or(idle);
        Figure::new(idle + (tdp - idle).max(Watts::ZERO) * LOAD_POWER_SHARE, provenance)
    }

    fn architecture(&self) -> Option<&Architecture> {
        self.engine.map(|engine| &engine.architecture)
    }
}

/// Keys and values of all layers in 16 bits, or what the architecture states (latent attention).
fn kv_bytes_per_token(architecture: &Architecture) -> f64 {
    let by_heads = 2.0 * 2.0 * f64::from(architecture.kv_heads) * f64::from(architecture.head_dimension);
    architecture.kv_bytes_per_token_layer.unwrap_or(by_heads) * f64::from(architecture.layers)
}

/// Bytes of one weight; `None` for a precision nobody has named here.
fn bytes_per_parameter(precision: &str) -> Option<f64> {
    let precision = precision.to_ascii_lowercase();
    let starts = |names: &[&str]| names.iter().any(|name| precision.starts_with(name));
    if starts(&["fp32", "float32", "f32"]) {
        Some(4.0)
    } else if starts(&["bf16", "bfloat16", "fp16", "float16", "half", "f16"]) {
        Some(2.0)
    } else if starts(&["fp8", "int8", "w8", "q8"]) {
        Some(1.0)
    } else if starts(&["fp4", "mxfp4", "nvfp4", "int4", "w4", "q4", "awq", "gptq"]) {
        Some(0.5)
    } else {
        None
    }
}

/// Linear in log2 of the device count between the calibrated counts, constant outside.
fn flops_share(device: &DeviceType, devices: u32) -> f64 {
    if device.kind == DeviceKind::Cpu {
        return FLOPS_SHARE_CPU;
    }
    let table = if device.name.starts_with("A100") { FLOPS_SHARE_A100 } else { FLOPS_SHARE_H100 };
    let position = f64::from(devices.max(1)).log2().min(3.0);
    let (below, above) = (table[position.floor() as usize], table[position.ceil() as usize]);
    below + (above - below) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{devices_toml, engines_toml};

    fn machine<'a>(devices: &'a [DeviceType], engines: &'a [Engine], count: u32) -> Machine<'a> {
        Machine {
            device: devices_toml::resolve(devices, "H100"),
            engine: engines_toml::find(engines, "meta-llama/Llama-3.1-70B-Instruct", "bfloat16"),
            precision: "bfloat16",
            devices: count,
        }
    }

    /// Splitwise, Llama-2-70B on H100: 2,048 tokens take about 137 ms on 8 devices and 308 ms on 2.
    #[test]
    fn prefill_time_is_that_of_the_calibration() {
        let (devices, engines) = (devices_toml::builtin(), engines_toml::builtin());
        for (count, published) in [(8, 0.137), (4, 0.201), (2, 0.308)] {
            let terms = machine(&devices, &engines, count).prefill().unwrap();
            let seconds: f64 = terms.iter().map(|t| t.seconds.value * t.feature.value(2048.0, 0.0, 1.0)).sum();
            assert!((seconds / published - 1.0).abs() < 0.08, "{count} devices: {seconds} s");
            assert!(terms.iter().all(|t| t.seconds.low < t.seconds.value && t.seconds.value < t.seconds.high));
        }
    }

    #[test]
    fn memory_follows_from_the_architecture() {
        let (devices, engines) = (devices_toml::builtin(), engines_toml::builtin());
        let machine = machine(&devices, &engines, 4);
        assert!((machine.weights().unwrap().value.0 / 141e9 - 1.0).abs() < 0.01);
        assert_eq!(machine.kv_bytes_per_token().unwrap().value, Bytes(2.0 * 2.0 * 80.0 * 8.0 * 128.0));
        assert_eq!(bytes_per_parameter("made-up"), None);
    }

    #[test]
    fn what_is_unknown_gives_no_estimate() {
        let nothing = Machine { device: None, engine: None, precision: "bfloat16", devices: 1 };
        assert!(nothing.prefill().is_none() && nothing.context_read(300.0).is_none() && nothing.weights().is_none());
    }
}

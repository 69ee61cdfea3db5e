//! Measured families as points of the process: seconds and joules per output token over what a roofline expects.
//!
//! Decoding alone: prefill and KV-cache reads are other terms, fitted or estimated from hardware for both sides alike. A
//! step reads the weights it needs (of a mixture of experts, those that some token of the batch chose) and multiplies
//! them with every token of the batch; the roofline adds both times at the makers' figures, and power at TDP. What engines
//! make of that is left to the process, with figures that tell where overhead weighs.

use super::process::Point;
use crate::domain::{Architecture, DeviceType, FamilyKey, FamilyModel, Feature, Form, Provenance, Term};
use crate::fit::hardware::Machine;
use crate::fit::{Context, engine_of};

/// Output tokens over which a fitted constant is spread.
const TYPICAL_OUTPUT: f64 = 512.0;
/// Points of a family: its first and last batch and what lies between, evenly in the logarithm.
const POINTS_PER_FAMILY: usize = 4;
/// The batch, and the factor on it, that count as 0 and 1.
const BATCH_ORIGIN: f64 = 64.0;
const BATCH_UNIT: f64 = 8.0;
/// Time to read the weights of one token that counts as 0: shorter steps are mostly overhead.
const STEP_ORIGIN_S: f64 = 5e-3;

/// A family whose hardware and architecture are known, measured or not.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    pub key: &'a FamilyKey,
    pub machine: Machine<'a>,
    pub device: &'a DeviceType,
    pub architecture: &'a Architecture,
    bytes_per_parameter: f64,
    /// Of one device.
    peak_flops: f64,
}

impl<'a> Member<'a> {
    /// `None` if the device, the architecture or the size of a weight is unknown.
    pub fn new(key: &'a FamilyKey, context: &Context<'a>) -> Option<Self> {
        let device = context.devices.iter().find(|device| device.is_named(&key.device))?;
        let engine = engine_of(context.engines, key)?;
        let machine =
            Machine { device: Some(device), engine: Some(engine), precision: &key.precision, devices: key.devices };
        let architecture = &engine.architecture;
        let bytes_per_parameter = machine.weights()?.value.0 / architecture.parameters;
        let peak_flops = machine.peak_flops()?;
        Some(Self { key, machine, device, architecture, bytes_per_parameter, peak_flops })
    }

    /// Whether one can tell of the other: same kind of device, same engine generation, both with a KV cache.
    pub fn is_comparable(&self, other: &Self) -> bool {
        self.device.kind == other.device.kind
            && self.key.engine == other.key.engine
            && self.key.kv_cache
            && other.key.kv_cache
    }

    pub fn is_same_model(&self, other: &Self) -> bool {
        self.architecture == other.architecture
    }

    pub fn is_same_device(&self, other: &Self) -> bool {
        self.device.name == other.device.name
    }

    fn devices(&self) -> f64 {
        f64::from(self.key.devices)
    }

    fn is_mixture(&self) -> bool {
        self.architecture.active_parameters < self.architecture.parameters
    }

    /// Instance-seconds per output token at makers' figures.
    pub fn roofline_seconds(&self, batch: f64) -> f64 {
        let Architecture { parameters, active_parameters, .. } = *self.architecture;
        let touched = 1.0 - (1.0 - (active_parameters / parameters).min(1.0)).powf(batch.max(1.0));
        let reading = parameters * touched * self.bytes_per_parameter / (self.device.memory_bandwidth * self.devices());
        let arithmetic = 2.0 * active_parameters * batch / (self.peak_flops * self.devices());
        (reading + arithmetic) / batch
    }

    /// Gross joules per output token at TDP.
    pub fn roofline_joules(&self, batch: f64) -> f64 {
        self.roofline_seconds(batch) * self.device.tdp.0 * self.devices()
    }

    fn trend(&self, log_batch: f64) -> Vec<f64> {
        let step = self.architecture.active_parameters * self.bytes_per_parameter
            / (self.device.memory_bandwidth * self.devices());
        let figures = [
            1.0,
            self.devices().log2(),
            f64::from(u8::from(self.is_mixture())),
            (step / STEP_ORIGIN_S).ln(),
            (2.0 / self.bytes_per_parameter).log2(),
        ];
        figures.into_iter().chain(figures.map(|figure| figure * log_batch)).chain([log_batch * log_batch]).collect()
    }
}

/// A measured family with what it says of decoding.
#[derive(Clone, Debug)]
pub struct Neighbour<'a> {
    pub member: Member<'a>,
    pub model: &'a FamilyModel,
    /// Batch, seconds and joules per output token, ascending.
    pub decode: Vec<(f64, f64, f64)>,
}

impl<'a> Neighbour<'a> {
    /// `None` if the model says nothing of decoding that was measured, or its hardware is unknown.
    pub fn new(model: &'a FamilyModel, context: &Context<'a>) -> Option<Self> {
        let member = Member::new(&model.key, context)?;
        let measured = |terms: &[Term]| {
            terms.iter().any(|term| is_decoding(&term.feature) && term.provenance != Provenance::Estimated)
        };
        if model.form != Form::Phase || !measured(&model.energy) || !measured(&model.runtime) {
            return None;
        }
        let mut batches: Vec<f64> = model.batch_points.iter().map(|point| point.batch_size).collect();
        batches.sort_by(f64::total_cmp);
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let decode: Vec<(f64, f64, f64)> = evenly(&batches)
            .into_iter()
            .map(|batch| (batch, per_token(&model.runtime, batch), per_token(&model.energy, batch)))
            .filter(|(batch, seconds, joules)| positive(*batch) && positive(*seconds) && positive(*joules))
            .collect();
        (!decode.is_empty()).then_some(Self { member, model, decode })
    }
}

/// Points of the process: who is the same as whom is counted once over measured families and the target, which may be a
/// model, or on a device, of its own.
#[derive(Debug)]
pub struct Identities<'m, 'a> {
    members: Vec<&'m Member<'a>>,
}

impl<'m, 'a> Identities<'m, 'a> {
    pub fn new(members: Vec<&'m Member<'a>>) -> Self {
        Self { members }
    }

    /// Family number `family` of the members at a batch.
    pub fn point(&self, family: usize, batch: f64) -> Point {
        let member = self.members[family];
        let first =
            |same: &dyn Fn(&Member<'_>) -> bool| self.members.iter().position(|other| same(other)).unwrap_or(family);
        let log_batch = (batch / BATCH_ORIGIN).ln() / BATCH_UNIT.ln();
        Point {
            trend: member.trend(log_batch),
            model: first(&|other| member.is_same_model(other)),
            device: first(&|other| member.is_same_device(other)),
            family,
            log_batch,
        }
    }
}

/// Batch terms and what is paid once a request.
fn is_decoding(feature: &Feature) -> bool {
    matches!(
        feature,
        Feature::Constant
            | Feature::Output
            | Feature::OutputPerBatch
            | Feature::OutputPerSqrtBatch
            | Feature::OutputAtBatch(_)
    )
}

fn per_token(terms: &[Term], batch: f64) -> f64 {
    let decoding = terms.iter().filter(|term| is_decoding(&term.feature));
    decoding.map(|term| term.value * term.feature.value(0.0, TYPICAL_OUTPUT, batch)).sum::<f64>() / TYPICAL_OUTPUT
}

/// At most `POINTS_PER_FAMILY` of ascending batches.
fn evenly(batches: &[f64]) -> Vec<f64> {
    let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return Vec::new() };
    let nearest = |wanted: f64| {
        let distance = |batch: &f64| (batch / wanted).ln().abs();
        batches.iter().copied().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(wanted)
    };
    let mut chosen: Vec<f64> = (0..POINTS_PER_FAMILY)
        .map(|k| nearest(first * (last / first).powf(k as f64 / (POINTS_PER_FAMILY - 1) as f64)))
        .collect();
    chosen.dedup();
    chosen
}

//! Families that nobody measured, estimated from those that somebody did: the same model on other devices, other models
//! on the same device, with an interval that says how good that is.
//!
//! `neighbours` turns measured families into seconds and joules per output token over a roofline, `process` says what they
//! tell of another, `interval` how far such words have been off, `leave_out` tests all of it on families held back. Every
//! term is `estimated`. Not transferred: engine generations (their ratio is another data set), runs without a KV cache,
//! latency percentiles, host power.

pub mod interval;
pub mod leave_out;
pub mod neighbours;
pub mod process;

use std::collections::BTreeSet;

use self::interval::{Calibration, Unknown, calibrate, family_deviation};
use self::neighbours::{Identities, Member, Neighbour};
use self::process::{Normal, Process};
use super::Context;
use super::attempt::POWER_TOLERANCE;
use crate::domain::deployment::MEMORY_SHARE;
use crate::domain::features::BatchCurve;
use crate::domain::{BatchPoint, Box2, FamilyKey, FamilyModel, Feature, Figure, Form, Quality, Term};
use crate::stats::mean;

/// Fewer measured families tell nothing of another.
pub const FEWEST_NEIGHBOURS: usize = 4;
/// Batch caps are offered as far as this many tokens a sequence fit beside the weights, in this share of the memory.
const TOKENS_A_SEQUENCE: f64 = 512.0;

/// Why a family cannot be estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    #[error("it is measured already: leave it out of --transfer")]
    Measured,
    #[error(
        "its hardware or its architecture is unknown: the device table, engines.toml and the precision must say both"
    )]
    Unknown,
    #[error(
        "{found} measured families share its engine generation and kind of device, {FEWEST_NEIGHBOURS} are needed: add \
         samples"
    )]
    TooFewNeighbours { found: usize },
    #[error("its weights and the KV cache of the smallest batch exceed the memory of its devices: name more of them")]
    DoesNotFit,
}

/// An estimated family.
#[derive(Clone, Debug, PartialEq)]
pub struct Transferred {
    pub model: FamilyModel,
    /// What it has in common with no measured family.
    pub unknown: Unknown,
    pub energy: Calibration,
    pub runtime: Calibration,
    /// Measured families it rests on.
    pub neighbours: usize,
}

/// Estimates the family `key` from `measured` ones. Intervals cover 90 % (`interval::COVERAGE`).
///
/// # Errors
/// What keeps this family from being estimated.
pub fn transfer(
    key: &FamilyKey,
    measured: &[FamilyModel],
    context: &Context<'_>,
) -> Result<Transferred, TransferError> {
    if measured.iter().any(|model| model.key == *key) {
        return Err(TransferError::Measured);
    }
    let target = Member::new(key, context).ok_or(TransferError::Unknown)?;
    let neighbours = comparable(&target, measured, context);
    let points = offered_batches(&target, &neighbours);
    if points.is_empty() && !neighbours.is_empty() {
        return Err(TransferError::DoesNotFit);
    }
    from_neighbours(&target, &neighbours, points)
}

/// Measured families that may tell of `target`.
fn comparable<'a>(target: &Member<'_>, measured: &'a [FamilyModel], context: &Context<'a>) -> Vec<Neighbour<'a>> {
    measured
        .iter()
        .filter_map(|model| Neighbour::new(model, context))
        .filter(|neighbour| neighbour.member.is_comparable(target))
        .collect()
}

/// The powers of two among the caps that neighbours were measured at, all caps if none is one, as far as memory allows.
fn offered_batches(target: &Member<'_>, neighbours: &[Neighbour<'_>]) -> Vec<BatchPoint> {
    let measured: BTreeSet<u32> = neighbours
        .iter()
        .flat_map(|neighbour| neighbour.model.batch_points.iter().map(|point| point.max_num_seqs))
        .collect();
    let powers: BTreeSet<u32> = measured.iter().copied().filter(|cap| cap.is_power_of_two()).collect();
    let caps = if powers.is_empty() { measured } else { powers };
    let machine = &target.machine;
    let memory = target.device.memory.0 * f64::from(target.key.devices) * MEMORY_SHARE;
    let fits = |cap: u32| match (machine.weights(), machine.kv_bytes_per_token()) {
        (Some(weights), Some(kv)) => weights.value.0 + f64::from(cap) * TOKENS_A_SEQUENCE * kv.value.0 <= memory,
        _ => false,
    };
    caps.into_iter()
        .filter(|cap| fits(*cap))
        .map(|max_num_seqs| BatchPoint {
            max_num_seqs,
            batch_size: f64::from(max_num_seqs),
            ttft_p99: None,
            tbt_p50: None,
            tbt_p99: None,
        })
        .collect()
}

fn from_neighbours(
    target: &Member<'_>,
    neighbours: &[Neighbour<'_>],
    batch_points: Vec<BatchPoint>,
) -> Result<Transferred, TransferError> {
    let too_few = TransferError::TooFewNeighbours { found: neighbours.len() };
    if neighbours.len() < FEWEST_NEIGHBOURS {
        return Err(too_few);
    }
    let unknown = Unknown {
        model: !neighbours.iter().any(|neighbour| neighbour.member.is_same_model(target)),
        device: !neighbours.iter().any(|neighbour| neighbour.member.is_same_device(target)),
    };
    let mut batches: Vec<f64> = batch_points.iter().map(|point| point.batch_size).collect();
    batches.sort_by(f64::total_cmp);
    batches.dedup();
    let seconds = Curve::new(target, neighbours, &batches, unknown, &Quantity::SECONDS).ok_or(too_few)?;
    let joules = Curve::new(target, neighbours, &batches, unknown, &Quantity::JOULES).ok_or(too_few)?;
    let model = assemble(target, neighbours, batch_points, &seconds, &joules);
    Ok(Transferred {
        model,
        unknown,
        energy: joules.calibration,
        runtime: seconds.calibration,
        neighbours: neighbours.len(),
    })
}

/// What is transferred: how it is read off a neighbour's decoding, and what a roofline says of it.
struct Quantity {
    measured: fn(&(f64, f64, f64)) -> f64,
    roofline: fn(&Member<'_>, f64) -> f64,
}

impl Quantity {
    const SECONDS: Self = Self { measured: |point| point.1, roofline: |member, batch| member.roofline_seconds(batch) };
    const JOULES: Self = Self { measured: |point| point.2, roofline: |member, batch| member.roofline_joules(batch) };
}

/// Values per output token over the batch, and the factor on all of them that bounds the interval.
struct Curve {
    points: Vec<(f64, f64)>,
    factor: f64,
    calibration: Calibration,
}

impl Curve {
    fn new(
        target: &Member<'_>,
        neighbours: &[Neighbour<'_>],
        batches: &[f64],
        unknown: Unknown,
        quantity: &Quantity,
    ) -> Option<Self> {
        let members: Vec<&Member<'_>> =
            neighbours.iter().map(|neighbour| &neighbour.member).chain(std::iter::once(target)).collect();
        let identities = Identities::new(members);
        let (points, values): (Vec<_>, Vec<_>) = neighbours
            .iter()
            .enumerate()
            .flat_map(|(family, neighbour)| neighbour.decode.iter().map(move |decode| (family, neighbour, decode)))
            .map(|(family, neighbour, decode)| {
                let over = (quantity.measured)(decode) / (quantity.roofline)(&neighbour.member, decode.0);
                (identities.point(family, decode.0), over.ln())
            })
            .unzip();
        let process = Process::new(points, &values)?;
        let predicted: Vec<Normal> =
            batches.iter().map(|batch| process.predict(&identities.point(neighbours.len(), *batch))).collect();
        let calibration = calibrate(&process, neighbours, unknown);
        Some(Self {
            points: batches
                .iter()
                .zip(&predicted)
                .map(|(batch, over)| (*batch, (quantity.roofline)(target, *batch) * over.mean.exp()))
                .collect(),
            factor: (calibration.factor * family_deviation(&predicted)).exp(),
            calibration,
        })
    }

    fn term(&self, points: Vec<(f64, f64)>, least: f64) -> Term {
        let low = (1.0 / self.factor).max(least).min(1.0);
        Term::estimated(Feature::OutputAtBatch(BatchCurve { points }), 1.0, low, self.factor)
    }
}

fn assemble(
    target: &Member<'_>,
    neighbours: &[Neighbour<'_>],
    batch_points: Vec<BatchPoint>,
    seconds: &Curve,
    joules: &Curve,
) -> FamilyModel {
    let machine = &target.machine;
    let devices = f64::from(target.key.devices);
    let idle = target.device.idle_power.value * devices;
    let limit = target.device.tdp * devices * POWER_TOLERANCE;
    // Energy and time are predicted apart; power holds them together.
    let within: Vec<(f64, f64)> = joules
        .points
        .iter()
        .zip(&seconds.points)
        .map(|(&(batch, joules), &(_, seconds))| (batch, joules.min(limit.0 * seconds).max(idle.0 * seconds)))
        .collect();
    let powers: Vec<f64> = within.iter().zip(&seconds.points).map(|(joules, seconds)| joules.1 / seconds.1).collect();
    let least_power = powers.iter().copied().fold(f64::INFINITY, f64::min);
    let mean_power = mean(&powers).unwrap_or(limit.0);
    // Plans charge idle power apart: not even the low end may fall below it.
    let mut energy = vec![joules.term(within, idle.0 / least_power)];
    let mut runtime = vec![seconds.term(seconds.points.clone(), 0.0)];
    let other_terms = machine.context_read(mean_power).into_iter().chain(machine.prefill().into_iter().flatten());
    for term in other_terms {
        energy.push(term.energy_term(1.0));
        runtime.push(term.runtime_term(1.0));
    }
    let idle_power = Figure::estimated(idle);
    FamilyModel {
        key: target.key.clone(),
        form: Form::Phase,
        energy,
        runtime,
        energy_quality: quality(&joules.calibration),
        runtime_quality: quality(&seconds.calibration),
        support: support(neighbours, &batch_points),
        batch_points,
        clocks: None,
        idle_power,
        load_time: machine.load_time(),
        load_power: machine.load_power(idle_power),
        weights: machine.weights(),
        kv_bytes_per_token: machine.kv_bytes_per_token(),
        correction: None,
    }
}

/// No samples of its own; the error is that of families left out.
fn quality(calibration: &Calibration) -> Quality {
    Quality {
        samples: 0,
        r2: None,
        r2_uncentred: None,
        cv_mape: calibration.mape,
        error_factors: None,
        negative_predictions: 0,
    }
}

/// Outputs that some neighbour covers.
fn support(neighbours: &[Neighbour<'_>], batch_points: &[BatchPoint]) -> Box2 {
    let union = |a: (f64, f64), b: (f64, f64)| (a.0.min(b.0), a.1.max(b.1));
    Box2 {
        input_tokens: None,
        output_tokens: neighbours.iter().filter_map(|neighbour| neighbour.model.support.output_tokens).reduce(union),
        batch_size: batch_points.iter().map(|point| (point.batch_size, point.batch_size)).reduce(union),
    }
}

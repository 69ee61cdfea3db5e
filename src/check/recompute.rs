//! The rates and constants of a deployment, computed again from family model, pool and workload.
//!
//! Deliberately its own code down to the expansion of each regression term and the factors of a clock, so that a slip in
//! `domain::deployment`, `domain::clock` or `Feature::polynomial` shows as a difference here. Only the types and the six length features are shared.

use crate::domain::features::BatchCurve;
use crate::domain::{
    BatchPoint, Cluster, Deployment, FamilyModel, Feature, Features, PhaseFactors, Provenance, Rates, Requests, Term,
    dot, features,
};
use crate::units::{Joules, Seconds, Watts};

/// Share of device memory an engine may fill; the rest is reserve.
const MEMORY_SHARE: f64 = 0.9;
/// The drain of an instance over its longest request's slot seconds.
const TAIL_SHARE: f64 = 0.8;
/// How far beyond the batches that a clock was measured at it may be used, as a factor.
const CLOCK_BATCH_TOLERANCE: f64 = 1.1;

/// A deployment as it must be, and the size of what was added up in its coefficients.
#[derive(Clone, Debug)]
pub(super) struct Recomputed<'a> {
    pub(super) deployment: Deployment,
    pub(super) model: &'a FamilyModel,
    /// Gross joules behind each net coefficient.
    pub(super) gross_energy: Features,
}

/// The deployment of `model` at `point` and a clock in the pool of that index, or why the pool cannot offer it.
pub(super) fn deployment<'a>(
    model: &'a FamilyModel,
    point: &BatchPoint,
    clock: Option<u32>,
    pool_index: usize,
    cluster: &Cluster,
    requests: &Requests,
    safety: f64,
) -> Result<Recomputed<'a>, String> {
    let pool = cluster.pools.get(pool_index).ok_or("its pool is not in the cluster")?;
    let devices = model.key.devices;
    if model.energy.is_empty() {
        return Err("its model has no energy".to_owned());
    }
    if model.key.device != pool.device {
        return Err(format!("its family runs on {}, pool {} has {}", model.key.device, pool.name, pool.device));
    }
    if devices == 0 || devices > pool.devices_per_node {
        return Err(format!("it needs {devices} devices, a node of {} has {}", pool.name, pool.devices_per_node));
    }
    let at_default = match clock {
        None => true,
        Some(_) if !pool.clock_control => return Err(format!("jobs of pool {} cannot set the SM clock", pool.name)),
        Some(clock) => measured_clock(model, clock, point.batch_size)?,
    };
    let factors = Factors::new(model, clock);
    let batch = point.batch_size.min(requests.len() as f64).max(1.0);
    let outside = || "its model has a term that six length features cannot express".to_owned();
    let full = rates_at(model, factors, batch, safety).ok_or_else(outside)?;
    let single = rates_at(model, factors, 1.0, 0.0).ok_or_else(outside)?;
    let net = |value: fn(&Term) -> f64| net_energy(model, factors, batch, value, |_| true);
    let estimated = |term: &Term| [term.provenance, factors.of(term).provenance].contains(&Provenance::Estimated);

    let mut max_tokens = f64::INFINITY;
    if let Some(weights) = &model.weights {
        let usable = f64::from(devices) * pool.device_memory.0 * MEMORY_SHARE - weights.value.0;
        if usable <= 0.0 {
            return Err(format!("its weights of {} leave no memory on {devices} {}", weights.value, pool.device));
        }
        if let Some(per_token) = &model.kv_bytes_per_token {
            max_tokens = usable / (batch * per_token.value.0);
        }
    }

    let mut load = model.load_time.value;
    if let (Some(weights), Some(gib_per_s)) = (&model.weights, pool.storage_gib_per_s) {
        load = load.max(Seconds(weights.value.0 / f64::from(1u32 << 30) / gib_per_s));
    }
    let load_power = model.load_power.value - model.idle_power.value;

    let (mut tail_time, mut tail_energy, mut tail_power) = (0.0, 0.0, 0.0);
    if let Some((input, output, slot_seconds)) = longest(&full, max_tokens, requests) {
        tail_time = TAIL_SHARE * slot_seconds;
        let lengths = features(f64::from(input), f64::from(output));
        let (energy, seconds) = (dot(&single.net_energy, &lengths), dot(&single.busy_time, &lengths));
        let power = if seconds > 0.0 { (energy / seconds).max(0.0) } else { 0.0 };
        tail_energy = tail_time / (1.0 + safety) * power;
        tail_power = power;
    }
    let peak_power = cluster.site.power_cap.is_some().then(|| {
        let request = strongest(&full, max_tokens, requests) * (1.0 + safety);
        model.idle_power.value + Watts([load_power.0, tail_power, request].into_iter().fold(0.0, f64::max))
    });

    let deployment = Deployment {
        id: match clock {
            Some(clock) => format!("{}/seqs{}@{clock}MHz@{}", model.key, point.max_num_seqs, pool.name),
            None => format!("{}/seqs{}@{}", model.key, point.max_num_seqs, pool.name),
        },
        family: model.key.clone(),
        pool: pool_index,
        devices,
        max_num_seqs: point.max_num_seqs,
        sm_clock_mhz: clock,
        batch_size: batch,
        rates: full,
        net_energy_low: net(|term| term.low).ok_or_else(outside)?,
        net_energy_high: net(|term| term.high).ok_or_else(outside)?,
        net_energy_estimated: net_energy(model, factors, batch, |term| term.value, estimated).ok_or_else(outside)?,
        load_time: load * (1.0 + safety),
        load_energy: (load_power * load).max(Joules::ZERO),
        tail_time: Seconds(tail_time),
        tail_energy: Joules(tail_energy),
        max_tokens,
        ttft_p99: point.ttft_p99.filter(|_| at_default),
        tbt_p99: point.tbt_p99.filter(|_| at_default),
        support: model.support,
        idle_power: model.idle_power.value,
        peak_power,
    };
    let size = |term: &Term| {
        let factors = factors.of(term);
        term.value.abs().max(term.high.abs()) * (factors.net_energy + factors.time)
    };
    let sizes = |terms: &[Term]| expand(terms, batch, size, |_| true);
    let (energy, runtime) = (sizes(&model.energy).ok_or_else(outside)?, sizes(&model.runtime).ok_or_else(outside)?);
    let idle = model.idle_power.value.0.abs();
    let gross_energy = std::array::from_fn(|k| energy[k].abs() + idle * runtime[k].abs());
    Ok(Recomputed { deployment, model, gross_energy })
}

/// Rates of an instance that serves `requests` requests: at the batch those can fill, and then no coefficient below
/// its value at the full batch.
pub(super) fn instance_rates(
    full: &Rates,
    model: &FamilyModel,
    clock: Option<u32>,
    requests: usize,
    safety: f64,
) -> Rates {
    let batch = (requests as f64).max(1.0);
    if batch >= full.batch_size {
        return *full;
    }
    // A family that has rates at the full batch has them at every batch.
    let Some(mut reached) = rates_at(model, Factors::new(model, clock), batch, safety) else { return *full };
    for k in 0..6 {
        reached.net_energy[k] = reached.net_energy[k].max(full.net_energy[k]);
        reached.busy_time[k] = reached.busy_time[k].max(full.busy_time[k]);
    }
    reached
}

/// Whether `clock`, which must have been measured near that batch, is the default.
fn measured_clock(model: &FamilyModel, clock: u32, batch: f64) -> Result<bool, String> {
    let table = model.clocks.as_ref().ok_or_else(|| format!("its family was never measured at {clock} MHz"))?;
    let at_default = table.default_mhz == Some(clock);
    let mut points = table.points.iter().filter(|point| point.sm_clock_mhz == clock);
    let (low, high) = points.next().ok_or_else(|| format!("its family was never measured at {clock} MHz"))?.batch_size;
    if at_default || (batch * CLOCK_BATCH_TOLERANCE >= low && batch <= high * CLOCK_BATCH_TOLERANCE) {
        return Ok(at_default);
    }
    Err(format!("{clock} MHz was measured at batches of {low} to {high}, not {batch}"))
}

/// What a clock does to the terms of each phase; at the default or unset clock nothing.
#[derive(Clone, Copy, Debug)]
struct Factors {
    prefill: PhaseFactors,
    decode: PhaseFactors,
}

impl Factors {
    fn new(model: &FamilyModel, clock: Option<u32>) -> Self {
        let mut points = model.clocks.iter().flat_map(|table| &table.points);
        match clock.and_then(|clock| points.find(|point| point.sm_clock_mhz == clock)) {
            Some(point) => Self { prefill: point.prefill, decode: point.decode },
            None => {
                let none = PhaseFactors { net_energy: 1.0, time: 1.0, provenance: Provenance::Measured };
                Self { prefill: none, decode: none }
            }
        }
    }

    /// Terms that no output token is in are of the prefill.
    fn of(&self, term: &Term) -> &PhaseFactors {
        match term.feature {
            Feature::Constant | Feature::Input | Feature::InputSquared => &self.prefill,
            _ => &self.decode,
        }
    }
}

fn rates_at(model: &FamilyModel, factors: Factors, batch: f64, safety: f64) -> Option<Rates> {
    let mut busy_time = expand(&model.runtime, batch, |term| term.value * factors.of(term).time, |_| true)?;
    for seconds in &mut busy_time {
        *seconds *= 1.0 + safety;
    }
    let net_energy = net_energy(model, factors, batch, |term| term.value, |_| true)?;
    Some(Rates { batch_size: batch, net_energy, busy_time })
}

/// e = factor * (E - idle * T) over the kept terms; `value` picks central, low or high of the energy alone.
fn net_energy(
    model: &FamilyModel,
    factors: Factors,
    batch: f64,
    value: impl Fn(&Term) -> f64,
    keep: impl Fn(&Term) -> bool + Copy,
) -> Option<Features> {
    let mut net = expand(&model.energy, batch, |term| value(term) * factors.of(term).net_energy, keep)?;
    let busy = expand(&model.runtime, batch, |term| term.value * factors.of(term).net_energy, keep)?;
    for (joules, seconds) in net.iter_mut().zip(busy) {
        *joules -= model.idle_power.value.0 * seconds;
    }
    Some(net)
}

/// Coefficients on (1, i, o, i*o, i^2, o^2) of a sum of terms; `None` where a term is bent.
fn expand(terms: &[Term], batch: f64, value: impl Fn(&Term) -> f64, keep: impl Fn(&Term) -> bool) -> Option<Features> {
    let [mut one, mut i, mut o, mut i_o, mut i_i, mut o_o] = [0.0; 6];
    for term in terms.iter().filter(|term| keep(term)) {
        let c = value(term);
        match &term.feature {
            Feature::Constant => one += c,
            Feature::Input => i += c,
            Feature::InputSquared => i_i += c,
            Feature::InputOutput => i_o += c,
            Feature::Output => o += c,
            Feature::OutputPerBatch => o += c / batch,
            Feature::OutputPerSqrtBatch => o += c / batch.sqrt(),
            Feature::OutputAtBatch(curve) => o += c * interpolate(curve, batch),
            // S1 = sum over k < o of (i + k) = i*o + o^2/2 - o/2
            Feature::ContextRead => {
                i_o += c;
                o_o += c / 2.0;
                o -= c / 2.0;
            }
            Feature::ContextAbove(_) => return None,
        }
    }
    Some([one, i, o, i_o, i_i, o_o])
}

/// Straight in the logarithms between measured batches; below the first a step costs what it costs there, above the
/// last nothing is gained.
fn interpolate(curve: &BatchCurve, batch: f64) -> f64 {
    let (Some(&(least, at_least)), Some(&(_, at_most))) = (curve.points.first(), curve.points.last()) else {
        return 0.0;
    };
    if batch <= least {
        return at_least * (least / batch);
    }
    for pair in curve.points.windows(2) {
        let ((b0, v0), (b1, v1)) = (pair[0], pair[1]);
        if batch <= b1 {
            return if v0 > 0.0 && v1 > 0.0 {
                v0 * (v1 / v0).powf((batch / b0).ln() / (b1 / b0).ln())
            } else {
                v0 + (v1 - v0) * (batch - b0) / (b1 - b0)
            };
        }
    }
    at_most
}

/// Lengths and slot seconds of the request that would hold a slot longest among those that fit; the first of equals.
fn longest(rates: &Rates, max_tokens: f64, requests: &Requests) -> Option<(u32, u32, f64)> {
    let mut longest: Option<(u32, u32, f64)> = None;
    for (&input, &output) in requests.input_tokens.iter().zip(&requests.output_tokens) {
        let (i, o) = (f64::from(input), f64::from(output));
        if i + o <= max_tokens {
            let slot_seconds = rates.batch_size.round().max(1.0) * dot(&rates.busy_time, &features(i, o));
            if longest.is_none_or(|(_, _, most)| slot_seconds > most) {
                longest = Some((input, output, slot_seconds));
            }
        }
    }
    longest
}

/// Most net joules a busy second that a request takes that fits.
fn strongest(rates: &Rates, max_tokens: f64, requests: &Requests) -> f64 {
    let mut strongest = 0.0;
    for (&input, &output) in requests.input_tokens.iter().zip(&requests.output_tokens) {
        let (i, o) = (f64::from(input), f64::from(output));
        let lengths = features(i, o);
        let seconds = dot(&rates.busy_time, &lengths);
        if i + o <= max_tokens && seconds > 0.0 {
            strongest = f64::max(strongest, dot(&rates.net_energy, &lengths) / seconds);
        }
    }
    strongest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::deployment::rates;
    use crate::domain::{Box2, ClockPoint, ClockTable, FamilyKey, Figure, Form, Parallel, Quality};
    use crate::units::Watts;

    fn model() -> FamilyModel {
        let curve = BatchCurve { points: vec![(4.0, 0.9), (16.0, 0.4), (64.0, 0.25)] };
        let quality = Quality {
            samples: 9,
            r2: None,
            r2_uncentred: None,
            cv_mape: None,
            error_factors: None,
            negative_predictions: 0,
        };
        let fitted = |feature, value| Term::fitted(feature, value, Provenance::Measured);
        FamilyModel {
            key: FamilyKey {
                model: "m".into(),
                precision: "bfloat16".into(),
                device: "H100".into(),
                devices: 2,
                parallel: Parallel::tensor(2),
                kv_cache: true,
                engine: "vllm@1".into(),
            },
            form: Form::Phase,
            energy: vec![
                fitted(Feature::Constant, 3.0),
                fitted(Feature::OutputPerBatch, 7.0),
                fitted(Feature::OutputPerSqrtBatch, 0.7),
                fitted(Feature::Output, 0.3),
                fitted(Feature::OutputAtBatch(curve.clone()), 1.5),
                fitted(Feature::ContextRead, 2e-4),
                Term::estimated(Feature::Input, 0.05, 0.02, 0.09),
                fitted(Feature::InputSquared, 1e-6),
                fitted(Feature::InputOutput, 1e-5),
            ],
            runtime: vec![
                fitted(Feature::OutputAtBatch(curve), 1e-3),
                fitted(Feature::ContextRead, 1e-8),
                Term::estimated(Feature::Input, 1e-5, 1e-5, 1e-5),
            ],
            energy_quality: quality,
            runtime_quality: quality,
            support: Box2::default(),
            batch_points: vec![],
            clocks: Some(ClockTable {
                default_mhz: None,
                points: vec![ClockPoint {
                    sm_clock_mhz: 900,
                    prefill: PhaseFactors { net_energy: 0.6, time: 1.8, provenance: Provenance::Imported },
                    decode: PhaseFactors { net_energy: 0.7, time: 1.2, provenance: Provenance::Estimated },
                    batch_size: (1.0, 64.0),
                }],
            }),
            idle_power: Figure::estimated(Watts(140.0)),
            load_time: Figure::estimated(Seconds(60.0)),
            load_power: Figure::estimated(Watts(300.0)),
            weights: None,
            kv_bytes_per_token: None,
            correction: None,
        }
    }

    #[test]
    fn two_independent_expansions_agree_at_every_batch() {
        let family = model();
        let clocks = [None, Some(900)];
        for (clock, batch) in clocks
            .into_iter()
            .flat_map(|clock| [1.0, 2.5, 4.0, 9.0, 16.0, 40.0, 64.0, 300.0].map(|batch| (clock, batch)))
        {
            let model = clock.map_or(family.clone(), |clock| family.at_clock(clock).unwrap());
            let factors = Factors::new(&family, clock);
            let (ours, theirs) = (rates_at(&family, factors, batch, 0.1).unwrap(), rates(&model, batch, 0.1).unwrap());
            for k in 0..6 {
                assert!((ours.net_energy[k] - theirs.net_energy[k]).abs() <= 1e-11 * theirs.net_energy[k].abs());
                assert!((ours.busy_time[k] - theirs.busy_time[k]).abs() <= 1e-12 * theirs.busy_time[k].abs());
            }
            // ... and both with the definition of the terms.
            let (i, o) = (700.0, 300.0);
            let gross = model.energy(i, o, batch) - model.idle_power.value * model.runtime(i, o, batch);
            assert!((dot(&ours.net_energy, &features(i, o)) / gross.0 - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn a_term_outside_the_six_features_offers_nothing() {
        let mut model = model();
        model.runtime.push(Term::fitted(Feature::ContextAbove(256.0), 1e-9, Provenance::Measured));
        assert!(rates_at(&model, Factors::new(&model, None), 8.0, 0.0).is_none());
    }

    #[test]
    fn the_longest_request_is_the_first_of_equals_that_fit() {
        let rates = Rates { batch_size: 2.0, net_energy: [0.0; 6], busy_time: [0.0, 0.0, 0.5, 0.0, 0.0, 0.0] };
        let requests = Requests {
            input_tokens: vec![5, 1, 7, 9],
            output_tokens: vec![10, 20, 20, 90],
            group: vec![0; 4],
            ids: crate::domain::RequestIds::Rows(vec![(String::new(), 0)]),
        };
        assert_eq!(longest(&rates, 50.0, &requests), Some((1, 20, 20.0)));
        assert_eq!(longest(&rates, 5.0, &requests), None);
    }
}

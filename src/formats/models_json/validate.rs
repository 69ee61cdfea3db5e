//! What may stand in models.json: finite figures in plausible ranges, coefficients that no request turns into negative
//! energy or less than idle power, curves with ascending batches, caps that do not repeat.

use std::collections::BTreeSet;

use super::{
    BatchPointJson, CorrectionJson, FamilyModelJson, FigureJson, QualityJson, TermJson, clocks, form_from_name,
    support_from_json,
};
use crate::domain::features::BatchCurve;
use crate::domain::{BatchPoint, Correction, FamilyKey, FamilyModel, Feature, Figure, Form, Provenance, Quality, Term};
use crate::formats::problems::Collector;
use crate::formats::table::range;
use crate::units::{Bytes, Seconds, Watts};

/// No coefficient, joule or second is larger.
const LARGEST: f64 = 1e15;
const LARGEST_BATCH: f64 = 1e6;
const REFIT: &str = "fit the samples again";

/// The model, or `None` if it cannot even be built; everything wrong goes to `problems`.
pub fn family(json: &FamilyModelJson, place: &str, problems: &mut Collector) -> Option<FamilyModel> {
    let mut checks = Checks { place, problems, sound: true };
    let key = key(json, &mut checks);
    let form = form_from_name(&json.form);
    if form.is_none() {
        checks.fail("form", format!("`{}` is unknown", json.form), "phase or bilinear");
    }
    let non_negative = form != Some(Form::Bilinear);
    // Of times alone, if nobody measured its energy.
    if json.energy_j.is_empty() && json.energy_quality.samples > 0 {
        checks.fail("energy_j", "there is no term".into(), REFIT);
    }
    let energy = terms(&json.energy_j, "energy_j", non_negative, &mut checks);
    if json.runtime_s.is_empty() {
        checks.fail("runtime_s", "there is no term".into(), REFIT);
    }
    let runtime = terms(&json.runtime_s, "runtime_s", non_negative, &mut checks);
    for (name, range) in [
        ("input_tokens", json.support.input_tokens),
        ("output_tokens", json.support.output_tokens),
        ("batch_size", json.support.batch_size),
    ] {
        if range.is_some_and(|(low, high)| !(low >= 0.0 && low <= high && high <= 1e9)) {
            checks.fail(&format!("support.{name}"), "this is no range".into(), "0 <= low <= high");
        }
    }
    let batch_points = points(&json.batch_points, &mut checks);
    let clocks = json.clocks.as_ref().map(|json| clocks::table(json, &mut checks));
    let idle_power = figure(&json.idle_power_w, "idle_power_w", 0.0, &mut checks);
    let load_time = figure(&json.load_time_s, "load_time_s", 0.0, &mut checks);
    let load_power = figure(&json.load_power_w, "load_power_w", 0.0, &mut checks);
    let weights = json.weights_bytes.as_ref().map(|json| figure(json, "weights_bytes", 1.0, &mut checks));
    let kv = json.kv_bytes_per_token.as_ref().map(|json| figure(json, "kv_bytes_per_token", 1.0, &mut checks));
    let model = FamilyModel {
        key,
        form: form?,
        energy,
        runtime,
        energy_quality: quality(&json.energy_quality, "energy_quality", &mut checks),
        runtime_quality: quality(&json.runtime_quality, "runtime_quality", &mut checks),
        support: support_from_json(&json.support),
        batch_points,
        clocks,
        idle_power: Figure::new(Watts(idle_power.value), idle_power.provenance),
        load_time: Figure::new(Seconds(load_time.value), load_time.provenance),
        load_power: Figure::new(Watts(load_power.value), load_power.provenance),
        weights: weights.map(|figure| Figure::new(Bytes(figure.value), figure.provenance)),
        kv_bytes_per_token: kv.map(|figure| Figure::new(Bytes(figure.value), figure.provenance)),
        correction: json.correction.map(|json| correction(json, &mut checks)),
    };
    if checks.sound && non_negative {
        possible_power(&model, &mut checks);
        // At another clock a phase below idle power may outweigh the other.
        for point in model.clocks.iter().flat_map(|table| &table.points) {
            if let Some(at_clock) = model.at_clock(point.sm_clock_mhz).filter(|_| checks.sound) {
                possible_power(&at_clock, &mut checks);
            }
        }
    }
    checks.sound.then_some(model)
}

fn correction(json: CorrectionJson, checks: &mut Checks<'_>) -> Correction {
    let CorrectionJson { net_energy, time, samples } = json;
    for (name, factor) in [("net_energy", net_energy), ("time", time)] {
        checks.in_range(&format!("correction.{name}"), factor, f64::MIN_POSITIVE, LARGEST);
    }
    Correction { net_energy, time, samples }
}

pub(super) struct Checks<'a> {
    place: &'a str,
    problems: &'a mut Collector,
    sound: bool,
}

impl Checks<'_> {
    pub(super) fn fail(&mut self, field: &str, what: String, remedy: &str) {
        self.sound = false;
        self.problems.add(format!("{}.{field}", self.place), what, remedy);
    }

    pub(super) fn in_range(&mut self, field: &str, value: f64, low: f64, high: f64) {
        if !(value >= low && value <= high) {
            self.fail(field, format!("{value} is out of range"), &range(low, high));
        }
    }
}

fn key(json: &FamilyModelJson, checks: &mut Checks<'_>) -> FamilyKey {
    let family = &json.family;
    for (name, text) in [
        ("model", &family.model),
        ("precision", &family.precision),
        ("device", &family.device),
        ("engine", &family.engine),
    ] {
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            checks.fail(&format!("family.{name}"), "the name is empty or holds control characters".into(), "name it");
        }
    }
    for (name, degree) in [
        ("devices", family.devices),
        ("tensor_parallel", family.tensor_parallel),
        ("expert_parallel", family.expert_parallel),
        ("data_parallel", family.data_parallel),
        ("pipeline_parallel", family.pipeline_parallel),
    ] {
        checks.in_range(&format!("family.{name}"), f64::from(degree), 1.0, 65_536.0);
    }
    family.into()
}

fn terms(list: &[TermJson], name: &str, non_negative: bool, checks: &mut Checks<'_>) -> Vec<Term> {
    let mut terms = Vec::new();
    for (index, json) in list.iter().enumerate() {
        let at = |field: &str| format!("{name}[{index}].{field}");
        let least = if non_negative { 0.0 } else { -LARGEST };
        let (low, high) = (json.low.unwrap_or(json.value), json.high.unwrap_or(json.value));
        checks.in_range(&at("value"), json.value, least, LARGEST);
        checks.in_range(&at("low"), low, least, json.value);
        checks.in_range(&at("high"), high, json.value, LARGEST);
        if let Some(error) = json.standard_error {
            checks.in_range(&at("standard_error"), error, 0.0, LARGEST);
        }
        if let Some((low, high)) = json.interval_95 {
            checks.in_range(&at("interval_95[0]"), low, if non_negative { 0.0 } else { -f64::MAX }, high);
            checks.in_range(&at("interval_95[1]"), high, -f64::MAX, f64::MAX);
        }
        let provenance = provenance(&json.provenance, &at("provenance"), checks);
        let Some(feature) = feature(json, &at, checks) else { continue };
        let TermJson { value, standard_error, interval_95: interval, .. } = *json;
        terms.push(Term { feature, value, low, high, standard_error, interval, provenance });
    }
    terms
}

fn feature(json: &TermJson, at: &dyn Fn(&str) -> String, checks: &mut Checks<'_>) -> Option<Feature> {
    let plain = [
        Feature::Constant,
        Feature::OutputPerBatch,
        Feature::OutputPerSqrtBatch,
        Feature::Output,
        Feature::ContextRead,
        Feature::Input,
        Feature::InputSquared,
        Feature::InputOutput,
    ];
    if json.above_tokens.is_some() != (json.feature == "S1>n") {
        checks.fail(
            &at("above_tokens"),
            format!("`{}` with or without it is unknown", json.feature),
            "S1>n needs it, nothing else has it",
        );
        return None;
    }
    if let Some(least) = json.above_tokens {
        checks.in_range(&at("above_tokens"), least, 0.0, 1e9);
        return Some(Feature::ContextAbove(least));
    }
    match (&json.curve, plain.into_iter().find(|feature| feature.name() == json.feature)) {
        (None, Some(feature)) => Some(feature),
        (Some(curve), None) if json.feature == "o(b)" => {
            let ascending = curve.windows(2).all(|pair| pair[0].batch_size < pair[1].batch_size);
            let positive = curve.iter().all(|point| {
                point.batch_size > 0.0
                    && point.batch_size <= LARGEST_BATCH
                    && point.per_output_token > 0.0
                    && point.per_output_token <= LARGEST
            });
            if curve.is_empty() || !ascending || !positive {
                let remedy = "at least one point, batches ascending, values above 0";
                checks.fail(&at("curve"), "the points are no curve".into(), remedy);
                return None;
            }
            let points = curve.iter().map(|point| (point.batch_size, point.per_output_token)).collect();
            Some(Feature::OutputAtBatch(BatchCurve { points }))
        }
        (_, None) => {
            let remedy = "1, o/b, o/sqrt(b), o, o(b) with a curve, S1, S1>n with above_tokens, i, i^2 or i*o";
            checks.fail(&at("feature"), format!("`{}` is unknown or lacks its curve", json.feature), remedy);
            None
        }
        (Some(_), Some(_)) => {
            checks.fail(&at("curve"), format!("`{}` has no curve", json.feature), "only o(b) has one");
            None
        }
    }
}

fn points(list: &[BatchPointJson], checks: &mut Checks<'_>) -> Vec<BatchPoint> {
    if list.is_empty() {
        checks.fail("batch_points", "no batch was measured".into(), REFIT);
    }
    let mut seen = BTreeSet::new();
    let mut points = Vec::new();
    for (index, json) in list.iter().enumerate() {
        let at = |field: &str| format!("batch_points[{index}].{field}");
        checks.in_range(&at("max_num_seqs"), f64::from(json.max_num_seqs), 1.0, LARGEST_BATCH);
        checks.in_range(&at("batch_size"), json.batch_size, f64::MIN_POSITIVE, LARGEST_BATCH);
        if !seen.insert(json.max_num_seqs) {
            checks.fail(&at("max_num_seqs"), format!("{} stands twice", json.max_num_seqs), "one point a cap");
        }
        for (name, seconds) in
            [("ttft_p99_s", json.ttft_p99_s), ("tbt_p50_s", json.tbt_p50_s), ("tbt_p99_s", json.tbt_p99_s)]
        {
            if let Some(seconds) = seconds {
                checks.in_range(&at(name), seconds, 0.0, 1e7);
            }
        }
        points.push(BatchPoint {
            max_num_seqs: json.max_num_seqs,
            batch_size: json.batch_size,
            ttft_p99: json.ttft_p99_s.map(Seconds),
            tbt_p50: json.tbt_p50_s.map(Seconds),
            tbt_p99: json.tbt_p99_s.map(Seconds),
        });
    }
    points
}

fn quality(json: &QualityJson, name: &str, checks: &mut Checks<'_>) -> Quality {
    for (field, value) in [("r2", json.r2), ("r2_uncentred", json.r2_uncentred)] {
        if let Some(value) = value {
            checks.in_range(&format!("{name}.{field}"), value, -LARGEST, 1.0);
        }
    }
    if let Some(error) = json.cv_mape {
        checks.in_range(&format!("{name}.cv_mape"), error, 0.0, LARGEST);
    }
    if let Some((low, high)) = json.error_factors_90 {
        checks.in_range(&format!("{name}.error_factors_90[0]"), low, 0.0, high);
        checks.in_range(&format!("{name}.error_factors_90[1]"), high, 0.0, f64::MAX);
    }
    let QualityJson { samples, r2, r2_uncentred, cv_mape, error_factors_90: error_factors, negative_predictions } =
        *json;
    Quality { samples, r2, r2_uncentred, cv_mape, error_factors, negative_predictions }
}

fn figure(json: &FigureJson, name: &str, least: f64, checks: &mut Checks<'_>) -> Figure<f64> {
    let provenance = provenance(&json.provenance, &format!("{name}.provenance"), checks);
    match json.value {
        Some(value) => checks.in_range(&format!("{name}.value"), value, least, LARGEST),
        None if provenance == Provenance::Missing => {}
        None => checks.fail(
            &format!("{name}.value"),
            "is absent".into(),
            "give it, or say that its provenance is `missing`",
        ),
    }
    Figure::new(json.value.unwrap_or(0.0), provenance)
}

pub(super) fn provenance(text: &str, field: &str, checks: &mut Checks<'_>) -> Provenance {
    match text.parse() {
        Ok(provenance) => provenance,
        Err(what) => {
            checks.fail(field, what, "say where the figure comes from");
            Provenance::Missing
        }
    }
}

/// Time above 0 and power not below idle for requests of 1..8,192 tokens at every measured batch.
fn possible_power(model: &FamilyModel, checks: &mut Checks<'_>) {
    let lengths = || (0..=13).map(|exponent| f64::from(exponent).exp2());
    for point in &model.batch_points {
        for (input, output) in lengths().flat_map(|input| lengths().map(move |output| (input, output))) {
            let (energy, runtime) =
                (model.energy(input, output, point.batch_size), model.runtime(input, output, point.batch_size));
            let idle = model.idle_power.value * runtime;
            if !(runtime.0 > 0.0 && (energy.0 >= idle.0 * (1.0 - 1e-6) || !model.has_energy())) {
                let what = format!(
                    "a request of {input} and {output} tokens at batch {:.0} takes {:.3e} s and {:.3e} J, below idle power",
                    point.batch_size, runtime.0, energy.0
                );
                checks.fail("energy_j", what, REFIT);
                return;
            }
        }
    }
}

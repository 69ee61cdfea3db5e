//! models.json: fitted families, coefficient by coefficient, with what each rests on and the samples they came from.
//!
//! A mirror of `domain::FamilyModel`. Numbers carry their unit in their name; a tabulated batch curve stands inline.
//! Reading checks every value, since a plan believes this file: `validate` says what may stand there.

mod clocks;
mod validate;

use std::collections::BTreeSet;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::clocks::{ClockPointJson, ClocksJson, PhaseFactorsJson};
use super::plan_json::FamilyJson;
use super::problems::{Collector, Problems};
use crate::domain::features::BatchCurve;
use crate::domain::{BatchPoint, Box2, Correction, FamilyModel, Feature, Figure, Form, Provenance, Quality, Term};
use crate::units::{Bytes, Seconds, Watts};

pub const SCHEMA_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelsJson {
    pub schema_version: u32,
    /// What the models were fitted on.
    pub samples: Vec<SampleFile>,
    pub families: Vec<FamilyModelJson>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SampleFile {
    pub path: String,
    pub sha256: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FamilyModelJson {
    pub family: FamilyJson,
    /// `phase` or `bilinear`.
    pub form: String,
    /// Gross joules per request over all devices: sum of value * feature. Empty where no energy is known.
    pub energy_j: Vec<TermJson>,
    /// Instance-seconds per request: sum of value * feature.
    pub runtime_s: Vec<TermJson>,
    pub energy_quality: QualityJson,
    pub runtime_quality: QualityJson,
    pub support: SupportJson,
    pub batch_points: Vec<BatchPointJson>,
    /// Absent where only the default clock was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clocks: Option<ClocksJson>,
    /// Of all devices together, before load.
    pub idle_power_w: FigureJson,
    pub load_time_s: FigureJson,
    pub load_power_w: FigureJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_bytes: Option<FigureJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_bytes_per_token: Option<FigureJson>,
    /// Absent where the coefficients are as they were fitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correction: Option<CorrectionJson>,
}

/// What net energy (gross less idle power times time) and time were multiplied by since they were fitted, to meet runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorrectionJson {
    pub net_energy: f64,
    pub time: f64,
    /// Samples that the last correction rests on.
    pub samples: usize,
}

/// One coefficient. In the names: i input tokens, o output tokens, b mean running batch, S1 = sum over k < o of (i + k),
/// S1>n = sum over k < o of max(0, i + k - n).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TermJson {
    /// `1`, `o/b`, `o/sqrt(b)`, `o`, `o(b)`, `S1`, `S1>n`, `i`, `i^2`, `i*o`.
    pub feature: String,
    pub value: f64,
    /// Range of an estimated coefficient; absent where it is the value alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<f64>,
    /// Of a fitted coefficient, by Student's t or the bootstrap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_95: Option<(f64, f64)>,
    pub provenance: String,
    /// For `o(b)`: the value per output token at batches, interpolated in the logarithms of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curve: Option<Vec<CurvePointJson>>,
    /// For `S1>n`: the n.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above_tokens: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CurvePointJson {
    pub batch_size: f64,
    pub per_output_token: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QualityJson {
    pub samples: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r2: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r2_uncentred: Option<f64>,
    /// Mean absolute relative error in cross-validation, a fraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cv_mape: Option<f64>,
    /// 90 % of measurements lie between these multiples of their cross-validated prediction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_factors_90: Option<(f64, f64)>,
    pub negative_predictions: usize,
}

/// Smallest and largest value seen; absent where unknown in every sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SupportJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<(f64, f64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<(f64, f64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchPointJson {
    pub max_num_seqs: u32,
    pub batch_size: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_p99_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tbt_p50_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tbt_p99_s: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FigureJson {
    /// Absent where the provenance is `missing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    pub provenance: String,
}

/// The file's text: indented, one trailing newline, in the order given.
pub fn write(models: &[FamilyModel], samples: &[SampleFile]) -> String {
    let file = ModelsJson {
        schema_version: SCHEMA_VERSION,
        samples: samples.to_vec(),
        families: models.iter().map(to_json).collect(),
    };
    // Plain structs of strings and numbers always serialise.
    let mut text = serde_json::to_string_pretty(&file).unwrap_or_default();
    text.push('\n');
    text
}

/// Reads models.
///
/// # Errors
/// `Unreadable`, or every problem at once.
pub fn read(path: &Path) -> Result<Vec<FamilyModel>, Problems> {
    read_with_samples(path).map(|(models, _)| models)
}

/// Reads models and which samples they came from.
///
/// # Errors
/// As `read`.
pub fn read_with_samples(path: &Path) -> Result<(Vec<FamilyModel>, Vec<SampleFile>), Problems> {
    let bytes = std::fs::read(path).map_err(|source| Problems::Unreadable { file: path.to_owned(), source })?;
    parse_with_samples(&bytes, path)
}

/// The file as it lies on disk; families one by one, so that each may be reported.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    schema_version: u32,
    #[serde(default)]
    samples: Vec<SampleFile>,
    families: Vec<Value>,
}

/// Parses the bytes of a file; `path` names it in messages.
///
/// # Errors
/// Every problem at once.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Vec<FamilyModel>, Problems> {
    parse_with_samples(bytes, path).map(|(models, _)| models)
}

fn parse_with_samples(bytes: &[u8], path: &Path) -> Result<(Vec<FamilyModel>, Vec<SampleFile>), Problems> {
    let mut problems = Collector::new(path);
    let envelope: Envelope = match serde_json::from_slice(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)) {
        Ok(envelope) => envelope,
        Err(error) => {
            problems.add(
                format!("line {}, column {}", error.line(), error.column()),
                format!("this is no models file: {error}"),
                "make one with `jouleplan fit SAMPLES.csv --out M.json`",
            );
            return problems.fail();
        }
    };
    if envelope.schema_version != SCHEMA_VERSION {
        problems.add(
            "schema_version",
            format!("version {} is not {SCHEMA_VERSION}", envelope.schema_version),
            "fit the samples again with this jouleplan",
        );
        return problems.fail();
    }
    if envelope.families.is_empty() {
        problems.add("families", "there is no model", "fit at least one family");
    }
    let mut seen = BTreeSet::new();
    let mut models = Vec::new();
    for (index, value) in envelope.families.into_iter().enumerate() {
        let place = format!("families[{index}]");
        let family: FamilyModelJson = match serde_json::from_value(value) {
            Ok(family) => family,
            Err(error) => {
                problems.add(place, error.to_string(), "see `jouleplan schema models`");
                continue;
            }
        };
        let Some(model) = validate::family(&family, &place, &mut problems) else { continue };
        if !seen.insert(model.key.clone()) {
            problems.add(place, format!("`{}` stands twice", model.key), "keep one of the two");
        }
        models.push(model);
    }
    problems.finish((models, envelope.samples))
}

fn to_json(model: &FamilyModel) -> FamilyModelJson {
    FamilyModelJson {
        family: (&model.key).into(),
        form: model.form.as_str().to_owned(),
        energy_j: model.energy.iter().map(term_to_json).collect(),
        runtime_s: model.runtime.iter().map(term_to_json).collect(),
        energy_quality: quality_to_json(&model.energy_quality),
        runtime_quality: quality_to_json(&model.runtime_quality),
        support: SupportJson {
            input_tokens: model.support.input_tokens,
            output_tokens: model.support.output_tokens,
            batch_size: model.support.batch_size,
        },
        batch_points: model.batch_points.iter().map(point_to_json).collect(),
        clocks: model.clocks.as_ref().map(ClocksJson::from),
        idle_power_w: figure_to_json(model.idle_power, |watts: Watts| watts.0),
        load_time_s: figure_to_json(model.load_time, |seconds: Seconds| seconds.0),
        load_power_w: figure_to_json(model.load_power, |watts: Watts| watts.0),
        weights_bytes: model.weights.map(|figure| figure_to_json(figure, |bytes: Bytes| bytes.0)),
        kv_bytes_per_token: model.kv_bytes_per_token.map(|figure| figure_to_json(figure, |bytes: Bytes| bytes.0)),
        correction: model.correction.map(|Correction { net_energy, time, samples }| CorrectionJson {
            net_energy,
            time,
            samples,
        }),
    }
}

fn term_to_json(term: &Term) -> TermJson {
    let bound = |bound: f64| (bound != term.value).then_some(bound);
    TermJson {
        feature: term.feature.name().to_owned(),
        value: term.value,
        low: bound(term.low),
        high: bound(term.high),
        standard_error: term.standard_error,
        interval_95: term.interval,
        provenance: term.provenance.to_string(),
        curve: match &term.feature {
            Feature::OutputAtBatch(BatchCurve { points }) => Some(
                points
                    .iter()
                    .map(|&(batch_size, per_output_token)| CurvePointJson { batch_size, per_output_token })
                    .collect(),
            ),
            _ => None,
        },
        above_tokens: if let Feature::ContextAbove(least) = &term.feature { Some(*least) } else { None },
    }
}

fn quality_to_json(quality: &Quality) -> QualityJson {
    let Quality { samples, r2, r2_uncentred, cv_mape, error_factors, negative_predictions } = *quality;
    QualityJson { samples, r2, r2_uncentred, cv_mape, error_factors_90: error_factors, negative_predictions }
}

fn point_to_json(point: &BatchPoint) -> BatchPointJson {
    let seconds = |time: Option<Seconds>| time.map(|time| time.0);
    BatchPointJson {
        max_num_seqs: point.max_num_seqs,
        batch_size: point.batch_size,
        ttft_p99_s: seconds(point.ttft_p99),
        tbt_p50_s: seconds(point.tbt_p50),
        tbt_p99_s: seconds(point.tbt_p99),
    }
}

fn figure_to_json<T: Copy>(figure: Figure<T>, number: impl Fn(T) -> f64) -> FigureJson {
    let value = (figure.provenance != Provenance::Missing).then(|| number(figure.value));
    FigureJson { value, provenance: figure.provenance.to_string() }
}

fn support_from_json(support: &SupportJson) -> Box2 {
    let SupportJson { input_tokens, output_tokens, batch_size } = *support;
    Box2 { input_tokens, output_tokens, batch_size }
}

fn form_from_name(name: &str) -> Option<Form> {
    [Form::Phase, Form::Bilinear].into_iter().find(|form| form.as_str() == name)
}

#[cfg(test)]
mod tests;

//! A fitted family: energy and busy time per request, where they hold, and what else an operating point needs to know.

use super::clock::ClockTable;
use super::correction::Correction;
use super::family::FamilyKey;
use super::features::{Feature, Features};
use super::provenance::{Figure, Provenance};
use crate::units::{Bytes, Joules, Seconds, Watts};

/// The regression form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Non-negative phase features, relative weights (`fit::phase`).
    Phase,
    /// `a*i + b*o + c*i*o` as published (arXiv 2407.04014): ordinary least squares, signs free. A reference, not planned
    /// with where its net energy can go negative.
    Bilinear,
}

impl Form {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Phase => "phase",
            Self::Bilinear => "bilinear",
        }
    }
}

/// One coefficient of a regression.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    pub feature: Feature,
    /// Joules or instance-seconds per unit of the feature (for a tabulated feature: a factor on the table, usually 1).
    pub value: f64,
    /// Range of an estimated coefficient; equal to `value` for a fitted one.
    pub low: f64,
    pub high: f64,
    /// Standard error, where the fit is unconstrained and overdetermined.
    pub standard_error: Option<f64>,
    /// What holds a fitted coefficient with 95 %, its form taken as given: by Student's t where the fit is unconstrained,
    /// else by the bootstrap. A bootstrap's percentiles need not hold `value`.
    pub interval: Option<(f64, f64)>,
    pub provenance: Provenance,
}

impl Term {
    pub fn fitted(feature: Feature, value: f64, provenance: Provenance) -> Self {
        Self { feature, value, low: value, high: value, standard_error: None, interval: None, provenance }
    }

    pub fn estimated(feature: Feature, value: f64, low: f64, high: f64) -> Self {
        Self { feature, value, low, high, standard_error: None, interval: None, provenance: Provenance::Estimated }
    }
}

/// An interval of each input that the samples cover. `None`: that input is unknown in every sample.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Box2 {
    pub input_tokens: Option<(f64, f64)>,
    pub output_tokens: Option<(f64, f64)>,
    pub batch_size: Option<(f64, f64)>,
}

impl Box2 {
    /// Whether a request lies outside what was measured. An input that was never recorded cannot say so; its
    /// coefficients are `estimated` instead.
    pub fn extrapolates(&self, input: f64, output: f64) -> bool {
        let outside =
            |range: Option<(f64, f64)>, value: f64| range.is_some_and(|(low, high)| value < low || value > high);
        outside(self.input_tokens, input) || outside(self.output_tokens, output)
    }
}

/// How well one target (energy or runtime) is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    pub samples: usize,
    pub r2: Option<f64>,
    pub r2_uncentred: Option<f64>,
    /// Mean absolute relative error in cross-validation (5 folds, or left out one at a time where rows are few), as a
    /// fraction; of a transferred family, that of families left out.
    pub cv_mape: Option<f64>,
    /// 90 % of measurements lie between these multiples of their prediction: the model's error on samples it has not
    /// seen, from cross-validation. Where only the batch varies, the smallest and the largest do not count. Absent of fewer
    /// than three of them, and where any of the samples is an estimate.
    pub error_factors: Option<(f64, f64)>,
    /// Predictions below zero on the samples (none for our own forms).
    pub negative_predictions: usize,
}

/// A batch cap that was measured: what a deployment of this family may be set to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchPoint {
    pub max_num_seqs: u32,
    /// Mean running batch at that cap.
    pub batch_size: f64,
    pub ttft_p99: Option<Seconds>,
    pub tbt_p50: Option<Seconds>,
    pub tbt_p99: Option<Seconds>,
}

/// Energy (gross, joules per request over all devices of the instance) and busy time (instance-seconds per request) of
/// one family, both sums of `value * feature(i, o, b)`.
#[derive(Clone, Debug, PartialEq)]
pub struct FamilyModel {
    pub key: FamilyKey,
    pub form: Form,
    /// Empty where no energy is known.
    pub energy: Vec<Term>,
    pub runtime: Vec<Term>,
    pub energy_quality: Quality,
    pub runtime_quality: Quality,
    pub support: Box2,
    pub batch_points: Vec<BatchPoint>,
    /// Other SM clocks, if any was measured; all else is at the default clock.
    pub clocks: Option<ClockTable>,
    /// Of all devices together, before load.
    pub idle_power: Figure<Watts>,
    /// From start to ready, and the mean power of all devices meanwhile.
    pub load_time: Figure<Seconds>,
    pub load_power: Figure<Watts>,
    /// Weights of the instance, over all devices; absent if the architecture is unknown.
    pub weights: Option<Figure<Bytes>>,
    pub kv_bytes_per_token: Option<Figure<Bytes>>,
    /// Where runs have corrected what was fitted.
    pub correction: Option<Correction>,
}

/// Which end of the range of the estimated coefficients to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Low,
    Central,
    High,
}

impl FamilyModel {
    /// Whether its energy is known. One of times alone can be evaluated, not planned with.
    pub fn has_energy(&self) -> bool {
        !self.energy.is_empty()
    }

    /// Gross joules of one request at mean running batch `batch`.
    pub fn energy(&self, input: f64, output: f64, batch: f64) -> Joules {
        Joules(evaluate(&self.energy, input, output, batch))
    }

    /// Instance-seconds of one request at mean running batch `batch`.
    pub fn runtime(&self, input: f64, output: f64, batch: f64) -> Seconds {
        Seconds(evaluate(&self.runtime, input, output, batch))
    }

    /// T on (1, i, o, i*o, i^2, o^2) in instance-seconds at a fixed batch; `None` if a term is not in that span.
    pub fn busy_time_coefficients(&self, batch: f64) -> Option<Features> {
        combine(&self.runtime, batch, Case::Central, |_| true)
    }

    /// Net e: gross energy less idle power times busy time, coefficient by coefficient.
    pub fn net_energy_coefficients(&self, batch: f64, case: Case) -> Option<Features> {
        self.net(batch, case, |_| true)
    }

    /// The part of the net energy that rests on estimated coefficients.
    pub fn estimated_energy_coefficients(&self, batch: f64) -> Option<Features> {
        self.net(batch, Case::Central, |term| term.provenance == Provenance::Estimated)
    }

    fn net(&self, batch: f64, case: Case, keep: impl Fn(&Term) -> bool) -> Option<Features> {
        let energy = combine(&self.energy, batch, case, &keep)?;
        let runtime = combine(&self.runtime, batch, Case::Central, &keep)?;
        let idle = self.idle_power.value.0;
        Some(std::array::from_fn(|k| energy[k] - idle * runtime[k]))
    }
}

fn evaluate(terms: &[Term], input: f64, output: f64, batch: f64) -> f64 {
    terms.iter().map(|term| term.value * term.feature.value(input, output, batch)).sum()
}

fn combine(terms: &[Term], batch: f64, case: Case, keep: impl Fn(&Term) -> bool) -> Option<Features> {
    let mut sum = [0.0; 6];
    for term in terms.iter().filter(|term| keep(term)) {
        let factor = match case {
            Case::Low => term.low,
            Case::Central => term.value,
            Case::High => term.high,
        };
        for (total, part) in sum.iter_mut().zip(term.feature.polynomial(batch)?) {
            *total += factor * part;
        }
    }
    Some(sum)
}

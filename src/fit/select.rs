//! Which features are fitted: what the samples can tell apart decides what may be tried, cross-validated relative error
//! what is taken, and of two equally good the smaller.

use super::curve::batch_groups;
use super::hardware::EstimatedTerm;
use super::observation::Observation;
use super::phase::{BatchForm, PhaseFit, PowerLimits, Spec};
use super::quality::OutOfFold;
use crate::domain::Feature;
use crate::stats::{k_folds, leave_one_out, mean};

/// A length or batch that varies by less than this factor cannot tell two features apart.
const VARIES: f64 = 1.2;
/// Same for mean context per output token, which carries S1.
const CONTEXT_VARIES: f64 = 1.5;
/// A larger form must beat a smaller one by this share.
const WORTH_A_TERM: f64 = 0.02;
/// The three batch terms replace the table only if they are clearly better: the table is exact where plans are made.
const WORTH_LEAVING_THE_TABLE: f64 = 0.10;
/// ... and only if they meet the measured batches themselves, on average, within this share.
const MEETS_THE_TABLE: f64 = 0.03;
/// Shortest context at which the cost of a step without KV cache may bend, in tokens.
const FIRST_BEND: f64 = 64.0;
/// The slope beyond the last bend rests on contexts up to this multiple of it, nearly (lengths are seldom exact).
const SEEN_BEYOND_A_BEND: f64 = 3.8;
/// Fewer rows are left out one at a time.
const FEW_ROWS: usize = 10;

/// What the samples of a family can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identified {
    /// i and i^2: inputs are recorded and vary.
    pub input: bool,
    /// S1: the mean context varies from row to row.
    pub context: bool,
    /// A constant besides o: lengths are recorded and vary.
    pub constant: bool,
    pub batch: bool,
}

impl Identified {
    pub fn new(rows: &[&Observation]) -> Self {
        let recorded = rows.iter().all(|row| row.tokens.input.is_some() && !row.input_assumed);
        let input_varies = recorded && varies(rows.iter().filter_map(|row| row.tokens.input), VARIES);
        let output_varies = varies(rows.iter().map(|row| row.tokens.output), VARIES);
        let contexts: Option<Vec<f64>> = rows
            .iter()
            .map(|row| Some(Feature::ContextRead.expected(&row.tokens, row.batch)? / row.tokens.output.max(1.0)))
            .collect();
        Self {
            input: input_varies,
            context: contexts.is_some_and(|contexts| varies(contexts.into_iter(), CONTEXT_VARIES))
                && !rows.iter().any(|row| row.spread_assumed),
            constant: recorded && (input_varies || output_varies),
            batch: varies(rows.iter().map(|row| row.batch), VARIES),
        }
    }

    /// Whether a feature's coefficient can come from the samples.
    pub fn allows(&self, feature: &Feature) -> bool {
        match feature {
            Feature::Input | Feature::InputSquared => self.input,
            Feature::ContextRead | Feature::ContextAbove(_) => self.context,
            Feature::Constant => self.constant,
            _ => true,
        }
    }
}

/// The forms worth trying, smallest first.
pub fn candidates(rows: &[&Observation], kv_cache: bool) -> Vec<Spec> {
    use Feature::{Constant, ContextRead, Input, InputSquared};
    let identified = Identified::new(rows);
    let sets: Vec<Vec<Feature>> = if kv_cache {
        vec![
            vec![],
            vec![ContextRead],
            vec![Input],
            vec![Constant],
            vec![ContextRead, Input],
            vec![Constant, ContextRead],
            vec![Constant, Input],
            vec![ContextRead, Input, InputSquared],
            vec![Constant, ContextRead, Input],
            vec![Constant, ContextRead, Input, InputSquared],
        ]
    } else {
        without_cache(rows)
    };
    let batches = batch_groups(rows).len();
    let batch_forms: Vec<BatchForm> = match (identified.batch, batches) {
        (false, _) => vec![BatchForm::Flat],
        (true, ..4) => vec![BatchForm::Curve { three_terms: false }, BatchForm::TwoTerm],
        (true, _) => vec![BatchForm::Curve { three_terms: true }, BatchForm::ThreeTerm, BatchForm::TwoTerm],
    };
    let mut specs: Vec<Spec> = batch_forms
        .iter()
        .flat_map(|&batch| sets.iter().map(move |features| Spec { batch, features: features.clone() }))
        .filter(|spec| spec.features.iter().all(|feature| identified.allows(feature)))
        .collect();
    // At least two rows a feature, else the smallest forms alone.
    let smallest = specs.iter().map(Spec::size).min().unwrap_or(0);
    specs.retain(|spec| spec.size() == smallest || is_table(spec) || 2 * spec.size() <= rows.len());
    specs.sort_by_key(Spec::size);
    specs
}

/// Without a KV cache every step computes its whole context. It costs a floor (weights, launches) until computing takes
/// longer, a line beyond, and bends once more where attention does: a convex function of the context, approximated by
/// lines that bend at powers of two. The least squares picks few of them. A sum of squared contexts fits as well inside the samples
/// and misses by a fifth one doubling beyond; lines go on as lines.
fn without_cache(rows: &[&Observation]) -> Vec<Vec<Feature>> {
    use Feature::{Constant, ContextAbove, ContextRead};
    let longest = rows.iter().filter_map(|row| Some(row.tokens.input? + row.tokens.output)).fold(0.0, f64::max);
    let bends: Vec<Feature> = std::iter::successors(Some(FIRST_BEND), |bend| Some(2.0 * bend))
        .take_while(|bend| bend * SEEN_BEYOND_A_BEND <= longest)
        .map(ContextAbove)
        .collect();
    let mut sets = vec![vec![], vec![ContextRead], vec![Constant, ContextRead]];
    for bend in &bends {
        sets.push(vec![ContextRead, bend.clone()]);
        sets.push(vec![Constant, ContextRead, bend.clone()]);
    }
    if bends.len() > 1 {
        sets.push([vec![ContextRead], bends.clone()].concat());
        sets.push([vec![Constant, ContextRead], bends].concat());
    }
    sets
}

/// Everything a fit needs besides its rows and form.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    pub estimated: &'a [EstimatedTerm],
    pub limits: PowerLimits,
    pub folds: usize,
    pub seed: u64,
}

/// The form with the least cross-validated relative error.
pub fn best(rows: &[&Observation], kv_cache: bool, setting: Setting<'_>) -> Option<Spec> {
    let mut specs = candidates(rows, kv_cache);
    if specs.len() <= 1 {
        return specs.pop();
    }
    let folds = selection_folds(rows, setting);
    let identified = Identified::new(rows);
    if identified.batch && !identified.constant {
        specs.retain(|spec| is_table(spec) || meets_the_table(rows, spec, setting));
    }
    let mut best: Option<(f64, Spec)> = None;
    for spec in &specs {
        let Some(error) = CrossValidated::new(rows, spec, setting, &folds).error() else { continue };
        let better = best.as_ref().is_none_or(|(least, held)| error < least * handicap(held, spec));
        if better {
            best = Some((error, spec.clone()));
        }
    }
    best.map(|(_, spec)| spec).or_else(|| specs.into_iter().find(is_table)).or_else(|| {
        // Too few rows to leave any out.
        candidates(rows, kv_cache).into_iter().next()
    })
}

/// Share of the error of `held` that `other` must stay below.
fn handicap(held: &Spec, other: &Spec) -> f64 {
    match (is_table(held), is_table(other)) {
        (true, false) => 1.0 - WORTH_LEAVING_THE_TABLE,
        (false, true) => 1.0 / (1.0 - WORTH_LEAVING_THE_TABLE),
        _ => 1.0 - WORTH_A_TERM,
    }
}

/// Whether a form without table reproduces the rows it is fitted to.
fn meets_the_table(rows: &[&Observation], spec: &Spec, setting: Setting<'_>) -> bool {
    let Some(fit) = PhaseFit::new(rows, setting.estimated, setting.limits, spec) else { return false };
    let errors = |pick: fn(&Observation, (f64, f64)) -> Option<f64>| {
        let errors: Vec<f64> = rows.iter().filter_map(|row| pick(row, fit.predict(row)?)).collect();
        mean(&errors).unwrap_or(0.0)
    };
    let energy = errors(|row, (energy, _)| Some((energy / row.energy? - 1.0).abs()));
    let runtime = errors(|row, (_, runtime)| Some((runtime / row.runtime? - 1.0).abs()));
    energy.max(runtime) <= MEETS_THE_TABLE
}

fn is_table(spec: &Spec) -> bool {
    matches!(spec.batch, BatchForm::Curve { .. })
}

/// Folds of the reported quality: `setting.folds`, or one row at a time where rows are few.
pub fn quality_folds(count: usize, setting: Setting<'_>) -> Vec<Vec<usize>> {
    if count < FEW_ROWS { leave_one_out(count) } else { k_folds(count, setting.folds, setting.seed) }
}

/// Where only the batch varies, whole interior batches are left out.
fn selection_folds(rows: &[&Observation], setting: Setting<'_>) -> Vec<Vec<usize>> {
    interior_groups(rows).unwrap_or_else(|| quality_folds(rows.len(), setting))
}

/// Rows at the batches between the first and last, where only the batch varies and there are two of them or more: plans
/// are made at measured batches, so nothing is ever asked beyond the ends.
pub fn interior_batches(rows: &[&Observation]) -> Option<Vec<usize>> {
    interior_groups(rows).map(|groups| groups.concat())
}

fn interior_groups(rows: &[&Observation]) -> Option<Vec<Vec<usize>>> {
    let identified = Identified::new(rows);
    let groups = batch_groups(rows);
    (identified.batch && !identified.constant && groups.len() >= 4).then(|| groups[1..groups.len() - 1].to_vec())
}

/// Predictions of the rows that a fit has not seen.
#[derive(Clone, Debug, Default)]
pub struct CrossValidated {
    energy: OutOfFold,
    runtime: OutOfFold,
    failed: bool,
}

impl CrossValidated {
    pub fn new(rows: &[&Observation], spec: &Spec, setting: Setting<'_>, folds: &[Vec<usize>]) -> Self {
        let mut result = Self { failed: rows.len() < 3, ..Self::default() };
        for fold in folds {
            let training: Vec<&Observation> =
                rows.iter().enumerate().filter(|(index, _)| !fold.contains(index)).map(|(_, row)| *row).collect();
            let Some(fit) = PhaseFit::new(&training, setting.estimated, setting.limits, spec) else {
                result.failed = true;
                break;
            };
            for &index in fold {
                let Some((energy, runtime)) = fit.predict(rows[index]) else {
                    result.failed = true;
                    break;
                };
                if let Some(measured) = rows[index].energy {
                    result.energy.push(index, measured, energy);
                }
                if let Some(measured) = rows[index].runtime {
                    result.runtime.push(index, measured, runtime);
                }
            }
        }
        result
    }

    /// Energy and runtime; `None` if a fold could not be fitted or predicted.
    pub fn into_parts(self) -> Option<(OutOfFold, OutOfFold)> {
        (!self.failed).then_some((self.energy, self.runtime))
    }

    /// Mean of both errors, or the one there is.
    fn error(&self) -> Option<f64> {
        let errors: Vec<f64> = [self.energy.mape(), self.runtime.mape()].into_iter().flatten().collect();
        if self.failed { None } else { mean(&errors) }
    }
}

fn varies(values: impl Iterator<Item = f64>, factor: f64) -> bool {
    let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
    high > low.max(f64::MIN_POSITIVE) * factor
}

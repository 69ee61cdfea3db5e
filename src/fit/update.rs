//! Models brought to what runs of them really took: what `fit --update` makes of reconciled plans.
//!
//! A night's runs are few points at the lengths of its queue. They say how far off a family is, not what each of its
//! coefficients should be, so that net energy and time are multiplied by one factor each: measured over predicted, summed
//! over the samples, as `reconcile` sums a deployment. How operating points differ after that is told, and fitted by whoever
//! measures more of them. Families that the models lack are fitted on their samples as usual. Left out: batch caps nobody had
//! measured before, and load times.

use std::collections::BTreeMap;

use super::attempt::POWER_TOLERANCE;
use super::observation::Observation;
use super::quality::{self, predict};
use super::{Context, FitReport, Settings, clock, fit, of_its_devices};
use crate::domain::{Box2, Correction, FamilyKey, FamilyModel, Figure, Provenance, Sample};
use crate::stats::mean;
use crate::units::Watts;

/// Operating points that are further off than this once the family is corrected are told.
const DISAGREEMENT: f64 = 0.10;

/// Measured over predicted at one operating point, before the correction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PointFactors {
    pub max_num_seqs: Option<u32>,
    pub sm_clock_mhz: Option<u32>,
    pub samples: usize,
    pub net_energy: f64,
    pub time: f64,
}

/// A family that was corrected.
#[derive(Clone, Debug, PartialEq)]
pub struct Corrected {
    pub family: FamilyKey,
    pub by: Correction,
    pub points: Vec<PointFactors>,
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpdateReport {
    /// All models: those given in their order, corrected or not, then new ones.
    pub models: Vec<FamilyModel>,
    pub corrected: Vec<Corrected>,
    /// Families with a model that their samples cannot correct, and why.
    pub refused: Vec<(FamilyKey, String)>,
    /// Families without a model.
    pub fitted: FitReport,
    pub warmups: usize,
}

/// Corrects the models that samples are of, and adds those that are missing.
pub fn update(models: &[FamilyModel], samples: &[Sample], context: &Context<'_>, settings: &Settings) -> UpdateReport {
    let mut known: BTreeMap<FamilyKey, Vec<&Sample>> = BTreeMap::new();
    let mut new = Vec::new();
    for sample in samples.iter().filter(|sample| !sample.warmup) {
        let family = sample.family();
        match models.iter().any(|model| model.key == family) {
            true => known.entry(family).or_default().push(sample),
            false => new.push(sample.clone()),
        }
    }
    let mut report = UpdateReport { models: models.to_vec(), ..UpdateReport::default() };
    for (family, samples) in known {
        let Some(model) = report.models.iter_mut().find(|model| model.key == family) else { continue };
        match corrected(model, &samples, context) {
            Ok((better, told)) => {
                *model = better;
                report.corrected.push(told);
            }
            Err(why) => report.refused.push((family, why)),
        }
    }
    report.fitted = fit(&new, context, settings);
    report.models.extend(report.fitted.models());
    report.warmups = samples.iter().filter(|sample| sample.warmup).count();
    report
}

/// A sample beside what the model says of it: joules above idle and seconds, of all its requests.
struct Pair {
    row: Observation,
    point: (Option<u32>, Option<u32>),
    measured: (f64, f64),
    predicted: (f64, f64),
}

fn corrected(
    model: &FamilyModel,
    samples: &[&Sample],
    context: &Context<'_>,
) -> Result<(FamilyModel, Corrected), String> {
    let pairs: Vec<Pair> = samples.iter().filter_map(|sample| pair(model, sample, context)).collect();
    if pairs.is_empty() {
        return Err(
            "no sample has a runtime, an energy of its devices above idle, and lengths and a clock that the model \
                    covers"
                .into(),
        );
    }
    let (net_energy, time) = factors(&pairs);
    if ![net_energy, time].iter().all(|factor| clock::is_plausible(*factor)) {
        return Err(format!(
            "its samples took {net_energy:.3} times the energy and {time:.3} times the seconds that the model says: check \
             that they are of this family"
        ));
    }
    let mut notes = Vec::new();
    if pairs.len() < samples.len() {
        notes.push(format!(
            "{} samples left out: without energy of its devices or runtime, below idle power, or beyond the model's clocks",
            samples.len() - pairs.len()
        ));
    }
    let points = points(&pairs);
    let apart = points.iter().filter(|point| {
        (point.net_energy / net_energy - 1.0).abs() > DISAGREEMENT || (point.time / time - 1.0).abs() > DISAGREEMENT
    });
    if apart.count() > 0 {
        notes.push(format!(
            "its operating points disagree by more than {:.0} %, which one factor cannot mend: fit the samples of the \
             family again together with these, or profile it",
            100.0 * DISAGREEMENT
        ));
    }
    let rows: Vec<&Observation> = pairs.iter().map(|pair| &pair.row).collect();
    let by = Correction { net_energy, time, samples: pairs.len() };
    let mut better = model.corrected(by, idle_power(model, &rows));
    let device = context.devices.iter().find(|device| device.is_named(&model.key.device));
    let limit = device.map(|device| device.tdp.0 * f64::from(model.key.devices) * POWER_TOLERANCE);
    if limit.is_some_and(|limit| most_power(&better) > limit && most_power(model) <= limit) {
        notes
            .push("at lengths unlike those of its runs it now draws more than its devices' TDP: profile it".to_owned());
    }
    better.support = joined(&model.support, &quality::support(&rows));
    Ok((better, Corrected { family: model.key.clone(), by, points, notes }))
}

/// Most watts of any request of 1..8,192 tokens at a measured batch.
fn most_power(model: &FamilyModel) -> f64 {
    let lengths = || (0..=13).map(|exponent| f64::from(exponent).exp2());
    let requests = || lengths().flat_map(|input| lengths().map(move |output| (input, output)));
    let power = |input: f64, output: f64, batch: f64| {
        model.energy(input, output, batch).0 / model.runtime(input, output, batch).0
    };
    let points = model.batch_points.iter();
    points
        .flat_map(|point| requests().map(|(input, output)| power(input, output, point.batch_size)))
        .fold(0.0, f64::max)
}

fn pair(model: &FamilyModel, sample: &Sample, context: &Context<'_>) -> Option<Pair> {
    let whole = sample.sm_share.is_none_or(|share| share >= 1.0);
    if !whole || !of_its_devices(sample, &model.key, context.devices) {
        return None;
    }
    let row = Observation::new(sample, context.data_sets)?;
    let at_clock = match sample.sm_clock_mhz.filter(|_| model.clocks.is_some()) {
        Some(clock) => &model.at_clock(clock)?,
        None => model,
    };
    let (joules, seconds) = (predict(&at_clock.energy, &row)?, predict(&at_clock.runtime, &row)?);
    let known_idle = model.idle_power.value.0;
    let net = |joules: f64, seconds: f64, idle: f64| (joules - idle * seconds) * row.requests;
    let measured = (net(row.energy?, row.runtime?, row.idle_power.unwrap_or(known_idle)), row.runtime? * row.requests);
    let predicted = (net(joules, seconds, known_idle), seconds * row.requests);
    let point = (sample.max_num_seqs, sample.sm_clock_mhz);
    let positive = |(net, seconds): (f64, f64)| net > 0.0 && seconds > 0.0;
    (positive(measured) && positive(predicted)).then_some(Pair { row, point, measured, predicted })
}

/// Measured over predicted: net energy, time.
fn factors<'a>(pairs: impl IntoIterator<Item = &'a Pair>) -> (f64, f64) {
    let mut sums = [0.0; 4];
    for Pair { measured, predicted, .. } in pairs {
        let parts = [measured.0, predicted.0, measured.1, predicted.1];
        sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
    }
    (sums[0] / sums[1], sums[2] / sums[3])
}

fn points(pairs: &[Pair]) -> Vec<PointFactors> {
    let mut by_point: BTreeMap<(Option<u32>, Option<u32>), Vec<&Pair>> = BTreeMap::new();
    for pair in pairs {
        by_point.entry(pair.point).or_default().push(pair);
    }
    let one = |((max_num_seqs, sm_clock_mhz), pairs): ((Option<u32>, Option<u32>), Vec<&Pair>)| {
        let (net_energy, time) = factors(pairs.iter().copied());
        PointFactors { max_num_seqs, sm_clock_mhz, samples: pairs.len(), net_energy, time }
    };
    by_point.into_iter().map(one).collect()
}

/// As the runs found it, else as it was.
fn idle_power(model: &FamilyModel, rows: &[&Observation]) -> Figure<Watts> {
    let own: Vec<f64> = rows.iter().filter_map(|row| row.idle_power).filter(|watts| *watts > 0.0).collect();
    let provenance = rows.iter().map(|row| row.provenance).fold(Provenance::Measured, Provenance::weaker);
    mean(&own).map_or(model.idle_power, |watts| Figure::new(Watts(watts), provenance))
}

fn joined(a: &Box2, b: &Box2) -> Box2 {
    let both = |a: Option<(f64, f64)>, b: Option<(f64, f64)>| match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        // Where nothing was known of an input before, its coefficients are estimates, and those of other lengths still are.
        (a, _) => a,
    };
    Box2 {
        input_tokens: both(a.input_tokens, b.input_tokens),
        output_tokens: both(a.output_tokens, b.output_tokens),
        batch_size: both(a.batch_size, b.batch_size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Measurement, Moments};
    use crate::fit::FormChoice;
    use crate::formats::{data_sets_toml, devices_toml, engines_toml, models_json};
    use crate::units::{Joules, Seconds};

    /// Forty requests of a model on one H100, at 400 W and `slow` times the usual time.
    fn trial(input: f64, output: f64, batch: f64, slow: f64) -> Sample {
        let seconds = 0.002 + 0.02 * output / batch + 1e-4 * output + 2e-5 * input;
        Sample {
            model: "meta-llama/Llama-3.1-8B-Instruct".into(),
            precision: "bfloat16".into(),
            device: "H100".into(),
            max_num_seqs: Some(batch as u32),
            batch_size: batch,
            tokens: Moments::constant(input, output),
            requests: 40.0,
            runtime: Some(Seconds(40.0 * seconds * slow)),
            gpu_energy: Some(Joules(40.0 * 400.0 * seconds)),
            engine: Some("vllm".into()),
            engine_version: Some("1".into()),
            provenance: Provenance::Measured,
            ..Sample::empty(Measurement::Trial)
        }
    }

    fn with_context<T>(run: impl FnOnce(&Context<'_>) -> T) -> T {
        let (engines, devices, data_sets) =
            (engines_toml::builtin(), devices_toml::builtin(), data_sets_toml::builtin());
        run(&Context { engines: &engines, devices: &devices, data_sets: &data_sets, assumed_power: &[] })
    }

    fn update_with(models: &[FamilyModel], samples: &[Sample]) -> UpdateReport {
        with_context(|context| update(models, samples, context, &Settings::default()))
    }

    fn models(form: FormChoice, batches: &[f64]) -> Vec<FamilyModel> {
        let lengths = || [32.0, 256.0, 2048.0].into_iter();
        let pairs = || lengths().flat_map(|input| lengths().map(move |output| (input, output / 2.0)));
        let trials = |&batch: &f64| pairs().map(move |(input, output)| trial(input, output, batch, 1.0));
        let samples: Vec<Sample> = batches.iter().flat_map(trials).collect();
        let report = with_context(|context| fit(&samples, context, &Settings { form, ..Settings::default() }));
        report.models()
    }

    /// A run at an idle power of 100 W, `net` times as much above that as the model says and `time` times as long.
    fn run(model: &FamilyModel, (input, output, batch): (f64, f64, f64), net: f64, time: f64) -> Sample {
        let (joules, seconds) = (model.energy(input, output, batch).0, model.runtime(input, output, batch).0);
        let above = joules - model.idle_power.value.0 * seconds;
        Sample {
            runtime: Some(Seconds(40.0 * time * seconds)),
            gpu_energy: Some(Joules(40.0 * (net * above + 100.0 * time * seconds))),
            idle_power: Some(Watts(100.0)),
            ..trial(input, output, batch, 1.0)
        }
    }

    #[test]
    fn a_corrected_family_meets_its_runs_and_stays_a_model() {
        for form in [FormChoice::Auto, FormChoice::Bilinear] {
            let before = models(form, &[1.0, 8.0, 64.0]);
            let lengths = [(300.0, 200.0, 8.0), (900.0, 50.0, 64.0)];
            let runs = lengths.map(|at| run(&before[0], at, 1.2, 0.9));
            let report = update_with(&before, &runs);
            let told = &report.corrected[0];
            assert!((told.by.net_energy - 1.2).abs() < 1e-9 && (told.by.time - 0.9).abs() < 1e-9, "{told:?}");
            assert_eq!((told.points.len(), told.notes.len(), report.refused.len()), (2, 0, 0));
            let after = &report.models[0];
            for (at, run) in lengths.iter().zip(&runs) {
                let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{form:?} {at:?}: {a} against {b}");
                close(40.0 * after.energy(at.0, at.1, at.2).0, run.gpu_energy.unwrap().0);
                close(40.0 * after.runtime(at.0, at.1, at.2).0, run.runtime.unwrap().0);
            }
            assert_eq!((after.idle_power.value, after.idle_power.provenance), (Watts(100.0), Provenance::Measured));
            assert_eq!(after.support.input_tokens, Some((32.0, 2048.0)));
            let text = models_json::write(&report.models, &[]);
            assert_eq!(models_json::parse(text.as_bytes(), "m".as_ref()).unwrap()[0].key, after.key);
            // The same runs once more say nothing new, and the factors since the fit are kept.
            let again = update_with(&report.models, &runs);
            assert!((again.corrected[0].by.net_energy - 1.0).abs() < 1e-9, "{:?}", again.corrected);
            let since = again.models[0].correction.unwrap();
            assert!((since.net_energy - 1.2).abs() < 1e-9 && (since.time - 0.9).abs() < 1e-9);
        }
    }

    #[test]
    fn tabulated_batches_and_estimates_are_corrected_too() {
        let text = include_str!("../../profiles/models.json");
        let mut bundled = models_json::parse(text.as_bytes(), "m".as_ref()).unwrap();
        bundled.retain(|model| model.key.device == "H100" && model.key.devices == 1);
        let tabulated =
            bundled.iter().find(|model| model.energy.iter().any(|term| term.feature.name() == "o(b)")).unwrap();
        // Between two tabulated batches as well as at one.
        let lengths = (500.0, 300.0, tabulated.batch_points[1].batch_size);
        let after = tabulated.corrected(
            Correction { net_energy: 0.7, time: 1.5, samples: 1 },
            Figure::new(Watts(90.0), Provenance::Measured),
        );
        let expected = run(tabulated, lengths, 0.7, 1.5).gpu_energy.unwrap().0 / 40.0
            - 15.0 * tabulated.runtime(lengths.0, lengths.1, lengths.2).0;
        let found = after.energy(lengths.0, lengths.1, lengths.2).0;
        assert!((found / expected - 1.0).abs() < 1e-9, "{found} against {expected}");
        for term in after.energy.iter().chain(&after.runtime) {
            assert!(0.0 <= term.low && term.low <= term.value && term.value <= term.high, "{term:?}");
        }
        let provenance = |model: &FamilyModel| model.energy.iter().map(|term| term.provenance).collect::<Vec<_>>();
        assert_eq!(provenance(&after), provenance(tabulated));
        let text = models_json::write(std::slice::from_ref(&after), &[]);
        assert_eq!(models_json::parse(text.as_bytes(), "m".as_ref()).unwrap()[0].key, after.key);
    }

    #[test]
    fn operating_points_that_disagree_are_told_and_what_cannot_be_is_refused() {
        let before = models(FormChoice::Auto, &[1.0, 8.0, 64.0]);
        let at = |batch| (300.0, 200.0, batch);
        let apart = update_with(&before, &[run(&before[0], at(8.0), 1.0, 1.0), run(&before[0], at(64.0), 2.0, 1.0)]);
        assert!(apart.corrected[0].notes[0].contains("disagree"), "{:?}", apart.corrected);
        assert_eq!(apart.corrected[0].points[1].max_num_seqs, Some(64));
        // 400 W as fitted, and 700 W is the limit.
        let hot = update_with(&before, &[run(&before[0], at(8.0), 1.0, 0.5)]);
        assert!(hot.corrected[0].notes[0].contains("more than its devices' TDP"), "{:?}", hot.corrected);

        let wrong = update_with(&before, &[run(&before[0], at(8.0), 50.0, 1.0)]);
        assert_eq!(wrong.models, before);
        assert!(wrong.refused[0].1.contains("50.000 times the energy"), "{:?}", wrong.refused);
        let silent = Sample { gpu_energy: None, ..run(&before[0], at(8.0), 1.0, 1.0) };
        let below = Sample { gpu_energy: Some(Joules(1e-3)), ..silent.clone() };
        let shared = Sample { sm_share: Some(0.5), ..run(&before[0], at(8.0), 1.0, 1.0) };
        let warmup = Sample { warmup: true, ..run(&before[0], at(8.0), 3.0, 1.0) };
        let nothing = update_with(&before, &[silent, below, shared, warmup]);
        assert_eq!((nothing.models.len(), nothing.refused.len(), nothing.warmups), (1, 1, 1));
        assert_eq!(nothing.models, before);
    }

    #[test]
    fn families_without_a_model_are_fitted() {
        let before = models(FormChoice::Auto, &[1.0, 8.0, 64.0]);
        let other = |batch: f64| {
            [32.0, 512.0]
                .map(|tokens| Sample { engine_version: Some("2".into()), ..trial(tokens, 2.0 * tokens, batch, 1.0) })
        };
        let samples: Vec<Sample> = [1.0, 8.0, 64.0].into_iter().flat_map(other).collect();
        let report = update_with(&before, &samples);
        assert_eq!((report.models.len(), report.corrected.len()), (2, 0));
        assert_eq!((&report.models[0], report.models[1].key.engine.as_str()), (&before[0], "vllm-2"));
        assert!(before[0].correction.is_none() && report.models[1].correction.is_none());
    }
}

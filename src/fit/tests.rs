use super::outliers::OutlierKind;
use super::*;
use crate::domain::model::Case;
use crate::domain::{Feature, Figure, Measurement, Moments, Phase};
use crate::formats::{data_sets_toml, devices_toml, engines_toml};
use crate::units::{Joules, Seconds, Watts};

fn fitted(samples: &[Sample], form: FormChoice) -> FitReport {
    fitted_at(samples, form, &[])
}

fn fitted_at(samples: &[Sample], form: FormChoice, assumed_power: &[(String, Watts)]) -> FitReport {
    let (engines, devices, data_sets) = (engines_toml::builtin(), devices_toml::builtin(), data_sets_toml::builtin());
    let context = Context { engines: &engines, devices: &devices, data_sets: &data_sets, assumed_power };
    fit(samples, &context, &Settings { form, ..Settings::default() })
}

/// A steady state of Llama-3.1-8B on one H100: 600 tokens out, lengths in unknown.
fn steady(batch: f64, energy: f64, runtime: f64) -> Sample {
    Sample {
        model: "meta-llama/Llama-3.1-8B-Instruct".into(),
        precision: "bfloat16".into(),
        device: "H100".into(),
        max_num_seqs: Some(batch as u32),
        batch_size: batch,
        tokens: Moments { input: None, output: 600.0, input_sq: None, output_sq: Some(7e5), input_output: None },
        runtime: Some(Seconds(runtime)),
        gpu_energy: Some(Joules(energy)),
        engine: Some("vllm".into()),
        data_set: Some("mlenergy_v3/lm-arena-chat".into()),
        provenance: Provenance::Imported,
        ..Sample::empty(Measurement::SteadyState)
    }
}

fn chat() -> Vec<Sample> {
    [(8.0, 240.0, 0.60), (16.0, 130.0, 0.31), (32.0, 80.0, 0.18), (64.0, 55.0, 0.115), (128.0, 45.0, 0.085)]
        .iter()
        .map(|&(batch, energy, runtime)| steady(batch, energy, runtime))
        .collect()
}

/// A trial with recorded lengths, 40 requests.
fn trial(input: f64, output: f64, batch: f64, engine_version: &str) -> Sample {
    let seconds = 0.002 + 0.02 * output / batch + 1e-4 * output + 2e-5 * input + 1e-8 * output * (input + output / 2.0);
    Sample {
        tokens: Moments::constant(input, output),
        requests: 40.0,
        measurement: Measurement::Trial,
        engine_version: Some(engine_version.into()),
        ..steady(batch, 40.0 * 400.0 * seconds, 40.0 * seconds)
    }
}

fn lengths_and_batches(engine_version: &str) -> Vec<Sample> {
    let mut samples = Vec::new();
    for batch in [1.0, 8.0, 64.0] {
        for input in [32.0, 256.0, 2048.0] {
            samples.extend([16.0, 128.0, 1024.0].map(|output| trial(input, output, batch, engine_version)));
        }
    }
    samples
}

#[test]
fn prefill_is_estimated_and_not_charged_twice() {
    let report = fitted(&chat(), FormChoice::Auto);
    let model = &report.families[0].model;
    let estimated: Vec<&str> =
        model.energy.iter().filter(|t| t.provenance == Provenance::Estimated).map(|t| t.feature.name()).collect();
    assert_eq!(estimated, ["S1", "i", "i^2"]);
    assert_eq!(model.support.input_tokens, None);
    // The mean request of the data set costs what was measured, its prefill included.
    let data_sets = data_sets_toml::builtin();
    for sample in chat() {
        let row = Observation::new(&sample, &data_sets).unwrap();
        assert!((quality::predict(&model.energy, &row).unwrap() / row.energy.unwrap() - 1.0).abs() < 1e-9);
        assert!((quality::predict(&model.runtime, &row).unwrap() / row.runtime.unwrap() - 1.0).abs() < 1e-9);
    }
    // And a longer prompt costs more.
    assert!(model.energy(2000.0, 600.0, 64.0).0 > model.energy(70.0, 600.0, 64.0).0 + 5.0);
    let (low, high) = (Case::Low, Case::High);
    let net = |case| model.net_energy_coefficients(64.0, case).unwrap()[1];
    assert!(net(low) < net(Case::Central) && net(Case::Central) < net(high));
}

#[test]
fn recorded_lengths_and_batches_give_measured_coefficients() {
    let report = fitted(&lengths_and_batches("1"), FormChoice::Auto);
    let model = &report.families[0].model;
    assert!(model.energy.iter().all(|term| term.provenance == Provenance::Imported), "{:?}", model.energy);
    let (energy, runtime) = (model.energy_quality.cv_mape.unwrap(), model.runtime_quality.cv_mape.unwrap());
    assert!(energy < 0.02 && runtime < 0.02, "{energy} {runtime}");
    assert_eq!(model.batch_points.len(), 3);
    assert_eq!(model.support.input_tokens, Some((32.0, 2048.0)));
    assert_eq!(model.energy_quality.negative_predictions, 0);
}

#[test]
fn warmups_other_clocks_and_other_engines_stay_out() {
    let mut samples = lengths_and_batches("1");
    samples.extend(lengths_and_batches("2"));
    let plain = fitted(&samples, FormChoice::Auto);
    assert_eq!(plain.families.len(), 2);
    let mut more = samples.clone();
    more.push(Sample { warmup: true, gpu_energy: Some(Joules(1e9)), ..samples[0].clone() });
    more.push(Sample { sm_clock_mhz: Some(600), gpu_energy: Some(Joules(1e9)), ..samples[1].clone() });
    let report = fitted(&more, FormChoice::Auto);
    assert_eq!(report.warmups, 1);
    assert_eq!(report.models(), plain.models());
    assert!(report.families[0].notes.iter().any(|note| note.starts_with("1 samples at other SM clocks")));
}

/// Nine cells, `repeats` trials each, 1 % apart.
fn repeated(repeats: u32) -> Vec<Sample> {
    let cells = lengths_and_batches("1").into_iter().take(9);
    cells
        .flat_map(|cell| {
            (1..=repeats).map(move |number| {
                let runtime = cell.runtime.map(|time| time * (1.0 + 0.01 * f64::from(number)));
                Sample { trial: Some(number), runtime, ..cell.clone() }
            })
        })
        .collect()
}

#[test]
fn a_trial_unlike_its_repeats_is_listed_and_not_used() {
    let clean = repeated(4);
    assert!(fitted(&clean, FormChoice::Auto).families[0].outliers.is_empty());
    let mut samples = clean.clone();
    samples[8].runtime = samples[8].runtime.map(|time| time * 2.0);
    samples[14].gpu_energy = samples[14].gpu_energy.map(|energy| energy * 0.5);
    let report = fitted(&samples, FormChoice::Auto);
    let outliers = &report.families[0].outliers;
    let listed: Vec<_> = outliers.iter().map(|outlier| (outlier.sample, outlier.kind, outlier.trial)).collect();
    assert_eq!(listed, [(8, OutlierKind::ColdStart, Some(1)), (14, OutlierKind::Other, Some(3))]);
    let energy = outliers[1].energy.unwrap();
    assert!((energy.measured / energy.expected - 0.5).abs() < 0.02);
    let without: Vec<Sample> =
        samples.iter().enumerate().filter(|(index, _)| ![8, 14].contains(index)).map(|(_, s)| s.clone()).collect();
    assert_eq!(report.models(), fitted(&without, FormChoice::Auto).models());
}

#[test]
fn a_lone_trial_is_held_against_the_form_and_a_steady_state_is_not() {
    let mut samples = lengths_and_batches("1");
    samples[20].runtime = samples[20].runtime.map(|time| time * 3.0);
    let report = fitted(&samples, FormChoice::Auto);
    assert_eq!(report.families[0].outliers.iter().map(|outlier| outlier.sample).collect::<Vec<_>>(), [20]);
    let steady: Vec<Sample> =
        samples.iter().map(|sample| Sample { measurement: Measurement::SteadyState, ..sample.clone() }).collect();
    assert!(fitted(&steady, FormChoice::Auto).families[0].outliers.is_empty());
}

#[test]
fn where_a_third_deviates_nothing_is_called_an_outlier() {
    let mut samples = lengths_and_batches("1");
    for sample in samples.iter_mut().step_by(3) {
        sample.runtime = sample.runtime.map(|time| time * 3.0);
    }
    assert!(fitted(&samples, FormChoice::Auto).families[0].outliers.is_empty());
}

#[test]
fn data_sets_that_contradict_each_other_are_not_averaged() {
    let mut samples = chat();
    let consistent = fitted(&samples, FormChoice::Auto).models();
    // The same lengths and batches at twice the cost: another configuration of the engine.
    samples.extend(chat().into_iter().take(3).map(|sample| Sample {
        gpu_energy: sample.gpu_energy.map(|energy| energy * 2.0),
        data_set: Some("mlenergy_v3/gpqa".into()),
        ..sample
    }));
    let report = fitted(&samples, FormChoice::Auto);
    assert_eq!(report.families[0].model.energy, consistent[0].energy);
    assert!(report.families[0].notes.iter().any(|note| note.contains("disagree")), "{:?}", report.families[0].notes);
}

#[test]
fn one_measured_batch_still_makes_a_model() {
    let report = fitted(&chat()[2..3], FormChoice::Auto);
    let model = &report.families[0].model;
    assert_eq!(model.energy_quality.cv_mape, None);
    assert!((model.energy(70.0, 600.0, 32.0).0 / 80.0 - 1.0).abs() < 0.2);
    // Half the batch, the same step: a token costs twice as much.
    let decode = |batch| model.net_energy_coefficients(batch, Case::Central).unwrap()[2];
    assert!(decode(16.0) > 1.9 * decode(32.0));
}

#[test]
fn an_unknown_device_or_model_is_said_not_guessed() {
    let samples: Vec<Sample> =
        chat().into_iter().map(|sample| Sample { model: "my/own".into(), device: "X1".into(), ..sample }).collect();
    let report = fitted(&samples, FormChoice::Auto);
    let family = &report.families[0];
    assert_eq!(family.model.weights, None);
    assert!(family.model.idle_power.is_estimated());
    assert!(family.model.energy.iter().all(|term| term.feature != Feature::Input));
    assert!(family.notes.iter().any(|note| note.contains("cost of input tokens is unknown")), "{:?}", family.notes);
}

#[test]
fn what_cannot_be_fitted_is_listed_with_its_reason() {
    let without_times: Vec<Sample> = chat().into_iter().map(|s| Sample { runtime: None, ..s }).collect();
    let report = fitted(&without_times, FormChoice::Auto);
    assert!(report.families.is_empty() && report.unfitted[0].1.contains("runtime"));
    let report = fitted(&chat(), FormChoice::Bilinear);
    assert!(report.families.is_empty() && report.unfitted[0].1.contains("bilinear"));
}

#[test]
fn hostile_figures_neither_panic_nor_leave_the_real_numbers() {
    let hostile = [f64::NAN, f64::INFINITY, 0.0, -1.0, 1e300, 1e-300];
    for value in hostile {
        let mut samples = chat();
        samples[1].gpu_energy = Some(Joules(value));
        samples[2].runtime = Some(Seconds(value));
        samples[3].batch_size = value;
        samples[4].tokens.output = value;
        for family in fitted(&samples, FormChoice::Auto).families {
            for term in family.model.energy.iter().chain(&family.model.runtime) {
                assert!(term.value.is_finite() && term.value >= 0.0, "{value}: {term:?}");
            }
        }
    }
}

#[test]
fn the_energy_of_a_host_does_not_stand_for_that_of_its_gpus() {
    let mut samples = chat();
    let plain = fitted(&samples, FormChoice::Auto).models();
    samples.push(Sample { gpu_energy: None, cpu_energy: Some(Joules(1e6)), ..samples[0].clone() });
    let report = fitted(&samples, FormChoice::Auto);
    assert_eq!(report.models()[0].energy, plain[0].energy);
    assert!(report.families[0].notes[0].starts_with("1 samples without energy"), "{:?}", report.families[0].notes);
}

/// Times are fitted as they are with energies at a constant power, which says nothing that times do not.
#[test]
fn families_without_energy_are_fitted_in_time() {
    let of_times = |samples: Vec<Sample>| -> Vec<Sample> {
        samples.into_iter().map(|sample| Sample { gpu_energy: None, ..sample }).collect()
    };
    let measured = lengths_and_batches("1");
    let metered = fitted(&measured, FormChoice::Auto).families.remove(0);
    let samples = of_times(measured);
    let family = fitted(&samples, FormChoice::Auto).families.remove(0);
    assert!(!family.model.has_energy() && family.notes[0].contains("is missing"), "{:?}", family.notes);
    for (input, output, batch) in [(32.0, 16.0, 1.0), (2048.0, 1024.0, 64.0), (500.0, 70.0, 20.0)] {
        let (of_times, with_energy) = (&family.model, &metered.model);
        let (a, b) = (of_times.runtime(input, output, batch).0, with_energy.runtime(input, output, batch).0);
        assert!((a / b - 1.0).abs() < 0.02, "{a} and {b} s");
    }
    assert_eq!((family.model.energy_quality.samples, family.model.energy_quality.cv_mape), (0, None));
    assert!(family.model.runtime.iter().any(|term| term.provenance == Provenance::Imported));
    assert!(family.cells.iter().all(|cell| cell.energy.is_none() && cell.runtime.is_some()));
    let evaluated = evaluate(std::slice::from_ref(&family.model), &samples, &[]);
    assert_eq!((evaluated.groups[0].energy_mape, evaluated.groups[0].samples), (None, 27));
    assert!(evaluated.groups[0].runtime_mape.unwrap() < 0.02);
    assert_eq!(family.model.idle_power, metered.model.idle_power, "by the device table");
    // Where only the batch varies, too.
    let family = fitted(&of_times(chat()), FormChoice::Auto).families.remove(0);
    assert!((family.model.runtime(200.0, 600.0, 64.0).0 / 0.115 - 1.0).abs() < 0.1);
    // Without a device table there is no idle power to tell.
    let unknown: Vec<Sample> = samples.into_iter().map(|s| Sample { device: "cpu".into(), ..s }).collect();
    let family = fitted(&unknown, FormChoice::Auto).families.remove(0);
    assert_eq!(family.model.idle_power, Figure::new(Watts::ZERO, Provenance::Missing));
    assert_eq!(family.model.load_power.provenance, Provenance::Missing);
}

#[test]
fn a_power_that_the_user_states_is_an_estimate() {
    let samples: Vec<Sample> =
        lengths_and_batches("1").into_iter().map(|s| Sample { gpu_energy: None, device: "Cpu".into(), ..s }).collect();
    let assumed = [("gpu".to_owned(), Watts(9.0)), ("cpu".to_owned(), Watts(60.0))];
    let family = fitted_at(&samples, FormChoice::Auto, &assumed).families.remove(0);
    assert!(family.notes[0].contains("60 W"), "{:?}", family.notes);
    let model = &family.model;
    assert!(model.energy.iter().all(|term| term.provenance == Provenance::Estimated && term.interval.is_none()));
    assert!(model.runtime.iter().all(|term| term.interval.is_some()), "{:?}", model.runtime);
    assert_eq!((model.energy_quality.samples, model.energy_quality.error_factors), (0, None));
    assert!(model.runtime_quality.error_factors.is_some());
    let power = model.energy(256.0, 128.0, 8.0).0 / model.runtime(256.0, 128.0, 8.0).0;
    assert!((power / 60.0 - 1.0).abs() < 1e-3, "{power}");
    assert_eq!((model.idle_power.provenance, family.bilinear), (Provenance::Estimated, None));
    let net = model.net_energy_coefficients(8.0, Case::Central).unwrap();
    assert_eq!(model.estimated_energy_coefficients(8.0).unwrap(), net, "all of it is estimated");
    // Where energy was measured, nothing is assumed.
    let report = fitted_at(&lengths_and_batches("1"), FormChoice::Auto, &[("H100".to_owned(), Watts(9.0))]);
    assert_eq!(report.families, fitted(&lengths_and_batches("1"), FormChoice::Auto).families);
}

#[test]
fn evaluation_names_families_without_a_model_and_counts_extrapolation() {
    let report = fitted(&lengths_and_batches("1"), FormChoice::Auto);
    let mut samples = vec![trial(256.0, 128.0, 8.0, "1"), trial(8000.0, 128.0, 8.0, "1"), trial(32.0, 16.0, 1.0, "3")];
    samples.push(Sample { warmup: true, ..samples[0].clone() });
    let evaluation = evaluate(&report.models(), &samples, &[]);
    assert_eq!(evaluation.without_model.len(), 1);
    assert_eq!(evaluation.warmups, 1);
    let group = &evaluation.groups[0];
    assert_eq!((group.samples, group.extrapolated_share), (2, 0.5));
    assert!(group.energy_mape.unwrap() < 0.05 && group.energy_bias.unwrap().abs() < 0.05);
}

/// `lengths_and_batches` at 1,400 MHz with its idle power, and at two lower clocks with known factors on each phase.
fn clock_sweep(inputs: &[f64]) -> Vec<Sample> {
    const IDLE: f64 = 70.0;
    let mut samples = Vec::new();
    for (clock, prefill, decode) in
        [(700, (1.9, 0.5), (1.3, 0.7)), (1000, (1.4, 0.6), (1.1, 0.8)), (1400, (1.0, 1.0), (1.0, 1.0))]
    {
        for batch in [1.0, 8.0, 64.0] {
            for &input in inputs {
                for output in [16.0, 128.0, 1024.0] {
                    let seconds = [2e-4 * input, 0.02 * output / batch + 1e-4 * output];
                    let time = prefill.0 * seconds[0] + decode.0 * seconds[1];
                    let net = 300.0 * prefill.1 * seconds[0] + 200.0 * decode.1 * seconds[1];
                    samples.push(Sample {
                        sm_clock_mhz: Some(clock),
                        idle_power: Some(Watts(IDLE)),
                        runtime: Some(Seconds(40.0 * time)),
                        gpu_energy: Some(Joules(40.0 * (net + IDLE * time))),
                        ..trial(input, output, batch, "1")
                    });
                }
            }
        }
    }
    samples
}

#[test]
fn clocks_get_factors_by_phase_and_keep_the_default_as_it_is() {
    let samples = clock_sweep(&[32.0, 256.0, 2048.0]);
    let report = fitted(&samples, FormChoice::Auto);
    let model = &report.families[0].model;
    let default: Vec<Sample> = samples.iter().filter(|s| s.sm_clock_mhz == Some(1400)).cloned().collect();
    assert_eq!(model.energy, fitted(&default, FormChoice::Auto).families[0].model.energy);
    let table = model.clocks.as_ref().unwrap();
    assert_eq!((table.default_mhz, table.points.len()), (Some(1400), 3));
    for (clock, phase, (time, net)) in [
        (700, Phase::Prefill, (1.9, 0.5)),
        (700, Phase::Decode, (1.3, 0.7)),
        (1000, Phase::Prefill, (1.4, 0.6)),
        (1000, Phase::Decode, (1.1, 0.8)),
        (1400, Phase::Decode, (1.0, 1.0)),
    ] {
        let found = table.point(clock).unwrap().factors(phase);
        assert!(
            (found.time / time - 1.0).abs() < 0.01 && (found.net_energy / net - 1.0).abs() < 0.01,
            "{clock}: {found:?}"
        );
        assert_ne!(found.provenance, Provenance::Estimated);
    }
    assert_eq!(table.points[0].batch_size, (1.0, 64.0));
    // No coefficient of the net energy goes negative at any clock, whatever time does.
    let at_700 = model.at_clock(700).unwrap().net_energy_coefficients(8.0, Case::Central).unwrap();
    assert!(at_700.iter().all(|coefficient| *coefficient >= 0.0), "{at_700:?}");
    // Every sample is predicted at its own clock; none beyond the measured ones.
    let mut test = samples.clone();
    test.push(Sample { sm_clock_mhz: Some(600), ..samples[0].clone() });
    let evaluation = evaluate(&report.models(), &test, &[]);
    assert_eq!((evaluation.groups[0].samples, evaluation.unpredictable), (samples.len(), 1));
    assert!(evaluation.groups[0].energy_mape.unwrap() < 0.01, "{:?}", evaluation.groups);
    assert!(evaluation.groups[0].runtime_mape.unwrap() < 0.01, "{:?}", evaluation.groups);
}

#[test]
fn samples_that_mix_the_phases_alike_give_one_factor_and_mark_the_minor_phase() {
    let report = fitted(&clock_sweep(&[1.0]), FormChoice::Auto);
    let (model, notes) = (&report.families[0].model, &report.families[0].notes);
    let point = *model.clocks.as_ref().unwrap().point(700).unwrap();
    assert_eq!((point.prefill.time, point.prefill.net_energy), (point.decode.time, point.decode.net_energy));
    assert_eq!((point.prefill.provenance, point.decode.provenance), (Provenance::Estimated, Provenance::Imported));
    assert!((point.decode.time / 1.3 - 1.0).abs() < 0.02, "{point:?}");
    assert!(notes.iter().any(|note| note.contains("do not tell prefill from decode at 700, 1000 MHz")), "{notes:?}");
}

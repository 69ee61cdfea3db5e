//! Fits against published figures: the grid of the offline-serving paper (arXiv 2407.04014) and the ML.ENERGY
//! leaderboard. Needs the folder that `JOULEPLAN_REFERENCE_DATA` names; skips loudly without it.

mod reference_data;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jouleplan::domain::{DeviceKind, FamilyModel, Form, Provenance, Sample};
use jouleplan::fit::{FormChoice, Settings, evaluate};
use jouleplan::formats::{csv_map, data_sets_toml, devices_toml, mlenergy, models_json, samples_csv};
use jouleplan::stats::quantile;
use reference_data::{fitted, grid, reference};

/// Published uncentred R2 of the bilinear form. The 70B's does not apply: 75 of its 81 cells are here.
#[test]
fn the_bilinear_form_reproduces_the_paper() {
    let Some(path) = reference("energy/wilkins/grid_a100.csv") else { return };
    let report = fitted(&grid(&path), Settings { form: FormChoice::Bilinear, ..Settings::default() });
    for (model, published) in [
        ("meta-llama/Llama-2-7b-chat-hf", 0.973),
        ("mistralai/Mistral-7B-v0.1", 0.975),
        ("mistralai/Mixtral-8x7B-v0.1", 0.980),
    ] {
        let family = report.families.iter().find(|f| f.model.key.model == model).expect("the model is in the grid");
        let r2 = family.model.energy_quality.r2_uncentred.expect("energies vary");
        eprintln!("{model}: bilinear uncentred R2 {r2:.4}, published {published}");
        assert!((r2 - published).abs() <= 0.004, "{model}: {r2} against {published}");
        assert_eq!(family.model.form, Form::Bilinear);
        assert!(family.model.energy.iter().all(|term| term.standard_error.is_some()));
    }
}

#[test]
fn our_form_holds_in_cross_validation_and_is_never_negative() {
    let Some(path) = reference("energy/wilkins/grid_a100.csv") else { return };
    let samples = grid(&path);
    let mut errors: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for seed in 0..10 {
        let report = fitted(&samples, Settings { seed, ..Settings::default() });
        assert_eq!(report.families.len(), 4, "{:?}", report.unfitted);
        for family in &report.families {
            let model = &family.model;
            let cv = |quality: &jouleplan::domain::Quality| quality.cv_mape.expect("eighty cells suffice");
            errors
                .entry(model.key.model.clone())
                .or_default()
                .push((cv(&model.energy_quality), cv(&model.runtime_quality)));
            assert_physical(model);
            if seed == 0 {
                let names: Vec<_> = model.energy.iter().map(|term| term.feature.name()).collect();
                let bilinear = family.bilinear.as_ref().map(|published| published.energy.fitted.quality.cv_mape);
                eprintln!("{}: terms {names:?}, bilinear CV {bilinear:?}, notes {:?}", model.key, family.notes);
            }
        }
    }
    for (model, errors) in errors {
        let mean = |pick: fn(&(f64, f64)) -> f64| errors.iter().map(pick).sum::<f64>() / errors.len() as f64;
        let (energy, runtime) = (mean(|e| e.0), mean(|e| e.1));
        eprintln!("{model}: 5-fold CV MAPE over 10 seeds: energy {energy:.4}, runtime {runtime:.4}");
        assert!(energy <= 0.05 && runtime <= 0.06, "{model}: energy {energy}, runtime {runtime}");
    }
}

/// No negative energy, none below idle, none above what the devices can draw, 1..8192 tokens. A board was seen 6 % above
/// its TDP and meters are good to 5 %; a socket draws the power of its memory besides.
fn assert_physical(model: &FamilyModel) {
    let table = devices_toml::builtin();
    let device = devices_toml::resolve(&table, &model.key.device).expect("a known device");
    let limit = device.tdp.0 * f64::from(model.key.devices) * if device.kind == DeviceKind::Cpu { 1.25 } else { 1.12 };
    for input in (0..=13).map(|k| f64::from(1 << k)) {
        for output in (0..=13).map(|k| f64::from(1 << k)) {
            for batch in model.batch_points.iter().map(|point| point.batch_size) {
                let (energy, runtime) = (model.energy(input, output, batch), model.runtime(input, output, batch));
                assert!(energy.0 > 0.0 && runtime.0 > 0.0, "{}: {energy} {runtime}", model.key);
                let power = (energy / runtime).0;
                assert!(power >= model.idle_power.value.0 * (1.0 - 1e-9), "{}: {power} W", model.key);
                assert!(power <= limit, "{}: {power} W above {limit} W", model.key);
            }
        }
    }
}

/// The cells of {8, 128, 2048} x {8, 128, 2048} that exist and are no warm-ups, the rest held out.
#[test]
fn eight_cells_predict_the_grid() {
    let Some(path) = reference("energy/wilkins/grid_a100.csv") else { return };
    let near = |value: f64| [8.0, 128.0, 2048.0].iter().any(|mark| (value / mark).ln().abs() < 0.25);
    let corner = |s: &Sample| near(s.tokens.input.unwrap_or(0.0)) && near(s.tokens.output);
    let (train, test): (Vec<Sample>, Vec<Sample>) = grid(&path).into_iter().partition(corner);
    let evaluation = evaluate(&fitted(&train, Settings::default()).models(), &test, &[]);
    let mut means = (0.0, 0.0);
    for group in &evaluation.groups {
        let (energy, runtime) = (group.energy_mape.expect("energies"), group.runtime_mape.expect("runtimes"));
        eprintln!("eight cells: {} energy {energy:.4} runtime {runtime:.4} n {}", group.family.model, group.samples);
        means.0 += energy / evaluation.groups.len() as f64;
        means.1 += runtime / evaluation.groups.len() as f64;
    }
    eprintln!("eight cells: mean energy {:.4} runtime {:.4}", means.0, means.1);
    assert!(means.0 <= 0.08 && means.1 <= 0.06, "{means:?}");
}

/// Every interior batch of every family and task left out in turn. GPQA and code miss 9 % at the 90th percentile with
/// every interpolation tried (straight in the logarithms, in step time, monotone cubic, two and three terms, and these
/// combined): their curves step where engines change kernels, Qwen3-Coder-480B's by 1.8 from one batch to the next.
/// Beside it, per request, as if the answers' length were unknown too: that of the other batches.
#[test]
fn an_interior_batch_is_predicted_from_its_neighbours() {
    let Some(path) = reference("energy/mlenergy_v3/public/data") else { return };
    let samples = mlenergy::import(&[path]).expect("the leaderboard is readable");
    let mut tasks: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let (mut runtimes, mut requests): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut cases: BTreeMap<(String, jouleplan::domain::FamilyKey), Vec<Sample>> = BTreeMap::new();
    for sample in samples {
        let task = sample.data_set.clone().unwrap_or_default();
        if ["lm-arena-chat", "gpqa", "sourcegraph-fim"].iter().any(|name| task.ends_with(name)) {
            cases.entry((task, sample.family())).or_default().push(sample);
        }
    }
    for ((task, _), rows) in cases {
        let mut batches: Vec<u32> = rows.iter().filter_map(|row| row.max_num_seqs).collect();
        batches.sort_unstable();
        batches.dedup();
        if batches.len() < 5 {
            continue;
        }
        for &left_out in &batches[1..batches.len() - 1] {
            let (test, train): (Vec<Sample>, Vec<Sample>) =
                rows.iter().cloned().partition(|row| row.max_num_seqs == Some(left_out));
            let models = fitted(&train, Settings::default()).models();
            let evaluation = evaluate(&models, &test, &data_sets_toml::builtin());
            let group = &evaluation.groups[0];
            tasks.entry(task.clone()).or_default().push(group.energy_mape.expect("energies"));
            runtimes.push(group.runtime_mape.expect("runtimes"));
            let mean = |pick: fn(&Sample) -> f64| train.iter().map(pick).sum::<f64>() / train.len() as f64;
            let (output, square) = (mean(|s| s.tokens.output), mean(|s| s.tokens.output_sq.expect("histograms")));
            let mut unknown = test;
            for sample in &mut unknown {
                (sample.tokens.output, sample.tokens.output_sq) = (output, Some(square));
            }
            let evaluation = evaluate(&models, &unknown, &data_sets_toml::builtin());
            requests.push(evaluation.groups[0].energy_mape.expect("energies"));
        }
    }
    let show = |name: &str, errors: &[f64]| {
        let (median, p90) = (quantile(errors, 0.5).expect("cases"), quantile(errors, 0.9).expect("cases"));
        eprintln!(
            "interior batch left out, {name}: median {median:.4}, 90th percentile {p90:.4}, {} cases",
            errors.len()
        );
        (median, p90)
    };
    for (task, errors) in &tasks {
        show(task, errors);
    }
    show("runtime", &runtimes);
    show("energy per request, length unknown", &requests);
    let all: Vec<f64> = tasks.into_values().flatten().collect();
    let (median, p90) = show("all, energy", &all);
    assert!(median <= 0.03 && p90 <= 0.09);
}

/// Every chat family of generation 3 can be fitted, planned with, and stays physical; prefill is estimated.
#[test]
fn every_chat_family_is_plannable() {
    let Some(path) = reference("energy/mlenergy_v3/public/data") else { return };
    let mut samples = mlenergy::import(&[path]).expect("the leaderboard is readable");
    samples.retain(|sample| sample.data_set.as_deref() == Some("mlenergy_v3/lm-arena-chat"));
    let report = fitted(&samples, Settings::default());
    assert!(report.unfitted.is_empty(), "{:?}", report.unfitted);
    eprintln!("{} chat families", report.families.len());
    for family in &report.families {
        let model = &family.model;
        assert_physical(model);
        let estimated = model.energy.iter().filter(|term| term.provenance == Provenance::Estimated).count();
        eprintln!(
            "{}: {} points, CV {:.3?}/{:.3?}, {estimated} estimated, {:?}",
            model.key,
            model.batch_points.len(),
            model.energy_quality.cv_mape,
            model.runtime_quality.cv_mape,
            family.notes
        );
        for point in &model.batch_points {
            let net = model.net_energy_coefficients(point.batch_size, jouleplan::domain::model::Case::Central);
            let net = net.expect("the form is plannable");
            let single = net[2] + 0.5 * net[3];
            assert!(net[1] >= 0.0 && single >= 0.0 && net[3..].iter().all(|c| *c >= 0.0), "{}: {net:?}", model.key);
        }
    }
}

/// What `profiles/models.json` is made from: every family fits, is plannable, and survives the file.
#[test]
fn the_bundled_samples_fit() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/samples");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("profiles/samples exists")
        .map(|entry| entry.expect("the folder is readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "csv"))
        .collect();
    files.sort();
    let samples: Vec<Sample> =
        files.iter().flat_map(|file| samples_csv::read(file).expect("the bundled samples are sound")).collect();
    let report = fitted(&samples, Settings::default());
    assert!(report.unfitted.is_empty(), "{:?}", report.unfitted);
    for family in &report.families {
        assert_physical(&family.model);
        let model = &family.model;
        let names: Vec<_> = model.energy.iter().map(|term| term.feature.name()).collect();
        let cv = (model.energy_quality.cv_mape, model.runtime_quality.cv_mape);
        eprintln!("{}: {names:?} CV {cv:.3?} {:?}", model.key, family.notes);
    }
    let models = report.models();
    let text = models_json::write(&models, &[]);
    eprintln!("{} families, models.json {} KiB", models.len(), text.len() / 1024);
    let read = models_json::parse(text.as_bytes(), Path::new("models.json")).expect("what fit writes is sound");
    assert_eq!(read.len(), models.len());
}

/// Fitted on the sweeps of one system, tested on its grid.
#[test]
fn sweeps_predict_the_grid() {
    let (Some(sweeps), Some(path)) =
        (reference("energy/wilkins/sweeps_heterogeneous.csv"), reference("energy/wilkins/grid_a100.csv"))
    else {
        return;
    };
    let map = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/maps/wilkins_sweeps.toml");
    let samples = csv_map::import(&map, &[sweeps]).expect("the sweeps are readable");
    let report = fitted(&samples, Settings::default());
    let evaluation = evaluate(&report.models(), &grid(&path), &[]);
    for group in &evaluation.groups {
        let (energy, runtime) = (group.energy_mape.expect("energies"), group.runtime_mape.expect("runtimes"));
        eprintln!("sweeps -> grid: {} energy {energy:.4} runtime {runtime:.4}", group.family.model);
        assert!(energy <= 0.06 && runtime <= 0.08);
    }
    assert_eq!(evaluation.groups.len(), 1, "{:?}", evaluation.without_model);
}

/// The V100 clock sweeps (both phases mixed in four length classes, prefill alone, decode alone): each interior clock left
/// out and predicted from the others. Errors are of cells, the trials of one length class at one clock.
#[test]
fn a_left_out_clock_is_predicted_from_its_neighbours() {
    for (name, file) in [
        ("v100_clock_sweep.toml", "log_freq/workload_tpj_freq_raw.csv"),
        ("v100_prefill_sweep.toml", "sweet_spot_prefill_summary.csv"),
        ("v100_decode_sweep.toml", "sweet_spot_decode_summary.csv"),
    ] {
        let Some(path) = reference(&format!("energy/v100_dvfs/{file}")) else { return };
        let map = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/maps").join(name);
        let samples = csv_map::import(&map, &[path]).expect("the clock sweep is readable");
        let clocks: BTreeSet<u32> = samples.iter().filter_map(|sample| sample.sm_clock_mhz).collect();
        assert_eq!(clocks.len(), 12);
        let (mut energy, mut runtime) = (Vec::new(), Vec::new());
        for &clock in clocks.iter().skip(1).take(10) {
            let (test, train): (Vec<Sample>, Vec<Sample>) =
                samples.iter().cloned().partition(|sample| sample.sm_clock_mhz == Some(clock));
            let models = fitted(&train, Settings::default()).models();
            let mut cells: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
            for sample in test {
                cells.entry(format!("{:?}", sample.tokens)).or_default().push(sample);
            }
            for cell in cells.values() {
                let evaluation = evaluate(&models, cell, &[]);
                assert_eq!(evaluation.unpredictable, 0);
                energy.push(evaluation.groups[0].energy_mape.expect("energies"));
                runtime.push(evaluation.groups[0].runtime_mape.expect("runtimes"));
            }
        }
        for (target, errors) in [("energy", energy), ("runtime", runtime)] {
            let mean = errors.iter().sum::<f64>() / errors.len() as f64;
            let most = errors.iter().copied().fold(0.0, f64::max);
            eprintln!("{name}, {} cells at left-out clocks: {target} mean {mean:.4}, largest {most:.4}", errors.len());
            assert!(mean <= 0.03 && most <= 0.06, "{name}: {target} mean {mean}, largest {most}");
        }
    }
}

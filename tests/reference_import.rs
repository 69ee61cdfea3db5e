//! The bundled samples, made again from the reference data, are the bundled samples.
//!
//! `JOULEPLAN_REFERENCE_DATA` names the folder of the published data sets; without it these tests say that they skipped.
//! `JOULEPLAN_BLESS=1` rewrites `profiles/samples` instead of comparing. How A100 figures are carried over to the newer
//! engine is written here, in `carried`, and explained in profiles/README.md.

use std::path::{Path, PathBuf};

use jouleplan::domain::features::BatchCurve;
use jouleplan::domain::{DeviceType, Measurement, Moments, Provenance, Sample};
use jouleplan::formats::{csv_map, devices_toml, engines_toml, mlenergy, samples_csv};
use jouleplan::units::{Joules, Seconds};

const CHAT_V3: &str = "mlenergy_v3/lm-arena-chat";
/// Models measured on the A100 in generation 2 and on the H100 in both, by their names in 2 and 3.
const CARRIED: [(&str, &str); 2] = [
    ("meta-llama/Meta-Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
    ("meta-llama/Meta-Llama-3.1-70B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"),
];

fn reference() -> Option<PathBuf> {
    let folder = std::env::var_os("JOULEPLAN_REFERENCE_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("SKIPPED: JOULEPLAN_REFERENCE_DATA is not set, so nothing is compared with the published data");
    }
    folder
}

fn bundled(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/samples").join(name)
}

fn map(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/maps").join(name)
}

fn chat_v3(folder: &Path) -> Vec<Sample> {
    let all = mlenergy::import(&[folder.join("energy/mlenergy_v3/public/data")]).expect("generation 3 imports");
    assert_eq!(all.len(), 838, "every configuration once, though models/ and tasks/ both hold it");
    all.into_iter().filter(|sample| sample.data_set.as_deref() == Some(CHAT_V3)).collect()
}

fn chat_v2(folder: &Path) -> Vec<Sample> {
    let path = folder.join("energy/mlenergy_v2/data/llm_text_generation");
    let all = mlenergy::import(&[path]).expect("generation 2 imports");
    all.into_iter()
        .filter(|sample| sample.data_set.as_deref() == Some("mlenergy_v2/chat"))
        .filter(|sample| CARRIED.iter().any(|(old, _)| sample.model == *old))
        .collect()
}

/// Compares with the bundled file, byte by byte, or writes it.
fn same_as_bundled(name: &str, samples: &[Sample]) {
    let mut text = Vec::new();
    samples_csv::write(&mut text, samples).expect("memory takes it");
    if std::env::var_os("JOULEPLAN_BLESS").is_some() {
        std::fs::write(bundled(name), &text).expect("the bundled file can be written");
    }
    let bundled = std::fs::read(bundled(name)).expect("the bundled file is there");
    assert!(bundled == text, "profiles/samples/{name} is not what the import gives; JOULEPLAN_BLESS=1 rewrites it");
}

#[test]
fn the_bundled_samples_are_what_the_import_gives() {
    let Some(folder) = reference() else { return };
    let (v3, v2) = (chat_v3(&folder), chat_v2(&folder));
    same_as_bundled("h100_b200_chat_mlenergy_v3.csv", &v3);
    same_as_bundled("a100_chat_mlenergy_v2.csv", &v2);
    same_as_bundled("a100_chat_carried.csv", &carried(&v3, &v2));
}

/// A figure per output token over the batch, of one model on one device in one generation.
fn curve(samples: &[Sample], model: &str, device: &str, figure: impl Fn(&Sample) -> f64) -> BatchCurve {
    let of_model = samples.iter().filter(|sample| sample.model == model && sample.device == device);
    let mut points: Vec<(f64, f64)> =
        of_model.map(|sample| (sample.batch_size, figure(sample) / sample.tokens.output)).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    BatchCurve { points }
}

fn joules(sample: &Sample) -> f64 {
    sample.gpu_energy.expect("imported").0
}

fn seconds(sample: &Sample) -> f64 {
    sample.runtime.expect("imported").0
}

/// A100 rows of generation 2 times the H100's ratio of generation 3 to 2, at the nearest batch that both measured. Two
/// bounds of the hardware then hold: the A100 is no nearer to its memory bandwidth than the H100 is on the newer engine
/// (of 16-bit arithmetic it has still less), time beyond the ratio costing idle power; and no device exceeds its TDP.
fn carried(v3: &[Sample], v2: &[Sample]) -> Vec<Sample> {
    let table = devices_toml::builtin();
    let device = |name: &str| -> &DeviceType { devices_toml::resolve(&table, name).expect("in the table") };
    let (a100, h100) = (device("A100"), device("H100"));
    let mut rows = Vec::new();
    for (old, new) in CARRIED {
        let [energy_3, energy_2] = [(v3, new), (v2, old)].map(|(samples, model)| curve(samples, model, "H100", joules));
        let [time_3, time_2] = [(v3, new), (v2, old)].map(|(samples, model)| curve(samples, model, "H100", seconds));
        let range = |curve: &BatchCurve| (curve.points[0].0, curve.points[curve.points.len() - 1].0);
        let ((first_3, last_3), (first_2, last_2)) = (range(&time_3), range(&time_2));
        let on_h100: Vec<&Sample> = v3.iter().filter(|sample| sample.model == new && sample.device == "H100").collect();
        for sample in v2.iter().filter(|sample| sample.model == old && sample.device == "A100") {
            let batch = sample.batch_size.clamp(first_3.max(first_2), last_3.min(last_2));
            let nearest = on_h100
                .iter()
                .min_by(|a, b| (a.batch_size - batch).abs().total_cmp(&(b.batch_size - batch).abs()))
                .expect("the model is there");
            let devices = f64::from(sample.devices);
            let by_ratio = seconds(sample) / sample.tokens.output * time_3.at(batch) / time_2.at(batch);
            let energy = joules(sample) / sample.tokens.output * energy_3.at(batch) / energy_2.at(batch);
            let bandwidths = h100.memory_bandwidth * f64::from(nearest.devices) / (a100.memory_bandwidth * devices);
            let by_bandwidth = time_3.at(sample.batch_size.clamp(first_3, last_3)) * bandwidths;
            let slower = by_ratio.max(by_bandwidth);
            let energy = energy + (slower - by_ratio) * a100.idle_power.value.0 * devices;
            let time = slower.max(energy / (a100.tdp.0 * devices));
            let output = nearest.tokens.output;
            rows.push(Sample {
                model: new.into(),
                tokens: Moments { output, output_sq: nearest.tokens.output_sq, ..sample.tokens },
                runtime: Some(Seconds(rounded(time * output))),
                gpu_energy: Some(Joules(rounded(energy * output))),
                output_throughput_tok_s: Some(rounded(1.0 / time)),
                data_set: Some("mlenergy_v3-carried/lm-arena-chat".into()),
                provenance: Provenance::Estimated,
                source: Some("profiles/README.md, carried over".into()),
                ..sample.clone()
            });
        }
    }
    rows
}

/// To seven digits: it is an estimate, and the last bits of a logarithm differ between platforms.
fn rounded(value: f64) -> f64 {
    format!("{value:.6e}").parse().expect("its own output")
}

#[test]
fn carried_rows_stay_within_the_hardware() {
    let samples = samples_csv::read(&bundled("a100_chat_carried.csv")).expect("sound");
    assert!(samples.iter().map(|sample| &sample.model).collect::<std::collections::BTreeSet<_>>().len() >= 2);
    for sample in &samples {
        let power = joules(sample) / seconds(sample) / f64::from(sample.devices);
        assert!(power > 52.0 && power < 400.1, "{power} W at batch {}", sample.batch_size);
        assert_eq!(sample.provenance, Provenance::Estimated);
        assert_eq!(sample.family().engine, "vllm@mlenergy_v3-carried");
    }
}

#[test]
fn ten_models_are_bundled_on_both_h100_and_b200_as_measured() {
    let samples = samples_csv::read(&bundled("h100_b200_chat_mlenergy_v3.csv")).expect("sound");
    let on = |device: &str| -> std::collections::BTreeSet<&str> {
        samples.iter().filter(|sample| sample.device == device).map(|sample| sample.model.as_str()).collect()
    };
    assert!(on("H100").intersection(&on("B200")).count() >= 10);
    // By hand from the source: Llama-3.1-8B on one H100 at cap 256 takes 0.0766 J a token at 9,010 tokens a second.
    let row = samples
        .iter()
        .find(|s| s.model.ends_with("Llama-3.1-8B-Instruct") && s.device == "H100" && s.max_num_seqs == Some(256))
        .expect("there");
    assert!((joules(row) / row.tokens.output - 0.0766).abs() < 5e-5);
    assert!((row.tokens.output / seconds(row) - 9010.0).abs() < 5.0);
    assert!(row.tokens.output_sq.is_some_and(|square| square > row.tokens.output * row.tokens.output));
    assert!(
        samples.iter().all(|sample| sample.measurement == Measurement::SteadyState && sample.tokens.input.is_none())
    );
}

#[test]
fn every_bundled_row_has_a_device_and_an_engine() {
    let (devices, engines) = (devices_toml::builtin(), engines_toml::builtin());
    let folder = std::fs::read_dir(bundled("")).expect("profiles/samples is there");
    let mut files = 0;
    for file in folder {
        files += 1;
        for sample in samples_csv::read(&file.expect("readable").path()).expect("sound") {
            let Sample { model, precision, device, .. } = &sample;
            let known = devices_toml::resolve(&devices, device).expect("a device of the table");
            assert_eq!(&known.name, device, "samples use the table's own name");
            assert!(engines_toml::find(&engines, model, precision).is_some(), "{model} in {precision}");
        }
    }
    assert_eq!(files, 5);
}

#[test]
fn the_cpu_estimate_is_marked_and_complete() {
    let samples = samples_csv::read(&bundled("cpu_estimated.csv")).expect("sound");
    for sample in &samples {
        assert_eq!((sample.provenance, sample.device.as_str()), (Provenance::Estimated, "Xeon-8480+"));
        assert!(sample.gpu_energy.is_none() && sample.cpu_energy.is_some() && sample.tokens.input_sq.is_some());
    }
    let table = devices_toml::builtin();
    assert!(devices_toml::resolve(&table, "Xeon-8480+").is_some());
}

#[test]
fn the_maps_read_the_wilkins_data_into_common_families() {
    let Some(folder) = reference() else { return };
    let grid = csv_map::import(&map("wilkins_grid.toml"), &[folder.join("energy/wilkins/grid_a100.csv")])
        .expect("the grid imports");
    let path = folder.join("energy/wilkins/sweeps_heterogeneous.csv");
    let sweeps = csv_map::import(&map("wilkins_sweeps.toml"), &[path]).expect("the sweeps import");
    assert_eq!((grid.len(), sweeps.len()), (318, 192 + 237 + 351));
    assert!(grid.iter().chain(&sweeps).all(|sample| !sample.kv_cache && sample.batch_size == 1.0));
    let cell = grid
        .iter()
        .find(|s| s.model == "meta-llama/Llama-2-7b-chat-hf" && s.tokens == Moments::constant(2134.0, 8.0))
        .expect("the cell of 2,048 x 8");
    assert!((joules(cell) - 623.0).abs() < 1.0, "data/README names 623 J");
    let swing: Vec<&Sample> = sweeps.iter().filter(|sample| sample.node.as_deref() == Some("swing")).collect();
    assert_eq!(swing.len(), 237);
    assert!(swing.iter().all(|sample| sample.family() == cell.family()), "fitted on sweeps, evaluated on the grid");
    assert!(sweeps.iter().any(|sample| sample.family() != cell.family() && sample.device == "A100"), "the other host");
    // Equal lengths, equal cost: the sweep of 9 in, 32 out repeats a cell of the grid within 2 %.
    let both: Vec<&Sample> = grid
        .iter()
        .filter(|sample| sample.family() == cell.family())
        .chain(swing.iter().copied())
        .filter(|sample| sample.tokens == Moments::constant(9.0, 32.0) && !sample.warmup)
        .collect();
    assert!(both.len() > 2);
    assert!(both.iter().all(|sample| (joules(sample) / joules(both[0]) - 1.0).abs() < 0.02));
    let warmups = sweeps.iter().filter(|sample| sample.warmup);
    assert!(warmups.clone().count() > 0 && warmups.clone().all(|sample| sample.trial == Some(0)));
}

#[test]
fn the_map_reads_the_clock_sweep_with_its_clocks() {
    let Some(folder) = reference() else { return };
    let path = folder.join("energy/v100_dvfs/log_freq/workload_tpj_freq_raw.csv");
    let samples = csv_map::import(&map("v100_clock_sweep.toml"), &[path]).expect("the clock sweep imports");
    assert_eq!(samples.len(), 144);
    let clocks: std::collections::BTreeSet<_> = samples.iter().filter_map(|sample| sample.sm_clock_mhz).collect();
    assert_eq!((clocks.len(), clocks.first().copied(), clocks.last().copied()), (12, Some(750), Some(1300)));
    let first = &samples[0];
    assert_eq!((joules(first), seconds(first), first.tokens), (184.5642, 2.13, Moments::constant(65.0, 64.0)));
}

//! The grid of the offline-serving paper (arXiv 2407.04014) where nobody measured: longer requests than were fitted, from
//! every length on, and trials that do not belong. Needs the folder that `JOULEPLAN_REFERENCE_DATA` names; skips loudly
//! without it.

mod reference_data;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jouleplan::domain::Sample;
use jouleplan::fit::outliers::OutlierKind;
use jouleplan::fit::{Evaluation, Settings, evaluate};
use jouleplan::stats::k_folds;
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;
use reference_data::{fitted, grid, reference};

fn measured() -> Option<Vec<Sample>> {
    let path: PathBuf = reference("energy/wilkins/grid_a100.csv")?;
    Some(grid(&path))
}

/// The longer side of a cell, as the grid names it: counts are off by a few percent.
fn length(sample: &Sample) -> f64 {
    sample.tokens.input.unwrap_or(0.0).max(sample.tokens.output).log2().round().exp2()
}

fn tested(train: &[Sample], test: &[Sample]) -> Evaluation {
    evaluate(&fitted(train, Settings::default()).models(), test, &[])
}

/// Mean relative errors of energy and runtime by model.
fn errors(evaluation: &Evaluation) -> BTreeMap<&str, (f64, f64)> {
    let groups = evaluation.groups.iter();
    groups
        .map(|group| {
            let (energy, runtime) = (group.energy_mape.expect("energies"), group.runtime_mape.expect("runtimes"));
            (group.family.model.as_str(), (energy, runtime))
        })
        .collect()
}

/// Cells up to a length fitted, the next doubling predicted: the last step is what planners meet, the shorter ones show
/// that it is no luck.
#[test]
fn the_next_doubling_is_predicted_from_every_length() {
    let Some(samples) = measured() else { return };
    let mut all = Vec::new();
    for longest in [128.0, 256.0, 512.0, 1024.0] {
        let train: Vec<Sample> = samples.iter().filter(|s| length(s) <= longest).cloned().collect();
        let test: Vec<Sample> = samples.iter().filter(|s| length(s) == 2.0 * longest).cloned().collect();
        for (model, (energy, runtime)) in errors(&tested(&train, &test)) {
            eprintln!("fitted to {longest} tokens, {} predicted: {model} {energy:.4} {runtime:.4}", 2.0 * longest);
            assert!(longest < 1024.0 || (energy <= 0.10 && runtime <= 0.10), "{model}: {energy} {runtime}");
            all.push((energy, runtime));
        }
    }
    assert_eq!(all.len(), 16);
    let mean = |pick: fn(&(f64, f64)) -> f64| all.iter().map(pick).sum::<f64>() / all.len() as f64;
    eprintln!("fitted to each length in turn: mean energy {:.4}, runtime {:.4}", mean(|e| e.0), mean(|e| e.1));
    assert!(mean(|e| e.0) <= 0.07 && mean(|e| e.1) <= 0.07);
    assert!(all.iter().all(|(energy, runtime)| energy.max(*runtime) <= 0.20));
}

/// Form and outliers chosen inside each fold; every cell counts but the marked warm-ups.
#[test]
fn nested_cross_validation_holds() {
    let Some(samples) = measured() else { return };
    let samples: Vec<Sample> = samples.into_iter().filter(|sample| !sample.warmup).collect();
    let mut sums: BTreeMap<String, (f64, f64, f64)> = BTreeMap::new();
    for seed in 0..3 {
        for fold in k_folds(samples.len(), 5, seed) {
            let (test, train): (Vec<_>, Vec<_>) =
                samples.iter().cloned().enumerate().partition(|(index, _)| fold.contains(index));
            let bare = |rows: Vec<(usize, Sample)>| rows.into_iter().map(|(_, sample)| sample).collect::<Vec<_>>();
            for group in tested(&bare(train), &bare(test)).groups {
                let (energy, runtime) = (group.energy_mape.expect("energies"), group.runtime_mape.expect("runtimes"));
                let cells = group.samples as f64;
                let sum = sums.entry(group.family.model).or_default();
                *sum = (sum.0 + energy * cells, sum.1 + runtime * cells, sum.2 + cells);
            }
        }
    }
    assert_eq!(sums.len(), 4);
    for (model, (energy, runtime, cells)) in sums {
        let (energy, runtime) = (energy / cells, runtime / cells);
        eprintln!("nested CV MAPE: {model} energy {energy:.4}, runtime {runtime:.4}");
        assert!(energy <= 0.05 && runtime <= 0.06, "{model}: {energy} {runtime}");
    }
}

/// The first trial of each model is a cold start. Nothing marks them here.
#[test]
fn cold_starts_are_found_unaided() {
    let Some(samples) = measured() else { return };
    let unmarked: Vec<Sample> = samples.iter().cloned().map(|sample| Sample { warmup: false, ..sample }).collect();
    let report = fitted(&unmarked, Settings::default());
    let outliers: Vec<_> = report.families.iter().flat_map(|family| &family.outliers).collect();
    for outlier in &outliers {
        let marked = samples[outlier.sample].warmup;
        eprintln!("outlier (marked: {marked}) {} {outlier:?}", samples[outlier.sample].model);
        assert!(!marked || outlier.kind == OutlierKind::ColdStart);
    }
    let marked = samples.iter().filter(|sample| sample.warmup).count();
    let found = outliers.iter().filter(|outlier| samples[outlier.sample].warmup).count();
    eprintln!("outliers: {found} of {marked} marked, {} others of {}", outliers.len() - found, samples.len() - marked);
    assert_eq!((found, marked), (4, 4));
    assert!(outliers.len() - found <= samples.len() / 50);
}

/// One trial in twenty stalls (twice to five times the time, at full or at idle power) or is misread; the first is cold.
#[test]
fn planted_outliers_do_not_move_the_fit() {
    let Some(samples) = measured() else { return };
    let clean: Vec<Sample> = samples.into_iter().filter(|sample| !sample.warmup).collect();
    let reference = tested(&clean, &clean);
    let reference = errors(&reference);
    let (mut planted, mut found) = (0, 0);
    for seed in 0..8 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut bad = clean.clone();
        let mut chosen = rand::seq::index::sample(&mut random, clean.len(), clean.len() / 20).into_vec();
        chosen.push(0);
        for &index in &chosen {
            let factor = random.random_range(2.0..5.0);
            let sample = &mut bad[index];
            let (energy, runtime) = (sample.gpu_energy.expect("energies"), sample.runtime.expect("runtimes"));
            match random.random_range(0..4) {
                0 => sample.gpu_energy = Some(energy * factor),
                1 => sample.gpu_energy = Some(energy * (1.0 / factor)),
                2 => (sample.gpu_energy, sample.runtime) = (Some(energy * factor), Some(runtime * factor)),
                _ => {
                    (sample.gpu_energy, sample.runtime) = (Some(energy * (0.5 + factor / 2.0)), Some(runtime * factor))
                }
            }
        }
        let report = fitted(&bad, Settings::default());
        let listed: Vec<usize> =
            report.families.iter().flat_map(|family| &family.outliers).map(|outlier| outlier.sample).collect();
        chosen.sort_unstable();
        chosen.dedup();
        planted += chosen.len();
        found += chosen.iter().filter(|index| listed.contains(index)).count();
        for (model, (energy, runtime)) in errors(&evaluate(&report.models(), &clean, &[])) {
            let (before, seconds_before) = reference[model];
            eprintln!("contaminated {seed}: {model} {before:.4} -> {energy:.4}, {seconds_before:.4} -> {runtime:.4}");
            assert!(energy <= before + 0.01 && runtime <= seconds_before + 0.01, "{seed} {model}");
        }
    }
    eprintln!("outliers found: {found} of {planted} planted");
    assert!(found as f64 >= 0.95 * planted as f64);
}

//! Cells that `suggest` names, against random ones and the corners, on the grid of the offline-serving paper (arXiv
//! 2407.04014). Needs the folder that `JOULEPLAN_REFERENCE_DATA` names; skips loudly without it.

mod reference_data;

use std::collections::BTreeMap;

use jouleplan::domain::Sample;
use jouleplan::fit::suggest::{Cell, suggest};
use jouleplan::fit::{Context, Settings, evaluate, fit};
use jouleplan::formats::devices_toml;
use jouleplan::stats::{k_folds, mean, quantile};
use reference_data::{grid, reference};

/// Mean of the energy and runtime errors on the cells not chosen.
fn held_out_error(samples: &[Sample], chosen: &[usize]) -> f64 {
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (index, sample) in samples.iter().enumerate() {
        if chosen.contains(&index) { train.push(sample.clone()) } else { test.push(sample.clone()) }
    }
    let devices = devices_toml::builtin();
    let models = fit(
        &train,
        &Context { engines: &[], devices: &devices, data_sets: &[], assumed_power: &[] },
        &Settings::default(),
    )
    .models();
    let group = evaluate(&models, &test, &[]).groups.remove(0);
    0.5 * (group.energy_mape.expect("energies") + group.runtime_mape.expect("runtimes"))
}

#[test]
fn suggested_cells_beat_random_ones() {
    let Some(samples) = reference("energy/wilkins/grid_a100.csv").map(|path| grid(&path)) else { return };
    let mut models: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    for sample in samples.into_iter().filter(|sample| !sample.warmup) {
        models.entry(sample.model.clone()).or_default().push(sample);
    }
    let (mut ratios, mut by_hand) = (Vec::new(), Vec::new());
    for (model, rows) in models {
        let cells: Vec<Cell> = rows
            .iter()
            .map(|row| Cell {
                input_tokens: row.tokens.input.expect("recorded"),
                output_tokens: row.tokens.output,
                batch_size: 1.0,
            })
            .collect();
        let chosen = suggest(&cells, &[], rows[0].kv_cache, 9);
        let shown: Vec<_> = chosen.iter().map(|&k| (cells[k].input_tokens, cells[k].output_tokens)).collect();
        let suggested = held_out_error(&rows, &chosen);
        let random: Vec<f64> = (0..50)
            .map(|seed| {
                let order: Vec<usize> = k_folds(rows.len(), 1, seed).remove(0);
                held_out_error(&rows, &order[..9])
            })
            .collect();
        let marks = [8.0, 128.0, 2048.0];
        let near = |value: f64| marks.iter().any(|mark: &f64| (value / mark).ln().abs() < 0.25);
        let corners: Vec<usize> =
            (0..cells.len()).filter(|&k| near(cells[k].input_tokens) && near(cells[k].output_tokens)).collect();
        let median = quantile(&random, 0.5).expect("fifty");
        let hand_chosen = held_out_error(&rows, &corners);
        eprintln!(
            "{model}: suggested {suggested:.4} {shown:?}, random median {median:.4} best decile {:.4}, {} cells by hand \
             {hand_chosen:.4}",
            quantile(&random, 0.1).expect("fifty"),
            corners.len(),
        );
        ratios.push(suggested / median);
        by_hand.push(suggested / hand_chosen);
    }
    assert_eq!(ratios.len(), 4);
    let (ratio, to_hand) = (mean(&ratios).expect("four"), mean(&by_hand).expect("four"));
    eprintln!("suggested over median random: {ratio:.3}, each {ratios:.3?}; over cells by hand {to_hand:.3}");
    assert!(ratio <= 0.95 && ratios.iter().all(|ratio| *ratio <= 1.1) && to_hand <= 1.0);
}

//! Estimated prompt times against measured ones (the profile of Splitwise, arXiv 2311.18677: Llama-2-70B and BLOOM-176B
//! on A100 and H100). Needs the folder that `JOULEPLAN_REFERENCE_DATA` names; skips loudly without it.

mod reference_data;

use std::collections::BTreeMap;

use jouleplan::domain::{Architecture, Engine};
use jouleplan::fit::hardware::Machine;
use jouleplan::formats::{devices_toml, engines_toml};
use jouleplan::stats::{mean, quantile};
use reference_data::reference;

/// Model, device, tensor-parallel degree.
type Configuration = (String, String, u32);

/// Median seconds by prompt tokens and batch.
type Times = BTreeMap<(u32, u32), f64>;

/// The whole table at full power. Two cells (Llama-2-70B on two devices, 64 prompts of 512 tokens) took an eighth of the
/// time that the devices' peak allows: not that work.
fn table() -> Option<BTreeMap<Configuration, Times>> {
    let path = reference("energy/splitwise/data/perf_model.csv")?;
    let mut trials: BTreeMap<Configuration, BTreeMap<(u32, u32), Vec<f64>>> = BTreeMap::new();
    for row in csv::Reader::from_path(path).expect("the table is readable").deserialize() {
        let row: BTreeMap<String, String> = row.expect("rows are complete");
        let whole = |name: &str| row[name].parse::<f64>().expect("a number") as u32;
        let device = match row["hardware"].as_str() {
            "a100-80gb" => "A100-80GB",
            "h100-80gb" => "H100",
            _ => continue,
        };
        let configuration = (row["model"].clone(), device.to_owned(), whole("tensor_parallel"));
        let cell = (whole("prompt_size"), whole("batch_size"));
        let seconds = row["prompt_time"].parse::<f64>().expect("a number") / 1e3;
        trials.entry(configuration).or_default().entry(cell).or_default().push(seconds);
    }
    let medians = trials.into_iter().map(|(configuration, cells)| {
        let cells = cells.into_iter().map(|(cell, times)| (cell, quantile(&times, 0.5).expect("a trial")));
        let possible = cells.filter(|(cell, _)| configuration.2 > 2 || *cell != (512, 64)).collect();
        (configuration, possible)
    });
    Some(medians.collect())
}

fn engine(model: &str) -> Engine {
    let known = engines_toml::builtin();
    let llama = known.iter().find(|engine| engine.model.contains("Llama-3.1-70B")).expect("a bundled engine").clone();
    let (layers, heads, parameters) = if model == "llama2-70b" { (80, 64, 68.98e9) } else { (70, 112, 176.25e9) };
    let architecture = Architecture {
        layers,
        attention_heads: heads,
        kv_heads: 8,
        head_dimension: 128,
        parameters,
        active_parameters: parameters,
        ..llama.architecture.clone()
    };
    Engine { architecture, ..llama }
}

/// Low, central and high seconds of one prompt.
fn estimate((model, device, devices): &Configuration, prompt: u32) -> [f64; 3] {
    let (table, engine) = (devices_toml::builtin(), engine(model));
    let device = devices_toml::resolve(&table, device);
    let machine = Machine { device, engine: Some(&engine), precision: "float16", devices: *devices };
    let terms = machine.prefill().expect("device and architecture are known");
    let sum = |pick: fn(&jouleplan::fit::hardware::Range) -> f64| {
        terms.iter().map(|term| pick(&term.seconds) * term.feature.value(f64::from(prompt), 0.0, 1.0)).sum()
    };
    [sum(|range| range.low), sum(|range| range.value), sum(|range| range.high)]
}

/// What a configuration's estimate has to be multiplied by if its own calibration were unknown: Llama-2-70B's shares of
/// peak at other degrees on the same device, straight in the logarithm of the degree. BLOOM never calibrated anything.
fn without_itself(configuration: &Configuration, table: &BTreeMap<Configuration, Times>) -> f64 {
    let (model, device, degree) = configuration;
    if model != "llama2-70b" {
        return 1.0;
    }
    // Per device; only ratios matter.
    let speed = |degree: u32| {
        let of = (model.clone(), device.clone(), degree);
        (f64::from(degree).log2(), 1.0 / (f64::from(degree) * table[&of][&(2048, 1)]))
    };
    let others: Vec<(f64, f64)> = [2, 4, 8].into_iter().filter(|other| other != degree).map(speed).collect();
    let ((x0, y0), (x1, y1)) = (others[0], others[1]);
    let (x, own) = speed(*degree);
    own / (y0 + (y1 - y0) / (x1 - x0) * (x - x0))
}

#[test]
fn prompt_times_of_other_configurations_are_estimated_within_their_range() {
    let Some(table) = table() else { return };
    assert_eq!(table.len(), 8);
    let (mut errors, mut covered, mut short) = (Vec::new(), Vec::new(), Vec::new());
    let mut calibrated = Vec::new();
    for (configuration, times) in &table {
        let factor = without_itself(configuration, &table);
        let mut own = Vec::new();
        for (&(prompt, batch), &measured) in times {
            let [low, value, high] = estimate(configuration, prompt).map(|seconds| seconds * f64::from(batch));
            let error = (value * factor / measured - 1.0).abs();
            if prompt * batch < 512 {
                short.push(error);
                continue;
            }
            calibrated.push((value / measured - 1.0).abs());
            own.push(error);
            covered.push(f64::from(u8::from(low * factor <= measured && measured <= high * factor)));
        }
        eprintln!("prefill, left out: {configuration:?} mean error {:.3}", mean(&own).expect("cells"));
        errors.extend(own);
    }
    let of = |values: &[f64]| (mean(values).expect("cells"), quantile(values, 0.5).expect("cells"), values.len());
    eprintln!("prefill from 512 tokens: left out {:.3?}, calibrated {:.3?}", of(&errors), of(&calibrated));
    eprintln!("prefill below 512 tokens: left out {:.3?}", of(&short));
    let coverage = mean(&covered).expect("cells");
    eprintln!("prefill range, itself calibrated on this table: holds {coverage:.3} of the cells");
    assert!(of(&errors).0 <= 0.20 && of(&calibrated).0 <= 0.18);
    assert!((0.85..=0.95).contains(&coverage), "{coverage}");
}

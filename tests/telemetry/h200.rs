//! Recordings of a real board agree with each other: counter, integrated power, and what nvidia-smi logged meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use jouleplan::domain::{Reading, Trace};
use jouleplan::formats::trace_builder::Assumed;
use jouleplan::formats::{nvidia_smi, telemetry_csv, timestamp};
use jouleplan::telemetry::energy::{gap_limit, totals};
use jouleplan::units::Seconds;
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/h200").join(name)
}

fn only_channel(trace: Trace) -> Vec<Reading> {
    assert_eq!(trace.channels.len(), 1);
    trace.channels.into_values().next().unwrap()
}

#[test]
fn counter_and_powers_agree_within_two_percent() {
    let text = fs::read_to_string(fixture("meter.json")).unwrap();
    let meter: Value = serde_json::from_str(&text).unwrap();
    let energy = |index: usize| meter["meters"][index]["energy_j"].as_f64().unwrap();
    let (counter, integrated) = (energy(0), energy(1));
    assert!((integrated / counter - 1.0).abs() < 0.02, "{counter} {integrated}");
    assert!(meter["seconds"].as_f64().unwrap() > 50.0);

    let path = fixture("nvidia_smi.csv");
    let imported = nvidia_smi::parse(&fs::read_to_string(&path).unwrap(), &path, &Assumed::default()).unwrap();
    let readings = only_channel(imported.trace);
    let start = timestamp::parse(meter["started_at"].as_str().unwrap(), 0).unwrap();
    let length = meter["seconds"].as_f64().unwrap();
    let during: Vec<Reading> =
        readings.iter().filter(|reading| (0.0..=length).contains(&reading.at.since(start).0)).cloned().collect();
    let totals = totals(&during, gap_limit(&during));
    // The log's first and last reading lie inside the region: scaled to its length.
    let logged = totals.mean_power.unwrap().0 * length;
    assert!((logged / counter - 1.0).abs() < 0.02, "{counter} {logged}");
    assert!(totals.gaps.is_empty());
}

#[test]
fn a_board_draws_more_once_a_process_waits_on_it_and_more_again_at_work() {
    let readings = only_channel(telemetry_csv::read(&fixture("telemetry.csv")).unwrap().trace);
    let limit = gap_limit(&readings);
    assert!(limit >= Seconds(0.2) && totals(&readings, limit).gaps.is_empty());
    let mut phases: BTreeMap<&str, Vec<Reading>> = BTreeMap::new();
    for reading in &readings {
        phases.entry(reading.phase.as_deref().unwrap_or("")).or_default().push(reading.clone());
    }
    let power = |phase: &str| totals(&phases[phase], limit).mean_power.unwrap().0;
    let order = ["idle", "weights waiting", "bursts", "memory reads", "arithmetic"];
    assert!(order.windows(2).all(|pair| power(pair[0]) < 0.9 * power(pair[1])));
    assert!(power("idle") > 70.0 && power("arithmetic") < 710.0);
}

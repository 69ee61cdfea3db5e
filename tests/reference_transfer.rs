//! Families of the ML.ENERGY leaderboard held back and estimated from the others. Needs the folder that
//! `JOULEPLAN_REFERENCE_DATA` names; skips loudly without it.

mod reference_data;

use jouleplan::domain::Sample;
use jouleplan::fit::transfer::interval::Unknown;
use jouleplan::fit::transfer::leave_out::{HeldBack, Prediction, leave_family_out};
use jouleplan::fit::{Context, Settings, fit};
use jouleplan::formats::{data_sets_toml, devices_toml, engines_toml, mlenergy};
use jouleplan::stats::{mean, quantile};
use reference_data::reference;

fn samples_of(task: &str) -> Option<Vec<Sample>> {
    let path = reference("energy/mlenergy_v3/public/data")?;
    let mut samples = mlenergy::import(&[path]).expect("the leaderboard is readable");
    samples.retain(|sample| sample.data_set.as_deref() == Some(task));
    Some(samples)
}

fn held_back(samples: &[Sample], unknown: Unknown) -> Vec<HeldBack> {
    let (engines, devices, data_sets) = (engines_toml::builtin(), devices_toml::builtin(), data_sets_toml::builtin());
    let context = Context { engines: &engines, devices: &devices, data_sets: &data_sets, assumed_power: &[] };
    let measured = fit(samples, &context, &Settings::default()).models();
    leave_family_out(samples, &measured, &context, unknown)
}

/// Median error and share covered.
fn score(name: &str, families: &[HeldBack], pick: fn(&HeldBack) -> &Vec<Prediction>) -> (f64, f64) {
    let all: Vec<Prediction> = families.iter().flat_map(|family| pick(family).clone()).collect();
    let errors: Vec<f64> = all.iter().map(Prediction::error).collect();
    let covered: Vec<f64> = all.iter().map(|p| f64::from(u8::from(p.is_covered()))).collect();
    let widths: Vec<f64> = all.iter().map(|p| p.high / p.central).collect();
    let (median, p90) = (quantile(&errors, 0.5).expect("rows"), quantile(&errors, 0.9).expect("rows"));
    let (coverage, width) = (mean(&covered).expect("rows"), quantile(&widths, 0.5).expect("rows"));
    eprintln!(
        "{name}: {} families, {} rows, median error {median:.3}, 90th percentile {p90:.3}, covered {coverage:.3}, high over central {width:.2}",
        families.len(),
        all.len()
    );
    (median, coverage)
}

const KNOWN: Unknown = Unknown { model: false, device: false };
const NEW_MODEL: Unknown = Unknown { model: true, device: false };

type Pick = fn(&HeldBack) -> &Vec<Prediction>;

/// Energy and runtime: the median error stays below `worst`, and 90 % intervals cover 85..95 %.
fn holds(task: &str, unknown: Unknown, name: &str, worst: f64) {
    let Some(samples) = samples_of(task) else { return };
    let families = held_back(&samples, unknown);
    let targets: [(&str, Pick); 2] = [("energy", |family| &family.energy), ("runtime", |family| &family.runtime)];
    let scores = targets.map(|(target, pick)| score(&format!("{name}, {target}"), &families, pick));
    for (median, coverage) in scores {
        assert!(median <= worst, "{median}");
        assert!((0.85..=0.95).contains(&coverage), "{coverage}");
    }
}

#[test]
fn a_model_known_elsewhere_is_estimated_and_its_interval_holds() {
    holds("mlenergy_v3/lm-arena-chat", KNOWN, "known model", 0.12);
}

#[test]
fn a_new_model_is_estimated_and_its_interval_holds() {
    holds("mlenergy_v3/lm-arena-chat", NEW_MODEL, "new model", 0.25);
}

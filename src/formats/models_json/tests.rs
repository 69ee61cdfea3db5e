use super::*;
use crate::domain::{ClockPoint, ClockTable, FamilyKey, Parallel, PhaseFactors, Provenance};

fn model() -> FamilyModel {
    let curve = |points: &[(f64, f64)]| Feature::OutputAtBatch(BatchCurve { points: points.to_vec() });
    let quality = Quality {
        samples: 2,
        r2: Some(0.75),
        r2_uncentred: Some(0.875),
        cv_mape: None,
        error_factors: None,
        negative_predictions: 0,
    };
    FamilyModel {
        key: FamilyKey {
            model: "m".into(),
            precision: "bfloat16".into(),
            device: "H100".into(),
            devices: 2,
            parallel: Parallel::tensor(2),
            kv_cache: true,
            engine: "vllm@x".into(),
        },
        form: Form::Phase,
        energy: vec![
            Term::fitted(curve(&[(8.0, 0.5), (32.0, 0.25)]), 1.0, Provenance::Imported),
            Term::estimated(Feature::Input, 0.125, 0.0625, 0.25),
        ],
        runtime: vec![
            Term::fitted(curve(&[(8.0, 0.00125), (32.0, 0.0005)]), 1.0, Provenance::Imported),
            Term::estimated(Feature::Input, 0.0001, 0.00005, 0.0002),
        ],
        energy_quality: quality,
        runtime_quality: quality,
        support: Box2 { input_tokens: None, output_tokens: Some((1.0, 500.0)), batch_size: Some((8.0, 32.0)) },
        batch_points: vec![
            BatchPoint {
                max_num_seqs: 8,
                batch_size: 8.0,
                ttft_p99: None,
                tbt_p50: Some(Seconds(0.01)),
                tbt_p99: None,
            },
            BatchPoint { max_num_seqs: 32, batch_size: 32.0, ttft_p99: None, tbt_p50: None, tbt_p99: None },
        ],
        clocks: Some(ClockTable {
            default_mhz: Some(1980),
            points: vec![clock(900, 0.75, 1.5, Provenance::Estimated), clock(1980, 1.0, 1.0, Provenance::Imported)],
        }),
        idle_power: Figure::estimated(Watts(140.0)),
        load_time: Figure::estimated(Seconds(60.0)),
        load_power: Figure::estimated(Watts(250.0)),
        weights: Some(Figure::estimated(Bytes(1e10))),
        kv_bytes_per_token: None,
        correction: Some(Correction { net_energy: 1.1, time: 0.9, samples: 3 }),
    }
}

fn clock(sm_clock_mhz: u32, net_energy: f64, time: f64, provenance: Provenance) -> ClockPoint {
    let factors = PhaseFactors { net_energy, time, provenance };
    ClockPoint { sm_clock_mhz, prefill: factors, decode: factors, batch_size: (8.0, 32.0) }
}

fn samples() -> Vec<SampleFile> {
    vec![SampleFile { path: "s.csv".into(), sha256: "00".repeat(32) }]
}

#[test]
fn the_context_beyond_a_length_keeps_its_length() {
    let mut bent = model();
    for terms in [&mut bent.energy, &mut bent.runtime] {
        terms.push(Term::fitted(Feature::ContextAbove(256.0), 1.0, Provenance::Imported));
    }
    bent.energy[2].value = 200.0;
    (bent.energy[2].low, bent.energy[2].high) = (200.0, 200.0);
    let text = write(&[bent.clone()], &samples());
    assert_eq!(parse(text.as_bytes(), Path::new("m.json")).unwrap(), vec![bent]);
    let without = text.replacen("\"above_tokens\": 256.0", "\"standard_error\": 1.0", 1);
    assert!(problems_of(&without).contains("energy_j[2].above_tokens"));
}

fn problems_of(text: &str) -> String {
    parse(text.as_bytes(), Path::new("m.json")).unwrap_err().to_string()
}

#[test]
fn what_is_written_is_read_back() {
    let text = write(&[model()], &samples());
    assert_eq!(parse(text.as_bytes(), Path::new("m.json")).unwrap(), vec![model()]);
    let with_mark = format!("\u{feff}{text}");
    assert!(parse(with_mark.as_bytes(), Path::new("m.json")).is_ok());
}

#[test]
fn errors_and_intervals_are_read_back_and_judged() {
    let mut judged = model();
    judged.runtime[1] = Term {
        standard_error: Some(1e-5),
        interval: Some((0.00008, 0.00012)),
        ..Term::fitted(Feature::Input, 0.0001, Provenance::Imported)
    };
    judged.energy_quality.error_factors = Some((0.875, 1.25));
    let text = write(&[judged.clone()], &samples());
    assert_eq!(parse(text.as_bytes(), Path::new("m.json")).unwrap(), vec![judged.clone()]);
    judged.runtime[1].interval = Some((0.00012, 0.00008));
    judged.energy_quality.error_factors = Some((1.25, 0.875));
    let message = problems_of(&write(&[judged], &samples()));
    for place in ["families[0].runtime_s[1].interval_95[0]", "families[0].energy_quality.error_factors_90[0]"] {
        assert!(message.contains(place), "{place} missing in {message}");
    }
}

#[test]
fn every_wrong_value_is_named_with_its_place() {
    let text = write(&[model()], &samples())
        .replacen("\"max_num_seqs\": 32", "\"max_num_seqs\": 8", 1)
        .replacen("\"devices\": 2", "\"devices\": 0", 1)
        .replacen("\"feature\": \"i\"", "\"feature\": \"j\"", 1)
        .replacen("\"low\": 0.0625", "\"low\": 7.0", 1)
        .replacen("\"provenance\": \"estimated\"", "\"provenance\": \"guessed\"", 1);
    let message = problems_of(&text);
    for place in [
        "families[0].family.devices",
        "families[0].energy_j[1].feature",
        "families[0].energy_j[1].low",
        "families[0].energy_j[1].provenance",
        "families[0].batch_points[1].max_num_seqs",
    ] {
        assert!(message.contains(place), "{place} missing in {message}");
    }
}

#[test]
fn a_clock_table_is_checked_and_may_be_absent() {
    let text = write(&[model()], &samples());
    for (from, to, place) in [
        ("\"default_mhz\": 1980", "\"default_mhz\": 900", "clocks.default_mhz"),
        ("\"sm_clock_mhz\": 1980", "\"sm_clock_mhz\": 800", "clocks.points"),
        ("\"net_energy\": 0.75", "\"net_energy\": 0.0", "clocks.points[0].prefill.net_energy"),
    ] {
        let message = problems_of(&text.replacen(from, to, 1));
        assert!(message.contains(place), "{place} missing in {message}");
    }
    let without = FamilyModel { clocks: None, ..model() };
    let text = write(std::slice::from_ref(&without), &samples());
    assert!(!text.contains("clocks"), "older files have no such key");
    assert_eq!(parse(text.as_bytes(), Path::new("m.json")).unwrap(), vec![without]);
}

#[test]
fn impossible_physics_is_refused() {
    let mut below_idle = model();
    below_idle.energy[1].value = 1e-6;
    below_idle.energy[1].low = 0.0;
    assert!(problems_of(&write(&[below_idle], &samples())).contains("below idle power"));
    let mut negative = model();
    negative.energy[1] = Term::fitted(Feature::Input, -1.0, Provenance::Imported);
    assert!(problems_of(&write(&[negative], &samples())).contains("out of range"));
    let mut huge = model();
    huge.runtime[1].value = 1e300;
    assert!(problems_of(&write(&[huge], &samples())).contains("out of range"));
}

#[test]
fn doubles_truncation_and_other_versions_are_refused() {
    assert!(problems_of(&write(&[model(), model()], &samples())).contains("stands twice"));
    let text = write(&[model()], &samples());
    assert!(problems_of(&text[..text.len() / 2]).contains("line "));
    assert!(problems_of(&text.replacen("\"schema_version\": 1", "\"schema_version\": 9", 1)).contains("version 9"));
    assert!(problems_of("").contains("no models file"));
    assert!(problems_of("{\"schema_version\": 1, \"samples\": [], \"families\": []}").contains("no model"));
}

#[test]
fn a_model_of_times_alone_has_no_energy_and_says_so() {
    let nothing = Quality { samples: 0, r2: None, r2_uncentred: None, ..model().energy_quality };
    let of_times = FamilyModel { energy: Vec::new(), energy_quality: nothing, clocks: None, ..model() };
    let text = write(std::slice::from_ref(&of_times), &[]);
    assert_eq!(parse(text.as_bytes(), Path::new("m.json")).unwrap(), std::slice::from_ref(&of_times));
    let measured = FamilyModel { energy_quality: model().energy_quality, ..of_times };
    let lost = parse(write(&[measured], &[]).as_bytes(), Path::new("m.json")).unwrap_err().to_string();
    assert!(lost.contains("families[0].energy_j: there is no term"), "{lost}");
}

#[test]
fn what_is_missing_has_no_value() {
    let unknown = FamilyModel { idle_power: Figure::new(Watts(0.0), Provenance::Missing), ..model() };
    let text = write(std::slice::from_ref(&unknown), &[]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["families"][0]["idle_power_w"], serde_json::json!({"provenance": "missing"}));
    assert_eq!(parse(text.as_bytes(), Path::new("m.json")).unwrap()[0].idle_power, unknown.idle_power);
    let nameless = text.replacen(r#""provenance": "missing""#, r#""provenance": "measured""#, 1);
    let problems = parse(nameless.as_bytes(), Path::new("m.json")).unwrap_err().to_string();
    assert!(problems.contains("idle_power_w.value") && problems.contains("is absent"), "{problems}");
}

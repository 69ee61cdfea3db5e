//! What `plan` says of its limits: relaxations where there is no plan, prices, frontiers and sensitivity where there is.

use serde_json::Value;

use crate::case::{Case, assert_code, json, stderr, stdout, words, workload};

/// The model that is cheaper on the devices at hand is the less accurate one.
const DEAR_IS_ACCURATE: &str = "model,task,accuracy\nQwen/Qwen3-8B,t,47.6\nmeta-llama/Llama-3.1-8B-Instruct,t,64.3\n";

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn what_is_infeasible_comes_with_relaxations_that_work_and_are_small() {
    let case = Case::new();
    let output = case.plan(&words("--workload w.csv --deadline 20s --json"));
    assert_code(&output, 3);
    let found = json(&output);
    let relaxations = found["relaxations"].as_array().unwrap();
    assert!(!relaxations.is_empty() && relaxations.iter().all(|one| one["verified"] == true), "{relaxations:?}");
    assert!(stderr(&output).contains("each of these alone makes a plan possible"), "{}", stderr(&output));
    assert!(stderr(&output).contains("the deadline of job w"), "{}", stderr(&output));
    let deadline = relaxations.iter().find(|one| one["kind"] == "deadline").unwrap();
    assert_eq!(deadline["unit"], "h");
    let hours = number(&deadline["amount"]);
    let planned = |hours: f64| {
        let seconds = format!("{}ms", (1000.0 * (20.0 + 3600.0 * hours)).ceil());
        case.plan(&["--workload", "w.csv", "--deadline", &seconds]).status.code()
    };
    assert_eq!((planned(hours), planned(0.9 * hours)), (Some(0), Some(3)));
}

#[test]
fn a_floor_out_of_reach_is_lowered_to_what_the_best_model_reaches() {
    let case = Case::new();
    let output = case.plan(&words(
        "--workload w.csv --deadline 1h --accuracy accuracy.csv --task t --min-accuracy 70 --json --quiet",
    ));
    assert_code(&output, 3);
    let found = json(&output);
    let [one] = found["relaxations"].as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!((&one["kind"], &one["job"], &one["unit"]), (&"accuracy".into(), &"w".into(), &"points".into()));
    // The best model reaches 64.3 %.
    assert!((5.7..5.8).contains(&number(&one["amount"])) && one["verified"] == true, "{one}");
}

#[test]
fn prices_name_their_limit_and_unit() {
    let case = Case::new();
    case.write("accuracy.csv", DEAR_IS_ACCURATE);
    case.write("w.csv", &workload(3000));
    let common = "--workload w.csv --accuracy accuracy.csv --task t --min-accuracy 60 --baselines none --time-limit 2s";
    let output = case.plan(&words(&format!("{common} --deadline 100s --json")));
    assert_code(&output, 0);
    let plan = json(&output);
    assert_eq!(plan["prices"], case.json("plan/plan.json")["prices"]);
    for (constraint, unit) in [("accuracy", "kJ/point"), ("deadline", "kJ/h")] {
        let price = plan["prices"].as_array().unwrap().iter().find(|price| price["constraint"] == constraint);
        let Some(price) = price else { panic!("{constraint}: {}", plan["prices"]) };
        assert_eq!((&price["of"], &price["unit"]), (&serde_json::json!(["w"]), &unit.into()));
        assert!(number(&price["price"]) > 0.0, "{price}");
    }
    let text = stdout(&case.plan(&words(&format!("{common} --deadline 100s"))));
    assert!(text.contains("one more saves") && text.contains("kJ/point"), "{text}");
}

#[test]
fn frontiers_only_fall_and_are_written_beside_the_plan() {
    let case = Case::new();
    case.write("accuracy.csv", DEAR_IS_ACCURATE);
    case.write("w.csv", &workload(3000));
    let common = "--workload w.csv --accuracy accuracy.csv --task t --min-accuracy 60 --baselines none --time-limit 6s";
    for (limit, deadline) in [("accuracy", "1h"), ("deadline", "3min")] {
        let line = format!("{common} --deadline {deadline} --frontier {limit} --json");
        let output = case.plan(&words(&line));
        assert_code(&output, 0);
        let plan = json(&output);
        let points = plan["frontier"].as_array().unwrap();
        assert!((6..=12).contains(&points.len()), "{points:?}");
        assert_eq!(case.read("plan/frontier.csv").lines().count(), 1 + points.len());
        assert_eq!(case.read("plan/frontier.svg").matches("<circle").count(), points.len());
        for pair in points.windows(2) {
            assert!(number(&pair[1]["loosened"]) > number(&pair[0]["loosened"]));
            for key in ["objective_j", "bound_j"] {
                assert!(number(&pair[1][key]) <= number(&pair[0][key]) * (1.0 + 1e-9), "{key}: {pair:?}");
            }
        }
        for point in points {
            assert!(number(&point["bound_j"]) <= number(&point["objective_j"]), "{point}");
        }
        let given = points.iter().find(|point| number(&point["loosened"]) == 0.0).unwrap();
        assert!(number(&given["objective_j"]) <= number(&plan["objective_j"]) * (1.0 + 1e-9));
        let (first, last) = (points.first().unwrap(), points.last().unwrap());
        assert!(number(&last["objective_j"]) < number(&first["objective_j"]), "{limit} costs something");
    }
    // Written again over itself: its own files are no one else's.
    assert_code(&case.plan(&words("--workload w.csv --deadline 1h --baselines none")), 0);
    let output = case.plan(&words("--workload w.csv --deadline 1h --frontier accuracy"));
    assert_code(&output, 2);
    assert!(stderr(&output).contains("no job has an accuracy floor"), "{}", stderr(&output));
}

/// Watts of the two nodes, which never sleep.
const STANDING: f64 = 2.0 * (900.0 + 4.0 * 70.0);

#[test]
fn a_frontier_over_the_power_cap_ends_where_it_no_longer_binds() {
    let case = Case::new();
    case.write("w.csv", &workload(3000));
    let common = "--workload w.csv --deadline 2min --baselines none --time-limit 20s --frontier power --json";
    // Around a cap that binds, around one that nothing reaches, and around none.
    let mut costs = 0;
    for cap in [Some(STANDING + 2040.0), Some(50_000.0), None] {
        let flag = cap.map_or(String::new(), |cap| format!("--power-cap-w {cap}"));
        let output = case.plan(&words(&format!("{common} {flag}")));
        assert_code(&output, 0);
        let plan = json(&output);
        let points = plan["frontier"].as_array().unwrap();
        assert!((2..=12).contains(&points.len()), "{cap:?}: {points:?}");
        assert_eq!(case.read("plan/frontier.csv").lines().count(), 1 + points.len());
        assert!(case.read("plan/frontier.svg").contains("power cap, W"));
        for pair in points.windows(2) {
            assert!(number(&pair[1]["value"]) > number(&pair[0]["value"]));
            for key in ["objective_j", "bound_j"] {
                assert!(number(&pair[1][key]) <= number(&pair[0][key]) * (1.0 + 1e-9), "{key}: {pair:?}");
            }
        }
        let given = points.iter().find(|point| number(&point["loosened"]) == 0.0).unwrap();
        assert!(number(&given["objective_j"]) <= number(&plan["objective_j"]) * (1.0 + 1e-9), "{given}");
        if let Some(cap) = cap {
            assert_eq!(number(&given["value"]), cap);
        }
        let (first, last) = (points.first().unwrap(), points.last().unwrap());
        assert!(number(&first["value"]) > STANDING, "{first}");
        costs += usize::from(number(&last["objective_j"]) < number(&first["objective_j"]));
        // The least of them has a plan by itself, too.
        let tightest = format!("--power-cap-w {}", number(&first["value"]));
        let output = case.plan(&words(&format!("--workload w.csv --deadline 2min --gap 1 --out again {tightest}")));
        assert_code(&output, 0);
    }
    assert!(costs > 0, "a cap costs something");
    case.write("cluster.toml", &crate::case::CLUSTER.replace("base_power_w = 900\n", ""));
    let output = case.plan(&words(common));
    assert_code(&output, 2);
    assert!(stderr(&output).contains("needs base_power_w"), "{}", stderr(&output));
}

#[test]
fn a_cap_too_low_is_raised_to_what_is_needed() {
    let case = Case::new();
    case.write("w.csv", &workload(3000));
    // Less than the nodes draw by themselves, and so little more that too few instances can run.
    for (cap, reason) in [(STANDING - 500.0, "nodes that never sleep draw"), (STANDING + 750.0, "it is proved")] {
        let common = "--workload w.csv --deadline 100s --baselines none --time-limit 40s";
        let output = case.plan(&words(&format!("{common} --power-cap-w {cap} --json")));
        assert_code(&output, 3);
        let said = stderr(&output);
        assert!(said.contains(reason) && said.contains("the power cap"), "{said}");
        let found = json(&output);
        let relaxations = found["relaxations"].as_array().unwrap();
        let power = relaxations.iter().find(|one| one["kind"] == "power").unwrap_or_else(|| panic!("{found}"));
        assert_eq!((&power["unit"], &power["verified"]), (&"W".into(), &true.into()), "{power}");
        assert!(power["job"].is_null() && power["pool"].is_null(), "{power}");
        let amount = number(&power["amount"]);
        let planned = |cap: f64| {
            let output = case.plan(&words(&format!("{common} --gap 1 --power-cap-w {cap}")));
            output.status.code()
        };
        assert_eq!(planned(cap + amount), Some(0), "{power}");
        assert_ne!(planned(cap + amount - 700.0), Some(0), "{power}: less than an instance is enough");
    }
}

#[test]
fn sensitivity_says_how_often_the_plan_stays_the_best() {
    let case = Case::new();
    let run = |more: &str| {
        let output = case.plan(&words(&format!("--workload w.csv --deadline 1h --time-limit 6s --json {more}")));
        assert_code(&output, 0);
        json(&output)
    };
    let found = run("--sensitivity=100 --seed 3");
    let sensitivity = &found["sensitivity"];
    assert_eq!((&sensitivity["draws"], &sensitivity["seed"]), (&100.into(), &3.into()));
    for share in ["stays_best", "regret_mean", "regret_p95", "late"] {
        assert!((0.0..=1.0).contains(&number(&sensitivity[share])), "{share}: {sensitivity}");
    }
    let joules = ["objective_p05_j", "objective_p50_j", "objective_p95_j"].map(|key| number(&sensitivity[key]));
    assert!(joules[0] < joules[1] && joules[1] < joules[2], "{joules:?}");
    let objective = number(&found["objective_j"]);
    assert!(joules[0] < 1.5 * objective && joules[2] > 0.7 * objective, "{joules:?} around {objective}");
    assert!(sensitivity["rivals"].as_object().unwrap().contains_key("static_best"), "{sensitivity}");
    assert!(run("")["sensitivity"].is_null());
    // The draws depend on the seed alone.
    let again = &run("--sensitivity=100 --seed 3")["sensitivity"];
    assert_eq!(again["objective_p50_j"], sensitivity["objective_p50_j"]);
    assert_ne!(run("--sensitivity --seed 4")["sensitivity"]["objective_p50_j"], sensitivity["objective_p50_j"]);
    let text = stdout(&case.plan(&words("--workload w.csv --deadline 1h --time-limit 2s --sensitivity")));
    assert!(text.contains("sensitivity over 200 draws"), "{text}");
}

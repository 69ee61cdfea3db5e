//! Carbon, cost and power cap on the command line: series beside the cluster file, and what is wrong with them.

use serde_json::Value;

use crate::case::{CLUSTER, Case, assert_code, json, stderr, words};

const PLAN: &str = "--workload w.csv --deadline 6h --start 2026-01-10T00:00:00Z --json --quiet";

/// A case whose site has this, and hours of which the fourth is the cleanest and the second the cheapest.
fn case(site: &str) -> Case {
    let case = Case::new();
    case.write("cluster.toml", &format!("{CLUSTER}\n[site]\npue = 1.5\n{site}\n"));
    let hours = |header: &str, values: [f64; 6]| {
        let row = |(hour, value): (usize, f64)| format!("2026-01-10T{hour:02}:00:00Z,{value}\n");
        format!("timestamp,{header}\n{}", values.into_iter().enumerate().map(row).collect::<String>())
    };
    case.write("carbon.csv", &hours("gco2_per_kwh", [300.0, 310.0, 250.0, 100.0, 200.0, 400.0]));
    case.write("price.csv", &hours("price_per_kwh", [0.3, 0.1, 0.2, 0.4, 0.2, 0.3]));
    case
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn the_cleanest_or_the_cheapest_hour_is_waited_for() {
    for (objective, unit, per_kwh, hour) in [("carbon", "gCO2", 100.0, 3.0), ("cost", "money", 0.1, 1.0)] {
        let case = case("carbon_csv = \"carbon.csv\"\nprice_csv = \"price.csv\"");
        let output = case.plan(&[&words(PLAN)[..], &["--objective", objective]].concat());
        assert_code(&output, 0);
        let plan = json(&output);
        assert_eq!(plan["objective_unit"], unit);
        let (joules, cost) = (number(&plan["objective_j"]), number(&plan["objective"]));
        let expected = joules / 3.6e6 * 1.5 * per_kwh;
        assert!((cost / expected - 1.0).abs() < 1e-9, "{cost} of {expected} {unit}");
        assert!(number(&plan["bound"]) <= cost && number(&plan["bound_j"]) <= joules);
        assert!((number(&plan["gap"]) - (cost - number(&plan["bound"])) / cost).abs() < 1e-9);
        assert!(number(&plan["baselines"]["fastest"]["objective"]) > cost);
        assert!(number(&plan["makespan_s"]) > hour * 3600.0 && number(&plan["makespan_s"]) <= (hour + 1.0) * 3600.0);
        let check = case.run(&["check", "plan", "--json"]);
        assert_code(&check, 0);
        assert!((number(&json(&check)["objective"]) / cost - 1.0).abs() < 1e-9);
    }
}

#[test]
fn a_series_that_changed_or_is_missing_or_too_short_is_named() {
    let series = case("carbon_csv = \"carbon.csv\"");
    let plan = |case: &Case, more: &str| case.plan(&[words(PLAN), words(more)].concat());
    assert_code(&plan(&series, "--objective carbon"), 0);
    series.write("carbon.csv", &series.read("carbon.csv").replace("100", "101"));
    let output = series.run(&["check", "plan"]);
    assert_code(&output, 65);
    assert!(stderr(&output).contains("carbon.csv"), "{}", stderr(&output));

    let output = plan(&series, "--objective cost");
    assert_code(&output, 65);
    assert!(stderr(&output).contains("--objective cost needs `price_csv`"), "{}", stderr(&output));

    let short = case("carbon_csv = \"carbon.csv\"");
    short.write("carbon.csv", "timestamp,gco2_per_kwh\n2026-01-10T00:00:00Z,1\n2026-01-10T02:00:00Z,2\n");
    let output = plan(&short, "--objective carbon");
    assert_code(&output, 65);
    let message = stderr(&output);
    assert!(message.contains("no value from second 14400 to 21600") && message.contains("--start"), "{message}");
    assert_code(&plan(&short, ""), 0);
}

#[test]
fn a_cap_is_kept_and_one_below_the_standing_power_is_infeasible() {
    let standing = 2 * (900 + 4 * 70);
    let case = case(&format!("power_cap_w = {}", standing + 1500));
    let output = case.plan(&words(PLAN));
    assert_code(&output, 0);
    assert!(case.json("plan/plan.json")["deployments"][0]["peak_power_w"].is_number());
    assert_code(&case.run(&["check", "plan"]), 0);

    let low = (standing - 1).to_string();
    let output = case.plan(&[&words(PLAN)[..], &["--power-cap-w", &low]].concat());
    assert_code(&output, 3);
    assert!(stderr(&output).contains("nodes that never sleep draw 2360 W"), "{}", stderr(&output));

    case.write("cluster.toml", &case.read("cluster.toml").replace("base_power_w = 900", ""));
    let output = case.plan(&words(PLAN));
    assert_code(&output, 65);
    assert!(stderr(&output).contains("needs `base_power_w`"), "{}", stderr(&output));
}

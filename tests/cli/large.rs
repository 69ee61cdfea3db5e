//! Queues so large that requests are dealt in rounds: on devices that are nearly full, and still near the bound and valid.

use crate::case::{CLUSTER, Case, assert_code, json, words, workload};

/// Requests of each of two jobs; more than 200,000 together.
const REQUESTS: usize = 105_000;

#[test]
fn full_devices_are_filled_and_the_plan_passes_check() {
    let case = Case::new();
    case.write("cluster.toml", &CLUSTER.replace("gpu[1-2]", "gpu[1-3]"));
    let job = |name: &str, floor: u32, deadline: &str| {
        case.write(&format!("{name}.csv"), &workload(REQUESTS));
        format!(
            "[[job]]\nname = \"{name}\"\nfiles = [\"{name}.csv\"]\ntask = \"t\"\nmin_accuracy = {floor}\n\
             accuracy_rule = \"mean\"\ndeadline = \"{deadline}\"\n\n"
        )
    };
    case.write("jobs.toml", &(job("soon", 55, "295s") + &job("late", 50, "510s")));
    let output = case.plan(&words(
        "--accuracy accuracy.csv --jobs jobs.toml --workload soon.csv late.csv --time-limit 60s --gap 0.003 --json",
    ));
    assert_code(&output, 0);
    let plan = json(&output);
    assert_eq!(plan["status"], "optimal_within_gap", "{plan}");
    let checked = case.run(&words("check plan"));
    assert_code(&checked, 0);
    // Every slot ends within a little of the last deadline.
    let instances = case.read("plan/instances.csv");
    let mut rows = csv::Reader::from_reader(instances.as_bytes());
    let end = rows.headers().unwrap().iter().position(|name| name == "end_s").unwrap();
    let ends: Vec<f64> = rows.records().map(|row| row.unwrap()[end].parse().unwrap()).collect();
    let full = ends.iter().filter(|end| (505.0..=510.0).contains(*end)).count();
    assert!(full * 10 >= 8 * ends.len(), "{ends:?}");
}

#[test]
fn a_mean_floor_may_be_the_accuracy_of_the_best_model() {
    let case = Case::new();
    case.write("cluster.toml", &CLUSTER.replace("gpu[1-2]", "gpu[1-8]"));
    case.write("w.csv", &workload(25_000));
    let plan = "--accuracy accuracy.csv --task t --min-accuracy 64.3 --deadline 120s --workload w.csv";
    let output = case.plan(&words(&format!("{plan} --time-limit 60s --gap 0.02 --json")));
    assert_code(&output, 0);
    assert_eq!(json(&output)["status"], "optimal_within_gap", "{}", json(&output));
    assert_code(&case.run(&words("check plan")), 0);
}

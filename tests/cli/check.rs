//! `check` and `explain` on plan directories, whole and damaged.

use std::fs;

use crate::case::{Case, assert_code, json, stderr, stdout, words, workload};

#[test]
fn a_plan_checks_and_a_broken_one_does_not() {
    let case = Case::new();
    case.planned();
    let output = case.run(&["check", "plan"]);
    assert_code(&output, 0);
    assert!(stdout(&output).starts_with("valid: 40 requests"), "{}", stdout(&output));
    let verdict = json(&case.run(&["check", "plan", "--json"]));
    assert_eq!((&verdict["valid"], &verdict["violation_count"]), (&true.into(), &0.into()));

    // A request dropped and another doubled.
    let rows = case.read("plan/assignments.csv").replacen("\n2,", "\n1,", 1);
    case.write("plan/assignments.csv", &rows);
    let output = case.run(&["check", "plan"]);
    assert_code(&output, 4);
    assert!(stdout(&output).contains("C-DROPPED") && stdout(&output).contains("C-DOUBLED"), "{}", stdout(&output));
    let output = case.run(&["check", "plan", "--json"]);
    assert_code(&output, 4);
    let verdict = json(&output);
    assert_eq!(verdict["valid"], false);
    assert!(verdict["violations"].to_string().contains("C-DOUBLED"));
}

#[test]
fn energy_that_is_off_by_one_percent_is_found() {
    let case = Case::new();
    case.planned();
    let mut plan = case.json("plan/plan.json");
    let objective = plan["objective_j"].as_f64().unwrap();
    plan["objective_j"] = (objective * 0.99).into();
    case.write("plan/plan.json", &plan.to_string());
    let output = case.run(&["check", "plan"]);
    assert_code(&output, 4);
    assert!(stdout(&output).contains("C-OBJECTIVE"), "{}", stdout(&output));
}

#[test]
fn a_changed_input_is_refused_unless_named() {
    let case = Case::new();
    case.planned();
    let old = case.read("w.csv");
    case.write("w.csv", &workload(41));
    for arguments in [["check", "plan", "--quiet"].as_slice(), &["explain", "plan", "1"]] {
        let output = case.run(arguments);
        assert_code(&output, 65);
        assert!(stderr(&output).contains("w.csv") && stderr(&output).contains("changed"), "{}", stderr(&output));
    }
    // Named on the command line it is checked against what it is now, and there the plan is wrong.
    assert_code(&case.run(&["check", "plan", "--workload", "w.csv"]), 4);
    case.write("elsewhere.csv", &old);
    fs::remove_file(case.path("w.csv")).unwrap();
    assert_code(&case.run(&["check", "plan"]), 66);
    let job_is_named_by_the_file = case.run(&["check", "plan", "--workload", "elsewhere.csv"]);
    assert_code(&job_is_named_by_the_file, 4);
    fs::rename(case.path("elsewhere.csv"), case.path("w.csv")).unwrap();
    assert_code(&case.run(&["check", "plan"]), 0);
}

#[test]
fn damaged_directories_are_bad_data() {
    let case = Case::new();
    case.planned();
    for name in ["plan.json", "instances.csv", "assignments.csv", "nodes.csv", "jobs.csv", "summary.csv"] {
        let path = format!("plan/{name}");
        let whole = case.read(&path);
        case.write(&path, &whole[..whole.len() - 5]);
        let output = case.run(&["check", "plan"]);
        assert_code(&output, 65);
        assert!(stderr(&output).contains(name), "{}", stderr(&output));
        case.write(&path, &whole);
    }
    assert_code(&case.run(&["check", "plan"]), 0);
    assert_code(&case.run(&["check", "nowhere"]), 66);
}

#[test]
fn explain_tells_why_and_what_else_there_was() {
    let case = Case::new();
    let output = case.plan(&words("--workload w.csv --deadline 1h --accuracy accuracy.csv --task t --min-accuracy 50"));
    assert_code(&output, 0);
    let told = json(&case.run(&["explain", "plan", "3", "--json"]))["request"].clone();
    assert_eq!((told["request_id"].as_str(), told["job"].as_str()), (Some("3"), Some("w")));
    let alternatives = told["alternatives"].as_array().unwrap();
    assert!(alternatives.len() > 5);
    let own = alternatives.iter().find(|a| a["deployment"] == told["deployment"]).unwrap();
    assert_eq!((&own["in_use"], &own["refused"]), (&true.into(), &serde_json::Value::Null));
    let eligible: Vec<f64> =
        alternatives.iter().filter(|a| a["refused"].is_null()).map(|a| a["energy_j"].as_f64().unwrap()).collect();
    assert!(eligible.is_sorted() && told["cheapest"]["energy_j"].as_f64() == eligible.first().copied());

    let text = stdout(&case.run(&["explain", "plan", "3"]));
    assert!(text.contains("served by i0001") && text.contains("cheapest"), "{text}");
    let text = stdout(&case.run(&["explain", "plan", "w"]));
    assert!(text.contains("40 requests") && text.contains("floor 50.00 %") && text.contains("served by"), "{text}");
    let output = case.run(&["explain", "plan", "no such"]);
    assert_code(&output, 65);
    assert!(stderr(&output).contains("jobs are w"), "{}", stderr(&output));
}

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

#[test]
fn explain_names_the_floor_that_a_cheaper_model_misses() {
    let case = Case::new();
    // The model of the fewest joules is not accurate enough.
    case.write("accuracy.csv", "model,task,accuracy\nQwen/Qwen3-8B,t,40\nmeta-llama/Llama-3.1-8B-Instruct,t,70\n");
    let output = case.plan(&words("--workload w.csv --deadline 1h --accuracy accuracy.csv --task t --min-accuracy 60"));
    assert_code(&output, 0);
    let text = stdout(&case.run(&["explain", "plan", "3"]));
    let cheapest = text.lines().find(|line| line.starts_with("cheapest")).unwrap();
    assert!(cheapest.contains("its 40 % is below the floor of 60 % on the mean of the job; a start of it"), "{text}");
    assert!(!text.contains("not in use: a start"), "{text}");
}

#[test]
fn explain_suggests_rows_where_there_are_several_files() {
    let case = Case::new();
    case.write("v.csv", &workload(5));
    assert_code(&case.plan(&words("--workload w.csv v.csv --deadline 1h")), 0);
    let told = |name: &str| {
        let output = case.run(&["explain", "plan", name]);
        assert_code(&output, 65);
        stderr(&output)
    };
    assert!(told("3").contains("FILE:ROW: w.csv:3, v.csv:3; jobs are"), "{}", told("3"));
    assert!(told("7").contains("FILE:ROW: w.csv:7; jobs are"), "{}", told("7"));
    assert!(!told("99").contains("FILE:ROW"), "{}", told("99"));
    assert_code(&case.run(&["explain", "plan", "v.csv:3"]), 0);
}

#[test]
fn known_token_counts_come_from_a_sidecar_that_check_reads_again() {
    let case = Case::new();
    let line = |id: &str| {
        format!(
            "{{\"custom_id\":\"{id}\",\"body\":{{\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}],\"max_tokens\":64}}}}\n"
        )
    };
    case.write("b.jsonl", &(line("r1") + &line("r2")));
    case.write("counts.csv", "custom_id,input_tokens,output_tokens\nr1,100,10\nr2,200,20\n");
    let output = case.plan(&words("--workload b.jsonl --deadline 1h --sidecar counts.csv --json"));
    assert_code(&output, 0);
    assert!(!json(&output)["warnings"].to_string().contains("estimated"), "{}", stdout(&output));
    let plan = case.json("plan/plan.json");
    let recorded = plan["inputs"].as_array().unwrap().iter().find(|input| input["role"] == "sidecar").unwrap();
    assert_eq!((recorded["path"].as_str(), recorded["sha256"].as_str().map(str::len)), (Some("counts.csv"), Some(64)));
    assert_code(&case.run(&["check", "plan"]), 0);
    assert_eq!(json(&case.run(&["explain", "plan", "r2", "--json"]))["request"]["output_tokens"], 20);
    case.write("counts.csv", "custom_id,input_tokens,output_tokens\nr1,100,10\nr2,200,21\n");
    let output = case.run(&["check", "plan"]);
    assert_code(&output, 65);
    assert!(stderr(&output).contains("counts.csv") && stderr(&output).contains("changed"), "{}", stderr(&output));
}

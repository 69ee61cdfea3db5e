//! `plan --objective zeta=Z`: the paper's objective in place of joules.

use crate::case::{Case, assert_code, json, stderr, stdout, words};

const ZETA: &str = "--workload w.csv --deadline 1h --accuracy accuracy.csv --task t --json --objective";
const LARGE: &str = "Qwen/Qwen3-8B";
const SMALL: &str = "meta-llama/Llama-3.1-8B-Instruct";

#[test]
fn accuracy_energy_and_shares_are_weighed() {
    let case = Case::new();
    let mean_accuracy = |objective: &str, more: &[&str]| {
        let output = case.plan(&[&words(ZETA)[..], &[objective], more].concat());
        assert_code(&output, 0);
        let plan = json(&output);
        assert_eq!(plan["objective_unit"], "zeta");
        assert!(plan["gap"].as_f64().unwrap() < 1e-6, "{}", plan["gap"]);
        assert_code(&case.run(&["check", "plan"]), 0);
        plan["jobs"][0]["mean_accuracy"].as_f64().unwrap()
    };
    assert!((mean_accuracy("zeta=0", &[]) - 64.3).abs() < 1e-9);
    let least = mean_accuracy("zeta=0", &["--model-share", &format!("{SMALL}=0.26")]);
    // 11 of 40 requests are the least that is 26 %.
    assert!((least - (64.3 * 29.0 + 47.6 * 11.0) / 40.0).abs() < 1e-9, "{least}");
    let energy = mean_accuracy("zeta=1", &["--baselines", "all"]);
    assert!(energy <= 64.3 + 1e-9);
    let plan = case.json("plan/plan.json");
    let ours = plan["objective"].as_f64().unwrap();
    let theirs = plan["baselines"].as_object().unwrap().values().filter_map(|baseline| baseline["objective"].as_f64());
    let theirs: Vec<f64> = theirs.collect();
    assert!(theirs.len() > 4 && theirs.iter().all(|theirs| ours <= theirs + 1e-9), "{ours} {theirs:?}");
}

#[test]
fn claims_that_are_off_are_found() {
    let case = Case::new();
    assert_code(&case.plan(&[&words(ZETA)[..], &["zeta=0.4"]].concat()), 0);
    let mut plan = case.json("plan/plan.json");
    plan["objective"] = (plan["objective"].as_f64().unwrap() - 0.01).into();
    plan["zeta"]["model_shares"][LARGE] = 1.0.into();
    plan["zeta"]["model_shares"][SMALL] = 0.1.into();
    case.write("plan/plan.json", &plan.to_string());
    let output = case.run(&["check", "plan"]);
    assert_code(&output, 4);
    assert!(stdout(&output).contains("C-ZETA") && stdout(&output).contains("C-MODEL-SHARE"), "{}", stdout(&output));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let case = Case::new();
    let plain = words("--workload w.csv --deadline 1h");
    let accurate = words("--workload w.csv --deadline 1h --accuracy accuracy.csv --task t");
    for (common, more, message) in [
        (&plain, "--objective zeta=1.5", "zeta=Z with Z from 0 to 1"),
        (&plain, "--objective zeta=0.5", "needs an accuracy figure"),
        (&plain, "--model-share Qwen/Qwen3-8B=0.5", "belongs to --objective zeta=Z"),
        (&accurate, "--objective zeta=0.5 --model-share Qwen/Qwen3-8B=x", "not MODEL=SHARE"),
        (&accurate, "--objective zeta=0.5 --model-share other=0.5", "no deployment of other is offered"),
        (&accurate, "--objective zeta=0.5 --model-share a=0.6 --model-share b=0.6", "more than all requests"),
    ] {
        let output = case.plan(&[&common[..], &words(more)].concat());
        assert_code(&output, 2);
        assert!(stderr(&output).contains(message), "{more}: {}", stderr(&output));
    }
}

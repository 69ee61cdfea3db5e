//! `plan --confidence`: outputs of which only a bound is known.

use crate::case::{Case, assert_code, json, stderr, words};

fn mixed(known: usize) -> String {
    let row = |r: usize| {
        let output = if r < known { (20 + (r * 53) % 200).to_string() } else { String::new() };
        format!("{},{output},400\n", 50 + (r * 37) % 400)
    };
    "input_tokens,output_tokens,max_tokens\n".to_owned() + &(0..known + 20).map(row).collect::<String>()
}

#[test]
fn outputs_are_predicted_where_their_job_has_a_history() {
    let case = Case::new();
    case.write("w.csv", &mixed(40));
    let energy = |more: &[&str]| {
        let output = case.plan(&[&words("--workload w.csv --deadline 1h --json")[..], more].concat());
        assert_code(&output, 0);
        assert_code(&case.run(&["check", "plan"]), 0);
        let plan = json(&output);
        (plan["energy"]["active_j"].as_f64().unwrap(), plan["warnings"].to_string())
    };
    let (bounds, _) = energy(&[]);
    let (means, warnings) = energy(&["--confidence", "0.9"]);
    assert!(means < bounds, "{means} {bounds}");
    assert!(warnings.contains("20 outputs are predicted from its 40 known ones"), "{warnings}");
    assert_eq!(case.json("plan/plan.json")["flags"]["confidence"], 0.9);

    // Too few to learn from: the bound itself, which needs no margin.
    case.write("w.csv", &mixed(20));
    let (_, warnings) = energy(&["--confidence", "0.9"]);
    assert!(warnings.contains("20 outputs are taken from max_tokens"), "{warnings}");
    for confidence in ["1", "0.5", "x"] {
        let output = case.plan(&[&words("--workload w.csv --deadline 1h --confidence")[..], &[confidence]].concat());
        assert_code(&output, 2);
        assert!(stderr(&output).contains("confidence"), "{}", stderr(&output));
    }
}

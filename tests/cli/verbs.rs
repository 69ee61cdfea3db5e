//! The verbs that describe the program itself.

use crate::case::{Case, assert_code, json, stdout};

#[test]
fn schemas_are_of_the_files_that_are_written() {
    let case = Case::new();
    case.planned();
    let schema = json(&case.run(&["schema", "plan"]));
    let described = schema["properties"].as_object().unwrap();
    for key in case.json("plan/plan.json").as_object().unwrap().keys() {
        assert!(described.contains_key(key), "{key} has no schema");
    }
    assert!(json(&case.run(&["schema", "models"]))["properties"]["families"].is_object());
    for (name, file) in [
        ("instances", "plan/instances.csv"),
        ("nodes", "plan/nodes.csv"),
        ("assignments", "plan/assignments.csv"),
        ("jobs", "plan/jobs.csv"),
        ("summary", "plan/summary.csv"),
    ] {
        let columns = json(&case.run(&["schema", name]))["columns"].clone();
        let columns: Vec<&str> = columns.as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
        assert_eq!(columns.join(","), case.read(file).lines().next().unwrap());
    }
}

#[test]
fn completions_and_manual_know_every_verb() {
    let case = Case::new();
    let verbs = [
        "import",
        "fit",
        "evaluate",
        "plan",
        "check",
        "explain",
        "meter",
        "profile",
        "doctor",
        "schema",
        "completions",
        "man",
    ];
    let manual = case.run(&["man"]);
    assert_code(&manual, 0);
    let help = stdout(&case.run(&["--help"]));
    for shell in ["bash", "zsh", "fish"] {
        let output = case.run(&["completions", shell]);
        assert_code(&output, 0);
        for verb in verbs {
            assert!(stdout(&output).contains(verb), "{shell}: {verb}");
            assert!(stdout(&manual).contains(verb) && help.contains(verb), "{verb}");
        }
    }
    let page = stdout(&case.run(&["man", "plan"]));
    assert!(page.contains("incumbent") && page.contains("model\\-policy"), "{page}");
    assert_code(&case.run(&["--version"]), 0);
    for left_out in ["simulate", "report", "diff", "--share", "--frontier"] {
        assert!(!help.contains(left_out) && !page.contains(left_out), "{left_out} does not exist yet");
    }
}

//! `profile merge`: each trial once.

use crate::rig::{NAMED, Rig, assert_code, json};

#[test]
fn files_that_overlap_give_each_trial_once() {
    let rig = Rig::bare();
    let run = |out: &str, extra: &[&str]| {
        let grid = ["--grid-input", "8", "--command", "true", "--runtime-only", "--max-trials", "3", "--out", out];
        assert_code(&rig.run(&[&NAMED[..], &grid, extra].concat()), 0);
    };
    run("a.csv", &["--grid-output", "8", "--least-time", "0s"]);
    std::fs::copy(rig.path("a.csv"), rig.path("b.csv")).unwrap();
    run("b.csv", &["--grid-output", "8,16", "--least-time", "0s", "--resume"]);
    let output = rig.run(&["merge", "a.csv", "b.csv", "--out", "all.csv", "--json"]);
    assert_code(&output, 0);
    let summary = json(&output);
    assert_eq!((summary["samples"].as_u64(), summary["repeated"].as_u64()), (Some(8), Some(4)), "{summary}");
    assert_eq!(rig.samples("all.csv"), rig.samples("b.csv"), "b began as a");
    assert_code(&rig.run(&["merge", "nowhere.csv", "--out", "x.csv"]), 66);
    assert!(!rig.path("x.csv").exists());
}

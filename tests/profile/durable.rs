//! Killed, stopped, torn and resumed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use jouleplan::measure::profile::Cell;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::{Pid, Signal, kill_process};

use crate::rig::{NAMED, Rig, assert_code, json, stderr};

/// 40 cells.
const GRID: [&str; 6] = ["--grid-input", "8,16,32,64,128", "--grid-output", "8,16,32,64", "--batch", "1,2"];
/// No interval is that narrow: every cell gets its most trials.
const WHOLE: [&str; 8] = ["--ci", "0.000001", "--max-trials", "6", "--warmup", "0", "--least-time", "0s"];

/// Rows by cell, and that each trial stands there once, from 0 on.
fn trials(rig: &Rig) -> BTreeMap<Cell, u32> {
    let mut cells: BTreeMap<Cell, BTreeSet<u32>> = BTreeMap::new();
    for sample in rig.samples("s.csv") {
        let fresh = cells.entry(Cell::of(&sample).unwrap()).or_default().insert(sample.trial.unwrap());
        assert!(fresh, "trial {:?} stands there twice", sample.trial);
    }
    let count = |(cell, trials): (Cell, BTreeSet<u32>)| {
        let count = trials.len() as u32;
        assert!(trials.into_iter().eq(0..count), "{cell}");
        (cell, count)
    };
    cells.into_iter().map(count).collect()
}

#[test]
fn killed_at_50_random_moments_every_completed_trial_is_there_once() {
    let rig = Rig::bare();
    let command = r#"sh -c 'sleep 0.02; echo $JOULEPLAN_SEED >> completed'"#;
    let more = ["--command", command, "--runtime-only", "--out", "s.csv", "--resume"];
    let arguments = [&NAMED[..], &GRID, &WHOLE, &more].concat();
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let (mut before, mut in_the_middle) = (String::new(), 0);
    for _ in 0..50 {
        let mut child = rig.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.random_range(5..250)));
        assert!(child.try_wait().unwrap().is_none(), "the study is longer than the test");
        child.kill().unwrap();
        child.wait().unwrap();
        if rig.path("s.csv").exists() {
            trials(&rig);
            let now = rig.read("s.csv");
            assert!(now.starts_with(&before) && now.ends_with('\n'), "rows that were there stay, and all are whole");
            in_the_middle += u32::from(now.len() > before.len());
            before = now;
        }
    }
    assert!(in_the_middle > 25, "{in_the_middle} of the kills were of a study at work");
    let output = rig.run(&[&arguments[..], &["--json"]].concat());
    assert_code(&output, 0);
    let cells = trials(&rig);
    assert_eq!(cells.len(), 40);
    assert!(cells.values().all(|trials| *trials == 6), "{cells:?}");
    assert!(rig.read("s.csv").starts_with(&before));
    // What completed and is not there had no time to be written: one a kill at most. No prompts came twice.
    let completed = rig.read("completed");
    let seeds: BTreeSet<&str> = completed.lines().collect();
    assert_eq!(seeds.len(), completed.lines().count());
    assert!((240..=290).contains(&seeds.len()), "{}", seeds.len());
    let summary = json(&output);
    assert_eq!((summary["trials"].as_u64(), summary["cells"].as_array().unwrap().len()), (Some(240), 40));
}

#[test]
fn a_torn_row_is_cut_away_and_its_trial_run_again() {
    let rig = Rig::bare();
    let more = ["--command", "true", "--runtime-only", "--out", "s.csv", "--resume"];
    let arguments = [&NAMED[..], &GRID, &WHOLE, &more].concat();
    assert_code(&rig.run(&arguments), 0);
    let whole = rig.read("s.csv");
    rig.write("s.csv", &whole[..whole.len() - 9]);
    let output = rig.run(&arguments);
    assert_code(&output, 0);
    assert!(stderr(&output).contains("torn off"), "{}", stderr(&output));
    let lines = |text: &str| text.lines().count();
    assert_eq!(lines(&rig.read("s.csv")), lines(&whole));
    assert!(trials(&rig).values().all(|trials| *trials == 6));
}

#[test]
fn another_study_is_refused_and_a_wider_grid_goes_on() {
    let rig = Rig::bare();
    let more = ["--command", "true", "--runtime-only", "--out", "s.csv"];
    let grid = ["--grid-input", "8", "--grid-output", "8", "--max-trials", "6"];
    let run = |extra: &[&str]| rig.run(&[&NAMED[..], &WHOLE[..2], &WHOLE[4..], &more, extra].concat());
    assert_code(&run(&[&grid[..], &["--seed", "4"]].concat()), 0);
    let output = run(&grid);
    assert_code(&output, 73);
    assert!(stderr(&output).contains("--resume"), "{}", stderr(&output));
    let output = run(&[&grid[..], &["--resume", "--seed", "5"]].concat());
    assert_code(&output, 65);
    assert!(stderr(&output).contains("seed 4"), "{}", stderr(&output));
    let output = run(&[&grid[..], &["--resume", "--engine", "other"]].concat());
    assert_code(&output, 65);
    assert!(stderr(&output).contains("name another file"), "{}", stderr(&output));
    let before = rig.read("s.csv");
    assert_code(&run(&["--grid-input", "16,8", "--grid-output", "8", "--resume", "--max-trials", "6"]), 0);
    assert!(rig.read("s.csv").starts_with(&before));
    let cells = trials(&rig);
    assert_eq!(cells.values().copied().collect::<Vec<_>>(), [6, 6]);
    // Fewer cells: the rows of the others stay.
    assert_code(&run(&["--grid-input", "16", "--grid-output", "8", "--resume", "--max-trials", "7"]), 0);
    assert_eq!(trials(&rig).into_values().collect::<Vec<_>>(), [6, 7]);
}

#[test]
fn a_signal_ends_the_study_and_its_command_and_says_how_to_go_on() {
    let rig = Rig::bare();
    let command = "sh -c 'echo $$ > pid; exec sleep 30'";
    let more = ["--command", command, "--runtime-only", "--out", "s.csv"];
    let arguments = [&NAMED[..], &GRID, &WHOLE, &more].concat();
    let child = rig.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !fs::read_to_string(rig.path("pid")).is_ok_and(|pid| pid.ends_with('\n')) {
        std::thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 143);
    assert!(stderr(&output).contains("go on with --resume"), "{}", stderr(&output));
    assert!(!rig.path(&format!("/proc/{}", rig.read("pid").trim())).join("cmdline").exists());
}

/// What a killed study left running would spoil the trials of the next one.
#[test]
fn a_command_that_a_killed_study_left_is_ended() {
    let rig = Rig::bare();
    let grid = ["--grid-input", "8", "--grid-output", "8", "--runtime-only", "--out", "s.csv", "--resume"];
    let arguments = [&NAMED[..], &WHOLE, &grid].concat();
    let endless = [&arguments[..], &["--command", "sh -c 'echo $$ > pid; exec sleep 30'"]].concat();
    let mut child = rig.command(&endless).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !fs::read_to_string(rig.path("pid")).is_ok_and(|pid| pid.ends_with('\n')) {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(100));
    child.kill().unwrap();
    child.wait().unwrap();
    let process = format!("/proc/{}/status", rig.read("pid").trim());
    assert!(fs::read_to_string(&process).is_ok_and(|status| !status.contains("zombie")), "it lives on");
    let output = rig.run(&[&arguments[..], &["--command", "true"]].concat());
    assert_code(&output, 0);
    assert!(stderr(&output).contains("is ended now"), "{}", stderr(&output));
    assert!(fs::read_to_string(&process).map_or(true, |status| status.contains("zombie")));
}

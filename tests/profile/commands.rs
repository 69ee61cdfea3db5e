//! Trials of a program: its region, its tokens, what it is told, and what becomes of it.

use crate::rig::{BUSY, IDLE, NAMED, QUICK, Rig, assert_code, json, stderr};

const SMALL: [&str; 8] = ["--grid-input", "8", "--grid-output", "16,32", "--batch", "2", "--max-trials", "3"];

/// Loads for a while at idle power, works as long as its tokens take, and tidies up.
const PROGRAM: &str = r#"sh -c '
sleep 0.2
echo begin > "$JOULEPLAN_REGION"; touch busy
sleep $(awk "BEGIN { print 0.01 * {output_tokens} }")
rm busy; echo "end {\"output_tokens\": {output_tokens}, \"ttft_s\": 0.01, \"batch_size\": 1.5}" > "$JOULEPLAN_REGION"
sleep 0.2'"#;

#[test]
fn the_region_that_a_program_signals_is_what_is_measured() {
    let rig = Rig::metered();
    let more = ["--command", PROGRAM, "--engine", "sh", "--out", "s.csv", "--json"];
    let output = rig.run(&[&NAMED[..], &QUICK, &SMALL, &more].concat());
    assert_code(&output, 0);
    let summary = json(&output);
    assert_eq!((summary["trials"].as_u64(), summary["complete"].as_bool()), (Some(6), Some(true)), "{summary}");
    assert_eq!(summary["trials_of_fixed_25"], 50);
    let samples = rig.samples("s.csv");
    assert_eq!(samples.iter().filter(|sample| sample.warmup).count(), 2, "a warm-up a cell");
    for sample in &samples {
        let seconds = 0.01 * sample.tokens.output;
        let runtime = sample.runtime.unwrap().0;
        assert!((seconds..seconds + 0.3).contains(&runtime), "{runtime}: the region, not the 0.4 s around it");
        let watts = sample.cpu_energy.unwrap().0 / runtime;
        assert!((0.8 * BUSY..1.02 * BUSY).contains(&watts), "{watts}");
        let idle = sample.idle_power.unwrap().0;
        assert!((0.98 * IDLE..1.02 * IDLE).contains(&idle), "{idle}");
        assert_eq!((sample.cpu_energy_scope.as_deref(), sample.gpu_energy), (Some("package"), None));
        assert_eq!((sample.requests, sample.max_num_seqs, sample.batch_size), (2.0, Some(2), 1.5));
        assert_eq!(sample.ttft.map(|time| time.0), Some(0.01));
        assert_eq!((sample.device.as_str(), sample.engine.as_deref()), ("test socket", Some("sh")));
        assert!(sample.measured_at.is_some() && sample.node.is_some());
    }
}

#[test]
fn what_is_no_text_in_the_pipe_is_passed_over() {
    let rig = Rig::bare();
    let program = r#"sh -c 'echo begin > "$JOULEPLAN_REGION"; printf "\377\n" > "$JOULEPLAN_REGION"; sleep 0.05
        echo end > "$JOULEPLAN_REGION"; sleep 0.3'"#;
    let more = ["--command", program, "--runtime-only", "--out", "s.csv"];
    assert_code(&rig.run(&[&NAMED[..], &QUICK, &SMALL, &more].concat()), 0);
    for sample in rig.samples("s.csv") {
        assert!(sample.runtime.unwrap().0 < 0.3, "{:?}: the end was heard", sample.runtime);
    }
}

#[test]
fn without_a_meter_it_refuses_unless_runtime_alone_is_wanted() {
    let rig = Rig::bare();
    let more = ["--command", "sleep 0.05", "--out", "s.csv"];
    let arguments = [&NAMED[..], &QUICK, &SMALL, &more].concat();
    let output = rig.run(&arguments);
    assert_code(&output, 69);
    assert!(stderr(&output).contains("--runtime-only"), "{}", stderr(&output));
    assert!(!rig.path("s.csv").exists());
    assert_code(&rig.run(&[&arguments[..], &["--runtime-only"]].concat()), 0);
    for sample in rig.samples("s.csv") {
        assert_eq!(
            (sample.gpu_energy, sample.cpu_energy, sample.node_energy, sample.idle_power),
            (None, None, None, None)
        );
        assert!(sample.runtime.unwrap().0 >= 0.05);
    }
    assert!(rig.read("s.csv").lines().skip(1).all(|line| !line.contains(",0,0,")), "missing is empty");
}

/// A command that fails, one that counts other tokens, one that never ends: counted by kind, and no row of them.
#[test]
fn failures_are_counted_by_kind_and_leave_no_row() {
    let rig = Rig::bare();
    let report = |tokens: &str| {
        format!(
            "sh -c 'echo begin > $JOULEPLAN_REGION; echo end {{\\\"input_tokens\\\": {tokens}}} > $JOULEPLAN_REGION'"
        )
    };
    let cases = [
        ("false".to_owned(), "command", "exit code 1"),
        (report("9"), "wrong_input_tokens", "9 input tokens, 8 asked"),
        (report("x"), "region", "not understood"),
        ("sh -c 'echo end > $JOULEPLAN_REGION; sleep 1'".to_owned(), "region", "without a `begin`"),
        ("sleep 60".to_owned(), "timeout", "0.3 s"),
        ("sh -c 'kill -9 $$'".to_owned(), "command", "signal 9"),
    ];
    for (index, (command, kind, words)) in cases.iter().enumerate() {
        let out = format!("{index}.csv");
        let grid =
            ["--grid-input", "8", "--grid-output", "16", "--runtime-only", "--timeout", "300ms", "--warmup", "0"];
        let output = rig.run(&[&NAMED[..], &QUICK, &grid, &["--command", command, "--out", &out, "--json"]].concat());
        assert_code(&output, 69);
        let cell = &json(&output)["cells"][0];
        assert_eq!((cell["failed"][*kind].as_u64(), &cell["state"]), (Some(10), &"given_up".into()), "{cell}");
        assert!(cell["last_failure"].as_str().unwrap().contains(words), "{cell}");
        assert!(!rig.path(&out).exists(), "no samples, no file");
    }
}

#[test]
fn what_a_command_is_told_and_that_nothing_of_it_outlives_its_trial() {
    let rig = Rig::bare();
    let command = r#"sh -c 'echo "$1 $2 $JOULEPLAN_REQUESTS $JOULEPLAN_BATCH" >> told; sleep 50 & echo $! >> left; sleep 0.02' sh {input_tokens} "{output_tokens}""#;
    let grid = ["--grid-input", "8", "--grid-output", "16", "--batch", "3", "--runtime-only", "--ci", "0.5"];
    let more = ["--command", command, "--out", "s.csv", "--least-time", "0s"];
    assert_code(&rig.run(&[&NAMED[..], &grid, &more].concat()), 0);
    assert!(rig.read("told").lines().all(|line| line == "8 16 3 3"), "{}", rig.read("told"));
    for pid in rig.read("left").lines() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    }
}

#[test]
fn what_is_wrong_with_the_arguments_is_said_before_anything_runs() {
    let rig = Rig::bare();
    let grid = ["--grid-input", "8", "--grid-output", "16", "--out", "s.csv", "--runtime-only"];
    let cases: [(&[&str], &str); 8] = [
        (&["--model", "m"], "--endpoint or --command"),
        (&["--model", "m", "--command", "true"], "--precision"),
        (&["--model", "m", "--command", "true", "--precision", "p"], "--device"),
        (&["--command", "true"], "--model"),
        (&["--model", "m", "--command", "echo 'a"], "open quote"),
        (&["--model", "m", "--command", "true", "--endpoint", "http://x"], "cannot be used with"),
        (&["--model", "m", "--command", "true", "--ci", "5"], "0.000001 to 0.5"),
        (&["--model", "m,n", "--command", "true", "--precision", "p", "--device", "d"], "--slurm"),
    ];
    for (arguments, words) in cases {
        let output = rig.run(&[&grid[..], arguments].concat());
        assert_code(&output, 2);
        assert!(stderr(&output).contains(words), "{words}: {}", stderr(&output));
    }
    assert_code(&rig.run(&[]), 2);
}

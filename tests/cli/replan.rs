//! `plan --replan`: what has started is kept, the rest is a plan of its own.

use std::fmt::Write;

use serde_json::Value;

use crate::case::{ACCURACY, Case, assert_code, json, stderr, stdout, words};

const START: &str = "2026-01-10T00:00:00Z";

/// 60 requests for one model due soon and 60 for another that are released in an hour, of one job, whose mean accuracy is to be
/// 55 %: two instances.
fn planned(more: &str) -> Case {
    let case = Case::new();
    let mut text = "input_tokens,output_tokens,release_s,deadline_s,model\n".to_owned();
    for row in 0..120 {
        let times = if row < 60 { ",1500,Qwen/Qwen3-8B" } else { "3600,,meta-llama/Llama-3.1-8B-Instruct" };
        writeln!(text, "{},{},{times}", 50 + (row * 37) % 400, 20 + (row * 53) % 200).unwrap();
    }
    case.write("w.csv", &text);
    case.write("accuracy.csv", ACCURACY);
    let line = format!(
        "--workload w.csv --model-policy pin --deadline 3h --min-accuracy 55 --accuracy accuracy.csv --task t --start {START} --out first {more}"
    );
    assert_code(&case.plan(&words(&line)), 0);
    case
}

fn replan(case: &Case, line: &str) -> std::process::Output {
    case.run(&[&["plan", "--time-limit", "20s"][..], &words(line)].concat())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The cells of a column.
fn column(case: &Case, file: &str, name: &str) -> Vec<String> {
    let text = case.read(file);
    let at = text.lines().next().unwrap().split(',').position(|known| known == name).unwrap();
    text.lines().skip(1).map(|row| row.split(',').nth(at).unwrap().to_owned()).collect()
}

#[test]
fn what_has_not_started_is_planned_anew_and_stands_by_itself() {
    let case = planned("");
    let starts: Vec<f64> = column(&case, "first/instances.csv", "start_s").iter().map(|s| s.parse().unwrap()).collect();
    let started = starts.iter().filter(|start| **start <= 1800.0).count();
    assert!(started > 0 && started < starts.len(), "{starts:?}");
    let output = replan(&case, "--replan first --start 2026-01-10T00:30:00Z --out second");
    assert_code(&output, 0);
    let text = stdout(&output);
    assert!(text.contains("replan    of first:") && text.contains("planned anew"), "{text}");
    let served = column(&case, "second/served.csv", "request_id");
    let plan = case.json("second/plan.json");
    let replanned = &plan["replan"];
    assert_eq!((number(&replanned["served"]) as usize, number(&replanned["since_origin_s"])), (served.len(), 1800.0));
    assert_eq!(number(&plan["requests"]) as usize, 120 - served.len());
    assert!(
        served.len() >= 60
            && served.iter().all(|id| !column(&case, "second/assignments.csv", "request_id").contains(id))
    );
    // Times count from now on.
    assert_eq!(number(&plan["jobs"][0]["deadline_s"]), 3.0 * 3600.0 - 1800.0);
    let instances = |name| -> Vec<f64> {
        column(&case, "second/instances.csv", name).iter().map(|cell| cell.parse().unwrap()).collect()
    };
    assert!(instances("end_s").iter().all(|end| *end > 1800.0 && *end <= 9000.0));
    assert!(instances("start_s").iter().all(|start| *start >= 0.0));
    // What is left of the floor, given what was served at what accuracy.
    let models = column(&case, "first/instances.csv", "model");
    let requests = column(&case, "first/instances.csv", "requests");
    let points: f64 = (0..starts.len())
        .filter(|&row| starts[row] <= 1800.0)
        .map(|row| requests[row].parse::<f64>().unwrap() * if models[row].contains("Qwen") { 64.3 } else { 47.6 })
        .sum();
    let left = (55.0 * 120.0 - points) / (120.0 - served.len() as f64);
    assert!((number(&replanned["floors"]["w"]) - left.max(0.0)).abs() < 1e-6, "{replanned}");
    assert!(number(&replanned["before_j"]) > 0.0 && number(&plan["bound_j"]) <= number(&plan["objective_j"]));
    assert!(number(&plan["objective_j"]) < number(&case.json("first/plan.json")["objective_j"]));

    assert_code(&case.run(&["check", "second"]), 0);
    assert_code(&case.run(&["explain", "second", "119"]), 0);
    assert_code(&case.run(&["explain", "second", &served[0]]), 65);
    let rows: usize = std::fs::read_dir(case.path("second/shards"))
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap().lines().count() - 1)
        .sum();
    assert_eq!(rows, 120 - served.len());

    // And once more from there.
    let output = replan(&case, "--replan second --start 2026-01-10T00:40:00Z --out third --json --quiet");
    assert_code(&output, 0);
    let third = json(&output);
    assert_eq!((&third["replan"]["origin"], number(&third["replan"]["since_origin_s"])), (&Value::from(START), 2400.0));
    assert_eq!(third["requests"], plan["requests"]);
    assert_code(&case.run(&["check", "third"]), 0);
    case.write("third/served.csv", &case.read("third/served.csv").replacen("\n1,", "\n61,", 1));
    let check = case.run(&["check", "third"]);
    assert_code(&check, 65);
    assert!(stderr(&check).contains("served.csv"), "{}", stderr(&check));
}

#[test]
fn what_runs_keeps_its_devices_and_its_share_of_the_cap() {
    let case = planned(&format!("--power-cap-w {}", 2.0 * (900.0 + 4.0 * 70.0) + 1500.0));
    let ends: Vec<f64> = column(&case, "first/instances.csv", "end_s").iter().map(|end| end.parse().unwrap()).collect();
    let first = ends.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(first > 45.0, "{ends:?}");
    // While it loads, with telemetry that shows nothing but idle devices and another's on the second node.
    let mut text = "timestamp,node,scope,device_index,power_w\n".to_owned();
    for second in 0..97 {
        let (date, hour, minute) = if second < 60 { ("09", "23", "59") } else { ("10", "00", "00") };
        let at = format!("2026-01-{date}T{hour}:{minute}:{:02}Z", second % 60);
        for (node, index) in [("gpu1", 0), ("gpu1", 1), ("gpu1", 2), ("gpu1", 3), ("gpu2", 3)] {
            writeln!(text, "{at},{node},device,{index},{}", if node == "gpu2" { 300 } else { 70 }).unwrap();
        }
    }
    case.write("t.csv", &text);
    for (more, busy) in [("", 0), ("--telemetry t.csv", 1)] {
        let line = format!("--replan first --start 2026-01-10T00:00:40Z --out second {more}");
        assert_code(&replan(&case, &line), 0);
        let adjustment = &case.json("second/plan.json")["power_adjustment"];
        let kept = adjustment["kept"].as_array().unwrap();
        assert!(!kept.is_empty() && number(&kept[0]["power_w"]) > 0.0, "{adjustment}");
        assert!((number(&kept[0]["end_s"]) + 40.0 - first).abs() < 1e-3);
        assert_eq!(adjustment["busy"].as_array().unwrap().len(), busy);
        assert_code(&case.run(&["check", "second"]), 0);
    }
}

#[test]
fn what_cannot_be_planned_anew_is_said() {
    let case = planned("");
    for (line, says) in [
        ("--replan first --start 2026-01-10T03:00:00Z --out second", "nothing is left to plan"),
        ("--replan first --start 2026-01-09T00:00:00Z --out second", "starts later, at 2026-01-10T00:00:00Z"),
        ("--replan first --start 2026-01-10T00:30:00Z --out first", "is still needed"),
        ("--replan first --workload w.csv --out second", "cannot be used with"),
    ] {
        let output = replan(&case, line);
        assert_code(&output, 2);
        assert!(stderr(&output).contains(says), "{line}: {}", stderr(&output));
    }
    assert_code(&replan(&case, "--replan absent --out second"), 66);
    case.write("w.csv", &case.read("w.csv").replace("3600", "3601"));
    let output = replan(&case, "--replan first --start 2026-01-10T00:30:00Z --out second");
    assert_code(&output, 65);
    assert!(stderr(&output).contains("w.csv") && !case.path("second").exists(), "{}", stderr(&output));
}

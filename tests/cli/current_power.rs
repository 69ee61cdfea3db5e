//! Current power on the command line: busy devices, the cap beside others, stale telemetry, and plans it does not touch.

use std::fmt::Write;

use serde_json::Value;

use crate::case::{CLUSTER, Case, assert_code, json, stderr, stdout, words};

/// Ten minutes of telemetry come before it.
const START: &str = "2026-01-10T00:10:00Z";
const PLAN: &str = "--workload w.csv --deadline 2h --start 2026-01-10T00:10:00Z";

/// Watts of a device, by node, index and second.
type Power = fn(&str, u32, u32) -> f64;

fn idle(_: &str, _: u32, second: u32) -> f64 {
    70.0 + f64::from(second % 3) - 1.0
}

/// All devices of the first node serve somebody, in waves.
fn first_node_busy(node: &str, index: u32, second: u32) -> f64 {
    if node == "gpu1" { 400.0 + 50.0 * (f64::from(second + 7 * index) / 9.0).sin() } else { idle(node, index, second) }
}

/// A sample a second of both nodes of four devices, until `age` seconds before the start.
fn telemetry(power: Power, age: u32) -> String {
    let mut text = "timestamp,node,scope,device_index,power_w\n".to_owned();
    for second in 0..=600 - age {
        for node in ["gpu1", "gpu2"] {
            for index in 0..4 {
                let (minute, second_of, watts) = (second / 60, second % 60, power(node, index, second));
                writeln!(text, "2026-01-10T00:{minute:02}:{second_of:02}Z,{node},device,{index},{watts:.2}").unwrap();
            }
        }
    }
    text
}

fn plan(case: &Case, more: &str) -> std::process::Output {
    case.plan(&[words(PLAN), words(more)].concat())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Everything in the plan directory but what may differ.
fn bytes(case: &Case, plan: &str) -> Vec<(String, Vec<u8>)> {
    fn collect(folder: &std::path::Path, within: &str, found: &mut Vec<(String, Vec<u8>)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{within}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                collect(&entry.path(), &name, found);
            } else if name == "/plan.json" {
                let mut plan: Value = serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap();
                for key in ["run", "power_adjustment"] {
                    plan.as_object_mut().unwrap().shift_remove(key);
                }
                found.push((name, serde_json::to_vec(&plan).unwrap()));
            } else {
                found.push((name, std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    collect(&case.path(plan), "", &mut found);
    found.sort();
    found
}

#[test]
fn a_plan_that_telemetry_does_not_concern_keeps_its_bytes() {
    // Without a cap, and with one that does not bind.
    for site in ["", "[site]\npower_cap_w = 60000\n"] {
        let case = Case::new();
        case.write("cluster.toml", &format!("{CLUSTER}{site}"));
        case.write("t.csv", &telemetry(idle, 0));
        assert_code(&plan(&case, "--out without"), 0);
        assert_code(&plan(&case, "--out with --telemetry t.csv"), 0);
        let adjustment = &case.json("with/plan.json")["power_adjustment"];
        assert_eq!(
            (&adjustment["busy"], &adjustment["background"]["steps"]),
            (&Value::Array(vec![]), &Value::Array(vec![]))
        );
        assert_eq!(adjustment["idle_power"][0]["taken"], false);
        assert_eq!(adjustment["warnings"], Value::Array(vec![]));
        assert!(case.json("without/plan.json")["power_adjustment"].is_null());
        let (without, with) = (bytes(&case, "without"), bytes(&case, "with"));
        assert!(without.len() > 8);
        for (a, b) in without.iter().zip(&with) {
            assert!(a == b, "{}: {}\n{}", a.0, String::from_utf8_lossy(&a.1), String::from_utf8_lossy(&b.1));
        }
        assert_eq!(without.len(), with.len());
        assert_code(&case.run(&["check", "with"]), 0);
    }
}

#[test]
fn a_busy_device_is_avoided_until_it_is_free() {
    let case = Case::new();
    case.write("t.csv", &telemetry(first_node_busy, 0));
    let output = plan(&case, "--telemetry t.csv");
    assert_code(&output, 0);
    let text = stdout(&output);
    assert!(text.contains("busy      4 devices, not offered for 1 h 00 min: gpu1 device 0"), "{text}");
    assert!(text.contains("by moving_average"), "{text}");
    let rows = case.read("plan/instances.csv");
    assert!(rows.contains(",gpu2,") && !rows.contains(",gpu1,"), "{rows}");
    let adjustment = &case.json("plan/plan.json")["power_adjustment"];
    assert_eq!((adjustment["busy"].as_array().unwrap().len(), number(&adjustment["busy"][0]["free_s"])), (4, 3600.0));
    let check = case.run(&["check", "plan", "--json"]);
    assert_code(&check, 0);
    assert_eq!(json(&check)["telemetry_compared"], true);

    // Where all are, the plan begins when they are free.
    let all: Power = |_, index, second| first_node_busy("gpu1", index, second);
    case.write("t.csv", &telemetry(all, 0));
    for (until, second) in [("--busy-until 2026-01-10T00:30:00Z", 1200.0), ("--busy-default 40min", 2400.0)] {
        assert_code(&plan(&case, &format!("--telemetry t.csv {until}")), 0);
        let rows = case.read("plan/instances.csv");
        let header: Vec<&str> = rows.lines().next().unwrap().split(',').collect();
        let at = header.iter().position(|name| *name == "start_s").unwrap();
        let starts: Vec<f64> =
            rows.lines().skip(1).map(|row| row.split(',').nth(at).unwrap().parse().unwrap()).collect();
        let first = starts.iter().copied().fold(f64::INFINITY, f64::min);
        assert!((first - second).abs() < 1e-6, "{first}");
        assert_code(&case.run(&["check", "plan"]), 0);
    }
    // An instance moved to when its device is not free yet is found out.
    case.write("plan/instances.csv", &case.read("plan/instances.csv").replace(",2400,", ",2390,"));
    let check = case.run(&["check", "plan"]);
    assert_code(&check, 4);
    assert!(stdout(&check).contains("C-DEVICE-HELD"), "{}", stdout(&check));
    // After the deadline there is no time left.
    assert_code(&plan(&case, "--telemetry t.csv --busy-until 3h"), 3);
}

#[test]
fn a_binding_cap_is_kept_beside_what_others_draw() {
    let standing = 2.0 * (900.0 + 4.0 * 70.0);
    let case = Case::new();
    case.write("w.csv", &crate::case::workload(4000));
    case.write("t.csv", &telemetry(first_node_busy, 0));
    // Others draw some 1,300 W beyond idle.
    let capped = |room: f64, out: &str, more: &str| {
        let output = plan(&case, &format!("--power-cap-w {} --out {out} {more}", standing + room));
        assert_code(&output, 0);
        assert_code(&case.run(&["check", out]), 0);
        case.json(&format!("{out}/plan.json"))
    };
    let without = capped(1500.0, "without", "");
    let roomy = capped(2200.0, "roomy", "--telemetry t.csv");
    let with = capped(1500.0, "with", "--telemetry t.csv");
    assert_eq!(roomy["power_adjustment"], with["power_adjustment"]);
    let steps = with["power_adjustment"]["background"]["steps"].as_array().unwrap().clone();
    let margin = number(&with["power_adjustment"]["background"]["margin_w"][0]);
    assert!(number(&steps[0]["power_w"]) > 1300.0 && margin > 0.0, "{steps:?}");
    assert_eq!(number(&steps.last().unwrap()["power_w"]), 0.0);
    // What the plan draws, from its own files, and others, against the cap at every step of either.
    let peaks = |plan: &Value| -> Vec<(String, f64)> {
        let deployments = plan["deployments"].as_array().unwrap();
        let one = |deployment: &Value| {
            let net = number(&deployment["peak_power_w"]) - number(&deployment["idle_power_w"]);
            (deployment["id"].as_str().unwrap().to_owned(), net)
        };
        deployments.iter().map(one).collect()
    };
    let instances = |out: &str, plan: &Value| -> Vec<(f64, f64, f64)> {
        let rows = case.read(&format!("{out}/instances.csv"));
        let header: Vec<String> = rows.lines().next().unwrap().split(',').map(str::to_owned).collect();
        let at = |name: &str| header.iter().position(|known| known == name).unwrap();
        let one = |row: &str| {
            let cells: Vec<&str> = row.split(',').collect();
            let peak = peaks(plan).into_iter().find(|(id, _)| *id == cells[at("deployment")]).unwrap().1;
            (cells[at("start_s")].parse().unwrap(), cells[at("end_s")].parse().unwrap(), peak)
        };
        rows.lines().skip(1).map(one).collect()
    };
    let most = |out: &str, plan: &Value| -> f64 {
        let own = instances(out, plan);
        let others = |at: f64| {
            let holding = steps.iter().take_while(|step| number(&step["from_s"]) <= at);
            holding.last().map_or(0.0, |step| number(&step["power_w"]))
        };
        let drawn =
            |at: f64| own.iter().filter(|(from, to, _)| *from <= at && at < *to).map(|(_, _, w)| w).sum::<f64>();
        let instants = own.iter().map(|(from, _, _)| *from).chain(steps.iter().map(|step| number(&step["from_s"])));
        instants.filter(|at| drawn(*at) > 0.0).map(|at| drawn(at) + others(at)).fold(0.0, f64::max)
    };
    assert!(most("with", &with) <= 1500.0 + 1e-6, "{}", most("with", &with));
    assert!(most("roomy", &roomy) <= 2200.0 + 1e-6, "{}", most("roomy", &roomy));
    assert!(most("without", &without) > 1500.0, "the cap binds only beside others: {}", most("without", &without));
    assert!(number(&with["bound_j"]) <= number(&with["objective_j"]));

    // The background taken out of the file, the same plan is refused, and so is another series.
    let text = case.read("with/plan.json");
    let mut plan: Value = serde_json::from_str(&text).unwrap();
    plan["power_adjustment"]["background"]["steps"][0]["power_w"] = Value::from(2500.0);
    case.write("with/plan.json", &plan.to_string());
    let check = case.run(&["check", "with"]);
    assert_code(&check, 4);
    assert!(stdout(&check).contains("C-TELEMETRY") && stdout(&check).contains("background"), "{}", stdout(&check));
    plan["power_adjustment"]["background"]["steps"][0]["power_w"] = Value::from(-1.0);
    case.write("with/plan.json", &plan.to_string());
    let check = case.run(&["check", "with"]);
    assert_code(&check, 4);
    assert!(stdout(&check).contains("C-BACKGROUND"), "{}", stdout(&check));
    case.write("with/plan.json", &text);
    // A log that grows says the same of the past; one that is another is not compared.
    case.write("t.csv", &(telemetry(first_node_busy, 0) + "2026-01-10T00:20:00Z,gpu2,device,0,700\n"));
    let check = case.run(&["check", "with", "--json"]);
    assert_code(&check, 0);
    assert_eq!(json(&check)["telemetry_compared"], true);
    case.write("t.csv", &telemetry(idle, 0));
    let check = case.run(&["check", "with", "--json"]);
    assert_code(&check, 0);
    assert_eq!(json(&check)["telemetry_compared"], false);
}

#[test]
fn telemetry_that_stopped_is_stale_and_not_extrapolated() {
    let case = Case::new();
    case.write("t.csv", &telemetry(first_node_busy, 0));
    let late = PLAN.replace(START, "2026-01-10T00:20:00Z");
    let output = case.plan(&[words(&late), words("--telemetry t.csv --power-cap-w 9000")].concat());
    assert_code(&output, 0);
    let text = stdout(&output);
    assert!(text.contains("8 channels stale, with last samples up to 10.0 min old"), "{text}");
    let adjustment = &case.json("plan/plan.json")["power_adjustment"];
    assert_eq!(adjustment["busy"], Value::Array(vec![]));
    let silent = adjustment["silent"].as_array().unwrap();
    assert_eq!((silent.len(), &silent[0]["reason"], number(&silent[0]["age_s"])), (8, &Value::from("stale"), 600.0));
    // The high quantile of what was seen, throughout: some 380 W beyond idle for each device of the first node.
    let assumed = number(&adjustment["background"]["assumed_w"]);
    assert!((4.0 * 370.0..4.0 * 385.0 + 8.0).contains(&assumed), "{assumed}");
    let steps = adjustment["background"]["steps"].as_array().unwrap();
    assert!(steps.len() == 1 && (number(&steps[0]["power_w"]) - assumed).abs() <= 0.1, "{steps:?}");
    assert!(adjustment["background"]["forecast_w"].is_null());
    assert_code(&case.run(&["check", "plan"]), 0);
}

#[test]
fn measured_idle_power_takes_the_place_of_the_stated_one() {
    let case = Case::new();
    case.write(
        "cluster.toml",
        &CLUSTER.replace("base_power_w = 900", "base_power_w = 900\nsuspend = true\nwake_s = 60\nwake_j = 90000"),
    );
    let cool: Power = |node, index, second| idle(node, index, second) - 25.0;
    case.write("t.csv", &telemetry(cool, 0));
    assert_code(&plan(&case, "--out without"), 0);
    let output = plan(&case, "--out with --telemetry t.csv");
    assert_code(&output, 0);
    let text = stdout(&output);
    assert!(text.contains("W a device of gpu, measured on 8 devices, in place of 70.0 W"), "{text}");
    let idle = &case.json("with/plan.json")["power_adjustment"]["idle_power"][0];
    assert!((number(&idle["measured_w"]) - 44.5).abs() < 1.0 && idle["taken"] == true, "{idle}");
    let joules = |out: &str| number(&case.json(&format!("{out}/plan.json"))["energy"]["idle_j"]);
    assert!(joules("with") < joules("without"), "{} {}", joules("with"), joules("without"));
    assert_code(&case.run(&["check", "with"]), 0);
    let explain = case.run(&["explain", "with", "1"]);
    assert_code(&explain, 0);
}

#[test]
fn telemetry_of_other_nodes_is_named() {
    let case = Case::new();
    case.write("t.csv", &telemetry(idle, 0).replace("gpu", "other"));
    let output = plan(&case, "--telemetry t.csv");
    assert_code(&output, 65);
    let message = stderr(&output);
    assert!(
        message.contains("none of its channels is of a node or device of the cluster: other1 device 0"),
        "{message}"
    );
    case.write("t.csv", &telemetry(idle, 0).replace("gpu2,device,3", "gpu3,device,3"));
    let output = plan(&case, "--telemetry t.csv");
    assert_code(&output, 0);
    let text = stdout(&output);
    assert!(text.contains("1 channel in the telemetry of no node or device of the cluster: gpu3 device 3"), "{text}");
    assert!(text.contains("1 device of the cluster without telemetry"), "{text}");
    let late = PLAN.replace(START, "2026-01-09T00:00:00Z");
    let output = case.plan(&[words(&late), words("--telemetry t.csv")].concat());
    assert_code(&output, 65);
    assert!(stderr(&output).contains("from before the start of the plan"), "{}", stderr(&output));
    for (more, code, says) in [
        ("--telemetry absent.csv", 66, "absent.csv"),
        ("--telemetry -", 2, "stdin"),
        ("--busy-default 1h", 2, "--telemetry"),
        ("--telemetry t.csv --busy-until 2020-01-01T00:00:00Z", 2, "--busy-until"),
        ("--telemetry t.csv --forecaster w.csv", 65, "w.csv"),
    ] {
        let output = plan(&case, more);
        assert_code(&output, code);
        assert!(stderr(&output).contains(says), "{more}: {}", stderr(&output));
    }
    // The whole plan says what was taken into account, in the words of its schema.
    let output = plan(&case, "--telemetry t.csv --json --quiet");
    assert_eq!(json(&output)["power_adjustment"]["stale_after_s"], 120.0);
    assert!(stdout(&case.run(&["schema", "plan"])).contains("power_adjustment"));
}

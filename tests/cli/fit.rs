//! `import`, `fit` and `evaluate`, and the bundled models.

use std::fs;

use serde_json::Value;

use crate::case::{Case, assert_code, bundled, json, stderr, stdout, words};

/// The arguments of `make profiles`, but for `--out`.
const BUNDLED: [&str; 4] = [
    "fit",
    "profiles/samples/h100_b200_chat_mlenergy_v3.csv",
    "profiles/samples/a100_chat_carried.csv",
    "profiles/samples/cpu_estimated.csv",
];

#[test]
fn the_bundled_models_are_what_fit_makes_of_the_bundled_samples() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("models.json");
    let mut command = assert_cmd::Command::cargo_bin("jouleplan").unwrap();
    let output = command.current_dir(bundled("")).args(BUNDLED).arg("--out").arg(&out).arg("--json").output().unwrap();
    assert_code(&output, 0);
    let read = |path| serde_json::from_str::<Value>(&fs::read_to_string(path).unwrap()).unwrap();
    let (made, kept) = (read(out), read(bundled("profiles/models.json")));
    let mut differences = Vec::new();
    compare("", &made, &kept, &mut differences);
    assert!(differences.is_empty(), "`make profiles` makes them again:\n{}", differences.join("\n"));

    let report = json(&output);
    let models = report["models"].as_array().unwrap();
    assert_eq!(models.len(), made["families"].as_array().unwrap().len());
    for key in ["family", "model", "device", "operating_point", "energy", "runtime"] {
        assert!(!models[0][key].is_null(), "{key}");
    }
    for key in ["form", "r2", "r2_uncentred", "cv_mape", "error_factors_90", "n", "negative_predictions"] {
        assert!(!models[0]["energy"][key].is_null(), "{key}");
    }
    let both: Vec<&str> = models.iter().filter(|m| m["device"] == "H100").filter_map(|m| m["model"].as_str()).collect();
    let b200 = |name: &&&str| models.iter().any(|m| m["device"] == "B200" && m["model"] == **name);
    let mut shared: Vec<&&str> = both.iter().filter(b200).collect();
    shared.dedup();
    assert!(shared.len() >= 10, "{} models on both H100 and B200", shared.len());
    assert!(models.iter().any(|m| m["device"] == "A100") && models.iter().any(|m| m["device"] == "Xeon-8480+"));
}

/// Numbers may differ by rounding, nothing else may.
fn compare(place: &str, a: &Value, b: &Value, differences: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => {
            for (key, value) in a {
                compare(&format!("{place}.{key}"), value, b.get(key).unwrap_or(&Value::Null), differences);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{place}[{index}]"), a, b, differences);
            }
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            if (a - b).abs() > 1e-6 * a.abs().max(b.abs()) + 1e-15 {
                differences.push(format!("{place}: {a} against {b}"));
            }
        }
        _ if a == b => {}
        _ => differences.push(format!("{place}: {a} against {b}")),
    }
}

#[test]
fn samples_go_through_pipes() {
    let case = Case::new();
    let samples = fs::read(bundled("profiles/samples/cpu_estimated.csv")).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("jouleplan").unwrap();
        command.current_dir(case.folder.path()).args(arguments).write_stdin(samples.clone()).output().unwrap()
    };
    let output = run(&["fit", "-", "--out", "-"]);
    assert_code(&output, 0);
    let models = json(&output);
    assert_eq!(models["families"].as_array().unwrap().len(), 1);
    assert_eq!(models["samples"][0]["sha256"].as_str().unwrap().len(), 64);
    case.write("cpu.json", &stdout(&output));
    let evaluated = json(&run(&["evaluate", "--models", "cpu.json", "-", "--json"]));
    let group = &evaluated["groups"][0];
    for key in ["family", "model", "device", "n", "energy_mape", "runtime_mape", "extrapolated_share", "energy_bias"] {
        assert!(!group[key].is_null(), "{key}");
    }
    assert!(group["energy_mape"].as_f64().unwrap() < 0.2, "{group}");
    let table = run(&["evaluate", "--models", "cpu.json", "-"]);
    assert!(stdout(&table).contains("energy MAPE") && stdout(&table).contains("Xeon-8480+"));
    assert_code(&run(&["fit", "-", "--out", "-", "--json"]), 2);
}

#[test]
fn a_fit_is_reported_in_text_and_charts() {
    let case = Case::new();
    fs::copy(bundled("profiles/samples/cpu_estimated.csv"), case.folder.path().join("s.csv")).unwrap();
    assert_code(&case.run(&["fit", "s.csv", "--out", "m.json", "--report", "deep/report"]), 0);
    let text = case.read("deep/report/report.txt");
    for part in ["90 % of measured / predicted", "95 % interval", "analysis of variance", "in:out", "missed by most"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let mut charts: Vec<String> = fs::read_dir(case.folder.path().join("deep/report"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".svg"))
        .collect();
    charts.sort();
    assert_eq!((charts.len(), charts[0].as_str()), (2, "all.svg"), "{charts:?}");
    assert!(text.contains(&charts[1]), "{charts:?}");
    let chart = case.read(&format!("deep/report/{}", charts[1]));
    assert!(chart.contains("energy: error by output tokens") && chart.matches("<circle").count() > 100);
    // A file stands where the folder should be.
    assert_code(&case.run(&["fit", "s.csv", "--out", "m.json", "--report", "s.csv"]), 73);
}

#[test]
fn tables_and_benchmarks_are_imported() {
    let case = Case::new();
    case.write("map.toml", "[constants]\nmodel = \"m\"\nprecision = \"bfloat16\"\ndevice = \"A100\"\ndevices = 1\n\
        tensor_parallel = 1\nkv_cache = true\nrequests = 1\nmeasurement = \"trial\"\nbatch_size = 1\nprovenance = \"imported\"\n\
        [columns]\ninput_tokens = \"in\"\noutput_tokens = \"out\"\nruntime_s = \"t\"\ngpu_energy_j = \"e\"\n");
    case.write("t.csv", "in,out,t,e\n8,16,1.5,300\n16,32,3,600\n");
    let output = case.run(&["import", "csv", "--map", "map.toml", "t.csv", "--out", "s.csv", "--json"]);
    assert_code(&output, 0);
    assert_eq!(json(&output)["samples"], 2);
    assert!(case.read("s.csv").starts_with("model,precision,device"));

    let row = r#"{"gpu_model": "H100", "num_gpus": 1, "max_num_seqs": 64, "avg_batch_size": 63.5, "avg_output_len": 500.0,
        "energy_per_request_joules": 100.0, "output_throughput_tokens_per_sec": 2000.0, "median_itl_ms": 30.0,
        "p99_itl_ms": 60.0}"#;
    let file = r#"{"task": "chat", "model_id": "o/m", "weight_precision": "fp8", "configurations": [ROW]}"#;
    case.write("e.json", &file.replace("ROW", row));
    let output = case.run(&["import", "mlenergy", "e.json", "--out", "-"]);
    assert_code(&output, 0);
    assert!(stdout(&output).contains("o/m,fp8,H100"), "{}", stdout(&output));
}

#[test]
fn samples_are_counted_where_prompts_are_unknown_and_remarks_are_made_once() {
    let case = Case::new();
    let bundled = fs::read_to_string(bundled("profiles/samples/h100_b200_chat_mlenergy_v3.csv")).unwrap();
    let kept = |start: &str| bundled.lines().filter(|line| line.starts_with(start)).collect::<Vec<_>>();
    let rows = [kept("model,"), kept("Qwen/Qwen3-8B,bfloat16,H100"), kept("Qwen/Qwen3-14B,bfloat16,H100")].concat();
    case.write("s.csv", &(rows.join("\n") + "\n").replace("mlenergy_v3/lm-arena-chat", "nobody/knows"));
    let output = case.run(&["fit", "s.csv", "--out", "m.json", "--json"]);
    assert_code(&output, 0);
    let report = json(&output);
    let models = report["models"].as_array().unwrap();
    let counted: u64 = models.iter().map(|model| model["energy"]["n"].as_u64().unwrap()).sum();
    assert_eq!((models.len(), counted), (2, rows.len() as u64 - 1), "{report}");
    assert!(models.iter().all(|model| model["energy"]["r2"].as_f64().unwrap() > 0.9), "{report}");

    case.write("s.csv", &(rows.join("\n") + "\n"));
    let output = case.run(&["fit", "s.csv", "--out", "m.json"]);
    assert_code(&output, 0);
    assert_eq!(stderr(&output).matches("input lengths unknown").count(), 1, "{}", stderr(&output));
    assert!(stderr(&output).contains("2 families, for example Qwen/Qwen3-14B/"), "{}", stderr(&output));
}

#[test]
fn malformed_samples_and_models_are_refused_with_their_place() {
    let case = Case::new();
    let good = fs::read_to_string(bundled("profiles/samples/cpu_estimated.csv")).unwrap();
    let header = good.lines().next().unwrap();
    let samples = [
        (String::new(), "empty"),
        (good.replacen("output_tokens", "nothing", 1), "line 1"),
        (good.replacen("trial,", "trial,trial,", 1), "line"),
        (good.replacen("2.6800886", "NaN", 1), "line 2"),
        (good.replacen("2.6800886", "-1", 1), "line 2"),
        (good.replacen("1045.2345", "1e999", 1), "line 2"),
        (good.replacen("estimated", "guessed", 1), "line 2"),
        (format!("{header}\n\"x"), "line 2"),
    ];
    for (text, place) in samples {
        case.write("s.csv", &text);
        let output = case.run(&["fit", "s.csv", "--out", "m.json"]);
        assert_code(&output, 65);
        assert!(stderr(&output).contains("s.csv") && stderr(&output).contains(place), "{place}: {}", stderr(&output));
        assert!(!case.path("m.json").exists());
    }
    let good = case.read("models.json");
    let models = [
        (String::new(), "line 1"),
        (good[..good.len() / 2].to_owned(), "line"),
        (good.replacen("\"schema_version\": 1", "\"schema_version\": 9", 1), "schema_version"),
        (good.replacen("\"devices\": 1", "\"devices\": 0", 1), "families[0]"),
        (good.replacen("\"devices\": 1", "\"devices\": -1", 1), "families[0]"),
        (good.replacen("\"value\": ", "\"value\": -", 1), "families[0]"),
        (good.replacen("\"batch_size\": ", "\"batch_size\": 1e300, \"x\": ", 1), "families[0]"),
        (good.replacen("\"batch_size\": ", "\"batch_size\": 1e999, \"x\": ", 1), "line"),
        (good.replacen("\"form\": \"phase\"", "\"form\": \"magic\"", 1), "families[0]"),
        (good.replacen("\"feature\": \"", "\"feature\": \"x", 1), "families[0]"),
        ("[".repeat(100_000), "line 1"),
    ];
    for (text, place) in models {
        case.write("m.json", &text);
        let output =
            case.run(&words("plan --models m.json --cluster cluster.toml --workload w.csv --deadline 1h --out plan"));
        assert_code(&output, 65);
        assert!(stderr(&output).contains("m.json") && stderr(&output).contains(place), "{place}: {}", stderr(&output));
        assert!(!case.path("plan").exists());
    }
    let twice = case.run(&words(
        "plan --models models.json models.json --cluster cluster.toml --workload w.csv --deadline 1h --out plan",
    ));
    assert_code(&twice, 65);
    assert!(stderr(&twice).contains("earlier models file"), "{}", stderr(&twice));
}

/// Times alone are models to evaluate; to plan with them, somebody has to say a power, and the plan says that somebody did.
#[test]
fn samples_without_energy_are_planned_with_only_at_a_stated_power() {
    let case = Case::new();
    let text = fs::read_to_string(bundled("profiles/samples/h100_b200_chat_mlenergy_v3.csv")).unwrap();
    let energy = text.lines().next().unwrap().split(',').position(|column| column == "gpu_energy_j").unwrap();
    let without = |line: &str| {
        let cells = line.split(',').enumerate().map(|(at, cell)| if at == energy { "" } else { cell });
        cells.collect::<Vec<_>>().join(",") + "\n"
    };
    let rows = text.lines().skip(1).filter(|line| line.starts_with("Qwen/Qwen3-8B,bfloat16,H100"));
    let header = text.lines().next().unwrap().to_owned() + "\n";
    case.write("times.csv", &(header + &rows.map(without).collect::<String>()));

    let output = case.run(&["fit", "times.csv", "--out", "models.json"]);
    assert_code(&output, 0);
    assert!(stderr(&output).contains("is missing"), "{}", stderr(&output));
    let evaluated = case.run(&["evaluate", "--models", "models.json", "times.csv", "--json"]);
    assert_code(&evaluated, 0);
    let group = &json(&evaluated)["groups"][0];
    assert!(group["energy_mape"].is_null() && group["runtime_mape"].as_f64().unwrap() < 0.05, "{group}");
    let refused = case.plan(&words("--workload w.csv --deadline 1h"));
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("its energy is missing; fit it with --assume-power"), "{}", stderr(&refused));

    let stated = ["fit", "times.csv", "--out", "models.json", "--assume-power", "H100=400"];
    assert_code(&case.run(&stated), 0);
    let planned = case.plan(&words("--workload w.csv --deadline 1h --json"));
    assert_code(&planned, 0);
    assert_eq!(json(&planned)["estimated_share"].as_f64(), Some(1.0));
    assert_code(&case.run(&["check", "plan"]), 0);
    for wrong in ["H100", "=4", "H100=-4", "H100=much"] {
        assert_code(&case.run(&["fit", "times.csv", "--out", "m.json", "--assume-power", wrong]), 2);
    }
}

#[test]
fn models_are_updated_by_what_runs_of_them_took() {
    let case = Case::new();
    // Two rows of a family as a run would have them: half as much again of everything, at a known idle power.
    let bundled = fs::read_to_string(bundled("profiles/samples/h100_b200_chat_mlenergy_v3.csv")).unwrap();
    let mut lines = bundled.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let column = |name: &str| header.iter().position(|known| *known == name).unwrap();
    let scaled = |line: &str, factor: f64| {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        for name in ["gpu_energy_j", "runtime_s"] {
            let cell = &mut cells[column(name)];
            *cell = (factor * cell.parse::<f64>().unwrap()).to_string();
        }
        (cells[column("idle_power_w")], cells[column("provenance")]) = ("70".to_owned(), "measured".to_owned());
        cells.join(",")
    };
    let rows: Vec<&str> = lines.filter(|line| line.starts_with("Qwen/Qwen3-8B,bfloat16,H100")).collect();
    let write = |name: &str, factor: f64| {
        let runs: Vec<String> = rows[2..4].iter().map(|row| scaled(row, factor)).collect();
        case.write(name, &format!("{}\n{}\n", header.join(","), runs.join("\n")));
    };
    write("night.csv", 1.5);
    let before = case.read("models.json");
    let output = case.run(&words("fit night.csv --update=models.json --out new.json --json"));
    assert_code(&output, 0);
    let report = json(&output);
    let updated = report["updated"].as_array().unwrap();
    assert_eq!((updated.len(), updated[0]["n"].as_u64()), (1, Some(2)), "{report:#}");
    assert!((updated[0]["time_factor"].as_f64().unwrap() - 1.5).abs() < 0.1, "{report:#}");
    assert_eq!(updated[0]["operating_points"].as_array().unwrap().len(), 2);
    assert_eq!(case.read("models.json"), before);
    let bias = |models: &str, samples: &str| {
        let evaluated = json(&case.run(&["evaluate", "--models", models, samples, "--json"]));
        evaluated["groups"][0]["energy_bias"].as_f64().unwrap()
    };
    assert!(bias("models.json", "night.csv") < -0.25 && bias("new.json", "night.csv").abs() < 0.02);
    // Everything else is as it was, and the file says what it comes from.
    let (old, new) = (case.json("models.json"), case.json("new.json"));
    let key = |family: &Value| (family["family"]["model"].clone(), family["family"]["device"].clone());
    for (old, new) in old["families"].as_array().unwrap().iter().zip(new["families"].as_array().unwrap()) {
        let mut differences = Vec::new();
        compare("", old, new, &mut differences);
        assert_eq!(differences.is_empty(), key(old).0 != "Qwen/Qwen3-8B", "{}: {differences:?}", key(old).0);
        assert_eq!(key(old), key(new));
    }
    let sources = new["samples"].as_array().unwrap();
    assert_eq!((sources.len(), sources.last().unwrap()["path"].as_str()), (3, Some("night.csv")), "{sources:?}");

    // In place, and planned with.
    let output = case.run(&words("fit night.csv --update --out models.json"));
    assert_code(&output, 0);
    assert!(stdout(&output).contains("seconds times") && stdout(&output).contains("batch cap"), "{}", stdout(&output));
    assert!(stderr(&output).contains("1 model corrected, 0 new"), "{}", stderr(&output));
    assert_eq!(case.read("models.json"), case.read("new.json"));
    case.planned();

    write("wrong.csv", 1500.0);
    // A family of which too little is known for a model of its own.
    let mut cells: Vec<&str> = rows[0].split(',').collect();
    (cells[column("model")], cells[column("gpu_energy_j")]) = ("nobody/knows", "");
    let lone = cells.join(",");
    case.write("lone.csv", &format!("{}\n{lone}\n", header.join(",")));
    for (line, code, why) in [
        ("fit wrong.csv --update --out models.json", 65, "check that they are of this family"),
        ("fit lone.csv --update --out models.json", 65, "nobody/knows/bfloat16/H100x1"),
        ("fit night.csv --update --out nothing.json", 66, "nothing.json"),
        ("fit night.csv --update --out -", 2, "no models at `-`"),
        ("fit night.csv --update=night.csv --out new.json", 65, "this is no models file"),
        ("fit night.csv --update --out models.json --cv kfold", 2, "--cv"),
    ] {
        let output = case.run(&words(line));
        assert_code(&output, code);
        assert!(stderr(&output).contains(why), "{line}: {}", stderr(&output));
        assert_eq!(case.read("models.json"), case.read("new.json"), "{line}");
    }
    assert!(!case.path("nothing.json").exists());
}

//! Rows of CSV through a command of the model's own, run here, and back to the caller.

use std::fs;

use crate::case::{Case, assert_code, bundled, json, stderr, words};

/// Appends to each row what it made of it, under another header.
const COMMAND: &str = r#"["bash", "-c", "{ echo request_id,answer; tail -n +2 \"$1\" | while IFS=, read -r id rest; do echo \"$id,\\\"made of $id, here\\\"\"; done; } > \"$2\"", "x", "{shard}", "{output}"]"#;

#[test]
fn rows_of_csv_come_back_with_what_a_command_made_of_them() {
    let case = Case::new();
    let engines = fs::read_to_string(bundled("profiles/engines.toml")).unwrap();
    case.write(
        "engines.toml",
        &engines.replace("engine = \"vllm\"", &format!("engine = \"vllm\"\ncommand = {COMMAND}")),
    );
    let row = |k: usize| format!("r{k},{},{}\n", 50 + (k * 37) % 400, 20 + (k * 53) % 200);
    let rows = || (0..60).rev().map(row);
    case.write("w.csv", &("request_id,input_tokens,output_tokens\n".to_owned() + &rows().collect::<String>()));
    let output =
        case.plan(&["--workload", "w.csv", "--deadline", "1h", "--engines", "engines.toml", "--baselines", "none"]);
    assert_code(&output, 0);
    let early = case.run(&words("collect plan"));
    assert_code(&early, 66);
    assert!(stderr(&early).contains("60 of 60 requests have no answer"), "{}", stderr(&early));
    assert_code(&case.run(&words("submit plan --local --yes --asap")), 0);
    let output = case.run(&words("collect plan --json"));
    assert_code(&output, 0);
    let report = json(&output);
    assert_eq!((report["requests"].as_u64(), report["answered"].as_u64()), (Some(60), Some(60)), "{report}");
    let file = report["jobs"][0]["file"].as_str().unwrap();
    assert!(file.ends_with("collected/w.csv"), "{file}");
    let expected = rows().map(|row| {
        let id = row.split(',').next().unwrap().to_owned();
        format!("{},\"made of {id}, here\"\n", row.trim_end())
    });
    let header = "request_id,input_tokens,output_tokens,answer\n".to_owned();
    assert_eq!(fs::read_to_string(case.path(file)).unwrap(), header + &expected.collect::<String>());
}

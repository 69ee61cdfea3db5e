//! `telemetry import` on its command line.

use std::fs;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("jouleplan").unwrap();
    command.current_dir(folder).arg("telemetry").args(arguments).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

const LOG: &str = "timestamp, index, power.draw [W]\n2024/04/05 06:17:10.000, 0, 100 W\n2024/04/05 06:17:11.000, 0, 200 W\n\
                   2024/04/05 06:17:12.000, 0, [N/A]\n2024/04/05 06:17:13.000, 0, 300 W\n2024/04/05 06:17:14.000, 0, 300 W\n";

#[test]
fn sums_gaps_and_time_zones() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("g.csv"), LOG).unwrap();
    let import = ["import", "nvidia-smi", "g.csv", "--out", "t.csv", "--node", "n1", "--utc-offset", "-05:30"];
    let output = run(folder.path(), &[&import[..], &["--json"]].concat());
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    let sum = &serde_json::from_slice::<Value>(&output.stdout).unwrap()["channels"][0];
    assert_eq!((sum["node"].as_str(), sum["scope"].as_str()), (Some("n1"), Some("device")));
    assert_eq!((sum["energy_j"].as_f64(), sum["seconds"].as_f64()), (Some(450.0), Some(2.0)));
    assert_eq!(
        (sum["gaps"].as_u64(), sum["gap_s"].as_f64(), sum["rows_without_power"].as_u64()),
        (Some(1), Some(2.0), Some(1))
    );
    let text = fs::read_to_string(folder.path().join("t.csv")).unwrap();
    assert!(text.contains("\n2024-04-05T11:47:12.000Z,n1,device,0,,,,,,\n"), "{text}");

    let table = String::from_utf8(run(folder.path(), &import).stdout).unwrap();
    assert!(table.contains("n1 device 0") && table.contains("450.0 J") && table.contains("225.0"), "{table}");
    let steps = run(folder.path(), &["import", "csv", "t.csv", "--out", "-", "--step", "2s"]);
    let steps = String::from_utf8(steps.stdout).unwrap();
    assert!(steps.contains("\n2024-04-05T11:47:10.000Z,n1,device,0,150,"), "{steps}");
}

#[test]
fn what_is_wrong_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("empty.csv"), "").unwrap();
    fs::write(folder.path().join("g.csv"), LOG).unwrap();
    fs::write(
        folder.path().join("bad.csv"),
        "timestamp, index, power.draw [W]\nnever, 0, 1 W\n2024/04/05 06:17:10, 0, 1 W\n",
    )
    .unwrap();
    let day = |k: u32| format!("2024/01/{:02} 00:00:00.000, 0, 100 W\n", 1 + k);
    let month: String = (0..28).map(day).collect();
    fs::write(folder.path().join("month.csv"), format!("timestamp, index, power.draw [W]\n{month}")).unwrap();
    let import = |files: &[&str]| run(folder.path(), &[&["import", "nvidia-smi", "--out", "t.csv"], files].concat());
    for (files, expected, said) in [
        (&["empty.csv"][..], 65, "empty.csv: line 1: the file is empty"),
        (&["bad.csv", "empty.csv"], 65, "bad.csv: line 2, column 1 (timestamp): `never`"),
        (&["g.csv", "g.csv"], 65, "its time overlaps with that in g.csv"),
        (&["gone.csv"], 66, "cannot read gone.csv"),
        (&["g.csv", "--start", "2026-01-01T00:00:00Z"], 2, "scrapes as text"),
        (&["g.csv", "--step", "1ms"], 2, "at least 100ms"),
        (&["month.csv", "--step", "100ms", "--max-gap", "1day"], 2, "name a longer step"),
    ] {
        let output = import(files);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(&output), expected, "{files:?}: {message}");
        assert!(message.contains(said), "{files:?}: {message}");
        assert!(!folder.path().join("t.csv").exists(), "{files:?}");
    }
}

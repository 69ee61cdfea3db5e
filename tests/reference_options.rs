//! The profile table of FREESH through `--options`: with nothing short, short requests belong on two
//! A100s and long ones, which two cannot serve, on eight.

mod reference_data;

use std::collections::BTreeSet;
use std::fs;

use assert_cmd::Command;
use reference_data::reference;

#[test]
fn short_requests_go_to_two_devices_and_long_ones_to_eight() {
    let Some(path) = reference("energy/freesh/freesh_profile_table.csv") else { return };
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|column| column == name).unwrap();
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let partitions: BTreeSet<&str> = records.iter().map(|row| &row[column("partition")]).collect();
    assert!(partitions.len() >= 2);
    for partition in partitions {
        let mut text = "option,class_or_request,energy_j,seconds,pool,devices,capacity_s\n".to_owned();
        for row in records.iter().filter(|row| &row[column("partition")] == partition) {
            let qps: f64 = row[column("max_qps")].parse().unwrap();
            if ["2xA100", "8xA100"].contains(&&row[column("mode")]) && qps > 0.0 {
                let [mode, class, energy] =
                    ["mode", "request_class", "energy_per_request_j"].map(|name| &row[column(name)]);
                let [pool, devices] = ["gpu_type", "n_gpus"].map(|name| &row[column(name)]);
                text.push_str(&format!("{mode},{class},{energy},{},{pool},{devices},3600\n", 1.0 / qps));
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let (table, out) = (folder.path().join("options.csv"), folder.path().join("plan"));
        fs::write(&table, text).unwrap();
        let mut program = Command::cargo_bin("jouleplan").unwrap();
        program.arg("plan").arg("--options").arg(table).arg("--out").arg(&out).assert().success();
        Command::cargo_bin("jouleplan").unwrap().arg("check").arg(&out).assert().success();
        let assignments = fs::read_to_string(out.join("assignments.csv")).unwrap();
        let served = |class: &str| {
            let row = assignments.lines().find(|line| line.starts_with(&format!("{class},"))).unwrap();
            row.split(',').nth(1).unwrap().to_owned()
        };
        assert_eq!((served("SS").as_str(), served("LL").as_str()), ("2xA100", "8xA100"), "partition {partition}");
    }
}

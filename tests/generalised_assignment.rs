//! Random instances of the generalised assignment problem, of the two types that solvers find hard: D (Chu and Beasley
//! 1997) and E (Laguna et al. 1995), where cheap options take long. Written as options CSVs, planned and checked by the
//! program.

use std::fmt::Write;
use std::path::Path;

use assert_cmd::Command;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

#[derive(Clone, Copy, Debug)]
enum Kind {
    D,
    E,
}

/// (cost, seconds) of each job on each agent, and the capacity of each agent.
fn instance(kind: Kind, agents: usize, jobs: usize, seed: u64) -> (Vec<Vec<(f64, f64)>>, Vec<f64>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut cell = |_: usize| match kind {
        Kind::D => {
            let seconds = random.random_range(1..=100);
            (f64::from(111 - seconds + random.random_range(-10..=10)), f64::from(seconds))
        }
        Kind::E => {
            let uniform = |random: &mut ChaCha8Rng| 1.0 - random.random::<f64>(); // in (0, 1]
            let seconds = 1.0 - 10.0 * uniform(&mut random).ln();
            (1000.0 / seconds - 10.0 * uniform(&mut random), seconds)
        }
    };
    let cells: Vec<Vec<(f64, f64)>> = (0..agents).map(|_| (0..jobs).map(&mut cell).collect()).collect();
    let capacity = |row: &Vec<(f64, f64)>| 0.8 * row.iter().map(|(_, seconds)| seconds).sum::<f64>() / agents as f64;
    let capacities = cells.iter().map(capacity).collect();
    (cells, capacities)
}

fn plan(folder: &Path, kind: Kind, agents: usize, jobs: usize) -> Value {
    let (cells, capacities) = instance(kind, agents, jobs, 7);
    // Both types can draw a cost just below 0, which energy never is.
    let mut text = "option,class_or_request,energy_j,seconds,pool,devices,capacity_s\n".to_owned();
    for (agent, (row, capacity)) in cells.iter().zip(&capacities).enumerate() {
        for (job, (cost, seconds)) in row.iter().enumerate() {
            let cost = cost.max(0.0);
            writeln!(text, "a{agent},j{job},{cost},{seconds},p,1,{capacity}").unwrap();
        }
    }
    let table = folder.join("options.csv");
    std::fs::write(&table, text).unwrap();
    let out = folder.join("plan");
    let run = |arguments: &[&str]| {
        let output = Command::cargo_bin("jouleplan").unwrap().args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let (table, out) = (table.to_str().unwrap(), out.to_str().unwrap());
    // It may stop at what is asked of it, so that the test is short.
    let json = run(&["plan", "--options", table, "--gap", "0.005", "--time-limit", "60s", "--json", "--out", out]);
    assert_eq!(run(&["check", out, "--json"])["valid"], true);

    // And by hand, from the file that was written.
    let (mut energy, mut load, mut served) = (0.0, vec![0.0; agents], vec![0; jobs]);
    for row in csv::Reader::from_path(Path::new(out).join("assignments.csv")).unwrap().records() {
        let row = row.unwrap();
        let (job, agent): (usize, usize) = (row[0][1..].parse().unwrap(), row[1][1..].parse().unwrap());
        assert_eq!(&row[2], "1");
        energy += cells[agent][job].0.max(0.0);
        load[agent] += cells[agent][job].1;
        served[job] += 1;
    }
    assert!(served.iter().all(|times| *times == 1));
    assert!(load.iter().zip(&capacities).all(|(load, capacity)| *load <= capacity * (1.0 + 1e-8)));
    assert!((energy - json["objective_j"].as_f64().unwrap()).abs() < 1e-6 * energy);
    let gap = (energy - json["bound_j"].as_f64().unwrap()) / energy;
    eprintln!(
        "{kind:?} {agents} x {jobs}: {energy:.1} J, gap {gap:.5} by {} in {} s",
        json["bound_by"], json["wall_s"]
    );
    assert!((0.0..=0.005).contains(&gap), "{kind:?} {agents} x {jobs}: gap {gap}");
    json
}

fn planned_within_the_gap(sizes: &[(usize, usize)]) {
    for kind in [Kind::D, Kind::E] {
        for &(agents, jobs) in sizes {
            let folder = tempfile::tempdir().unwrap();
            let json = plan(folder.path(), kind, agents, jobs);
            assert_eq!((&json["status"], &json["requests"]), (&"optimal_within_gap".into(), &jobs.into()));
        }
    }
}

#[test]
fn hard_instances_are_planned_within_half_a_percent() {
    planned_within_the_gap(&[(5, 50)]);
}

#[test]
#[ignore = "up to a minute each"]
fn hard_instances_of_full_size_are_planned_within_half_a_percent() {
    planned_within_the_gap(&[(20, 200), (40, 400)]);
}

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use super::*;
use crate::domain::{Box2, DeviceKind, FamilyKey, Figure, Parallel, Pool, Rates, Site, SlurmTarget};
use crate::formats::plan_json::*;
use crate::units::{Bytes, Watts};

const HOSTILE: &str = "a \"b\", 'c' $(d)";

fn deployment() -> Deployment {
    let family = FamilyKey {
        model: HOSTILE.into(),
        precision: "bf16".into(),
        device: "H100".into(),
        devices: 2,
        parallel: Parallel::tensor(2),
        kv_cache: true,
        engine: "vllm@test".into(),
    };
    Deployment {
        id: format!("{family}/seqs64@gpu"),
        family,
        pool: 0,
        devices: 2,
        max_num_seqs: 64,
        sm_clock_mhz: None,
        batch_size: 32.0,
        rates: Rates { batch_size: 32.0, net_energy: [1.0; 6], busy_time: [0.1; 6] },
        net_energy_low: [0.5; 6],
        net_energy_high: [2.0; 6],
        net_energy_estimated: [0.0; 6],
        load_time: Seconds(60.0),
        load_energy: Joules(1e4),
        tail_time: Seconds(5.0),
        tail_energy: Joules(10.0),
        max_tokens: f64::INFINITY,
        ttft_p99: None,
        tbt_p99: None,
        support: Box2::default(),
        idle_power: Watts(140.0),
        peak_power: None,
    }
}

fn cluster() -> Cluster {
    Cluster {
        pools: vec![Pool {
            name: "gpu".into(),
            nodes: vec!["n1".into(), "n2".into()],
            device: "H100".into(),
            kind: DeviceKind::Gpu,
            devices_per_node: 8,
            devices_busy: BTreeMap::new(),
            devices_held: BTreeMap::new(),
            device_memory: Bytes::from_gib(80.0),
            host_memory: None,
            cpus_per_device: None,
            idle_power: Figure::estimated(Watts(70.0)),
            base_power: None,
            suspend: true,
            wake_time: Seconds(60.0),
            wake_energy: Joules(1.0),
            clock_control: false,
            storage_gib_per_s: None,
            slurm: SlurmTarget::default(),
        }],
        site: Site::default(),
    }
}

fn plan_json(deployment: &Deployment, requests: u64, instances: u64) -> PlanJson {
    let family = &deployment.family;
    let baseline =
        |energy_j, feasible| Baseline { energy_j, objective: None, feasible, makespan_s: None, reason: None };
    PlanJson {
        schema_version: SCHEMA_VERSION,
        status: Status::OptimalWithinGap,
        objective_j: 100.0,
        bound_j: 99.0,
        objective: None,
        bound: None,
        objective_unit: None,
        zeta: None,
        gap: 0.01,
        gap_parts: GapParts::default(),
        bound_by: "request pass".into(),
        requests,
        instances,
        nodes_used: 1,
        energy: Energy::default(),
        standby_j: None,
        objective_low_j: 90.0,
        objective_high_j: 110.0,
        estimated_share: 0.0,
        extrapolated_share: 0.0,
        makespan_s: 1234.5,
        jobs: vec![JobResult {
            job: "night, one".into(),
            requests,
            deadline_s: 3600.0,
            finish_s: 1234.5,
            mean_accuracy: None,
            energy_j: 100.0,
        }],
        baselines: BTreeMap::from([
            ("fastest".to_owned(), baseline(Some(110.0), true)),
            ("paper".to_owned(), baseline(Some(50.0), false)),
            ("random".to_owned(), baseline(None, false)),
        ]),
        prices: vec![],
        warnings: vec![],
        safety: 0.1,
        constraints: vec![],
        model_policy: "any".into(),
        flags: Flags::default(),
        deployments: vec![DeploymentJson {
            id: deployment.id.clone(),
            family: family.into(),
            pool: "gpu".into(),
            max_num_seqs: deployment.max_num_seqs,
            sm_clock_mhz: deployment.sm_clock_mhz,
            batch_size: deployment.batch_size,
            net_energy_j: deployment.rates.net_energy,
            net_energy_low_j: deployment.net_energy_low,
            net_energy_high_j: deployment.net_energy_high,
            net_energy_estimated_j: deployment.net_energy_estimated,
            busy_time_s: deployment.rates.busy_time,
            load_s: 60.0,
            load_j: 1e4,
            tail_s: 5.0,
            tail_j: 10.0,
            max_tokens: None,
            ttft_p99_s: None,
            tbt_p99_s: None,
            idle_power_w: 140.0,
            peak_power_w: None,
        }],
        inputs: vec![],
        replan: None,
        power_adjustment: None,
        run: Run::default(),
    }
}

fn instance(devices: Vec<u32>) -> Instance {
    Instance { deployment: 0, pool: 0, node: 1, device_indices: devices, start: Seconds(0.1 + 0.2), end: Seconds(1e3) }
}

fn write_example(dir: &Path, ids: &RequestIds, assignment: Vec<u32>) -> Result<(), crate::formats::write::WriteError> {
    let schedule = Schedule {
        instances: vec![instance(vec![0, 1]), instance(vec![6, 7])],
        powered: vec![PoweredInterval { pool: 0, node: 1, wake: Seconds(0.0), on: Seconds(60.0), off: Seconds(1e3) }],
        assignment,
    };
    let deployments = [deployment()];
    let figures = InstanceFigures {
        requests: 2,
        energy: Joules(1.0 / 3.0),
        load: Joules(2e-9),
        provenance: Provenance::Imported,
    };
    let tables = PlanTables {
        schedule: &schedule,
        deployments: &deployments,
        cluster: &cluster(),
        request_ids: ids,
        instances: &[figures; 2],
        powered: &[PoweredFigures { idle: Joules(5.5), wake: Joules(0.0) }],
    };
    write(dir, &plan_json(&deployments[0], schedule.assignment.len() as u64, 2), &tables)
}

fn named() -> RequestIds {
    RequestIds::Named([HOSTILE, " blank ", "line\nbreak", "é"].into_iter().collect())
}

#[test]
fn what_is_written_reads_back_exactly() {
    let dir = tempfile::tempdir().unwrap();
    write_example(dir.path(), &named(), vec![0, 1, 1, 0]).unwrap();
    let plan = read(dir.path()).unwrap();
    let rows: Vec<(&str, u32)> = plan.assignments.iter().collect();
    assert_eq!(rows, [(HOSTILE, 0), (" blank ", 1), ("line\nbreak", 1), ("é", 0)]);
    assert_eq!(plan.instances_on(&cluster()).unwrap(), [instance(vec![0, 1]), instance(vec![6, 7])]);
    let first = &plan.instances[0];
    assert_eq!((first.id.as_str(), first.model.as_str()), ("i0001", HOSTILE));
    assert_eq!((first.energy, first.load, first.sm_clock_mhz), (Joules(1.0 / 3.0), Joules(2e-9), None));
    assert_eq!(plan.powered_on(&cluster()).unwrap()[0].off, Seconds(1e3));
    assert_eq!((plan.jobs[0].job.as_str(), plan.jobs[0].mean_accuracy), ("night, one", None));
    assert_eq!(plan.plan, plan_json(&deployment(), 4, 2));
}

#[test]
fn the_summary_states_bound_and_gap_only_where_they_mean_something() {
    let dir = tempfile::tempdir().unwrap();
    write_example(dir.path(), &named(), vec![0; 4]).unwrap();
    let summary = read(dir.path()).unwrap().summary;
    let names: Vec<&str> = summary.iter().map(|row| row.strategy.as_str()).collect();
    assert_eq!(names, [OWN_STRATEGY, "fastest", "paper", "random"]);
    assert_eq!((summary[0].gap, summary[1].gap), (Some(0.01), Some(0.1)));
    assert_eq!((summary[2].energy, summary[2].bound, summary[2].gap), (Some(Joules(50.0)), None, None));
    assert_eq!(summary[3].energy, None);
}

#[test]
fn requests_without_names_are_rows() {
    let dir = tempfile::tempdir().unwrap();
    let ids = RequestIds::Rows(vec![("a.csv".into(), 0), ("b, c.csv".into(), 3)]);
    write_example(dir.path(), &ids, vec![0, 0, 1, 1]).unwrap();
    let plan = read(dir.path()).unwrap();
    let rows: Vec<String> = plan.assignments.iter().map(|(id, _)| id.to_owned()).collect();
    assert_eq!(rows, (0..4).map(|request| ids.get(request)).collect::<Vec<_>>());
    assert_eq!(rows[3], "b, c.csv:1");
}

#[test]
fn parts_that_contradict_each_other_are_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let error = write_example(dir.path(), &named(), vec![0, 1, 2, 0]).unwrap_err().to_string();
    assert!(error.contains("instance 2 of 2"), "{error}");
    assert!(write_example(dir.path(), &named(), vec![0]).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn unknown_pools_and_nodes_are_named() {
    let dir = tempfile::tempdir().unwrap();
    write_example(dir.path(), &named(), vec![0; 4]).unwrap();
    let plan = read(dir.path()).unwrap();
    let mut other = cluster();
    other.pools[0].nodes.truncate(1);
    let error = plan.instances_on(&other).unwrap_err().to_string();
    assert!(error.contains("row 2: pool `gpu` has no node `n2`"), "{error}");
    other.pools.clear();
    assert!(plan.powered_on(&other).unwrap_err().to_string().contains("no pool `gpu`"));
}

#[test]
fn damage_is_reported_with_its_place() {
    let cases = [
        (INSTANCES_CSV, "i0001,", "i0002,", "a second row of instance i0002"),
        (INSTANCES_CSV, "/seqs64@gpu", "/seqs65@gpu", "has no deployment"),
        (INSTANCES_CSV, "0;1", "0;x", "column 5 (device_indices)"),
        (INSTANCES_CSV, ",1000,2,", ",NaN,2,", "column 13 (end_s)"),
        (INSTANCES_CSV, ",1000,2,", ",1e999,2,", "column 13 (end_s)"),
        (INSTANCES_CSV, ",1000,2,", ",1000,-2,", "column 14 (requests)"),
        (INSTANCES_CSV, ",2,1,64,", ",4,1,64,", "but plan.json has `2`"),
        (INSTANCES_CSV, "imported", "guessed", "(provenance)"),
        (INSTANCES_CSV, "start_s", "started", "`start_s` is missing"),
        (NODES_CSV, ",60,", ",,", "(on_s)"),
        (ASSIGNMENTS_CSV, "é,i0001", "é,i0009", "line 6, column 2 (instance): instances.csv has no instance `i0009`"),
        (ASSIGNMENTS_CSV, "é,", ",", "the request has no name"),
        (JOBS_CSV, ",3600,", ",soon,", "(deadline_s)"),
        (SUMMARY_CSV, "true", "maybe", "(feasible)"),
        (PLAN_JSON, "\"gap\": 0.01", "\"gap\": null", "line 6"),
        (PLAN_JSON, "\"schema_version\": 1", "\"schema_version\": 9", "version 9"),
        (PLAN_JSON, "\"instances\": 2", "\"instances\": 3", "2 instances, but plan.json has 3"),
    ];
    let dir = tempfile::tempdir().unwrap();
    write_example(dir.path(), &named(), vec![0; 4]).unwrap();
    for (file, from, to, message) in cases {
        let path = dir.path().join(file);
        let whole = fs::read_to_string(&path).unwrap();
        assert!(whole.contains(from), "{file} holds `{from}`:\n{whole}");
        fs::write(&path, whole.replacen(from, to, 1)).unwrap();
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.contains(message) && error.contains(file) || file == PLAN_JSON, "{message}:\n{error}");
        fs::write(&path, whole).unwrap();
    }
    read(dir.path()).unwrap();
}

#[test]
fn every_truncation_of_every_file_is_refused_without_panic() {
    let dir = tempfile::tempdir().unwrap();
    write_example(dir.path(), &named(), vec![0; 4]).unwrap();
    for file in [PLAN_JSON, INSTANCES_CSV, NODES_CSV, ASSIGNMENTS_CSV, JOBS_CSV, SUMMARY_CSV] {
        let path = dir.path().join(file);
        let whole = fs::read(&path).unwrap();
        for length in (0..whole.len()).rev().step_by(7) {
            fs::write(&path, &whole[..length]).unwrap();
            // A CSV of whole lines is a shorter CSV: for all but instances.csv, that is the checker's to notice.
            let shorter_csv = whole[..length].ends_with(b"\n") && file != PLAN_JSON && file != INSTANCES_CSV;
            let only_newline = file == PLAN_JSON && length + 1 == whole.len();
            assert!(read(dir.path()).is_err() || shorter_csv || only_newline, "{file} cut to {length}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(read(dir.path()), Err(Problems::Unreadable { .. })));
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_million_assignments_take_well_under_a_second_each_way() {
    let dir = tempfile::tempdir().unwrap();
    let requests = 1_000_000;
    let ids = RequestIds::Rows(vec![(String::new(), 0)]);
    let assignment: Vec<u32> = (0..requests).map(|request| request % 2).collect();
    let start = Instant::now();
    write_example(dir.path(), &ids, assignment).unwrap();
    let written = start.elapsed();
    let start = Instant::now();
    let plan = read(dir.path()).unwrap();
    let read = start.elapsed();
    eprintln!("1 M assignments: written in {written:?}, read in {read:?}");
    assert_eq!(plan.assignments.len(), requests as usize);
    // Ten times what it takes, so that a busy machine does not fail it and a quadratic loop does.
    assert!(written.as_secs_f64() < 3.0 && read.as_secs_f64() < 3.0, "{written:?} {read:?}");
}

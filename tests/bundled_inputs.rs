//! The cluster, workloads, jobs and accuracy figures that come with jouleplan are readable and say what their READMEs say.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jouleplan::domain::{DeviceKind, Provenance, RequestIds};
use jouleplan::formats::workload::{Defaults, Format, assemble};
use jouleplan::formats::{accuracy_csv, cluster_toml, devices_toml, jobs_toml};
use jouleplan::units::Seconds;

fn bundled(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_example_cluster_is_complete() {
    let cluster = cluster_toml::read(&bundled("examples/cluster.toml"), &devices_toml::builtin()).unwrap().cluster;
    assert!(cluster.pools.iter().any(|pool| pool.kind == DeviceKind::Cpu));
    for pool in &cluster.pools {
        assert!(pool.device_memory.0 > 0.0 && pool.storage_gib_per_s.is_some_and(|rate| rate < 100.0), "{}", pool.name);
        assert!(!pool.suspend || pool.standing_power().is_some_and(|power| power.0 > 0.0), "{}", pool.name);
    }
}

#[test]
fn the_sample_queue_is_two_jobs() {
    let jobs = jobs_toml::read(&bundled("workloads/jobs.toml"), SystemTime::UNIX_EPOCH).unwrap();
    let files = [bundled("workloads/azure_chat_1k.csv"), bundled("workloads/arxiv_summarization_500.csv")];
    let read = assemble(&files, Some(&jobs), &Defaults::default()).unwrap();
    let names: Vec<&str> = read.workload.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!((names, read.workload.requests.len()), (vec!["chat", "papers"], 1_500));
    assert_eq!((read.workload.jobs[0].deadline, read.workload.jobs[1].deadline), (Seconds(3600.0), Seconds(14_400.0)));
    assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    let accuracy = accuracy_csv::read(&bundled("profiles/accuracy.csv")).unwrap();
    for job in &read.workload.jobs {
        let task = job.task.as_deref().unwrap();
        assert!(accuracy.percent.keys().any(|(_, figure)| figure == task), "no figure for {task}");
    }
}

#[test]
fn the_other_samples_are_their_formats() {
    let defaults = Defaults { deadline: Some(Seconds(3600.0)), ..Defaults::default() };
    let batch = assemble(&[bundled("workloads/batch_100.jsonl")], None, &defaults).unwrap();
    assert_eq!((batch.files[0].format, batch.workload.requests.len()), (Format::OpenaiBatch, 100));
    assert_eq!(batch.workload.output_provenance, Provenance::Estimated);
    assert!(matches!(batch.workload.requests.ids, RequestIds::Named(_)));
    let classes = assemble(&[bundled("workloads/azure_chat_classes.csv")], None, &defaults).unwrap();
    assert_eq!(classes.files[0].format, Format::ClassTable);
    assert_eq!(classes.workload.output_provenance, Provenance::Imported);
}

//! Real workload files read as they were published. Skipped, aloud, where `JOULEPLAN_REFERENCE_DATA` is not set.

use std::path::{Path, PathBuf};
use std::time::Instant;

use jouleplan::domain::Provenance;
use jouleplan::formats::workload::{Defaults, Format, assemble};
use jouleplan::units::Seconds;

fn reference(name: &str) -> Option<PathBuf> {
    let Ok(root) = std::env::var("JOULEPLAN_REFERENCE_DATA") else {
        eprintln!("SKIPPED: JOULEPLAN_REFERENCE_DATA is not set, {name} is not read");
        return None;
    };
    Some(Path::new(&root).join("workloads").join(name))
}

fn defaults() -> Defaults {
    Defaults { deadline: Some(Seconds(3600.0)), ..Defaults::default() }
}

#[test]
fn the_azure_chat_trace_is_read_whole_and_fast() {
    let Some(path) = reference("AzureLLMInferenceTrace_conv.csv") else { return };
    let read = assemble(std::slice::from_ref(&path), None, &defaults()).unwrap();
    assert_eq!((read.files[0].format, read.workload.requests.len()), (Format::Azure, 19_366));
    assert_eq!((read.workload.requests.input_tokens[0], read.workload.requests.output_tokens[0]), (374, 44));

    let text = std::fs::read_to_string(&path).unwrap();
    let (header, rows) = text.split_once('\n').unwrap();
    let folder = tempfile::tempdir().unwrap();
    let fifty = folder.path().join("fifty.csv");
    std::fs::write(&fifty, format!("{header}\n{}", format!("{}\n", rows.trim_end()).repeat(50))).unwrap();
    let started = Instant::now();
    let read = assemble(std::slice::from_ref(&fifty), None, &defaults()).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    eprintln!("{} requests read in {seconds:.3} s", read.workload.requests.len());
    assert_eq!(read.workload.requests.len(), 968_300);
    assert!(seconds < 5.0, "a million rows take {seconds} s");

    let releases = Defaults { releases: true, ..defaults() };
    let read = assemble(&[path], None, &releases).unwrap();
    let last = read.workload.groups.iter().map(|group| group.release.0).fold(0.0, f64::max);
    assert!((3_500.0..3_600.0).contains(&last), "the trace spans an hour, not {last} s");
}

#[test]
fn a_real_batch_file_is_read() {
    let Some(path) = reference("openai_batch_input_100.jsonl") else { return };
    let read = assemble(&[path], None, &defaults()).unwrap();
    assert_eq!((read.files[0].format, read.workload.requests.len()), (Format::OpenaiBatch, 100));
    assert_eq!(read.workload.input_provenance, Provenance::Estimated);
    assert_eq!(read.workload.output_provenance, Provenance::Estimated);
    assert_eq!(read.workload.requests.output_tokens.iter().sum::<u32>(), 561_152, "the sum of max_tokens");
    assert_eq!(read.workload.requests.ids.get(99), "request-99");
}

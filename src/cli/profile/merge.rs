//! `profile merge`: samples of several nodes and studies in one file, each trial once.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::json;

use super::super::arguments::{is_stdin, read_samples};
use super::super::exit::Failure;
use super::super::output::Output;
use crate::formats::sample_row::write_row;
use crate::formats::samples_csv;
use crate::report::text::count;

/// Gather samples CSVs into one, each trial once
///
/// A row that is there twice, equal in every column, is written once; the order of files and rows stays.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Samples CSVs
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Samples CSV to write; `-` is stdout
    #[arg(long)]
    out: PathBuf,
    /// Print one JSON object about what was gathered
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let to_stdout = is_stdin(&arguments.out);
    if to_stdout && arguments.json {
        return Err(Failure::usage("--json and --out - would both write to stdout"));
    }
    let (samples, files) = read_samples(&arguments.files)?;
    let read = samples.len();
    let mut seen = BTreeSet::new();
    let kept: Vec<_> = samples.into_iter().filter(|sample| seen.insert(write_row(sample))).collect();
    let mut bytes = Vec::new();
    samples_csv::write(&mut bytes, &kept)?;
    output.file(&arguments.out, &bytes)?;
    let families: BTreeSet<String> = kept.iter().map(|sample| sample.family().to_string()).collect();
    let repeated = read - kept.len();
    if arguments.json {
        output.json(&json!({
            "files": files.len(), "samples": kept.len(), "repeated": repeated, "families": families, "out": arguments.out,
        }))?;
    } else if !to_stdout {
        output.note(&format!(
            "{} of {} in {}; {repeated} were there twice",
            count(kept.len() as u64, "sample"),
            count(families.len() as u64, "family"),
            arguments.out.display()
        ));
    }
    Ok(())
}

//! `import`: what others measured, as samples.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::output::Output;
use crate::formats::{csv_map, mlenergy, samples_csv};
use crate::report::text::count;

/// Turn measurements of others into samples
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Format {
    /// ML.ENERGY benchmark files of generation 2 or 3, or folders of them
    Mlenergy {
        /// Benchmark files, or folders of which every JSON file is read
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        to: Destination,
    },
    /// Any table, by a declared map
    Csv {
        /// Says where each column of the samples comes from
        #[arg(long)]
        map: PathBuf,
        /// Tables with a header line, all of the same columns
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        to: Destination,
    },
}

#[derive(Debug, clap::Args)]
struct Destination {
    /// Samples CSV to write; `-` is stdout
    #[arg(long)]
    out: PathBuf,
    /// Print one JSON object about what was read
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let (samples, to) = match &arguments.format {
        Format::Mlenergy { files, to } => (mlenergy::import(files)?, to),
        Format::Csv { map, files, to } => (csv_map::import(map, files)?, to),
    };
    let to_stdout = super::arguments::is_stdin(&to.out);
    if to_stdout && to.json {
        return Err(super::exit::Failure::usage("--json and --out - would both write to stdout"));
    }
    let mut bytes = Vec::new();
    samples_csv::write(&mut bytes, &samples)?;
    output.file(&to.out, &bytes)?;
    let families: std::collections::BTreeSet<_> = samples.iter().map(|sample| sample.family()).collect();
    if to.json {
        output.json(&json!({"samples": samples.len(), "families": families.len(), "out": to.out}))?;
    } else if !to_stdout {
        let samples = count(samples.len() as u64, "sample");
        let families = match families.len() {
            1 => "1 family".to_owned(),
            number => format!("{number} families"),
        };
        output.note(&format!("{samples} of {families} in {}", to.out.display()));
    }
    Ok(())
}

//! The samples CSV: one row a trial or a steady state.
//!
//! Missing is an empty cell. Columns other than the required ones may be absent altogether; unknown columns are ignored,
//! so that a file may carry notes of its own.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use super::problems::Problems;
use super::sample_row::{COLUMNS, REQUIRED, read_row, write_row};
use super::table::Table;
use super::text::{checked_text, open_text};
use crate::domain::Sample;

/// Reads a samples CSV.
///
/// # Errors
/// `Unreadable` if the file cannot be opened; else every problem of every row at once.
pub fn read(path: &Path) -> Result<Vec<Sample>, Problems> {
    read_table(Table::foreign(path, open_text(path)?)?)
}

/// As `read`, from what a file holds; `path` names it in messages.
pub fn parse(bytes: Vec<u8>, path: &Path) -> Result<Vec<Sample>, Problems> {
    read_table(Table::foreign(path, checked_text(path, io::Cursor::new(bytes))?)?)
}

fn read_table(mut table: Table) -> Result<Vec<Sample>, Problems> {
    let header = table.header().to_vec();
    let mut index: BTreeMap<&str, usize> = BTreeMap::new();
    for (column, name) in header.iter().enumerate() {
        if COLUMNS.contains(&name.as_str()) && index.insert(name, column).is_some() {
            table.problems.add("line 1", format!("column {name} appears twice"), "keep one of them");
        }
    }
    for name in REQUIRED {
        if !index.contains_key(name) {
            table.problems.add("line 1", format!("column {name} is missing"), "add it: no row can do without");
        }
    }
    if REQUIRED.iter().any(|name| !index.contains_key(name)) {
        return table.problems.fail();
    }
    let mut samples = Vec::new();
    while let Some(row) = table.next_row() {
        let Some((cells, line, problems)) = row.into_texts() else { continue };
        let cell = |column: &str| index.get(column).and_then(|at| cells.get(*at)).copied();
        let place = |column: &str| match index.get(column) {
            Some(at) => format!("line {line}, column {} ({column})", at + 1),
            None => format!("line {line} ({column})"),
        };
        samples.extend(read_row(&cell, &place, problems));
    }
    if samples.is_empty() && table.problems.is_empty() {
        table.problems.add("line 2", "there are no rows under the header", "was the file cut off?");
    }
    table.finish(samples)
}

/// Writes all columns in their order, numbers in the fewest digits that read back equal.
///
/// # Errors
/// Those of `out`.
pub fn write<W: Write>(out: W, samples: &[Sample]) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(COLUMNS).map_err(io::Error::other)?;
    for sample in samples {
        csv.write_record(write_row(sample)).map_err(io::Error::other)?;
    }
    csv.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Measurement, Moments, Parallel, Provenance};
    use crate::units::{Joules, Seconds, Watts};

    fn sample() -> Sample {
        Sample {
            model: "org/model, large".into(),
            precision: "bfloat16".into(),
            device: "H100".into(),
            node: Some("n \"1\"".into()),
            devices: 4,
            parallel: Parallel { tensor: 2, expert: 4, data: 2, pipeline: 1 },
            max_num_seqs: Some(256),
            batch_size: 250.125,
            sm_clock_mhz: Some(1200),
            power_limit: Some(Watts(500.0)),
            sm_share: Some(0.5),
            kv_cache: false,
            tokens: Moments {
                input: Some(100.5),
                output: 0.1 + 0.2,
                input_sq: None,
                output_sq: Some(4.0),
                input_output: Some(60.0),
            },
            requests: 1.0,
            measurement: Measurement::SteadyState,
            trial: Some(0),
            warmup: true,
            runtime: Some(Seconds(1e-7)),
            gpu_energy: Some(Joules(1.0 / 3.0)),
            cpu_energy: Some(Joules(2.0)),
            cpu_energy_scope: Some("package+dram".into()),
            node_energy: Some(Joules(3.0)),
            idle_power: Some(Watts(280.0)),
            output_throughput_tok_s: Some(9000.0),
            ttft: Some(Seconds(0.2)),
            ttft_p99: Some(Seconds(0.4)),
            tbt_p50: Some(Seconds(0.01)),
            tbt_p99: Some(Seconds(0.02)),
            engine: Some("vllm".into()),
            engine_version: Some("0.11.1".into()),
            driver_version: Some("570".into()),
            data_set: Some("mlenergy_v3/chat".into()),
            provenance: Provenance::Imported,
            source: Some("somewhere".into()),
            measured_at: Some("2026-01-31T12:00:00Z".into()),
        }
    }

    fn parse_text(text: &str) -> Result<Vec<Sample>, Problems> {
        parse(text.as_bytes().to_vec(), Path::new("s.csv"))
    }

    #[test]
    fn what_is_written_reads_back_equal() {
        let full = sample();
        let trial = Sample {
            measurement: Measurement::Trial,
            tokens: Moments::constant(17.0, 32.0),
            requests: 4.0,
            node: None,
            trial: None,
            measured_at: None,
            ..sample()
        };
        let mut text = Vec::new();
        write(&mut text, &[full.clone(), trial.clone()]).expect("a vector takes it");
        assert_eq!(parse(text, Path::new("s.csv")).expect("own output"), [full, trial]);
    }

    const HEADER: &str = "model,precision,device,devices,tensor_parallel,batch_size,input_tokens,output_tokens,requests,\
                          measurement,runtime_s,gpu_energy_j,provenance,note";

    #[test]
    fn lengths_without_second_moments_are_constant_in_a_trial_and_unknown_in_a_steady_state() {
        let text = format!(
            "\u{feff}{HEADER}\r\nm,bf16,H100,1,1,1,8,16,2,trial,1.5,300,measured,x\r\n\
             m,bf16,H100,1,1,1,8,16,1,steady_state,1.5,300,measured,\r\n"
        );
        let samples = parse_text(&text).expect("sound");
        assert_eq!(samples[0].tokens, Moments::constant(8.0, 16.0));
        assert_eq!(samples[0].energy_per_request(), Some(Joules(150.0)));
        assert_eq!((samples[1].tokens.input, samples[1].tokens.output_sq), (Some(8.0), None));
        assert!(samples[0].kv_cache && !samples[0].warmup);
    }

    #[test]
    fn every_problem_of_every_row_is_named_with_line_and_column() {
        let text = format!(
            "{HEADER}\nm,bf16,H100,0,1,1,8,16,1,trial,1,300,measured,\n\
             m,bf16,H100,1,1,-1,8,NaN,1,steady,1e300,0,guessed,\n\
             m,bf16,H100,1,1,1,8,16,2,steady_state,,,imported,\nm,bf16\n\
             m,bf16,H100,1,2,1,8,16,1,trial,1,300,measured,\n\
             ,bf16,H100,1,1,1,8,16,1,trial,1,300,measured,\n"
        );
        let Err(Problems::BadData(problems)) = parse_text(&text) else { panic!("accepted") };
        let places: Vec<&str> = problems.iter().map(|problem| problem.place.as_str()).collect();
        for place in [
            "line 2, column 4 (devices)",
            "line 3, column 6 (batch_size)",
            "line 3, column 8 (output_tokens)",
            "line 3, column 10 (measurement)",
            "line 3, column 11 (runtime_s)",
            "line 3, column 12 (gpu_energy_j)",
            "line 3, column 13 (provenance)",
            "line 4, column 9 (requests)",
            "line 4, column 11 (runtime_s)",
            "line 5",
            "line 6, column 5 (tensor_parallel)",
            "line 7, column 1 (model)",
        ] {
            assert!(places.contains(&place), "{place} not in {places:?}");
        }
        assert_eq!(problems.len(), 12, "{problems:?}");
    }

    #[test]
    fn a_header_alone_nothing_and_foreign_bytes_are_refused() {
        for text in [HEADER, "", "a,b\n1,2\n"] {
            assert!(parse_text(text).is_err(), "{text:?}");
        }
        let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(HEADER.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        assert!(parse(utf16, Path::new("s.csv")).is_err());
        let missing = HEADER.replace("provenance", "proof");
        let Err(error) = parse_text(&format!("{missing}\n")) else { panic!("accepted") };
        assert!(error.to_string().contains("column provenance is missing"), "{error}");
    }
}

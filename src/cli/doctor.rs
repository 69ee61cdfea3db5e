//! `doctor`: what this node can measure and set, and the remedy for what it cannot.

use std::time::SystemTime;

use super::exit::{Failure, PERMISSION, UNAVAILABLE};
use super::meter::{node_name, roots};
use super::output::Output;
use crate::formats::doctor_json::{DoctorJson, Finding, FindingState, SCHEMA_VERSION};
use crate::measure::inventory::{self, Wanted};
use crate::measure::operating_point::{self, Restored};
use crate::measure::processes::ProcessTable;
use crate::measure::{Refusal, RefusalKind, doctor};
use crate::report::text::plain;

/// Say which meters, clocks and tools this node has, and how to get those it lacks
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Undo clocks and power limits that a killed `meter` left; needs root
    #[arg(long, conflicts_with = "json")]
    restore: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    if arguments.restore {
        return restore(output);
    }
    let findings = doctor::examine(&roots());
    if arguments.json {
        let report = DoctorJson {
            schema_version: SCHEMA_VERSION,
            jouleplan: env!("CARGO_PKG_VERSION").to_owned(),
            node: node_name(),
            examined_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            findings,
        };
        return Ok(output.json(&serde_json::to_value(&report)?)?);
    }
    let text: String = findings.iter().map(line).collect();
    Ok(output.data(text.as_bytes())?)
}

fn restore(output: &Output) -> anyhow::Result<()> {
    let roots = roots();
    if operating_point::left(&roots.state).map_err(refused)?.is_empty() {
        output.note(&format!("nothing to restore in {}", roots.state.display()));
        return Ok(());
    }
    let wanted = Wanted { sources: Some(vec!["nvml".to_owned()]), devices: None };
    let inventory = inventory::find(&roots, &wanted);
    if let Err(refusal) = inventory.library {
        return Err(refused(refusal));
    }
    let table = ProcessTable::new(&roots.procfs);
    let mut failed = Vec::new();
    for restored in operating_point::restore(&roots.state, &inventory.gpus, &table).map_err(refused)? {
        match restored {
            Restored::Done(uuid) => output.note(&format!("{uuid}: clocks and power limit are as before")),
            Restored::InUse(uuid, pid) => {
                output.note(&format!("{uuid}: process {pid} still measures and will restore it"))
            }
            Restored::Failed(file, refusal) => failed.push((file, refusal)),
        }
    }
    let denied = failed.iter().any(|(_, refusal)| refusal.kind == RefusalKind::Permission);
    let lines: Vec<String> = failed.iter().map(|(file, refusal)| format!("{file}: {refusal}")).collect();
    match lines.is_empty() {
        true => Ok(()),
        false => Err(Failure { code: if denied { PERMISSION } else { UNAVAILABLE }, message: lines.join("\n") }.into()),
    }
}

fn refused(refusal: Refusal) -> anyhow::Error {
    let code = if refusal.kind == RefusalKind::Permission { PERMISSION } else { UNAVAILABLE };
    Failure { code, message: refusal.to_string() }.into()
}

fn line(finding: &Finding) -> String {
    let state = match finding.state {
        FindingState::Good => "ok     ",
        FindingState::Limited => "limited",
        FindingState::Missing => "missing",
    };
    let mut text =
        format!("{state} {:<10} {}  [{}]\n", finding.topic, plain(&finding.what), plain(&finding.provenance));
    if !finding.remedy.is_empty() {
        text += &format!("{:19}-> {}\n", "", plain(&finding.remedy));
    }
    text
}

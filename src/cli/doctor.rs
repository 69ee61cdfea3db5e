//! `doctor`: what this node can measure and set, and the remedy for what it cannot.

use std::time::SystemTime;

use super::meter::{node_name, roots};
use super::output::Output;
use crate::formats::doctor_json::{DoctorJson, Finding, FindingState};
use crate::measure::doctor;
use crate::report::text::plain;

/// Say which meters, clocks and tools this node has, and how to get those it lacks
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let findings = doctor::examine(&roots());
    if arguments.json {
        let report = DoctorJson {
            schema_version: 1,
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

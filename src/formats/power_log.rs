//! A log of power in whichever known format it is, told by how it begins.
//!
//! Scrapes of exporters are left out: without the times of the scrapes, which a flag of `telemetry import` gives, they are
//! no traces.

use std::path::Path;

use super::problems::{Collector, Problems};
use super::trace_builder::{Assumed, Imported};
use super::{nvidia_smi, prometheus_json, ptdaemon, telemetry_csv};

/// Reads what a file holds: telemetry CSV, nvidia-smi's CSV, a PTDaemon log or a Prometheus range query. Times without a
/// zone are taken for UTC; `path` names the file in messages.
///
/// # Errors
/// Every problem of every row.
pub fn parse(text: &str, path: &Path) -> Result<Imported, Problems> {
    let assumed = Assumed::default();
    let first = text.trim_start_matches('\u{feff}').lines().map(str::trim).find(|line| !line.is_empty());
    match first {
        None => {
            let mut problems = Collector::new(path);
            problems.add("line 1", "the file is empty", "record some samples, or leave the file out");
            problems.fail()
        }
        Some(line) if line.starts_with('{') => prometheus_json::parse(text, path, &assumed),
        Some(line) if line.starts_with("Time,") => ptdaemon::parse(text, path, &assumed),
        Some(line) if line.contains("power.draw") || line.contains("power.instant") => {
            nvidia_smi::parse(text, path, &assumed)
        }
        Some(line) if line.contains("power_w") => telemetry_csv::parse(text, path),
        Some(_) => {
            let mut problems = Collector::new(path);
            let remedy = "give a telemetry CSV; `jouleplan telemetry import` makes one of other logs";
            problems.add("line 1", "this is no log of power that is known", remedy);
            problems.fail()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Scope;

    #[test]
    fn each_log_is_told_by_its_beginning() {
        let scope = |text: &str| {
            let imported = parse(text, Path::new("log")).unwrap();
            imported.trace.channels.into_keys().next().unwrap().scope
        };
        assert_eq!(scope("timestamp,scope,power_w\n2026-01-01T00:00:00Z,node,5\n"), Scope::Node);
        assert_eq!(scope("timestamp, index, power.draw [W]\n2024/04/05 06:17:19.635, 0, 58.67 W\n"), Scope::Device);
        assert_eq!(scope("Time,07-24-2024 00:35:19.676,Watts,2433.8,Volts,1\n"), Scope::Node);
        for (text, what) in [("", "empty"), (" \n", "empty"), ("a,b\n1,2\n", "no log of power")] {
            assert!(parse(text, Path::new("log")).unwrap_err().to_string().contains(what), "{text:?}");
        }
    }
}

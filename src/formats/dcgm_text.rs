//! Scrapes of a GPU exporter as text, one or several behind each other in a file (`curl host:9400/metrics >> FILE`).
//!
//! The text rarely holds times. Then the caller says when the first scrape was made and how often; a scrape begins where a
//! series comes a second time. Metrics of no use for a power trace are passed over.

use std::collections::BTreeSet;
use std::path::Path;

use super::exposition;
use super::gpu_metrics::{Gatherer, Meaning, meaning};
use super::problems::Problems;
use super::trace_builder::{Assumed, Imported, TraceBuilder, lines};
use crate::domain::Timestamp;

/// Reads what a file holds; `path` names it in messages.
///
/// # Errors
/// Every problem of every line.
pub fn parse(text: &str, path: &Path, assumed: &Assumed) -> Result<Imported, Problems> {
    let mut builder = TraceBuilder::new(path);
    let mut gatherer = Gatherer::default();
    let (lines, unended) = lines(text);
    let (mut seen, mut scrapes) = (BTreeSet::new(), 0_u32);
    let mut untimed = None;
    for (position, (line, text)) in lines.iter().enumerate() {
        if text.starts_with('#') || builder.is_hopeless() {
            continue;
        }
        let place = format!("line {line}");
        let is_last = position + 1 == lines.len();
        let sample = match exposition::parse(text) {
            // Half a number is a number, so without a line end even a whole-looking one is not trusted.
            _ if is_last && unended => {
                builder.note(&place, "cut off before its end, left out");
                continue;
            }
            None if is_last && position > 0 => {
                builder.note(&place, "cut off before its end, left out");
                continue;
            }
            None => {
                builder.problems.add(place, "no line of the Prometheus text format", "expected `name{labels} value`");
                continue;
            }
            Some(sample) => sample,
        };
        if !seen.insert((sample.name.clone(), sample.labels.clone())) {
            scrapes += 1;
            seen.clear();
            seen.insert((sample.name.clone(), sample.labels.clone()));
        }
        let series = match meaning(Some(&sample.name), &sample.labels) {
            Meaning::Figure(series) => series,
            Meaning::Other => continue,
            Meaning::Unclear => {
                let what = format!("no label of `{}` names the device", sample.name);
                builder.problems.add(place, what, "scrape the exporter itself: its lines have `gpu` and `UUID`");
                continue;
            }
        };
        let at = match sample.milliseconds {
            Some(milliseconds) => milliseconds.checked_mul(1000).and_then(Timestamp::from_micros),
            None => match time_of(scrapes, assumed) {
                Some(at) => Some(at),
                None => {
                    untimed.get_or_insert(*line);
                    continue;
                }
            },
        };
        let Some(at) = at else {
            builder.problems.add(place, "the time is out of range", "expected milliseconds since 1970");
            continue;
        };
        if let Err(what) = gatherer.add(&series, at, sample.value) {
            builder.problems.add(place, format!("{}: {what}", sample.name), "correct or remove the line");
        }
    }
    if let Some(line) = untimed {
        let remedy = match scrapes {
            0 => "say when it was made: --start 2026-11-21T08:00:00Z",
            _ => "say when the first scrape was made and how often: --start 2026-11-21T08:00:00Z --interval 1s",
        };
        builder.problems.add(format!("line {line}"), "the lines hold no times", remedy);
    }
    if lines.is_empty() {
        builder.problems.add("line 1", "the file is empty", "scrape again, or leave the file out");
    }
    gatherer.finish(assumed.node.as_deref(), &mut builder);
    builder.finish()
}

/// When scrape `number`, counted from 0, was made.
fn time_of(number: u32, assumed: &Assumed) -> Option<Timestamp> {
    let start = assumed.start?;
    match (number, assumed.interval) {
        (0, _) => Some(start),
        (_, Some(interval)) => Some(start.plus(interval * f64::from(number))),
        (_, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Channel, Scope};
    use crate::units::{Seconds, Watts};

    fn assumed() -> Assumed {
        Assumed { start: Timestamp::from_seconds(1000.0), interval: Some(Seconds(2.0)), ..Assumed::default() }
    }

    fn scrape(first: &str, second: &str) -> String {
        format!(
            "# HELP DCGM_FI_DEV_POWER_USAGE Power draw (in W).\n# TYPE DCGM_FI_DEV_POWER_USAGE gauge\n\
             DCGM_FI_DEV_POWER_USAGE{{gpu=\"0\",UUID=\"GPU-a\",device=\"nvidia0\",Hostname=\"n1\"}} {first}\n\
             DCGM_FI_DEV_POWER_USAGE{{gpu=\"1\",UUID=\"GPU-b\",device=\"nvidia1\",Hostname=\"n1\"}} {second}\n\
             DCGM_FI_DEV_SM_CLOCK{{gpu=\"0\",UUID=\"GPU-a\",device=\"nvidia0\",Hostname=\"n1\"}} 1410\n\
             DCGM_FI_DEV_XID_ERRORS{{gpu=\"0\",UUID=\"GPU-a\",device=\"nvidia0\",Hostname=\"n1\"}} 0\n"
        )
    }

    fn watts(imported: &Imported, index: u32) -> Vec<Option<f64>> {
        let channel = Channel { node: Some("n1".into()), scope: Scope::Device, index: Some(index) };
        imported.trace.channels[&channel].iter().map(|reading| reading.power.map(|power| power.0)).collect()
    }

    #[test]
    fn blank_values_are_gaps() {
        let blanks = ["9223372036854775794", "9.223372036854776e+18", "2147483632", "140737488355328", "NaN"];
        for blank in blanks {
            let text = scrape("70.5", blank) + &scrape("71", "90");
            let imported = parse(&text, Path::new("d.prom"), &assumed()).unwrap();
            assert_eq!(watts(&imported, 0), [Some(70.5), Some(71.0)]);
            assert_eq!(watts(&imported, 1), [None, Some(90.0)], "{blank}");
            assert!(imported.notes[0].contains("1 values mean \"not known\""), "{:?}", imported.notes);
            let (_, first) = imported.trace.by_time()[0];
            assert_eq!((first.sm_clock_mhz, first.at), (Some(1410.0), Timestamp::from_seconds(1000.0).unwrap()));
        }
    }

    #[test]
    fn times_come_from_the_line_or_the_caller() {
        let refused = |text: &str| parse(text, Path::new("d.prom"), &Assumed::default()).unwrap_err().to_string();
        assert!(refused(&scrape("1", "2")).contains("d.prom: line 3: the lines hold no times; say when it was made"));
        assert!(refused(&(scrape("1", "2") + &scrape("1", "2"))).contains("--interval"));
        let timed = "dcgm_power_usage{gpu=\"0\",uuid=\"x\"} 63.5 1700000000500\n";
        let imported = parse(timed, Path::new("d.prom"), &Assumed::default()).unwrap();
        assert_eq!(imported.trace.by_time()[0].1.at.micros(), 1_700_000_000_500_000);
    }

    #[test]
    fn instances_of_mig_repeat_the_power_of_their_device_once() {
        let of = |instance: u32| {
            format!("DCGM_FI_DEV_POWER_USAGE{{gpu=\"0\",GPU_I_ID=\"{instance}\",Hostname=\"n1\"}} 200\n")
        };
        let imported = parse(&(of(1) + &of(2)), Path::new("d"), &assumed()).unwrap();
        assert_eq!(watts(&imported, 0), [Some(200.0)]);
    }

    #[test]
    fn every_defect_has_its_place_and_a_cut_end_is_a_note() {
        let text = "hello\nDCGM_FI_DEV_POWER_USAGE 5\nDCGM_FI_DEV_POWER_USAGE{gpu=\"0\"} -5\nmystery_watts_limit{gpu=\"0\"} 7\nup 1\n";
        let message = parse(text, Path::new("d"), &assumed()).unwrap_err().to_string();
        let lines: Vec<&str> = message.lines().collect();
        assert_eq!(lines.len(), 3, "{message}");
        assert!(
            lines[0].contains("line 1") && lines[1].contains("line 2: no label") && lines[2].contains("-5 is out of")
        );
        let cut = scrape("70", "80") + "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",Hostname=\"n1\"} 9";
        let imported = parse(&cut, Path::new("d"), &assumed()).unwrap();
        assert_eq!(imported.trace.by_time()[0].1.utilization_pct, None);
        assert!(imported.notes[0].contains("line 7: cut off"), "{:?}", imported.notes);
        assert!(parse("", Path::new("d"), &assumed()).unwrap_err().to_string().contains("empty"));
    }

    #[test]
    fn two_powers_of_one_node_are_not_taken_for_one() {
        let text = "psu_power_watts{psu=\"1\"} 300\npsu_power_watts{psu=\"2\"} 310\n";
        let message = parse(text, Path::new("d"), &assumed()).unwrap_err().to_string();
        assert!(message.contains("line 2: psu_power_watts: another series says a power"), "{message}");
    }

    #[test]
    fn other_exporters_are_known_by_their_units() {
        let text = "nvidia_smi_power_draw_watts{uuid=\"b\"} 90\nnvidia_smi_utilization_gpu_ratio{uuid=\"b\"} 0.5\n\
                    nvidia_smi_memory_used_bytes{uuid=\"b\"} 4294967296\nipmi_dcmi_power_consumption_watts 700\n";
        let imported = parse(text, Path::new("d"), &assumed()).unwrap();
        let rows = imported.trace.by_time();
        assert_eq!((rows[0].0.scope, rows[0].1.power), (Scope::Node, Some(Watts(700.0))));
        assert_eq!((rows[1].1.power, rows[1].1.utilization_pct), (Some(Watts(90.0)), Some(50.0)));
        assert_eq!(rows[1].1.memory_used_mib, Some(4096.0));
    }
}

//! Valid logs with random damage: read or refused with a place, never a panic, and what is read holds together.

use std::path::Path;

use jouleplan::domain::Timestamp;
use jouleplan::formats::trace_builder::{Assumed, Imported};
use jouleplan::formats::{Problems, dcgm_text, nvidia_smi, prometheus_json, ptdaemon, telemetry_csv};
use jouleplan::telemetry::{gap_limit, resample, totals};
use jouleplan::units::Seconds;
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

type Read = fn(&str) -> Result<Imported, Problems>;

fn assumed() -> Assumed {
    Assumed { start: Timestamp::from_seconds(1e9), interval: Some(Seconds(1.0)), ..Assumed::default() }
}

/// Valid logs and their readers.
fn logs() -> Vec<(&'static str, String, Read)> {
    let rows = |row: &dyn Fn(u32) -> String| (0..12).map(row).collect::<String>();
    let by_index =
        rows(&|k| format!("2024/04/05 06:17:{:02}.{k:03}, {}, {}.5 W, {k} %, 100 MiB\n", 10 + k / 2, k % 2, 50 + k));
    let by_place = rows(&|k| format!("2024/04/05 06:17:{:02}.{:03}, {}.25\n", 10 + k / 3, 5 * (k % 3), 60 + k));
    let wall = rows(&|k| {
        format!("Time,07-24-2024 00:35:{}.676,Watts,24{k:02}.8,Volts,239.1,Mark,run_1,Ch1,Watts,8{k:02}.9\n", 10 + k)
    });
    let scrape = rows(&|k| {
        format!(
            "# HELP DCGM_FI_DEV_POWER_USAGE w\nDCGM_FI_DEV_POWER_USAGE{{gpu=\"0\",UUID=\"a\",Hostname=\"n\"}} 7{k}.5\n"
        )
    });
    let values: Vec<String> = (0..12).map(|k| format!("[{}.5,\"8{k}\"]", 1_700_000_000 + k)).collect();
    let range = format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"matrix\",\"result\":[{{\"metric\":{{\"__name__\":\
         \"DCGM_FI_DEV_POWER_USAGE\",\"gpu\":\"1\"}},\"values\":[{}]}}]}}}}",
        values.join(",")
    );
    let own = rows(&|k| format!("2026-01-01T00:00:{:02}.5Z,n1,device,0,{}.5,3,,,40,load\n", k, 50 + k));
    vec![
        (
            "index",
            format!("timestamp, index, power.draw [W], utilization.gpu [%], memory.used [MiB]\n{by_index}"),
            |text| nvidia_smi::parse(text, Path::new("log"), &Assumed::default()),
        ),
        ("place", format!("timestamp, power.draw [W]\n{by_place}"), |text| {
            nvidia_smi::parse(text, Path::new("log"), &Assumed::default())
        }),
        ("wall", wall, |text| ptdaemon::parse(text, Path::new("log"), &Assumed::default())),
        ("scrape", scrape, |text| dcgm_text::parse(text, Path::new("log"), &assumed())),
        ("range", range, |text| prometheus_json::parse(text, Path::new("log"), &Assumed::default())),
        (
            "own",
            format!(
                "timestamp,node,scope,device_index,power_w,utilization_pct,memory_used_mib,sm_clock_mhz,temperature_c,phase\n{own}"
            ),
            |text| telemetry_csv::parse(text, Path::new("log")),
        ),
    ]
}

/// Pieces that tend to hurt.
const SPLINTERS: [&str; 24] = [
    "",
    ",",
    "\n",
    "\r\n",
    "\"",
    "-1",
    "NaN",
    "inf",
    "1e308",
    "-0",
    "9223372036854775794",
    "18446744073709551616",
    "0000/00/00",
    "9999/12/31 23:59:59.999",
    "1970-01-01T00:00:00Z",
    "12-31-9999 23:59:59",
    "é",
    "\u{0}",
    "{",
    "}",
    "[",
    "N/A",
    "timestamp",
    "4294967295",
];

fn mutated(text: &str, rng: &mut ChaCha8Rng) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..rng.random_range(1..=4) {
        let from = rng.random_range(0..=bytes.len());
        let to = (from + rng.random_range(0..30)).min(bytes.len());
        match rng.random_range(0..6) {
            0 => bytes.truncate(from),
            1 => drop(bytes.drain(from..to)),
            2 => drop(bytes.splice(from..to, SPLINTERS[rng.random_range(0..SPLINTERS.len())].bytes())),
            3 => {
                let copy = bytes[from..to].to_vec();
                let at = rng.random_range(0..=bytes.len());
                drop(bytes.splice(at..at, copy));
            }
            4 if from < bytes.len() => bytes[from] = rng.random(),
            _ if to > from => bytes[from..to].reverse(),
            _ => {}
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn damaged_logs_never_panic() {
    for (name, log, read) in logs() {
        let whole = read(&log).unwrap_or_else(|problems| panic!("{name} is valid: {problems}"));
        assert_eq!(whole.trace.rows(), 12, "{name}: {:?}", whole.notes);
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (mut good, mut refused) = (0, 0);
        for case in 0..3_000 {
            let text = mutated(&log, &mut rng);
            match read(&text) {
                Ok(imported) => {
                    good += 1;
                    holds_together(&imported, &format!("{name} {case}:\n{text}"));
                }
                Err(Problems::BadData(problems)) => {
                    refused += 1;
                    let told = |problem: &jouleplan::formats::Problem| {
                        !problem.what.is_empty()
                            && (!problem.remedy.is_empty() || problem.what.contains("stopped here"))
                    };
                    assert!(!problems.is_empty() && problems.iter().all(told), "{name} {case}: {problems:?}\n{text}");
                }
                Err(other) => panic!("{name} {case}: {other}"),
            }
        }
        assert!(good > 20 && refused > 100, "{name}: {good} good, {refused} refused");
    }
}

fn holds_together(imported: &Imported, what: &str) {
    let mut written = Vec::new();
    telemetry_csv::write(&mut written, &imported.trace).unwrap();
    let again = telemetry_csv::parse(&String::from_utf8(written).unwrap(), Path::new("again"));
    assert_eq!(again.unwrap_or_else(|problems| panic!("{what}\n{problems}")).trace, imported.trace, "{what}");
    for readings in imported.trace.channels.values() {
        assert!(readings.windows(2).all(|pair| pair[0].at < pair[1].at), "{what}");
        let limit = gap_limit(readings);
        let sum = totals(readings, limit);
        let most = sum.max_power.map_or(0.0, |power| power.0);
        assert!(
            sum.energy.is_none_or(|energy| energy.0 >= 0.0 && energy.0 <= most * sum.covered.0 * (1.0 + 1e-9)),
            "{what}"
        );
        let rows = resample(readings, Seconds(1.0), limit);
        assert!(rows.iter().all(|row| row.power.is_none_or(|power| power.0 <= most * (1.0 + 1e-9))), "{what}");
    }
}

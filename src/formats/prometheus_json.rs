//! The answer of Prometheus to a range query (`/api/v1/query_range`), or what `promtool query range -o json` prints of it.
//!
//! Points lie on a grid: where a series had nothing, the answer just has no point there. Each such hole becomes one reading
//! without power, so that nobody takes its two ends for neighbours.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::gpu_metrics::{Gatherer, Meaning, Series, meaning};
use super::problems::Problems;
use super::trace_builder::{Assumed, Imported, TraceBuilder};
use crate::domain::Timestamp;
use crate::units::Seconds;

#[derive(Deserialize)]
struct Answer {
    status: Option<String>,
    error: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    /// Looked at once the type is known: others than a matrix look different.
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

/// Reads what a file holds; `path` names it in messages.
///
/// # Errors
/// Every problem of every series.
pub fn parse(text: &str, path: &Path, assumed: &Assumed) -> Result<Imported, Problems> {
    let mut builder = TraceBuilder::new(path);
    match rows(text) {
        Ok(rows) => read(rows, assumed, &mut builder),
        Err((what, remedy)) => builder.problems.add("", what, remedy),
    }
    builder.finish()
}

const REMEDY: &str = "save what `curl HOST:9090/api/v1/query_range` answers, with query, start, end and step";

fn rows(text: &str) -> Result<Vec<Row>, (String, &'static str)> {
    let broken = |error: serde_json::Error| (error.to_string(), REMEDY);
    if text.trim().is_empty() {
        return Err(("the file is empty".into(), REMEDY));
    }
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(broken);
    }
    let answer: Answer = serde_json::from_str(text).map_err(broken)?;
    if let Some(error) = answer.error {
        return Err((format!("Prometheus refused the query: {error}"), "correct the query and ask again"));
    }
    let status = answer.status.unwrap_or_default();
    let data = answer.data.ok_or_else(|| (format!("no `data` (status `{status}`)"), REMEDY))?;
    if data.result_type != "matrix" {
        return Err((format!("a `{}`, not the `matrix` of a range query", data.result_type), REMEDY));
    }
    serde_json::from_value(data.result).map_err(|error| (format!("data.result: {error}"), REMEDY))
}

fn read(rows: Vec<Row>, assumed: &Assumed, builder: &mut TraceBuilder) {
    let mut gatherer = Gatherer::default();
    let mut unnamed = 0;
    let distance = |pair: &[(f64, String)]| pair[1].0 - pair[0].0;
    let distances = rows.iter().flat_map(|row| row.values.windows(2).map(distance));
    let step = distances.filter(|distance| *distance > 0.0).min_by(f64::total_cmp).unwrap_or(f64::INFINITY);
    for (number, row) in rows.iter().enumerate() {
        if builder.is_hopeless() {
            break;
        }
        let place = format!("data.result[{number}]");
        let name = row.metric.get("__name__").map(String::as_str);
        let series = match meaning(name, &row.metric) {
            Meaning::Figure(series) => series,
            Meaning::Other => {
                let what = format!("`{}` is no metric known here", name.unwrap_or_default());
                builder.problems.add(place, what, "query power in watts, for example DCGM_FI_DEV_POWER_USAGE");
                continue;
            }
            Meaning::Unclear => {
                let remedy = "keep a label `gpu` or `UUID` in the query, as in `sum by (gpu, Hostname) (..)`";
                builder.problems.add(place, "no label names the device", remedy);
                continue;
            }
        };
        unnamed += usize::from(name.is_none());
        read_values(row, &series, step, &place, &mut gatherer, builder);
    }
    if unnamed > 0 {
        builder.note("", &format!("{unnamed} series have no name and are taken for watts"));
    }
    gatherer.finish(assumed.node.as_deref(), builder);
}

fn read_values(
    row: &Row,
    series: &Series,
    step: f64,
    place: &str,
    gatherer: &mut Gatherer,
    builder: &mut TraceBuilder,
) {
    let mut last: Option<f64> = None;
    for (index, (seconds, text)) in row.values.iter().enumerate() {
        let mut problem = |what: String| {
            builder.problems.add(format!("{place}.values[{index}]"), what, "expected [seconds since 1970, \"NUMBER\"]");
        };
        let (Some(at), Ok(value)) = (Timestamp::from_seconds(*seconds), text.parse::<f64>()) else {
            problem(format!("[{seconds}, \"{text}\"] is no value at a time"));
            continue;
        };
        if let Some(last) = last
            && *seconds <= last
        {
            problem("its time does not come after the one before".to_owned());
            continue;
        }
        if let Some(last) = last.and_then(Timestamp::from_seconds)
            && at.since(last).0 > 1.5 * step
        {
            gatherer.hole(series, last.plus(Seconds(step)));
        }
        last = Some(*seconds);
        if let Err(what) = gatherer.add(series, at, value) {
            builder.problems.add(format!("{place}.values[{index}]"), what, "narrow the query");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Scope;

    fn read(result: &str) -> Result<Imported, Problems> {
        let text = format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{result}]}}}}"#);
        parse(&text, Path::new("p.json"), &Assumed::default())
    }

    #[test]
    fn series_become_readings_and_holes_gaps() {
        let power = r#"{"metric":{"__name__":"DCGM_FI_DEV_POWER_USAGE","gpu":"1","instance":"n1:9400"},
                        "values":[[100,"70"],[101,"71.5"],[104,"NaN"],[105,"73"]]}"#;
        let clock =
            r#"{"metric":{"__name__":"DCGM_FI_DEV_SM_CLOCK","gpu":"1","instance":"n1:9400"},"values":[[101,"1410"]]}"#;
        let imported = read(&format!("{power},{clock}")).unwrap();
        let rows = imported.trace.by_time();
        let read: Vec<(f64, Option<f64>)> =
            rows.iter().map(|(_, row)| (row.at.micros() as f64 / 1e6, row.power.map(|power| power.0))).collect();
        assert_eq!(read, [(100.0, Some(70.0)), (101.0, Some(71.5)), (102.0, None), (104.0, None), (105.0, Some(73.0))]);
        assert_eq!((rows[0].0.scope, rows[0].0.index, rows[0].0.node.as_deref()), (Scope::Device, Some(1), Some("n1")));
        assert_eq!(rows[1].1.sm_clock_mhz, Some(1410.0));
    }

    #[test]
    fn queries_without_a_name_are_watts_and_say_so() {
        let imported = read(r#"{"metric":{"gpu":"0"},"values":[[1,"70"]]}"#).unwrap();
        assert!(imported.notes[0].contains("1 series have no name"), "{:?}", imported.notes);
        let bare = r#"[{"metric":{"gpu":"0"},"values":[[1,"70"]]}]"#;
        assert_eq!(parse(bare, Path::new("p"), &Assumed::default()).unwrap().trace, imported.trace);
    }

    #[test]
    fn what_is_no_range_of_powers_is_refused() {
        let refused = |text: &str| parse(text, Path::new("p.json"), &Assumed::default()).unwrap_err().to_string();
        assert!(refused("").contains("empty"));
        assert!(refused(r#"{"status":"success","data":{"resu"#).contains("line 1"));
        assert!(refused(r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#).contains("parse error"));
        assert!(refused(r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#).contains("`vector`"));
        let message = read(
            r#"{"metric":{"__name__":"up"},"values":[]},{"metric":{},"values":[]},
               {"metric":{"gpu":"0"},"values":[[1,"x"],[2,"-4"],[2,"5"],[1e300,"5"]]}"#,
        );
        let message = message.unwrap_err().to_string();
        let places = [
            "result[0]: `up`",
            "result[1]: no label",
            "result[2].values[0]",
            "values[1]",
            "values[2]: its",
            "values[3]",
        ];
        assert!(places.iter().all(|place| message.contains(place)), "{message}");
        assert!(read("").unwrap_err().to_string().contains("no readings"));
    }
}

//! Series of a site over time: carbon intensity, price, power cap. Columns `timestamp` and one of values; others are
//! ignored. A value holds until the next timestamp, the last one as long as the one before it did. Where a cell is empty
//! nothing is known until the next timestamp, which matters only to plans that reach there.

use std::path::Path;
use std::time::SystemTime;

use super::duration::parse_instant;
use super::problems::Problems;
use super::table::Table;
use crate::domain::Steps;

/// What a series is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteSeries {
    /// Grams of CO2 per kWh.
    Carbon,
    /// Money per kWh, in whatever currency.
    Price,
    /// Watts of the whole cluster. The last cap holds for good.
    PowerCap,
}

impl SiteSeries {
    /// Role of its file in plan.json.
    pub fn role(self) -> &'static str {
        match self {
            Self::Carbon => "carbon",
            Self::Price => "price",
            Self::PowerCap => "power_cap",
        }
    }

    /// Key of its file in the cluster file's `[site]`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Carbon => "carbon_csv",
            Self::Price => "price_csv",
            Self::PowerCap => "power_cap_csv",
        }
    }

    pub fn column(self) -> &'static str {
        match self {
            Self::Carbon => "gco2_per_kwh",
            Self::Price => "price_per_kwh",
            Self::PowerCap => "power_cap_w",
        }
    }

    /// Values a cell may hold.
    fn range(self) -> (f64, f64) {
        match self {
            Self::Carbon => (0.0, 1e5),
            // Below 0 every plan could be made better by wasting energy.
            Self::Price => (0.0, 1e9),
            Self::PowerCap => (0.0, 1e12),
        }
    }
}

/// Reads a series; its seconds count from `start`.
pub fn read(path: &Path, series: SiteSeries, start: SystemTime) -> Result<Steps, Problems> {
    parse(Table::open(path)?, series, start)
}

fn parse(mut table: Table, series: SiteSeries, start: SystemTime) -> Result<Steps, Problems> {
    let (timestamp, value) = (table.require("timestamp"), table.require(series.column()));
    let (low, high) = series.range();
    let mut rows: Vec<(f64, Option<f64>)> = Vec::new();
    while let Some(mut row) = table.next_row() {
        let (text, number) = (row.required_text(timestamp), row.number(value, low, high));
        let column = timestamp.unwrap_or(0);
        let second = match text.map(|text| parse_instant(&text)) {
            Some(Ok(instant)) => seconds_since(start, instant),
            Some(Err(error)) => {
                row.problem(column, error.to_string(), "write it as 2026-11-21T08:00:00Z");
                continue;
            }
            None => continue,
        };
        if rows.last().is_some_and(|(last, _)| second <= *last) {
            row.problem(column, "it is not later than the row before", "sort the rows by time, each instant once");
            continue;
        }
        rows.push((second, number));
    }
    let until = match (&rows[..], series) {
        (_, SiteSeries::PowerCap) => f64::INFINITY,
        ([.., (before, _), (last, _)], _) => last + (last - before),
        ([(only, _)], _) => *only,
        ([], _) => 0.0,
    };
    let gap = |pair: &[(f64, Option<f64>)]| pair[0].1.is_none().then_some((pair[0].0, pair[1].0));
    let last = rows.last().filter(|row| row.1.is_none()).map(|row| (row.0, until));
    let gaps = rows.windows(2).filter_map(gap).chain(last).collect();
    let steps: Vec<(f64, f64)> = rows.iter().filter_map(|&(second, value)| Some((second, value?))).collect();
    let read = Steps::new(&steps, until).map(|steps| steps.with_gaps(gaps));
    if read.is_none() && table.problems.is_empty() {
        table.problems.add("", "there is no value", "add a row for every change of the value");
    }
    // Without rows there is a problem, so the value is never seen.
    table.finish(read.unwrap_or_else(|| Steps::constant(0.0)))
}

fn seconds_since(start: SystemTime, instant: SystemTime) -> f64 {
    match instant.duration_since(start) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &'static str, series: SiteSeries) -> Result<Steps, Problems> {
        let start = parse_instant("2022-01-01T01:30:00Z").unwrap();
        parse(Table::new(Path::new("s.csv"), Box::new(text.as_bytes())).unwrap(), series, start)
    }

    #[test]
    fn hours_are_placed_from_the_start_of_the_plan() {
        let text = "timestamp,gco2_per_kwh,note\n2022-01-01 00:00:00+00:00,300,x\n2022-01-01T02:00:00+01:00,250,\n\
                    2022-01-01T02:00:00Z,250,\n2022-01-01T03:00:00Z,100,\n";
        let steps = read_text(text, SiteSeries::Carbon).unwrap();
        assert_eq!(steps.iter().collect::<Vec<_>>(), [(-1800.0, 250.0), (5400.0, 100.0)]);
        assert_eq!((steps.missing(9000.0), steps.missing(9001.0)), (None, Some((9000.0, 9001.0))));
        let text = "timestamp,gco2_per_kwh\n2022-01-01T00:00:00Z,3\n2022-01-01T02:00:00Z,\n2022-01-01T03:00:00Z,4\n";
        let steps = read_text(text, SiteSeries::Carbon).unwrap();
        assert_eq!((steps.missing(1800.0), steps.missing(9000.0)), (None, Some((1800.0, 5400.0))));
        let cap = read_text("timestamp,power_cap_w\n2022-01-01T00:00:00Z,5e4\n", SiteSeries::PowerCap).unwrap();
        assert_eq!(cap.missing(1e9), None);
    }

    #[test]
    fn every_defect_is_named() {
        let text = "timestamp,price_per_kwh\n2022-01-01T00:00:00,0.1\n2022-01-01T02:00:00Z,-0.1\n\
                    2022-01-01T02:00:00Z,0.2\n2022-01-01T02:00:00Z,0.3\nnoon,1\n";
        let found = read_text(text, SiteSeries::Price).unwrap_err().to_string();
        for part in
            ["line 2, column 1 (timestamp)", "no time zone", "-0.1 is out of range", "line 5", "not later", "noon"]
        {
            assert!(found.contains(part), "{part} in {found}");
        }
        let none = read_text("timestamp,price_per_kwh\n", SiteSeries::Price).unwrap_err().to_string();
        assert!(none.contains("there is no value"), "{none}");
    }
}

//! Logs of SPEC's PTDaemon, as MLPerf Power submissions hold them (`spl.txt`): the power of a node at the wall.
//!
//! A line is `Time,07-24-2024 00:35:19.676,Watts,2433.8,Volts,..,Mark,RUN[,Ch1,Watts,..]` in local time. The first `Watts`
//! are those of all channels; the channels by themselves are left out. PTDaemon writes -1 where the analyzer gave nothing.
//! The mark names the run and becomes the phase.

use std::path::Path;

use super::problems::Problems;
use super::timestamp::parse_month_first;
use super::trace_builder::{Assumed, Imported, MAX_POWER_W, TraceBuilder, lines};
use crate::domain::{Channel, Reading, Scope};
use crate::units::Watts;

/// Reads what a file holds; `path` names it in messages.
///
/// # Errors
/// Every problem of every line.
pub fn parse(text: &str, path: &Path, assumed: &Assumed) -> Result<Imported, Problems> {
    let mut builder = TraceBuilder::new(path);
    let channel = Channel { node: assumed.node.clone(), scope: Scope::Node, index: None };
    let (lines, unended) = lines(text);
    if lines.is_empty() {
        builder.problems.add("line 1", "the file is empty", "record some samples, or leave the file out");
    }
    for (position, (line, text)) in lines.iter().enumerate() {
        if builder.is_hopeless() {
            break;
        }
        let place = format!("line {line}");
        let is_last = position + 1 == lines.len();
        match read_line(text, unended && is_last, assumed) {
            Ok(reading) => builder.push(&place, &channel, reading),
            Err(_) if is_last && position > 0 => builder.note(&place, "cut off before its end, left out"),
            Err(what) => {
                builder.problems.add(place, what, "expected `Time,MM-DD-YYYY HH:MM:SS.mmm,Watts,NUMBER,..`");
            }
        }
    }
    builder.finish()
}

/// A line; the last cell of one without an end may be cut, so it says nothing.
fn read_line(text: &str, unended: bool, assumed: &Assumed) -> Result<Reading, String> {
    let mut cells: Vec<&str> = text.split(',').map(str::trim).collect();
    if unended {
        cells.pop();
    }
    // Up to the first channel: it has `Watts` of its own.
    let whole = cells.iter().position(|cell| *cell == "Ch1").map_or(&cells[..], |end| &cells[..end]);
    let value = |name: &str| whole.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
    let time = value("Time").ok_or("no `Time`")?;
    let at = parse_month_first(time, assumed.utc_offset_minutes).ok_or_else(|| format!("`{time}` is no time"))?;
    let watts = value("Watts").ok_or("no `Watts`")?;
    let figure = watts.parse::<f64>().ok().filter(|figure| *figure <= MAX_POWER_W && *figure >= -MAX_POWER_W);
    let figure = figure.ok_or_else(|| format!("`{watts}` is no power"))?;
    let power = (figure >= 0.0).then_some(Watts(figure));
    let mark = value("Mark").filter(|mark| !mark.is_empty() && *mark != "notset");
    Ok(Reading { power, phase: mark.map(str::to_owned), ..Reading::at(at) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNELS: &str = ",Volts,239.1,Amps,3.5,PF,0.96,Mark,run_1,Ch1,Watts,819.9,Volts,239.4,Amps,3.5,PF,0.96\n";

    fn line(second: u32, watts: &str) -> String {
        format!("Time,07-24-2024 00:35:{second}.676,Watts,{watts}{CHANNELS}")
    }

    fn read(text: &str) -> Result<Imported, Problems> {
        parse(text, Path::new("spl.txt"), &Assumed::default())
    }

    #[test]
    fn watts_of_all_channels_are_read_and_minus_one_is_a_gap() {
        let text = line(19, "2433.8") + "\n" + &line(20, "-1.000000") + &line(21, "2440");
        let readings = read(&text).unwrap().trace.channels.into_values().next().unwrap();
        let watts: Vec<Option<f64>> = readings.iter().map(|reading| reading.power.map(|power| power.0)).collect();
        assert_eq!(watts, [Some(2433.8), None, Some(2440.0)]);
        assert_eq!(readings[0].phase.as_deref(), Some("run_1"));
        let one_channel = "Time,07-24-2024 00:35:19.676,Watts,70.1,Volts,1,Amps,1,PF,1,Mark,notset\n";
        assert_eq!(read(one_channel).unwrap().trace.by_time()[0].1.phase, None);
    }

    #[test]
    fn a_cut_last_line_costs_no_more_than_itself() {
        let last = line(20, "2440.5");
        for end in 1..last.len() - 1 {
            let imported = read(&(line(19, "2433.8") + &last[..end])).unwrap();
            let rows = imported.trace.by_time();
            // Whole from the comma behind the power on.
            let is_whole = end > last.find(",Volts").unwrap();
            assert_eq!((rows.len(), imported.notes.len()), if is_whole { (2, 0) } else { (1, 1) }, "{end}");
            assert!(rows.last().is_some_and(|(_, row)| row.power >= Some(Watts(2433.8))), "{end}");
        }
    }

    #[test]
    fn every_defect_has_its_place() {
        let text = line(19, "many") + "hello\n" + &line(99, "1") + &line(20, "nan") + &line(21, "1");
        let message = read(&text).unwrap_err().to_string();
        let lines: Vec<&str> = message.lines().collect();
        assert_eq!(lines.len(), 4, "{message}");
        assert!(lines[0].starts_with("spl.txt: line 1: `many` is no power; expected"), "{message}");
        assert!(lines[1].contains("line 2: no `Time`") && lines[2].contains("line 3: `07-24-2024 00:35:99.676`"));
        assert!(read("").unwrap_err().to_string().contains("empty"));
    }
}

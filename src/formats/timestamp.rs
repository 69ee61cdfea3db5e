//! Timestamps as loggers write them: date and time by themselves, or with a zone.
//!
//! nvidia-smi and PTDaemon log local time and do not say where. The caller says how far that zone is from UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::duration::parse_instant;
use crate::domain::Timestamp;

/// `2024/04/05 06:17:19.635` or `2024-04-05T06:17:19`, with `Z`, `+02:00` or nothing behind: then it is of a zone that is
/// `utc_offset_minutes` ahead of UTC.
pub fn parse(text: &str, utc_offset_minutes: i32) -> Option<Timestamp> {
    let text = text.trim().replace('/', "-");
    if let Ok(instant) = parse_instant(&text) {
        return from_system(instant);
    }
    shifted(parse_instant(&format!("{text}Z")).ok()?, utc_offset_minutes)
}

/// `07-24-2024 00:35:19.676`, month first, as PTDaemon writes it; no zone.
pub fn parse_month_first(text: &str, utc_offset_minutes: i32) -> Option<Timestamp> {
    let (date, time) = text.trim().split_once(' ')?;
    let mut parts = date.split('-');
    let (month, day, year) = (parts.next()?, parts.next()?, parts.next()?);
    let instant = parse_instant(&format!("{year}-{month}-{day} {time}Z")).ok()?;
    if parts.next().is_some() { None } else { shifted(instant, utc_offset_minutes) }
}

/// As our own files hold it: UTC, with a zone.
pub fn parse_zoned(text: &str) -> Option<Timestamp> {
    from_system(parse_instant(text).ok()?)
}

/// RFC 3339 in UTC, in milliseconds or, where those lose something, microseconds.
pub fn format(at: Timestamp) -> String {
    // The range of a timestamp ends before the year 10000, which humantime could not write.
    let time = UNIX_EPOCH + Duration::from_micros(at.micros().unsigned_abs());
    if at.micros() % 1000 == 0 {
        humantime::format_rfc3339_millis(time).to_string()
    } else {
        humantime::format_rfc3339_micros(time).to_string()
    }
}

/// `None` before 1970.
pub fn from_system(instant: SystemTime) -> Option<Timestamp> {
    let micros = instant.duration_since(UNIX_EPOCH).ok()?.as_micros();
    Timestamp::from_micros(i64::try_from(micros).ok()?)
}

fn shifted(instant: SystemTime, utc_offset_minutes: i32) -> Option<Timestamp> {
    let at = from_system(instant)?;
    Timestamp::from_micros(at.micros() - i64::from(utc_offset_minutes) * 60_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loggers_spellings_are_read() {
        let noon = Timestamp::from_micros(1_712_318_400_250_000);
        for text in [
            "2024/04/05 12:00:00.250",
            "2024-04-05 12:00:00.25",
            "2024-04-05T12:00:00.250Z",
            " 2024-04-05T14:00:00.25+02:00 ",
        ] {
            assert_eq!(parse(text, 0), noon, "{text}");
        }
        assert_eq!(parse("2024/04/05 14:00:00.250", 120), noon);
        assert_eq!(parse("2024-04-05T12:00:00.250Z", 120), noon, "a zone in the text wins");
        assert_eq!(parse_month_first("04-05-2024 12:00:00.250", 0), noon);
        assert_eq!(
            parse_month_first("04-05-2024 12:00:00.250", -60),
            noon.map(|at| at.plus(crate::units::Seconds(3600.0)))
        );
        assert_eq!(format(noon.unwrap()), "2024-04-05T12:00:00.250Z");
        assert_eq!(format(Timestamp::from_micros(1).unwrap()), "1970-01-01T00:00:00.000001Z");
        assert_eq!(parse_zoned("2024-04-05 12:00:00"), None);
    }

    #[test]
    fn what_is_no_time_is_none() {
        for bad in
            ["", "2024", "2024/04/05", "2024/04/05 12:00:", "2024/13/05 12:00:00", "1960/01/01 00:00:00", "é/ü", "N/A"]
        {
            assert_eq!((parse(bad, 0), parse_month_first(bad, 0)), (None, None), "{bad}");
        }
        assert_eq!(parse("1970/01/01 00:00:00", 60), None);
        assert_eq!(parse_month_first("13-01-2024 00:00:00", 0), None);
        assert_eq!(parse_month_first("04-05-2024-06 00:00:00", 0), None);
    }
}

//! Times as people write them: `8h`, `30min`, `1h30m`, `2.5h`, or an instant with its zone.
//!
//! The grammar is humantime's; what is added are instants with a numeric zone, counted from the start of the plan, and a
//! bound that keeps arithmetic sane. An instant without a zone is refused: nobody can say later which clock it meant.

use std::time::{Duration, SystemTime};

use crate::units::Seconds;

/// Ten years: no queue waits longer, and sums of such times stay exact in an `f64`.
pub const MAX_SECONDS: f64 = 10.0 * 365.25 * 86_400.0;

/// Why a text is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    #[error("`{0}` has no unit; write for example `8h`, `30min` or `90s`")]
    NoUnit(String),
    #[error("`{0}` is no duration ({1}); write for example `8h`, `1h30m`, `2.5h` or `90s`")]
    NoDuration(String, String),
    #[error("`{0}` is no instant; write for example `2026-11-21T08:00:00Z` or `2026-11-21T08:00:00+01:00`")]
    NoInstant(String),
    #[error("`{0}` names no time zone; append `Z` or an offset like `+01:00`")]
    NoZone(String),
    #[error("`{0}` lies before the start of the plan")]
    Past(String),
    #[error("`{0}` is more than ten years")]
    TooLong(String),
}

/// A duration with units, at least 0 and at most ten years.
pub fn parse(text: &str) -> Result<Seconds, TimeError> {
    let text = text.trim();
    if text.parse::<f64>().is_ok_and(|number| number >= 0.0) {
        return Err(TimeError::NoUnit(text.to_owned()));
    }
    let duration = humantime::parse_duration(text)
        .map_err(|error| TimeError::NoDuration(text.to_owned(), error.to_string().to_lowercase()))?;
    bounded(duration.as_secs_f64(), text)
}

/// A point in time: a duration from the start of the plan, or an RFC 3339 instant (`T` or a blank between date and time,
/// a zone required) at or after `start`.
pub fn parse_point(text: &str, start: SystemTime) -> Result<Seconds, TimeError> {
    let text = text.trim();
    if !looks_like_instant(text) {
        return parse(text);
    }
    match parse_instant(text)?.duration_since(start) {
        Ok(after) => bounded(after.as_secs_f64(), text),
        Err(_) => Err(TimeError::Past(text.to_owned())),
    }
}

/// An RFC 3339 instant with its zone.
pub fn parse_instant(text: &str) -> Result<SystemTime, TimeError> {
    let no_instant = || TimeError::NoInstant(text.to_owned());
    let text = text.trim();
    let bytes = text.as_bytes();
    if !text.is_ascii() || !looks_like_instant(text) {
        return Err(no_instant());
    }
    if matches!(bytes.last(), Some(b'Z' | b'z')) {
        let plain = format!("{}Z", &text[..text.len() - 1]);
        return humantime::parse_rfc3339_weak(&plain).map_err(|_| no_instant());
    }
    // `+01:00` behind a time; the date's own dashes are at most at byte 7.
    let Some(at) = text.rfind(['+', '-']).filter(|at| *at > 10) else {
        return Err(if humantime::parse_rfc3339_weak(text).is_ok() {
            TimeError::NoZone(text.to_owned())
        } else {
            no_instant()
        });
    };
    let local = humantime::parse_rfc3339_weak(&format!("{}Z", &text[..at])).map_err(|_| no_instant())?;
    let offset =
        offset_minutes(&text[at + 1..]).map(|minutes| Duration::from_secs(60 * minutes)).ok_or_else(no_instant)?;
    let shifted = if bytes[at] == b'+' { local.checked_sub(offset) } else { local.checked_add(offset) };
    shifted.ok_or_else(no_instant)
}

/// `HH:MM` in minutes.
fn offset_minutes(text: &str) -> Option<u64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str, limit: u64| digits.parse::<u64>().ok().filter(|n| digits.len() == 2 && *n < limit);
    Some(60 * number(hours, 24)? + number(minutes, 60)?)
}

/// Starts with a date, `2026-`: no duration has a dash.
fn looks_like_instant(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() > 4 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-'
}

fn bounded(seconds: f64, text: &str) -> Result<Seconds, TimeError> {
    if seconds <= MAX_SECONDS { Ok(Seconds(seconds)) } else { Err(TimeError::TooLong(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> SystemTime {
        humantime::parse_rfc3339("2026-11-20T22:00:00Z").unwrap()
    }

    #[test]
    fn durations_as_people_write_them() {
        for (text, seconds) in [
            ("8h", 28_800.0),
            ("30min", 1_800.0),
            ("90s", 90.0),
            ("1h30m", 5_400.0),
            ("2.5h", 9_000.0),
            (" 0s ", 0.0),
            ("2days", 172_800.0),
        ] {
            assert_eq!(parse(text), Ok(Seconds(seconds)), "{text}");
        }
    }

    #[test]
    fn instants_count_from_the_start() {
        for text in
            ["2026-11-21T08:00:00Z", "2026-11-21 08:00:00Z", "2026-11-21T09:00:00+01:00", "2026-11-21T02:30:00-05:30"]
        {
            assert_eq!(parse_point(text, start()), Ok(Seconds(36_000.0)), "{text}");
        }
        assert_eq!(parse_point("8h", start()), Ok(Seconds(28_800.0)));
    }

    #[test]
    fn what_is_no_time_says_why() {
        for bad in ["", "-8h", "8", "NaN", "inf", "1e300h", "h", "8 parsecs", "99999999999999999999h", "1e3s", "8h-2h"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(matches!(parse("3600"), Err(TimeError::NoUnit(_))));
        assert!(matches!(parse("11years"), Err(TimeError::TooLong(_))));
        assert!(matches!(parse_point("2026-11-20T21:59:59Z", start()), Err(TimeError::Past(_))));
        assert!(matches!(parse_point("2026-11-21T08:00:00", start()), Err(TimeError::NoZone(_))));
        for bad in [
            "2026-13-01T00:00:00Z",
            "2026-11-21T08:00:00+1:00",
            "2026-11-21T08:00:00+25:00",
            "2026-",
            "2026-é",
            "9999-12-31T23:59:59Z",
        ] {
            assert!(parse_point(bad, start()).is_err(), "{bad}");
        }
    }
}

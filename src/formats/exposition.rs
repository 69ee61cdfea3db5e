//! One line of the Prometheus text format: `name{label="value",..} value [milliseconds]`.

use std::collections::BTreeMap;

/// A sample as the line gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
    /// Since 1970.
    pub milliseconds: Option<i64>,
}

/// A sample line; `None` if it is none. Comments and empty lines are the caller's.
pub fn parse(line: &str) -> Option<Line> {
    let line = line.trim();
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at(end);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.is_empty() || !name.chars().all(is_name) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (labels, rest) = match rest.trim_start().strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (BTreeMap::new(), rest),
    };
    let mut words = rest.split_whitespace();
    // Rust reads `NaN`, `+Inf` and `-Inf` as Prometheus writes them.
    let value = words.next()?.parse().ok()?;
    let milliseconds = words.next().map(str::parse).transpose().ok()?;
    words.next().is_none().then(|| Line { name: name.to_owned(), labels, value, milliseconds })
}

/// Labels behind their `{`, and what follows their `}`.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((labels, behind));
        }
        let (name, value) = rest.split_once('=')?;
        let mut text = String::new();
        let mut chars = value.trim_start().strip_prefix('"')?.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => text.push(match chars.next()? {
                    'n' => '\n',
                    other => other,
                }),
                other => text.push(other),
            }
        }
        labels.insert(name.trim().to_owned(), text);
        rest = chars.as_str().trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_and_without_labels_and_times() {
        let line = parse(r#"DCGM_FI_DEV_GPU_TEMP{gpu="0", UUID="GPU-\"a\\,}\n",} 42 1700000000123"#).unwrap();
        assert_eq!(
            (line.name.as_str(), line.value, line.milliseconds),
            ("DCGM_FI_DEV_GPU_TEMP", 42.0, Some(1_700_000_000_123))
        );
        assert_eq!((line.labels["gpu"].as_str(), line.labels["UUID"].as_str()), ("0", "GPU-\"a\\,}\n"));
        assert_eq!(parse("up 1.5e3").unwrap().value, 1500.0);
        assert!(parse("up{} NaN").unwrap().value.is_nan());
        assert_eq!(parse("up +Inf").unwrap().value, f64::INFINITY);
    }

    #[test]
    fn half_lines_are_none() {
        let whole = r#"power{gpu="0",node="n"} 4.5 17"#;
        let cut_inside = whole.find(" 4").unwrap() + 1;
        for end in 0..=cut_inside {
            assert_eq!(parse(&whole[..end]), None, "{end}");
        }
        for bad in ["2up 1", "up", "up x", "up 1 x", "up 1 2 3", "up{a=b} 1", "é 1", "up{a=\"\\"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}

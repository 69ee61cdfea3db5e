//! What Slurm's JSON has in common over its releases: numbers plain or wrapped, states as text or as a list.
//!
//! 22.05 writes `"cpus": 64` and `"state": "idle"`; from 23.02 on many numbers are `{"set", "infinite", "number"}` and
//! states `["IDLE", "DRAIN"]`. Sentinels for "no value" are absent here, as everything is that Slurm does not say.

use std::collections::BTreeSet;

use serde_json::Value;

/// NO_VAL64 and INFINITE64 begin here; their 32-bit counterparts are compared exactly.
const SENTINELS_64: u64 = u64::MAX - 3;
const SENTINELS_32: [u64; 3] = [u32::MAX as u64, u32::MAX as u64 - 1, u32::MAX as u64 - 2];

/// A number, wrapped or not, or as text; `None` for sentinels, for what is not set, negative or infinite.
pub fn number(value: &Value) -> Option<u64> {
    let number = match value {
        Value::Number(number) => match number.as_u64() {
            Some(number) => number,
            None => number.as_f64().filter(|number| (0.0..9e15).contains(number))? as u64,
        },
        Value::Object(wrapped) => {
            let says = |key: &str| wrapped.get(key).and_then(Value::as_bool);
            if says("set") == Some(false) || says("infinite") == Some(true) {
                return None;
            }
            return number(wrapped.get("number").filter(|inner| !inner.is_object())?);
        }
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (number < SENTINELS_64 && !SENTINELS_32.contains(&number)).then_some(number)
}

/// The field of this name as a number.
pub fn number_of(object: &Value, name: &str) -> Option<u64> {
    number(object.get(name)?)
}

/// As `number_of`, where more than 32 bits are no sensible value.
pub fn small_of(object: &Value, name: &str) -> Option<u32> {
    number_of(object, name).and_then(|number| u32::try_from(number).ok())
}

/// Text that says something.
pub fn text_of<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    let text = object.get(name)?.as_str()?.trim();
    (!["", "(null)", "N/A", "None assigned"].contains(&text)).then_some(text)
}

/// A list of texts, or texts with commas between them.
pub fn texts_of(object: &Value, name: &str) -> Vec<String> {
    match object.get(name) {
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(text)) => words(text),
        _ => Vec::new(),
    }
}

/// Words with commas between them; `(null)` is none.
pub fn words(text: &str) -> Vec<String> {
    let said = |word: &&str| !["", "(null)", "N/A"].contains(word);
    text.split(',').map(str::trim).filter(said).map(str::to_owned).collect()
}

/// States of all the texts: `idle`, `IDLE+DRAIN`, `DOWN*`. A sign behind a state stands for a state of its own.
pub fn states<'a>(texts: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for word in texts.into_iter().flat_map(|text| text.split('+')) {
        let plain = word.trim().trim_end_matches(|c| sign(c).is_some());
        found.extend(word.trim()[plain.len()..].chars().filter_map(sign).map(str::to_owned));
        if !plain.is_empty() {
            found.insert(plain.to_ascii_uppercase());
        }
    }
    found
}

/// Of sinfo's manual, "NODE STATE CODES".
fn sign(c: char) -> Option<&'static str> {
    Some(match c {
        '*' => "NOT_RESPONDING",
        '~' => "POWERED_DOWN",
        '#' => "POWERING_UP",
        '!' => "POWER_DOWN",
        '%' => "POWERING_DOWN",
        '$' => "MAINTENANCE",
        '@' => "REBOOT_REQUESTED",
        '^' => "REBOOT_ISSUED",
        '-' => "PLANNED",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_in_every_release() {
        let wrapped =
            |set: bool, infinite: bool, number: u64| json!({"set": set, "infinite": infinite, "number": number});
        for (value, expected) in [
            (json!(64), Some(64)),
            (json!(64.0), Some(64)),
            (json!("64"), Some(64)),
            (wrapped(true, false, 64), Some(64)),
            (wrapped(false, false, 64), None),
            (wrapped(true, true, 0), None),
            (json!({"number": {"number": 1}}), None),
            (json!(4_294_967_294_u64), None),
            (json!(18_446_744_073_709_551_614_u64), None),
            (json!(-2), None),
            (json!(null), None),
            (json!(""), None),
        ] {
            assert_eq!(number(&value), expected, "{value}");
        }
    }

    #[test]
    fn states_in_every_spelling() {
        let all = |texts: &[&str]| states(texts.iter().copied()).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(all(&["idle"]), "IDLE");
        assert_eq!(all(&["IDLE", "DRAIN"]), "DRAIN IDLE");
        assert_eq!(all(&["DOWN*+DRAIN"]), "DOWN DRAIN NOT_RESPONDING");
        assert_eq!(all(&["IDLE~"]), "IDLE POWERED_DOWN");
        assert_eq!(all(&[""]), "");
    }
}

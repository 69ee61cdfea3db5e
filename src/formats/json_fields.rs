//! Fields of a JSON object that another tool wrote: each read by name, each slip told with its place.
//!
//! For documents of which only some fields matter and all problems shall be told at once; serde stops at the first. An
//! absent field and `null` are the same. Unknown fields are passed over: tools add some with every release.

use serde_json::Value;

use super::problems::Collector;
use super::sample_row::place;

/// An object, and where it stands.
pub struct Fields<'v> {
    value: &'v Value,
    /// Of the outermost object, as `line 3`; empty for the document itself.
    at: String,
    /// From there, as `telemetry_data.endpoints`.
    path: String,
}

impl<'v> Fields<'v> {
    /// `None`, and a problem, if the value is no object.
    pub fn new(value: &'v Value, at: impl Into<String>, problems: &mut Collector) -> Option<Self> {
        let at = at.into();
        if value.is_object() {
            return Some(Self { value, at, path: String::new() });
        }
        problems.add(at, "this is no JSON object", "expected `{\"name\": value, ..}`");
        None
    }

    /// Where a field stands: `line 3 (metrics.request_latency)`.
    pub fn place(&self, name: &str) -> String {
        place(&self.at, &self.path_of(name))
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn refuse(&self, name: &str, what: impl Into<String>, remedy: impl Into<String>, problems: &mut Collector) {
        problems.add(self.place(name), what, remedy);
    }

    /// A finite number; JSON has no others, and figures beyond its range are refused when it is parsed.
    pub fn number(&self, name: &str, problems: &mut Collector) -> Option<f64> {
        self.typed(name, "number", Value::as_f64, problems)
    }

    /// A count from 0 on, also where it is written `12.0`.
    pub fn count(&self, name: &str, problems: &mut Collector) -> Option<u64> {
        let whole = |value: &Value| {
            let float = value.as_f64().filter(|float| float.fract() == 0.0 && (0.0..=1e15).contains(float));
            value.as_u64().or(float.map(|float| float as u64))
        };
        self.typed(name, "count from 0 on", whole, problems)
    }

    pub fn text(&self, name: &str, problems: &mut Collector) -> Option<&'v str> {
        self.typed(name, "text", Value::as_str, problems)
    }

    pub fn flag(&self, name: &str, problems: &mut Collector) -> Option<bool> {
        self.typed(name, "true or false", Value::as_bool, problems)
    }

    pub fn list(&self, name: &str, problems: &mut Collector) -> Option<&'v [Value]> {
        self.typed(name, "list", |value| value.as_array().map(Vec::as_slice), problems)
    }

    /// A list of numbers, whole or not at all.
    pub fn numbers(&self, name: &str, problems: &mut Collector) -> Option<Vec<f64>> {
        self.typed(name, "list of numbers", |value| value.as_array()?.iter().map(Value::as_f64).collect(), problems)
    }

    pub fn object(&self, name: &str, problems: &mut Collector) -> Option<Fields<'v>> {
        self.typed(name, "object", |value| value.is_object().then_some(value), problems).map(|value| Fields {
            value,
            at: self.at.clone(),
            path: self.path_of(name),
        })
    }

    /// The objects that a map holds, by name.
    pub fn objects(&self, problems: &mut Collector) -> Vec<Fields<'v>> {
        let names = self.value.as_object().into_iter().flat_map(|map| map.keys());
        names.filter_map(|name| self.object(name, problems)).collect()
    }

    pub fn required_number(&self, name: &str, remedy: &str, problems: &mut Collector) -> Option<f64> {
        self.require(name, remedy, problems);
        self.number(name, problems)
    }

    pub fn required_object(&self, name: &str, remedy: &str, problems: &mut Collector) -> Option<Fields<'v>> {
        self.require(name, remedy, problems);
        self.object(name, problems)
    }

    pub fn required_count(&self, name: &str, remedy: &str, problems: &mut Collector) -> Option<u64> {
        self.require(name, remedy, problems);
        self.count(name, problems)
    }

    fn require(&self, name: &str, remedy: &str, problems: &mut Collector) {
        if !self.has(name) {
            self.refuse(name, format!("{name} is missing"), remedy, problems);
        }
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn get(&self, name: &str) -> Option<&'v Value> {
        self.value.get(name).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &self,
        name: &str,
        kind: &str,
        read: impl FnOnce(&'v Value) -> Option<T>,
        problems: &mut Collector,
    ) -> Option<T> {
        let value = self.get(name)?;
        let read = read(value);
        if read.is_none() {
            let shown: String = value.to_string().chars().take(40).collect();
            self.refuse(name, format!("`{shown}` is no {kind}"), format!("expected a {kind}"), problems);
        }
        read
    }
}

/// A document that is one JSON value, or a problem with its line.
pub fn parse(text: &str, problems: &mut Collector) -> Option<Value> {
    if text.trim().is_empty() {
        problems.add("", "the file is empty", "is the file complete?");
        return None;
    }
    serde_json::from_str(text).map_err(|error| not_json(&error, error.line(), problems)).ok()
}

/// Line `number` of a file of which each is a JSON value.
pub fn parse_line(line: &str, number: usize, problems: &mut Collector) -> Option<Value> {
    serde_json::from_str(line).map_err(|error| not_json(&error, number, problems)).ok()
}

/// Values one after another, as tools append them to a file; the first slip ends it.
pub fn parse_all(text: &str, problems: &mut Collector) -> Vec<Value> {
    let values = serde_json::Deserializer::from_str(text).into_iter();
    values.map_while(|value| value.map_err(|error| not_json(&error, error.line(), problems)).ok()).collect()
}

fn not_json(error: &serde_json::Error, line: usize, problems: &mut Collector) {
    let place = format!("line {line}, column {}", error.column());
    // Its own position is that within the value, which may be one of many.
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    problems.add(place, format!("this is no JSON: {what}"), "is the file complete?");
}

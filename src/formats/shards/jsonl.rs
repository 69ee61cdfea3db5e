//! Lines of OpenAI batch files on their way to shards: `body.model` is found in blocks side by side and replaced in
//! order; no other byte changes.

use std::io::BufRead;
use std::ops::Range;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::sink::Sink;
use super::{Planned, ShardError, changed};
use crate::formats::blocks::{self, BLOCK_BYTES, Block};
use crate::formats::problems::Collector;
use crate::formats::table::Place;
use crate::formats::text::{open_text, reading_failed};

/// Hands the lines of a file to the shards of its requests, each with the name its instance's engine answers to.
///
/// # Errors
/// Lines that are not those of the requests; what cannot be read or written.
pub fn split(mut planned: Planned<'_>, served_names: &[&str], shards: &mut Sink<'_>) -> Result<(), ShardError> {
    let names: Vec<String> = served_names.iter().map(|name| serde_json::Value::from(*name).to_string()).collect();
    let path = planned.path;
    let failed = |error| reading_failed(path, error);
    let mut problems = Collector::new(path);
    let parse = |block: &Block| {
        let mut lines = Vec::new();
        let mut at = 0;
        for line in block.bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = text_of(line, at == 0 && block.place.offset == 0);
            if !text.is_empty() {
                let start = at + (text.as_ptr() as usize - line.as_ptr() as usize);
                lines.push((start..start + text.len(), place_of_model(text).ok()?));
            }
            at += line.len();
        }
        Some(lines)
    };
    let mut served = Ok(());
    let take = |block: &Block, lines: Vec<(Range<usize>, ModelPlace)>| {
        if lines.len() > planned.left() {
            return false;
        }
        served = lines.into_iter().try_for_each(|(text, model)| {
            planned.serve(shards, |shard, instance| model.replace(&block.bytes[text], name(&names, instance), shard))
        });
        served.is_ok()
    };
    let rest = blocks::in_order(open_text(path)?, Place::default(), BLOCK_BYTES, parse, take).map_err(failed)?;
    served?;
    if let Some(mut rest) = rest {
        let mut number = rest.place.lines;
        let mut line = Vec::new();
        while rest.source.read_until(b'\n', &mut line).map_err(failed)? > 0 {
            number += 1;
            let text = text_of(&line, number == 1);
            match place_of_model(text) {
                _ if text.is_empty() => {}
                _ if planned.left() == 0 => {
                    changed(&mut problems);
                    break;
                }
                Ok(model) => {
                    planned.serve(shards, |shard, instance| model.replace(text, name(&names, instance), shard))?;
                }
                Err(what) => {
                    planned.serve(shards, |_, _| ())?;
                    problems.add(format!("line {number}"), what, "each line is one request in OpenAI's batch format");
                }
            }
            line.clear();
        }
    }
    if planned.left() > 0 {
        changed(&mut problems);
    }
    Ok(problems.finish(())?)
}

fn name(names: &[String], instance: usize) -> &str {
    names.get(instance).map_or("", String::as_str)
}

fn text_of(line: &[u8], first: bool) -> &[u8] {
    let text = if first { line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line) } else { line };
    text.trim_ascii()
}

/// Where in a line the model is, or is to be put.
struct ModelPlace {
    from: usize,
    to: usize,
    /// A body without a model gets one, with a comma if something follows.
    inserted: Option<bool>,
}

impl ModelPlace {
    /// Appends the line with `name`, a JSON string, as its model.
    fn replace(&self, line: &[u8], name: &str, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&line[..self.from]);
        if self.inserted.is_some() {
            buffer.extend_from_slice(b"\"model\":");
        }
        buffer.extend_from_slice(name.as_bytes());
        if self.inserted == Some(true) {
            buffer.push(b',');
        }
        buffer.extend_from_slice(&line[self.to..]);
        buffer.push(b'\n');
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    body: &'a RawValue,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, deserialize_with = "as_written")]
    model: Option<&'a RawValue>,
}

/// `null` is a value like any other here: it has a place in the text and is replaced there.
fn as_written<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

fn place_of_model(line: &[u8]) -> Result<ModelPlace, String> {
    let text = std::str::from_utf8(line).map_err(|_| "not UTF-8 text")?;
    let body = serde_json::from_str::<Line<'_>>(text).map_err(|error| error.to_string())?.body.get();
    let body_at = body.as_ptr() as usize - text.as_ptr() as usize;
    if !body.starts_with('{') {
        return Err("`body` is not an object".into());
    }
    let model = serde_json::from_str::<Body<'_>>(body).map_err(|error| format!("in `body`: {error}"))?.model;
    Ok(match model {
        Some(model) => {
            let from = body_at + (model.get().as_ptr() as usize - body.as_ptr() as usize);
            ModelPlace { from, to: from + model.get().len(), inserted: None }
        }
        None => {
            let followed = !body[1..].trim_start().starts_with('}');
            ModelPlace { from: body_at + 1, to: body_at + 1, inserted: Some(followed) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_model_of_a_line_changes() {
        let rewritten = |line: &str| {
            let mut buffer = Vec::new();
            place_of_model(line.as_bytes()).map(|model| {
                model.replace(line.as_bytes(), r#""se\"rved""#, &mut buffer);
                String::from_utf8(buffer).unwrap()
            })
        };
        let line = r#"{ "custom_id":"\u00e9 $(x)", "body" : {"seed":123456789012345678901234567890,"model" :"gpt-4","t":1e-7, "messages":[{"model":"no"}]},"model":"top" }"#;
        assert_eq!(rewritten(line).unwrap(), line.replace(r#""gpt-4""#, r#""se\"rved""#) + "\n");
        let nothing = r#"{"body":{"model":null}}"#;
        assert_eq!(rewritten(nothing).unwrap(), nothing.replace("null", r#""se\"rved""#) + "\n");
        assert_eq!(rewritten(r#"{"body":{"a":1}}"#).unwrap(), "{\"body\":{\"model\":\"se\\\"rved\",\"a\":1}}\n");
        assert_eq!(rewritten(r#"{"body":{ }}"#).unwrap(), "{\"body\":{\"model\":\"se\\\"rved\" }}\n");
        for broken in ["{}", "[]", "{\"body\":3}", "{\"body\":{}", "{\"body\":{\"model\":1,\"model\":2}}"] {
            assert!(rewritten(broken).is_err(), "{broken}");
        }
    }
}

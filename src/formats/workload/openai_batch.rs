//! OpenAI batch input: one JSON object a line with `custom_id` and `body` (model, messages or prompt, max_tokens).
//!
//! Input tokens come from the sidecar, else from an `input_tokens` beside `custom_id`, else are counted from the text.
//! Output tokens come from the sidecar, else from an `output_tokens` there, else from `max_completion_tokens` or
//! `max_tokens`, which only bounds them. What cannot be planned as one text request (images, several completions,
//! embeddings) is refused by name.

use std::borrow::Cow;
use std::io::{self, BufRead};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::MAX_TOKENS;
use super::rows::{Reading, RowKey, Rows};
use super::tokens::{Sidecar, TokenCounter};
use crate::domain::Provenance;
use crate::formats::blocks::{self, Block, Rest};
use crate::formats::problems::{Collector, Problems};
use crate::formats::table::{MAX_PROBLEMS, Place};
use crate::formats::text::{open_text, reading_failed};

const URLS: [&str; 2] = ["/v1/chat/completions", "/v1/completions"];

pub(super) fn read(path: &Path, counter: &TokenCounter, sidecar: &Sidecar, reading: Reading) -> Result<Rows, Problems> {
    let lines = Lines { path, counter, sidecar };
    let failed = |error| reading_failed(path, error);
    let mut rows = Rows::new(Some(reading.ids(path)));
    let mut rest = Rest { source: open_text(path)?, place: Place::default() };
    if reading.block_bytes > 0 {
        let empty = rows.part();
        let parse = |block: &Block| {
            let mut part = empty.part();
            let problems = lines.read(&block.bytes[..], block.place, &mut part).ok()?;
            problems.is_empty().then_some(part)
        };
        let left = blocks::in_order(rest.source, rest.place, reading.block_bytes, parse, |_, part| rows.append(part));
        rest = left.map_err(failed)?.unwrap_or(Rest { source: Box::new(io::empty()), place: rest.place });
    }
    lines.read(rest.source, rest.place, &mut rows).map_err(failed)?.finish(())?;
    if rows.counted > 0 {
        rows.input_provenance = rows.input_provenance.weaker(counter.provenance());
        if counter.provenance() == Provenance::Estimated {
            let what = format!("input tokens of {} requests estimated as characters / 4", rows.counted);
            rows.warnings.push(format!("{what}; --tokenizer tokenizer.json counts them"));
        }
    }
    if !rows.bounded.is_empty() {
        rows.output_provenance = Provenance::Estimated;
        let what = format!("output tokens of {} requests are unknown and bounded by max_tokens", rows.bounded.len());
        rows.warnings.push(format!("{what}; --sidecar gives known ones"));
    }
    Ok(rows)
}

/// Hands the id of each request to `next` as long as that wants more; `starts`: the text is that of the file's start.
pub(super) fn ids(mut source: impl BufRead, starts: bool, next: &mut dyn FnMut(&str) -> bool) -> io::Result<()> {
    let (mut buffer, mut first) = (Vec::new(), starts);
    loop {
        buffer.clear();
        if source.read_until(b'\n', &mut buffer)? == 0 {
            return Ok(());
        }
        let text = text_of(&buffer, first);
        first = false;
        if !text.is_empty() && !next(&id_of(text)?) {
            return Ok(());
        }
    }
}

fn id_of(text: &[u8]) -> io::Result<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        custom_id: Cow<'a, str>,
    }
    match serde_json::from_slice(text) {
        Ok(Named { custom_id }) => Ok(custom_id),
        // A key given twice is no error where the whole is read.
        Err(_) => {
            let value: Value = serde_json::from_slice(text)?;
            Ok(Cow::Owned(value["custom_id"].as_str().unwrap_or_default().to_owned()))
        }
    }
}

/// A line without blanks around it; the first of a file without its byte order mark.
fn text_of(line: &[u8], first: bool) -> &[u8] {
    let text = if first { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
    text.trim_ascii()
}

/// What reading lines needs besides them.
struct Lines<'a> {
    path: &'a Path,
    counter: &'a TokenCounter,
    sidecar: &'a Sidecar,
}

impl Lines<'_> {
    /// Adds the requests of all lines to `rows`; what is wrong with them.
    fn read(&self, mut source: impl BufRead, place: Place, rows: &mut Rows) -> io::Result<Collector> {
        let mut problems = Collector::new(self.path);
        let Place { mut offset, lines: mut line } = place;
        let mut buffer = Vec::new();
        while problems.len() < MAX_PROBLEMS {
            offset += buffer.len() as u64;
            buffer.clear();
            if source.read_until(b'\n', &mut buffer)? == 0 {
                break;
            }
            line += 1;
            let text = text_of(&buffer, line == 1);
            if text.is_empty() {
                continue;
            }
            let mut request = match serde_json::from_slice(text) {
                Ok(value) => Request { value, line, problems: &mut problems },
                Err(error) => {
                    let what = format!("no JSON object: {error}");
                    problems.add(format!("line {line}, column {}", error.column()), what, "the line may be cut off");
                    continue;
                }
            };
            let Some((id, input, output)) = request.read(self.counter, self.sidecar, rows) else { continue };
            let model = request.value["body"]["model"].as_str();
            let key = rows.intern([model.unwrap_or_default().as_bytes()], || RowKey {
                model: model.map(str::to_owned),
                line,
                ..RowKey::default()
            });
            rows.push(input, output, key);
            if let Some(ids) = &mut rows.ids {
                ids.push(&id, offset);
            }
        }
        Ok(problems)
    }
}

struct Request<'a> {
    value: Value,
    line: u64,
    problems: &'a mut Collector,
}

impl Request<'_> {
    /// Id, input and output tokens; `None` if something was wrong and has been noted.
    fn read(&mut self, counter: &TokenCounter, sidecar: &Sidecar, rows: &mut Rows) -> Option<(String, u32, u32)> {
        let before = self.problems.len();
        if !self.value.is_object() {
            self.problem("", "not a JSON object", "write one request a line");
            return None;
        }
        let id = self.value["custom_id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
        if id.is_none() {
            self.problem("custom_id", "missing or no text", "give every request an id");
        }
        if !self.value["body"].is_object() {
            self.problem("body", "missing or no object", "put model, messages and max_tokens there");
            return None;
        }
        self.check_kind();
        let (known_input, known_output) = id.as_deref().and_then(|id| sidecar.get(id)).copied().unwrap_or_default();
        let output = known_output.or_else(|| self.output_tokens(rows));
        let input = known_input.or_else(|| self.whole(&["input_tokens"], 0)).or_else(|| self.count(counter, rows));
        if self.problems.len() > before { None } else { Some((id?, input?, output?)) }
    }

    fn check_kind(&mut self) {
        let url = self.value["url"].as_str().map(str::to_owned);
        if let Some(url) = url.filter(|url| !URLS.contains(&url.as_str())) {
            let remedy = format!("only {} are planned", URLS.join(" and "));
            self.problem("url", &format!("`{url}` is not supported"), &remedy);
        }
        for key in ["n", "best_of"] {
            if self.value["body"][key].as_f64().is_some_and(|n| n != 1.0) {
                let remedy = "write one request for each completion";
                self.problem(&format!("body.{key}"), "several completions of one request are not supported", remedy);
            }
        }
        if !self.value["body"]["model"].is_null() && self.value["body"]["model"].as_str().is_none_or(str::is_empty) {
            self.problem("body.model", "no text", "name a model or remove it");
        }
    }

    fn output_tokens(&mut self, rows: &mut Rows) -> Option<u32> {
        if let Some(known) = self.whole(&["output_tokens"], 1) {
            return Some(known);
        }
        let keys = ["max_completion_tokens", "max_tokens"];
        let given = keys.into_iter().find(|key| !self.value["body"][key].is_null());
        match given {
            Some(key) => {
                rows.bounded.push(rows.len() as u32); // at most MAX_REQUESTS
                self.whole(&["body", key], 1)
            }
            None => {
                let remedy = "add max_tokens, or give output tokens in a --sidecar";
                self.problem("body.max_tokens", "missing, so nothing is known about the output length", remedy);
                None
            }
        }
    }

    /// A whole number at a path, `None` if absent; a wrong one is noted.
    fn whole(&mut self, path: &[&str], low: u32) -> Option<u32> {
        let value = path.iter().fold(&self.value, |value, key| &value[*key]);
        if value.is_null() {
            return None;
        }
        let fits = |n: &f64| n.fract() == 0.0 && (f64::from(low)..=f64::from(MAX_TOKENS)).contains(n);
        let found = value.as_f64().filter(fits).map(|n| n as u32);
        if found.is_none() {
            let what = format!("{value} does not fit here");
            self.problem(&path.join("."), &what, &format!("give a whole number from {low} to {MAX_TOKENS}"));
        }
        found
    }

    /// Tokens of the text of the request.
    fn count(&mut self, counter: &TokenCounter, rows: &mut Rows) -> Option<u32> {
        let counted = texts(&self.value["body"]).and_then(|content| match content {
            Content::Tokens(count) => Ok(count),
            Content::Texts(texts) => {
                rows.counted += 1;
                texts.into_iter().map(|text| counter.count(text)).sum()
            }
        });
        match counted {
            Ok(count) if count <= MAX_TOKENS as usize => Some(count as u32),
            Ok(count) => {
                let what = format!("{count} tokens are more than any model takes");
                self.problem("body", &what, "shorten it");
                None
            }
            Err(what) => {
                self.problem("body", &what, "write messages or prompt as text, or give token counts in a --sidecar");
                None
            }
        }
    }

    fn problem(&mut self, field: &str, what: &str, remedy: &str) {
        let place =
            if field.is_empty() { format!("line {}", self.line) } else { format!("line {} ({field})", self.line) };
        self.problems.add(place, what, remedy);
    }
}

enum Content<'a> {
    Texts(Vec<&'a str>),
    /// A prompt given as token ids.
    Tokens(usize),
}

/// What the model reads: the text of all messages, or the prompt.
fn texts(body: &Value) -> Result<Content<'_>, String> {
    match (&body["messages"], &body["prompt"]) {
        (Value::Array(messages), Value::Null) if !messages.is_empty() => {
            let mut texts = Vec::new();
            for message in messages {
                message_texts(message, &mut texts)?;
            }
            Ok(Content::Texts(texts))
        }
        (Value::Null, Value::String(prompt)) => Ok(Content::Texts(vec![prompt])),
        (Value::Null, Value::Array(items)) => match &items[..] {
            [Value::String(prompt)] => Ok(Content::Texts(vec![prompt])),
            [first, ..] if first.is_u64() && items.iter().all(Value::is_u64) => Ok(Content::Tokens(items.len())),
            _ => Err("a prompt that is neither one text nor a list of token ids".to_owned()),
        },
        (Value::Null, Value::Null) => Err("there are neither messages nor a prompt".to_owned()),
        _ => Err("messages or prompt are of the wrong kind, or both are given".to_owned()),
    }
}

fn message_texts<'a>(message: &'a Value, texts: &mut Vec<&'a str>) -> Result<(), String> {
    match &message["content"] {
        Value::String(text) => texts.push(text),
        Value::Null if message.is_object() => {} // an assistant's tool call
        Value::Array(parts) => {
            for part in parts {
                let kind = part["type"].as_str().unwrap_or("unnamed");
                let text = part["text"].as_str().filter(|_| kind == "text");
                texts.push(text.ok_or_else(|| format!("a part of type `{kind}` has no countable text"))?);
            }
        }
        _ => return Err("a message whose content is no text".to_owned()),
    }
    Ok(())
}

//! OpenAI batch input: one JSON object a line with `custom_id` and `body` (model, messages or prompt, max_tokens).
//!
//! Input tokens come from the sidecar, else from an `input_tokens` beside `custom_id`, else are counted from the text.
//! Output tokens come from the sidecar, else from an `output_tokens` there, else from `max_completion_tokens` or
//! `max_tokens`, which only bounds them. What cannot be planned as one text request (images, several completions,
//! embeddings) is refused by name.

use std::io::BufRead;
use std::path::Path;

use serde_json::Value;

use super::MAX_TOKENS;
use super::rows::{Interner, RowKey, Rows};
use super::tokens::{Sidecar, TokenCounter};
use crate::domain::Provenance;
use crate::formats::problems::{Collector, Problems};
use crate::formats::table::MAX_PROBLEMS;
use crate::formats::text::open_text;

const URLS: [&str; 2] = ["/v1/chat/completions", "/v1/completions"];

/// How token counts of the requests of a file came about.
#[derive(Default)]
struct Tally {
    counted: usize,
    bounded: usize,
}

pub(super) fn read(path: &Path, counter: &TokenCounter, sidecar: &Sidecar) -> Result<Rows, Problems> {
    let mut file = open_text(path)?;
    let mut problems = Collector::new(path);
    let mut rows = Rows::new(true);
    let mut interner = Interner::default();
    let mut tally = Tally::default();
    let (mut line, mut buffer) = (0_u64, Vec::new());
    while problems.len() < MAX_PROBLEMS {
        buffer.clear();
        match file.read_until(b'\n', &mut buffer) {
            Ok(0) => break,
            Ok(_) => line += 1,
            Err(source) => return Err(Problems::Unreadable { file: path.to_owned(), source }),
        }
        let text = if line == 1 { buffer.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&buffer) } else { &buffer };
        let text = text.trim_ascii();
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
        let Some((id, input, output)) = request.read(counter, sidecar, &mut tally) else { continue };
        let model = request.value["body"]["model"].as_str().map(str::to_owned);
        interner.start();
        interner.add(model.as_deref().unwrap_or_default().as_bytes());
        let key = interner.index(&mut rows.keys, || RowKey { model, line, ..RowKey::default() });
        rows.push(input, output, key);
        rows.ids.get_or_insert_default().push(id);
    }
    if tally.counted > 0 {
        rows.input_provenance = rows.input_provenance.weaker(counter.provenance());
        if counter.provenance() == Provenance::Estimated {
            let what = format!("input tokens of {} requests estimated as characters / 4", tally.counted);
            rows.warnings.push(format!("{what}; --tokenizer tokenizer.json counts them"));
        }
    }
    if tally.bounded > 0 {
        rows.output_provenance = Provenance::Estimated;
        let what = format!("output tokens of {} requests taken from max_tokens", tally.bounded);
        rows.warnings.push(format!("{what}, an upper estimate; --sidecar gives known ones"));
    }
    problems.finish(rows)
}

struct Request<'a> {
    value: Value,
    line: u64,
    problems: &'a mut Collector,
}

impl Request<'_> {
    /// Id, input and output tokens; `None` if something was wrong and has been noted.
    fn read(&mut self, counter: &TokenCounter, sidecar: &Sidecar, tally: &mut Tally) -> Option<(String, u32, u32)> {
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
        let output = known_output.or_else(|| self.output_tokens(tally));
        let input = known_input.or_else(|| self.whole(&["input_tokens"], 0)).or_else(|| self.count(counter, tally));
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

    fn output_tokens(&mut self, tally: &mut Tally) -> Option<u32> {
        if let Some(known) = self.whole(&["output_tokens"], 1) {
            return Some(known);
        }
        let keys = ["max_completion_tokens", "max_tokens"];
        let given = keys.into_iter().find(|key| !self.value["body"][key].is_null());
        match given {
            Some(key) => {
                tally.bounded += 1;
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
    fn count(&mut self, counter: &TokenCounter, tally: &mut Tally) -> Option<u32> {
        let counted = texts(&self.value["body"]).and_then(|content| match content {
            Content::Tokens(count) => Ok(count),
            Content::Texts(texts) => {
                tally.counted += 1;
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

//! Single small requests that find out how a server counts, before any load. They are no measurement, so they are repeated:
//! where the server is busy or a connection fails, and until two answers to the same prompt agree.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, Failure, SHORT, excerpt};
use super::outcome::FailureKind;
use super::request::{Format, Prompt};
use crate::formats::completion_api::{Completion, token_ids};

const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(100);
/// A first request may make the engine compile; a CPU takes its time with one.
const COMPLETION: Duration = Duration::from_secs(300);

/// Asks again where asking again may help.
pub fn patiently<T>(ask: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut attempt = 1;
    loop {
        match ask() {
            Err(failure) if attempt < ATTEMPTS && may_pass(failure.kind) => {
                thread::sleep(PAUSE * attempt);
                attempt += 1;
            }
            other => return other,
        }
    }
}

fn may_pass(kind: FailureKind) -> bool {
    match kind {
        FailureKind::Connection | FailureKind::BrokenStream | FailureKind::Status(429) => true,
        FailureKind::Status(status) => status >= 500,
        _ => false,
    }
}

/// The prompt's tokens as the server counts them in `usage`.
///
/// # Errors
/// What the server said.
pub fn prompt_tokens(client: &Client, format: &Format, prompt: &Prompt) -> Result<u32, String> {
    let body = format.whole(prompt, 1);
    let ask = || {
        let (status, text) = client.post(format.path(), &body, COMPLETION)?;
        if status != 200 {
            return Err(Failure { kind: FailureKind::Status(status), detail: excerpt(&text) });
        }
        let no_usage = || Failure { kind: FailureKind::NoUsage, detail: String::new() };
        let malformed = |detail| Failure { kind: FailureKind::Malformed, detail };
        Completion::parse(&text).map_err(malformed)?.usage.ok_or_else(no_usage)
    };
    let mut seen: Vec<u32> = Vec::new();
    for _ in 0..ATTEMPTS {
        let tokens = patiently(ask).map_err(|failure| said(&failure))?.prompt_tokens;
        if seen.contains(&tokens) {
            return Ok(tokens);
        }
        seen.push(tokens);
    }
    Err(format!("the same prompt is counted differently each time: {seen:?} tokens"))
}

/// What a failure says, for messages.
pub fn said(failure: &Failure) -> String {
    if failure.detail.is_empty() { failure.kind.to_string() } else { format!("{}: {}", failure.kind, failure.detail) }
}

/// A server's tokenizer endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokenizer {
    /// vLLM, SGLang.
    Prompt,
    LlamaCpp,
    Tgi,
}

impl Tokenizer {
    /// # Errors
    /// What the server said to the last shape tried.
    pub fn find(client: &Client, model: &str) -> Result<Self, String> {
        let mut last = String::new();
        for shape in [Self::Prompt, Self::LlamaCpp, Self::Tgi] {
            match shape.ids(client, model, "a b c") {
                Ok(ids) if !ids.is_empty() => return Ok(shape),
                Ok(_) => last = "/tokenize returns no tokens".to_owned(),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    /// Tokens of a text, without those that a prompt gets in addition.
    ///
    /// # Errors
    /// What the server said.
    pub fn ids(self, client: &Client, model: &str, text: &str) -> Result<Vec<u32>, String> {
        let body = match self {
            Self::Prompt => json!({"model": model, "prompt": text, "add_special_tokens": false}),
            Self::LlamaCpp => json!({"content": text, "add_special": false}),
            Self::Tgi => json!({"inputs": text, "add_special_tokens": false}),
        };
        let body = body.to_string();
        let ask = || match client.post("/tokenize", &body, SHORT)? {
            (200, text) => Ok(text),
            (status, text) => Err(Failure { kind: FailureKind::Status(status), detail: excerpt(&text) }),
        };
        let answer = patiently(ask).map_err(|failure| format!("/tokenize: {}", said(&failure)))?;
        let value: Value = serde_json::from_str(&answer).map_err(|error| format!("/tokenize: {error}"))?;
        token_ids(&value).ok_or_else(|| "/tokenize: an answer without token ids".to_owned())
    }
}

//! A server, and what it can do: which model it serves, how prompts of an exact length reach it, what fields it takes.

use std::fmt;
use std::time::Duration;

use super::client::{Client, SHORT, excerpt};
use super::engine::Engine;
use super::error::LoadError;
use super::outcome::FailureKind;
use super::probe::{patiently, said};
use super::prompts::Prompts;
use super::request::{Fields, Format, Prompt};
use super::{readiness, stream};
use crate::formats::completion_api::{Model, Models};

/// A server that is ready and whose ways are known. Shared by threads.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) client: Client,
    pub(super) format: Format,
    pub(super) prompts: Prompts,
    pub(super) ready_within: Duration,
    engine: Option<Engine>,
    max_model_len: Option<u32>,
}

/// For the first completion, which may make the engine compile.
const FIRST: Duration = Duration::from_secs(300);

/// How to talk to it.
#[derive(Clone, Debug)]
pub struct Options {
    pub api: Api,
    /// `None`: the first that works, in the order of [`PromptMethod`].
    pub prompts: Option<PromptMethod>,
    /// Sent as a bearer token.
    pub api_key: Option<String>,
    /// How long to wait for a server that is loading its model, at first and after it went away.
    pub ready_within: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { api: Api::Completions, prompts: None, api_key: None, ready_within: Duration::from_secs(60) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `/v1/completions`: no chat template, token ids allowed.
    Completions,
    /// `/v1/chat/completions`: the template's tokens are counted and allowed for.
    Chat,
}

/// How a prompt of exactly N tokens is made, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PromptMethod {
    /// The prompt is a list of token ids.
    TokenIds,
    /// Text, counted by the server's tokenizer endpoint before it is sent.
    Tokenize,
    /// Text of pieces that cost one token each, as the `usage` of probes says.
    CalibratedText,
}

impl fmt::Display for PromptMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TokenIds => "token ids",
            Self::Tokenize => "the server's tokenizer",
            Self::CalibratedText => "calibrated text",
        })
    }
}

impl Endpoint {
    /// Waits until the server is ready, then finds out with a few one-token requests how to load it. `url` is
    /// `http://host:port`, with or without `/v1`; `model` may be left out where the server serves one.
    ///
    /// # Errors
    /// A URL that is not plain http, a server that is not ready in time or does not serve the model, and a server to which
    /// no prompt method reaches.
    pub fn connect(url: &str, model: Option<&str>, options: Options) -> Result<Self, LoadError> {
        let client = Client::new(url, options.api_key.as_deref())?;
        readiness::wait(&client, options.ready_within)?;
        let listed = models(&client)?;
        let model = choose(&client, model, &listed)?;
        let entry = listed.iter().find(|entry| entry.id == model).or(listed.first());
        let format = with_fields_it_takes(&client, options.api, model)?;
        let prompts = Prompts::find(&client, &format, options.prompts)?;
        Ok(Self {
            engine: Engine::detect(&client, entry.and_then(|entry| entry.owned_by.as_deref())),
            max_model_len: entry.and_then(|entry| entry.max_model_len),
            ready_within: options.ready_within,
            client,
            format,
            prompts,
        })
    }

    /// The model's name as the server has it.
    pub fn model(&self) -> &str {
        &self.format.model
    }

    /// What serves it, where the server says.
    pub fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    pub fn prompt_method(&self) -> PromptMethod {
        self.prompts.method()
    }

    /// Tokens the server adds to every prompt (start token, chat template): the least input is one more. They are the same
    /// in every prompt, which a prefix cache may use.
    pub fn prompt_overhead(&self) -> u32 {
        self.prompts.overhead
    }

    /// Most input and output tokens of a request together, where the server says.
    pub fn max_model_len(&self) -> Option<u32> {
        self.max_model_len
    }
}

/// Empty where the server does not list its models.
fn models(client: &Client) -> Result<Vec<Model>, LoadError> {
    let refused = |answer: String| LoadError::Refused { url: client.url().to_owned(), answer };
    let answer = patiently(|| client.get("/v1/models", SHORT)).map_err(|failure| refused(said(&failure)))?;
    match answer {
        (404 | 405, _) => Ok(Vec::new()),
        (200, text) => serde_json::from_str::<Models>(&text)
            .map(|models| models.data)
            .map_err(|error| refused(format!("/v1/models: {error}"))),
        (status, text) => Err(refused(format!("/v1/models: HTTP status {status}: {}", excerpt(&text)))),
    }
}

fn choose(client: &Client, asked: Option<&str>, listed: &[Model]) -> Result<String, LoadError> {
    let served = || {
        let names: Vec<&str> = listed.iter().map(|entry| entry.id.as_str()).collect();
        if names.is_empty() { "no model by name".to_owned() } else { names.join(", ") }
    };
    let url = || client.url().to_owned();
    match (asked, listed) {
        (Some(asked), listed) if listed.is_empty() || listed.iter().any(|entry| entry.id == asked) => {
            Ok(asked.to_owned())
        }
        (Some(asked), _) => Err(LoadError::Model { url: url(), asked: asked.to_owned(), served: served() }),
        (None, [only]) => Ok(only.id.clone()),
        (None, _) => Err(LoadError::ModelUnclear { url: url(), served: served() }),
    }
}

/// Drops fields until a short stream is taken, and sees to it that the stream counts its tokens.
fn with_fields_it_takes(client: &Client, api: Api, model: String) -> Result<Format, LoadError> {
    let mut format = Format { api, model, fields: Fields::ALL };
    loop {
        let body = format.streaming(&Prompt::Text("a b c".to_owned()), 2);
        let answer = patiently(|| stream::request(client, format.path(), &body, FIRST));
        let failure = match answer {
            Ok(_) => return Ok(format),
            Err(failure) => failure,
        };
        match (failure.kind, format.fields.fewer()) {
            (FailureKind::Status(400 | 422), Some(fewer)) => format.fields = fewer,
            (FailureKind::NoUsage, _) => return Err(LoadError::NoUsage { url: client.url().to_owned() }),
            _ => return Err(LoadError::Refused { url: client.url().to_owned(), answer: said(&failure) }),
        }
    }
}

//! A server, and what it can do: which model it serves, how prompts of an exact length reach it, what fields it takes.

use std::fmt;
use std::time::Duration;

use super::engine::Engine;
use super::error::LoadError;

/// A server that is ready and whose ways are known. Shared by threads.
#[derive(Debug)]
pub struct Endpoint {}

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
        let _ = (url, model, options);
        todo!()
    }

    /// The model's name as the server has it.
    pub fn model(&self) -> &str {
        todo!()
    }

    /// What serves it, where the server says.
    pub fn engine(&self) -> Option<&Engine> {
        todo!()
    }

    pub fn prompt_method(&self) -> PromptMethod {
        todo!()
    }

    /// Tokens the server adds to every prompt (start token, chat template): the least input is one more. They are the same
    /// in every prompt, which a prefix cache may use.
    pub fn prompt_overhead(&self) -> u32 {
        todo!()
    }

    /// Most input and output tokens of a request together, where the server says.
    pub fn max_model_len(&self) -> Option<u32> {
        todo!()
    }
}

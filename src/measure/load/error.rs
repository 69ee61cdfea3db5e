//! Why no load could be put on a server, and what to do about it. Failures of single requests are not errors: they are
//! counted in the outcome.

use std::io;

use super::endpoint::PromptMethod;
use crate::units::Seconds;

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("endpoint {url}: {why}")]
    Url { url: String, why: &'static str },
    #[error(
        "{url} was not ready within {waited} ({last}); start the server, or give it longer if it is still loading the model"
    )]
    NotReady { url: String, waited: Seconds, last: String },
    #[error("{url} serves {served}, not {asked}; name a model that it serves")]
    Model { url: String, asked: String, served: String },
    #[error("{url} serves {served}; say which one is to be measured")]
    ModelUnclear { url: String, served: String },
    #[error("{url} refuses every completion: {answer}")]
    Refused { url: String, answer: String },
    #[error(
        "{url} does not say its token counts (`usage`), so that nothing tells what was measured; use a newer version of the server"
    )]
    NoUsage { url: String },
    #[error("no way to send {url} prompts of an exact token count: {}", said(tried))]
    Prompts { url: String, tried: Vec<(PromptMethod, String)> },
    #[error("{asked} input tokens: the server adds {overhead} of its own to every prompt, so {least} is the least")]
    InputTooShort { asked: u32, overhead: u32, least: u32 },
    #[error("{input} input and {output} output tokens: the server takes {limit} together (`max_model_len`)")]
    TooLong { input: u32, output: u32, limit: u32 },
    #[error("a load of {what} = 0 measures nothing")]
    Empty { what: &'static str },
    #[error("preparing prompts: {0}")]
    Preparing(String),
    #[error("cannot start a thread per concurrent request: {0}; lower the concurrency or raise `ulimit -u`")]
    Thread(#[from] io::Error),
}

fn said(tried: &[(PromptMethod, String)]) -> String {
    let said: Vec<String> = tried.iter().map(|(method, why)| format!("{method}: {why}")).collect();
    said.join("; ")
}

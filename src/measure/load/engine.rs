//! What program serves the model, and its version: measurements of different engine generations are never pooled.

use serde_json::Value;

use super::client::{Client, SHORT};

/// As the server names itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// `vllm`, `sglang`, `llama.cpp`, `tgi`, `ollama`, or what the server says owns its models.
    pub name: String,
    pub version: Option<String>,
}

impl Engine {
    /// `owned_by` is what the list of models says; servers that leave it out or say "library" are known by their routes.
    pub(super) fn detect(client: &Client, owned_by: Option<&str>) -> Option<Self> {
        let (name, path, key) = match owned_by {
            Some("vllm") => ("vllm", "/version", "/version"),
            Some("sglang") => ("sglang", "/get_server_info", "/version"),
            Some("llamacpp") => ("llama.cpp", "/props", "/build_info"),
            Some("library") => ("ollama", "/api/version", "/version"),
            other => return Self::of_tgi(client).or_else(|| Some(Self::of_other(client, other?))),
        };
        Some(Self { name: name.to_owned(), version: field(client, path, key) })
    }

    fn of_tgi(client: &Client) -> Option<Self> {
        let version = field(client, "/info", "/version")?;
        Some(Self { name: "tgi".to_owned(), version: Some(version) })
    }

    fn of_other(client: &Client, owned_by: &str) -> Self {
        Self { name: owned_by.to_owned(), version: field(client, "/version", "/version") }
    }
}

fn field(client: &Client, path: &str, pointer: &str) -> Option<String> {
    let (status, text) = client.get(path, SHORT).ok()?;
    let answer: Value = serde_json::from_str(&text).ok().filter(|_| status == 200)?;
    answer.pointer(pointer)?.as_str().map(str::to_owned)
}

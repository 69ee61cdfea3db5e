//! What program serves the model, and its version: measurements of different engine generations are never pooled.

/// As the server names itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// `vllm`, `sglang`, `llama.cpp`, `tgi`, `ollama`, or what the server says owns its models.
    pub name: String,
    pub version: Option<String>,
}

//! How a model is served: its checkpoint, its architecture (for memory and estimates) and the program that runs it.

use std::collections::BTreeMap;

use crate::units::Seconds;

/// Shape of a decoder-only transformer, as far as memory and prefill estimates need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Layers that keep a KV cache (attention layers of a hybrid model).
    pub layers: u32,
    pub attention_heads: u32,
    pub kv_heads: u32,
    pub head_dimension: u32,
    pub parameters: f64,
    /// Parameters a token passes through (fewer than `parameters` in a mixture of experts).
    pub active_parameters: f64,
    /// KV-cache bytes per token and layer where they do not follow from heads (latent attention); else `None`.
    pub kv_bytes_per_token_layer: Option<f64>,
}

/// One entry of engines.toml.
#[derive(Clone, Debug, PartialEq)]
pub struct Engine {
    pub model: String,
    /// What the engine loads: a hub id or a path on shared storage.
    pub checkpoint: String,
    pub precision: String,
    /// The name requests must carry in `model`.
    pub served_name: String,
    pub architecture: Architecture,
    /// `vllm`, `llama.cpp`, `command`.
    pub engine: String,
    pub module: Option<String>,
    pub image: Option<String>,
    pub arguments: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// For `command`: the program run per shard, with `{shard}`, `{output}`, ... replaced.
    pub command: Option<Vec<String>>,
    pub load_time: Option<Seconds>,
}

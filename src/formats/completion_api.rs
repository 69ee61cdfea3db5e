//! What an OpenAI-compatible server answers, as far as a load generator reads it: token counts, chunks of a stream, the
//! models it serves, the tokens of a text, and how each engine says its version.
//!
//! Engines differ in what they add: vLLM counts tokens in every chunk when asked (`continuous_usage_stats`), llama.cpp does
//! with `timings_per_token`. Text itself is not kept. Requests are plain JSON and made where they are sent.

use serde::Deserialize;
use serde_json::Value;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Usage {
    pub prompt_tokens: u32,
    /// Left out by servers that made none.
    #[serde(default)]
    pub completion_tokens: u32,
}

/// A chunk of a stream, or a whole answer.
#[derive(Debug, Deserialize)]
pub struct Completion {
    #[serde(default)]
    choices: Vec<Choice>,
    pub usage: Option<Usage>,
    timings: Option<Timings>,
    error: Option<Value>,
    /// vLLM: `error` in a chunk that is one.
    object: Option<String>,
    message: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    text: Option<String>,
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Delta {
    role: Option<String>,
    content: Option<String>,
    /// What reasoning models say before they answer: tokens as others.
    reasoning_content: Option<String>,
    reasoning: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Timings {
    predicted_n: Option<u32>,
}

impl Completion {
    /// # Errors
    /// What is wrong with it, where it is not JSON or not a completion.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// What the server says went wrong, in an answer that had begun well.
    pub fn error(&self) -> Option<String> {
        let of_object = || (self.object.as_deref() == Some("error")).then(|| self.message.clone().unwrap_or_default());
        self.error.as_ref().map(message).or_else(of_object)
    }

    /// Whether tokens came with it, as far as its text shows. A token may show none: half of a character, say.
    pub fn carries_tokens(&self) -> bool {
        self.choices.iter().any(Choice::carries_tokens)
    }

    /// Whether it is the last chunk of an answer.
    pub fn ends(&self) -> bool {
        self.choices.iter().any(|choice| choice.finish_reason.is_some())
    }

    /// Tokens made up to and with this chunk, where the server counts them.
    pub fn tokens_so_far(&self) -> Option<u32> {
        let timed = || self.timings.as_ref().and_then(|timings| timings.predicted_n);
        self.usage.map(|usage| usage.completion_tokens).or_else(timed)
    }
}

impl Choice {
    fn carries_tokens(&self) -> bool {
        let ends = self.finish_reason.is_some();
        match (&self.text, &self.delta) {
            (Some(text), _) => !text.is_empty() || !ends,
            (None, Some(delta)) => {
                let said = [&delta.content, &delta.reasoning_content, &delta.reasoning].into_iter().flatten();
                said.clone().any(|text| !text.is_empty()) || (delta.role.is_none() && !ends && said.count() > 0)
            }
            (None, None) => false,
        }
    }
}

/// The sentence in an error object of any of the shapes that servers use, else the object itself.
pub fn message(error: &Value) -> String {
    let nested = [&error["error"]["message"], &error["message"], &error["error"], &error["detail"], error];
    nested.into_iter().find_map(Value::as_str).map_or_else(|| error.to_string(), str::to_owned)
}

#[derive(Debug, Deserialize)]
pub struct Models {
    #[serde(default)]
    pub data: Vec<Model>,
}

#[derive(Debug, Deserialize)]
pub struct Model {
    pub id: String,
    pub owned_by: Option<String>,
    pub max_model_len: Option<u32>,
}

/// Token ids in what a tokenizer endpoint answers: `{"tokens": [1, 2]}` (vLLM, SGLang, llama.cpp) or `[{"id": 1}, ..]`
/// (TGI).
pub fn token_ids(answer: &Value) -> Option<Vec<u32>> {
    let (items, of_item): (_, fn(&Value) -> &Value) = match answer {
        Value::Array(items) => (items, |item| &item["id"]),
        other => (other["tokens"].as_array()?, |item| item),
    };
    items.iter().map(|item| of_item(item).as_u64().and_then(|id| u32::try_from(id).ok())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carries(text: &str) -> (bool, Option<u32>) {
        let chunk = Completion::parse(text).unwrap();
        (chunk.carries_tokens(), chunk.tokens_so_far())
    }

    /// Chunks as vLLM, llama.cpp and chat servers send them.
    #[test]
    fn a_chunk_says_whether_tokens_came_with_it() {
        assert_eq!(carries(r#"{"choices":[{"text":"a","finish_reason":null}]}"#), (true, None));
        assert_eq!(
            carries(
                r#"{"choices":[{"text":"","finish_reason":null}],"usage":{"prompt_tokens":3,"completion_tokens":7}}"#
            ),
            (true, Some(7))
        );
        assert_eq!(
            carries(r#"{"choices":[{"text":"","finish_reason":"length"}],"timings":{"predicted_n":4}}"#),
            (false, Some(4))
        );
        assert_eq!(
            carries(r#"{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#),
            (false, None)
        );
        assert_eq!(carries(r#"{"choices":[{"delta":{"reasoning_content":"hm"},"finish_reason":null}]}"#), (true, None));
        assert_eq!(carries(r#"{"choices":[],"usage":{"prompt_tokens":3}}"#), (false, Some(0)));
    }

    #[test]
    fn errors_inside_an_answer_are_seen() {
        let error = |text| Completion::parse(text).unwrap().error();
        assert_eq!(error(r#"{"error":{"message":"out of memory","code":500}}"#).as_deref(), Some("out of memory"));
        assert_eq!(error(r#"{"object":"error","message":"died"}"#).as_deref(), Some("died"));
        assert_eq!(error(r#"{"choices":[],"error":null}"#), None);
        assert_eq!(message(&serde_json::json!({"detail": [{"msg": "no"}]})), r#"{"detail":[{"msg":"no"}]}"#);
    }

    #[test]
    fn tokenizers_answer_in_two_shapes() {
        assert_eq!(token_ids(&serde_json::json!({"tokens": [5, 6], "count": 2})), Some(vec![5, 6]));
        assert_eq!(token_ids(&serde_json::json!([{"id": 5, "text": "a"}])), Some(vec![5]));
        assert_eq!(token_ids(&serde_json::json!({"tokens": ["a"]})), None);
        assert_eq!(token_ids(&serde_json::json!({"error": "no"})), None);
    }
}

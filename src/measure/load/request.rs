//! The body of a completion request: greedy, exactly so many tokens, no prompt cache, as far as the server takes the fields
//! that OpenAI does not have.

use serde_json::{Map, Value, json};

use super::endpoint::Api;

#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    Ids(Vec<u32>),
    Text(String),
}

/// Fields beyond OpenAI's. Most servers take or ignore them all; one that refuses unknown fields gets fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// How many of [`BEYOND`], from the first.
    beyond: usize,
    /// vLLM and SGLang then count tokens in every chunk.
    continuous_usage: bool,
}

/// Most needed first. `ignore_eos`: exactly `max_tokens` (vLLM, SGLang, llama.cpp). `min_tokens`: likewise. `cache_prompt`:
/// llama.cpp. `timings_per_token`: llama.cpp counts tokens in every chunk.
const BEYOND: [&str; 4] = ["ignore_eos", "min_tokens", "cache_prompt", "timings_per_token"];

impl Fields {
    pub const ALL: Self = Self { beyond: BEYOND.len(), continuous_usage: true };

    /// The next smaller set, if there is one.
    pub fn fewer(self) -> Option<Self> {
        match self {
            Self { continuous_usage: true, .. } => Some(Self { continuous_usage: false, ..self }),
            Self { beyond, .. } => Some(Self { beyond: beyond.checked_sub(1)?, ..self }),
        }
    }
}

/// How requests to one server look.
#[derive(Clone, Debug)]
pub struct Format {
    pub api: Api,
    pub model: String,
    pub fields: Fields,
}

impl Format {
    pub fn path(&self) -> &'static str {
        match self.api {
            Api::Completions => "/v1/completions",
            Api::Chat => "/v1/chat/completions",
        }
    }

    /// One answer at once.
    pub fn whole(&self, prompt: &Prompt, output_tokens: u32) -> String {
        Value::Object(self.common(prompt, output_tokens)).to_string()
    }

    pub fn streaming(&self, prompt: &Prompt, output_tokens: u32) -> String {
        let mut body = self.common(prompt, output_tokens);
        body.insert("stream".to_owned(), json!(true));
        let mut options = json!({"include_usage": true});
        if self.fields.continuous_usage {
            options["continuous_usage_stats"] = json!(true);
        }
        body.insert("stream_options".to_owned(), options);
        Value::Object(body).to_string()
    }

    fn common(&self, prompt: &Prompt, output_tokens: u32) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("model".to_owned(), json!(self.model));
        let prompt = match prompt {
            Prompt::Ids(ids) => json!(ids),
            Prompt::Text(text) => json!(text),
        };
        match self.api {
            Api::Completions => body.insert("prompt".to_owned(), prompt),
            Api::Chat => body.insert("messages".to_owned(), json!([{"role": "user", "content": prompt}])),
        };
        body.insert("max_tokens".to_owned(), json!(output_tokens));
        body.insert("temperature".to_owned(), json!(0));
        let values = [json!(true), json!(output_tokens), json!(false), json!(true)];
        body.extend(BEYOND.iter().map(|name| (*name).to_owned()).zip(values).take(self.fields.beyond));
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_go_one_by_one_the_most_needed_last() {
        let mut format = Format { api: Api::Completions, model: "m".to_owned(), fields: Fields::ALL };
        let body = format.streaming(&Prompt::Ids(vec![7, 8]), 5);
        for part in [r#""prompt":[7,8]"#, r#""ignore_eos":true"#, r#""min_tokens":5"#, r#""cache_prompt":false"#] {
            assert!(body.contains(part), "{part} in {body}");
        }
        let mut steps = Vec::new();
        while let Some(fewer) = format.fields.fewer() {
            format.fields = fewer;
            steps.push(format.streaming(&Prompt::Text("x".to_owned()), 5));
        }
        assert_eq!(steps.len(), 5);
        assert!(!steps[0].contains("continuous") && steps[0].contains("timings_per_token"));
        assert!(steps[3].contains("ignore_eos") && !steps[3].contains("min_tokens"));
        assert!(!steps[4].contains("ignore_eos") && steps[4].contains("include_usage"));
    }
}

//! The routes: completions, chat completions, models, health, version, tokenize, detokenize, stats.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::faults::Fault;
use crate::stream::{self, Answer};
use crate::{Server, TokenizeShape};

type Shared = State<Arc<Server>>;
type Refused = (StatusCode, Json<Value>);

pub fn routes(server: Arc<Server>) -> Router {
    Router::new()
        .route("/v1/completions", post(completions))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/models", get(models))
        .route("/health", get(health))
        .route("/version", get(|| async { Json(json!({"version": env!("CARGO_PKG_VERSION")})) }))
        .route("/tokenize", post(tokenize))
        .route("/detokenize", post(detokenize))
        .route("/stats", get(|State(server): Shared| async move { Json(server.stats.json()) }))
        .route("/stats/reset", post(|State(server): Shared| async move { server.stats.reset() }))
        .with_state(server)
}

async fn health(State(server): Shared) -> StatusCode {
    if server.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn models(State(server): Shared) -> Result<Json<Value>, Refused> {
    ready(&server)?;
    let model = json!({
        "id": server.arguments.model, "object": "model", "created": 0, "owned_by": "tiny_server",
        "max_model_len": server.arguments.max_model_len
    });
    Ok(Json(json!({"object": "list", "data": [model]})))
}

async fn completions(State(server): Shared, Json(body): Json<Value>) -> Result<Response, Refused> {
    check(&server, &body)?;
    let prompt = match &body["prompt"] {
        Value::String(text) => server.tokenizer.encode(text, true),
        Value::Array(_) if server.arguments.no_token_ids => return Err(bad("prompt must be a string")),
        Value::Array(items) if items.iter().any(|item| !item.is_u64()) => {
            return Err(bad(
                "prompt: one string or one list of token ids a request; lists of prompts are not supported",
            ));
        }
        Value::Array(items) => ids(&server, items)?,
        _ => return Err(bad("prompt is missing: a string or a list of token ids")),
    };
    generate(server, &body, &prompt, prompt.len(), false).await
}

/// Each message costs its text and three tokens of template; the answer's role costs three more.
async fn chat(State(server): Shared, Json(body): Json<Value>) -> Result<Response, Refused> {
    check(&server, &body)?;
    let Some(messages) = body["messages"].as_array() else { return Err(bad("messages is missing: a list")) };
    let mut prompt = Vec::new();
    for message in messages {
        let Some(text) = message["content"].as_str() else { return Err(bad("messages: content must be a string")) };
        prompt.extend(server.tokenizer.encode(text, false));
    }
    let counted = prompt.len() + 3 * messages.len() + 3;
    generate(server, &body, &prompt, counted, true).await
}

async fn generate(
    server: Arc<Server>,
    body: &Value,
    prompt: &[u32],
    counted: usize,
    chat: bool,
) -> Result<Response, Refused> {
    if counted == 0 {
        return Err(bad("prompt is empty"));
    }
    let max_tokens =
        match ["max_completion_tokens", "max_tokens"].map(|key| &body[key]).into_iter().find(|v| !v.is_null()) {
            None => 16,
            Some(value) => {
                value.as_u64().filter(|n| *n > 0).ok_or_else(|| bad("max_tokens must be a whole number above 0"))?
            }
        };
    if counted as u64 + max_tokens > u64::from(server.arguments.max_model_len) {
        return Err(bad(&format!(
            "{counted} prompt and {max_tokens} output tokens: at most {}",
            server.arguments.max_model_len
        )));
    }
    let mut output_tokens = max_tokens as u32;
    if body["ignore_eos"] != true {
        let least = body["min_tokens"].as_u64().unwrap_or(1).min(max_tokens) as u32;
        output_tokens = server.faults.natural_end(server.arguments.end_share).clamp(least, output_tokens);
    }
    let fault = server.faults.draw();
    server.stats.request(prompt, body["cache_prompt"] != false, fault);
    match fault {
        Fault::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return Err((status, error("a fault that was asked for")));
        }
        Fault::SlowFirst => {
            tokio::time::sleep(std::time::Duration::from_secs_f64(server.arguments.shares.slow_first_s)).await;
        }
        Fault::ShortOutput if output_tokens > 1 => output_tokens -= 1,
        _ => {}
    }
    let drop_after = match fault {
        Fault::Drop(share) => Some((share * f64::from(output_tokens)) as u32),
        _ => None,
    };
    let usage = server.arguments.no_usage;
    let options = &body["stream_options"];
    let answer = Answer {
        chat,
        model: server.arguments.model.clone(),
        prompt_tokens: counted + usize::from(fault == Fault::WrongInput),
        output_tokens,
        drop_after,
        chunk_tokens: if fault == Fault::Unseen { output_tokens } else { server.arguments.chunk_tokens.max(1) },
        unseen: fault == Fault::Unseen,
        usage: !usage && (body["stream"] != true || options["include_usage"] == true),
        continuous_usage: !usage && options["continuous_usage_stats"] == true && !server.arguments.no_continuous_usage,
    };
    let tokens = server.engine.submit(counted, output_tokens);
    Ok(if body["stream"] == true { stream::events(answer, tokens) } else { stream::whole(answer, tokens).await })
}

async fn tokenize(State(server): Shared, Json(body): Json<Value>) -> Result<Json<Value>, Refused> {
    ready(&server)?;
    let tokens = |text: &Value, special: &Value, default: bool| {
        let text = text.as_str().ok_or_else(|| bad("the text to tokenize is missing"))?;
        Ok(server.tokenizer.encode(text, special.as_bool().unwrap_or(default)))
    };
    Ok(Json(match server.arguments.tokenize {
        TokenizeShape::Vllm => {
            let tokens: Vec<u32> = tokens(&body["prompt"], &body["add_special_tokens"], true)?;
            json!({"count": tokens.len(), "max_model_len": server.arguments.max_model_len, "tokens": tokens})
        }
        TokenizeShape::LlamaCpp if body["content"].is_null() => json!({"tokens": []}),
        TokenizeShape::LlamaCpp => json!({"tokens": tokens(&body["content"], &body["add_special"], false)?}),
        TokenizeShape::Tgi => {
            let tokens = tokens(&body["inputs"], &body["add_special_tokens"], true)?;
            tokens.iter().map(|token| json!({"id": token, "text": server.tokenizer.decode(&[*token])})).collect()
        }
        TokenizeShape::None => return Err((StatusCode::NOT_FOUND, error("Not Found"))),
    }))
}

async fn detokenize(State(server): Shared, Json(body): Json<Value>) -> Result<Json<Value>, Refused> {
    ready(&server)?;
    let Some(items) = body["tokens"].as_array() else { return Err(bad("tokens is missing: a list of token ids")) };
    let tokens = ids(&server, items)?;
    Ok(Json(json!({"prompt": server.tokenizer.decode(&tokens)})))
}

const KNOWN_TO_OPENAI: [&str; 14] = [
    "model",
    "prompt",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "n",
    "stream",
    "stream_options",
    "stop",
    "seed",
    "logprobs",
    "user",
];

fn check(server: &Server, body: &Value) -> Result<(), Refused> {
    ready(server)?;
    let Some(fields) = body.as_object() else { return Err(bad("the body must be a JSON object")) };
    if server.arguments.strict
        && let Some(unknown) = fields.keys().find(|key| !KNOWN_TO_OPENAI.contains(&key.as_str()))
    {
        return Err(bad(&format!("Unrecognized request argument supplied: {unknown}")));
    }
    match fields.get("model").and_then(Value::as_str) {
        Some(model) if model == server.arguments.model => Ok(()),
        model => {
            let what = format!("The model `{}` does not exist.", model.unwrap_or_default());
            Err((StatusCode::NOT_FOUND, error(&what)))
        }
    }
}

fn ready(server: &Server) -> Result<(), Refused> {
    if server.is_ready() { Ok(()) } else { Err((StatusCode::SERVICE_UNAVAILABLE, error("Loading model"))) }
}

fn ids(server: &Server, items: &[Value]) -> Result<Vec<u32>, Refused> {
    let known = |item: &Value| item.as_u64().filter(|id| *id < u64::from(server.tokenizer.vocabulary()));
    let id =
        |item| known(item).map(|id| id as u32).ok_or_else(|| bad(&format!("Token id {item} is out of vocabulary")));
    items.iter().map(id).collect()
}

fn bad(what: &str) -> Refused {
    (StatusCode::BAD_REQUEST, error(what))
}

fn error(what: &str) -> Json<Value> {
    Json(json!({"error": {"message": what, "type": "invalid_request_error", "param": null, "code": null}}))
}

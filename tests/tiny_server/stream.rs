//! Answers: one JSON object, or server-sent events with some tokens each, both with the token counts they really had.

use std::io;

use axum::Json;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

pub struct Answer {
    pub chat: bool,
    pub model: String,
    pub prompt_tokens: usize,
    pub output_tokens: u32,
    /// The connection breaks once so many tokens were sent.
    pub drop_after: Option<u32>,
    pub chunk_tokens: u32,
    /// No token shows as text.
    pub unseen: bool,
    pub usage: bool,
    pub continuous_usage: bool,
}

pub async fn whole(answer: Answer, mut tokens: UnboundedReceiver<u32>) -> Response {
    let mut text = String::new();
    while let Some(token) = tokens.recv().await {
        text.push(letter(token));
    }
    if answer.drop_after.is_some() {
        return Body::from_stream(stream::iter([Err::<String, _>(broken())])).into_response();
    }
    let content = if answer.chat {
        json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"})
    } else {
        json!({"index": 0, "text": text, "finish_reason": "length"})
    };
    let mut value = answer.envelope(if answer.chat { "chat.completion" } else { "text_completion" }, content);
    if answer.usage {
        value["usage"] = answer.counts(answer.output_tokens);
    }
    Json(value).into_response()
}

pub fn events(answer: Answer, tokens: UnboundedReceiver<u32>) -> Response {
    let body = Body::from_stream(chunks(answer, tokens));
    ([(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")], body).into_response()
}

/// Where a stream stands.
enum Stage {
    Role,
    Tokens { sent: u32 },
    Usage,
    Done,
    End,
}

fn chunks(answer: Answer, tokens: UnboundedReceiver<u32>) -> impl Stream<Item = io::Result<String>> {
    let first = if answer.chat { Stage::Role } else { Stage::Tokens { sent: 0 } };
    stream::unfold((answer, tokens, first), |(answer, mut tokens, stage)| async move {
        let (item, next) = match stage {
            Stage::Role => (Ok(answer.role()), Stage::Tokens { sent: 0 }),
            Stage::Tokens { sent } => answer.next_tokens(&mut tokens, sent).await,
            Stage::Usage => (Ok(answer.final_usage()), Stage::Done),
            Stage::Done => (Ok("data: [DONE]\n\n".to_owned()), Stage::End),
            Stage::End => return None,
        };
        Some((item, (answer, tokens, next)))
    })
}

impl Answer {
    async fn next_tokens(&self, tokens: &mut UnboundedReceiver<u32>, sent: u32) -> (io::Result<String>, Stage) {
        let until = (sent + self.chunk_tokens).min(self.output_tokens);
        let mut made = sent;
        while made < until {
            if self.drop_after == Some(made) {
                return (Err(broken()), Stage::End);
            }
            match tokens.recv().await {
                Some(token) => made = token,
                None => return (Err(broken()), Stage::End),
            }
        }
        let last = made == self.output_tokens;
        let text: String = (sent + 1..=made).filter(|_| !self.unseen).map(letter).collect();
        let mut event = self.chunk(if self.chat { json!({"content": text}) } else { json!(text) }, last);
        if self.continuous_usage {
            event["usage"] = self.counts(made);
        }
        let next = match (last, self.usage) {
            (false, _) => Stage::Tokens { sent: made },
            (true, true) => Stage::Usage,
            (true, false) => Stage::Done,
        };
        (Ok(data(&event)), next)
    }

    fn role(&self) -> String {
        data(&self.chunk(json!({"role": "assistant", "content": ""}), false))
    }

    fn chunk(&self, piece: Value, last: bool) -> Value {
        let reason = last.then_some("length");
        if self.chat {
            let choice = json!({"index": 0, "delta": piece, "finish_reason": reason});
            self.envelope("chat.completion.chunk", choice)
        } else {
            self.envelope("text_completion", json!({"index": 0, "text": piece, "finish_reason": reason}))
        }
    }

    fn final_usage(&self) -> String {
        let mut event = self.chunk(Value::Null, true);
        event["choices"] = json!([]);
        event["usage"] = self.counts(self.output_tokens);
        data(&event)
    }

    fn envelope(&self, object: &str, choice: Value) -> Value {
        json!({"id": "tiny", "object": object, "created": 0, "model": self.model, "choices": [choice]})
    }

    fn counts(&self, completion: u32) -> Value {
        let total = self.prompt_tokens as u64 + u64::from(completion);
        json!({"prompt_tokens": self.prompt_tokens, "completion_tokens": completion, "total_tokens": total})
    }
}

fn letter(token: u32) -> char {
    char::from(b'a' + (token % 26) as u8)
}

fn data(event: &Value) -> String {
    format!("data: {event}\n\n")
}

fn broken() -> io::Error {
    io::Error::other("a fault that was asked for")
}

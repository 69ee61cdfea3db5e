//! HTTP to one server: blocking, a new connection for each request, directly (no proxy), never sent twice.
//!
//! A connection of its own keeps a request from failing because the server closed one that lay idle. Plain http only: energy
//! is read where the server runs, so the load starts there too, and TLS would be work that is not inference.

use std::fmt;
use std::io;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body, Timeout};

use super::error::LoadError;
use super::outcome::FailureKind;
use crate::formats::completion_api::message;

/// To come to a connection; a server under load accepts late.
const CONNECT: Duration = Duration::from_secs(10);
/// For what is no completion.
pub const SHORT: Duration = Duration::from_secs(30);
/// Of an error's text in messages.
const EXCERPT: usize = 300;

pub struct Client {
    agent: Agent,
    /// `http://host:port`, without a slash.
    base: String,
    authorization: Option<String>,
}

/// Why no answer came, or none that is one.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: FailureKind,
    pub detail: String,
}

impl Client {
    /// # Errors
    /// A URL that is not `http://host[:port][/v1]`.
    pub fn new(url: &str, api_key: Option<&str>) -> Result<Self, LoadError> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .build();
        Ok(Self {
            agent: Agent::new_with_config(config),
            base: base(url)?,
            authorization: api_key.map(|key| format!("Bearer {key}")),
        })
    }

    pub fn url(&self) -> &str {
        &self.base
    }

    /// Status and text.
    pub fn get(&self, path: &str, timeout: Duration) -> Result<(u16, String), Failure> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let response = request.config().timeout_global(Some(timeout)).build().call().map_err(before_answer)?;
        whole(response)
    }

    /// Status and text.
    pub fn post(&self, path: &str, body: &str, timeout: Duration) -> Result<(u16, String), Failure> {
        whole(self.send(path, body, timeout)?)
    }

    /// The answer as it comes, if its status is 200. The timeout holds to its end.
    pub fn open(&self, path: &str, body: &str, timeout: Duration) -> Result<impl io::Read + use<>, Failure> {
        let response = self.send(path, body, timeout)?;
        match response.status().as_u16() {
            200 => Ok(response.into_body().into_reader()),
            _ => {
                let (status, text) = whole(response)?;
                Err(Failure { kind: FailureKind::Status(status), detail: excerpt(&text) })
            }
        }
    }

    fn send(&self, path: &str, body: &str, timeout: Duration) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.post(format!("{}{path}", self.base)).header("Content-Type", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        request.config().timeout_global(Some(timeout)).build().send(body).map_err(before_answer)
    }
}

/// Without the key.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

/// What an error's body says, short.
pub fn excerpt(text: &str) -> String {
    let said = serde_json::from_str::<Value>(text).map_or_else(|_| text.trim().to_owned(), |value| message(&value));
    said.chars().take(EXCERPT).collect()
}

/// While an answer is read.
pub fn in_answer(error: &io::Error) -> Failure {
    let timed_out = matches!(error.get_ref().and_then(|inner| inner.downcast_ref()), Some(ureq::Error::Timeout(_)))
        || error.kind() == io::ErrorKind::TimedOut;
    let kind = if timed_out { FailureKind::Timeout } else { FailureKind::BrokenStream };
    Failure { kind, detail: error.to_string() }
}

fn before_answer(error: ureq::Error) -> Failure {
    let kind = match &error {
        // The connection itself took too long: the server did not take the request.
        ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => FailureKind::Connection,
        ureq::Error::Timeout(_) => FailureKind::Timeout,
        _ => FailureKind::Connection,
    };
    Failure { kind, detail: error.to_string() }
}

fn whole(response: Response<Body>) -> Result<(u16, String), Failure> {
    let status = response.status().as_u16();
    let text = response.into_body().read_to_string().map_err(|error| in_answer(&error.into_io()))?;
    Ok((status, text))
}

fn base(url: &str) -> Result<String, LoadError> {
    let wrong = |why| LoadError::Url { url: url.to_owned(), why };
    let uri: Uri = url.parse().map_err(|_| wrong("is no URL; write http://host:port"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(wrong("is https, which is not supported: run this on the server's own node over plain http"));
        }
        _ => return Err(wrong("does not begin with http://")),
    }
    let authority = uri.authority().ok_or_else(|| wrong("names no host; write http://host:port"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("holds a password; give it as the API key"));
    }
    if uri.query().is_some() {
        return Err(wrong("has a query; write http://host:port"));
    }
    let path = uri.path().trim_end_matches('/');
    Ok(format!("http://{authority}{}", path.strip_suffix("/v1").unwrap_or(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_plain_http_with_or_without_v1() {
        for url in ["http://node1:8000", "http://node1:8000/", "http://node1:8000/v1", "http://node1:8000/v1/"] {
            assert_eq!(base(url).unwrap(), "http://node1:8000", "{url}");
        }
        assert_eq!(base("http://[::1]:80/llm/v1").unwrap(), "http://[::1]:80/llm");
        let refused = |url: &str| base(url).unwrap_err().to_string();
        assert!(refused("https://node1").contains("plain http"));
        assert!(refused("node1:8000").contains("http://"));
        assert!(refused("").contains("http://"));
        assert!(refused("http://user:secret@node1").contains("API key"));
    }

    #[test]
    fn the_key_is_not_shown() {
        let client = Client::new("http://node1", Some("secret")).unwrap();
        assert!(!format!("{client:?}").contains("secret"));
    }
}

//! Apps that need neither Rust code nor Python: for benchmarks and smoke tests.

use std::fmt;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode, request};
use http_body_util::BodyExt;
use http_body_util::combinators::Collect;
use pin_project_lite::pin_project;
use serde_json::{Value, json};

use super::{Address, App, Body, BodyError, BootError, Host, Origin, Scheme, Tls};
use crate::channel::WorkerContext;
use crate::error::AnyError;

/// An app that is built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// `builtin:hello`: the 12 bytes `hello world!`, whatever is asked.
    Hello,
    /// `builtin:echo`: what was received, as JSON.
    Echo,
    /// `builtin:static:DIRECTORY`: the server serves the files, and this is asked only about what has no path.
    Static,
}

impl Builtin {
    /// Their names, after `builtin:`.
    pub const NAMES: [&'static str; 3] = ["hello", "echo", "static:DIRECTORY"];

    /// The app of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "hello" => Some(Self::Hello),
            "echo" => Some(Self::Echo),
            _ if name.starts_with("static:") => Some(Self::Static),
            _ => None,
        }
    }
}

impl App for Builtin {
    type Body = Whole;
    type Future = Answer;

    fn call(&self, mut request: Request<Body>, origin: Origin) -> Answer {
        match self {
            Self::Hello => {
                let mut response = Response::new(Whole(Bytes::from_static(b"hello world!")));
                // The request's map has the room that the response's needs.
                let mut headers = std::mem::take(request.headers_mut());
                headers.clear();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                *response.headers_mut() = headers;
                Answer {
                    state: State::Hello {
                        answer: ready(response),
                    },
                }
            }
            Self::Static => {
                let mut response = Response::new(Whole::default());
                *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
                let methods = HeaderValue::from_static("GET,HEAD");
                response.headers_mut().insert(ALLOW, methods);
                Answer {
                    state: State::Hello {
                        answer: ready(response),
                    },
                }
            }
            Self::Echo => {
                let (parts, body) = request.into_parts();
                let told = Box::new((parts, origin));
                Answer {
                    state: State::Echo {
                        body: body.collect(),
                        told,
                    },
                }
            }
        }
    }
}

impl Host for Builtin {
    type App = Self;
    const TOKIO_TIME: bool = false;

    async fn load(&self, _: &WorkerContext) -> Result<Self, BootError> {
        Ok(*self)
    }
}

pin_project! {
    /// The answer of a [`Builtin`].
    pub struct Answer {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State {
        Hello { #[pin] answer: Ready<Response<Whole>> },
        Echo { #[pin] body: Collect<Body>, told: Box<(request::Parts, Origin)> },
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl Future for Answer {
    type Output = Result<Response<Whole>, AnyError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Hello { answer } => answer.poll(cx).map(Ok),
            StateProjection::Echo { body, told } => body.poll(cx).map(|body| {
                let body = body.map_err(|error: BodyError| Box::new(error))?.to_bytes();
                let (parts, origin) = &**told;
                let mut text = serde_json::to_vec(&echo(parts, origin, &body))?;
                text.push(b'\n');
                let mut response = Response::new(Whole(text.into()));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, json);
                Ok(response)
            }),
        }
    }
}

/// A body of one piece.
#[derive(Debug, Default)]
pub struct Whole(Bytes);

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = AnyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, AnyError>>> {
        let bytes = std::mem::take(&mut self.0);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(http_body::Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(u64::try_from(self.0.len()).unwrap_or(u64::MAX))
    }
}

/// What was received, as JSON. Bytes that are not UTF-8 become base64 in the body and U+FFFD in field values.
fn echo(parts: &request::Parts, origin: &Origin, body: &[u8]) -> Value {
    let headers: Vec<Value> = parts
        .headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    let (body, base64) = match std::str::from_utf8(body) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (STANDARD.encode(body), true),
    };
    let peer = match &origin.ends.peer {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(Some(path)) => format!("unix:{}", path.display()),
        Address::Unix(None) => "unix:".to_owned(),
    };
    json!({
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "query": parts.uri.query(),
        "version": format!("{:?}", parts.version),
        "headers": headers,
        "body": body,
        "base64": base64,
        "peer": peer,
        "scheme": match origin.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        },
        "tls": origin.ends.tls.as_deref().map(tls),
    })
}

fn tls(tls: &Tls) -> Value {
    json!({
        "version": tls.version_name(),
        "cipher": tls.cipher,
        "server_name": tls.server_name,
        "protocol": tls.protocol.as_deref().map(String::from_utf8_lossy),
        "resumed": tls.resumed,
        "client": tls.client.as_ref().map(|client| &client.subject),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Ends;
    use super::*;

    fn origin() -> Origin {
        let address = Address::Tcp("127.0.0.1:1".parse().expect("an address"));
        let ends = Arc::new(Ends::new(address.clone(), address));
        Origin {
            ends,
            scheme: Scheme::Https,
            trusted: true,
            gateway: None,
        }
    }

    #[tokio::test]
    async fn hello_is_twelve_bytes_of_text() {
        let request = Request::new(Body::empty());
        let response = Builtin::Hello
            .call(request, origin())
            .await
            .expect("an answer");
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain");
        let body = response
            .into_body()
            .collect()
            .await
            .expect("no error")
            .to_bytes();
        assert_eq!(body, "hello world!");
    }

    #[tokio::test]
    async fn echo_tells_what_it_was_sent() {
        let mut request = Request::post("/a%20b?c=d").header("x-y", "z");
        request = request.header("x-y", "\u{e9}");
        let request = request.body(Body::from(vec![0xFF])).expect("a request");
        let response = Builtin::Echo
            .call(request, origin())
            .await
            .expect("an answer");
        let body = response
            .into_body()
            .collect()
            .await
            .expect("no error")
            .to_bytes();
        let told: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(told["method"], "POST");
        assert_eq!(told["path"], "/a%20b");
        assert_eq!(told["query"], "c=d");
        assert_eq!(told["version"], "HTTP/1.1");
        assert_eq!(told["headers"], json!([["x-y", "z"], ["x-y", "\u{e9}"]]));
        assert_eq!(told["body"], "/w==");
        assert_eq!(told["base64"], true);
        assert_eq!(told["peer"], "127.0.0.1:1");
        assert_eq!(told["scheme"], "https");
    }
}

//! A request on its way to the app, and the app's answer on its way back.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Method, Request, Response, StatusCode, request};
use http_body::Body as _;
use hyper::body::Incoming;
use pin_project_lite::pin_project;

use super::connections::Peer;
use super::http::HttpService;
use super::io::Wire;
use super::page;
use super::reply::{self, Reply};
use crate::app::{App, Body, Origin, Scheme};
use crate::error::{AnyError, chain};

/// The app as one connection's hyper sees it.
#[derive(Debug)]
pub(crate) struct Service<A> {
    http: Rc<HttpService<A>>,
    wire: Rc<Wire>,
}

impl<A: App> Service<A> {
    pub(crate) fn new(http: Rc<HttpService<A>>, wire: Rc<Wire>) -> Self {
        Self { http, wire }
    }

    fn refuse(&self, status: StatusCode, reason: &'static str) -> Response<Bytes> {
        let peer = &self.wire.watch().ends().peer;
        tracing::warn!("Invalid request from ip={}: {reason}", Peer(peer));
        page::response(status, reason)
    }

    /// Makes of the head what apps are promised.
    fn scheme(&self, parts: &mut request::Parts) -> Result<Scheme, Response<Bytes>> {
        let facts = self.wire.facts();
        let forwarded = &self.wire.shared.forwarded;
        if facts.underscores
            && forwarded
                .underscores(&mut parts.headers, self.wire.trusted)
                .is_err()
        {
            return Err(self.refuse(StatusCode::BAD_REQUEST, "field name with an underscore"));
        }
        // RFC 9112 section 3.2.2: the target's authority counts, not the Host field.
        if let Some(authority) = parts.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            parts.headers.insert(HOST, host);
        }
        if !facts.watched || !self.wire.trusted {
            return Ok(Scheme::Http);
        }
        forwarded
            .scheme(&parts.headers)
            .map_err(|_| self.refuse(StatusCode::BAD_REQUEST, "contradictory scheme fields"))
    }
}

impl<A: App> hyper::service::Service<Request<Incoming>> for Service<A> {
    type Response = Response<Reply<A::Body>>;
    type Error = Infallible;
    type Future = Answer<A>;

    fn call(&self, request: Request<Incoming>) -> Answer<A> {
        let (mut parts, incoming) = request.into_parts();
        let wire = Rc::clone(&self.wire);
        let head = parts.method == Method::HEAD;
        let scheme = match self.scheme(&mut parts) {
            Ok(scheme) => scheme,
            Err(page) => {
                return Answer {
                    future: None,
                    page: Some(page),
                    wire,
                    head,
                };
            }
        };
        let body = if incoming.is_end_stream() {
            Body::empty()
        } else {
            Body::incoming(incoming, wire.fate())
        };
        let origin = Origin {
            ends: Arc::clone(wire.watch().ends()),
            scheme,
            trusted: wire.trusted,
        };
        let request = Request::from_parts(parts, body);
        let called = catch_unwind(AssertUnwindSafe(|| self.http.app.call(request, origin)));
        match called {
            Ok(future) => Answer {
                future: Some(future),
                page: None,
                wire,
                head,
            },
            Err(_) => {
                let page = Some(failed(&wire, "the app panicked"));
                Answer {
                    future: None,
                    page,
                    wire,
                    head,
                }
            }
        }
    }
}

pin_project! {
    /// The answer to come.
    pub(crate) struct Answer<A: App> {
        #[pin]
        future: Option<A::Future>,
        page: Option<Response<Bytes>>,
        wire: Rc<Wire>,
        head: bool,
    }
}

impl<A: App> Future for Answer<A> {
    type Output = Result<Response<Reply<A::Body>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut answer = None;
        if let Some(future) = this.future.as_mut().as_pin_mut() {
            match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(Ok(response))) => answer = Some(response),
                Ok(Poll::Ready(Err(error))) => {
                    *this.page = Some(failed(this.wire, &chain_of(&error)));
                }
                Err(_) => *this.page = Some(failed(this.wire, "the app panicked")),
            }
            this.future.set(None);
        }
        this.wire.shared.count();
        // A request whose body broke is answered by us, whatever the app made of it.
        if let Some(refusal) = this.wire.spoilt() {
            let peer = &this.wire.watch().ends().peer;
            tracing::warn!("Invalid request from ip={}: {}", Peer(peer), refusal.reason);
            *this.page = Some(page::response(refusal.status, refusal.reason));
        }
        if let Some(page) = this.page.take() {
            return Poll::Ready(Ok(reply::page(page, this.wire, *this.head)));
        }
        let answer = answer.map(|answer| reply::seal(answer, this.wire, *this.head));
        let response = match answer {
            Some(Ok(response)) => response,
            Some(Err(fault)) => {
                reply::page(failed(this.wire, &fault.to_string()), this.wire, *this.head)
            }
            // Polled after its end, which hyper does not do.
            None => return Poll::Pending,
        };
        Poll::Ready(Ok(response))
    }
}

fn chain_of(error: &AnyError) -> String {
    chain(&**error)
}

/// Logs what the app did and makes the page for it.
fn failed(wire: &Wire, what: &str) -> Response<Bytes> {
    tracing::error!("Error handling request {}: {what}", wire.watch().request());
    page::response(StatusCode::INTERNAL_SERVER_ERROR, "")
}

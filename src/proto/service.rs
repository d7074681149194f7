//! A request on its way to the app, and the app's answer on its way back.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Method, Request, Response, StatusCode, request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use pin_project_lite::pin_project;

use super::around::Opening;
use super::guard::Refusal;
use super::http::HttpService;
use super::io::Wire;
use super::page;
use super::reply::{Exchange, Reply};
use crate::app::{App, Body, Line, Origin, Scheme};
use crate::error::chain;

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

    /// Makes of the head what apps are promised.
    fn prepare(&self, parts: &mut request::Parts) -> Result<Scheme, Refusal> {
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        let facts = self.wire.facts();
        let trusted = self.wire.trusted;
        let forwarded = &self.wire.shared.forwarded;
        if facts.underscores {
            forwarded
                .underscores(&mut parts.headers, trusted)
                .map_err(|_| Refusal::new(BAD, "header field name with an underscore"))?;
        }
        // RFC 9112 section 3.2.2: the target's authority counts, not the Host field.
        if let Some(authority) = parts.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            parts.headers.insert(HOST, host);
        }
        if !facts.watched || !trusted {
            return Ok(Scheme::Http);
        }
        forwarded
            .scheme(&parts.headers)
            .map_err(|_| Refusal::new(BAD, "contradictory scheme header fields"))
    }
}

impl<A: App> hyper::service::Service<Request<Incoming>> for Service<A> {
    type Response = Response<Reply<A::Body>>;
    type Error = Infallible;
    type Future = Answer<A>;

    fn call(&self, request: Request<Incoming>) -> Answer<A> {
        let (mut parts, incoming) = request.into_parts();
        let wire = &self.wire;
        let scheme = self.prepare(&mut parts);
        let exchange = Exchange {
            wire: Rc::clone(wire),
            head: parts.method == Method::HEAD,
            upgradable: parts.extensions.get::<OnUpgrade>().is_some()
                && incoming.is_end_stream(),
            record: wire.shared.access.as_ref().map(|log| {
                let scheme = *scheme.as_ref().unwrap_or(&Scheme::Http);
                log.begin(&parts, wire.watch().ends(), scheme)
            }),
            asked: wire
                .shared
                .around
                .as_ref()
                .and_then(|around| around.keep(&parts)),
        };
        if wire.watch().is_refused() {
            return Answer::page(page::no_room(), exchange);
        }
        let scheme = match scheme {
            Ok(scheme) => scheme,
            Err(refusal) => return Answer::page(exchange.refuse(refusal), exchange),
        };
        if let Some(path) = &wire.shared.readiness_path
            && parts.uri.path() == &**path
            && matches!(parts.method, Method::GET | Method::HEAD)
        {
            let draining = wire.shared.connections.closing();
            return Answer::page(page::readiness(draining), exchange);
        }
        let body = if incoming.is_end_stream() {
            Body::empty()
        } else {
            Body::incoming(incoming, wire.expect_body())
        };
        if let Some(around) = &wire.shared.around
            && let Some(file) = around.file(&mut parts)
        {
            // The connection sees to what the client sends with it.
            drop(body);
            return Answer::file(file, exchange);
        }
        let origin = Origin {
            ends: Arc::clone(wire.watch().ends()),
            scheme,
            trusted: wire.trusted,
        };
        let line: Weak<Wire> = Rc::downgrade(wire);
        let line = Line::new(line);
        // By reference in and out, as both are large.
        let mut call = Some((parts, body, origin, line));
        let mut future = None;
        let called = catch_unwind(AssertUnwindSafe(|| {
            if let Some((parts, body, origin, line)) = call.take() {
                let request = Request::from_parts(parts, body);
                future = Some(self.http.app.serve(request, origin, line));
            }
        }));
        match called {
            Ok(()) => Answer {
                future,
                other: None,
                exchange: Some(exchange),
            },
            Err(_) => Answer::page(exchange.fail("the app panicked"), exchange),
        }
    }
}

pin_project! {
    /// The answer to come.
    pub(crate) struct Answer<A: App> {
        #[pin]
        future: Option<A::Future>,
        // Seldom there, and large.
        other: Option<Box<Other>>,
        exchange: Option<Exchange>,
    }
}

/// An answer that is not the app's.
enum Other {
    Page(Response<Bytes>),
    File(Opening),
}

impl<A: App> Answer<A> {
    fn page(page: Response<Bytes>, exchange: Exchange) -> Self {
        Self::other(Other::Page(page), exchange)
    }

    fn file(file: Opening, exchange: Exchange) -> Self {
        Self::other(Other::File(file), exchange)
    }

    fn other(other: Other, exchange: Exchange) -> Self {
        Self {
            future: None,
            other: Some(Box::new(other)),
            exchange: Some(exchange),
        }
    }
}

impl<A: App> Future for Answer<A> {
    type Output = Result<Response<Reply<A::Body>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // By reference out of where a panic is caught, as it is large.
        let mut outcome = Poll::Pending;
        if let Some(future) = this.future.as_mut().as_pin_mut() {
            let polled = catch_unwind(AssertUnwindSafe(|| outcome = future.poll(cx)));
            if polled.is_ok() && outcome.is_pending() {
                return Poll::Pending;
            }
            this.future.set(None);
            if let Poll::Ready(Ok(response)) = &mut outcome
                && let Some(exchange) = this.exchange
                && let Some(file) = exchange.named(response)
            {
                *this.other = Some(Box::new(Other::File(file)));
                outcome = Poll::Pending;
            }
        }
        let file = match this.other.as_deref_mut() {
            Some(Other::File(file)) => Some(ready!(file.as_mut().poll(cx))),
            Some(Other::Page(_)) | None => None,
        };
        let Some(exchange) = this.exchange.take() else {
            // Polled after its end, which hyper does not do.
            return Poll::Pending;
        };
        exchange.wire.shared.count();
        // A request whose body broke is answered by us, whatever the app made of it.
        if let Some(refusal) = exchange.wire.spoilt() {
            let page = exchange.refuse(refusal);
            return Poll::Ready(Ok(exchange.send_page(page)));
        }
        if let Some(response) = file {
            return Poll::Ready(Ok(exchange.send_file(response)));
        }
        let page = match (outcome, this.other.take().map(|other| *other)) {
            (Poll::Ready(Ok(response)), _) => {
                return Poll::Ready(Ok(exchange.send(response)));
            }
            (Poll::Ready(Err(error)), _) => exchange.fail(&chain(&*error)),
            (Poll::Pending, Some(Other::Page(page))) => page,
            (Poll::Pending, Some(Other::File(_)) | None) => exchange.fail("the app panicked"),
        };
        Poll::Ready(Ok(exchange.send_page(page)))
    }
}

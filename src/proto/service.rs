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

use super::access::Record;
use super::around::Asked;
use super::carrier::Carrier;
use super::guard::Refusal;
use super::http::HttpService;
use super::http2::Seed;
use super::io::Wire;
use super::opening::Opening;
use super::page;
use super::reply::{Exchange, Reply};
use super::upgrade;
use crate::app::{App, Body, Ends, Line, Origin, Scheme};
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
            return Ok(self.wire.scheme);
        }
        forwarded
            .scheme(&parts.headers, self.wire.scheme)
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
        let told = wire.told(&mut parts);
        let scheme = self.prepare(&mut parts);
        let ends = told.as_ref().map_or(wire.watch().ends(), |told| &told.ends);
        let scheme = match &told {
            Some(told) if told.https => scheme.map(|_| Scheme::Https),
            Some(_) | None => scheme,
        };
        let upgradable =
            parts.extensions.get::<OnUpgrade>().is_some() && incoming.is_end_stream();
        if upgradable
            && wire.trusted
            && wire.shared.http2.upgrade
            && wire.scheme == Scheme::Http
            && told.is_none()
            && let Some(seed) = Seed::of(&parts)
        {
            wire.upgrade.sow(seed);
            return Answer::page(page::switch_to_http2(), Exchange::of_upgrade(wire));
        }
        if upgradable {
            upgrade::own(&mut parts);
        }
        let exchange = Exchange {
            wire: Rc::clone(wire),
            head: parts.method == Method::HEAD,
            upgradable,
            record: record(
                &**wire,
                &parts,
                ends,
                *scheme.as_ref().unwrap_or(&wire.scheme),
            ),
            asked: asked(&**wire, &parts),
        };
        let scheme = match admit(&parts, scheme, &exchange) {
            Ok(scheme) => scheme,
            Err(page) => return Answer::page(page, exchange),
        };
        let body = if incoming.is_end_stream() {
            Body::empty()
        } else {
            Body::incoming(incoming, wire.expect_body())
        };
        if let Some(file) = wire.shared.file(&mut parts) {
            // The connection sees to what the client sends with it.
            drop(body);
            return Answer::file(file, exchange);
        }
        let line: Weak<Wire> = Rc::downgrade(wire);
        let origin = Origin {
            ends: Arc::clone(ends),
            scheme,
            trusted: wire.trusted,
            gateway: told.map(|told| told.gateway),
        };
        Answer::begin(
            &self.http.app,
            parts,
            body,
            origin,
            Line::new(line),
            exchange,
        )
    }
}

/// The beginning of the log's record of a request.
pub(super) fn record<C: Carrier>(
    wire: &C,
    parts: &request::Parts,
    ends: &Arc<Ends>,
    scheme: Scheme,
) -> Option<Box<Record>> {
    let log = wire.shared().access.as_ref()?;
    Some(log.begin(parts, ends, scheme))
}

/// What of the request will be needed once it is answered.
#[inline]
pub(super) fn asked<C: Carrier>(wire: &C, parts: &request::Parts) -> Option<Box<Asked>> {
    wire.shared().around.as_ref()?.keep(parts)
}

/// Whether the request is for the app; else the page that answers it.
#[inline]
#[expect(
    clippy::result_large_err,
    reason = "a page is made once, where there is no app to call"
)]
pub(super) fn admit<C: Carrier>(
    parts: &request::Parts,
    scheme: Result<Scheme, Refusal>,
    exchange: &Exchange<C>,
) -> Result<Scheme, Response<Bytes>> {
    let shared = exchange.wire.shared();
    if exchange.wire.watch().is_refused() {
        return Err(page::no_room());
    }
    let scheme = scheme.map_err(|refusal| exchange.refuse(refusal))?;
    if let Some(path) = &shared.readiness_path
        && parts.uri.path() == &**path
        && matches!(parts.method, Method::GET | Method::HEAD)
    {
        return Err(page::readiness(shared.connections.closing()));
    }
    Ok(scheme)
}

pin_project! {
    /// The answer to come.
    pub(crate) struct Answer<A: App, C = Wire> {
        #[pin]
        future: Option<A::Future>,
        // Seldom there, and large.
        other: Option<Box<Other>>,
        exchange: Option<Exchange<C>>,
    }
}

/// An answer that is not the app's.
enum Other {
    Page(Response<Bytes>),
    File(Opening),
}

impl Other {
    /// It makes the connection one of another protocol.
    fn switches(&self) -> bool {
        match self {
            Self::Page(page) => page.status() == StatusCode::SWITCHING_PROTOCOLS,
            Self::File(_) => false,
        }
    }
}

impl<A: App, C: Carrier> Answer<A, C> {
    /// A page of ours.
    pub(super) fn page(page: Response<Bytes>, exchange: Exchange<C>) -> Self {
        Self::other(Other::Page(page), exchange)
    }

    /// A static file.
    pub(super) fn file(file: Opening, exchange: Exchange<C>) -> Self {
        Self::other(Other::File(file), exchange)
    }

    fn other(other: Other, exchange: Exchange<C>) -> Self {
        Self {
            future: None,
            other: Some(Box::new(other)),
            exchange: Some(exchange),
        }
    }

    /// Calls the app.
    #[inline]
    pub(super) fn begin(
        app: &A,
        parts: request::Parts,
        body: Body,
        origin: Origin,
        line: Line,
        exchange: Exchange<C>,
    ) -> Self {
        // By reference in and out, as both are large.
        let mut call = Some((parts, body, origin, line));
        let mut future = None;
        let called = catch_unwind(AssertUnwindSafe(|| {
            if let Some((parts, body, origin, line)) = call.take() {
                let request = Request::from_parts(parts, body);
                future = Some(app.serve(request, origin, line));
            }
        }));
        match called {
            Ok(()) => Self {
                future,
                other: None,
                exchange: Some(exchange),
            },
            Err(_) => Self::page(exchange.fail("the app panicked"), exchange),
        }
    }
}

impl<A: App, C: Carrier> Answer<A, C> {
    /// The answer that is not the app's.
    #[inline(never)]
    fn poll_other(
        other: &mut Option<Box<Other>>,
        exchange: &mut Option<Exchange<C>>,
        cx: &mut Context<'_>,
    ) -> Poll<<Self as Future>::Output> {
        let file = match other.as_deref_mut() {
            Some(Other::File(file)) => Some(ready!(file.poll(cx))),
            Some(Other::Page(_)) | None => None,
        };
        let (Some(other), Some(exchange)) = (other.take(), exchange.take()) else {
            // Polled after its end, which hyper does not do.
            return Poll::Pending;
        };
        if other.switches()
            && let Other::Page(page) = *other
        {
            return Poll::Ready(Ok(exchange.switch(page.into_parts().0)));
        }
        exchange.wire.shared().count();
        // A request whose body broke is answered by us, whatever was to be said.
        if let Some(refusal) = exchange.wire.spoilt() {
            let page = exchange.refuse(refusal);
            return Poll::Ready(Ok(exchange.send_page(page)));
        }
        Poll::Ready(Ok(match (file, *other) {
            (Some(response), _) => exchange.send_file(response),
            (None, Other::Page(page)) => exchange.send_page(page),
            (None, Other::File(_)) => {
                let page = exchange.fail("a file is not there");
                exchange.send_page(page)
            }
        }))
    }
}

impl<A: App, C: Carrier> Future for Answer<A, C> {
    type Output = Result<Response<Reply<A::Body, C>>, Infallible>;

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
        if this.other.is_some() {
            return Self::poll_other(this.other, this.exchange, cx);
        }
        let Some(exchange) = this.exchange.take() else {
            // Polled after its end, which hyper does not do.
            return Poll::Pending;
        };
        exchange.wire.shared().count();
        // A request whose body broke is answered by us, whatever the app made of it.
        if let Some(refusal) = exchange.wire.spoilt() {
            let page = exchange.refuse(refusal);
            return Poll::Ready(Ok(exchange.send_page(page)));
        }
        let page = match outcome {
            Poll::Ready(Ok(response)) => return Poll::Ready(Ok(exchange.send(response))),
            Poll::Ready(Err(error)) => exchange.fail(&chain(&*error)),
            Poll::Pending => exchange.fail("the app panicked"),
        };
        Poll::Ready(Ok(exchange.send_page(page)))
    }
}

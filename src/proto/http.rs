//! HTTP/1 by hyper: what all connections of a worker share, and the task that serves one.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{StatusCode, request};
use hyper::server::conn::http1;
use tokio::sync::Notify;

use super::access::{AccessLog, Format, Sink};
use super::around::Around;
use super::attached::Block;
use super::connections::{Connections, Peer, Phase, Timeouts, Verdict};
use super::forwarded::Forwarded;
use super::guard::{Refusal, Rules};
use super::http2::{self, Http2, Start};
use super::io::{Io, Wire};
use super::late::{Late, Turn};
use super::opening::Opening as FileOpening;
use super::page;
use super::service::Service;
use super::stream::Stream;
use super::uwsgi::Front;
use crate::app::{Address, App, Ends, Scheme};
use crate::config::{AllowList, Config};
use crate::scoreboard::Row;

/// hyper's smallest buffer limit.
const SMALLEST_BUFFER: usize = 8192;
/// The number of header fields for which hyper needs no memory.
const FREE_FIELDS: usize = 100;
/// So much is read and forgotten when a connection is closed that may still be sending.
const LINGER: usize = 64 * 1024;

/// What all connections of a worker share, whatever the app.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) rules: Rules,
    pub(crate) forwarded: Forwarded,
    /// Who may speak uwsgi.
    fronts: AllowList,
    pub(crate) connections: Rc<Connections>,
    pub(crate) access: Option<Rc<AccessLog>>,
    /// Where the worker says whether requests are welcome.
    pub(crate) readiness_path: Option<Box<str>>,
    pub(super) http2: Http2,
    /// A connection is kept between two requests.
    pub(super) keeps_alive: bool,
    pub(super) around: Option<Box<Around>>,
    /// The kernel may send files.
    pub(super) sendfile: bool,
    row: Option<Row>,
    answered: Cell<u64>,
    /// The worker is recycled after so many answers; zero is never.
    enough: u64,
    recycle: Notify,
    pub(crate) late: Late,
    /// Where small files are read; nobody's while one is on its way.
    pub(super) spare: RefCell<Block>,
}

impl Shared {
    /// Whether `peer` may speak uwsgi. Unix peers always may: the socket's permissions have let them in.
    fn welcomes(&self, peer: &Address) -> bool {
        match peer {
            Address::Tcp(address) => self.fronts.allows_socket(address),
            Address::Unix(_) => true,
        }
    }

    /// The file that answers a request in the app's place.
    #[inline]
    pub(super) fn file(&self, parts: &mut request::Parts) -> Option<FileOpening> {
        let around = self.around.as_ref()?;
        if around.has_files() {
            self.file_around(around, parts)
        } else {
            None
        }
    }

    fn file_around(&self, around: &Around, parts: &mut request::Parts) -> Option<FileOpening> {
        let turn = self.late.join();
        if turn == Turn::First {
            around.end_turn();
        }
        around.file(parts, turn != Turn::Alone)
    }

    /// The turn of the worker is over: answers that wait for it are sent.
    fn poll_end_turn(&self, cx: &Context<'_>) -> Poll<()> {
        if let Some(around) = &self.around {
            around.end_turn();
        }
        self.late.poll_send(cx)
    }

    /// One request more was answered.
    pub(crate) fn count(&self) {
        if let Some(row) = &self.row {
            row.count_request();
        }
        let answered = self.answered.get() + 1;
        self.answered.set(answered);
        if answered == self.enough {
            self.recycle.notify_one();
        }
    }
}

/// The settings that matter here.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) rules: Rules,
    pub(crate) timeouts: Timeouts,
    pub(crate) forwarded: Forwarded,
    pub(crate) fronts: AllowList,
    pub(crate) access_log_format: String,
    pub(crate) max_requests: u64,
    pub(crate) max_requests_jitter: u64,
    pub(crate) readiness_path: Option<String>,
    pub(crate) http2: Http2,
    pub(crate) around: Option<Box<Around>>,
    pub(crate) sendfile: bool,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            rules: Rules::new(
                config.limit_request_line,
                config.limit_request_fields,
                config.limit_request_field_size,
                config.limit_request_body,
                config
                    .secure_scheme_headers
                    .iter()
                    .map(|(name, _)| name.as_str()),
            ),
            timeouts: Timeouts {
                keepalive: config.keepalive,
                header: config.header_timeout,
                body: config.body_timeout,
                write: config.write_timeout,
                handshake: config.tls_handshake_timeout,
                min_rate: config.min_rate,
            },
            forwarded: Forwarded::new(
                config.forwarded_allow_ips.clone(),
                &config.secure_scheme_headers,
                &config.forwarder_headers,
                config.header_map,
            ),
            fronts: config.uwsgi_allow_ips.clone(),
            access_log_format: config.access_log_format.clone(),
            max_requests: config.max_requests,
            max_requests_jitter: config.max_requests_jitter,
            readiness_path: config.readiness_path.clone(),
            http2: Http2::from(config),
            around: Around::of(config),
            sendfile: config.sendfile,
        }
    }
}

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Http,
    /// From a front end, in packets.
    Uwsgi,
}

/// Serves an app over HTTP/1 on the connections of a worker.
#[derive(Debug)]
pub(crate) struct HttpService<A> {
    pub(crate) app: A,
    shared: Rc<Shared>,
    builder: http1::Builder,
}

impl<A: App> HttpService<A> {
    /// A service for `app`; counts its answers in `row`, and logs them to `access`.
    pub(crate) fn new<K: Sink + 'static>(
        app: A,
        config: &Config,
        access: Option<Rc<K>>,
        row: Row,
    ) -> Rc<Self> {
        let access = access.map(|sink| -> Rc<dyn Sink> { sink });
        Self::with(app, Settings::from(config), access, Some(row))
    }

    /// The same from the settings that matter.
    pub(crate) fn with(
        app: A,
        settings: Settings,
        access: Option<Rc<dyn Sink>>,
        row: Option<Row>,
    ) -> Rc<Self> {
        let mut builder = http1::Builder::new();
        // No timer: the sweep keeps the deadlines. No pipeline_flush: it holds answers back while the next request is
        // incomplete, and lets a response body grow without end in memory. One flat buffer: cheaper than writev.
        builder.half_close(true).writev(false);
        let keeps = !settings.timeouts.keepalive.is_zero();
        builder.keep_alive(keeps);
        // The guard refuses first, always.
        let largest = settings
            .rules
            .largest_head()
            .saturating_add(1)
            .max(SMALLEST_BUFFER);
        builder.max_buf_size(largest);
        if settings.rules.most_fields() > FREE_FIELDS {
            builder.max_headers(settings.rules.most_fields());
        }
        let enough = match (settings.max_requests, settings.max_requests_jitter) {
            (0, _) => 0,
            (requests, 0) => requests,
            // A hasher's random keys are randomness enough.
            (requests, jitter) => requests
                .saturating_add(RandomState::new().hash_one(0) % jitter.saturating_add(1)),
        };
        let format = settings.access_log_format;
        let shared = Shared {
            access: access.map(|sink| AccessLog::new(Format::compile(&format), sink)),
            connections: Connections::new(&settings.timeouts),
            readiness_path: settings.readiness_path.map(String::into_boxed_str),
            http2: settings.http2,
            keeps_alive: keeps,
            around: settings.around,
            sendfile: settings.sendfile,
            rules: settings.rules,
            forwarded: settings.forwarded,
            fronts: settings.fronts,
            row,
            answered: Cell::new(0),
            enough,
            recycle: Notify::new(),
            late: Late::default(),
            spare: RefCell::default(),
        };
        Rc::new(Self {
            app,
            shared: Rc::new(shared),
            builder,
        })
    }

    /// What it shares with whatever else is spoken in this worker.
    pub(crate) const fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }

    /// All connections being served.
    pub(crate) fn connections(&self) -> &Rc<Connections> {
        &self.shared.connections
    }

    /// Resolves when as many requests were answered as a worker of this configuration may (`max_requests`, and
    /// `max_requests_jitter`).
    ///
    /// *Cancel safety*: call it again; it resolves once.
    pub(crate) fn recycle(&self) -> impl Future<Output = ()> + 'static {
        let shared = Rc::clone(&self.shared);
        async move { shared.recycle.notified().await }
    }

    /// Sends the answers of each turn at its end; a task of the worker's, which never ends. Without it each answer is
    /// sent at once, and requests share nothing.
    pub(crate) fn send_late(&self) -> impl Future<Output = ()> + 'static {
        let shared = Rc::clone(&self.shared);
        poll_fn(move |cx| shared.poll_end_turn(cx))
    }

    /// Serves one connection to its end. Never panics, whatever the app does.
    ///
    /// *Cancel safety*: dropping the future cuts the connection and abandons its request.
    pub(crate) fn serve(
        self: &Rc<Self>,
        stream: Stream,
        ends: Ends,
    ) -> impl Future<Output = ()> + 'static {
        self.connect(stream, ends, Manner::Http, false)
    }

    /// The same for a front end that speaks uwsgi.
    ///
    /// *Cancel safety*: as [`serve`](Self::serve).
    pub(crate) fn serve_uwsgi(
        self: &Rc<Self>,
        stream: Stream,
        ends: Ends,
    ) -> impl Future<Output = ()> + 'static {
        self.connect(stream, ends, Manner::Uwsgi, false)
    }

    /// Answers one request on a connection that there is no room for with 503, without the app.
    ///
    /// *Cancel safety*: as [`serve`](Self::serve).
    pub(crate) fn refuse(
        self: &Rc<Self>,
        stream: Stream,
        ends: Ends,
    ) -> impl Future<Output = ()> + 'static {
        self.connect(stream, ends, Manner::Http, true)
    }

    /// The same for a front end that speaks uwsgi.
    ///
    /// *Cancel safety*: as [`serve`](Self::serve).
    pub(crate) fn refuse_uwsgi(
        self: &Rc<Self>,
        stream: Stream,
        ends: Ends,
    ) -> impl Future<Output = ()> + 'static {
        self.connect(stream, ends, Manner::Uwsgi, true)
    }

    fn connect(
        self: &Rc<Self>,
        stream: Stream,
        mut ends: Ends,
        manner: Manner,
        refused: bool,
    ) -> impl Future<Output = ()> + 'static {
        ends.drain = self.shared.connections.signal();
        let ends = Arc::new(ends);
        let trusted = self.shared.forwarded.trusts(ends.neighbour());
        let front = match manner {
            Manner::Http => None,
            Manner::Uwsgi => Some(Front::new(
                self.shared.welcomes(ends.neighbour()),
                self.shared.keeps_alive,
            )),
        };
        let entry = self.shared.connections.enter(ends, refused);
        let shared = Rc::clone(&self.shared);
        let wire = Rc::new(Wire::new(shared, entry, stream, trusted, front));
        let http = Rc::clone(self);
        async move {
            if wire.scheme == Scheme::Https {
                if wire.chose_http2() {
                    return serve_http2(http, wire, Start::Known(Vec::new())).await;
                }
            } else if trusted && http.shared.http2.prior_knowledge && wire.front.is_none() {
                match opening(&wire).await {
                    Opening::Http1 => {}
                    Opening::Http2(first) => {
                        return serve_http2(http, wire, Start::Known(first)).await;
                    }
                    Opening::Wrong => return close(&wire).await,
                }
            }
            http.serve_http1(wire).await;
        }
    }

    async fn serve_http1(self: Rc<Self>, wire: Rc<Wire>) {
        let service = Service::new(Rc::clone(&self), Rc::clone(&wire));
        let connection = self
            .builder
            .serve_connection(Io::new(Rc::clone(&wire)), service)
            .with_upgrades();
        // Apart from the task, which goes on without it when the connection leaves HTTP.
        let mut connection = Box::pin(connection);
        let end = poll_fn(|cx| turn(connection.as_mut(), &wire, cx)).await;
        drop(connection);
        match end {
            End::Cut => {
                // Answers to earlier requests, as far as they can be sent at once.
                poll_fn(|cx| Poll::Ready(wire.poll_flush(cx).is_ready())).await;
                wire.reset_on_close();
            }
            End::Finished => close(&wire).await,
            End::Upgraded => {
                if let Some((seed, first)) = wire.take_seed() {
                    serve_http2(self, wire, Start::Upgraded(seed, first)).await;
                } else if wire.upgraded().await {
                    linger(&wire).await;
                }
            }
        }
    }
}

/// What a connection begins with.
enum Opening {
    Http1,
    /// These are its first bytes.
    Http2(Vec<u8>),
    /// Not HTTP/2, where nothing else is expected.
    Wrong,
}

/// Reads as much as it takes to tell HTTP/2's preface from anything else.
async fn opening(wire: &Wire) -> Opening {
    let watch = wire.watch();
    let mut first = Vec::new();
    let is_http2 = poll_fn(|cx| {
        watch.park(cx);
        loop {
            // A verdict, or the end, is for the code that reads HTTP/1.
            if !http2::PREFACE.starts_with(&first) || watch.verdict().is_some() {
                return Poll::Ready(false);
            }
            let room = http2::PREFACE.len() - first.len();
            if room == 0 {
                return Poll::Ready(true);
            }
            let before = first.len();
            let read = wire.poll_receive(cx, room, |bytes| first.extend_from_slice(bytes));
            match read {
                Poll::Pending => {
                    if before > 0 {
                        watch.enter(Phase::Head);
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) if first.len() > before => {}
                Poll::Ready(Ok(()) | Err(_)) => return Poll::Ready(false),
            }
        }
    })
    .await;
    if is_http2 {
        return Opening::Http2(first);
    }
    let mut inlet = wire.inlet.borrow_mut();
    if !wire.shared.http2.upgrade && !first.is_empty() {
        // Gunicorn's way with a proxy that speaks HTTP/1 by mistake.
        let refusal = Refusal::new(StatusCode::BAD_REQUEST, "not the preface of HTTP/2");
        inlet.refuse(refusal);
        return Opening::Wrong;
    }
    inlet.hold(&first);
    Opening::Http1
}

/// Serves HTTP/2, apart from the task of a connection that speaks HTTP/1.
fn serve_http2<A: App>(
    http: Rc<HttpService<A>>,
    wire: Rc<Wire>,
    start: Start,
) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        match http2::serve(http, Rc::clone(&wire), start).await {
            http2::End::Cut => wire.reset_on_close(),
            http2::End::Done => close(&wire).await,
            http2::End::Refused => {
                close(&wire).await;
                if !wire.watch().is_shed() {
                    linger(&wire).await;
                }
            }
        }
    })
}

/// How the library's part of a connection ended.
enum End {
    /// In order, or by a refusal that is still to be answered.
    Finished,
    /// The app has the stream.
    Upgraded,
    /// Not to be spoken on any more.
    Cut,
}

/// One turn of the connection: the library does what it can, then the answers it has gathered are sent.
fn turn<C>(connection: Pin<&mut C>, wire: &Rc<Wire>, cx: &mut Context<'_>) -> Poll<End>
where
    C: Future<Output = hyper::Result<()>>,
{
    let watch = wire.watch();
    watch.park(cx);
    wire.begin_turn();
    match watch.verdict() {
        Some(Verdict::SlowReader) => {
            tracing::debug!(
                "Client {} does not read its response",
                Peer(&watch.ends().peer)
            );
            return Poll::Ready(End::Cut);
        }
        Some(Verdict::Abort) => return Poll::Ready(End::Cut),
        Some(Verdict::Close | Verdict::SlowHead | Verdict::SlowBody) | None => (),
    }
    match catch_unwind(AssertUnwindSafe(|| connection.poll(cx))) {
        Ok(Poll::Pending) => {
            wire.poll_rest(cx);
            if wire.poll_departure(cx) {
                return Poll::Ready(End::Cut);
            }
            match wire.poll_flush_late(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(End::Cut),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            }
        }
        Ok(Poll::Ready(Ok(()))) if wire.open_upgrade() => Poll::Ready(End::Upgraded),
        Ok(Poll::Ready(Ok(()))) => Poll::Ready(End::Finished),
        Ok(Poll::Ready(Err(error))) if error.is_user() => Poll::Ready(End::Cut),
        Ok(Poll::Ready(Err(error))) => {
            tracing::debug!(
                "Connection from {} ended: {}",
                Peer(&watch.ends().peer),
                crate::error::chain(&error)
            );
            Poll::Ready(End::Finished)
        }
        Err(_) => {
            tracing::error!("Panic while serving request {}", watch.request());
            Poll::Ready(End::Cut)
        }
    }
}

/// What is left to say after the library's part: gathered answers, the answer to a refused request. Then the connection
/// is closed, and if the client may be sending still, only after it has had the time to read.
async fn close(wire: &Wire) {
    let watch = wire.watch();
    let page = wire.refusal().map(|refusal| {
        tracing::warn!(
            "Invalid request from ip={}: {}",
            Peer(&watch.ends().peer),
            refusal.reason
        );
        page::raw(refusal.status, refusal.reason)
    });
    if !say(wire, page.as_deref().unwrap_or_default()).await {
        return wire.reset_on_close();
    }
    if wire.must_linger() && !watch.is_shed() {
        linger(wire).await;
    } else {
        poll_fn(|cx| {
            wire.say_goodbye(cx);
            Poll::Ready(())
        })
        .await;
    }
}

/// Sends the gathered answers and `page`; false if the client does not take them.
pub(super) async fn say(wire: &Wire, page: &[u8]) -> bool {
    let watch = wire.watch();
    let mut sent = 0;
    let all = poll_fn(|cx| {
        watch.park(cx);
        if let Some(Verdict::SlowReader | Verdict::Abort) = watch.verdict() {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        ready!(wire.poll_flush(cx))?;
        ready!(wire.poll_send(cx, page, &mut sent))?;
        wire.poll_flush(cx)
    })
    .await;
    all.is_ok()
}

/// Closes our half and gives the client the time to read what was said, whatever it is still sending.
pub(super) async fn linger(wire: &Wire) {
    let watch = wire.watch();
    let mut discarded = 0;
    watch.linger();
    let closed = poll_fn(|cx| {
        watch.park(cx);
        if watch.verdict().is_some() {
            return Poll::Ready(false);
        }
        wire.poll_shutdown(cx).map(|result| result.is_ok())
    })
    .await;
    if !closed {
        return;
    }
    poll_fn(|cx| {
        watch.park(cx);
        while watch.verdict().is_none() && discarded < LINGER {
            match ready!(wire.poll_discard(cx)) {
                Ok(0) | Err(_) => break,
                Ok(bytes) => discarded += bytes,
            }
        }
        Poll::Ready(())
    })
    .await;
}

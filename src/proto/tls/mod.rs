//! TLS on one connection: from the first byte to the handshake's end.
//!
//! A connection has an entry in the table while it shakes hands, so the sweep keeps its deadline, and gets another one for
//! what is spoken within. How many shake hands at once is bounded: the others wait for their turn, and who is
//! silent in the midst of it makes room for them.

mod secure;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ::http::StatusCode;
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, HandshakeKind, ServerConnection};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::connections::{Connections, Entry, Peer, Phase, Watch};
use super::http::{self, HttpService, Shared};
use super::io::Wire;
use super::page;
use super::stream::Stream;
use crate::app::{App, ClientIdentity, Ends, Tls};
use crate::config::SUITES;
use crate::tls::{Described, Server};
use secure::Raw;
pub(crate) use secure::Secure;

/// Failed handshakes are told at most this often to who does not debug.
const TOLD: Duration = Duration::from_secs(10);
/// The first byte of a handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
/// What a client is told that speaks plain HTTP where TLS is awaited.
const PLAIN: &str = "The plain HTTP request was sent to an HTTPS port";

/// TLS at one listener of a worker. Its certificates can be replaced; connections keep theirs.
#[derive(Debug)]
pub(crate) struct Port {
    server: RefCell<Server>,
    handshakes: Rc<Handshakes>,
    ragged: bool,
}

impl Port {
    /// TLS by `server`. An end of a connection without TLS's own is none with `ragged` off.
    pub(crate) fn new(server: Server, handshakes: Rc<Handshakes>, ragged: bool) -> Rc<Self> {
        Rc::new(Self {
            server: RefCell::new(server),
            handshakes,
            ragged,
        })
    }

    /// New handshakes are `server`'s.
    pub(crate) fn replace(&self, server: Server) {
        *self.server.borrow_mut() = server;
    }
}

/// The handshakes of a worker.
#[derive(Debug)]
pub(crate) struct Handshakes {
    room: Semaphore,
    failures: Failures,
}

impl Handshakes {
    /// At most `most` at once.
    pub(crate) fn new(most: usize) -> Rc<Self> {
        Rc::new(Self {
            room: Semaphore::new(most),
            failures: Failures::default(),
        })
    }
}

/// Failed handshakes, as the log is told of them: each where it debugs, else one of many.
#[derive(Debug, Default)]
struct Failures {
    told: Cell<Option<Instant>>,
    untold: Cell<u64>,
}

impl Failures {
    fn tell(&self, peer: &Peer<'_>, reason: &str) {
        let now = Instant::now();
        let told = self.told.get();
        if told.is_some_and(|told| now.saturating_duration_since(told) < TOLD) {
            self.untold.set(self.untold.get() + 1);
            tracing::debug!("TLS handshake with {peer} failed: {reason}");
            return;
        }
        self.told.set(Some(now));
        match self.untold.replace(0) {
            0 => tracing::info!("TLS handshake with {peer} failed: {reason}"),
            untold => tracing::info!(
                "TLS handshake with {peer} failed: {reason} ({untold} more had failed before)"
            ),
        }
    }
}

/// What a handshake led to.
enum Outcome {
    Done(Box<Secure>, Tls),
    /// It is over; the client may still be reading.
    Failed(Stream, String),
    /// The client speaks HTTP, without TLS.
    Plain(Stream),
    /// Nothing more can be said.
    Cut(String),
    /// It said nothing at all: a load balancer that looked whether anybody listens.
    Silent,
}

impl<A: App> HttpService<A> {
    /// Shakes hands on a connection by TLS: the stream within, with what is known of it. `None` if there is none; who is to
    /// know has been told.
    ///
    /// *Cancel safety*: dropping the future cuts the connection.
    pub(crate) async fn secure(
        &self,
        stream: Stream,
        mut ends: Ends,
        port: Rc<Port>,
        refused: bool,
    ) -> Option<(Stream, Ends)> {
        let stream = shake_hands(stream, &mut ends, &port, self.shared(), refused).await?;
        Some((stream, ends))
    }
}

async fn shake_hands(
    stream: Stream,
    ends: &mut Ends,
    port: &Port,
    shared: &Rc<Shared>,
    refused: bool,
) -> Option<Stream> {
    let connections = &shared.connections;
    let entry = connections.enter(Arc::new(ends.clone()), refused);
    entry.watch().enter(Phase::Greeting);
    let outcome = attempt(stream, port, connections, entry.watch()).await;
    let peer = Peer(&ends.peer);
    match outcome {
        Outcome::Done(secure, tls) => {
            ends.tls = Some(Arc::new(tls));
            Some(Stream::Tls(secure))
        }
        Outcome::Failed(stream, reason) => {
            port.handshakes.failures.tell(&peer, &reason);
            // The alert must reach the client, which may still be sending.
            http::linger(&wire(shared, entry, stream)).await;
            None
        }
        Outcome::Plain(stream) => {
            tracing::warn!("Invalid request from ip={peer}: {PLAIN}");
            let wire = wire(shared, entry, stream);
            let page = page::raw(StatusCode::BAD_REQUEST, PLAIN);
            http::say(&wire, &page).await;
            http::linger(&wire).await;
            None
        }
        Outcome::Cut(reason) => {
            port.handshakes.failures.tell(&peer, &reason);
            None
        }
        Outcome::Silent => None,
    }
}

fn wire(shared: &Rc<Shared>, entry: Entry, stream: Stream) -> Wire {
    Wire::new(Rc::clone(shared), entry, stream, false, None)
}

async fn attempt(
    stream: Stream,
    port: &Port,
    connections: &Rc<Connections>,
    watch: &Watch,
) -> Outcome {
    let late = || Outcome::Cut("it took too long".to_owned());
    let mut raw = Raw::new(stream);
    let first = poll_fn(|cx| {
        watch.park(cx);
        if watch.verdict().is_some() {
            return Poll::Ready(None);
        }
        let first = raw.poll_first(cx);
        first.map(|first| Some(first.map(|bytes| bytes.first().copied())))
    })
    .await;
    match first {
        // Browsers open connections that they do not use.
        None => return Outcome::Silent,
        Some(Err(error)) => return Outcome::Cut(error.to_string()),
        Some(Ok(None)) => return Outcome::Silent,
        Some(Ok(Some(HANDSHAKE))) => {}
        Some(Ok(Some(b'A'..=b'Z'))) => return Outcome::Plain(raw.into_stream()),
        Some(Ok(Some(_))) => {
            return Outcome::Failed(raw.into_stream(), "it does not speak TLS".to_owned());
        }
    }
    // Who waits for room has sent something, so nobody waits behind the silent.
    let room = {
        let _queued = connections.queue_for_handshake();
        let mut room = std::pin::pin!(port.handshakes.room.acquire());
        poll_fn(|cx| {
            watch.park(cx);
            if watch.verdict().is_some() {
                return Poll::Ready(None);
            }
            room.as_mut().poll(cx).map(Result::ok)
        })
        .await
    };
    let Some(_room) = room else { return late() };
    watch.enter(Phase::Handshake);
    let server = port.server.borrow().clone();
    let mut accept = TlsAcceptor::from(server.config())
        .accept(raw)
        .into_fallible();
    let accepted = poll_fn(|cx| {
        watch.park(cx);
        if watch.verdict().is_some() {
            return Poll::Ready(None);
        }
        Pin::new(&mut accept).poll(cx).map(Some)
    })
    .await;
    match accepted {
        None => late(),
        Some(Ok(stream)) => {
            let tls = facts(stream.get_ref().1, &server);
            Outcome::Done(Box::new(Secure::new(stream, port.ragged)), tls)
        }
        Some(Err((error, raw))) => {
            let reason = reason(&error);
            if error.kind() == io::ErrorKind::InvalidData {
                Outcome::Failed(raw.into_stream(), reason)
            } else {
                Outcome::Cut(reason)
            }
        }
    }
}

/// Why a handshake failed, in words.
fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "the client left in the midst of it".to_owned();
    }
    error.to_string()
}

/// What apps are told.
fn facts(session: &ServerConnection, server: &Server) -> Tls {
    let server_name = session.server_name().map(Box::from);
    let suite = session
        .negotiated_cipher_suite()
        .map_or(CipherSuite::TLS_NULL_WITH_NULL_NULL, |suite| suite.suite());
    let shown = server.shown(server_name.as_deref());
    Tls {
        version: session.protocol_version().map_or(0, u16::from),
        cipher_suite: u16::from(suite),
        cipher: cipher(suite),
        protocol: session.alpn_protocol().map(Box::from),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        certificate: shown.map_or_else(|| Arc::from([]), |shown| Arc::from(&**shown)),
        client: session.peer_certificates().and_then(identity),
        server_name,
    }
}

/// As OpenSSL names it: suites of TLS 1.3 have IANA's names there, too.
fn cipher(suite: CipherSuite) -> &'static str {
    let number = u16::from(suite);
    let old = SUITES.iter().find(|suite| suite.number == number);
    match (old, suite) {
        (Some(old), _) => old.openssl,
        (None, CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
        (None, CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
        (None, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
        (None, _) => "unknown",
    }
}

fn identity(chain: &[CertificateDer<'_>]) -> Option<ClientIdentity> {
    let told = Described::of(chain.first()?);
    let (subject, issuer, serial) = told.map_or_else(Default::default, |told| {
        (told.subject, told.issuer, told.serial)
    });
    Some(ClientIdentity {
        chain: chain.iter().map(|der| Box::from(&**der)).collect(),
        subject,
        issuer,
        serial,
    })
}

//! One connection's socket as the HTTP library sees it: the guard stands in its reads, answers to pipelined requests are
//! gathered in its writes.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::ReadBuf;

use super::attached::Attached;
use super::connections::{Entry, Phase, Verdict, Watch};
use super::guard::{Facts, Place, Refusal};
use super::http::Shared;
use super::inlet::Inlet;
use super::stream::Stream;
use super::upgrade::Upgrade;
use super::uwsgi::Front;
use crate::app::{BodyError, Client, Fate, FileRange, Scheme};
use crate::resident::Resident;

/// Bytes read from a socket at a time, at most.
pub(super) const SCRATCH: usize = 64 * 1024;
/// Answers to pipelined requests are sent when they are so many bytes.
const GATHER: usize = 16 * 1024;
/// So much of a body that the app has left is read.
const MOST_REST: usize = 64 * 1024;
/// A response body waits while so many of its bytes are not sent yet.
const BACKLOG: usize = 64 * 1024;

thread_local! {
    /// Reads complete at once, so one buffer serves all connections of a worker.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// All that belongs to one connection, shared by the task, the library's side of the socket, and the request.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) shared: Rc<Shared>,
    entry: Entry,
    stream: RefCell<Stream>,
    pub(super) inlet: RefCell<Inlet>,
    /// Answers that wait for those after them.
    pub(super) out: RefCell<Vec<u8>>,
    /// They are sent at the end of the worker's turn.
    late: Cell<bool>,
    /// They could not be: the connection's own task waits for the socket.
    blocked: Cell<bool>,
    /// The stream has taken what the socket has not.
    unsent: Cell<bool>,
    /// Bytes of a response body that have been handed to the library and not yet to the socket.
    backlog: Cell<usize>,
    /// A response body waits for the backlog to shrink.
    throttled: Cell<bool>,
    /// Counts the turns of the connection's task.
    turn: Cell<u32>,
    /// The client has closed its half.
    pub(super) ended: Cell<bool>,
    /// Where the body being received learns why it ended.
    fate: RefCell<Option<Arc<Fate>>>,
    /// The body that the app has left, and how much of that was read.
    rest: RefCell<Option<(Incoming, usize)>>,
    /// The app has left a body.
    forsaken: Cell<bool>,
    /// Who is told when the client has left during the request.
    pub(super) client: RefCell<Option<Weak<dyn Client>>>,
    /// The library could not write all that it wanted to.
    pub(super) stalled: Cell<bool>,
    /// A file waits until it has.
    pub(super) file_waits: Cell<bool>,
    pub(super) attached: Attached,
    /// The peer may be believed.
    pub(crate) trusted: bool,
    /// The connection's own.
    pub(crate) scheme: Scheme,
    pub(super) upgrade: Upgrade,
    /// There if the peer is a front end that speaks uwsgi.
    pub(super) front: Option<Box<RefCell<Front>>>,
}

impl Wire {
    pub(crate) fn new(
        shared: Rc<Shared>,
        entry: Entry,
        stream: Stream,
        trusted: bool,
        front: Option<Front>,
    ) -> Self {
        // A front end tells how its client has come, whatever it uses itself.
        let scheme = match (&entry.watch().ends().tls, &front) {
            (Some(_), None) => Scheme::Https,
            (None, _) | (Some(_), Some(_)) => Scheme::Http,
        };
        Self {
            scheme,
            shared,
            entry,
            stream: RefCell::new(stream),
            inlet: RefCell::default(),
            out: RefCell::default(),
            late: Cell::new(false),
            blocked: Cell::new(false),
            unsent: Cell::new(false),
            backlog: Cell::new(0),
            throttled: Cell::new(false),
            turn: Cell::new(0),
            ended: Cell::new(false),
            fate: RefCell::default(),
            rest: RefCell::default(),
            forsaken: Cell::new(false),
            client: RefCell::default(),
            stalled: Cell::new(false),
            file_waits: Cell::new(false),
            attached: Attached::default(),
            trusted,
            upgrade: Upgrade::default(),
            front: front.map(|front| Box::new(RefCell::new(front))),
        }
    }

    /// The TLS handshake was for HTTP/2 (RFC 9113 section 3.2).
    pub(super) fn chose_http2(&self) -> bool {
        let tls = self.watch().ends().tls.as_ref();
        tls.is_some_and(|tls| tls.protocol.as_deref() == Some(b"h2"))
    }

    pub(crate) fn watch(&self) -> &Rc<Watch> {
        self.entry.watch()
    }

    /// The connection's task has a turn.
    pub(crate) fn begin_turn(&self) {
        self.turn.set(self.turn.get().wrapping_add(1));
    }

    /// Which turn it is.
    pub(crate) fn turn(&self) -> u32 {
        self.turn.get()
    }

    /// What the guard knows of the request being served.
    pub(crate) fn facts(&self) -> Facts {
        self.inlet.borrow().facts()
    }

    /// A body is about to be received; what its end will be known by.
    pub(crate) fn expect_body(&self) -> Arc<Fate> {
        let fate = Fate::new(self.watch().waker(), self.facts().expects);
        *self.fate.borrow_mut() = Some(Arc::clone(&fate));
        self.forsaken.set(false);
        fate
    }

    /// Reads what the app has left of its request's body, up to a limit: within it the connection can go on.
    pub(crate) fn poll_rest(&self, cx: &mut Context<'_>) {
        let rest = &mut *self.rest.borrow_mut();
        if rest.is_none() {
            let left = self.fate.borrow().as_ref().and_then(|fate| fate.rest());
            let Some(left) = left else { return };
            self.forsaken.set(true);
            *rest = Some((left, 0));
        }
        while let Some((left, read)) = rest {
            match Pin::new(left).poll_frame(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(frame))) => {
                    *read += frame.data_ref().map_or(0, Bytes::len);
                    if *read > MOST_REST {
                        *rest = None;
                    }
                }
                Poll::Ready(Some(Err(_)) | None) => *rest = None,
            }
        }
        // Without a receiver the library closes its reading side, at its next turn.
        cx.waker().wake_by_ref();
    }

    /// Takes what the library writes. Answers leave together: those to requests that wait behind this one, and those of
    /// other connections, when `poll_flush_late` is called at the end of the turn.
    pub(super) fn poll_gather(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.attached.waits() {
            return self.poll_send_attached(cx, buf);
        }
        let gathered = self.out.borrow().len();
        let alone = || !self.shared.late.is_served() && self.inlet.borrow().is_empty();
        if gathered == 0 && (buf.len() >= GATHER || alone()) {
            return self.poll_socket(cx, buf);
        }
        if gathered + buf.len() > GATHER {
            ready!(self.poll_flush(cx))?;
        }
        self.out.borrow_mut().extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    /// The body of a request was refused or cut while the app still had it.
    pub(crate) fn spoilt_in_use(&self) -> bool {
        !self.forsaken.get() && self.spoilt().is_some()
    }

    /// Why the request must not be answered by the app any more: its body was refused or cut.
    pub(crate) fn spoilt(&self) -> Option<Refusal> {
        let inlet = self.inlet.borrow();
        match inlet.refusal() {
            Some((refusal, Place::Body)) => Some(refusal),
            Some((_, Place::Head)) => None,
            None if self.ended.get() && inlet.in_body() => Some(Refusal::new(
                StatusCode::BAD_REQUEST,
                "incomplete request body",
            )),
            None => None,
        }
    }

    /// A request that did not reach the app, and is for us to answer.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self.inlet.borrow().refusal() {
            Some((refusal, Place::Head)) => Some(refusal),
            Some((_, Place::Body)) | None => None,
        }
    }

    /// The client may still be sending what nobody will read.
    pub(crate) fn must_linger(&self) -> bool {
        let inlet = self.inlet.borrow();
        let holds = || {
            self.front
                .as_ref()
                .is_some_and(|front| front.borrow().held() > 0)
        };
        !self.ended.get()
            && (inlet.refusal().is_some() || inlet.in_body() || !inlet.is_empty() || holds())
    }

    /// A response body hands on so many bytes.
    pub(crate) fn hand_on(&self, bytes: usize) {
        self.backlog.set(self.backlog.get() + bytes);
    }

    /// A response body must wait; its task is woken when the client has read enough.
    pub(crate) fn throttle(&self) -> bool {
        let full = self.backlog.get() >= BACKLOG;
        if full {
            self.throttled.set(true);
        }
        full
    }

    /// The next close is to be seen as a failure.
    pub(crate) fn reset_on_close(&self) {
        self.stream.borrow().reset_on_close();
    }

    /// Cuts the connection, whoever holds it.
    pub(super) fn hang_up(&self) {
        self.reset_on_close();
        self.stream.borrow().hang_up();
    }

    /// Sends `bytes` from `*sent` on.
    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        sent: &mut usize,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = bytes.get(*sent..).filter(|rest| !rest.is_empty()) {
            *sent += ready!(self.poll_socket(cx, rest))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends the gathered answers.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.attached.waits() {
            self.detach();
        }
        let mut out = self.out.borrow_mut();
        if out.is_empty() {
            return self.poll_flush_stream(cx);
        }
        let mut sent = 0;
        let result = self.poll_send(cx, &out, &mut sent);
        if sent == out.len() && out.capacity() > GATHER {
            *out = Vec::new();
        } else {
            out.drain(..sent);
        }
        ready!(result)?;
        self.poll_flush_stream(cx)
    }

    /// Sends what the stream has taken and the socket has not.
    #[inline]
    fn poll_flush_stream(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.get() {
            self.poll_flush_unsent(cx)
        } else {
            Poll::Ready(Ok(()))
        }
    }

    #[cold]
    fn poll_flush_unsent(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.stream.borrow_mut();
        let flushed = stream.poll_flush(cx);
        let (taken, _) = stream.taken(0);
        if taken > 0 {
            self.watch().sent(taken);
        }
        if flushed.is_pending() {
            self.watch().await_reader();
        } else {
            self.unsent.set(false);
        }
        flushed
    }

    /// The end is near: says so, where that takes more than to close the socket.
    pub(crate) fn say_goodbye(&self, cx: &mut Context<'_>) {
        let mut stream = self.stream.borrow_mut();
        if stream.says_goodbye() {
            // As far as the socket takes it at once.
            let _ = stream.poll_shutdown(cx);
        }
    }

    /// At the end of a turn of the library: sends the gathered answers, now or with those of the other connections.
    pub(crate) fn poll_flush_late(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.attached.waits() {
            self.detach();
        }
        let unsent = self.unsent.get();
        if (self.out.borrow().is_empty() && !unsent) || self.late.get() {
            return Poll::Ready(Ok(()));
        }
        if unsent || self.blocked.get() || !self.shared.late.is_served() {
            return self.poll_flush(cx).map_ok(|()| self.blocked.set(false));
        }
        self.late.set(true);
        self.shared.late.add(Rc::clone(self));
        Poll::Ready(Ok(()))
    }

    /// Sends what [`poll_flush_late`](Self::poll_flush_late) has put off. What the socket does not take, or an error, is
    /// for the connection's own task.
    pub(crate) fn send_late(&self) {
        self.late.set(false);
        self.send_now();
    }

    /// Sends what is gathered, outside of the connection's own task, which has to see to what is left.
    pub(super) fn send_now(&self) {
        let mut cx = Context::from_waker(Waker::noop());
        let throttled = self.throttled.get();
        let sent = self.poll_flush(&mut cx);
        if !matches!(sent, Poll::Ready(Ok(()))) {
            self.blocked.set(true);
            self.watch().wake();
        } else if throttled && !self.throttled.get() {
            // The body may go on.
            self.watch().wake();
        }
    }

    /// Tells the client that no more will come.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.borrow_mut().poll_shutdown(cx)
    }

    /// Reads and forgets; how many bytes, zero at the end.
    pub(crate) fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut read = 0;
        ready!(self.poll_receive(cx, SCRATCH, |bytes| read = bytes.len()))?;
        Poll::Ready(Ok(read))
    }

    /// Reads at most `room` bytes past the guard; none at the end.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<()>> {
        BUFFER.with_borrow_mut(|buffer| {
            let room = room.min(SCRATCH);
            let mut buffer = ReadBuf::new(buffer.get_mut(..room).unwrap_or_default());
            ready!(self.stream.borrow_mut().poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                self.ended.set(true);
            }
            take(buffer.filled());
            Poll::Ready(Ok(()))
        })
    }

    /// Reads what comes, past the guard.
    pub(super) fn poll_read_plain(
        &self,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        ready!(self.stream.borrow_mut().poll_read(cx, to))?;
        if to.filled().len() == before {
            self.ended.set(true);
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_socket(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut stream = self.stream.borrow_mut();
        let polled = stream.poll_write(cx, bytes);
        let taken = match polled {
            Poll::Ready(Ok(written)) => stream.taken(written),
            Poll::Pending => (stream.taken(0).0, false),
            Poll::Ready(Err(_)) => (0, false),
        };
        drop(stream);
        match self.note_sent(cx, polled, taken) {
            Poll::Ready(Ok(0)) if !bytes.is_empty() => {
                Poll::Ready(Err(io::ErrorKind::WriteZero.into()))
            }
            polled @ (Poll::Ready(_) | Poll::Pending) => polled,
        }
    }

    /// Whether the kernel can send files on this connection.
    pub(super) fn takes_files(&self) -> bool {
        self.shared.sendfile && self.stream.borrow().takes_files()
    }

    /// Has the kernel send at most `count` bytes of a file; zero where that has none.
    pub(super) fn poll_socket_file(
        &self,
        cx: &mut Context<'_>,
        range: &FileRange,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        let polled = self.stream.borrow().poll_file(cx, range, count);
        let taken = match polled {
            Poll::Ready(Ok(sent)) => sent,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        self.note_sent(cx, polled, (taken, false))
    }

    /// What was written, or that nothing more can be now; so much of it the client's end took, and there is more for it.
    fn note_sent(
        &self,
        cx: &Context<'_>,
        polled: Poll<io::Result<usize>>,
        (taken, unsent): (usize, bool),
    ) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Ok(sent)) => {
                self.watch().sent(taken);
                if unsent {
                    self.unsent.set(true);
                    self.watch().await_reader();
                }
                self.backlog.set(self.backlog.get().saturating_sub(sent));
                if self.throttled.get() && self.backlog.get() < BACKLOG {
                    self.throttled.set(false);
                    cx.waker().wake_by_ref();
                }
                Poll::Ready(Ok(sent))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if taken > 0 {
                    self.watch().sent(taken);
                }
                self.watch().await_reader();
                Poll::Pending
            }
        }
    }

    /// A request begins.
    #[inline]
    pub(super) fn begin(&self, head: &[u8], repeated: bool) {
        self.fate.borrow_mut().take();
        self.client.borrow_mut().take();
        self.watch().begin(head, repeated);
    }

    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        to: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let rules = &self.shared.rules;
        let watch = self.watch();
        let inlet = &mut *self.inlet.borrow_mut();
        let begin = |head: &[u8], repeated| self.begin(head, repeated);
        loop {
            let clear = inlet.take(rules, begin);
            let taken = clear.len().min(to.remaining());
            if let Some(clear) = clear.get(..taken).filter(|clear| !clear.is_empty()) {
                to.put_slice(clear);
                inlet.consume(taken);
                return Poll::Ready(Ok(()));
            }
            if inlet.refusal().is_some() || self.ended.get() {
                self.seal(inlet);
                return Poll::Ready(Ok(()));
            }
            let body = inlet.in_body();
            let room = if inlet.is_empty() {
                to.remaining().min(SCRATCH)
            } else {
                SCRATCH
            };
            let read = BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer.get_mut(..room).unwrap_or_default());
                ready!(self.stream.borrow_mut().poll_read(cx, &mut buffer))?;
                let bytes = buffer.filled();
                let pass = inlet.offer(rules, bytes, begin);
                to.put_slice(bytes.get(..pass).unwrap_or_default());
                Poll::Ready(Ok::<_, io::Error>((bytes.len(), pass)))
            });
            match read {
                Poll::Ready(Ok((0, _))) => self.ended.set(true),
                Poll::Ready(Ok((read, pass))) => {
                    if body {
                        watch.received(read);
                    }
                    if pass > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Err(error)) => {
                    self.ended.set(true);
                    self.seal(inlet);
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => ready!(self.wait(inlet, false)),
            }
        }
    }

    /// Nothing to read; `begun` if part of a head is held elsewhere. `Ready` if it is not worth waiting for more: look again
    /// at the inlet and at `ended`.
    pub(super) fn wait(&self, inlet: &mut Inlet, begun: bool) -> Poll<()> {
        let watch = self.watch();
        let verdict = watch.verdict();
        if inlet.is_idle() && !begun {
            if verdict.is_some() {
                if verdict == Some(Verdict::Close) && self.stream.borrow().has_bytes() {
                    watch.pardon();
                    return Poll::Pending;
                }
                self.ended.set(true);
                return Poll::Ready(());
            }
            if watch.phase() != Phase::Fresh {
                watch.enter(Phase::Idle);
            }
        } else if inlet.in_body() {
            if verdict == Some(Verdict::SlowBody) {
                inlet.refuse(Refusal::new(StatusCode::REQUEST_TIMEOUT, "body timed out"));
                return Poll::Ready(());
            }
            watch.await_body();
        } else {
            if verdict == Some(Verdict::SlowHead) {
                inlet.refuse(Refusal::new(StatusCode::REQUEST_TIMEOUT, "head timed out"));
                return Poll::Ready(());
            }
            watch.enter(Phase::Head);
        }
        Poll::Pending
    }

    /// The library is about to see the end: tells the body why.
    pub(super) fn seal(&self, inlet: &Inlet) {
        let Some(fate) = self.fate.borrow_mut().take() else {
            return;
        };
        let error = match inlet.refusal() {
            Some((refusal, Place::Body)) => match refusal.status {
                StatusCode::PAYLOAD_TOO_LARGE => BodyError::TooLarge,
                StatusCode::REQUEST_TIMEOUT => BodyError::TimedOut,
                _ => BodyError::Broken(refusal.reason),
            },
            Some((_, Place::Head)) | None => BodyError::Cut,
        };
        fate.seal(error);
    }
}

/// The library's side of a connection; the app's, once the connection has left HTTP. `Send` for the library's sake, which
/// hands it to apps that may be so: it is of use on the worker's thread alone.
#[derive(Debug)]
pub(crate) struct Io(Resident<Rc<Wire>>);

impl Io {
    pub(crate) fn new(wire: Rc<Wire>) -> Self {
        Self(Resident::new(wire))
    }

    #[inline]
    fn wire(&self) -> io::Result<&Rc<Wire>> {
        self.0.get().ok_or_else(abroad)
    }
}

#[cold]
fn abroad() -> io::Error {
    io::Error::other("a connection can be used on its worker's thread alone")
}

impl Drop for Io {
    fn drop(&mut self) {
        if let Ok(wire) = self.wire() {
            wire.release();
        }
    }
}

impl Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.wire()?;
        if wire.attached.waits() {
            // What the library has to say to the next request comes after the file.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !wire.upgrade.is_http() {
            wire.poll_read_upgraded(cx, &mut buf)
        } else if let Some(front) = &wire.front {
            wire.poll_read_uwsgi(front, cx, &mut buf)
        } else {
            wire.poll_read(cx, &mut buf)
        }
    }
}

impl Write for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wire = self.wire()?;
        if !wire.upgrade.is_http() {
            if !wire.upgrade.is_promised() {
                return wire.poll_write_upgraded(cx, buf);
            }
            wire.out.borrow_mut().extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        let written = wire.poll_gather(cx, buf);
        let all = matches!(written, Poll::Ready(Ok(length)) if length == buf.len());
        wire.stalled.set(!all);
        if all && wire.file_waits.take() {
            cx.waker().wake_by_ref();
        }
        written
    }

    /// The connection's task flushes after each turn of the library; an app does it itself.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.wire()?;
        if wire.upgrade.is_http() {
            return Poll::Ready(Ok(()));
        }
        wire.poll_flush(cx)
    }

    /// The connection's task decides how to close, as long as it speaks HTTP.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire()?.poll_shutdown_upgraded(cx)
    }
}

//! Connections of a service with a protocol of its own. They count, drain, are swept and logged as those of HTTP are; what
//! is said on them is the service's.
//!
//! The only deadline is that of a peer that does not read: a service may wait for the next message as long as it likes.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
#[cfg(feature = "python")]
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use tokio::io::ReadBuf;

use super::access::Record;
use super::connections::{Entry, Peer, Verdict};
use super::http::Shared;
use super::stream::Stream as Socket;
use crate::app::Ends;
use crate::app::tcp::{Context, Raw, Stream, StreamApp};

/// Serves connections of one service.
pub(crate) struct TcpService {
    shared: Rc<Shared>,
    app: Rc<dyn StreamApp>,
    name: Rc<str>,
    /// What stands for the request line in the log.
    line: String,
}

impl TcpService {
    pub(crate) fn new(shared: Rc<Shared>, name: &str, app: Rc<dyn StreamApp>) -> Self {
        Self {
            shared,
            app,
            name: name.into(),
            line: format!("TCP /{name}"),
        }
    }

    /// Serves one connection to its end. Never panics, whatever the service does.
    ///
    /// *Cancel safety*: dropping the future cuts the connection.
    pub(crate) fn serve(
        &self,
        socket: Socket,
        mut ends: Ends,
    ) -> impl Future<Output = ()> + 'static {
        let shared = Rc::clone(&self.shared);
        ends.drain = shared.connections.signal();
        let ends = Arc::new(ends);
        let entry = shared.connections.enter(Arc::clone(&ends), false);
        entry.watch().begin(self.line.as_bytes(), false);
        let access = shared.access.as_ref();
        let held = Rc::new(Held {
            socket: RefCell::new(Some(socket)),
            record: RefCell::new(access.map(|log| log.begin_service(&self.name, &ends))),
            entry,
            unsent: Cell::new(false),
            left: Cell::new(false),
            let_go: Cell::new(false),
        });
        let context = Context {
            ends,
            service: Rc::clone(&self.name),
        };
        let (app, name) = (Rc::clone(&self.app), Rc::clone(&self.name));
        async move {
            let stream = Stream::new(held.clone());
            // The service's own code may begin before its first wait.
            let served = catch_unwind(AssertUnwindSafe(|| app.serve(stream, context)));
            let Ok(served) = served else {
                tracing::error!("Panic in the service {name}");
                held.cut();
                return shared.count();
            };
            let mut served = Some(served);
            let orderly = poll_fn(|cx| {
                let watch = held.entry.watch();
                watch.park(cx);
                if let Some(verdict) = watch.verdict() {
                    if verdict == Verdict::SlowReader {
                        let peer = Peer(&watch.ends().peer);
                        tracing::debug!("Client {peer} of the service {name} does not read");
                    }
                    return Poll::Ready(false);
                }
                if let Some(service) = &mut served {
                    match catch_unwind(AssertUnwindSafe(|| service.as_mut().poll(cx))) {
                        Ok(Poll::Pending) => return Poll::Pending,
                        Ok(Poll::Ready(Ok(()))) => {}
                        Ok(Poll::Ready(Err(error))) => {
                            held.tell(&*error, &name);
                        }
                        Err(_) => {
                            tracing::error!("Panic in the service {name}");
                            return Poll::Ready(false);
                        }
                    }
                    served = None;
                }
                // A task of the service's may have the stream still.
                if held.let_go.get() {
                    ready!(held.poll_end(cx));
                    return Poll::Ready(true);
                }
                held.poll_rest(cx);
                Poll::Pending
            })
            .await;
            if !orderly {
                held.cut();
            }
            drop(served);
            shared.count();
        }
    }
}

impl std::fmt::Debug for TcpService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpService")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A connection that its service has.
#[derive(Debug)]
struct Held {
    /// `None` once nobody may use it any more, or it was given away.
    socket: RefCell<Option<Socket>>,
    entry: Entry,
    record: RefCell<Option<Box<Record>>>,
    /// TLS has taken what the socket has not.
    unsent: Cell<bool>,
    /// The client will send no more, or the socket has failed.
    left: Cell<bool>,
    let_go: Cell<bool>,
}

impl Held {
    /// Ends it in a way that its client cannot take for an orderly one.
    fn cut(&self) {
        if let Some(socket) = self.socket.take() {
            socket.reset_on_close();
        }
        drop(self.record.take());
    }

    /// Sends what the service takes for sent.
    fn poll_rest(&self, cx: &mut TaskContext<'_>) {
        if self.unsent.get() {
            // The service learns of an error at its next write.
            let _ = self.poll_flush(cx);
        }
    }

    /// Ends it in an orderly way, after its service: by TLS that has to be said.
    fn poll_end(&self, cx: &mut TaskContext<'_>) -> Poll<()> {
        if let Some(socket) = &mut *self.socket.borrow_mut()
            && socket.says_goodbye()
        {
            let said = socket.poll_shutdown(cx);
            self.note(socket, 0);
            if said.is_pending() {
                self.entry.watch().await_reader();
                return Poll::Pending;
            }
        }
        drop((self.socket.take(), self.record.take()));
        Poll::Ready(())
    }

    /// So much was written: what of it the socket has counts for the peer's pace.
    fn note(&self, socket: &mut Socket, written: usize) {
        let (taken, unsent) = socket.taken(written);
        self.unsent.set(unsent);
        if taken > 0 {
            self.entry.watch().sent(taken);
        }
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&mut Socket) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let acted = match &mut *self.socket.borrow_mut() {
            Some(socket) => act(socket),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        };
        if let Poll::Ready(Err(_)) = acted {
            self.left.set(true);
        }
        acted
    }

    /// That a client has left is no error of its service's, which may not be able to go on without it.
    fn tell(&self, error: &(dyn Error + 'static), name: &str) {
        let text = crate::error::chain(error);
        let peer = Peer(&self.entry.watch().ends().peer);
        if self.left.get() && is_broken(error) {
            tracing::debug!("Client {peer} has left the service {name}: {text}");
        } else {
            tracing::error!("Error in the service {name} (ip={peer}): {text}");
        }
    }
}

/// Whether an error says no more than that a connection has ended, maybe within a message.
fn is_broken(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe
                    | io::ErrorKind::NotConnected
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::UnexpectedEof
            )
        {
            return true;
        }
        next = error.source();
    }
    false
}

impl Raw for Held {
    fn poll_read(
        &self,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        ready!(self.with(|socket| socket.poll_read(cx, buf)))?;
        if room > 0 && buf.filled().len() == before {
            self.left.set(true);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&self, cx: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|socket| {
            let written = match socket.poll_write(cx, bytes) {
                Poll::Pending => {
                    self.entry.watch().await_reader();
                    return Poll::Pending;
                }
                Poll::Ready(written) => written?,
            };
            self.note(socket, written);
            if self.unsent.get() {
                self.entry.watch().await_reader();
                // The connection's own task sends the rest, whether the service flushes or not.
                self.entry.watch().wake();
            }
            if let Some(record) = &mut *self.record.borrow_mut() {
                record.sent(written);
            }
            Poll::Ready(Ok(written))
        })
    }

    fn poll_flush(&self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| {
            let flushed = socket.poll_flush(cx);
            self.note(socket, 0);
            if flushed.is_pending() {
                self.entry.watch().await_reader();
            }
            flushed
        })
    }

    fn poll_shutdown(&self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| {
            ready!(socket.poll_shutdown(cx))?;
            Poll::Ready(Ok(()))
        })
    }

    fn let_go(&self) {
        self.let_go.set(true);
        let is_said = self
            .socket
            .borrow()
            .as_ref()
            .is_some_and(Socket::says_goodbye);
        if !is_said {
            drop((self.socket.take(), self.record.take()));
        }
        self.entry.watch().wake();
    }

    #[cfg(feature = "python")]
    fn detach(&self) -> io::Result<OwnedFd> {
        let socket = self.socket.take();
        socket.ok_or(io::ErrorKind::NotConnected)?.into_fd()
    }

    #[cfg(feature = "python")]
    fn count(&self, sent: u64) {
        if let Some(record) = &mut *self.record.borrow_mut() {
            record.sent(usize::try_from(sent).unwrap_or(usize::MAX));
        }
    }
}

//! A connection that has left HTTP: the app answered `101 Switching Protocols` (RFC 9110 section 7.8) and has the stream
//! now. It keeps its place among the worker's connections, is swept by no deadline of HTTP, and its line is written to
//! the access log at its end.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use http::{HeaderValue, Uri, request};
use hyper::rt::ReadBufCursor;

use super::access::Record;
use super::http2::Seed;
use super::io::Wire;

/// Gives each part of a head memory of its own. They lie in the library's buffer for reading, of 8 KiB at the least: whoever keeps
/// one field for as long as the connection lasts, as the access log and apps do, keeps that as well.
pub(super) fn own(parts: &mut request::Parts) {
    if let Ok(uri) = Uri::try_from(parts.uri.to_string()) {
        parts.uri = uri;
    }
    for value in parts.headers.values_mut() {
        if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
            *value = copy;
        }
    }
}

/// How far a connection has left HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Not at all.
    #[default]
    Http,
    /// The answer that switches protocols is on its way through the library.
    Promised,
    /// The app has the stream.
    Open,
    /// Nobody has it any more.
    Over,
}

/// What a wire knows of its upgrade.
#[derive(Debug, Default)]
pub(super) struct Upgrade {
    stage: Cell<Stage>,
    /// Of the request that asked for it.
    record: RefCell<Option<Box<Record>>>,
    /// It becomes HTTP/2. Apart, as few do.
    seed: RefCell<Option<Box<Seed>>>,
}

impl Upgrade {
    /// The connection speaks HTTP.
    #[inline]
    pub(super) fn is_http(&self) -> bool {
        self.stage.get() == Stage::Http
    }

    /// The answer is about to be sent.
    pub(super) fn promise(&self, record: Option<Box<Record>>) {
        self.stage.set(Stage::Promised);
        *self.record.borrow_mut() = record;
    }

    /// The connection is about to become HTTP/2.
    pub(super) fn sow(&self, seed: Seed) {
        *self.seed.borrow_mut() = Some(Box::new(seed));
    }

    /// What the library writes now is the answer's head, which it must not keep when it hands the stream over.
    pub(super) fn is_promised(&self) -> bool {
        self.stage.get() == Stage::Promised
    }

    /// Whoever still holds the stream has no use of it.
    pub(super) fn end(&self) {
        self.stage.set(Stage::Over);
        drop(self.record.take());
    }
}

impl Wire {
    /// The library is done; whether it handed the stream to the app.
    pub(super) fn open_upgrade(&self) -> bool {
        match self.upgrade.stage.get() {
            Stage::Http => {
                // A request that asked for another protocol and got a plain answer: its app may wait for the stream
                // for ever, and finds it closed.
                self.upgrade.end();
                return false;
            }
            Stage::Promised => self.upgrade.stage.set(Stage::Open),
            Stage::Open | Stage::Over => (),
        }
        let mut inlet = self.inlet.borrow_mut();
        if let Some(front) = &self.front {
            inlet.hold(&front.borrow_mut().release());
        }
        inlet.leave_http();
        drop(inlet);
        self.watch().enter_upgraded();
        true
    }

    /// What the connection becomes, if that is HTTP/2, and the bytes that came behind the request.
    pub(super) fn take_seed(&self) -> Option<(Seed, Vec<u8>)> {
        let seed = self.upgrade.seed.borrow_mut().take()?;
        let mut inlet = self.inlet.borrow_mut();
        let first = inlet.rest().to_vec();
        inlet.consume(first.len());
        Some((*seed, first))
    }

    /// The app has let go of the stream.
    pub(super) fn release(&self) {
        if !self.upgrade.is_http() {
            self.upgrade.end();
            self.watch().wake();
        }
    }

    /// Waits until the app has let go of the stream; false if the connection was cut before.
    pub(super) async fn upgraded(&self) -> bool {
        let watch = self.watch();
        let mut head_sent = false;
        let orderly = poll_fn(|cx| {
            watch.park(cx);
            if watch.verdict().is_some() {
                return Poll::Ready(false);
            }
            if !head_sent {
                if ready!(self.poll_flush(cx)).is_err() {
                    return Poll::Ready(false);
                }
                head_sent = true;
                drop(self.out.take());
            }
            if self.upgrade.stage.get() == Stage::Over {
                return Poll::Ready(true);
            }
            Poll::Pending
        })
        .await;
        if !orderly {
            self.upgrade.end();
            self.hang_up();
        }
        orderly
    }

    /// Reads for the app: first what came along with the request.
    pub(super) fn poll_read_upgraded(
        &self,
        cx: &mut Context<'_>,
        to: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.upgrade.stage.get() {
            Stage::Open => (),
            // The library asks for nothing after such an answer.
            Stage::Http | Stage::Promised => return Poll::Pending,
            Stage::Over => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
        if to.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let inlet = &mut *self.inlet.borrow_mut();
        let held = inlet.rest();
        if let Some(held) = held.get(..held.len().min(to.remaining()))
            && !held.is_empty()
        {
            to.put_slice(held);
            let taken = held.len();
            inlet.consume(taken);
            return Poll::Ready(Ok(()));
        }
        self.poll_receive(cx, to.remaining(), |bytes| to.put_slice(bytes))
    }

    /// Writes for the app, behind the answer's head.
    pub(super) fn poll_write_upgraded(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.upgrade.stage.get() {
            Stage::Open => (),
            Stage::Http | Stage::Promised => return Poll::Pending,
            Stage::Over => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
        ready!(self.poll_flush(cx))?;
        let sent = ready!(self.poll_socket(cx, bytes))?;
        if let Some(record) = &mut *self.upgrade.record.borrow_mut() {
            record.sent(sent);
        }
        Poll::Ready(Ok(sent))
    }

    /// The app says that it will write no more.
    pub(super) fn poll_shutdown_upgraded(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.upgrade.stage.get() != Stage::Open {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_flush(cx))?;
        self.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_head_with_memory_of_its_own_is_the_same_head_elsewhere() {
        for target in ["/", "/caf%C3%A9?a=b", "http://other:81/x", "*"] {
            let buffer = Bytes::from(format!("{target}session=1; caf\u{e9}"));
            let cookie = buffer.slice(target.len()..);
            let (mut parts, ()) = http::Request::new(()).into_parts();
            parts.uri = Uri::from_maybe_shared(buffer.slice(..target.len())).unwrap();
            let cookie = HeaderValue::from_maybe_shared(cookie).unwrap();
            parts.headers.append("cookie", cookie.clone());
            parts.headers.append("cookie", HeaderValue::from_static(""));
            parts
                .headers
                .append("x-last", HeaderValue::from_static("last"));
            let before = parts.clone();
            own(&mut parts);
            assert_eq!(parts.uri, before.uri);
            assert_eq!(parts.headers, before.headers);
            drop((before, cookie));
            // Nobody else has it any more.
            assert!(buffer.is_unique(), "{target}");
        }
    }
}

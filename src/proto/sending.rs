//! Files that the kernel sends: from its memory to the socket, without a copy through ours (`sendfile(2)`).
//!
//! The HTTP library writes the head; when all of it has been taken, the file goes straight to the socket, and the library is
//! then told of so many bytes that it need not write ([`Piece::Sent`]). What is not in memory is fetched by a thread first, for a
//! disk must not hold up the worker.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::task::JoinHandle;

use super::io::Wire;
use crate::app::{FileRange, became_shorter};
use crate::files::read_cached;

/// A range that is no longer is copied: it leaves with its head in one piece.
pub(super) const COPIED: u64 = 64 * 1024;
/// So much is looked for in memory, and sent, at a time.
const STRETCH: u64 = 256 * 1024;
/// The other connections have a turn when so much was sent.
const TURN: u64 = 1024 * 1024;

/// A piece of a response's body, as the HTTP library has it.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Bytes for it to write.
    Bytes(Bytes),
    /// So many bytes are on their way already. It counts them and finds nothing to write: the one place where a
    /// [`Buf`] has bytes remaining and none to show.
    Sent(usize),
}

impl Piece {
    /// The bytes that are still to be written.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Sent(_) => Bytes::new(),
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Sent(bytes) => *bytes,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Sent(_) => &[],
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::Sent(bytes) => *bytes = bytes.saturating_sub(count),
        }
    }
}

/// Why a file is not sent to its end.
#[derive(Debug)]
pub(super) enum Failed {
    /// The file system does not do it, and nothing was sent.
    Unable,
    /// The file is at fault.
    File(io::Error),
    /// The connection is.
    Socket(io::Error),
}

/// A file on its way.
#[derive(Debug)]
pub(super) struct Sending {
    range: FileRange,
    /// The library has had the chance to write the head.
    announced: bool,
    /// Up to here it was in memory when it was looked for.
    warm: u64,
    fetching: Option<JoinHandle<io::Result<Bytes>>>,
    sent: u64,
}

impl Sending {
    pub(super) fn new(range: FileRange) -> Self {
        Self {
            warm: range.next(),
            range,
            announced: false,
            fetching: None,
            sent: 0,
        }
    }

    /// How many bytes are with the kernel.
    pub(super) fn sent(&self) -> usize {
        usize::try_from(self.sent).unwrap_or(usize::MAX)
    }

    /// Sees to it that the next stretch is in memory.
    fn poll_warm(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.range.next() < self.warm {
            return Poll::Ready(Ok(()));
        }
        let stretch = self.range.left().min(STRETCH);
        let length = usize::try_from(stretch).unwrap_or(usize::MAX);
        if self.fetching.is_none() {
            let last = self.range.next() + stretch.saturating_sub(1);
            let mut byte = [0];
            let mut is_cold = |place| match read_cached(self.range.file(), &mut byte, place) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
                Ok(0) => Err(became_shorter()),
                read => read.map(|_| false),
            };
            if is_cold(self.range.next())? || is_cold(last)? {
                self.fetching = Some(self.range.fetch(length));
            }
        }
        if let Some(fetching) = &mut self.fetching {
            let fetched = ready!(Pin::new(fetching).poll(cx));
            self.fetching = None;
            fetched.map_err(io::Error::from)??;
        }
        self.warm = self.range.next() + stretch;
        Poll::Ready(Ok(()))
    }
}

impl Wire {
    /// Sends a file, once the head before it has been taken.
    pub(super) fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        sending: &mut Sending,
    ) -> Poll<Result<(), Failed>> {
        if !std::mem::replace(&mut sending.announced, true) {
            // The library writes the head when it hears that there is no body yet.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.stalled.get() {
            self.file_waits.set(true);
            return Poll::Pending;
        }
        ready!(self.poll_flush(cx)).map_err(Failed::Socket)?;
        let mut turn = 0;
        while sending.range.left() > 0 {
            if turn >= TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            ready!(sending.poll_warm(cx)).map_err(Failed::File)?;
            let count = sending.warm - sending.range.next();
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let polled = self.poll_socket_file(cx, &sending.range, count);
            let sent = match ready!(polled) {
                Ok(0) => return Poll::Ready(Err(Failed::File(became_shorter()))),
                Ok(sent) => u64::try_from(sent).unwrap_or(u64::MAX),
                Err(error) => return Poll::Ready(Err(sending.failed(error))),
            };
            sending.range.advance(sent);
            sending.sent += sent;
            turn += sent;
        }
        Poll::Ready(Ok(()))
    }
}

impl Sending {
    fn failed(&self, error: io::Error) -> Failed {
        match error.raw_os_error() {
            Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) if self.sent == 0 => {
                Failed::Unable
            }
            Some(libc::EIO | libc::EINVAL | libc::EOVERFLOW) => Failed::File(error),
            _ => Failed::Socket(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_counts_and_has_nothing_to_write() {
        let mut piece = Piece::Sent(10);
        assert_eq!((piece.remaining(), piece.chunk().len()), (10, 0));
        piece.advance(4);
        assert_eq!(piece.remaining(), 6);
        let mut piece = Piece::Bytes(Bytes::from_static(b"abc"));
        piece.advance(1);
        assert_eq!((piece.remaining(), piece.chunk()), (2, &b"bc"[..]));
    }
}

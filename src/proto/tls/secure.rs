//! A TLS connection as a stream, and the socket beneath it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::proto::stream::Stream;

/// So much is read of a connection before it is TLS: a record's head, or as much of a plain request as its first line has.
const FIRST: usize = 256;

/// The socket beneath TLS. It begins with what was read of it before.
#[derive(Debug)]
pub(super) struct Raw {
    stream: Stream,
    first: Vec<u8>,
    taken: usize,
    /// Bytes that the socket has taken since this was asked for.
    sent: usize,
}

impl Raw {
    pub(super) const fn new(stream: Stream) -> Self {
        Self {
            stream,
            first: Vec::new(),
            taken: 0,
            sent: 0,
        }
    }

    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Waits for the first bytes; none at the end.
    pub(super) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        if self.first.is_empty() {
            let mut space = [0; FIRST];
            let mut buffer = ReadBuf::new(&mut space);
            ready!(self.stream.poll_read(cx, &mut buffer))?;
            self.first.extend_from_slice(buffer.filled());
        }
        Poll::Ready(Ok(&self.first))
    }
}

impl AsyncRead for Raw {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return self.stream.poll_read(cx, buf);
        }
        let left = self.first.get(self.taken..).unwrap_or_default();
        let taken = left.len().min(buf.remaining());
        buf.put_slice(left.get(..taken).unwrap_or_default());
        self.taken += taken;
        if self.taken == self.first.len() {
            self.first = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Raw {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(self.stream.poll_write(cx, buf))?;
        self.sent += sent;
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(self.stream.poll_write_vectored(cx, bufs))?;
        self.sent += sent;
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}

/// A TLS connection whose handshake is done.
#[derive(Debug)]
pub(crate) struct Secure {
    stream: TlsStream<Raw>,
    /// An end of the socket without TLS's own (`close_notify`) is an end, too, and no error.
    ragged: bool,
}

impl Secure {
    pub(super) const fn new(stream: TlsStream<Raw>, ragged: bool) -> Self {
        Self { stream, ragged }
    }

    pub(super) fn session(&self) -> &ServerConnection {
        self.stream.get_ref().1
    }

    /// The socket.
    pub(crate) fn below(&self) -> &Stream {
        &self.stream.get_ref().0.stream
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &read
            && error.kind() == io::ErrorKind::UnexpectedEof
        {
            if self.ragged {
                return Poll::Ready(Ok(()));
            }
            tracing::debug!("A TLS connection is broken off: {error}");
        }
        read
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Tells the client that no more will come, by TLS and by the socket.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// What was written is not all with the socket: [`poll_flush`](Self::poll_flush) goes on.
    pub(crate) fn is_unsent(&self) -> bool {
        self.session().wants_write()
    }

    /// How much the socket has taken since this was asked last.
    pub(crate) fn take_sent(&mut self) -> usize {
        std::mem::take(&mut self.stream.get_mut().0.sent)
    }
}

//! The socket of a connection, and what is between it and the protocol.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

#[cfg(feature = "tls")]
use super::tls::Secure;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// No socket at all: for tests and benches.
    Memory(DuplexStream),
    /// TLS on one of the others.
    #[cfg(feature = "tls")]
    Tls(Box<Secure>),
}

impl Stream {
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.poll_read(cx, buf),
        }
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Memory(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.poll_write(cx, buf),
        }
    }

    /// For TLS, whose records come in several pieces.
    #[cfg(feature = "tls")]
    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Sends what was written and is not with the socket yet.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Memory(_) => {
                let _ = cx;
                Poll::Ready(Ok(()))
            }
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.poll_flush(cx),
        }
    }

    /// How many bytes the socket has taken, where `written` were written, and whether there are more for it.
    #[inline]
    pub(super) fn taken(&mut self, written: usize) -> (usize, bool) {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Memory(_) => (written, false),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => (stream.take_sent(), stream.is_unsent()),
        }
    }

    /// An end has to be said, beside the socket's own.
    pub(super) const fn says_goodbye(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Memory(_) => false,
            #[cfg(feature = "tls")]
            Self::Tls(_) => true,
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.poll_shutdown(cx),
        }
    }

    /// The next close sends a reset, so that the client cannot take what it has for all there is.
    pub(super) fn reset_on_close(&self) {
        match self {
            Self::Tcp(stream) => {
                let _ = stream.set_zero_linger();
            }
            Self::Unix(_) | Self::Memory(_) => {}
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.below().reset_on_close(),
        }
    }

    /// Ends both directions; whoever waits for one is woken.
    pub(super) fn hang_up(&self) {
        let _ = match self {
            Self::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Both),
            Self::Unix(stream) => SockRef::from(stream).shutdown(Shutdown::Both),
            Self::Memory(_) => Ok(()),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => {
                stream.below().hang_up();
                Ok(())
            }
        };
    }
}

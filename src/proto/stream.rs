//! The socket of a connection, and what is between it and the protocol.

use std::io;
use std::net::Shutdown;
#[cfg(feature = "python")]
use std::os::fd::OwnedFd;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};

#[cfg(feature = "tls")]
use super::tls::Secure;
use crate::app::FileRange;
use crate::files;

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
    #[inline]
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

    #[inline]
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

    /// Waits until there is something to read, or nothing more will come. Cancel safe.
    pub(super) async fn readable(&self) -> io::Result<Ready> {
        match self {
            Self::Tcp(stream) => stream.ready(Interest::READABLE).await,
            Self::Unix(stream) => stream.ready(Interest::READABLE).await,
            Self::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
            #[cfg(feature = "tls")]
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Looks at bytes that stay where they are; tells how many there are, as far as they fit.
    ///
    /// # Errors
    /// `WouldBlock` where there are not as many as are `wanted`: the next are to be waited for.
    pub(super) fn peek(&self, bytes: &mut [u8], wanted: usize) -> io::Result<usize> {
        let mut peek = |fd: BorrowedFd<'_>| {
            let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
            let there = recv(fd.as_raw_fd(), bytes, flags)?;
            if there < wanted {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(there)
        };
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, || peek(stream.as_fd())),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || peek(stream.as_fd())),
            Self::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
            #[cfg(feature = "tls")]
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Reads `count` bytes that have been looked at.
    pub(super) fn skip(&self, mut count: usize) -> io::Result<()> {
        let fd = match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
            Self::Memory(_) => return Err(io::ErrorKind::Unsupported.into()),
            #[cfg(feature = "tls")]
            Self::Tls(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let mut bytes = [0; 256];
        while count > 0 {
            let most = count.min(bytes.len());
            let into = bytes.get_mut(..most).unwrap_or_default();
            match recv(fd, into, MsgFlags::MSG_DONTWAIT)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => count -= read,
            }
        }
        Ok(())
    }

    /// Whether the kernel can send files on it.
    pub(super) const fn takes_files(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => true,
            Self::Memory(_) => false,
            #[cfg(feature = "tls")]
            Self::Tls(_) => false,
        }
    }

    /// Has the kernel send at most `count` bytes of a file; zero where that has none.
    pub(super) fn poll_file(
        &self,
        cx: &mut Context<'_>,
        range: &FileRange,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        let mut next = range.next();
        loop {
            let sent = match self {
                Self::Tcp(stream) => {
                    ready!(stream.poll_write_ready(cx))?;
                    stream.try_io(Interest::WRITABLE, || {
                        files::send(stream.as_fd(), range.file(), &mut next, count)
                    })
                }
                Self::Unix(stream) => {
                    ready!(stream.poll_write_ready(cx))?;
                    stream.try_io(Interest::WRITABLE, || {
                        files::send(stream.as_fd(), range.file(), &mut next, count)
                    })
                }
                Self::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
                #[cfg(feature = "tls")]
                Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Whether bytes have come that were not read. The runtime knows of them only when it has waited again: a worker that was
    /// busy meanwhile asks the kernel.
    pub(super) fn has_bytes(&self) -> bool {
        let fd = match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
            Self::Memory(_) => return false,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => return stream.below().has_bytes(),
        };
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        matches!(recv(fd, &mut [0], flags), Ok(1..))
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

    /// The socket, given up by the runtime.
    #[cfg(feature = "python")]
    pub(super) fn into_fd(self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(stream) => Ok(stream.into_std()?.into()),
            Self::Unix(stream) => Ok(stream.into_std()?.into()),
            Self::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
            #[cfg(feature = "tls")]
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
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

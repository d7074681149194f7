//! Where a log's bytes go: a file, or a standard stream; without ever waiting for its reader.
//!
//! A standard stream is often a pipe, a socket or a terminal that others write to as well. `O_NONBLOCK` belongs to
//! the open file description, that is to all of them, so it is not set there: a pipe or terminal is opened a second
//! time through `/proc/self/fd`, a socket is sent to with `MSG_DONTWAIT`, and what allows neither is polled first.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Gid, Uid, fchown};

use crate::config::LogTarget;

/// What a pipe takes as one piece, if it takes it at all (pipe(7): `PIPE_BUF`).
pub(super) const PIECE: usize = 4096;

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// Descriptor 1.
    Output,
    /// Descriptor 2.
    Error,
}

#[derive(Debug)]
enum Handle {
    Stream(Stream),
    Own(OwnedFd),
}

/// How to write without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A regular file never waits for a reader.
    File,
    /// The description is ours and non-blocking.
    NonBlocking,
    /// `send` with `MSG_DONTWAIT`.
    Socket,
    /// Asked first, and then given no more than a pipe takes at once.
    Polled,
}

/// A log's open destination.
#[derive(Debug)]
pub(super) struct Out {
    handle: Handle,
    way: Way,
}

impl Out {
    /// Opens `target`, whose `-` is `standard`.
    pub(super) fn open(target: &LogTarget, standard: Stream) -> io::Result<Self> {
        match target {
            LogTarget::Standard => Self::stream(standard),
            // As a path these cannot be opened where they are sockets.
            LogTarget::File(path) if path == Path::new("/dev/stdout") => {
                Self::stream(Stream::Output)
            }
            LogTarget::File(path) if path == Path::new("/dev/stderr") => {
                Self::stream(Stream::Error)
            }
            LogTarget::File(path) => Self::path(path),
        }
    }

    fn path(path: &Path) -> io::Result<Self> {
        // Not to wait for the reader of a FIFO; a regular file does not mind.
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .custom_flags(OFlag::O_NONBLOCK.bits() | OFlag::O_NOCTTY.bits())
            .open(path)?;
        let way = if file.metadata()?.file_type().is_file() {
            Way::File
        } else {
            Way::NonBlocking
        };
        Ok(Self {
            handle: Handle::Own(file.into()),
            way,
        })
    }

    fn stream(stream: Stream) -> io::Result<Self> {
        let standard = Handle::Stream(stream);
        let mode = fstat(standard.as_fd())?.st_mode;
        let kind = SFlag::from_bits_truncate(mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFREG {
            return Ok(Self {
                handle: standard,
                way: Way::File,
            });
        }
        if kind == SFlag::S_IFSOCK {
            return Ok(Self {
                handle: standard,
                way: Way::Socket,
            });
        }
        let again = format!("/proc/self/fd/{}", standard.as_fd().as_raw_fd());
        let flags = OFlag::O_NONBLOCK.bits() | OFlag::O_NOCTTY.bits();
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(again);
        Ok(opened.map_or(
            Self {
                handle: standard,
                way: Way::Polled,
            },
            |file| Self {
                handle: Handle::Own(file.into()),
                way: Way::NonBlocking,
            },
        ))
    }

    /// Whether this is a regular file.
    pub(super) fn is_file(&self) -> bool {
        self.way == Way::File
    }

    /// Whether this is a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        self.as_fd().is_terminal()
    }

    /// One write(2), of as much as goes without waiting; `EAGAIN` where nothing does.
    pub(super) fn write(&self, bytes: &[u8]) -> nix::Result<usize> {
        loop {
            let written = match self.way {
                Way::File | Way::NonBlocking => nix::unistd::write(self, bytes),
                Way::Socket => {
                    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                    send(self.as_fd().as_raw_fd(), bytes, flags)
                }
                Way::Polled if self.ready_within(Duration::ZERO) => {
                    nix::unistd::write(self, bytes.get(..PIECE).unwrap_or(bytes))
                }
                Way::Polled => Err(Errno::EAGAIN),
            };
            if written != Err(Errno::EINTR) {
                return written;
            }
        }
    }

    /// All of `bytes`, by one write(2) where that is enough; waits at most `patience` for a reader.
    pub(super) fn write_all(&self, mut bytes: &[u8], patience: Duration) -> nix::Result<()> {
        let deadline = Instant::now() + patience;
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(0) => return Err(Errno::EIO),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(Errno::EAGAIN) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() || !self.ready_within(left) {
                        return Err(Errno::EAGAIN);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether it takes bytes within `patience`.
    pub(super) fn ready_within(&self, patience: Duration) -> bool {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLOUT)];
        // An error or hang-up counts as ready: the write then says which.
        poll(&mut fds, timeout).is_ok_and(|ready| ready > 0)
    }

    /// Gives the file to another owner; what is no regular file keeps its own.
    pub(super) fn chown(&self, user: Option<Uid>, group: Option<Gid>) -> io::Result<()> {
        if self.is_file() && matches!(self.handle, Handle::Own(_)) {
            fchown(self, user, group)?;
        }
        Ok(())
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => fd.as_fd(),
            Self::Stream(stream) => stream.as_fd(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // The locks of std's streams are not taken: only their descriptors are wanted.
        static OUTPUT: std::sync::LazyLock<io::Stdout> = std::sync::LazyLock::new(io::stdout);
        static ERROR: std::sync::LazyLock<io::Stderr> = std::sync::LazyLock::new(io::stderr);
        match self {
            Self::Output => OUTPUT.as_fd(),
            Self::Error => ERROR.as_fd(),
        }
    }
}

impl AsFd for Out {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

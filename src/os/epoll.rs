//! A listening socket in Tokio's own epoll, so that a connection wakes one worker.
//!
//! All workers wait on the same listening socket. With an ordinary registration each connection wakes all of them.
//! `EPOLLEXCLUSIVE` (`epoll_ctl(2)`) wakes one, but neither Tokio nor mio offers it; and in an inner epoll that Tokio
//! watches it has no effect, because a wake-up that goes through two epolls does not count as taken. So the entry that Tokio made
//! is replaced, in Tokio's epoll, by one with the same user data and `EPOLLEXCLUSIVE`: Tokio sees the same events.
//! The entry is level-triggered: while connections wait, each turn of the worker hears of it, and a worker accepts one
//! connection a turn without having to ask until there are no more.
#![expect(unsafe_code, reason = "epoll_ctl on a descriptor that Tokio owns")]

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// The epoll descriptor of the runtime that is being built: the one that [`Before`] did not see.
#[derive(Debug)]
pub(crate) struct Before(Vec<RawFd>);

/// A runtime's epoll descriptor, open as long as the runtime lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoll(RawFd);

impl Before {
    /// The epoll descriptors that there are before the runtime is built. No other thread may be opening any.
    pub(crate) fn look() -> Self {
        Self(epolls())
    }

    /// The one that is new; `None` where /proc is not there, or more than one is new.
    pub(crate) fn new_one(self) -> Option<Epoll> {
        let mut new = epolls().into_iter().filter(|fd| !self.0.contains(fd));
        match (new.next(), new.next()) {
            (Some(fd), None) => Some(Epoll(fd)),
            _ => None,
        }
    }
}

impl Epoll {
    /// The number, for who watches it in turn.
    #[cfg_attr(not(feature = "python"), expect(dead_code, reason = "only an interpreter's loop watches it"))]
    pub(crate) const fn number(self) -> RawFd {
        self.0
    }
}

/// A listening socket's entry in a runtime's epoll.
#[derive(Debug)]
pub(crate) struct Exclusive {
    epoll: RawFd,
    data: u64,
}

impl Exclusive {
    /// Replaces the entry that Tokio made for `socket` by an exclusive, level-triggered one.
    ///
    /// # Errors
    /// `NotFound` where /proc does not show the entry; those of `epoll_ctl(2)`.
    pub(crate) fn replace(epoll: Epoll, socket: impl AsFd) -> io::Result<Self> {
        let socket = socket.as_fd();
        let data = user_data(epoll.0, socket.as_raw_fd())
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let entry = Self { epoll: epoll.0, data };
        entry.leave(socket)?;
        entry.join(socket)?;
        Ok(entry)
    }

    /// Takes the entry out: connections no longer wake this worker.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub(crate) fn leave(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, socket)
    }

    /// Puts it back, behind the other workers' in the kernel's queue. A connection that waits already is told of.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub(crate) fn join(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket)
    }

    fn control(&self, operation: libc::c_int, socket: BorrowedFd<'_>) -> io::Result<()> {
        #[expect(clippy::cast_sign_loss, clippy::as_conversions, reason = "a set of flags")]
        let events = (libc::EPOLLIN | libc::EPOLLEXCLUSIVE) as u32;
        let mut event = libc::epoll_event { events, u64: self.data };
        // SAFETY: `event` lives through the call; a wrong descriptor is answered by an error; the user data is the one
        // that Tokio itself registered for this socket, which stays registered with Tokio for as long as `self` is used.
        let done =
            unsafe { libc::epoll_ctl(self.epoll, operation, socket.as_raw_fd(), &raw mut event) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// The open epoll descriptors of this process.
fn epolls() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            (target.as_os_str() == "anon_inode:[eventpoll]").then_some(())?;
            entry.file_name().to_str()?.parse().ok()
        })
        .collect()
}

/// The user data of `target`'s entry in `epoll`: `tfd: N events: X data: X …` of proc_pid_fdinfo(5).
fn user_data(epoll: RawFd, target: RawFd) -> Option<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{epoll}")).ok()?;
    info.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "tfd:").then_some(())?;
        (words.next()?.parse() == Ok(target)).then_some(())?;
        let mut rest = words.skip_while(|word| *word != "data:");
        rest.next()?;
        u64::from_str_radix(rest.next()?, 16).ok()
    })
}

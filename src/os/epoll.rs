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
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a listening socket with the runtime, for readiness to be read.
///
/// # Errors
/// Those of `epoll_ctl(2)`.
pub(crate) fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, and the same number, for as long as it lives, and the AsyncFd owns it.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(Into::into)
}

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

    /// The one that is new; `None` where /proc is not there, or several different ones are new. mio keeps a second
    /// descriptor of the same epoll.
    pub(crate) fn new_one(self) -> Option<Epoll> {
        let mut new = epolls().into_iter().filter(|fd| !self.0.contains(fd));
        let first = new.next()?;
        let entries = entries(first)?;
        new.all(|other| self::entries(other).as_ref() == Some(&entries))
            .then_some(Epoll(first))
    }
}

impl Epoll {
    /// The number, for who watches it in turn.
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
        let entry = Self {
            epoll: epoll.0,
            data,
        };
        entry.leave(socket)?;
        entry.join(socket)?;
        Ok(entry)
    }

    /// Enters `socket` into an epoll of somebody else's in the name of `bell`, which is watched there: its owner takes
    /// the one for the other. Tokio's own entry is taken out.
    ///
    /// # Errors
    /// `NotFound` where /proc does not show the bell's entry; those of `epoll_ctl(2)`.
    pub(crate) fn in_the_name_of(
        bell: RawFd,
        host: RawFd,
        runtime: Epoll,
        socket: impl AsFd,
    ) -> io::Result<Self> {
        let socket = socket.as_fd();
        let data =
            user_data(host, bell).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let entry = Self { epoll: host, data };
        entry.join(socket)?;
        let own = Self {
            epoll: runtime.0,
            data: 0,
        };
        own.leave(socket)?;
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
        #[expect(clippy::as_conversions, reason = "a set of flags")]
        let events = (libc::EPOLLIN | libc::EPOLLEXCLUSIVE) as u32;
        let mut event = libc::epoll_event {
            events,
            u64: self.data,
        };
        // SAFETY: `event` lives through the call; a wrong descriptor is answered by an error; the user data is one that the
        // epoll's owner registered itself, for this socket or for the bell, both of which outlive `self`.
        let done = unsafe {
            libc::epoll_ctl(self.epoll, operation, socket.as_raw_fd(), &raw mut event)
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// The open epoll descriptors of this process.
fn epolls() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            (target.as_os_str() == "anon_inode:[eventpoll]").then_some(())?;
            entry.file_name().to_str()?.parse().ok()
        })
        .collect()
}

/// An entry of an epoll: the descriptor watched, the events, the user data.
type Entry = (RawFd, u64, u64);

/// The entries of an epoll: `tfd: N events: X data: X …` of `proc_pid_fdinfo(5)`, in a fixed order.
fn entries(epoll: RawFd) -> Option<Vec<Entry>> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{epoll}")).ok()?;
    let mut entries: Vec<_> = info.lines().filter_map(entry).collect();
    entries.sort_unstable();
    Some(entries)
}

fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_ascii_whitespace();
    let mut after = |label: &str| words.find(|word| *word == label).and_then(|_| words.next());
    let target = after("tfd:")?.parse().ok()?;
    let events = u64::from_str_radix(after("events:")?, 16).ok()?;
    let data = u64::from_str_radix(after("data:")?, 16).ok()?;
    Some((target, events, data))
}

fn user_data(epoll: RawFd, target: RawFd) -> Option<u64> {
    let found = entries(epoll)?.into_iter().find(|(fd, _, _)| *fd == target);
    found.map(|(_, _, data)| data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_the_kernel_writes_it() {
        let line =
            "tfd:        9 events: 80002019 data:     55b871b70800  pos:0 ino:3dda6 sdev:9";
        assert_eq!(entry(line), Some((9, 0x8000_2019, 0x55b8_71b7_0800)));
        assert_eq!(entry("flags:\t02000002"), None);
    }

    #[test]
    fn the_entry_tokio_made_becomes_exclusive_and_still_wakes() {
        let before = Before::look();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        // Other tests may build runtimes meanwhile: then there is nothing to show here.
        let Some(epoll) = before.new_one() else {
            return;
        };
        runtime.block_on(async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let address = listener.local_addr().unwrap();
            let watched = watch(listener.into()).unwrap();
            let exclusive = Exclusive::replace(epoll, watched.get_ref()).unwrap();
            let events = |fd| {
                entries(epoll.0)
                    .unwrap()
                    .into_iter()
                    .find(|e| e.0 == fd)
                    .unwrap()
                    .1
            };
            let flag = u64::try_from(libc::EPOLLEXCLUSIVE).unwrap();
            assert_ne!(events(watched.get_ref().as_raw_fd()) & flag, 0);
            exclusive.leave(watched.get_ref().as_fd()).unwrap();
            let _client = std::net::TcpStream::connect(address).unwrap();
            exclusive.join(watched.get_ref().as_fd()).unwrap();
            let _ready = watched.readable().await.unwrap();
            assert!(crate::os::accept::accept(watched.get_ref().as_fd()).is_ok());
        });
    }
}

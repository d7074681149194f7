//! What passes between the master and one worker: orders down, reports up, one byte each on a socket pair whose end
//! of file tells either that the other is gone; with one of the orders comes a listening socket, and which of the
//! configuration's listeners it belongs to. And the context a worker is born with.

use std::fmt;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::code_files::CodeFiles;
use crate::config::{Config, Spoken};
use crate::heartbeat::Heartbeat;
use crate::hooks::{self, Hooks};
use crate::last_words::LastWords;
use crate::listener::Listener;
use crate::os::privilege::Identity;
use crate::scoreboard::Row;

/// A worker's place: 0 to N-1, kept by its successors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

/// Which configuration and code a worker runs: counted up by each reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the master tells a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The server ends, or the address: accept what waits in the kernel's queue and no more, finish it, exit 0.
    Drain,
    /// Others serve the same sockets: stop accepting, finish what is under way, exit 0.
    Retire,
    /// The server is about to end: each answer is the last of its connection, and says so; go on accepting.
    Announce,
    /// Accept from the socket that comes with this, too. Two bytes follow: the number of its listener.
    Adopt,
    /// Exit at once.
    Quit,
    /// Reopen the log files.
    Reopen,
}

impl Order {
    /// [`Adopt`](Self::Adopt) with all that goes with it, for a socket of the listener number `place`.
    pub(crate) const fn adopt(place: u16) -> [u8; 3] {
        let [high, low] = place.to_be_bytes();
        [Self::Adopt.byte(), high, low]
    }

    /// The number of the listener.
    pub(crate) const fn place(bytes: [u8; 2]) -> u16 {
        u16::from_be_bytes(bytes)
    }

    /// Its byte on the wire.
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Drain => b'D',
            Self::Retire => b'T',
            Self::Announce => b'N',
            Self::Adopt => b'A',
            Self::Quit => b'Q',
            Self::Reopen => b'R',
        }
    }

    /// The order a byte stands for.
    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'D' => Some(Self::Drain),
            b'T' => Some(Self::Retire),
            b'N' => Some(Self::Announce),
            b'A' => Some(Self::Adopt),
            b'Q' => Some(Self::Quit),
            b'R' => Some(Self::Reopen),
            _ => None,
        }
    }
}

/// What kind of Python app it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// WSGI (PEP 3333).
    Wsgi,
    /// ASGI 3.
    Asgi,
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wsgi => "WSGI",
            Self::Asgi => "ASGI",
        })
    }
}

/// What a worker tells the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The app is loaded and the listeners are being accepted from.
    Ready,
    /// No longer accepting; finishing (told by a worker that leaves of its own accord).
    Draining,
    /// It has answered as many requests as it may; it goes on until its successor is ready.
    Spent,
    /// The app turned out to be of another kind than the worker had been made for: it leaves, for its successor to be
    /// made for this one.
    Is(Interface),
    /// The list of the files that it has loaded is another one.
    Code,
    /// It accepts from the socket that it was given first of those it has not reported.
    Adopted,
    /// It cannot accept from that one.
    Refused,
}

impl Report {
    /// Its byte on the wire.
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Ready => b'r',
            Self::Draining => b'd',
            Self::Spent => b's',
            Self::Is(Interface::Wsgi) => b'w',
            Self::Is(Interface::Asgi) => b'a',
            Self::Code => b'c',
            Self::Adopted => b'o',
            Self::Refused => b'f',
        }
    }

    /// The report a byte stands for.
    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'r' => Some(Self::Ready),
            b'd' => Some(Self::Draining),
            b's' => Some(Self::Spent),
            b'w' => Some(Self::Is(Interface::Wsgi)),
            b'a' => Some(Self::Is(Interface::Asgi)),
            b'c' => Some(Self::Code),
            b'o' => Some(Self::Adopted),
            b'f' => Some(Self::Refused),
            _ => None,
        }
    }
}

/// All that a worker is born with. Plain data: the master makes it, the worker consumes it.
#[derive(Debug)]
pub struct WorkerContext {
    /// Its place.
    pub slot: Slot,
    /// Its generation.
    pub generation: Generation,
    /// The configuration of that generation.
    pub config: Rc<Config>,
    /// What kind of app an earlier worker of this generation found, where the configuration leaves it open.
    pub interface: Option<Interface>,
    /// What to accept from.
    pub(crate) listeners: Vec<Listener>,
    /// What is spoken at each of the configuration's listeners.
    pub(crate) spoken: Vec<Rc<Spoken>>,
    /// The worker's end of the socket pair.
    pub(crate) channel: OwnedFd,
    /// The file it touches.
    pub(crate) heartbeat: Heartbeat,
    /// Where it writes what it was doing when it is ended.
    pub(crate) last_words: Option<LastWords>,
    /// Where it writes which files it has loaded, if they are watched.
    pub(crate) code: Option<CodeFiles>,
    /// Its counters in shared memory.
    pub(crate) row: Row,
    /// Whom it becomes before it touches the app.
    pub(crate) identity: Identity,
    /// The master's process id, to see that it is still the parent.
    pub master: i32,
    /// Workers are counted up from 1.
    pub(crate) age: u64,
    /// Who is called at the points of its life.
    pub(crate) hooks: Rc<dyn Hooks>,
}

impl WorkerContext {
    /// The worker, as hooks see it, in its own process.
    pub(crate) fn worker(&self) -> hooks::Worker {
        hooks::Worker {
            slot: self.slot.0,
            generation: self.generation.0,
            age: self.age,
            pid: i32::try_from(std::process::id()).ok(),
            heartbeat: self.heartbeat.as_raw_fd(),
            row: self.row,
        }
    }
}

impl fmt::Display for WorkerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "worker={} gen={} pid={}",
            self.slot,
            self.generation,
            std::process::id()
        )
    }
}

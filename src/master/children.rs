//! The slot table: who is alive, in which place, of which generation, and how far in life.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::Pid;
use std::os::fd::AsRawFd;

use super::plan::{Seen, Stage};
use crate::channel::{Generation, Order, Report, Slot};
use crate::code_files::CodeFiles;
use crate::heartbeat::Heartbeat;
use crate::hooks::Worker;
use crate::last_words::LastWords;
use crate::listener::SocketId;
use crate::os::fds;
use crate::scoreboard::Row;

/// What the master did to end a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Nothing that it could not obey.
    Nothing,
    /// It is not needed any more and serves nobody: its end is no news.
    Dismissal,
    /// SIGKILL.
    Kill,
}

/// How far in life a child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Loading its app.
    Booting,
    /// It said that it accepts.
    Ready,
    /// Told to finish, or finishing of its own accord; killed at the moment given.
    Leaving(Instant),
}

/// One worker process.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: Pid,
    pub(crate) slot: Slot,
    pub(crate) generation: Generation,
    /// Counted up from 1 over all workers.
    pub(crate) age: u64,
    pub(crate) life: Life,
    pub(crate) born: Instant,
    /// Its successor is to come: it has served as long, or as much, as it may.
    pub(crate) spent: bool,
    /// When it was sent ABRT for its silence.
    pub(crate) aborted: Option<Instant>,
    /// What the master did to end it: its death needs no guess.
    pub(crate) sent: Sent,
    /// What it accepts from, once it is ready.
    pub(crate) serves: Vec<SocketId>,
    /// What it was given since, in this order.
    pub(crate) adopting: VecDeque<SocketId>,
    /// It could not take one that it was given.
    pub(crate) refuses: bool,
    heartbeat: Heartbeat,
    last_words: LastWords,
    code: Option<CodeFiles>,
    channel: Option<UnixStream>,
    row: Row,
}

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "worker={} gen={} pid={}",
            self.slot, self.generation, self.pid
        )
    }
}

impl Child {
    /// A worker that was just forked.
    #[expect(clippy::too_many_arguments, reason = "each is a part of it")]
    pub(crate) fn new(
        pid: Pid,
        slot: Slot,
        generation: Generation,
        age: u64,
        heartbeat: Heartbeat,
        last_words: LastWords,
        code: Option<CodeFiles>,
        channel: UnixStream,
        serves: Vec<SocketId>,
        row: Row,
        born: Instant,
    ) -> Self {
        Self {
            pid,
            slot,
            generation,
            age,
            life: Life::Booting,
            born,
            spent: false,
            aborted: None,
            sent: Sent::Nothing,
            serves,
            adopting: VecDeque::new(),
            refuses: false,
            heartbeat,
            last_words,
            code,
            channel: Some(channel),
            row,
        }
    }

    /// The worker, as hooks see it.
    pub(crate) fn seen(&self) -> Worker {
        Worker {
            slot: self.slot.0,
            generation: self.generation.0,
            age: self.age,
            pid: Some(self.pid.as_raw()),
            heartbeat: self.heartbeat.as_raw_fd(),
            row: self.row,
        }
    }

    /// One byte on its channel; a signal of the same meaning where the channel is full or gone.
    pub(crate) fn order(&self, order: Order) {
        let byte = [order.byte()];
        let sent = self.channel.as_ref().is_some_and(|channel| {
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            send(channel.as_raw_fd(), &byte, flags) == Ok(1)
        });
        let signal = match order {
            Order::Drain | Order::Retire => Some(Signal::SIGTERM),
            Order::Quit => Some(Signal::SIGQUIT),
            Order::Reopen => Some(Signal::SIGUSR1),
            // There is none that means it.
            Order::Announce | Order::Adopt => None,
        };
        if !sent && let Some(signal) = signal {
            self.signal(signal);
        }
    }

    /// Told to finish by `until`, in the way of `order`.
    pub(crate) fn leave(&mut self, order: Order, until: Instant) {
        if !matches!(self.life, Life::Leaving(_)) {
            self.life = Life::Leaving(until);
            self.order(order);
        }
    }

    /// Gives it a socket of its configuration's listener number `place` that it is to accept from too; false where its channel
    /// takes nothing now.
    pub(crate) fn give(&mut self, id: SocketId, place: u16, socket: BorrowedFd<'_>) -> bool {
        let words = Order::adopt(place);
        let given = self
            .channel
            .as_ref()
            .is_some_and(|channel| fds::send(channel.as_fd(), &words, socket).is_ok());
        if given {
            self.adopting.push_back(id);
        }
        given
    }

    /// Told to leave at once; killed at `until`.
    pub(crate) fn quit(&mut self, until: Instant) {
        self.life = Life::Leaving(until);
        self.order(Order::Quit);
    }

    /// kill(2); a process that is gone already is about to be reaped.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill(self.pid, signal);
    }

    /// SIGKILL, remembered.
    pub(crate) fn kill(&mut self) {
        self.sent = Sent::Kill;
        self.signal(Signal::SIGKILL);
    }

    /// No longer needed before it has served: one that is still loading its app leaves by TERM's default action. By the
    /// same signal one that has just begun to serve finishes what it has.
    pub(crate) fn dismiss(&mut self, until: Instant) {
        self.life = Life::Leaving(until);
        self.sent = Sent::Dismissal;
        self.signal(Signal::SIGTERM);
    }

    /// Whether it was sent SIGKILL.
    pub(crate) fn is_killed(&self) -> bool {
        self.sent == Sent::Kill
    }

    /// How long it has been silent; zero where that cannot be told.
    pub(crate) fn silent_for(&self) -> Duration {
        self.heartbeat.silent_for().unwrap_or_default()
    }

    /// How many requests it is at work on, if `whole` is all that it can be at work on at once.
    pub(crate) fn fullness(&self, whole: u64) -> u64 {
        self.row.fullness(whole)
    }

    /// How many connections it holds.
    pub(crate) fn connections(&self) -> u64 {
        self.row.connections()
    }

    /// What it wrote about its end.
    pub(crate) fn last_words(&self) -> String {
        self.last_words.read()
    }

    /// The files that it has loaded, as it told.
    pub(crate) fn code(&self) -> Vec<PathBuf> {
        self.code.as_ref().map_or_else(Vec::new, CodeFiles::read)
    }

    fn reports(&mut self) -> Vec<Report> {
        let Some(channel) = &mut self.channel else {
            return Vec::new();
        };
        let mut bytes = [0; 16];
        match channel.read(&mut bytes) {
            // It closed its end: it is about to die, and SIGCHLD will tell.
            Ok(0) => {
                self.channel = None;
                Vec::new()
            }
            Ok(length) => bytes[..length]
                .iter()
                .filter_map(|byte| Report::from_byte(*byte))
                .collect(),
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    self.channel = None;
                }
                Vec::new()
            }
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Children(Vec<Child>);

impl Children {
    pub(crate) fn add(&mut self, child: Child) {
        self.0.push(child);
    }

    /// Takes the child that died; its row is free again. `None`: not one of ours.
    pub(crate) fn remove(&mut self, pid: Pid) -> Option<Child> {
        let index = self.0.iter().position(|child| child.pid == pid)?;
        let child = self.0.swap_remove(index);
        child.row.release();
        Some(child)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Child> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Child> {
        self.0.iter_mut()
    }

    /// As the plan sees them.
    pub(crate) fn seen(&self) -> Vec<Seen<Pid>> {
        let each = |child: &Child| Seen {
            id: child.pid,
            slot: child.slot,
            generation: child.generation,
            stage: match child.life {
                Life::Booting => Stage::Booting,
                Life::Ready => Stage::Ready,
                Life::Leaving(_) => Stage::Leaving,
            },
            spent: child.spent,
        };
        self.0.iter().map(each).collect()
    }

    /// How many of `generation` are ready.
    pub(crate) fn ready(&self, generation: Generation) -> usize {
        let ready =
            |child: &&Child| child.generation == generation && child.life == Life::Ready;
        self.0.iter().filter(ready).count()
    }

    /// The channels to be polled.
    pub(crate) fn channels(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0
            .iter()
            .filter_map(|child| child.channel.as_ref())
            .map(AsFd::as_fd)
    }

    /// What has been reported since the last time, and by whom.
    pub(crate) fn reports(&mut self) -> Vec<(Pid, Report)> {
        let each = |child: &mut Child| {
            let pid = child.pid;
            child.reports().into_iter().map(move |report| (pid, report))
        };
        self.0.iter_mut().flat_map(each).collect()
    }

    /// Takes note of a report; the child, where it is still known.
    pub(crate) fn note(
        &mut self,
        pid: Pid,
        report: Report,
        leave_by: Instant,
    ) -> Option<&Child> {
        let child = self.0.iter_mut().find(|child| child.pid == pid)?;
        child.life = match (report, child.life) {
            (Report::Ready, Life::Booting) => Life::Ready,
            (Report::Draining, Life::Booting | Life::Ready) => Life::Leaving(leave_by),
            // Its successor is started at once.
            (Report::Is(_), Life::Booting) => Life::Leaving(leave_by),
            (
                Report::Ready
                | Report::Draining
                | Report::Spent
                | Report::Is(_)
                | Report::Code
                | Report::Adopted
                | Report::Refused,
                life,
            ) => life,
        };
        match report {
            Report::Adopted => child.serves.extend(child.adopting.pop_front()),
            Report::Refused => {
                child.adopting.pop_front();
                child.refuses = true;
            }
            Report::Spent => child.spent = true,
            Report::Ready | Report::Draining | Report::Is(_) | Report::Code => {}
        }
        Some(child)
    }

    /// In a new worker: closes the channels and heartbeat files of its siblings.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}
